"""A run's folder as a report needs it, finished or still growing."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlhf_dialog.errors import UserError


@dataclass(frozen=True)
class RunFiles:
    """What a finished run left: report.json, the rows of metrics.jsonl and of samples.jsonl."""

    folder: Path
    report: dict[str, Any]
    history: list[dict[str, Any]]
    samples: list[dict[str, Any]]


def read_run(folder: str | Path) -> RunFiles:
    """A finished run; those of earlier versions lack parts of the report, which stay empty.

    Raises:
        UserError: no finished run, or a file that is damaged.
    """
    folder = Path(folder)
    path = folder / "report.json"
    if not path.is_file():
        raise UserError(
            f"{folder}: holds no report.json, so it is no finished run; for one that still trains "
            f"use recipes/evaluate_dialog.py --run {folder}."
        )
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        metrics = report["metrics"]
        complete = all({"before", "after", "difference"} <= set(e) for e in metrics.values())
    except (ValueError, TypeError, KeyError, AttributeError, OSError) as error:
        raise UserError(f"{path}: is no report ({_why(error)}); evaluate the run again.") from error
    if not complete:
        raise UserError(
            f'{path}: field "metrics": an entry lacks before, after or difference; evaluate the '
            "run again."
        )
    if "held_out" not in report and (told := judge_held_out(folder / "judge")):
        report["held_out"] = {"judge": told}
    history = read_rows(folder / "metrics.jsonl")
    return RunFiles(folder, report, history, read_rows(folder / "samples.jsonl"))


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSON-lines file, none where it is missing. A last line without an end is still
    being written, and left out.

    Raises:
        UserError: a line that is no JSON object; names file and line.
    """
    if not path.is_file():
        return []
    rows = []
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")[:-1]
    for place, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
        except ValueError as error:
            raise UserError(f"{path}, line {place}: {_why(error)}; remove the line.") from error
        if not isinstance(row, dict):
            raise UserError(f"{path}, line {place}: holds no JSON object; remove the line.")
        rows.append(row)
    return rows


def judge_held_out(judge: str | Path) -> dict[str, float]:
    """What the folder of a judge tells of its held-out pairs; empty where it tells nothing."""
    path = Path(judge) / "judge.json"
    try:
        return json.loads(path.read_text(encoding="utf-8"))["held_out"]
    except (OSError, ValueError, KeyError, TypeError):  # a judge from elsewhere
        return {}


def newest_generator(run: Path) -> Path:
    """The tuned generator of a run: its last one, or else the best of those evaluated so far.

    Raises:
        UserError: none is saved yet.
    """
    final = run / "generator"
    if (final / "config.json").is_file():
        return final
    best = run / "best"
    if not (best / "config.json").is_file():
        raise UserError(
            f"--run {run}: no generator is saved yet; start the run with save_strategy: best and "
            "an eval_strategy, or wait for its end."
        )
    return best


def newest_discriminator(run: Path) -> Path:
    """The discriminator as the last refresh left it, or as it was before the first."""
    final = run / "discriminator"
    return final if final.is_dir() else run / "discriminator_before"


def _why(error: Exception) -> str:
    return " ".join(str(error).split())
