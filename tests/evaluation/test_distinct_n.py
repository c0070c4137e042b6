"""distinct-n against values counted by hand and by reference implementations."""

import pytest

from rlhf_dialog.errors import UserError
from rlhf_dialog.evaluation.metrics.distinct_n.distinct_n import DistinctN, distinct_n

PLAIN = ["hello there", "hello you there", "i do not know", "i do not know"]
PUNCTUATED = ["I don't know.", "i don't know!", "The cat sat on the mat", "a cat sat on a mat"]
SHORT = ["yes", "", "no no no no", "yes i do like it"]
COLLAPSED = ["i do not know ."] * 5
LONG = [
    "the quick brown fox jumps over the lazy dog",
    "the quick brown fox sleeps under the lazy dog",
    "my dog jumps over the fox",
]
# (replies, n): split on white space: corpus, mean over replies without the short ones and with them
# as 0; over tokens (Li 2016)
WHITESPACE = [
    (PLAIN, 1, 7 / 13, 1.0, 1.0, 7 / 13),
    (PLAIN, 2, 6 / 9, 1.0, 1.0, 6 / 13),
    (PLAIN, 3, 3 / 5, 1.0, 0.75, 3 / 13),
    (PUNCTUATED, 1, 12 / 18, 0.9583333333333334, 0.9583333333333334, 12 / 18),
    (PUNCTUATED, 2, 12 / 14, 1.0, 1.0, 12 / 18),
    (PUNCTUATED, 3, 9 / 10, 1.0, 1.0, 9 / 18),
    (SHORT, 1, 6 / 10, 0.75, 0.5625, 6 / 10),
    (SHORT, 2, 5 / 7, 0.6666666666666666, 0.3333333333333333, 5 / 10),
    (SHORT, 3, 4 / 5, 0.75, 0.375, 4 / 10),
    (COLLAPSED, 1, 5 / 25, 1.0, 1.0, 5 / 25),
    (COLLAPSED, 2, 4 / 20, 1.0, 1.0, 4 / 25),
    (COLLAPSED, 3, 3 / 15, 1.0, 1.0, 3 / 25),
    (LONG, 1, 11 / 24, 0.9259259259259259, 0.9259259259259259, 11 / 24),
    (LONG, 2, 14 / 21, 1.0, 1.0, 14 / 24),
    (LONG, 3, 14 / 18, 1.0, 1.0, 14 / 24),
]
# ParlAI's interdistinct and intradistinct, as it printed them; it gives a short reply 1e-7
PARLAI = [
    (PLAIN, 3, 0.6, 0.7500000250000001),
    (PUNCTUATED, 1, 0.5, 1.0),
    (PUNCTUATED, 2, 0.5, 1.0),
    (PUNCTUATED, 3, 0.5, 1.0),
    (SHORT, 1, 0.6, 0.5625000250000001),
    (SHORT, 2, 0.7142857142857143, 0.33333338333333334),
    (SHORT, 3, 0.8, 0.37500005000000003),
    (COLLAPSED, 2, 0.2, 1.0),
    (LONG, 1, 0.5263157894736842, 1.0),
    (LONG, 2, 0.75, 1.0),
    (LONG, 3, 0.9230769230769231, 1.0),
]
# split on white space: expectation-adjusted with 10, 100 and 50257 tokens to choose from
ADJUSTED = [
    (PLAIN, 1, 0.9385725489612163, 0.5715266547287547, 0.5385258264049381),
    (PLAIN, 2, 0.9794646886255394, 0.6937799532762365, 0.6667197290264691),
    (PUNCTUATED, 3, 1.3818059395088667, 0.9412461105832104, 0.9000805887264766),
    (SHORT, 1, 0.9212039596725777, 0.6274974070554736, 0.600053725817651),
    (SHORT, 3, 0.9767771238797589, 0.8161607983355186, 0.8000318369931413),
    (COLLAPSED, 1, 0.5386710890884367, 0.2250441350472821, 0.20004775865879756),
    (COLLAPSED, 2, 0.4553613039662113, 0.21966789658095007, 0.20003780831126716),
    (LONG, 2, 1.5720074680625975, 0.7357882559638284, 0.6667993278479589),
]


@pytest.mark.parametrize(("replies", "n", "corpus", "reply", "as_0", "li"), WHITESPACE)
def test_split_on_white_space(replies, n, corpus, reply, as_0, li):
    levels = {"corpus": corpus, "reply": reply, "reply_short_as_0": as_0, "li2016": li}
    for level, value in levels.items():
        found = distinct_n(replies, n, level, normalization="whitespace")
        assert found == pytest.approx(value, abs=1e-12), level


@pytest.mark.parametrize(("replies", "n", "inter", "intra"), PARLAI)
def test_parlai(replies, n, inter, intra):
    assert distinct_n(replies, n, "corpus", "parlai") == pytest.approx(inter, abs=1e-12)
    assert distinct_n(replies, n, "reply_short_as_0", "parlai") == pytest.approx(intra, abs=1e-6)


@pytest.mark.parametrize(("replies", "n", "v10", "v100", "v50257"), ADJUSTED)
def test_expectation_adjusted(replies, n, v10, v100, v50257):
    for size, value in {10: v10, 100: v100, 50257: v50257}.items():
        found = distinct_n(replies, n, "expectation_adjusted", "whitespace", size)
        assert found == pytest.approx(value, abs=1e-9)


def test_one_word_vocabulary_can_show_one_word():
    assert distinct_n(["no no"], 1, "expectation_adjusted", vocabulary_size=1) == 1.0


def test_class_can_be_used_without_the_loader(tmp_path):
    metric = DistinctN(cache_dir=str(tmp_path))
    assert metric.compute(predictions=["no no no", "yes"], n=1) == {"distinct": 0.5}
    result = metric.compute(
        predictions=SHORT, n=3, level="reply_short_as_0", normalization="whitespace"
    )
    assert result == {"distinct": 0.375}
    assert metric.compute(predictions=[]) == {"distinct": 0.0}


def test_normalization_decides_what_repeats():
    replies = ["I know.", "i know !"]
    assert distinct_n(replies, 1, normalization="whitespace") == 1.0
    assert distinct_n(replies, 1, normalization="words") == 4 / 6
    assert distinct_n(replies, 1, normalization="parlai") == 2 / 4


@pytest.mark.parametrize(
    "level", ["corpus", "reply", "reply_short_as_0", "li2016", "expectation_adjusted"]
)
def test_zero_when_nothing_is_left(level):
    assert distinct_n([], 2, level, vocabulary_size=9) == 0.0
    assert distinct_n(["yes", ""], 2, level, vocabulary_size=9) == 0.0


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"n": 0}, "n: 0"),
        ({"level": "sentence"}, "level: 'sentence' .* reply_short_as_0"),
        ({"normalization": "lower"}, "normalization: 'lower' .* parlai"),
        ({"level": "expectation_adjusted"}, "vocabulary_size: None"),
        ({"level": "expectation_adjusted", "vocabulary_size": 0}, "vocabulary_size: 0"),
    ],
    ids=str,
)
def test_refuses_what_it_does_not_know(wrong, told):
    with pytest.raises(UserError, match=told):
        distinct_n(["a reply"], **wrong)
