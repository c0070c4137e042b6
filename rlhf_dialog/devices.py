"""Where this process computes, and what it shares with the others."""

import torch
from accelerate import PartialState
from accelerate.utils import broadcast, broadcast_object_list
from torch import nn


def own_device() -> torch.device:
    """The accelerator that Accelerate gives to this process, or the CPU."""
    return PartialState().device


def first_process_says(value: float) -> float:
    """The first process's `value` on every process, so that all take the same decision."""
    if PartialState().num_processes == 1:
        return value
    return broadcast_object_list([value])[0]


@torch.no_grad()
def copy_first_process(module: nn.Module) -> None:
    """Gives every process the first one's parameters and buffers, bit by bit, in place."""
    if PartialState().num_processes == 1:
        return
    for tensor in module.state_dict().values():
        tensor.copy_(broadcast(tensor.clone()))
