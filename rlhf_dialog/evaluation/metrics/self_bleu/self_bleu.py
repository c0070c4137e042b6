"""self-BLEU: how much of each reply could be put together from the other replies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import datasets
import evaluate
import numpy as np
from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu

from rlhf_dialog.errors import UserError
from rlhf_dialog.evaluation.metrics.text import Gram, Normalization, mean, tokens

SAMPLE = 500

_CITATION = """\
@inproceedings{zhu-etal-2018-texygen,
    title = "Texygen: A Benchmarking Platform for Text Generation Models",
    author = "Zhu, Yaoming and Lu, Sidi and Zheng, Lei and Guo, Jiaxian and Zhang, Weinan and Wang,
        Jun and Yu, Yong",
    booktitle = "Proceedings of SIGIR 2018",
    year = "2018",
    pages = "1097--1100",
}
"""

_DESCRIPTION = """\
self-BLEU is the mean BLEU of each reply with all the other replies as its references (nltk, with
smoothing method 1). High means alike. Of more than `sample` replies, a random sample is compared.
"""

_INPUTS = """
Args:
    predictions (list[str]): the replies.
    n (int): longest n-grams of the BLEU, all weighted alike. Default 4.
    normalization (str): the unit: "words" (default), "parlai", "whitespace" or "characters".
    sample (int): at most this many replies are compared with each other. Default 500.
    seed (int): of the sample. Default 0.
Returns:
    self_bleu (float): between 0 and 1; 0.0 of fewer than two replies.
    compared (int): how many replies it was computed on.
    replies (int): how many there were.
Examples:
    >>> metric = evaluate.load("rlhf_dialog/evaluation/metrics/self_bleu")
    >>> metric.compute(predictions=["i do not know"] * 3)
    {'self_bleu': 1.0, 'compared': 3, 'replies': 3}
"""


class SelfBleu(NamedTuple):
    self_bleu: float
    compared: int  # replies it was computed on
    replies: int  # replies there were


def self_bleu(
    replies: Sequence[str],
    n: int = 4,
    normalization: Normalization = "words",
    sample: int = SAMPLE,
    seed: int = 0,
) -> SelfBleu:
    """Mean over replies of BLEU-n(reply; all other replies), nltk with smoothing method 1.

    The cost grows with the square of the number of replies, and so does the chance of a match: of
    more than `sample` replies, `sample` are drawn without replacement (NumPy's `default_rng(seed)`,
    from the sorted replies, so that their order does not matter), and those alone are compared.

    Raises:
        UserError: n < 1, sample < 2; normalization is unknown.
    """
    if n < 1 or sample < 2:
        raise UserError(f"n: {n} and sample: {sample} must be at least 1 and 2.")
    drawn: Sequence[str] = replies
    if len(replies) > sample:
        places = np.random.default_rng(seed).choice(len(replies), sample, replace=False)
        ordered = sorted(replies)
        drawn = [ordered[place] for place in places]
    counts = Counter(tuple(tokens(reply, normalization)) for reply in drawn)
    if len(drawn) < 2:
        return SelfBleu(0.0, len(drawn), len(replies))
    scores = [score for row in counts for score in [_bleu(row, counts, n)] * counts[row]]
    return SelfBleu(mean(scores), len(drawn), len(replies))


def _bleu(row: Gram, counts: Counter[Gram], n: int) -> float:
    """BLEU-n of one of the replies against all the others.

    BLEU takes the largest count and the nearest length among the references, so a reference that
    stands there twice changes nothing: one of each is enough.
    """
    others = [list(other) for other in counts if other != row or counts[row] > 1]
    smooth = SmoothingFunction().method1
    return float(sentence_bleu(others, list(row), [1 / n] * n, smooth))


class SelfBLEU(evaluate.Metric):
    """`self_bleu` behind the `evaluate` interface; see the card beside this file."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": datasets.Value("string")}),
            reference_urls=["https://arxiv.org/abs/1802.01886"],
        )

    def _compute(
        self,
        predictions: list[str],
        n: int = 4,
        normalization: Normalization = "words",
        sample: int = SAMPLE,
        seed: int = 0,
        **_: Any,
    ) -> dict[str, float]:
        return self_bleu(predictions, n, normalization, sample, seed)._asdict()
