"""What a person sees: one console, one kind of progress bar, and libraries that keep quiet."""

from __future__ import annotations

import errno
import logging
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import datasets
import huggingface_hub
import torch
import transformers
from accelerate import PartialState
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from transformers import PrinterCallback, Trainer, TrainerCallback
from transformers.utils import logging as transformers_logging

from rlhf_dialog.devices import end_process, telling_of_lost_processes
from rlhf_dialog.errors import UserError


def is_main_process() -> bool:
    """True on the one process that talks, before and after Accelerate is set up."""
    return int(os.environ.get("RANK", "0")) == 0


def world_size() -> int:
    """Number of processes of this run, before and after Accelerate is set up."""
    return int(os.environ.get("WORLD_SIZE", "1"))


console = Console(highlight=False, quiet=not is_main_process())


def quiet_libraries() -> None:
    """Silences notices a user can do nothing about; errors still come through."""
    transformers.utils.logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    datasets.logging.set_verbosity_error()
    huggingface_hub.utils.logging.set_verbosity_error()
    datasets.disable_progress_bars()
    logging.getLogger("accelerate").setLevel(logging.ERROR)
    logging.getLogger("torch.distributed").setLevel(logging.ERROR)
    if not torch.accelerator.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")  # else DeepSpeed warns that it guessed so
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=UserWarning, module=r"(torch|transformers|trl)\b")


@contextmanager
def progress(description: str, total: int) -> Iterator[Callable[..., None]]:
    """A bar for one stage. The yielded ``advance(note="")`` moves it by one step."""
    bar = Progress(
        TextColumn("{task.description:<28}"),
        BarColumn(bar_width=30),
        TextColumn("{task.completed:>5.0f}/{task.total:.0f}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
    )
    with bar:
        task = bar.add_task(description, total=total, note="")

        def advance(note: str = "") -> None:
            bar.update(task, advance=1, note=note)

        yield advance


class TrainerProgress(TrainerCallback):
    """Shows a transformers Trainer as one of our bars."""

    def __init__(self, description: str) -> None:
        self.description = description
        self.note = ""

    @classmethod
    def attach(cls, trainer: Trainer, description: str) -> None:
        trainer.remove_callback(PrinterCallback)
        trainer.add_callback(cls(description))

    def on_train_begin(self, args, state, control, **kwargs):
        self.bar = progress(self.description, state.max_steps)
        self.advance = self.bar.__enter__()

    def on_log(self, args, state, control, logs=None, **kwargs):
        if logs and "loss" in logs:
            self.note = f"loss {float(logs['loss']):.2f}"

    def on_step_end(self, args, state, control, **kwargs):
        self.advance(self.note)

    def on_train_end(self, args, state, control, **kwargs):
        self.bar.__exit__(None, None, None)


def use_all_cores() -> None:
    """Shares the cores of this machine among its processes; `accelerate launch` leaves one each."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS or Windows
        cores = os.cpu_count() or 1
    torch.set_num_threads(max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))


def run_recipe(main: Callable[[], None]) -> None:
    """Runs a recipe; a `UserError` or a full disk becomes one sentence on stderr and status 2, and
    Ctrl-C outside of PPO, which saves first, one and status 130."""
    quiet_libraries()
    use_all_cores()
    try:
        with telling_of_lost_processes():
            main()
    except UserError as error:
        told = str(error)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        where = error.filename or "a file of the run"
        told = f"{where}: {error.strerror}; make room, and go on from the last checkpoint."
    except KeyboardInterrupt:
        if is_main_process():
            print("\nstopped: what this stage has done so far is not kept.", file=sys.stderr)
        raise SystemExit(128 + signal.SIGINT) from None
    else:
        if PartialState._shared_state and PartialState().num_processes > 1:
            end_process()
        return
    if is_main_process():
        print(f"error: {told}", file=sys.stderr)
    raise SystemExit(2)
