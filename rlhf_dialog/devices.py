"""Where this process computes."""

import torch
from accelerate import PartialState


def own_device() -> torch.device:
    """The accelerator that Accelerate gives to this process, or the CPU."""
    return PartialState().device
