"""Copying: how much of the replies stands word for word in the script they were trained on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import datasets
import evaluate

from rlhf_dialog.errors import UserError
from rlhf_dialog.evaluation.metrics.text import Normalization, Tokens, mean, ngrams, tokenized

_CITATION = """\
@article{mccoy-etal-2023-raven,
    title = "How Much Do Language Models Copy From Their Training Data? Evaluating Linguistic
        Novelty in Text Generation Using RAVEN",
    author = "McCoy, R. Thomas and Smolensky, Paul and Linzen, Tal and Gao, Jianfeng and
        Celikyilmaz, Asli",
    journal = "Transactions of the Association for Computational Linguistics",
    volume = "11",
    year = "2023",
    pages = "652--670",
}
"""

_DESCRIPTION = """\
Copying against a script: the longest run of tokens that a reply shares with one turn of the script,
the share of the replies' n-grams that occur in it, and the share of replies that are whole turns.
"""

_INPUTS = """
Args:
    predictions (list[str]): the replies.
    script (list[str]): the turns that the generator was trained on.
    n (int): length of the n-grams of `seen`, in tokens. Default 4.
    normalization (str): the unit: "words" (default), "parlai", "whitespace" or "characters".
Returns:
    longest_mean (float): mean over replies of the longest copied n-gram, in tokens.
    longest (int): the longest of all.
    seen (float): share of the n-grams of all replies, counted as often as they occur, that occur
        in the script; 1 - seen is the novelty of McCoy et al.
    whole_turns (float): share of the replies that are the same, in tokens, as a turn; an empty
        reply is none.
Examples:
    >>> metric = evaluate.load("rlhf_dialog/evaluation/metrics/copying")
    >>> script = ["the tide is late again"]
    >>> metric.compute(predictions=["the tide is high"], script=script, n=2)
    {'longest_mean': 3.0, 'longest': 3, 'seen': 0.6666666666666666, 'whole_turns': 0.0}
"""


class Copying(NamedTuple):
    longest_mean: float  # tokens
    longest: int  # tokens
    seen: float  # share of the replies' n-grams
    whole_turns: float  # share of the replies


class Copied(NamedTuple):
    """Of one reply."""

    longest: int  # tokens of its longest n-gram that stands in a turn
    seen: int  # of its n-grams
    grams: int  # that it has
    whole_turn: bool


def copying(
    replies: Sequence[str],
    script: Sequence[str],
    n: int = 4,
    normalization: Normalization = "words",
) -> Copying:
    """How much of the replies stands in the script; all 0 without replies.

    seen:          |{g ∈ gramsₙ(replies) : g ∈ gramsₙ(script)}| / |gramsₙ(replies)|, both multisets
    longest(r):    max k such that a k-gram of r is a k-gram of one turn of the script

    Raises:
        UserError: the script is empty; n < 1; normalization is unknown.
    """
    found = copied_by_reply(replies, script, n, normalization)
    grams = sum(copied.grams for copied in found)
    return Copying(
        mean([copied.longest for copied in found]),
        max((copied.longest for copied in found), default=0),
        sum(copied.seen for copied in found) / max(1, grams),
        mean([copied.whole_turn for copied in found]),
    )


def copied_by_reply(
    replies: Sequence[str],
    script: Sequence[str],
    n: int = 4,
    normalization: Normalization = "words",
) -> list[Copied]:
    """What `copying` sums up, of each reply. Errors are those of `copying`."""
    if not script:
        raise UserError("script: is empty; give the turns that the generator was trained on.")
    rows, turns = tokenized(replies, normalization), tokenized(script, normalization)
    known = {gram for turn in turns for gram in ngrams(turn, n)}
    whole = set(map(tuple, turns))
    found = []
    for row, longest in zip(rows, longest_copied(rows, turns), strict=True):
        seen = [gram in known for gram in ngrams(row, n)]
        found.append(Copied(longest, sum(seen), len(seen), bool(row) and tuple(row) in whole))
    return found


def longest_copied(replies: Sequence[Tokens], script: Sequence[Tokens]) -> list[int]:
    """Length of the longest n-gram that each reply shares with a turn of the script, in tokens.

    n grows by one at a time, and only places where the (n−1)-grams agreed are looked at again: what
    is left soon is little, however long the script.

    Args:
        replies, script: tokenized alike.
    """
    longest = [0] * len(replies)
    own = [(row, start) for row, reply in enumerate(replies) for start in range(len(reply))]
    theirs = [(row, start) for row, turn in enumerate(script) for start in range(len(turn))]
    n = 0
    while own:
        n += 1
        known = {tuple(script[row][start : start + n]) for row, start in theirs}
        # A shorter slice is the end of a reply: it agrees with nothing of n tokens.
        known = {gram for gram in known if len(gram) == n}
        own = [
            (row, start) for row, start in own if tuple(replies[row][start : start + n]) in known
        ]
        shared = {tuple(replies[row][start : start + n]) for row, start in own}
        theirs = [
            (row, start) for row, start in theirs if tuple(script[row][start : start + n]) in shared
        ]
        for row, _ in own:
            longest[row] = n
    return longest


class CopyingMetric(evaluate.Metric):
    """`copying` behind the `evaluate` interface; see the card beside this file."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": datasets.Value("string")}),
            reference_urls=["https://arxiv.org/abs/2111.09509"],
        )

    def _compute(
        self,
        predictions: list[str],
        script: Sequence[str],
        n: int = 4,
        normalization: Normalization = "words",
        **_: Any,
    ) -> dict[str, float]:
        return copying(predictions, script, n, normalization)._asdict()
