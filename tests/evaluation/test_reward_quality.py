"""Against scikit-learn, and against values that torchmetrics and RewardBench gave."""

import numpy as np
import pytest
from scipy.special import expit, logit
from sklearn.calibration import calibration_curve
from sklearn.metrics import average_precision_score, roc_auc_score

from rlhf_dialog.dialogues.labelled import LabelledFile, LabelledReply
from rlhf_dialog.errors import UserError
from rlhf_dialog.evaluation.reward_quality import (
    Labelled,
    agreement,
    by_kind,
    by_length,
    calibration_error,
    histogram,
    measure,
    pairwise,
    ranking_metrics,
    reliability,
    require_finite,
)

FEW = {"resamples": 200, "seed": 0}
# probabilities, labels, and what torchmetrics (ECE) and scikit-learn say of them
P1, Y1 = [0.05, 0.15, 0.35, 0.45, 0.55, 0.65, 0.85, 0.95], [0, 0, 1, 0, 1, 0, 1, 1]
P2, Y2 = [0.92, 0.81, 0.33, 0.12, 0.64, 0.08], [1, 0, 0, 0, 1, 1]


def labelled(probabilities, labels):
    scores = logit(np.array(probabilities))
    return Labelled(scores, np.array(labels, dtype=bool), np.arange(len(scores)))


