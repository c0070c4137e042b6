"""Each warning speaks up on its own cause, and on nothing else."""

import pytest

from rlhf_dialog.evaluation.cautions import warnings
from tests.evaluation.reports import metric, row, updates, whole_report


def test_no_warning_without_cause(report, history):
    assert warnings(report, history) == []
    assert warnings(whole_report(), history) == []


@pytest.mark.parametrize(
    ("name", "entry", "expected"),
    [
        ("judge_score", metric(-1.6, -1.57, [-0.1, 0.16]), "Reward hacking"),
        ("judge_score", metric(-1.6, -1.9, [-0.5, -0.1]), "Reward hacking"),
        ("judge_score", metric(-1.6, -0.4, [0.9, 1.5], human=-0.9), "above the human"),
        ("judge_score", metric(-1.6, -1.2, [0.1, 1.5], human=-0.9), "interval is wide (± 0.70)"),
        ("reply_length", metric(10.0, 6.9), "Reply length went from 10.0 to 6.9"),
        ("reply_length", metric(10.0, 13.1), "Reply length went from 10.0 to 13.1"),
        ("distinct_2", metric(0.8, 0.71), "Distinct-2 went from 0.800 to 0.710"),
        ("perplexity", metric(100.0, 116.0), "forgetting"),
        ("most_frequent_reply", metric(0.01, 0.3), "collapses: most frequent reply 1% to 30%"),
        ("empty_replies", metric(0.0, 0.2), "collapses: empty replies 0% to 20%"),
        ("copied_turns", metric(0.01, 0.2, human=0.02), "by heart"),
    ],
)
def test_each_warning_alone(report, name, entry, expected):
    report["metrics"][name] = entry
    (warning,) = warnings(report)
    assert expected in warning


@pytest.mark.parametrize(
    ("name", "entry"),
    [
        ("reply_length", metric(10.0, 7.1)),
        ("reply_length", metric(10.0, 12.9)),
        ("distinct_2", metric(0.8, 0.73)),
        ("perplexity", metric(100.0, 114.0)),
        ("perplexity", metric(100.0, 50.0)),
        ("most_frequent_reply", metric(0.06, 0.09)),
        ("copied_turns", metric(0.05, 0.2, human=0.25)),
    ],
)
def test_no_warning_within_the_limits(report, name, entry):
    report["metrics"][name] = entry
    assert warnings(report) == []


def test_few_contexts_are_told(report):
    assert "49 test contexts" in warnings(report | {"test_contexts": 49})[0]
    assert warnings(report | {"test_contexts": 50}) == []


def test_a_control_that_does_as_well_is_told():
    report = whole_report()
    report["generators"]["supervised"] = row("control", -0.7, 1.0)
    (warning,) = warnings(report)
    assert "no higher than a control: supervised (−0.70)" in warning


def test_a_gain_of_length_alone_is_told():
    report = whole_report()
    report["length_bins"]["matched"] = {"difference": 0.1, "ci95": [0.0, 0.2]}
    (warning,) = warnings(report)
    assert "Length explains most of the gain" in warning and "0.10" in warning


def test_forgetting_on_general_dialogue_is_told():
    report = whole_report()
    report["retention"] |= {"source": "talk", "metrics": {"perplexity": metric(50.0, 60.0)}}
    (warning,) = warnings(report)
    assert warning.startswith("On general dialogue (talk)") and "1.20 times" in warning


def test_a_weak_judge_is_told():
    report = whole_report()
    report["held_out"]["judge"]["auc/cast"] = 0.6
    (warning,) = warnings(report)
    assert "hardly tells" in warning and "0.60" in warning


def _judged(*scores):
    """Updates with these judge scores under a reward that rises throughout."""
    rows = updates()
    for place, (of, score) in enumerate(zip(rows, scores, strict=True)):
        of |= {"judge/score": score, "objective/scores": place / 10}
    return rows


def test_over_optimisation_is_told(report):
    rise, fall = [n / 10 for n in range(15)], [1.4 - n / 10 for n in range(15)]
    (warning,) = warnings(report, _judged(*rise, *fall))
    assert warning.startswith("Over-optimised: the judge's score was highest around update 15")
    assert warnings(report, _judged(*rise, *([1.4] * 15))) == []
    constant = _judged(*rise, *fall)
    for of in constant:
        of["objective/scores"] = 0.0
    assert warnings(report, constant) == []  # no reward rose, so none was over-optimised


@pytest.mark.parametrize(("share", "word"), [(0.99, "flat"), (0.05, "tells nothing")])
def test_a_discriminator_that_teaches_nothing_is_told(report, history, share, word):
    for of in history:
        if "discriminator/accuracy_fresh" in of:
            of["discriminator/accuracy_fresh"] = share
    (warning,) = warnings(report, history)
    assert word in warning
