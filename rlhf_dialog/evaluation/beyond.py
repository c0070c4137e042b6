"""What matters beyond the reward: temperatures, hits among distractors, length, retention."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np

from rlhf_dialog.dialogues.schema import Example
from rlhf_dialog.evaluation.intervals import Ratio, estimate, paired, percentiles
from rlhf_dialog.evaluation.measurement import Lengths, Measurement, Scorer
from rlhf_dialog.evaluation.measures import Asked, statistics
from rlhf_dialog.evaluation.metrics.conditional_perplexity.conditional_perplexity import (
    mean_log_likelihoods,
)
from rlhf_dialog.evaluation.metrics.hits_at_k.hits_at_k import (
    hits_at_k,
    rank_candidates,
    with_distractors,
)
from rlhf_dialog.evaluation.metrics.length.length import lengths as reply_lengths
from rlhf_dialog.evaluation.metrics.text import parlai_normalized
from rlhf_dialog.generators.loading import Generator
from rlhf_dialog.settings import EvaluationSettings

BINS = 4
FEWEST_REPLIES = 10  # of each speaker, for an interval within a bin
TEMPERATURE_METRICS = ("judge_score", "distinct_2", "self_bleu", "reply_length")


def evenly(examples: Sequence[Example], most: int) -> list[int]:
    """At most `most` places at even distances, so that no part of the test is preferred."""
    count = min(most, len(examples))
    return [i * len(examples) // count for i in range(count)]


def hits(
    generator: Generator,
    examples: Sequence[Example],
    lengths: Lengths,
    settings: EvaluationSettings,
    seed: int,
) -> np.ndarray | None:
    """(n,) of the first `hits_contexts`: does the generator find the human reply likelier, a token,
    than `distractors` human replies to other contexts? None where there are too few of them."""
    replies = [example.reply for example in examples]
    distractors = min(settings.distractors, len(set(map(parlai_normalized, replies))) - 1)
    asked = examples[: settings.hits_contexts]
    if distractors < 1 or not asked:
        return None
    candidates = with_distractors(replies, distractors, seed)[: len(asked)]
    scorer = partial(
        mean_log_likelihoods,
        generator,
        context_length=lengths.context_length,
        response_length=lengths.response_length,
    )
    ranked = rank_candidates([example.context for example in asked], candidates, scorer)
    return np.array([hits_at_k([row], [[e.reply]]) for row, e in zip(ranked, asked, strict=True)])


def over_temperatures(
    ask: Callable[..., Measurement],
    at_one: Measurement,
    examples: Sequence[Example],
    scorers: Mapping[str, Scorer],
    settings: EvaluationSettings,
    weigh: Callable[[int], np.ndarray],
) -> list[dict]:
    """One reply to each of `temperature_contexts` contexts, at 1 and at each of `temperatures`.

    Distinct-n falls and self-BLEU rises as a corpus grows, so all points have equally many replies.

    Args:
        ask: `measure_generator` with its generator bound.
        at_one: the main measurement, whose first sample serves as the point at 1.
    """
    places = evenly(examples, settings.temperature_contexts)
    chosen = [examples[i] for i in places]
    asked = Asked(chosen, (), settings.self_bleu_sample)
    measured = {1.0: _first_samples(at_one, places)}
    for temperature in settings.temperatures or ():
        if temperature != 1:
            measured[temperature] = ask(
                chosen,
                scorers,
                samples=1,
                temperature=temperature,
                description=f"temperature {temperature:g}",
            )
    return [
        {"temperature": temperature, **_point(measured[temperature], asked, weigh)}
        for temperature in sorted(measured)
    ]


def people_among_temperatures(
    people: Measurement,
    examples: Sequence[Example],
    settings: EvaluationSettings,
    weigh: Callable[[int], np.ndarray],
) -> list[dict]:
    """People's replies to the same contexts, a point without a temperature."""
    places = evenly(examples, settings.temperature_contexts)
    asked = Asked([examples[i] for i in places], (), settings.self_bleu_sample)
    return [{"temperature": None, **_point(_first_samples(people, places), asked, weigh)}]


def _first_samples(m: Measurement, places: list[int]) -> Measurement:
    return Measurement(
        [m.replies[i][:1] for i in places],
        {name: scores[places, :1] for name, scores in m.scores.items()},
    )


