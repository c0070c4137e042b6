"""Context overlap: how much of a reply repeats what was just said to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, get_args

import datasets
import evaluate

from rlhf_dialog.evaluation.metrics.text import (
    Normalization,
    lists_of_texts,
    mean,
    ngrams,
    one_for_each,
    tokenized,
    tokens,
    unknown,
)

Turns = Literal["all", "last"]

_CITATION = """\
@inproceedings{see-etal-2019-makes,
    title = "What makes a good conversation? How controllable attributes affect human judgments",
    author = "See, Abigail and Roller, Stephen and Kiela, Douwe and Weston, Jason",
    booktitle = "Proceedings of NAACL-HLT 2019",
    year = "2019",
    pages = "1702--1723",
}
"""

_DESCRIPTION = """\
Context overlap is the mean share of a reply's n-grams that occur in its context, and the share of
replies that are a turn of their context, word for word. 0 answers nobody; much parrots.
"""

_INPUTS = """
Args:
    predictions (list[str]): the replies.
    contexts (list[list[str]]): the turns before each, oldest first.
    n (int): length of the n-grams, in tokens. Default 1.
    normalization (str): the unit: "words" (default), "parlai", "whitespace" or "characters".
    turns (str): "all" turns of a context (default), or the "last" one.
Returns:
    overlap (float): mean share, over the replies that have an n-gram; 0.0 when none has.
    parroted (float): share of replies that are a turn of their context; an empty reply is none.
Examples:
    >>> metric = evaluate.load("rlhf_dialog/evaluation/metrics/context_overlap")
    >>> metric.compute(predictions=["the tide is in"], contexts=[["hello", "where is the tide"]])
    {'overlap': 0.75, 'parroted': 0.0}
"""


class ContextOverlap(NamedTuple):
    overlap: float  # mean share of a reply's n-grams
    parroted: float  # share of the replies


def context_overlap(
    replies: Sequence[str],
    contexts: Sequence[Sequence[str]],
    n: int = 1,
    normalization: Normalization = "words",
    turns: Turns = "all",
) -> ContextOverlap:
    """Mean of |{g ∈ gramsₙ(reply) : g ∈ gramsₙ(context)}| / |gramsₙ(reply)|, and parroted replies.

    n-grams do not run from one turn into the next. Those of the reply are counted as often as they
    occur in it. A reply without an n-gram is skipped; one with an empty context overlaps by 0.

    Raises:
        UserError: as many contexts as replies are not there, or one is a bare string; n < 1;
            normalization or turns is unknown.
    """
    shares, parroted = overlap_by_reply(replies, contexts, n, normalization, turns)
    return ContextOverlap(mean([share for share in shares if share is not None]), mean(parroted))


def overlap_by_reply(
    replies: Sequence[str],
    contexts: Sequence[Sequence[str]],
    n: int = 1,
    normalization: Normalization = "words",
    turns: Turns = "all",
) -> tuple[list[float | None], list[bool]]:
    """What `context_overlap` is the mean of: each reply's share (None without an n-gram), and
    whether it is a turn of its context. Errors are those of `context_overlap`."""
    if turns not in get_args(Turns):
        raise unknown("turns", turns, get_args(Turns))
    one_for_each(replies=replies, contexts=contexts)
    lists_of_texts("contexts", contexts)
    shares: list[float | None] = []
    parroted = []
    for reply, context in zip(replies, contexts, strict=True):
        row = tokens(reply, normalization)
        said = tokenized(context if turns == "all" else context[-1:], normalization)
        known = {gram for turn in said for gram in ngrams(turn, n)}
        grams = list(ngrams(row, n))
        shares.append(mean([gram in known for gram in grams]) if grams else None)
        parroted.append(bool(row) and row in said)
    return shares, parroted


class ContextOverlapMetric(evaluate.Metric):
    """`context_overlap` behind the `evaluate` interface; see the card beside this file."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=datasets.Features(
                {
                    "predictions": datasets.Value("string"),
                    "contexts": datasets.List(datasets.Value("string")),
                }
            ),
        )

    def _compute(
        self,
        predictions: list[str],
        contexts: list[list[str]],
        n: int = 1,
        normalization: Normalization = "words",
        turns: Turns = "all",
        **_: Any,
    ) -> dict[str, float]:
        return context_overlap(predictions, contexts, n, normalization, turns)._asdict()
