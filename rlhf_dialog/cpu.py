"""What makes a CPU faster at the same computation; measured in docs/speed.md."""

from __future__ import annotations

import ctypes
import sys
from contextlib import AbstractContextManager, nullcontext

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

SHORT = 128  # tokens of a row, up to which the scores of all pairs of tokens are cheap to keep
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's malloc.h
MOST = 2**31 - 1


def attention_kernel(device: torch.device, width: int) -> AbstractContextManager:
    """Within, attention over whole rows of at most `width` tokens is computed as is fastest.

    On a CPU the fused kernel goes through each head of each row by itself, and is made for long
    rows, of which it keeps no (width, width) scores. Short ones are faster as batched products.
    The backward pass belongs within too, where activations are computed again.
    """
    if device.type == "cpu" and width <= SHORT:
        return sdpa_kernel(SDPBackend.MATH)
    return nullcontext()


def keep_freed_memory() -> None:
    """Keeps memory that tensors leave for the next ones, instead of giving it back to the system.

    glibc gives a large tensor's pages back when it is freed, and the next one's have to be mapped
    and zeroed again, which takes longer than to fill them: at 50,000 tokens of vocabulary nearly
    every tensor is large. The peak stays what it was. Nothing happens without glibc.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    if mallopt is not None:
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, MOST)