def _point(m: Measurement, asked: Asked, weigh: Callable[[int], np.ndarray]) -> dict:
    found, weights = statistics(m, asked), weigh(len(asked.examples))
    return {n: estimate(found[n], weights) for n in TEMPERATURE_METRICS if n in found}


def by_length(measured: Mapping[str, Measurement], weights: np.ndarray) -> dict | None:
    """The judge's score among replies of about equal length, and the gain that length leaves.

    Bins hold about equally many of all speakers' replies. `matched` is the difference between the
    names `before` and `after` with every bin weighted by its share of the replies before: what the
    judge gives when a shift in length earns nothing.

    Args:
        measured: by name; the judge's scores of each. None without a judge.
    """
    if any("judge" not in m.scores for m in measured.values()):
        return None
    words = {name: _words(m) for name, m in measured.items()}
    everything = np.concatenate([table.ravel() for table in words.values()])
    edges = np.unique(np.quantile(everything, np.linspace(0, 1, BINS + 1)).round())
    lows = edges[:-1] if len(edges) > 1 else edges
    highs = [*(edges[1:-1] - 1), edges[-1]]  # both ends belong to a bin
    bounds = list(zip(lows.tolist(), map(float, highs), strict=True))
    inside: list[dict[str, Ratio]] = [
        {
            name: Ratio(*_inside(measured[name].scores["judge"], words[name], low, high))
            for name in measured
        }
        for low, high in bounds
    ]
    bins = [
        {
            "least": int(low),
            "most": int(high),
            "speakers": {
                name: {
                    "replies": int(ratio.counts.sum()),
                    "judge_score": ratio.value if ratio.counts.sum() else None,
                }
                for name, ratio in of.items()
            },
            **(_change(of["before"], of["after"], weights) if _both_speak(of) else {}),
        }
        for (low, high), of in zip(bounds, inside, strict=True)
    ]
    return {"bins": bins, "matched": _matched(inside, weights)}


def _words(m: Measurement) -> np.ndarray:
    flat = reply_lengths([reply for row in m.replies for reply in row], "whitespace")
    return np.array(flat).reshape(len(m.replies), -1)


def _inside(scores: np.ndarray, words: np.ndarray, low: float, high: float) -> tuple:
    """Sums and counts over the samples of each context whose length lies in the bin."""
    chosen = (words >= low) & (words <= high)
    return (scores * chosen).sum(1), chosen.sum(1).astype(float)


def _both_speak(of: Mapping[str, Ratio]) -> bool:
    return bool(of["before"].counts.sum() and of["after"].counts.sum())


def _change(before: Ratio, after: Ratio, weights: np.ndarray) -> dict:
    """after − before within a bin; no interval where either has fewer than `FEWEST_REPLIES`."""
    enough = min(before.counts.sum(), after.counts.sum()) >= FEWEST_REPLIES
    return {
        "difference": after.value - before.value,
        "ci95": _interval(_gaps(before, after, weights)) if enough else None,
    }


def _gaps(before: Ratio, after: Ratio, weights: np.ndarray) -> np.ndarray:
    """after − before in each resample, (R,); NaN where either has no reply, which is no score."""
    spoken = (weights @ before.counts > 0) & (weights @ after.counts > 0)
    return np.where(spoken, paired(before, after, weights), np.nan)


def _interval(gaps: np.ndarray) -> list | None:
    """`percentiles` of the resamples that hold replies of both; None where none does."""
    told = gaps[~np.isnan(gaps)]
    return percentiles(told) if len(told) else None


def _matched(bins: Sequence[Mapping[str, Ratio]], weights: np.ndarray) -> dict:
    """Σ share before · (after − before) over the bins in which both have replies."""
    shared = [of for of in bins if _both_speak(of)]
    if not shared:
        return {"difference": None, "ci95": None}
    counts = np.array([of["before"].counts.sum() for of in shared])
    shares = counts / counts.sum()
    gaps = [of["after"].value - of["before"].value for of in shared]
    resampled = np.array([_gaps(of["before"], of["after"], weights) for of in shared])
    return {"difference": float(shares @ gaps), "ci95": _interval(shares @ resampled)}
