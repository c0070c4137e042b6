"""A rollout: prompts, sampled responses, and everything that is known of them before the update."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from rlhf_dialog.dialogues.schema import Example
from rlhf_dialog.generators.distributions import Sampling
from rlhf_dialog.generators.loading import Generator
from rlhf_dialog.generators.policy import Policy, PolicyOutput
from rlhf_dialog.generators.prompts import encode_contexts, pad_prompts
from rlhf_dialog.generators.sampling import Responses, draw


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


def collate(
    examples: Sequence[Example], generator: Generator, context_length: int
) -> dict[str, Any]:
    """A batch of contexts (B, P) and their mask; and as text, with people's replies to them."""
    prompts = encode_contexts(generator, [e.context for e in examples], context_length)
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
    keep: bool = False,
) -> Responses:
    """Responses, sampled `chunk` rows at a time, padded to one length.

    With `prefix_ids` (B, t), what follows after these first tokens of the responses. `keep`: see
    `draw`.
    """
    prefix_ids = context_ids[:, :0] if prefix_ids is None else prefix_ids
    inputs = (context_ids, context_mask, prefix_ids)
    parts = [
        draw(lm, ids, mask, max_tokens=max_tokens, sampling=sampling, prefix_ids=prefix, keep=keep)
        for ids, mask, prefix in zip(*(x.split(chunk) for x in inputs), strict=True)
    ]
    width = max(int(part.mask.sum(1).max()) for part in parts)
    fill = lm.config.pad_token_id
    ids = _joined([part.ids.masked_fill(~part.mask, fill) for part in parts], width, fill)
    mask = _joined([part.mask for part in parts], width)
    if any(part.logprobs is None or part.hidden is None for part in parts):
        return Responses(ids, mask)
    logprobs, hidden = ([part[place] for part in parts] for place in (2, 3))
    return Responses(ids, mask, _joined(logprobs, width), _joined(hidden, width))


def _joined(parts: Sequence[Any], width: int, fill: int = 0) -> torch.Tensor:
    """Tensors (b, t, ...) of several t as one (B, width, ...)."""
    rows = sum(map(len, parts))
    joined = parts[0].new_full((rows, width, *parts[0].shape[2:]), fill)
    for part, place in zip(parts, joined.split([len(part) for part in parts]), strict=True):
        place[:, : part.shape[1]] = part[:, :width]
    return joined


def in_chunks(
    policy: Callable[..., PolicyOutput], size: int, *inputs: torch.Tensor
) -> list[torch.Tensor]:
    """The policy's outputs for `inputs`, computed `size` rows of like length at a time."""
    order = by_length(inputs[1], inputs[3])
    chunks = zip(*(x[order].split(size) for x in inputs), strict=True)
    columns = zip(*(policy(*chunk) for chunk in chunks), strict=True)
    back = order.argsort()
    return [torch.cat(column)[back] for column in columns if column[0] is not None]


def by_length(context_mask: torch.Tensor, reply_mask: torch.Tensor) -> torch.Tensor:
    """Rows (B,), the longest first: what memory a pass needs shows at its beginning."""
    lengths = context_mask.sum(1) + reply_mask.sum(1)
    return lengths.argsort(descending=True, stable=True)


def own_scores(
    model: nn.Module, policy: Policy, size: int, drawn: Responses, *inputs: torch.Tensor
) -> list[torch.Tensor]:
    """Log-probabilities and values (B, T) by the policy that drew the responses; computed anew
    only where `drawn` does not have them.

    Args:
        model: the policy as it is wrapped.
        size: rows at a time.
    """
    if drawn.logprobs is None or drawn.hidden is None:
        return in_chunks(model, size, *inputs)
    if policy.value_trunk is not None:
        return [drawn.logprobs, *in_chunks(partial(model, logprobs=False), size, *inputs)]
    return [drawn.logprobs, policy.values(drawn.hidden).masked_fill(~drawn.mask, 0.0)]
