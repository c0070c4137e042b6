"""Token types of prompts that have speakers: a second id for each token, which says who speaks.

A function of the prompt's ids alone, so that whoever holds ids (a rollout, a score, a metric) feeds
a model the same types as its training did. Control tokens never come from text, so each speaker
token in a prompt begins a turn.
"""

from __future__ import annotations

import torch
from transformers import PreTrainedConfig

# Causal models that add the embedding of a token type to that of a token, from one table. Others
# (Llama and its kin) read the ids alone, in training as in generation.
ADD_TYPES = {"gpt2", "openai-gpt", "ctrl", "gptj", "codegen", "gpt_neo"}


def mark_speakers(config: PreTrainedConfig, speakers: list[int] | None) -> None:
    """Writes the ids of the two speaker tokens into a model's configuration, which is saved with
    it; None, or a model that adds no types: none from now on."""
    config.speaker_tokens = speakers if config.model_type in ADD_TYPES else None


def has_types(config: PreTrainedConfig) -> bool:
    """Whether a model's form has token types."""
    return bool(getattr(config, "speaker_tokens", None))


def token_types(config: PreTrainedConfig, prompt_ids: torch.Tensor) -> torch.Tensor:
    """Types (B, P) int64 of prompts (B, P) that end at the last column, of a model that has them.
    What follows, the reply, has the type of the last column.

    persona: segments alternate forwards from the persona, which is the first speaker's. Others:
    each turn has the type of its speaker, the token of beginning that of the first turn.
    """
    first, second = config.speaker_tokens
    turn = ((prompt_ids == first) | (prompt_ids == second)).long().cumsum(1)  # (B, P), from 1
    if config.input_form == "persona":
        return torch.where(turn % 2 == 0, first, second)
    # Turns alternate, and the last column is the token of who replies.
    replies = prompt_ids[:, -1:]
    listens = first + second - replies
    back = turn[:, -1:] - turn.clamp(min=1)
    return torch.where(back % 2 == 0, replies, listens)


def with_types(
    config: PreTrainedConfig, prompt_ids: torch.Tensor, tokens: int
) -> dict[str, torch.Tensor]:
    """`token_type_ids` (B, P + tokens) of prompts and so many tokens of a reply, as an argument of
    a model or of `generate`; nothing where the form has none."""
    if not has_types(config):
        return {}
    types = token_types(config, prompt_ids)
    return {"token_type_ids": torch.cat([types, types[:, -1:].expand(-1, tokens)], dim=1)}
