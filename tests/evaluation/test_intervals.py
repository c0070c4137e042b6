"""Intervals hold what they promise, on simulated data whose true difference is known."""

import numpy as np
import pytest
from scipy.stats import bootstrap as scipy_bootstrap

from rlhf_dialog.evaluation.intervals import (
    Corpus,
    Ratio,
    Single,
    bootstrap_weights,
    difference,
    estimate,
    jackknife_error,
    mean_of,
    paired,
    percentiles,
)
from rlhf_dialog.evaluation.pooled import pool, pooled_interval

TRIALS = 1000


def share_held(bounds, truth):
    low, high = bounds
    return np.mean((np.asarray(low) <= truth) & (truth <= np.asarray(high)))


def test_intervals_of_a_mean_cover_as_they_say():
    """Judge logits: contexts differ, samples of one context are alike, the tuned one gains 0.4."""
    rng = np.random.default_rng(0)
    contexts, samples, truth = 150, 2, 0.4
    hard = rng.normal(0, 1, (contexts, 1, TRIALS))  # what a context does to both
    before = hard + rng.normal(0, 1, (contexts, samples, TRIALS))
    gain = truth + rng.normal(0, 0.5, (contexts, 1, TRIALS))
    after = hard + gain + rng.standard_exponential((contexts, samples, TRIALS)) - 1
    numbers = [Ratio(x.sum(1), np.full((contexts, TRIALS), samples)) for x in (before, after)]
    weights = bootstrap_weights(contexts, 1000, seed=1)
    held = share_held(percentiles(paired(*numbers, weights)), truth)
    assert 0.93 <= held <= 0.97


def test_intervals_of_a_perplexity_cover_as_they_say():
    """Ratios of sums, of replies with different lengths, exponentiated."""
    rng = np.random.default_rng(1)
    contexts = 200
    tokens = rng.integers(3, 25, (contexts, TRIALS)).astype(float)
    worse = np.log(1.1)
    before = tokens * (4 + rng.normal(0, 0.6, tokens.shape))
    after = before + tokens * (worse + rng.normal(0, 0.2, tokens.shape))
    # e^(Σ nats / Σ tokens) in the long run: the mean nats per token, whatever the lengths
    truth = np.exp(4 + worse) - np.exp(4)
    numbers = [Ratio(x, tokens, exponential=True) for x in (before, after)]
    weights = bootstrap_weights(contexts, 1000, seed=2)
    held = share_held(percentiles(paired(*numbers, weights)), truth)
    assert 0.93 <= held <= 0.97


def test_pooled_intervals_cover_both_sources():
    """Three seeds scatter by 0.1, contexts by 0.05 more; t with two degrees of freedom."""
    rng = np.random.default_rng(2)
    gaps = 0.8 + rng.normal(0, 0.1, (3, TRIALS)) + rng.normal(0, 0.05, (3, TRIALS))
    assert 0.93 <= share_held(pooled_interval(gaps), 0.8) <= 0.97


def test_it_agrees_with_scipy():
    rng = np.random.default_rng(3)
    before, after = rng.normal(0, 1, (2, 80))
    ours = difference(
        mean_of(before[:, None]), mean_of(after[:, None]), bootstrap_weights(80, 20000, seed=0)
    )
    theirs = scipy_bootstrap(
        (after - before,), np.mean, method="percentile", n_resamples=20000, rng=4
    ).confidence_interval
    assert ours["difference"] == pytest.approx((after - before).mean())
    assert ours["ci95"] == pytest.approx([theirs.low, theirs.high], abs=0.01)


def test_a_jackknifed_mean_has_the_textbook_error():
    values = np.array([1.0, 4.0, 2.0, 9.0])
    left_out = (values.sum() - values) / 3
    error = values.std(ddof=1) / 2
    assert jackknife_error(left_out) == pytest.approx(error)
    low, high = estimate(Corpus(values.mean(), left_out), bootstrap_weights(4, 10, 0))["ci95"]
    assert (low, high) == pytest.approx((4 - 1.96 * error, 4 + 1.96 * error), rel=1e-3)


def test_nothing_counted_is_zero_and_a_single_number_has_no_interval():
    weights = bootstrap_weights(3, 50, seed=0)
    nothing = Ratio(np.zeros(3), np.zeros(3))
    assert estimate(nothing, weights) == {"value": 0.0, "ci95": [0.0, 0.0]}
    assert estimate(Single(0.5), weights) == {"value": 0.5, "ci95": None}
    assert difference(Single(0.5), Single(0.75), weights) == {"difference": 0.25, "ci95": None}


def test_a_pool_by_hand():
    entries = [
        {"before": 0.0, "after": d, "human": 1.0, "difference": d, "ci95": [d - h, d + h]}
        for d, h in ((0.6, 0.196), (0.8, 0.098), (1.0, 0.196))
    ]
    pooled = pool(entries)
    assert pooled["difference"] == pytest.approx(0.8) and pooled["after"] == pytest.approx(0.8)
    assert pooled["between_seeds"] == pytest.approx(0.2)
    assert pooled["between_contexts"] == pytest.approx(
        np.sqrt((0.01 + 0.0025 + 0.01) / 3), rel=1e-3
    )
    # t(2) = 4.3027 at 97.5 %
    reach = 4.3027 * 0.2 / np.sqrt(3)
    assert pooled["ci95"] == pytest.approx([0.8 - reach, 0.8 + reach], abs=1e-4)
    alone = pool(entries[:1])
    assert alone["ci95"] == entries[0]["ci95"] and alone["between_seeds"] is None
