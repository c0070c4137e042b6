"""A rollout: prompts, sampled responses, and everything that is known of them before the update."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch


@dataclass
class Rollout:
    """One batch of episodes of one rank. Token tensors are (B, ...); text lists have length B."""

    contexts: list[list[str]]
    replies: list[str]
    context_ids: torch.Tensor  # (B, P) int64
    context_mask: torch.Tensor  # (B, P) bool
    reply_ids: torch.Tensor  # (B, T) int64
    reply_mask: torch.Tensor  # (B, T) bool, true up to and including EOS
    logprobs: torch.Tensor  # (B, T) of the policy that sampled them, nats
    ref_logprobs: torch.Tensor  # (B, T) of the reference, nats
    values: torch.Tensor  # (B, T)
    entropies: torch.Tensor  # (B, T) nats

    def tensors(self, rows: torch.Tensor) -> dict[str, torch.Tensor]:
        """The rows of every tensor field, trimmed to the longest response among them."""
        picked = {
            f.name: value[rows]
            for f in fields(self)
            if isinstance(value := getattr(self, f.name), torch.Tensor)
        }
        length = int(picked["reply_mask"].sum(1).max())
        context = ("context_ids", "context_mask")
        return {k: v if k in context else v[:, :length] for k, v in picked.items()}
