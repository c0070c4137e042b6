"""distinct-n: how many of the n-grams in a set of replies are different from each other.

The class has to be written `evaluate.Metric`: `evaluate.load("<this folder>")` takes the first
metric class that it finds in the file, and a `from evaluate import Metric` would be that class.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, get_args

import datasets
import evaluate

from rlhf_dialog.errors import UserError
from rlhf_dialog.evaluation.metrics.text import (
    Normalization,
    mean,
    ngrams,
    tokenized,
    tokens,
    unknown,
)

__all__ = ["DistinctN", "distinct_n", "ngrams", "tokens"]

Level = Literal["corpus", "reply", "reply_short_as_0", "li2016", "expectation_adjusted"]

_CITATION = """\
@inproceedings{li-etal-2016-diversity,
    title = "A Diversity-Promoting Objective Function for Neural Conversation Models",
    author = "Li, Jiwei and Galley, Michel and Brockett, Chris and Gao, Jianfeng and Dolan, Bill",
    booktitle = "Proceedings of NAACL-HLT 2016",
    year = "2016",
    pages = "110--119",
}
@inproceedings{liu-etal-2022-rethinking,
    title = "Rethinking and Refining the Distinct Metric",
    author = "Liu, Siyang and Sabour, Sahand and Zheng, Yinhe and Ke, Pei and Zhu, Xiaoyan and
        Huang, Minlie",
    booktitle = "Proceedings of ACL 2022, short papers",
    year = "2022",
    pages = "762--770",
}
"""

_DESCRIPTION = """\
distinct-n is the share of different n-grams among all n-grams of a set of replies. 1 means that no
n-gram is said twice; a model that gives one reply to everything falls towards 0.
"""

_INPUTS = """
Args:
    predictions (list[str]): the replies.
    n (int): length of the n-grams, in tokens. Default 2.
    level (str): the definition: "corpus" (default), "reply", "reply_short_as_0", "li2016" or
        "expectation_adjusted"; see the card. All are 0.0 when there is no n-gram at all.
    normalization (str): the unit: "words" (default), "parlai", "whitespace" or "characters".
    vocabulary_size (int): V of "expectation_adjusted", which needs it; nothing else reads it.
Returns:
    distinct (float): between 0 and 1; "expectation_adjusted" may exceed 1.
Examples:
    >>> metric = evaluate.load("rlhf_dialog/evaluation/metrics/distinct_n")
    >>> metric.compute(predictions=["no no no", "yes"], n=1)
    {'distinct': 0.5}
"""


def distinct_n(
    replies: Sequence[str],
    n: int = 2,
    level: Level = "corpus",
    normalization: Normalization = "words",
    vocabulary_size: int | None = None,
) -> float:
    """Unique n-grams over all n-grams; 0.0 when there is no n-gram.

    With N = |⋃ᵣ set(gramsₙ(r))| unique ones and C = Σᵣ |gramsₙ(r)| in all:

    corpus:                N / C      (DSTC7, DialoGPT, ParlAI's interdistinct)
    reply:                 mean of |set(gramsₙ(r))| / |gramsₙ(r)| over replies that have an n-gram
    reply_short_as_0:      the same over all replies, 0 for one without (ParlAI's intradistinct)
    li2016:                N / Σᵣ |tokens(r)|, for n = 2 too (Li et al. 2016)
    expectation_adjusted:  N / (V·(1 − ((V−1)/V)^C))      (Liu et al. 2022)

    Args:
        vocabulary_size: V, the number of n-grams that could have been drawn.

    Raises:
        UserError: n < 1; level or normalization is unknown; V is missing or below 1.
    """
    rows = tokenized(replies, normalization)
    grams = [list(ngrams(row, n)) for row in rows]
    total = sum(map(len, grams))
    unique = len(set().union(*grams))
    ratios = [len(set(of_reply)) / len(of_reply) for of_reply in grams if of_reply]
    if level == "corpus":
        return unique / max(1, total)
    if level == "reply":
        return mean(ratios)
    if level == "reply_short_as_0":
        return mean(ratios) * len(ratios) / max(1, len(grams))
    if level == "li2016":
        return unique / max(1, sum(map(len, rows)))
    if level == "expectation_adjusted":
        expected = _expected_unique(total, vocabulary_size)
        return unique / expected if total else 0.0
    raise unknown("level", level, get_args(Level))


def _expected_unique(draws: int, vocabulary_size: int | None) -> float:
    """V·(1 − (1−1/V)^C): how many of V equally likely n-grams C draws bring to light."""
    if vocabulary_size is None or vocabulary_size < 1:
        raise UserError(
            f"vocabulary_size: {vocabulary_size} will not do for level 'expectation_adjusted'; "
            "give the number of tokens that the generator can write."
        )
    if vocabulary_size == 1:
        return 1.0
    return -vocabulary_size * math.expm1(draws * math.log1p(-1 / vocabulary_size))


class DistinctN(evaluate.Metric):
    """`distinct_n` behind the `evaluate` interface; see the card beside this file."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": datasets.Value("string")}),
            reference_urls=[
                "https://aclanthology.org/N16-1014",
                "https://aclanthology.org/2022.acl-short.86",
            ],
        )

    def _compute(
        self,
        predictions: list[str],
        n: int = 2,
        level: Level = "corpus",
        normalization: Normalization = "words",
        vocabulary_size: int | None = None,
        **_: Any,  # `evaluate` passes references=None to a metric that has no references
    ) -> dict[str, float]:
        return {"distinct": distinct_n(predictions, n, level, normalization, vocabulary_size)}
