"""Where this process computes, and what it shares with the others."""

from collections.abc import Callable
from typing import TypeVar

import torch
from accelerate import PartialState
from accelerate.utils import broadcast, broadcast_object_list, gather_object
from torch import nn

from rlhf_dialog.errors import UserError

T = TypeVar("T")


def own_device() -> torch.device:
    """The accelerator that Accelerate gives to this process, or the CPU."""
    return PartialState().device


def first_process_says(value: float) -> float:
    """The first process's `value` on every process, so that all take the same decision."""
    if PartialState().num_processes == 1:
        return value
    return broadcast_object_list([value])[0]


def together(doing: Callable[[], T]) -> T:
    """What `doing` returns. Where it raises a `UserError` on one process it is raised on all: one
    that went on alone would wait for the others for ever."""
    told, result = None, None
    try:
        result = doing()
    except UserError as error:
        told = error
    if PartialState().num_processes > 1:
        tellings = gather_object([None if told is None else str(told)])
        first = next((telling for telling in tellings if telling is not None), None)
        told = told or (None if first is None else UserError(first))
    if told is not None:
        raise told
    return result  # type: ignore[return-value]


@torch.no_grad()
def copy_first_process(module: nn.Module) -> None:
    """Gives every process the first one's parameters and buffers, bit by bit, in place."""
    if PartialState().num_processes == 1:
        return
    for tensor in module.state_dict().values():
        tensor.copy_(broadcast(tensor.clone()))
