"""How far a number would move with other test contexts: 95 % intervals, paired over contexts.

Two speakers that answered the same N contexts are resampled together, so what makes a context hard
for both of them cancels out. What another training run would have given is not in these intervals:
`pooled.py` has the spread between runs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

Z95 = 1.959963984540054  # of the normal distribution


@dataclass(frozen=True)
class Ratio:
    """Σ sums / Σ counts over contexts, or e to that: means, shares and perplexities.

    Args:
        sums: (N,) or (N, M) for M numbers at once.
        counts: like `sums`; 0 where a context has nothing to count.
        exponential: e^ratio, a perplexity of nats and tokens.
    """

    sums: np.ndarray
    counts: np.ndarray
    exponential: bool = False

    @property
    def value(self) -> float:
        """0.0 where nothing was counted, as the metrics have it."""
        return float(self._of(self.sums.sum(0), self.counts.sum(0)))

    def resampled(self, weights: np.ndarray) -> np.ndarray:
        """The number in each resample: weights (R, N) -> (R,) or (R, M)."""
        return self._of(weights @ self.sums, weights @ self.counts)

    def _of(self, sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
        ratio = np.where(counts > 0, sums / np.where(counts > 0, counts, 1), 0.0)
        with np.errstate(over="ignore"):  # a sentence of Japanese is one word of hundreds of nats
            return np.exp(ratio) if self.exponential else ratio


@dataclass(frozen=True)
class Corpus:
    """A number of all replies together (distinct-n), and the same without each context (N,).

    A resample repeats contexts, and a repeated reply would pass for a lack of variety, so these
    have the jackknife: leave out one context at a time.
    """

    value: float
    left_out: np.ndarray


@dataclass(frozen=True)
class Single:
    """A number without an interval: too slow to compute again and again, or of too few replies."""

    value: float


Statistic = Ratio | Corpus | Single


def mean_of(values: np.ndarray) -> Ratio:
    """The mean over contexts and samples of values (N, k)."""
    return Ratio(values.sum(1), np.full(len(values), values.shape[1]))


def bootstrap_weights(contexts: int, resamples: int, seed: int) -> np.ndarray:
    """How often each context stands in each resample, (R, N) float64; a row sums to N."""
    draw = np.random.default_rng(seed)
    shares = np.full(contexts, 1 / contexts)
    return draw.multinomial(contexts, shares, size=resamples).astype(np.float64)


def estimate(statistic: Statistic, weights: np.ndarray) -> dict:
    """`{"value", "ci95"}`; ci95 is None for a `Single`."""
    if isinstance(statistic, Ratio):
        return {"value": statistic.value, "ci95": percentiles(statistic.resampled(weights))}
    if isinstance(statistic, Corpus):
        return {
            "value": statistic.value,
            "ci95": _around(statistic.value, jackknife_error(statistic.left_out)),
        }
    return {"value": statistic.value, "ci95": None}


def difference(before: Statistic, after: Statistic, weights: np.ndarray) -> dict:
    """`{"difference", "ci95"}` of after − before on the same contexts."""
    gap = after.value - before.value
    if isinstance(before, Ratio) and isinstance(after, Ratio):
        return {"difference": gap, "ci95": percentiles(paired(before, after, weights))}
    if isinstance(before, Corpus) and isinstance(after, Corpus):
        error = jackknife_error(after.left_out - before.left_out)
        return {"difference": gap, "ci95": _around(gap, error)}
    return {"difference": gap, "ci95": None}


def paired(before: Ratio, after: Ratio, weights: np.ndarray) -> np.ndarray:
    """after − before in each resample of the contexts, (R,) or (R, M)."""
    with np.errstate(invalid="ignore"):  # infinity less infinity
        return after.resampled(weights) - before.resampled(weights)


def percentiles(resampled: np.ndarray) -> list | None:
    """The 2.5 and 97.5 percentiles over the first axis (Efron 1979, percentile interval); None
    where a resample is beyond all floating-point numbers."""
    if not np.isfinite(resampled).all():
        return None
    return np.percentile(resampled, [2.5, 97.5], axis=0).tolist()


def jackknife_error(left_out: np.ndarray) -> float:
    """Standard error from a number without each one of N contexts (Tukey 1958)."""
    count = len(left_out)
    return float(np.sqrt((count - 1) / count * ((left_out - left_out.mean()) ** 2).sum()))


def _around(value: float, error: float) -> list[float]:
    return [float(value - Z95 * error), float(value + Z95 * error)]
