"""What a token is, in any script."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_dialog.evaluation.metrics.text import characters, ngrams, parlai_normalized, tokens

FAMILY, FLAG = "👩‍👩‍👧", "🇰🇷"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Aye, I don't KNOW!", ["aye", ",", "i", "don't", "know", "!"]),
        ("wait...", ["wait", ".", ".", "."]),
        ("오늘 세탁기가 멈췄어요?", ["오늘", "세탁기가", "멈췄어요", "?"]),
        ("我不知道。", ["我", "不", "知", "道", "。"]),
        ("हिन्दी में", ["हिन्दी", "में"]),
        (f"ça va {FAMILY} ok {FLAG}", ["ça", "va", FAMILY, "ok", FLAG]),
        ("cafe\u0301", ["café"]),
        (" \n\t ", []),
    ],
)
def test_words_in_any_script(text, expected):
    assert tokens(text, "words") == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Aye!", ["A", "y", "e", "!"]),
        (unicodedata.normalize("NFD", "세탁기"), ["세", "탁", "기"]),
        (f"知 {FAMILY}{FLAG}", ["知", FAMILY, FLAG]),
        ("が", ["が"]),
    ],
)
def test_characters_are_what_a_reader_takes_for_one(text, expected):
    assert tokens(text, "characters") == expected
    assert characters(f" {text}\n") == len(expected) + text.count(" ")


@pytest.mark.parametrize(  # ParlAI's own output
    ("text", "normalized"),
    [
        ("the cat sat", "cat sat"),
        ("I like dogs!", "i like dogs"),
        ("no overlap here", "no overlap here"),
        ("", ""),
    ],
)
def test_parlai(text, normalized):
    assert parlai_normalized(text) == normalized


def test_parlai_knows_ascii_punctuation_and_english_only():
    assert tokens("An apple, Anna's… the\\end", "parlai") == ["apple", "anna", "s…", "end"]
    assert tokens("오늘 알아요. 知りません。", "parlai") == ["오늘", "알아요", "知りません。"]


def test_ngrams_in_order():
    assert list(ngrams(["a", "b", "c"], 2)) == [("a", "b"), ("b", "c")]
    assert list(ngrams(["a", "b"], 3)) == []


@given(st.text())
def test_no_visible_character_is_lost(text):
    composed = unicodedata.normalize("NFC", text)
    visible = "".join(composed.split())
    assert "".join("".join(tokens(text, "characters")).split()) == visible
    assert "".join("".join(tokens(text, "words")).split()) == "".join(composed.lower().split())
