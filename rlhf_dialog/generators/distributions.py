"""The distribution of the next token: what replies are drawn from is what they are scored under.

Shape letters: B batch, T response tokens, V vocabulary.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from transformers import TopKLogitsWarper, TopPLogitsWarper

CHUNK = 2**22  # logits that are looked at at a time: 16 MiB of probabilities, not B·T·V


@dataclass(frozen=True)
class Sampling:
    """How replies are drawn. By default from the model's own softmax.

    A policy that samples from a truncated distribution and scores with the full softmax has a
    negative KL to itself, so log-probabilities are always those of this distribution.

    Args:
        temperature: logits are divided by it.
        top_k: only the k most likely tokens; 0 for all.
        top_p: only the most likely tokens that hold this share of the mass; 1 for all (Holtzman
            et al. 2020).
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0

    def generation(self) -> dict[str, Any]:
        """The same as settings of transformers' `generate`."""
        return {
            "do_sample": True,
            "temperature": self.temperature,
            "top_k": self.top_k,
            "top_p": self.top_p,
        }

    def logits(self, logits: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        """Logits (B, T, V) of a model as this distribution has them, float32; -inf where cut off.

        The truncation is that of `generate` (its own processors, in its order). The tokens `ids`
        (B, T) are never cut off: what one policy has sampled may lie outside the top of another,
        and ratio and KL have to stay finite there.
        """
        logits = logits.float()
        if self.temperature != 1:
            logits = logits / self.temperature
        if not self.top_k and self.top_p == 1:
            return logits
        rows = logits.flatten(0, -2)  # (B·T, V)
        kept = rows.detach()
        if self.top_k:
            kept = TopKLogitsWarper(self.top_k)(None, kept)
        if self.top_p < 1:
            kept = TopPLogitsWarper(self.top_p)(None, kept)
        cut_off = kept.isneginf().scatter(1, ids.reshape(-1, 1), False)
        return rows.masked_fill(cut_off, -math.inf).view_as(logits)


def token_logprobs(logits: torch.Tensor, ids: torch.Tensor, chunk: int = CHUNK) -> torch.Tensor:
    """log p(id) = z_id - log Σⱼ e^zⱼ of logits (..., V) at `ids` (...), nats (...).

    Differentiable once: ∂/∂zⱼ = [j = id] - pⱼ, made `chunk` probabilities at a time.
    """
    flat = logits.reshape(-1, logits.shape[-1])
    return _Logprob.apply(flat, ids.reshape(-1, 1), _rows(logits, chunk)).view(ids.shape)


def token_entropies(logits: torch.Tensor, chunk: int = CHUNK) -> torch.Tensor:
    """Entropy of softmax(logits) in nats: logits (..., V) -> (...); differentiable once.

    H = log Σⱼ e^zⱼ - Σⱼ pⱼ zⱼ   and   ∂H/∂zⱼ = -pⱼ (log pⱼ + H)

    Neither pass holds more than `chunk` probabilities at a time, and none are kept between them.
    """
    flat = logits.reshape(-1, logits.shape[-1])
    return _Entropy.apply(flat, _rows(logits, chunk)).view(logits.shape[:-1])


def _rows(logits: torch.Tensor, chunk: int) -> int:
    return max(1, chunk // logits.shape[-1])


class _Logprob(torch.autograd.Function):
    @staticmethod
    def forward(ctx, logits, ids, rows):
        ctx.save_for_backward(logits, ids)
        ctx.rows = rows
        parts = zip(logits.split(rows), ids.split(rows), strict=True)
        # Of one kernel: `logsumexp` is made of several, and takes twice as long.
        return torch.cat([torch.log_softmax(z, -1).gather(-1, i) for z, i in parts]).squeeze(-1)

    @staticmethod
    def backward(ctx, gradient):
        logits, ids = ctx.saved_tensors
        result, column = torch.empty_like(logits), gradient.unsqueeze(-1)
        parts = (x.split(ctx.rows) for x in (logits, column, result))
        for z, g, out in zip(*parts, strict=True):
            torch.softmax(z, -1, out=out).mul_(-g)
        return result.scatter_add_(-1, ids, column), None, None


class _Entropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx, logits, rows):
        entropies = [-p.mul_(log_p).sum(-1) for p, log_p in map(_softmax, logits.split(rows))]
        result = torch.cat(entropies)
        ctx.save_for_backward(logits, result)
        ctx.rows = rows
        return result

    @staticmethod
    def backward(ctx, gradient):
        logits, entropies = ctx.saved_tensors
        result = torch.empty_like(logits)
        parts = (x.split(ctx.rows) for x in (logits, entropies, gradient, result))
        for z, entropy, g, out in zip(*parts, strict=True):
            p, log_p = _softmax(z)
            out.copy_(-p * (log_p + entropy.unsqueeze(-1)) * g.unsqueeze(-1))
        return result, None


def _softmax(logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """p and log p; where p is 0, log p is finite, so that their product is 0 and not NaN."""
    log_p = torch.log_softmax(logits, dim=-1).clamp_(min=torch.finfo(logits.dtype).min)
    return torch.softmax(logits, dim=-1), log_p
