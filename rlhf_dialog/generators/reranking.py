"""Which of several candidates is the reply: scores of (context, reply), all of one signature.

A scorer is any callable `(contexts, replies) -> FloatTensor (B,)`, higher is better: those of this
page, a discriminator, a choice head, a reward.

==============  ===================================================================================
likelihood      mean log p(token | context, tokens before): sample-and-rank (Meena, Adiwardana et
                al. 2020, section 2.5: N = 20 samples at temperature 0.88)
mmi             (1 - λ) log p(reply | context) + λ log p(context | reply), nats (Li et al. 2016,
                MMI-bidi); λ = 1 is DialoGPT's ranking of top-k samples by a reverse model (Zhang
                et al. 2020, section 3.2: N = 16, k = 10)
==============  ===================================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch

from rlhf_dialog.dialogues.schema import Context
from rlhf_dialog.errors import UserError
from rlhf_dialog.generators.distributions import token_logprobs
from rlhf_dialog.generators.loading import Generator
from rlhf_dialog.generators.policy import response_logits
from rlhf_dialog.generators.prompts import encode_batch
from rlhf_dialog.settings import DecodingSettings

Contexts = Sequence[Sequence[str]]
TextScorer = Callable[[Contexts, Sequence[str]], torch.Tensor]

SCORING_BATCH = 64


class Candidate(NamedTuple):
    """A reply, and what the scorer thinks of it; None without a scorer."""

    text: str
    score: float | None = None


def rank(
    contexts: Contexts, candidates: Sequence[Sequence[str]], scorer: TextScorer
) -> list[list[Candidate]]:
    """The candidates of each context, the best first; equal scores keep their order."""
    flat = [
        (context, reply) for context, row in zip(contexts, candidates, strict=True) for reply in row
    ]
    scores = iter(scorer([c for c, _ in flat], [r for _, r in flat]).tolist() if flat else [])
    scored = [[Candidate(reply, next(scores)) for reply in row] for row in candidates]
    return [sorted(row, key=lambda candidate: -(candidate.score or 0.0)) for row in scored]


@torch.no_grad()
def log_likelihoods(
    generator: Generator,
    contexts: Contexts,
    replies: Sequence[str],
    *,
    context_length: int,
    response_length: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """log p(reply | context) in nats (B,) float32, and the tokens of the replies, EOS among them
    (B,), on the CPU. The distribution is the model's own, at temperature 1."""
    generator.model.eval()
    sums, tokens = [torch.zeros(0)], [torch.zeros(0)]
    for start in range(0, len(replies), SCORING_BATCH):
        chosen = slice(start, start + SCORING_BATCH)
        batch = encode_batch(
            generator,
            contexts[chosen],
            replies[chosen],
            context_length=context_length,
            response_length=response_length,
        )
        logits, _ = response_logits(generator.model, *batch)
        logprobs = token_logprobs(logits.float(), batch[2]).masked_fill(~batch[3], 0.0)
        sums.append(logprobs.sum(1).cpu())
        tokens.append(batch[3].sum(1).cpu())
    return torch.cat(sums), torch.cat(tokens)


def named_scorer(
    settings: DecodingSettings,
    generator: Generator,
    *,
    context_length: int,
    reverse: Generator | None = None,
    discriminator: TextScorer | None = None,
) -> TextScorer | None:
    """What `settings.rerank` names; None for "none".

    Raises:
        UserError: it needs a reverse model or a discriminator that is not there.
    """
    lengths = {"context_length": context_length, "response_length": settings.response_length}
    if settings.rerank == "likelihood":
        return LikelihoodScorer(generator, **lengths)
    if settings.rerank == "mmi":
        if reverse is None:
            raise UserError(
                "--reverse_generator: is needed for rerank mmi; train one with "
                "recipes/warm_start.py --warm_start_reverse true."
            )
        return MMIScorer(generator, reverse, weight=settings.mmi_weight, **lengths)
    if settings.rerank == "discriminator" and discriminator is None:
        raise UserError(
            "--discriminator: is needed for rerank discriminator; give a folder that "
            "train_discriminator.py wrote, or any classifier with one logit."
        )
    return discriminator if settings.rerank == "discriminator" else None


class LikelihoodScorer:
    """Mean log-likelihood of a reply's tokens under a generator."""

    def __init__(self, generator: Generator, *, context_length: int, response_length: int) -> None:
        self.generator = generator
        self.lengths = {"context_length": context_length, "response_length": response_length}

    def __call__(self, contexts: Contexts, replies: Sequence[str]) -> torch.Tensor:
        sums, tokens = log_likelihoods(self.generator, contexts, replies, **self.lengths)
        return sums / tokens


class MMIScorer:
    """How well the reply says what it answers, by a reverse model; see the table above.

    The reverse model was trained on dialogues read backwards (`warm_start_reverse`), so
    log p(context | reply) is the sum over turns, newest first, of each given the reply and the
    turns after it.

    Args:
        weight: λ, from 0 (the generator's likelihood alone) to 1 (the reverse model's alone).
    """

    def __init__(
        self,
        generator: Generator,
        reverse: Generator,
        *,
        context_length: int,
        response_length: int,
        weight: float = 1.0,
    ) -> None:
        self.generator, self.reverse, self.weight = generator, reverse, weight
        self.context_length, self.response_length = context_length, response_length

    def __call__(self, contexts: Contexts, replies: Sequence[str]) -> torch.Tensor:
        scores = torch.zeros(len(replies))
        if self.weight < 1:
            forward, _ = log_likelihoods(
                self.generator,
                contexts,
                replies,
                context_length=self.context_length,
                response_length=self.response_length,
            )
            scores += (1 - self.weight) * forward
        owners, befores, turns = [], [], []
        for row, (context, reply) in enumerate(zip(contexts, replies, strict=True)):
            backwards = [reply, *reversed(context)]
            for place in range(1, len(backwards)):
                owners.append(row)
                befores.append(Context(backwards[:place]))
                turns.append(backwards[place])
        said, _ = log_likelihoods(
            self.reverse,
            befores,
            turns,
            context_length=self.context_length,
            response_length=self.context_length,  # turns are as long as what prompts are made of
        )
        return scores.index_add(0, torch.tensor(owners), self.weight * said)
