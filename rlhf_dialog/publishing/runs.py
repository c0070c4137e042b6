"""A finished run's folder, as publishing reads it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from rlhf_dialog.errors import UserError
from rlhf_dialog.generators.warm_start import MARKER
from rlhf_dialog.hub_ids import is_hub_id


@dataclass
class FinishedRun:
    """What a recipe left behind.

    Attributes:
        report: report.json of a run with PPO, or None: a warm start's has other figures.
        held_out: figures of the discriminator and the judge, by part, where they were written.
    """

    folder: Path
    config: dict[str, Any]
    report: dict[str, Any] | None
    held_out: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def character(self) -> str:
        return str(self.config.get("character", "character"))

    @property
    def base_model(self) -> str | None:
        """Hub id that the generator began as, through local warm starts; None of a fresh one, or
        where a folder does not tell."""
        return _origin(self.config.get("generator"))

    @property
    def began_fresh(self) -> bool:
        source = self.config.get("generator")
        while source and Path(source).exists() and (config := _config_beside(Path(source))):
            source = config.get("generator")
        return source is None

    @property
    def dataset(self) -> str | None:
        """Hub id of the dialogues; None where they were a file."""
        source = self.config.get("dialogues")
        return source if is_hub_id(source) else None


def _origin(source: str | None) -> str | None:
    if is_hub_id(source):
        return source
    config = _config_beside(Path(source)) if source else None
    return _origin(config.get("generator")) if config else None


def _config_beside(model: Path) -> dict[str, Any] | None:
    """The configuration of the run that the folder of a model lies in."""
    path = model.resolve().parent / "config.yaml"
    return _mapping(path) if path.is_file() else None


def read_run(folder: str | None) -> FinishedRun:
    """The run in `folder`.

    Raises:
        UserError: no folder, no run, or one that has not finished.
    """
    if folder is None:
        raise UserError("--run: is needed; give the folder of a finished run.")
    path = Path(folder)
    if not path.is_dir():
        raise UserError(f"--run {path}: there is no such folder; give that of a finished run.")
    if not (path / "config.yaml").is_file():
        raise UserError(f"--run {path}: holds no config.yaml; give the --output_dir of a recipe.")
    config = _mapping(path / "config.yaml")
    report = _json(path / "report.json")
    if report is not None and "metrics" not in report:  # a warm start's own figures
        report = None
    _refuse_half_finished(path, config, report)
    held_out = dict((report or {}).get("held_out", {}))
    if (judge := _json(path / "judge" / "judge.json")) is not None:
        held_out["judge"] = judge.get("held_out", {})
    if (figures := _json(path / "held_out.json")) is not None:
        held_out["discriminator"] = figures
    return FinishedRun(path, config, report, held_out)


def _refuse_half_finished(path: Path, config: dict, report: dict | None) -> None:
    note = _json(path / "generator" / MARKER) or {}
    alone = note.get("stage") == "warm start" or (path / "held_out.json").is_file()
    if config and (report is not None or alone):
        return
    raise UserError(
        f"--run {path}: holds no report.json, so the run has not finished; let the recipe come to "
        "its end first."
    )


def _json(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: is no JSON ({error}); the run was cut off or changed.") from error


def _mapping(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: is no YAML ({reason}); the run was cut off or changed.") from None
    return values if isinstance(values, dict) else {}
