from hypothesis import given
from hypothesis import strategies as st

from rlhf_dialog.dialogues import words
from rlhf_dialog.evaluation.metrics.distinct_n import distinct_n


@given(st.text() | st.text("don't, 네はい茶é!  ’a"))
def test_the_metrics_divide_texts_alike(text):
    tokens = words.tokenize(text)
    assert tokens == distinct_n.tokens(text, "words")
    for n in (1, 2, 3):
        assert list(words.ngrams(tokens, n)) == list(distinct_n.ngrams(tokens, n))


def test_words_are_counted_without_punctuation():
    assert words.count_words("Don't — say: 네, 좋아요 !") == 4
    assert words.count_words("お茶。") == 2
    assert words.count_words("... ?!") == 0


@given(st.text())
def test_a_closing_mark_is_all_that_is_split_off(text):
    body, mark = words.split_closing_mark(text)
    assert body + mark == text
    assert not any(character.isalnum() for character in mark)
    assert bool(body) == bool(text)


def test_closing_marks_in_several_scripts():
    for text, mark in (
        ("Aye, aye?!", "?!"),
        ('She said "no."', '."'),
        ("Aye", ""),
        ("no way !", " !"),
        ("좋아요…", "…"),
        ("はい。", "。"),
        ("Tea 🫖", " 🫖"),
        ("...", ""),  # nothing else is there
    ):
        assert words.split_closing_mark(text)[1] == mark
