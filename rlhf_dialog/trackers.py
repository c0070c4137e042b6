"""What `report_to` sends to a tracker is called as in metrics.jsonl."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from transformers import Trainer
from transformers.integrations import integration_utils


def keep_names(trainer: Trainer) -> None:
    """Lets the trackers of `trainer` show `judge/score` where transformers has `train/judge/score`.

    Its trackers (TensorBoard, trackio, wandb and others) put `train/` before every name, or make
    `eval/` of `eval_`, in one function; it is left out while one of this trainer's is logging.
    """
    trackers = tuple(
        kind
        for kind in integration_utils.INTEGRATION_TO_CALLBACK.values()
        if isinstance(kind, type)
    )
    for callback in trainer.callback_handler.callbacks:
        if isinstance(callback, trackers):
            tracker: Any = callback
            tracker.on_log = _with_names_kept(tracker.on_log)


def _with_names_kept(on_log: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(on_log)
    def logged(*args: Any, **kwargs: Any) -> Any:
        with _names_kept():
            return on_log(*args, **kwargs)

    return logged


@contextmanager
def _names_kept() -> Iterator[None]:
    theirs = integration_utils.rewrite_logs
    integration_utils.rewrite_logs = dict
    try:
        yield
    finally:
        integration_utils.rewrite_logs = theirs
