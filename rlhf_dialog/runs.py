"""A run's folder: created once, never written over, readable while the run goes on."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from transformers import PrinterCallback, ProgressCallback, Trainer, TrainerCallback

from rlhf_dialog.console import console, is_main_process
from rlhf_dialog.devices import require_shared, together
from rlhf_dialog.errors import UserError
from rlhf_dialog.trackers import keep_names

# Filled in by the trainer from other fields, or read by nobody: of no use in a configuration.
DERIVED = {
    "batch_size",
    "local_batch_size",
    "micro_batch_size",
    "mini_batch_size",
    "local_mini_batch_size",
    "num_total_batches",
    "total_episodes",
    "world_size",
    "sft_model_path",
    "reward_model_path",
    "model_adapter_name",
    "ref_adapter_name",
    "dataset_num_proc",
    "activation_checkpointing",
    # Of one session, not of the run.
    "resume_from_checkpoint",
    "accept_changes",
}
PACKAGES = ("rlhf_dialog", "trl", "transformers", "torch", "accelerate", "datasets", "deepspeed")


def new_run(folder: str | Path) -> Path:
    """The folder of a run that begins now. All processes have to call it.

    Raises:
        UserError: it holds something already, cannot be created, or is not one that all processes
            see.
    """
    path = Path(folder)
    together(partial(_begin, path) if is_main_process() else lambda: None)
    require_shared(path)
    return path


def _begin(path: Path) -> None:
    refuse_used(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        (path / "config.yaml").touch()
    except OSError as error:
        raise UserError(
            f"--output_dir {path}: cannot be written to ({error.strerror}); give another folder."
        ) from error


def refuse_used(folder: str | Path) -> None:
    """Raises UserError where the folder holds something already; nothing is created."""
    path = Path(folder)
    if path.is_file():
        raise UserError(f"--output_dir {path}: is a file; give a new folder.")
    try:
        used = path.is_dir() and any(path.iterdir())
    except OSError as error:
        raise UserError(
            f"--output_dir {path}: cannot be read ({error.strerror}); give another folder."
        ) from error
    if used:
        raise UserError(
            f"--output_dir {path}: already holds a run or other files; give a new folder, remove "
            "this one, or go on with a run that was stopped: --resume_from_checkpoint latest."
        )


def versions() -> dict[str, str]:
    """Installed versions of the packages a result depends on."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def all_values(*settings: Any) -> dict[str, Any]:
    """Every value of the run's settings; of the hundred that Trainer arguments inherit, those that
    were changed. A recipe takes the result as its --config."""
    values: dict[str, Any] = {}
    for group in settings:
        own = {
            name
            for kind in type(group).__mro__[:2]
            for name in vars(kind).get("__annotations__", ())
        }
        for f in dataclasses.fields(group):
            value = getattr(group, f.name)
            value = getattr(value, "value", value)  # an Enum's
            plain = isinstance(value, (str, int, float, bool, list, dict, type(None)))
            if plain and f.init and (f.name in own or value != _default(f)):
                values[f.name] = value
    return {name: value for name, value in values.items() if name not in DERIVED}


def _default(f: dataclasses.Field) -> Any:
    default = f.default if f.default_factory is dataclasses.MISSING else f.default_factory()
    return getattr(default, "value", default)


def write_config(folder: Path, config: dict[str, Any]) -> None:
    """config.yaml: every value used, and the versions of the stack."""
    if is_main_process():
        values = yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
        stack = "".join(f"# {name} {version}\n" for name, version in versions().items())
        written = folder / ".config.yaml.tmp"
        written.write_text(stack + values, encoding="utf-8")
        written.replace(folder / "config.yaml")


def write_jsonl(path: Path, rows: Iterable[dict]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def cut_back(path: Path, update: int) -> None:
    """Leaves the rows of a JSON-lines file up to `update`; a line that was cut off goes too."""
    if not path.is_file():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if row["update"] <= update:
            kept.append(row)
    write_jsonl(path.with_suffix(".tmp"), kept)
    path.with_suffix(".tmp").replace(path)


class UpdateLog(TrainerCallback):
    """Writes metrics.jsonl as the run goes, and a line per update that a person can read.

    What evaluations in the course of the run measure goes to evaluations.jsonl. Both are written
    anew from the checkpoint when a run goes on, so that they are those of a run without a stop.
    """

    def __init__(self, folder: Path, config: dict[str, Any] | None = None) -> None:
        self.folder, self.config = folder, config
        self.path = folder / "metrics.jsonl"
        self.evaluations = folder / "evaluations.jsonl"
        self.history: list[dict[str, Any]] = []
        self.headed = False

    def attach(self, trainer: Trainer) -> None:
        """Takes the place of the trainer's own printing; trackers get the names of the log."""
        trainer.remove_callback(PrinterCallback)
        trainer.remove_callback(ProgressCallback)
        keep_names(trainer)
        trainer.add_callback(self)

    def on_train_begin(self, args, state, control, **kwargs):
        if not state.is_world_process_zero or not state.global_step:
            return
        if self.config is not None:  # its changes have been accepted
            write_config(self.folder, self.config)
        rows = [self._row(logs["step"], logs) for logs in state.log_history]
        self.history = [row for row in rows if "objective/scores" in row]
        write_jsonl(self.path, self.history)
        evaluations = [row for row in rows if self._is_evaluation(row)]
        if evaluations or self.evaluations.is_file():
            write_jsonl(self.evaluations, evaluations)

    def on_log(self, args, state, control, logs=None, **kwargs):
        if not state.is_world_process_zero or not logs:
            return
        row = self._row(state.global_step, logs)
        if self._is_evaluation(row):
            self._append(self.evaluations, row)
        if "objective/scores" not in logs:
            return
        self.history.append(row)
        self._append(self.path, row)
        if not self.headed:
            self.headed = True
            console.print(
                "[bold] update  reward  judge  KL nats  words  distinct-2  fresh fakes found[/bold]"
            )
        console.print(self._line(row, state.max_steps))

    @staticmethod
    def _row(update: int, logs: dict[str, Any]) -> dict[str, Any]:
        return {"update": update} | {k: v for k, v in logs.items() if k not in ("epoch", "step")}

    @staticmethod
    def _is_evaluation(row: dict[str, Any]) -> bool:
        return any(name.startswith("eval_") for name in row)

    @staticmethod
    def _append(path: Path, row: dict[str, Any]) -> None:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

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
