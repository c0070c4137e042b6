"""Penalties by hand, in scripts with and without spaces."""

import pytest

from rlhf_dialog.discriminators.penalties import CopyPenalty, LengthPenalty, RepetitionPenalty
from rlhf_dialog.errors import UserError

TEA = [["Would you like tea?", "The captain is late."]]


@pytest.mark.parametrize(
    ("n", "reply", "expected"),
    [
        (1, "no no no no", -3 / 4),
        (2, "No, no, no, no", -4 / 6),  # no-, ,-no three times each: two of six are new
        (2, "the tea is the tea", -1 / 4),
        (2, "yes", 0),
        (2, "", 0),
        (2, "はいはいはい", -3 / 5),  # はい いは はい いは はい
        (2, "네 네 네", -1 / 2),
    ],
)
def test_repetition(n, reply, expected):
    assert RepetitionPenalty(n)([["?"]], [reply]).item() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("n", "reply", "expected"),
    [
        (2, "the captain is early", -2 / 3),
        (2, "tea? The", -1 / 2),  # "? the" runs over the end of a turn: nobody said it
        (3, "The Captain", -1),  # shorter than n: one n-gram of its own length
        (3, "captain the", 0),
        (3, "", 0),
        (3, "I do not know", 0),
    ],
)
def test_copying(n, reply, expected):
    assert CopyPenalty(n)(TEA, [reply]).item() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("", -1),
        ("!?", -1),
        ("aye .", -3 / 4),
        ("one two three four", 0),
        ("one, two, three, four, five!", 0),
        ("a b c d e f", -1 / 5),
        ("a " * 50, -1),
        ("お茶が好き", 0),  # five characters count as five words
    ],
)
def test_length(reply, expected):
    assert LengthPenalty(4, 5)([["?"]], [reply]).item() == pytest.approx(expected)


def test_what_cannot_be_is_refused():
    with pytest.raises(UserError, match="from 5 to 4 words is no band"):
        LengthPenalty(5, 4)
    with pytest.raises(UserError, match="n-grams of a penalty: 0"):
        CopyPenalty(0)
