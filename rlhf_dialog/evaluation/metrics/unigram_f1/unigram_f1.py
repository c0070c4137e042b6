"""Unigram F1 and exact match with human replies, as ParlAI computes them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import datasets
import evaluate

from rlhf_dialog.evaluation.metrics.text import (
    Normalization,
    Tokens,
    check_references,
    mean,
    tokenized,
)

_CITATION = """\
@inproceedings{miller-etal-2017-parlai,
    title = "ParlAI: A Dialog Research Software Platform",
    author = "Miller, Alexander and Feng, Will and Batra, Dhruv and Bordes, Antoine and Fisch, Adam
        and Lu, Jiasen and Parikh, Devi and Weston, Jason",
    booktitle = "Proceedings of EMNLP 2017: System Demonstrations",
    year = "2017",
    pages = "79--84",
}
"""

_DESCRIPTION = """\
Unigram F1 is the harmonic mean of the share of a reply's words that stand in a human reply, and of
the human reply's words that stand in it; the best of several human replies counts.
"""

_INPUTS = """
Args:
    predictions (list[str]): the replies.
    references (list[list[str]]): the human replies to the same contexts, at least one for each.
    normalization (str): the unit: "parlai" (default), "words", "whitespace" or "characters".
Returns:
    f1 (float): mean over replies, between 0 and 1; an empty reply counts 0.
    exact_match (float): share of replies whose tokens are those of a human reply.
Examples:
    >>> metric = evaluate.load("rlhf_dialog/evaluation/metrics/unigram_f1")
    >>> metric.compute(predictions=["the cat sat"], references=[["a cat sat down"]])
    {'f1': 0.8, 'exact_match': 0.0}
"""


class UnigramF1(NamedTuple):
    f1: float
    exact_match: float


def f1_scores(
    replies: Sequence[str],
    references: Sequence[Sequence[str]],
    normalization: Normalization = "parlai",
) -> list[float]:
    """F1 of each reply with the one of its references that suits it best, in [0, 1].

    precision = matches / |reply|, recall = matches / |reference|, F1 = 2·p·r / (p + r), where words
    match as often as they occur in both; 0 without a match.

    Raises:
        UserError: as many references as replies are not there, one is a bare string, or none is
            given for a reply; normalization is unknown.
    """
    return _best_f1(*_as_tokens(replies, references, normalization))


def unigram_f1(
    replies: Sequence[str],
    references: Sequence[Sequence[str]],
    normalization: Normalization = "parlai",
) -> UnigramF1:
    """Mean of `f1_scores`, and the share of exact matches; both 0.0 without replies.

    Raises:
        UserError: as `f1_scores`.
    """
    rows, truths = _as_tokens(replies, references, normalization)
    exact = [row in truth for row, truth in zip(rows, truths, strict=True)]
    return UnigramF1(mean(_best_f1(rows, truths)), mean(exact))


def _as_tokens(
    replies: Sequence[str], references: Sequence[Sequence[str]], normalization: Normalization
) -> tuple[list[list[str]], list[list[list[str]]]]:
    check_references(replies, references)
    return tokenized(replies, normalization), [tokenized(r, normalization) for r in references]


def _best_f1(rows: Sequence[Tokens], truths: Sequence[Sequence[Tokens]]) -> list[float]:
    return [
        max(_f1(row, truth) for truth in of_row) for row, of_row in zip(rows, truths, strict=True)
    ]


def _f1(reply: Tokens, truth: Tokens) -> float:
    matches = (Counter(reply) & Counter(truth)).total()
    # 2pr / (p + r) with p = matches / |reply| and r = matches / |truth|
    return 2 * matches / (len(reply) + len(truth)) if matches else 0.0


class UnigramF1Metric(evaluate.Metric):
    """`unigram_f1` behind the `evaluate` interface; see the card beside this file."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=datasets.Features(
                {
                    "predictions": datasets.Value("string"),
                    "references": datasets.List(datasets.Value("string")),
                }
            ),
            reference_urls=["https://aclanthology.org/D17-2014"],
        )

    def _compute(
        self,
        predictions: list[str],
        references: list[list[str]],
        normalization: Normalization = "parlai",
    ) -> dict[str, float]:
        return unigram_f1(predictions, references, normalization)._asdict()
