import random

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from rlhf_dialog.discriminators.negatives import Pair
from rlhf_dialog.discriminators.shortcuts import letter_shapes, shortcut_report
from rlhf_dialog.discriminators.training import mixed_auc
from rlhf_dialog.settings import DiscriminatorSettings
from tests.discriminators.toy import WORDS

SETTINGS = DiscriminatorSettings(match_lengths=False)
KOREAN = ["바다", "등대", "선장", "밤", "비", "문", "배", "차"]


def pools(real, fake, count=120):
    """`real` and `fake` say (random generator) -> reply; four replies a dialogue."""
    rng = random.Random(5)
    kinds = {"real": real, "cast": fake}
    return {
        kind: [Pair(("why ?",), say(rng), kind, f"d{n // 4}") for n in range(count)]
        for kind, say in kinds.items()
    }


def said(words, low=3, high=6, end=" ."):
    return lambda rng: " ".join(rng.choices(words, k=rng.randint(low, high))) + end


def cast_aucs(real, fake):
    report = shortcut_report(pools(real, fake), SETTINGS, seed=0)
    return {name: aucs["cast"] for name, aucs in report.items()}


def test_each_shortcut_finds_its_own_leak_and_only_that():
    length = cast_aucs(said(WORDS, 3, 5), said(WORDS, 9, 12))
    assert length["length"] > 0.99
    casing = cast_aucs(said(WORDS), lambda rng: said(WORDS)(rng).capitalize())
    assert casing["casing_punctuation"] > 0.99 and casing["length"] < 0.6
    assert casing["bag_of_words"] < 0.65  # it lower-cases
    words = cast_aucs(said(WORDS[:6]), said(WORDS[2:]))
    assert words["bag_of_words"] > 0.9
    assert words["casing_punctuation"] < 0.65
    nothing = cast_aucs(said(WORDS), said(WORDS))
    assert max(nothing.values()) < 0.65


def test_a_middle_length_is_found_too():
    """Reals of 6 words among fakes of 2 and 14: no threshold on length tells them."""
    fake = lambda rng: said(WORDS, *rng.choice([(2, 2), (14, 14)]))(rng)  # noqa: E731
    assert cast_aucs(said(WORDS, 6, 6), fake)["length"] > 0.95


def test_scripts_without_spaces():
    real = lambda rng: "".join(rng.choices(KOREAN[:6], k=4)) + "다"  # noqa: E731
    fake = lambda rng: "".join(rng.choices(KOREAN[2:], k=4)) + "요"  # noqa: E731
    aucs = cast_aucs(real, fake)
    assert aucs["bag_of_words"] > 0.95 and aucs["casing_punctuation"] < 0.65


@pytest.mark.parametrize(
    ("reply", "shapes"),
    [
        ("Oh, NORA! it's 12...", "Aa, A! a'a 9..."),
        ("안녕 하세요!!", "o o!!"),
        ("ships  ahoy", "a  a"),
        ("", ""),
    ],
)
def test_letter_shapes(reply, shapes):
    assert letter_shapes(reply) == shapes


def test_mixed_auc_is_that_of_the_mixture():
    """Against scikit-learn, with the fakes weighted by their shares."""
    rng = np.random.default_rng(0)
    reals = rng.normal(1, 1, 40).round(1)
    fakes = {"cast": rng.normal(0, 1, 30).round(1), "generated": rng.normal(0.5, 1, 70).round(1)}
    shares = {"cast": 0.7, "generated": 0.3}
    labels = np.r_[np.ones(40), np.zeros(100)]
    weights = np.r_[np.ones(40), np.full(30, 0.7 / 30), np.full(70, 0.3 / 70)]
    scores = np.r_[reals, fakes["cast"], fakes["generated"]]
    aucs = {
        kind: roc_auc_score(np.r_[np.ones(40), np.zeros(len(f))], np.r_[reals, f])
        for kind, f in fakes.items()
    }
    expected = roc_auc_score(labels, scores, sample_weight=weights)
    assert mixed_auc(aucs, shares) == pytest.approx(expected, abs=1e-9)


def test_all_kinds_and_their_mixture_are_reported():
    report = shortcut_report(pools(said(WORDS), said(WORDS)), SETTINGS, seed=0)
    assert set(report) == {"length", "casing_punctuation", "bag_of_words"}
    for aucs in report.values():
        assert set(aucs) == {"cast", "wrong_context", "degenerate", "all"}
        # A real reply elsewhere is a real reply: nothing in it tells.
        assert aucs["wrong_context"] == pytest.approx(0.5, abs=0.02)
    assert report["length"]["degenerate"] > 0.7
