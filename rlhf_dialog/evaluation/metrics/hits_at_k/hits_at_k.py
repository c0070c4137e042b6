"""hits@k: is the human reply among the first k of the candidates, as a model ranks them?"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import datasets
import evaluate

from rlhf_dialog.errors import UserError
from rlhf_dialog.evaluation.metrics.text import (
    check_references,
    lists_of_texts,
    mean,
    one_for_each,
    parlai_normalized,
)

# (contexts, replies) -> one number a reply, higher is better: a discriminator, or
# `conditional_perplexity.mean_log_likelihoods` of a generator
Scorer = Callable[[Sequence[Sequence[str]], Sequence[str]], Any]

_CITATION = """\
@inproceedings{zhang-etal-2018-personalizing,
    title = "Personalizing Dialogue Agents: I have a dog, do you have pets too?",
    author = "Zhang, Saizheng and Dinan, Emily and Urbanek, Jack and Szlam, Arthur and Kiela, Douwe
        and Weston, Jason",
    booktitle = "Proceedings of ACL 2018",
    year = "2018",
    pages = "2204--2213",
}
"""

_DESCRIPTION = """\
hits@k is the share of contexts for which one of the k candidates that a model ranks first is the
human reply. With c distractors, guessing reaches k / (c + 1).
"""

_INPUTS = """
Args:
    predictions (list[list[str]]): for each context the candidates, the best first.
    references (list[list[str]]): for each context the right ones, at least one.
    k (int): how many of the first may hold a right one. Default 1.
Returns:
    hits (float): between 0 and 1; texts are compared after ParlAI's normalisation.
Examples:
    >>> metric = evaluate.load("rlhf_dialog/evaluation/metrics/hits_at_k")
    >>> metric.compute(predictions=[["Aye!", "no"], ["no", "aye"]], references=[["aye"], ["aye"]])
    {'hits': 0.5}
"""


def hits_at_k(
    ranked: Sequence[Sequence[str]], references: Sequence[Sequence[str]], k: int = 1
) -> float:
    """Share of rows with a right candidate among the first k; 0.0 without rows.

    Args:
        ranked: the candidates of each context, the best first.
        references: the right ones of each context. Texts are equal when `parlai_normalized` is.

    Raises:
        UserError: k < 1; rows differ in number, are bare strings, or hold no reference.
    """
    if k < 1:
        raise UserError(f"k: {k} is too small; at least the first candidate has to count.")
    check_references(ranked, references)
    lists_of_texts("predictions", ranked)
    hits = []
    for candidates, right in zip(ranked, references, strict=True):
        known = set(map(parlai_normalized, right))
        hits.append(any(parlai_normalized(candidate) in known for candidate in candidates[:k]))
    return mean(hits)


def with_distractors(replies: Sequence[str], distractors: int, seed: int = 0) -> list[list[str]]:
    """Candidates for each context: `distractors` replies to other contexts, and its own one last.

    Distractors differ from the reply and from each other after ParlAI's normalisation, else a hit
    would be a matter of luck.

    Raises:
        UserError: distractors < 1; too few different replies.
    """
    spelling: dict[str, str] = {}
    for reply in sorted(replies):
        spelling.setdefault(parlai_normalized(reply), reply)
    if not 1 <= distractors < len(spelling):
        raise UserError(
            f"distractors: {distractors} cannot be drawn from {len(spelling)} different replies; "
            f"give between 1 and {len(spelling) - 1}, or more replies."
        )
    draw = random.Random(seed)
    keys = list(spelling)
    candidates = []
    for reply in replies:
        drawn = draw.sample(keys, distractors + 1)  # one more, in case the reply is among them
        others = [key for key in drawn if key != parlai_normalized(reply)][:distractors]
        candidates.append([*(spelling[key] for key in others), reply])
    return candidates


def rank_candidates(
    contexts: Sequence[Sequence[str]], candidates: Sequence[Sequence[str]], scorer: Scorer
) -> list[list[str]]:
    """The candidates of each context, the best first.

    Among equal scores the order is kept: with the human reply last, as in PersonaChat's files and
    `with_distractors`, a tie counts against it and a constant score hits nothing.

    Raises:
        UserError: as many lists of candidates as contexts are not there; one is a bare string.
    """
    one_for_each(contexts=contexts, candidates=candidates)
    lists_of_texts("candidates", candidates)
    flat = [
        (context, candidate)
        for context, row in zip(contexts, candidates, strict=True)
        for candidate in row
    ]
    if not flat:
        return [[] for _ in candidates]
    scores = iter(scorer([context for context, _ in flat], [text for _, text in flat]))
    ranked = []
    for row in candidates:
        scored = [(-float(next(scores)), place) for place in range(len(row))]
        ranked.append([row[place] for _, place in sorted(scored)])
    return ranked


class HitsAtK(evaluate.Metric):
    """`hits_at_k` behind the `evaluate` interface; see the card beside this file."""

    def _info(self) -> evaluate.MetricInfo:
        texts = datasets.List(datasets.Value("string"))
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": texts, "references": texts}),
            reference_urls=["https://aclanthology.org/P18-1205"],
        )

    def _compute(
        self, predictions: list[list[str]], references: list[list[str]], k: int = 1
    ) -> dict[str, float]:
        return {"hits": hits_at_k(predictions, references, k)}
