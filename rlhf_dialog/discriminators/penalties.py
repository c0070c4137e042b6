"""Penalties on the words of a reply, for a `WeightedSum` beside a discriminator's score.

Each is a `TextReward` between -1 (worst) and 0 (nothing to blame), so it takes a positive weight.
Words and n-grams are those of `dialogues.words`, which knows scripts without spaces.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from rlhf_dialog.dialogues.words import count_words, ngrams, tokenize
from rlhf_dialog.discriminators.rewards import Contexts, TextReward, Texts
from rlhf_dialog.errors import UserError


class _Penalty(TextReward):
    """Looks at one reply and its context at a time; -1 is worst, 0 is nothing to blame."""

    def score(self, contexts: Contexts, replies: Texts, references: Texts | None = None) -> Tensor:
        pairs = zip(contexts, replies, strict=True)
        return torch.tensor([0.0 - self.blame(context, reply) for context, reply in pairs])

    @abstractmethod
    def blame(self, context: Sequence[str], reply: str) -> float:
        """From 0 to 1."""


class RepetitionPenalty(_Penalty):
    """Minus the share of the reply's n-grams that were said before in it: -(1 - unique / all).

    0 for a reply of fewer than n + 1 tokens.
    """

    name = "repetition_penalty"

    def __init__(self, n: int = 2) -> None:
        self.n = _at_least_one(n)

    def blame(self, context: Sequence[str], reply: str) -> float:
        grams = list(ngrams(tokenize(reply), self.n))
        return 1 - len(set(grams)) / len(grams) if grams else 0.0


class CopyPenalty(_Penalty):
    """Minus the share of the reply's n-grams that stand in a turn of the context.

    A reply of fewer than n tokens counts as one n-gram of its own length: a policy that has
    turned to repeating a name of the context says little else. An empty reply copies nothing.
    """

    name = "copy_penalty"

    def __init__(self, n: int = 3) -> None:
        self.n = _at_least_one(n)

    def blame(self, context: Sequence[str], reply: str) -> float:
        tokens = tokenize(reply)
        n = min(self.n, len(tokens))
        if n == 0:
            return 0.0
        said = {gram for turn in context for gram in ngrams(tokenize(turn), n)}
        grams = list(ngrams(tokens, n))
        return sum(gram in said for gram in grams) / len(grams)


class LengthPenalty(_Penalty):
    """0 within a band of `least` to `most` words; outside it, with w words,

        -(least - w) / least   below         -min(1, (w - most) / most)   above

    Words are tokens that are not punctuation; a character counts as one where a script has no
    spaces.
    """

    name = "length_penalty"

    def __init__(self, least: int, most: int) -> None:
        if not 0 <= least <= most or most < 1:
            raise UserError(
                f"length penalty: from {least} to {most} words is no band; give 0 <= least <= most."
            )
        self.least, self.most = least, most

    def blame(self, context: Sequence[str], reply: str) -> float:
        words = count_words(reply)
        if words < self.least:
            return (self.least - words) / self.least
        return min(1.0, max(0, words - self.most) / self.most)


def _at_least_one(n: int) -> int:
    if n < 1:
        raise UserError(f"n-grams of a penalty: {n} must be at least 1.")
    return n
