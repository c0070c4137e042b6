"""A rollout: prompts, sampled responses, and everything that is known of them before the update."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from rlhf_dialog.dialogues.schema import Example
from rlhf_dialog.generators.distributions import Sampling
from rlhf_dialog.generators.loading import Generator
from rlhf_dialog.generators.policy import sample_responses
from rlhf_dialog.generators.prompts import encode_context, pad_ids, pad_prompts


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
    demonstrations: int = 0  # the first so many rows are people's replies, not the policy's

    @property
    def sampled(self) -> slice:
        """The rows that the policy sampled: what is known of it is known from these."""
        return slice(self.demonstrations, None)

    def ended(self, stop_token_id: int) -> torch.Tensor:
        """(B,) bool: which responses came to their stop token, which need not be EOS."""
        return ((self.reply_ids == stop_token_id) & self.reply_mask).any(1)

    def tensors(self, rows: torch.Tensor, *, trim: bool = True) -> dict[str, torch.Tensor]:
        """The rows of every tensor field, trimmed to the longest response among them."""
        picked = {
            f.name: value[rows]
            for f in fields(self)
            if isinstance(value := getattr(self, f.name), torch.Tensor)
        }
        if not trim:
            return picked
        length = int(picked["reply_mask"].sum(1).max())
        context = ("context_ids", "context_mask")
        return {k: v if k in context else v[:, :length] for k, v in picked.items()}


def collate(
    examples: Sequence[Example], generator: Generator, context_length: int
) -> dict[str, Any]:
    """A batch of contexts (B, P) and their mask; and as text, with people's replies to them."""
    prompts = [encode_context(generator, example.context, context_length) for example in examples]
    ids, mask = pad_prompts(prompts, generator)
    contexts = [list(example.context) for example in examples]
    replies = [example.reply for example in examples]
    return {"input_ids": ids, "attention_mask": mask, "contexts": contexts, "replies": replies}


def respond(
    lm: PreTrainedModel,
    context_ids: torch.Tensor,
    context_mask: torch.Tensor,
    *,
    chunk: int,
    max_tokens: int,
    sampling: Sampling,
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
            lm, ids, mask, max_tokens=max_tokens, sampling=sampling, prefix_ids=prefix
        )
        rows += [row[keep].tolist() for row, keep in zip(responses, real, strict=True)]
    reply_ids, reply_mask = pad_ids(rows, lm.config.pad_token_id)
    return reply_ids.to(context_ids.device), reply_mask.to(context_ids.device)


def in_chunks(policy: nn.Module, size: int, *inputs: torch.Tensor) -> list[torch.Tensor]:
    """The policy's outputs for `inputs`, computed `size` rows at a time."""
    parts = [policy(*chunk) for chunk in zip(*(x.split(size) for x in inputs), strict=True)]
    return [torch.cat(column) for column in zip(*parts, strict=True) if column[0] is not None]
