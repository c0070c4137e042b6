"""Corpus BLEU against human replies, by sacrebleu."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from typing import Any, Literal, NamedTuple, get_args

import datasets
import evaluate
from sacrebleu.metrics import BLEU

from rlhf_dialog.evaluation.metrics.text import check_references, unknown

# Those of sacrebleu that download nothing.
Tokenizer = Literal["13a", "intl", "char", "zh", "ja-mecab", "ko-mecab", "none"]

_CITATION = """\
@inproceedings{papineni-etal-2002-bleu,
    title = "Bleu: a Method for Automatic Evaluation of Machine Translation",
    author = "Papineni, Kishore and Roukos, Salim and Ward, Todd and Zhu, Wei-Jing",
    booktitle = "Proceedings of ACL 2002",
    year = "2002",
    pages = "311--318",
}
@inproceedings{post-2018-call,
    title = "A Call for Clarity in Reporting BLEU Scores",
    author = "Post, Matt",
    booktitle = "Proceedings of WMT 2018",
    year = "2018",
    pages = "186--191",
}
"""

_DESCRIPTION = """\
BLEU is the geometric mean of the shares of a corpus's 1- to 4-grams that stand in the references,
times a penalty for being shorter than they are; by sacrebleu, with its signature.
"""

_INPUTS = """
Args:
    predictions (list[str]): the replies.
    references (list[list[str]]): the human replies to the same contexts, at least one for each.
    tokenize (str): sacrebleu's tokenizer: "13a" (default), "intl", "char", "zh", "none", or, with
        packages of their own, "ja-mecab" and "ko-mecab".
Returns:
    bleu (float): of the corpus, between 0 and 100; 0.0 without replies.
    signature (str): sacrebleu's, which says how it was computed.
Examples:
    >>> metric = evaluate.load("rlhf_dialog/evaluation/metrics/bleu")
    >>> references = [["the cat sat down there"]]
    >>> score = metric.compute(predictions=["the cat sat down"], references=references)
    >>> round(score["bleu"], 2)
    77.88
"""


class Bleu(NamedTuple):
    bleu: float  # 0 to 100
    signature: str


def bleu(
    replies: Sequence[str],
    references: Sequence[Sequence[str]],
    tokenize: Tokenizer = "13a",
) -> Bleu:
    """sacrebleu's corpus BLEU-4 with exponential smoothing, in [0, 100]; 0.0 without replies.

    Raises:
        UserError: as many references as replies are not there, one is a bare string, or none is
            given for a reply; tokenize is unknown.
    """
    if tokenize not in get_args(Tokenizer):
        raise unknown("tokenize", tokenize, get_args(Tokenizer))
    # force: dialogue models write tokenized text, about which sacrebleu would warn
    metric = BLEU(tokenize=tokenize, force=True)
    columns = reference_streams(replies, references)
    score = metric.corpus_score(replies, columns).score if replies else 0.0
    return Bleu(float(score), str(metric.get_signature()) if replies else "")


def reference_streams(
    replies: Sequence[str], references: Sequence[Sequence[str]]
) -> list[list[Any]]:
    """References a reply (N lists) as sacrebleu takes them: a column of N for the first reference
    of each reply, one for the second, and None where a reply has no such.

    Raises:
        UserError: as `bleu`.
    """
    check_references(replies, references)
    return [list(column) for column in zip_longest(*references)]


class BleuMetric(evaluate.Metric):
    """`bleu` behind the `evaluate` interface; see the card beside this file."""

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
            reference_urls=["https://aclanthology.org/W18-6319"],
        )

    def _compute(
        self, predictions: list[str], references: list[list[str]], tokenize: Tokenizer = "13a"
    ) -> dict[str, Any]:
        return bleu(predictions, references, tokenize)._asdict()