def synthetic(count=400, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.random(count) < 0.4
    scores = np.round(rng.normal(labels * 1.2 - 0.5, 1.3), 1)  # rounded: with ties
    return Labelled(scores, labels, np.arange(count))


def test_the_reference_values():
    metrics = {name: entry["value"] for name, entry in measure(labelled(P1, Y1), **FEW).items()}
    expected = {
        "accuracy": 0.75,
        "auc": 0.8125,
        "average_precision": 0.8541666666666666,
        "brier": 0.1625,
        "ece_positive": 0.325,
        "ece_top_label": 0.325,
    }
    assert metrics == pytest.approx(expected, abs=1e-6)
    metrics = measure(labelled(P2, Y2), **FEW)
    assert metrics["auc"]["value"] == pytest.approx(0.5555555555555556, abs=1e-6)
    assert metrics["brier"]["value"] == pytest.approx(0.29363333333333336, abs=1e-6)


@pytest.mark.parametrize(
    ("p", "y", "bins", "positive", "top"),
    [
        (P1, Y1, 5, 0.2125, None),
        (P1, Y1, 10, 0.325, 0.325),
        (P1, Y1, 15, None, 0.325),
        (P2, Y2, 5, 0.37, 0.37),
        (P2, Y2, 10, 0.43666666666666665, 0.37),
        (P2, Y2, 15, 0.3966666666666666, 0.37),
    ],
)
def test_both_calibration_errors(p, y, bins, positive, top):
    labels, chances = np.array(y, dtype=bool), np.array(p)
    if positive is not None:
        own = calibration_error(labels, chances, top_label=False, bins=bins)
        assert own == pytest.approx(positive, abs=1e-6)
    if top is not None:
        own = calibration_error(labels, chances, top_label=True, bins=bins)
        assert own == pytest.approx(top, abs=1e-6)


def test_the_reliability_diagram_is_that_of_scikit_learn():
    data = synthetic()
    real, predicted = calibration_curve(data.labels, expit(data.scores), n_bins=10)
    bins = reliability(data)
    assert [b["share_real"] for b in bins] == pytest.approx(real.tolist())
    assert [b["mean_probability"] for b in bins] == pytest.approx(predicted.tolist())
    assert sum(b["count"] for b in bins) == 400
    drawn = histogram(data)
    assert sum(drawn["real"]) == data.labels.sum() and len(drawn["edges"]) == 31


def test_resampled_ranking_metrics_are_those_of_scikit_learn_with_weights():
    data = synthetic(60)
    counts = np.random.default_rng(1).integers(0, 4, size=(20, 60)).astype(float)
    found = ranking_metrics(data.labels, data.scores, counts)
    for row, weights in enumerate(counts):
        auc = roc_auc_score(data.labels, data.scores, sample_weight=weights)
        precision = average_precision_score(data.labels, data.scores, sample_weight=weights)
        assert found["auc"][row] == pytest.approx(auc, abs=1e-9)
        assert found["average_precision"][row] == pytest.approx(precision, abs=1e-9)


def test_intervals_are_as_wide_as_theory_says():
    """Accuracy of a stratified sample: a normal interval with the variance of each class."""
    data = synthetic(2000)
    entry = measure(data, resamples=2000, seed=0)["accuracy"]
    right = (data.scores > 0) == data.labels
    shares = {c: (data.labels == c).mean() for c in (True, False)}
    variance = sum(
        shares[c] ** 2 * right[data.labels == c].var() / (data.labels == c).sum() for c in shares
    )
    low, high = entry["ci95"]
    assert low < entry["value"] < high
    assert high - low == pytest.approx(2 * 1.96 * variance**0.5, rel=0.1)


def test_a_pair_is_resampled_as_one():
    """Chosen and rejected of a pair always score alike, so no resample can part them."""
    shared = np.repeat(np.random.default_rng(0).normal(0, 3, 50), 2)
    data = Labelled(shared, np.tile([True, False], 50), np.repeat(np.arange(50), 2))
    auc = measure(data, **FEW)["auc"]
    assert auc["ci95"] == pytest.approx([0.5, 0.5])
    alone = measure(Labelled(shared, data.labels, np.arange(100)), **FEW)["auc"]
    assert alone["ci95"][1] - alone["ci95"][0] > 0.1


def test_one_class_has_no_ranking():
    data = labelled(P1, [1] * 8)
    metrics = measure(data, **FEW)
    assert metrics["auc"] == {"value": None, "ci95": None}
    assert metrics["accuracy"]["value"] == 0.5


def reply(text, is_real, line=1, context=("a",)):
    return LabelledReply(context, text, is_real, "real" if is_real else "fake", line)


def test_pairwise_accuracy_counts_ties_as_nothing_and_names_them():
    """RewardBench's accuracy of the same five pairs is .6."""
    chosen, rejected = [1.2, 0.3, 0.5, 2.0, -1.0], [0.2, 0.4, 0.5, 1.0, -3.0]
    replies = [reply(f"{n}", real, line=n) for n in range(5) for real in (True, False)]
    scores = np.array([s for pair in zip(chosen, rejected, strict=True) for s in pair])
    found = pairwise(replies, scores, form="preference", **FEW)
    assert (found["pairs"], found["ties"]) == (5, 1)
    assert found["accuracy"]["value"] == pytest.approx(0.6)
    assert found["mean_margin"] == pytest.approx(0.78)
    assert found["accuracy"]["ci95"][0] < 0.6 < found["accuracy"]["ci95"][1]


def test_labelled_replies_are_paired_by_their_context():
    replies = [reply("x", True), reply("y", False), reply("z", False), reply("w", False, 1, ("b",))]
    found = pairwise(replies, np.array([1.0, 0.0, 2.0, 0.0]), form="labelled", **FEW)
    assert found["pairs"] == 2 and found["accuracy"]["value"] == 0.5
    assert pairwise(replies[2:], np.array([1.0, 2.0]), form="labelled", **FEW) is None


def test_parts_by_kind_and_by_length():
    data = synthetic()
    kinds = ["real" if real else ("cast", "generated")[i % 2] for i, real in enumerate(data.labels)]
    parts = by_kind(data, kinds, **FEW)
    chosen = data.labels | (np.array(kinds) == "cast")
    expected = roc_auc_score(data.labels[chosen], data.scores[chosen])
    assert set(parts) == {"cast", "generated"}
    assert parts["cast"]["metrics"]["auc"]["value"] == pytest.approx(expected)
    bins = by_length(data, np.arange(400), **FEW)
    assert [(b["least"], b["most"]) for b in bins] == [(0, 99), (100, 199), (200, 299), (300, 399)]
    assert [b["real"] + b["fake"] for b in bins] == [100] * 4
    assert len(by_length(data, np.full(400, 7), **FEW)) == 1


def test_agreement_with_a_judge():
    scores = np.array([-2.0, -1.0, 1.0, 2.0, 4.0])
    found = agreement(scores, np.array([-1.0, 1.0, 3.0, 2.0, 9.0]), **FEW)
    assert found["spearman"]["value"] == pytest.approx(0.9)
    assert found["same_sign"]["value"] == pytest.approx(0.8)
    assert found["pearson"]["value"] == pytest.approx(np.corrcoef(scores, [-1, 1, 3, 2, 9])[0, 1])
    assert agreement(scores, np.ones(5), **FEW)["spearman"]["value"] is None


def test_a_score_that_is_no_number_names_its_reply():
    replies = (reply("fine", True, 1), reply("the broken one", False, 7))
    file = LabelledFile("replies.jsonl", "labelled", replies)
    with pytest.raises(
        UserError, match=r"^replies.jsonl, line 7: --judge .*'the broken one'.* nan"
    ):
        require_finite(np.array([1.0, np.nan]), file, "judge")
    require_finite(np.array([1.0, 2.0]), file, "judge")
