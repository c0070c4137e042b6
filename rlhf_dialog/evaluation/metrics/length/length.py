"""Length: how long replies are, in a unit that is named."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import datasets
import evaluate
import numpy as np

from rlhf_dialog.evaluation.metrics.text import Normalization, mean, tokenized

_CITATION = """\
@inproceedings{galley-etal-2019-grounded,
    title = "Grounded Response Generation Task at DSTC7",
    author = "Galley, Michel and Brockett, Chris and Gao, Xiang and Gao, Jianfeng and Dolan, Bill",
    booktitle = "AAAI Dialog System Technology Challenges Workshop",
    year = "2019",
}
"""

_DESCRIPTION = """\
The length of replies: mean, standard deviation, median, shortest, longest, and the share of empty
ones. Many rewards can be raised by length alone, so it belongs beside every score.
"""

_INPUTS = """
Args:
    predictions (list[str]): the replies.
    normalization (str): the unit: "whitespace" (default: what lies between spaces, punctuation
        included), "words", "parlai" or "characters".
Returns:
    mean, std, median, shortest, longest (float): in that unit; std divides by the number of
        replies. All 0.0 without replies.
    empty (float): share of replies of length 0.
Examples:
    >>> metric = evaluate.load("rlhf_dialog/evaluation/metrics/length")
    >>> metric.compute(predictions=["yes", "i do not know."])["mean"]
    2.5
"""


class Length(NamedTuple):
    mean: float
    std: float  # of the population: divides by the number of replies
    median: float
    shortest: float
    longest: float
    empty: float  # share of replies of length 0


def lengths(replies: Sequence[str], normalization: Normalization = "whitespace") -> list[int]:
    """The number of tokens of each reply.

    Raises:
        UserError: normalization is unknown.
    """
    return [len(row) for row in tokenized(replies, normalization)]


def length(replies: Sequence[str], normalization: Normalization = "whitespace") -> Length:
    """Mean, spread and extremes of `lengths`; all 0.0 without replies.

    Raises:
        UserError: normalization is unknown.
    """
    counts = lengths(replies, normalization)
    if not counts:
        return Length(0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    centre = mean(counts)
    return Length(
        centre,
        mean([(count - centre) ** 2 for count in counts]) ** 0.5,
        float(np.median(counts)),
        float(min(counts)),
        float(max(counts)),
        counts.count(0) / len(counts),
    )


class LengthMetric(evaluate.Metric):
    """`length` behind the `evaluate` interface; see the card beside this file."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": datasets.Value("string")}),
        )

    def _compute(
        self,
        predictions: list[str],
        normalization: Normalization = "whitespace",
        **_: Any,
    ) -> dict[str, float]:
        return length(predictions, normalization)._asdict()
