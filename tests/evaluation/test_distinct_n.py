"""distinct-n against values counted by hand and by reference implementations."""

from pathlib import Path

import evaluate
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_dialog.evaluation.metrics.distinct_n import distinct_n as module
from rlhf_dialog.evaluation.metrics.distinct_n.distinct_n import distinct_n, ngrams, tokens

PLAIN = ["hello there", "hello you there", "i do not know", "i do not know"]
PUNCTUATED = ["I don't know.", "i don't know!", "The cat sat on the mat", "a cat sat on a mat"]
SHORT = ["yes", "", "no no no no", "yes i do like it"]
COLLAPSED = ["i do not know ."] * 5
LONG = [
    "the quick brown fox jumps over the lazy dog",
    "the quick brown fox sleeps under the lazy dog",
    "my dog jumps over the fox",
]
# (replies, n): (corpus, mean over replies without the short ones), split on white space
REFERENCE = [
    (PLAIN, 1, 7 / 13, 1.0),
    (PLAIN, 2, 6 / 9, 1.0),
    (PLAIN, 3, 3 / 5, 1.0),
    (PUNCTUATED, 1, 12 / 18, 0.9583333333333334),
    (PUNCTUATED, 2, 12 / 14, 1.0),
    (PUNCTUATED, 3, 9 / 10, 1.0),
    (SHORT, 1, 6 / 10, 0.75),
    (SHORT, 2, 5 / 7, 0.6666666666666666),
    (SHORT, 3, 4 / 5, 0.75),
    (COLLAPSED, 1, 5 / 25, 1.0),
    (COLLAPSED, 2, 4 / 20, 1.0),
    (COLLAPSED, 3, 3 / 15, 1.0),
    (LONG, 1, 11 / 24, 0.9259259259259259),
    (LONG, 2, 14 / 21, 1.0),
    (LONG, 3, 14 / 18, 1.0),
]
FOLDER = Path(module.__file__).parent


@pytest.mark.parametrize(("replies", "n", "corpus", "reply"), REFERENCE)
def test_reference_values(replies, n, corpus, reply):
    assert distinct_n(replies, n) == pytest.approx(corpus, abs=1e-12)
    assert distinct_n(replies, n, level="reply") == pytest.approx(reply, abs=1e-12)


def test_loads_as_an_evaluate_module_from_its_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_EVALUATE_OFFLINE", "1")
    metric = evaluate.load(str(FOLDER), cache_dir=str(tmp_path))
    assert metric.compute(predictions=PLAIN, n=2) == {"distinct": pytest.approx(6 / 9)}
    result = metric.compute(predictions=SHORT, n=3, level="reply", normalization="words")
    assert result == {"distinct": pytest.approx(0.75)}


def test_class_can_be_used_without_the_loader(tmp_path):
    metric = module.DistinctN(cache_dir=str(tmp_path))
    assert metric.compute(predictions=["no no no", "yes"], n=1) == {"distinct": 0.5}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Aye, I don't KNOW!", ["aye", ",", "i", "don't", "know", "!"]),
        ("wait...", ["wait", ".", ".", "."]),
        ("오늘 세탁기가 멈췄어요?", ["오늘", "세탁기가", "멈췄어요", "?"]),
        ("我不知道。", ["我", "不", "知", "道", "。"]),
        ("हिन्दी में", ["हिन्दी", "में"]),
        ("ça va 👩‍👩‍👧 ok 🇰🇷", ["ça", "va", "👩‍👩‍👧", "ok", "🇰🇷"]),
        ("cafe\u0301", ["café"]),
        (" \n\t ", []),
    ],
)
def test_words_in_any_script(text, expected):
    assert tokens(text, "words") == expected


def test_normalization_decides_what_repeats():
    replies = ["I know.", "i know !"]
    assert distinct_n(replies, 1, normalization="none") == 1.0
    assert distinct_n(replies, 1, normalization="words") == 4 / 6


def test_ngrams_in_order():
    assert list(ngrams(["a", "b", "c"], 2)) == [("a", "b"), ("b", "c")]
    assert list(ngrams(["a", "b"], 3)) == []


@pytest.mark.parametrize("level", ["corpus", "reply"])
def test_zero_when_nothing_is_left(level):
    assert distinct_n([], 2, level) == 0.0
    assert distinct_n(["yes", ""], 2, level) == 0.0


@pytest.mark.parametrize(
    "wrong", [{"n": 0}, {"level": "sentence"}, {"normalization": "lower"}], ids=str
)
def test_refuses_what_it_does_not_know(wrong):
    with pytest.raises(ValueError, match=str(next(iter(wrong.values())))):
        distinct_n(["a reply"], **wrong)


@given(st.lists(st.text(), max_size=6), st.integers(1, 4), st.sampled_from(["none", "words"]))
def test_bounds_and_repetition(replies, n, normalization):
    value = distinct_n(replies, n, normalization=normalization)
    assert 0.0 <= value <= 1.0
    twice = distinct_n(replies * 2, n, normalization=normalization)
    assert twice == pytest.approx(value / 2)
    per_reply = distinct_n(replies * 2, n, "reply", normalization)
    assert per_reply == pytest.approx(distinct_n(replies, n, "reply", normalization))


@given(st.text())
def test_words_lose_no_visible_character(text):
    kept = "".join(tokens(text, "words"))
    assert "".join(kept.split()) == "".join(
        module.unicodedata.normalize("NFC", text).lower().split()
    )
