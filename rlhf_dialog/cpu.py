"""What makes a CPU faster at the same computation; measured in docs/speed.md."""

from __future__ import annotations

import ctypes
import sys
from contextlib import AbstractContextManager, nullcontext

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

SHORT = 192  # tokens of a row; at 256 the products of all pairs of tokens are slower
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's malloc.h
TWO_GIB = 2**31 - 1  # the most that can be said


def attention_kernel(device: torch.device, width: int, bf16: bool) -> AbstractContextManager:
    """Within, attention over whole rows of at most `width` tokens is computed as is fastest.

    The fused kernel of the CPU multiplies each head of each row by itself. In bf16, and where
    `torch.set_float32_matmul_precision` gives fp32 products to oneDNN, starting so many small ones
    takes longer than computing them: over short rows they are made in batches instead. The backward
    pass belongs within too, where activations are computed again.
    """
    by_onednn = bf16 or torch.get_float32_matmul_precision() != "highest"
    if device.type == "cpu" and by_onednn and width <= SHORT:
        return sdpa_kernel(SDPBackend.MATH)
    return nullcontext()


def keep_freed_memory() -> None:
    """Keeps memory that tensors leave for the next ones, instead of giving it back to the system.

    glibc gives a large tensor's pages back when it is freed, and the next one's have to be mapped
    and zeroed again, which takes longer than to fill them: at 50,000 tokens of vocabulary nearly
    every tensor is large. The process then holds what it held at its peak, and somewhat more, where
    a tensor finds no gap of its size. Nothing happens without glibc.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    if mallopt is not None:
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, TWO_GIB)
