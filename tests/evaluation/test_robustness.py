import random

import numpy as np
import pytest

from rlhf_dialog.dialogues.labelled import LabelledReply
from rlhf_dialog.evaluation.robustness import (
    DEGENERATE,
    EDITS,
    MOST_REPLIES,
    degenerate_replies,
    harmless_edits,
    some_reals,
)


def real(text, context=("Who is there?",)):
    return LabelledReply(context, text, True, "real", 1)


@pytest.mark.parametrize(
    ("edit", "reply", "edited"),
    [
        ("casing", "Oh, NORA!", "oh, nora!"),
        ("casing", "oh", "Oh"),
        ("casing", "안녕", "안녕"),
        ("final_punctuation", "Aye.", "Aye"),
        ("final_punctuation", "Aye", "Aye."),
        ("final_punctuation", "Aye?", "Aye?"),
        ("final_punctuation", "はい", "はい。"),
        ("final_punctuation", "네", "네."),
        ("final_punctuation", "...", "..."),
        ("whitespace", "a b", " a  b "),
    ],
)
def test_edits(edit, reply, edited):
    assert EDITS[edit](reply) == edited


@pytest.mark.parametrize(
    ("kind", "reply", "broken"),
    [
        ("empty", "a b c", ""),
        ("repeated", "a b c", "a b a b a b a b"),
        ("repeated", "안녕하세요", "안녕안녕안녕안녕"),
        ("repeated", "a b, c?!", "a b, a b, a b, a b,?!"),
        ("copied_context", "a", "Who is there?"),
    ],
)
def test_degenerate_replies(kind, reply, broken):
    assert DEGENERATE[kind](real(reply), random.Random(0)) == broken


def test_shuffled_words_are_the_same_words_in_any_script():
    shuffle = DEGENERATE["shuffled_words"]
    words = shuffle(real("one two three four five"), random.Random(0)).split()
    assert sorted(words) == ["five", "four", "one", "three", "two"] != words
    assert shuffle(real("one two three four five!"), random.Random(0)) == " ".join(words) + "!"
    assert sorted(shuffle(real("おはようございます"), random.Random(0))) == sorted(
        "おはようございます"
    )


def test_changes_and_shares_of_a_reward_that_is_known():
    """A reward that counts capitals, and one that counts characters."""
    reals = [real("Aye NORA"), real("No."), real("well")]

    def capitals(contexts, replies):
        return np.array([sum(c.isupper() for c in reply) - 1.5 for reply in replies])

    edits = harmless_edits(capitals, reals, spread=2.0)
    casing = edits["casing"]
    assert casing["count"] == 3  # -5, -1, +1
    assert casing["mean_change"] == pytest.approx(-5 / 3)
    assert casing["mean_absolute_change"] == pytest.approx(7 / 3)
    assert casing["relative"] == pytest.approx(7 / 6)
    assert casing["flips"] == pytest.approx(1 / 3)
    assert edits["whitespace"]["mean_absolute_change"] == 0 and edits["whitespace"]["flips"] == 0

    def length(contexts, replies):
        return np.array([float(len(reply)) for reply in replies])

    shares = degenerate_replies(length, reals, resamples=100, seed=0)
    assert shares["empty"]["below"] == {"value": 1.0, "ci95": [1.0, 1.0]}
    assert shares["repeated"]["below"]["value"] == 0
    assert shares["shuffled_words"]["below"]["value"] == 0  # ties are not below


def test_a_large_file_is_sampled_and_always_the_same_way():
    many = [real(f"{n}") for n in range(MOST_REPLIES + 50)]
    assert len(some_reals(many, 3)) == MOST_REPLIES
    assert some_reals(many, 3) == some_reals(many, 3)
    assert some_reals(many[:5], 3) == many[:5]
