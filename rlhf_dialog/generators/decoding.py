"""From contexts to replies, as text."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import GenerationConfig

from rlhf_dialog.errors import UserError
from rlhf_dialog.generators.loading import Generator, check_lengths
from rlhf_dialog.generators.policy import sample_responses
from rlhf_dialog.generators.prompts import encode_contexts, pad_prompts
from rlhf_dialog.generators.reranking import Candidate, TextScorer, rank
from rlhf_dialog.generators.sampling import mask_after_eos
from rlhf_dialog.generators.token_types import with_types
from rlhf_dialog.settings import DecodingSettings

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
            prompts = encode_contexts(generator, chunk, context_length)
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


def generate_replies(
    generator: Generator,
    contexts: Sequence[Sequence[str]],
    settings: DecodingSettings,
    *,
    context_length: int,
    scorer: TextScorer | None = None,
) -> list[list[Candidate]]:
    """`settings.returns` replies to each context, decoded as the settings say.

    Without a scorer they come in the order of `generate`. With one, `settings.candidates` are
    generated, ranked by it, and the best are returned with their scores. The same seed gives the
    same replies; the caller's random state is left as it was.

    Raises:
        UserError: lengths beyond the model's positions; more replies than there can be.
    """
    check_lengths(generator, context_length, settings.response_length)
    number = settings.returns if scorer is None else settings.candidates
    config = generation_config(generator, settings, number)
    found: list[list[str]] = []
    generator.model.eval()
    size = max(1, SAMPLING_BATCH // max(number, config.num_beams))
    with torch.random.fork_rng():
        torch.manual_seed(settings.seed)
        for start in range(0, len(contexts), size):
            found += _generated(generator, contexts[start : start + size], config, context_length)
    if scorer is None:
        return [[Candidate(text) for text in row] for row in found]
    return [row[: settings.returns] for row in rank(contexts, found, scorer)]


def generation_config(
    generator: Generator, settings: DecodingSettings, number: int
) -> GenerationConfig:
    """The settings as transformers has them, for so many replies a context.

    Raises:
        UserError: more replies than the way of decoding can give.
    """
    most = {"greedy": 1, "beam": settings.num_beams}.get(settings.decoding, number)
    if number > most:
        raise UserError(
            f"returns, candidates: {settings.decoding} decoding gives at most {most} different "
            f"replies a context, not {number}; choose decoding sample, or more num_beams."
        )
    config = GenerationConfig(**generator.model.generation_config.to_dict())
    config.update(
        max_new_tokens=settings.response_length,
        do_sample=settings.decoding == "sample",
        num_beams=settings.num_beams if settings.decoding == "beam" else 1,
        num_return_sequences=number,
        repetition_penalty=settings.repetition_penalty,
        no_repeat_ngram_size=settings.no_repeat_ngram,
    )
    if settings.decoding == "sample":
        config.update(temperature=settings.temperature, top_k=settings.top_k, top_p=settings.top_p)
    return config


@torch.no_grad()
def _generated(
    generator: Generator,
    contexts: Sequence[Sequence[str]],
    config: GenerationConfig,
    context_length: int,
) -> list[list[str]]:
    prompts = encode_contexts(generator, contexts, context_length)
    ids, mask = (t.to(generator.model.device) for t in pad_prompts(prompts, generator))
    types = {} if generator.is_encoder_decoder else with_types(generator.model.config, ids, 0)
    output = generator.model.generate(
        input_ids=ids, attention_mask=mask.long(), generation_config=config, **types
    )
    given = 1 if generator.is_encoder_decoder else ids.shape[1]
    rows = output[:, given:]
    texts = decode_rows(generator, rows, mask_after_eos(rows, config.eos_token_id))
    number = config.num_return_sequences
    return [texts[n : n + number] for n in range(0, len(texts), number)]
