"""What a supervised stage has learnt, on dialogues that it has not seen."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from rlhf_dialog.dialogues.schema import Example
from rlhf_dialog.evaluation.metrics.conditional_perplexity.conditional_perplexity import (
    conditional_perplexity,
)
from rlhf_dialog.evaluation.metrics.distinct_n.distinct_n import distinct_n
from rlhf_dialog.evaluation.metrics.hits_at_k.hits_at_k import (
    Scorer,
    hits_at_k,
    rank_candidates,
    with_distractors,
)
from rlhf_dialog.evaluation.metrics.unigram_f1.unigram_f1 import unigram_f1
from rlhf_dialog.generators.decoding import generate_replies
from rlhf_dialog.generators.loading import Generator
from rlhf_dialog.generators.reranking import LikelihoodScorer
from rlhf_dialog.generators.two_heads import ChoiceHead, ChoiceScorer
from rlhf_dialog.settings import DecodingSettings

DISTRACTORS = 19  # ConvAI2's
EXAMPLES = 300  # at most; drawn at random


def supervised_report(
    generator: Generator,
    choice_head: ChoiceHead | None,
    examples: Sequence[Example],
    *,
    context_length: int,
    response_length: int,
    seed: int,
) -> dict[str, Any]:
    """Figures on held-out examples: perplexity per token and per word of the human replies;
    unigram F1 with them (ParlAI's) and distinct-2 of greedy replies; and with a choice head hits@1
    among 20 candidates, beside the rank by the generator's likelihood and beside guessing.

    The 19 distractors are those of the data where it has that many, else replies to other contexts
    of the same examples.
    """
    chosen = random.Random(seed).sample(list(examples), min(EXAMPLES, len(examples)))
    contexts, replies = [e.context for e in chosen], [e.reply for e in chosen]
    lengths = {"context_length": context_length, "response_length": response_length}
    surprise = conditional_perplexity(generator, contexts, replies, **lengths)
    greedy = DecodingSettings(decoding="greedy", response_length=response_length)
    said = generate_replies(generator, contexts, greedy, context_length=context_length)
    texts = [row[0].text for row in said]
    report = {
        "examples": len(chosen),
        "perplexity": surprise["per_token"],
        "perplexity_per_word": surprise["per_word"],
        "f1": unigram_f1(texts, [[reply] for reply in replies]).f1,
        "distinct_2": distinct_n(texts, 2),
    }
    if choice_head is None:
        return report
    candidates = _candidates(chosen, seed)
    scorers: dict[str, Scorer] = {
        "hits_at_1": ChoiceScorer(generator, choice_head, **lengths),
        "hits_at_1_by_likelihood": LikelihoodScorer(generator, **lengths),
    }
    for name, scorer in scorers.items():
        ranked = rank_candidates(contexts, candidates, scorer)
        report[name] = hits_at_k(ranked, [[reply] for reply in replies])
    report["hits_at_1_by_chance"] = 1 / len(candidates[0])
    return report


def _candidates(examples: Sequence[Example], seed: int) -> list[list[str]]:
    number = min(DISTRACTORS, len({example.reply for example in examples}) - 1)
    if all(len(example.distractors) >= number for example in examples):
        return [[*example.distractors[:number], example.reply] for example in examples]
    return with_distractors([example.reply for example in examples], number, seed)
