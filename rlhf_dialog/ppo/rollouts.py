"""A rollout: prompts, sampled responses, and everything that is known of them before the update."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import nn
from transformers import PreTrainedModel

from rlhf_dialog.generators.policy import sample_responses
from rlhf_dialog.generators.prompts import pad_ids


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


def respond(
    lm: PreTrainedModel,
    context_ids: torch.Tensor,
    context_mask: torch.Tensor,
    *,
    chunk: int,
    max_tokens: int,
    temperature: float,
    prefix_ids: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Responses (B, T) and their mask, sampled `chunk` rows at a time, padded to one length.

    With `prefix_ids` (B, t), what follows after these first tokens of the responses.
    """
    prefix_ids = context_ids[:, :0] if prefix_ids is None else prefix_ids
    rows: list[list[int]] = []
    inputs = (context_ids, context_mask, prefix_ids)
    for ids, mask, prefix in zip(*(x.split(chunk) for x in inputs), strict=True):
        responses, real = sample_responses(
            lm, ids, mask, max_tokens=max_tokens, temperature=temperature, prefix_ids=prefix
        )
        rows += [row[keep].tolist() for row, keep in zip(responses, real, strict=True)]
    reply_ids, reply_mask = pad_ids(rows, lm.config.pad_token_id)
    return reply_ids.to(context_ids.device), reply_mask.to(context_ids.device)


def in_chunks(policy: nn.Module, size: int, *inputs: torch.Tensor) -> list[torch.Tensor]:
    """The policy's outputs for `inputs`, computed `size` rows at a time."""
    parts = [policy(*chunk) for chunk in zip(*(x.split(size) for x in inputs), strict=True)]
    return [torch.cat(column) for column in zip(*parts, strict=True)]
