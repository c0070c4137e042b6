"""Corpus chrF against human replies, by sacrebleu."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import datasets
import evaluate
from sacrebleu.metrics import CHRF

from rlhf_dialog.errors import UserError
from rlhf_dialog.evaluation.metrics.bleu.bleu import reference_streams

_CITATION = """\
@inproceedings{popovic-2015-chrf,
    title = "chrF: character n-gram F-score for automatic MT evaluation",
    author = "Popović, Maja",
    booktitle = "Proceedings of WMT 2015",
    year = "2015",
    pages = "392--395",
}
"""

_DESCRIPTION = """\
chrF is the F-score of character 1- to 6-grams, recall counting twice as much as precision; by
sacrebleu, with its signature. It needs no words, so it suits Korean and Japanese as they are.
"""

_INPUTS = """
Args:
    predictions (list[str]): the replies.
    references (list[list[str]]): the human replies to the same contexts, at least one for each.
    word_order (int): word n-grams up to this length count too: 0 (default) is chrF, 2 is chrF++.
Returns:
    chrf (float): of the corpus, between 0 and 100; 0.0 without replies.
    signature (str): sacrebleu's, which says how it was computed.
Examples:
    >>> metric = evaluate.load("rlhf_dialog/evaluation/metrics/chrf")
    >>> metric.compute(predictions=["몰라요"], references=[["몰라요"]])["chrf"]
    100.0
"""


class ChrF(NamedTuple):
    chrf: float  # 0 to 100
    signature: str


def chrf(replies: Sequence[str], references: Sequence[Sequence[str]], word_order: int = 0) -> ChrF:
    """sacrebleu's corpus chrF (β = 2, characters without white space), in [0, 100].

    Characters are code points: a whole emoji may be several.

    Raises:
        UserError: as many references as replies are not there, one is a bare string, or none is
            given for a reply; word_order < 0.
    """
    if word_order < 0:
        raise UserError(f"word_order: {word_order} is negative; 0 is chrF and 2 is chrF++.")
    metric = CHRF(word_order=word_order)
    columns = reference_streams(replies, references)
    score = metric.corpus_score(replies, columns).score if replies else 0.0
    return ChrF(float(score), str(metric.get_signature()) if replies else "")


class ChrFMetric(evaluate.Metric):
    """`chrf` behind the `evaluate` interface; see the card beside this file."""

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
            reference_urls=["https://aclanthology.org/W15-3049"],
        )

    def _compute(
        self, predictions: list[str], references: list[list[str]], word_order: int = 0
    ) -> dict[str, Any]:
        return chrf(predictions, references, word_order)._asdict()
