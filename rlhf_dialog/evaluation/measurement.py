"""What one speaker does on the test contexts: replies, their scores, and what it makes of people's.

Every generator answers the same contexts with the same seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from rlhf_dialog.console import progress
from rlhf_dialog.dialogues.schema import Example
from rlhf_dialog.evaluation.metrics.conditional_perplexity.conditional_perplexity import (
    ReplyLikelihoods,
    reply_likelihoods,
)
from rlhf_dialog.generators.decoding import decode_rows
from rlhf_dialog.generators.distributions import Sampling
from rlhf_dialog.generators.loading import Generator
from rlhf_dialog.generators.policy import Policy, disable_dropout, sample_responses
from rlhf_dialog.generators.prompts import encode_contexts, pad_prompts

# (contexts, replies) -> scores (B,): a frozen judge, a discriminator
Scorer = Callable[[Sequence[Sequence[str]], Sequence[str]], torch.Tensor]

BATCH = 64  # rows of a forward pass with logits
SAMPLING_BATCH = 192  # rows of a generation, which has the logits of one token at a time


@dataclass
class Measurement:
    """What one speaker (a generator, or the people) did on N test contexts, k samples each."""

    replies: list[list[str]]  # (N, k)
    scores: dict[str, np.ndarray]  # per scorer (N, k), logits
    human: ReplyLikelihoods | None = None  # of people's replies under this generator
    kl: np.ndarray | None = None  # (N, k) log p - log p_reference of the replies, nats
    hits: np.ndarray | None = None  # (n,) of the first n contexts: the human reply came first


@dataclass(frozen=True)
class Lengths:
    """In tokens of the generator: of a prompt, and of a response with its EOS."""

    context_length: int
    response_length: int


def measure_generator(
    generator: Generator,
    reference: Generator | None,
    examples: Sequence[Example],
    scorers: Mapping[str, Scorer],
    *,
    samples: int,
    lengths: Lengths,
    seed: int,
    description: str,
    temperature: float = 1.0,
) -> Measurement:
    """Samples `samples` replies per context and scores them, and the likelihood of people's.

    Args:
        reference: what the KL is measured from; None or the generator itself: 0. It must have the
            same tokenizer.
        temperature: of the sampling; the KL is that of what is sampled at 1, else None.
    """
    anchor = None if reference is None or reference is generator else _frozen(reference)
    own = _frozen(generator)
    at_one = temperature == 1
    replies: list[list[str]] = []
    kl: list[np.ndarray] = []
    starts = range(0, len(examples), SAMPLING_BATCH)
    with (
        torch.random.fork_rng(),
        torch.no_grad(),
        progress(description, len(starts) * samples) as advance,
    ):
        torch.manual_seed(seed)
        for start in starts:
            context = _prompts(generator, examples[start : start + SAMPLING_BATCH], lengths)
            columns, gaps = [], []
            for _ in range(samples):
                ids, mask = sample_responses(
                    generator.model,
                    *context,
                    max_tokens=lengths.response_length,
                    sampling=Sampling(temperature=temperature),
                )
                if anchor is None or not at_one:  # from itself, or of no interest
                    gaps.append(np.zeros(len(ids)))
                else:
                    gaps.append(_gap(own, anchor, *context, ids, mask))
                columns.append(decode_rows(generator, ids, mask))
                advance()
            replies += [list(row) for row in zip(*columns, strict=True)]
            kl.append(np.stack(gaps, axis=1))
    return Measurement(
        replies,
        _score(scorers, examples, replies),
        likelihoods(generator, examples, lengths),
        np.concatenate(kl) if at_one else None,
    )


def measure_humans(
    examples: Sequence[Example],
    scorers: Mapping[str, Scorer],
    generator: Generator,
    response_length: int,
) -> Measurement:
    """The human replies themselves, spelt and cut off as the generator's are."""
    replies = [[generator.round_trip(e.reply, response_length)] for e in examples]
    return Measurement(replies, _score(scorers, examples, replies))


def likelihoods(
    generator: Generator, examples: Sequence[Example], lengths: Lengths
) -> ReplyLikelihoods:
    """NLL of what people replied, token by token."""
    return reply_likelihoods(
        generator,
        [example.context for example in examples],
        [example.reply for example in examples],
        batch_size=BATCH,
        context_length=lengths.context_length,
        response_length=lengths.response_length,
    )


def _prompts(
    generator: Generator, examples: Sequence[Example], lengths: Lengths
) -> tuple[torch.Tensor, torch.Tensor]:
    prompts = encode_contexts(generator, [e.context for e in examples], lengths.context_length)
    ids, mask = pad_prompts(prompts, generator)
    return ids.to(generator.model.device), mask.to(generator.model.device)


def _gap(own: Policy, anchor: Policy, *inputs: torch.Tensor) -> np.ndarray:
    """log p - log p_anchor of each response, (B,) nats."""
    rows = zip(*(tensor.split(BATCH) for tensor in inputs), strict=True)
    gaps = [(own(*part).logprobs - anchor(*part).logprobs).sum(1) for part in rows]
    return torch.cat(gaps).double().cpu().numpy()


def _score(
    scorers: Mapping[str, Scorer], examples: Sequence[Example], replies: list[list[str]]
) -> dict[str, np.ndarray]:
    contexts = [e.context for e, row in zip(examples, replies, strict=True) for _ in row]
    flat = [reply for row in replies for reply in row]
    shape = (len(replies), len(replies[0]))
    return {
        name: scorer(contexts, flat).double().cpu().numpy().reshape(shape)
        for name, scorer in scorers.items()
    }


def _frozen(generator: Generator) -> Policy:
    disable_dropout(generator.model)
    return Policy(generator.model).eval().to(generator.model.device)
