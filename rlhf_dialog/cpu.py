"""What makes a CPU faster at the same computation; measured in docs/speed.md."""

from __future__ import annotations

import ctypes
import mmap
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

SHORT = 192  # tokens of a row; at 256 the products of all pairs of tokens are slower
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's malloc.h
TWO_GIB = 2**31 - 1  # the most that can be said
UPDATES_KEPT = 3  # between two times that memory is given back
LOOSE = 2**28  # bytes that a process may grow by before memory is given back


def attention_kernel(device: torch.device, width: int, bf16: bool) -> AbstractContextManager:
    """Within, attention over whole rows of at most `width` tokens is computed as is fastest.

    The fused kernel of the CPU multiplies each head of each row by itself. In bf16, and where
    `torch.set_float32_matmul_precision` gives fp32 products to oneDNN, starting so many small ones
    takes longer than computing them: over short rows they are made in batches instead. The backward
    pass belongs within too, where activations are computed again.
    """
    if device.type == "cpu" and _by_onednn(bf16) and width <= SHORT:
        return sdpa_kernel(SDPBackend.MATH)
    return nullcontext()


def attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    *,
    scale: float | None,
    bias: torch.Tensor | None = None,
    dropout: float = 0.0,
) -> torch.Tensor:
    """softmax(scale · Q Kᵀ + bias) V of (B, heads, T, D) queries, (B, heads, W, D) keys and values.

    Where `attention_kernel` says so, products are made in batches too, and in bf16 they are rounded
    to it before the softmax, as transformers' "eager" attention does; PyTorch's "math" kernel goes
    through fp32. Else this is PyTorch's attention.

    Args:
        scale: None: one over the root of D.
        bias: (B, 1, T or 1, W), added to the products, somewhere finite for each query; None: each
            query sees the keys up to its own place.
    """
    by_onednn = query.device.type == "cpu" and _by_onednn(query.dtype == torch.bfloat16)
    if not by_onednn or key.shape[2] > SHORT:
        return F.scaled_dot_product_attention(
            query, key, value, bias, dropout, is_causal=bias is None, scale=scale
        )
    if bias is None:
        added = query.new_full((query.shape[2], key.shape[2]), -torch.inf).triu(1)
    else:
        added = bias.expand(*query.shape[:3], -1).flatten(0, 1)
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    query, rows = query.flatten(0, 1), query.shape[:2]
    scores = torch.baddbmm(added, query, key.flatten(0, 1).transpose(1, 2), alpha=scale)
    weights = F.dropout(scores.softmax(-1), dropout)
    return torch.bmm(weights, value.flatten(0, 1)).unflatten(0, rows)


def _by_onednn(bf16: bool) -> bool:
    try:
        return bf16 or torch.get_float32_matmul_precision() != "highest"
    except RuntimeError:  # a precision was set by PyTorch's newer names, which this cannot read
        return False


class FreedMemory(TrainerCallback):
    """Keeps memory that tensors leave for the next ones, instead of giving it back to the system.

    glibc gives a large tensor's pages back when it is freed, and the next one's have to be mapped
    and zeroed again, which takes longer than to fill them: at 50,000 tokens of vocabulary nearly
    every tensor is large. Kept memory falls to pieces, though, as sizes change from batch to batch
    and small things come to lie between large ones, so that after every few updates what is free is
    given back, where the process has grown by much since. Nothing happens without glibc.
    """

    def __init__(self) -> None:
        self.held = 0  # bytes, when memory was last given back
        libc: Any = ctypes.CDLL(None) if sys.platform == "linux" else None
        self.trim = getattr(libc, "malloc_trim", None)  # musl has neither this nor the next
        if self.trim is not None:
            libc.mallopt(M_MMAP_MAX, 0)
            libc.mallopt(M_TRIM_THRESHOLD, TWO_GIB)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        if self.trim is None or state.global_step % UPDATES_KEPT:
            return
        if _resident() - self.held > LOOSE:
            self.trim(0)
            self.held = _resident()


def _resident() -> int:
    """Bytes of memory that this process has, on Linux."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE
