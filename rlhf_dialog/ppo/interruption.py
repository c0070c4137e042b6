"""How a run ends before its end: at a signal, or at a number that is none."""

from __future__ import annotations

import math
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object

from rlhf_dialog.console import console, is_main_process
from rlhf_dialog.errors import UserError
from rlhf_dialog.ppo.checkpoints import last_good
from rlhf_dialog.ppo.rollouts import Rollout
from rlhf_dialog.runs import write_jsonl

if TYPE_CHECKING:
    from rlhf_dialog.ppo.trainer import SeqGANPPOTrainer

CAUGHT = (signal.SIGTERM, signal.SIGINT)
# A launcher passes a signal on to processes that have it already, as Ctrl-C reaches them all.
SAME_SIGNAL = 1.0  # seconds


class Interrupted(SystemExit):
    """A signal ended the run; its state is in `checkpoint`. Exit status: 128 + the signal."""

    def __init__(self, signum: int, checkpoint: Path) -> None:
        super().__init__(128 + signum)
        self.signum, self.checkpoint = signum, checkpoint


class Signals:
    """Inside, SIGTERM and SIGINT ask the run to stop at the end of its update.

    A second one, at least `SAME_SIGNAL` seconds later, ends the process at once. In a thread
    other than the main one signals cannot be caught, and are not.
    """

    def __init__(self) -> None:
        self.signum, self.since = 0, 0.0
        self.before: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():
            self.before = {signum: signal.signal(signum, self._note) for signum in CAUGHT}
        return self

    def __exit__(self, *raised: object) -> None:
        for signum, handler in self.before.items():
            signal.signal(signum, handler)

    def agreed(self, accelerator: Accelerator) -> int:
        """The signal that any rank has had, the same on all; 0: none."""
        if accelerator.num_processes == 1:
            return self.signum
        mine = torch.tensor([self.signum], device=accelerator.device)
        return int(accelerator.gather(mine).max())

    def _note(self, signum: int, frame: FrameType | None) -> None:
        if self.signum and time.monotonic() - self.since > SAME_SIGNAL:
            signal.signal(signum, signal.SIG_DFL)
            os.kill(os.getpid(), signum)
        if not self.signum:
            self.signum, self.since = signum, time.monotonic()
            if is_main_process():
                name = signal.Signals(signum).name
                print(
                    f"{name}: saving at the end of this update; another ends at once",
                    file=sys.stderr,
                )


def leave(trainer: SeqGANPPOTrainer, signum: int, checkpoint: Path) -> None:
    """Ends the run whose state has just been written, and says how to go on.

    Raises:
        Interrupted: always.
    """
    updates = f"{trainer.state.global_step} of {trainer.state.max_steps}"
    console.print(
        f"{signal.Signals(signum).name}: stopped after update {updates}; the whole state is in "
        f"{checkpoint}. To go on: {trainer.how_to_go_on}",
        markup=False,
        soft_wrap=True,
    )
    raise Interrupted(signum, checkpoint)


def require_finite(
    trainer: SeqGANPPOTrainer, rollout: Rollout, scores: torch.Tensor, metrics: Mapping[str, float]
) -> None:
    """Raises UserError where a loss or a reward of the update is not a finite number.

    Metrics are means over all ranks: all ranks see the same and stop together.
    """
    for name, value in metrics.items():
        if name.startswith(("loss/", "objective/", "policy/")) and not math.isfinite(value):
            raise stopped(trainer, rollout, f"{name} is {value}", scores)


def stopped(
    trainer: SeqGANPPOTrainer, rollout: Rollout, told: str, scores: torch.Tensor | None = None
) -> UserError:
    """The error that ends a run at this update; its samples, of all ranks, are written first."""
    update = trainer.state.global_step + 1  # the one under way
    path = Path(str(trainer.args.output_dir)) / f"stopped-{update:06d}.jsonl"
    given = [None] * len(rollout.replies) if scores is None else scores.tolist()
    rows = gather_object(
        [
            {"update": update, "context": list(context), "reply": reply, "score": score}
            for context, reply, score in zip(rollout.contexts, rollout.replies, given, strict=True)
        ]
    )
    if trainer.is_world_process_zero():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_jsonl(path, rows)
    return UserError(
        f"update {update}: {told.rstrip('.')}; its samples are in {path}, and {last_good(trainer)}."
    )
