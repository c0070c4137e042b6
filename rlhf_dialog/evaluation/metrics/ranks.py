"""One number from several processes: texts are gathered, rank 0 computes, everybody is told.

Most metrics here are no means over replies (distinct-n, self-BLEU, perplexity), so those of the
ranks cannot be averaged; and `evaluate`'s own way through files waits for ever for a rank that has
no samples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object

from rlhf_dialog.errors import UserError

Result = TypeVar("Result")


def compute_over_ranks(compute: Callable[..., Result], **columns: Sequence[Any]) -> Result:
    """`compute(**columns)` on the columns of all ranks, rank 0's rows first; the same on each rank.

    Every rank has to call it. A rank's columns may be empty. With one process it is the plain call.

    Args:
        compute: a metric's function, or the `compute` of an `evaluate` module; what is no column
            (n, a generator) is bound beforehand, with `functools.partial`.
        columns: of this rank; lists of texts, or of lists of texts.

    Raises:
        Exception: whatever `compute` raised, on rank 0; a UserError with its words on the others.
    """
    gathered = {name: gather_object(list(column)) for name, column in columns.items()}
    outcome: list[Any] = [None, None]
    problem: Exception | None = None
    if PartialState().is_main_process:
        try:
            outcome[0] = compute(**gathered)
        except Exception as error:  # else the other ranks would wait for a result for ever
            problem, outcome[1] = error, str(error)
    result, told = broadcast_object_list(outcome)
    if problem is not None:
        raise problem
    if told is not None:
        raise UserError(told)
    return result
