"""A run's folder: created once, never written over, readable while the run goes on."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml
from transformers import PrinterCallback, ProgressCallback, Trainer, TrainerCallback

from rlhf_dialog.console import console, is_main_process
from rlhf_dialog.errors import UserError

PACKAGES = ("rlhf_dialog", "trl", "transformers", "torch", "accelerate", "datasets", "deepspeed")


def new_run(folder: str | Path) -> Path:
    """The folder of a run that begins now.

    Raises:
        UserError: it holds something already, or cannot be created.
    """
    path = Path(folder)
    if not is_main_process():
        return path
    try:
        if path.is_dir() and any(path.iterdir()):
            raise UserError(
                f"--output_dir {path}: already holds a run or other files; give a new folder, or "
                "remove this one first."
            )
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"--output_dir {path}: cannot be created ({error.strerror}); give another folder."
        ) from error
    return path


def versions() -> dict[str, str]:
    """Installed versions of the packages a result depends on."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def changed_values(*settings: Any) -> dict[str, Any]:
    """All values of our settings, and those of the trainer's that differ from their default."""
    values: dict[str, Any] = {}
    for group in settings:
        inherited = {f.name for base in type(group).__mro__[1:] for f in _fields(base)}
        for f in dataclasses.fields(group):
            value = getattr(group, f.name)
            if isinstance(value, (str, int, float, bool, type(None))) and (
                f.name not in inherited or value != f.default
            ):
                values[f.name] = value
    return values


def _fields(kind: type) -> Sequence[dataclasses.Field]:
    return dataclasses.fields(kind) if dataclasses.is_dataclass(kind) else ()


def write_config(folder: Path, config: dict[str, Any]) -> None:
    """config.yaml: every value used, and the versions of the stack."""
    if is_main_process():
        text = yaml.safe_dump(
            {**config, "versions": versions()}, sort_keys=False, allow_unicode=True
        )
        (folder / "config.yaml").write_text(text, encoding="utf-8")


def write_jsonl(path: Path, rows: Iterable[dict]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


class UpdateLog(TrainerCallback):
    """Writes metrics.jsonl as the run goes, and a line per update that a person can read."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "metrics.jsonl"
        self.history: list[dict[str, Any]] = []

    def attach(self, trainer: Trainer) -> None:
        """Takes the place of the trainer's own printing."""
        trainer.remove_callback(PrinterCallback)
        trainer.remove_callback(ProgressCallback)
        trainer.add_callback(self)

    def on_log(self, args, state, control, logs=None, **kwargs):
        if not state.is_world_process_zero or not logs or "objective/scores" not in logs:
            return
        row = {"update": state.global_step} | {k: v for k, v in logs.items() if k != "epoch"}
        self.history.append(row)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        if len(self.history) == 1:
            console.print(
                "[bold] update  reward  judge  KL nats  words  distinct-2  fresh fakes found[/bold]"
            )
        console.print(self._line(row, state.max_steps))

    def _line(self, row: dict[str, Any], updates: int) -> str:
        line = (
            f"{row['update']:>3}/{updates:<3}  {row['objective/scores']:+6.2f}"
            f"  {row['judge/score']:+5.2f}  {row['objective/kl']:7.2f}"
            f"  {row['text/reply_words']:5.1f}  {row['text/distinct_2']:10.2f}"
        )
        if "discriminator/accuracy_fresh" in row:
            line += f"  {row['discriminator/accuracy_fresh']:.0%} by the discriminator"
            line += ", refreshed" if "discriminator/loss" in row else ", left alone"
        return line
