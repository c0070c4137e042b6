"""Repetition: within a reply, and from one reply to the next."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import datasets
import evaluate

from rlhf_dialog.evaluation.metrics.text import (
    Normalization,
    Tokens,
    mean,
    ngrams,
    tokenized,
)

_CITATION = """\
@inproceedings{welleck-etal-2020-neural,
    title = "Neural Text Generation with Unlikelihood Training",
    author = "Welleck, Sean and Kulikov, Ilia and Roller, Stephen and Dinan, Emily and Cho,
        Kyunghyun and Weston, Jason",
    booktitle = "International Conference on Learning Representations",
    year = "2020",
}
"""

_DESCRIPTION = """\
Repetition within a reply (seq-rep-n: the share of its n-grams that stood in it before) and between
replies (the share that somebody gave already, and the share of the most frequent one).
"""

_INPUTS = """
Args:
    predictions (list[str]): the replies.
    n (int): length of the n-grams, in tokens. Default 1.
    normalization (str): the unit: "words" (default), "parlai", "whitespace" or "characters".
Returns:
    within (float): mean over replies of 1 - unique n-grams / n-grams, replies without skipped.
    duplicates (float): share of replies that are the same, in tokens, as an earlier one.
    most_frequent (float): share of the most frequent reply.
Examples:
    >>> metric = evaluate.load("rlhf_dialog/evaluation/metrics/repetition")
    >>> metric.compute(predictions=["no no no no", "yes", "Yes"])
    {'within': 0.25, 'duplicates': 0.3333333333333333, 'most_frequent': 0.6666666666666666}
"""


class Repetition(NamedTuple):
    within: float  # mean share of a reply's n-grams that stood in it before
    duplicates: float  # share of replies equal to an earlier one
    most_frequent: float  # share of the most frequent reply


def repetition(
    replies: Sequence[str], n: int = 1, normalization: Normalization = "words"
) -> Repetition:
    """Repetition within and between replies, each a share in [0, 1]; all 0.0 without replies.

    within:         mean of 1 − |set(gramsₙ(r))| / |gramsₙ(r)| over the replies that have an n-gram
    duplicates:     1 − different replies / replies, equal when their tokens are
    most_frequent:  largest count of one reply / replies

    Raises:
        UserError: n < 1; normalization is unknown.
    """
    rows = tokenized(replies, normalization)
    within = repeated_within(rows, n)
    counts = Counter(map(tuple, rows))
    size = max(1, len(rows))
    return Repetition(
        mean([share for share in within if share is not None]),
        (len(rows) - len(counts)) / size,
        max(counts.values(), default=0) / size,
    )


def repeated_within(rows: Sequence[Tokens], n: int = 1) -> list[float | None]:
    """Share of each tokenized reply's n-grams that stood in it before; None where it has none."""
    grams = [list(ngrams(row, n)) for row in rows]
    return [1 - len(set(of_reply)) / len(of_reply) if of_reply else None for of_reply in grams]


class RepetitionMetric(evaluate.Metric):
    """`repetition` behind the `evaluate` interface; see the card beside this file."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": datasets.Value("string")}),
            reference_urls=["https://arxiv.org/abs/1908.04319"],
        )

    def _compute(
        self,
        predictions: list[str],
        n: int = 1,
        normalization: Normalization = "words",
        **_: Any,
    ) -> dict[str, float]:
        return repetition(predictions, n, normalization)._asdict()
