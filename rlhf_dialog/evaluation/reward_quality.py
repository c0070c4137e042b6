"""How good a reward model is on labelled replies: scores and labels become numbers with intervals.

Point values are scikit-learn's and SciPy's wherever they have the metric. Intervals are 95 %
percentile bootstraps: the same definitions on resampled counts of the examples, all resamples at
once. Labelled replies are resampled within real and fake each (stratified, so that no resample
lacks a class); a preference pair is resampled as one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import expit
from scipy.stats import bootstrap, pearsonr, spearmanr
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

from rlhf_dialog.dialogues.labelled import LabelledFile, LabelledReply
from rlhf_dialog.errors import UserError

CALIBRATION_BINS = 10
HISTOGRAM_BINS = 30
LENGTH_BINS = 4
_AT_ONCE = 4_000_000  # resampled counts held in memory


def require_finite(scores: np.ndarray, file: LabelledFile, what: str) -> None:
    """Raises UserError naming the first reply whose score is not a number."""
    bad = np.flatnonzero(~np.isfinite(scores))
    if len(bad):
        reply = file.replies[bad[0]]
        raise UserError(
            f"{file.path}, line {reply.line}: --{what} gives the reply {reply.reply[:40]!r} the "
            f"score {scores[bad[0]]}, and {len(bad)} of {len(scores)} such scores; give a model "
            "whose training did not diverge."
        )


@dataclass(frozen=True)
class Labelled:
    """Scores (N,) float64 logits, labels (N,) bool, units (N,) int: what is resampled together."""

    scores: np.ndarray
    labels: np.ndarray
    units: np.ndarray

    def __getitem__(self, chosen: np.ndarray) -> Labelled:
        return Labelled(self.scores[chosen], self.labels[chosen], self.units[chosen])


def measure(data: Labelled, *, resamples: int, seed: int) -> dict[str, dict]:
    """Every metric of one set of replies as {"value", "ci95"}; both None where it has no meaning.

    `accuracy` at logit 0, `auc`, `average_precision` (of the real replies), `brier`,
    `ece_positive` and `ece_top_label` (`calibration_error`) of the probability sigmoid(logit).
    Without both classes only accuracy, Brier and ECE have a meaning.
    """
    points = {name: point(data.labels, data.scores) for name, point in METRICS.items()}
    both = 0 < data.labels.sum() < len(data.labels)
    draws: dict[str, list[np.ndarray]] = {name: [] for name in METRICS}
    for counts in _resampled_counts(data, resamples, seed):
        for name, values in _resampled_metrics(data, counts, both).items():
            draws[name].append(values)
    return {name: _entry(points[name], draws[name]) for name in METRICS}


def _entry(value: float | None, draws: Sequence[np.ndarray]) -> dict:
    if value is None or not draws:
        return {"value": value, "ci95": None}
    low, high = np.nanpercentile(np.concatenate(draws), [2.5, 97.5])
    return {"value": float(value), "ci95": [float(low), float(high)]}


def calibration_error(
    labels: np.ndarray, probabilities: np.ndarray, *, top_label: bool, bins: int = CALIBRATION_BINS
) -> float:
    """Expected calibration error over `bins` bins of equal width (Naeini et al. 2015, L1).

    Of the positive class: Σ over bins of share · |mean probability − share of reals|. Of the top
    label (Guo et al. 2017): the same of max(p, 1 − p) and of whether the label p > ½ is right.
    """
    right, sure = _calibrated(labels, probabilities, top_label)
    place = _bins(sure, bins)
    gaps = np.bincount(place, sure - right, minlength=bins)
    return float(np.abs(gaps).sum() / len(labels))


def _calibrated(
    labels: np.ndarray, probabilities: np.ndarray, top_label: bool
) -> tuple[np.ndarray, np.ndarray]:
    """(what happened (N,), what was predicted of it (N,))"""
    if not top_label:
        return labels.astype(float), probabilities
    real = probabilities > 0.5
    return (labels == real).astype(float), np.where(real, probabilities, 1 - probabilities)


def _bins(values: np.ndarray, bins: int) -> np.ndarray:
    """Which of `bins` equal bins of [0, 1] holds each value; edges belong to the lower one."""
    return np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], values)


def _both_classes(metric: Callable) -> Callable[[np.ndarray, np.ndarray], float | None]:
    def of(labels: np.ndarray, scores: np.ndarray) -> float | None:
        return float(metric(labels, scores)) if 0 < labels.sum() < len(labels) else None

    return of


METRICS: dict[str, Callable[[np.ndarray, np.ndarray], float | None]] = {
    "accuracy": lambda labels, scores: float(((scores > 0) == labels).mean()),
    "auc": _both_classes(roc_auc_score),
    "average_precision": _both_classes(average_precision_score),
    "brier": lambda labels, scores: float(brier_score_loss(labels, expit(scores), pos_label=True)),
    "ece_positive": lambda labels, scores: calibration_error(
        labels, expit(scores), top_label=False
    ),
    "ece_top_label": lambda labels, scores: calibration_error(
        labels, expit(scores), top_label=True
    ),
}


def _resampled_counts(data: Labelled, resamples: int, seed: int):
    """Yields (r, N) counts: how often each example stands in a resample."""
    rng = np.random.default_rng(seed)
    units, place = np.unique(data.units, return_inverse=True)
    is_pair = len(units) < len(data.units)
    # A pair holds both classes, so pairs need no strata.
    strata = [np.arange(len(units))]
    if not is_pair:
        label_of = np.zeros(len(units), dtype=bool)
        label_of[place] = data.labels
        strata = [np.flatnonzero(label_of == label) for label in (False, True)]
    size = max(1, _AT_ONCE // len(data.labels))
    for start in range(0, resamples, size):
        rows = min(size, resamples - start)
        counts = np.zeros((rows, len(units)))
        for members in strata:
            if len(members):
                equal = np.full(len(members), 1 / len(members))
                counts[:, members] = rng.multinomial(len(members), equal, size=rows)
        yield counts[:, place]


def _resampled_metrics(data: Labelled, counts: np.ndarray, both: bool) -> dict[str, np.ndarray]:
    """METRICS of each row of `counts` (r, N); each (r,)."""
    total = counts.sum(1)
    chances = expit(data.scores)
    found = {
        "accuracy": counts @ ((data.scores > 0) == data.labels) / total,
        "brier": counts @ (chances - data.labels) ** 2 / total,
    }
    for name, top_label in (("ece_positive", False), ("ece_top_label", True)):
        right, sure = _calibrated(data.labels, chances, top_label)
        in_bin = _bins(sure, CALIBRATION_BINS)[:, None] == np.arange(CALIBRATION_BINS)  # (N, bins)
        gaps = (counts * (sure - right)) @ in_bin  # (r, bins)
        found[name] = np.abs(gaps).sum(1) / total
    if both:
        found |= ranking_metrics(data.labels, data.scores, counts)
    return found


def ranking_metrics(
    labels: np.ndarray, scores: np.ndarray, counts: np.ndarray
) -> dict[str, np.ndarray]:
    """AUC and average precision of weighted examples, many weightings at once.

    Args:
        counts: (r, N) weights of the examples.

    Returns:
        `auc` and `average_precision`, each (r,), as scikit-learn's with `sample_weight`.
    """
    values, place = np.unique(-scores, return_inverse=True)  # thresholds, highest score first
    first = np.argsort(place, kind="stable")
    starts = np.searchsorted(place[first], np.arange(len(values)))
    ordered = counts[:, first]
    real = np.add.reduceat(ordered * labels[first], starts, axis=1)  # (r, thresholds)
    fake = np.add.reduceat(ordered * ~labels[first], starts, axis=1)
    reals, fakes = real.sum(1), fake.sum(1)
    above = np.cumsum(real, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        wins = ((above - real / 2) * fake).sum(1)  # a tie is half a win
        precision = np.nan_to_num(above / (above + np.cumsum(fake, axis=1)))
        return {
            "auc": wins / (reals * fakes),
            "average_precision": (real * precision).sum(1) / reals,
        }


def pairwise(
    replies: Sequence[LabelledReply], scores: np.ndarray, *, form: str, resamples: int, seed: int
) -> dict | None:
    """Real against fake of one line, or of one context where replies are labelled; None if none.

    Returns:
        `accuracy` ({"value", "ci95"}; the share of pairs in which the real reply scores strictly
        higher: a tie counts 0, as in RewardBench), `pairs`, `ties`, and `mean_margin` (logits). The
        interval resamples lines, or contexts with all their pairs.
    """
    groups: dict[object, list[int]] = {}
    for i, reply in enumerate(replies):
        groups.setdefault(reply.line if form == "preference" else reply.context, []).append(i)
    margins = []
    for members in groups.values():
        reals = [scores[i] for i in members if replies[i].is_real]
        fakes = [scores[i] for i in members if not replies[i].is_real]
        if reals and fakes:
            margins.append(np.subtract.outer(reals, fakes).ravel())
    if not margins:
        return None
    wins = np.array([(m > 0).sum() for m in margins])
    sizes = np.array([m.size for m in margins])
    rng = np.random.default_rng(seed)
    accuracies = []
    for start in range(0, resamples, at_once := max(1, _AT_ONCE // len(wins))):
        rows = min(at_once, resamples - start)
        draws = rng.integers(len(wins), size=(rows, len(wins)))
        accuracies.append(wins[draws].sum(1) / sizes[draws].sum(1))
    everything = np.concatenate(margins)
    return {
        "accuracy": _entry(float((everything > 0).mean()), accuracies),
        "pairs": int(everything.size),
        "ties": int((everything == 0).sum()),
        "mean_margin": float(everything.mean()),
    }


def by_kind(data: Labelled, kinds: Sequence[str], *, resamples: int, seed: int) -> dict[str, dict]:
    """`measure` of all reals against each kind of fake, with `count`, its fakes."""
    names = np.array(kinds)
    report = {}
    for kind in dict.fromkeys(kind for kind in kinds if kind != "real"):
        chosen = data.labels | (names == kind)
        metrics = measure(data[chosen], resamples=resamples, seed=seed)
        report[kind] = {"count": int((names == kind).sum()), "metrics": metrics}
    return report


def by_length(data: Labelled, lengths: np.ndarray, *, resamples: int, seed: int) -> list[dict]:
    """`measure` within bins of reply length: quartiles of all replies, in characters.

    Returns:
        Per bin `least` and `most` (characters), `real` and `fake` (replies), `metrics`.
    """
    edges = np.unique(np.quantile(lengths, np.linspace(0, 1, LENGTH_BINS + 1)[1:-1]))
    place = np.searchsorted(edges, lengths)  # an edge belongs to the lower bin
    report = []
    for bin_ in np.unique(place):
        chosen = place == bin_
        part = data[chosen]
        report.append(
            {
                "least": int(lengths[chosen].min()),
                "most": int(lengths[chosen].max()),
                "real": int(part.labels.sum()),
                "fake": int((~part.labels).sum()),
                "metrics": measure(part, resamples=resamples, seed=seed),
            }
        )
    return report


def reliability(data: Labelled) -> list[dict]:
    """The bins of the reliability diagram that hold replies: mean probability, share of reals."""
    chances = expit(data.scores)
    place = _bins(chances, CALIBRATION_BINS)
    return [
        {
            "count": int((place == bin_).sum()),
            "mean_probability": float(chances[place == bin_].mean()),
            "share_real": float(data.labels[place == bin_].mean()),
        }
        for bin_ in np.unique(place)
    ]


def histogram(data: Labelled) -> dict[str, list]:
    """`edges` (logits), and how many `real` and `fake` replies stand between them."""
    edges = np.histogram_bin_edges(data.scores, HISTOGRAM_BINS)
    sides = {"real": data.labels, "fake": ~data.labels}
    counts = {
        name: np.histogram(data.scores[side], edges)[0].tolist() for name, side in sides.items()
    }
    return {"edges": edges.tolist(), **counts}


def agreement(
    scores: np.ndarray, judge: np.ndarray, *, resamples: int, seed: int
) -> dict[str, dict]:
    """With a judge's scores of the same replies: `spearman`, `pearson`, `same_sign`.

    `same_sign`: share of replies that both put on the same side of logit 0. The intervals resample
    replies. A correlation is None where one side gives all replies the same score.
    """
    statistics: dict[str, Callable] = {
        "spearman": lambda a, b: spearmanr(a, b).statistic,
        "pearson": lambda a, b: pearsonr(a, b).statistic,
        "same_sign": lambda a, b: ((a > 0) == (b > 0)).mean(),
    }
    constant = np.ptp(scores) == 0 or np.ptp(judge) == 0
    report = {}
    for name, statistic in statistics.items():
        if constant and name != "same_sign":
            report[name] = _entry(None, [])
            continue
        drawn = bootstrap(
            (scores, judge),
            statistic,
            paired=True,
            vectorized=False,
            n_resamples=resamples,
            method="percentile",
            rng=np.random.default_rng(seed),
        ).bootstrap_distribution
        report[name] = _entry(float(statistic(scores, judge)), [drawn])
    return report
