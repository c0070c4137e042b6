"""entropy-n: how evenly a set of replies spreads over its n-grams, in nats."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import datasets
import evaluate

from rlhf_dialog.evaluation.metrics.text import Normalization, ngrams, tokenized

_CITATION = """\
@inproceedings{zhang-etal-2018-generating,
    title = "Generating Informative and Diverse Conversational Responses via Adversarial Information
        Maximization",
    author = "Zhang, Yizhe and Galley, Michel and Gao, Jianfeng and Gan, Zhe and Li, Xiujun and
        Brockett, Chris and Dolan, Bill",
    booktitle = "Advances in Neural Information Processing Systems 31",
    year = "2018",
}
"""

_DESCRIPTION = """\
entropy-n is the Shannon entropy, in nats, of the n-gram frequencies of a set of replies. 0 means
that one n-gram is all there is; ln N is reached when N n-grams are equally frequent.
"""

_INPUTS = """
Args:
    predictions (list[str]): the replies.
    n (int): length of the n-grams, in tokens. Default 4, as DialoGPT and DSTC7 report it.
    normalization (str): the unit: "words" (default), "parlai", "whitespace" or "characters".
Returns:
    entropy (float): nats, between 0 and the logarithm of the number of n-grams; 0.0 of none.
Examples:
    >>> metric = evaluate.load("rlhf_dialog/evaluation/metrics/entropy_n")
    >>> metric.compute(predictions=["yes no", "no yes"], n=1)
    {'entropy': 0.6931471805599453}
"""


def entropy_n(replies: Sequence[str], n: int = 4, normalization: Normalization = "words") -> float:
    """−Σ p ln p over the n-grams of all replies, p = count / all counts; nats, 0.0 of none.

    Raises:
        UserError: n < 1; normalization is unknown.
    """
    counts = Counter(gram for row in tokenized(replies, normalization) for gram in ngrams(row, n))
    total = counts.total()
    return math.fsum(count / total * math.log(total / count) for count in counts.values())


class EntropyN(evaluate.Metric):
    """`entropy_n` behind the `evaluate` interface; see the card beside this file."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": datasets.Value("string")}),
            reference_urls=["https://arxiv.org/abs/1809.05972"],
        )

    def _compute(
        self,
        predictions: list[str],
        n: int = 4,
        normalization: Normalization = "words",
        **_: Any,
    ) -> dict[str, float]:
        return {"entropy": entropy_n(predictions, n, normalization)}
