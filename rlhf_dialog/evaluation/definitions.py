"""What every number of a report is called, what it means, and which module defines it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class MetricInfo:
    """How a metric is named, defined and printed. `format` is a format specification, as ".2f".

    `module` is the folder in `evaluation/metrics` that defines it, with its card.
    """

    title: str
    definition: str
    unit: str
    better: Literal["up", "down", "none"]
    format: str
    group: str = "other"
    module: str | None = None


# The groups in the order of the table; those of the first are what a reader sees at once.
GROUPS = {
    "main": "",
    "quality": "Likeness and quality",
    "language": "Language kept",
    "variety": "Variety and repetition",
    "novelty": "Copying",
    "length": "Length",
    "other": "Other",
}
HEADLINE = ("judge_score", "discriminator_score", "distinct_2", "perplexity", "reply_length", "kl")


def _distinct(n: int, gram: str) -> MetricInfo:
    return MetricInfo(
        f"Distinct-{n}",
        f"Different {gram} divided by all {gram} over one reply to each context together (corpus "
        "level, lower-cased words and punctuation marks), the mean over the sets of samples. It "
        "falls when a model repeats itself.",
        "ratio",
        "up",
        ".3f",
        "variety",
        "distinct_n",
    )


_PEOPLE = "of held-out human replies given their contexts"

METRICS: dict[str, MetricInfo] = {
    "judge_score": MetricInfo(
        "Judge score",
        "Mean logit of the frozen judge on (context, reply): above 0 it takes the reply for the "
        "character's own. The judge was trained on dialogues that neither the generator nor the "
        "discriminator saw, on what people wrote alone (it has read no generator), and was never a "
        "reward.",
        "logit",
        "up",
        ".2f",
        "quality",
        "discriminator_score",
    ),
    "judge_accepted": MetricInfo(
        "Taken for the character",
        "Share of the replies that the frozen judge scores above logit 0.",
        "share",
        "up",
        ".3f",
        "quality",
        "discriminator_score",
    ),
    "discriminator_score": MetricInfo(
        "Discriminator score",
        "Mean logit of the reward model, which the generator was trained to raise. A rise here "
        "proves nothing unless the judge's score rises with it.",
        "logit",
        "up",
        ".2f",
        "quality",
        "discriminator_score",
    ),
    "f1": MetricInfo(
        "Unigram F1",
        "Overlap in words with the human reply to the same context, after ParlAI's normalisation. "
        "Many good replies share no word with the one that people gave.",
        "share",
        "up",
        ".3f",
        "quality",
        "unigram_f1",
    ),
    "bleu": MetricInfo(
        "BLEU-4",
        "sacrebleu's corpus BLEU against the human reply, tokenizer 13a. One reference a context: "
        "low numbers are normal in dialogue.",
        "0 to 100",
        "up",
        ".2f",
        "quality",
        "bleu",
    ),
    "chrf": MetricInfo(
        "chrF",
        "sacrebleu's character n-gram F-score against the human reply.",
        "0 to 100",
        "up",
        ".1f",
        "quality",
        "chrf",
    ),
    "hits_at_1": MetricInfo(
        "hits@1",
        "Share of contexts for which the generator finds the human reply likelier, a token, than "
        "human replies to other contexts (distractors, drawn by the seed).",
        "share",
        "up",
        ".3f",
        "quality",
        "hits_at_k",
    ),
    "perplexity": MetricInfo(
        "Perplexity of human replies",
        f"exp(total negative log-likelihood / total tokens) {_PEOPLE}. It rises when training "
        "makes the model forget how people talk. Comparable between generators of one tokenizer.",
        "per token",
        "down",
        ".1f",
        "language",
        "conditional_perplexity",
    ),
    "perplexity_per_word": MetricInfo(
        "Perplexity per word",
        f"exp(total negative log-likelihood / words between white space) {_PEOPLE}; comparable "
        "between tokenizers, of languages written with spaces.",
        "per word",
        "down",
        ".0f",
        "language",
        "conditional_perplexity",
    ),
    "perplexity_per_character": MetricInfo(
        "Perplexity per character",
        f"exp(total negative log-likelihood / characters) {_PEOPLE}; comparable between "
        "tokenizers.",
        "per character",
        "down",
        ".3f",
        "language",
        "conditional_perplexity",
    ),
    "context_overlap": MetricInfo(
        "Words from the context",
        "Mean share of a reply's words that stand in its context.",
        "share",
        "none",
        ".3f",
        "language",
        "context_overlap",
    ),
    "parroted": MetricInfo(
        "Parroted turns",
        "Share of the replies that are, word for word, a turn of their context.",
        "share",
        "down",
        ".3f",
        "language",
        "context_overlap",
    ),
    "distinct_1": _distinct(1, "words"),
    "distinct_2": _distinct(2, "word pairs"),
    "distinct_3": _distinct(3, "word triples"),
    "entropy_4": MetricInfo(
        "Entropy-4",
        "−Σ p ln p over the 4-grams of one reply to each context together, the mean over the sets "
        "of samples.",
        "nats",
        "up",
        ".2f",
        "variety",
        "entropy_n",
    ),
    "self_bleu": MetricInfo(
        "Self-BLEU-4",
        "Mean BLEU-4 of each reply with the other replies as its references, on a random sample "
        "of the first reply to each context (self_bleu_sample of them). High means alike. It has "
        "no interval: a resample would hold replies twice.",
        "0 to 1",
        "down",
        ".3f",
        "variety",
        "self_bleu",
    ),
    "repetition_within": MetricInfo(
        "Repetition within a reply",
        "Mean share of a reply's words that stood in it before (seq-rep-1).",
        "share",
        "down",
        ".3f",
        "variety",
        "repetition",
    ),
    "duplicate_replies": MetricInfo(
        "Duplicate replies",
        "Share of one reply to each context that somebody got already, the mean over the sets of "
        "samples.",
        "share",
        "down",
        ".3f",
        "variety",
        "repetition",
    ),
    "most_frequent_reply": MetricInfo(
        "Most frequent reply",
        "Share of the most frequent reply among one to each context, the mean over the sets.",
        "share",
        "down",
        ".3f",
        "variety",
        "repetition",
    ),
    "copied_longest": MetricInfo(
        "Longest copy",
        "Mean length of the longest run of words that a reply shares with a turn of the script "
        "that the generator was trained on.",
        "words",
        "none",
        ".2f",
        "novelty",
        "copying",
    ),
    "copied_seen_4": MetricInfo(
        "4-grams of the script",
        "Share of the replies' 4-grams that stand in the script that the generator was trained "
        "on; 1 minus it is their novelty.",
        "share",
        "none",
        ".3f",
        "novelty",
        "copying",
    ),
    "copied_turns": MetricInfo(
        "Whole turns of the script",
        "Share of the replies that are, word for word, a turn of the script that the generator "
        "was trained on.",
        "share",
        "down",
        ".3f",
        "novelty",
        "copying",
    ),
    "reply_length": MetricInfo(
        "Reply length",
        "Mean number of words in a reply. Neither direction is better; a large drift suggests "
        "that the reward is paid for length.",
        "words",
        "none",
        ".1f",
        "length",
        "length",
    ),
    "empty_replies": MetricInfo(
        "Empty replies",
        "Share of the replies without a word.",
        "share",
        "down",
        ".3f",
        "length",
        "length",
    ),
    "kl": MetricInfo(
        "KL from the warm start",
        "Monte-Carlo estimate of KL(tuned ‖ warm start) over whole replies: how far the tuned "
        "generator has moved from where it started, which is 0 by definition.",
        "nats per reply",
        "none",
        ".2f",
        "length",
    ),
}


def metric_info(name: str) -> MetricInfo:
    """The entry of METRICS, or a plain one for a metric that has none."""
    plain = MetricInfo(name, "This report gives no definition.", "", "none", ".3f")
    return METRICS.get(name, plain)
