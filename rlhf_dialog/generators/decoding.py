"""From contexts to replies, as text."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from rlhf_dialog.generators.loading import Generator
from rlhf_dialog.generators.policy import sample_responses
from rlhf_dialog.generators.prompts import encode_context, pad_prompts

SAMPLING_BATCH = 128


def sample_replies(
    generator: Generator,
    contexts: Sequence[Sequence[str]],
    *,
    context_length: int,
    response_length: int,
    seed: int,
) -> list[str]:
    """One reply to each context, sampled from the untruncated distribution at temperature 1.

    The same seed gives the same replies, whatever was drawn before; the caller's random state is
    left as it was.
    """
    replies: list[str] = []
    generator.model.eval()
    device = generator.model.device
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for start in range(0, len(contexts), SAMPLING_BATCH):
            chunk = contexts[start : start + SAMPLING_BATCH]
            prompts = [encode_context(generator, context, context_length) for context in chunk]
            ids, mask = pad_prompts(prompts, generator)
            reply_ids, reply_mask = sample_responses(
                generator.model, ids.to(device), mask.to(device), max_tokens=response_length
            )
            replies += decode_rows(generator, reply_ids, reply_mask)
    return replies


def decode_rows(
    generator: Generator, reply_ids: torch.Tensor, reply_mask: torch.Tensor
) -> list[str]:
    """Responses (B, T) and their mask (B, T) as B texts."""
    return [
        generator.decode(ids[mask].tolist())
        for ids, mask in zip(reply_ids, reply_mask, strict=True)
    ]
