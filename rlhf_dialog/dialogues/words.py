"""Words of a text in any script: what n-grams are made of and lengths are counted in."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence

import regex

# In this order: one character of a script written without spaces (else a Japanese sentence would be
# a single word); a word, whose inner apostrophe belongs to it; any other visible character. This is
# the one definition: what is counted in data and what is measured on replies are the same words.
_TOKENS = regex.compile(
    r"(?=[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}])\X"
    r"|[\p{L}\p{M}\p{N}]+(?:['’][\p{L}\p{M}\p{N}]+)*"
    r"|(?=\S)\X"
)
_CLOSING = regex.compile(r"\s*[^\p{L}\p{M}\p{N}\p{Cc}\s]+\Z")


def tokenize(text: str) -> list[str]:
    """Words and punctuation marks in lower case, accents composed (NFC).

    `don't` is one word; Korean is divided at its spaces, and scripts without spaces give one token
    a character.
    """
    return _TOKENS.findall(unicodedata.normalize("NFC", text).lower())


def count_words(text: str) -> int:
    """Tokens that are not punctuation."""
    return sum(any(character.isalnum() for character in token) for token in tokenize(text))


def ngrams(tokens: Sequence[str], n: int) -> Iterator[tuple[str, ...]]:
    """The n-grams of a token sequence in order: max(0, len(tokens) - n + 1) tuples."""
    return (tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1))


def split_closing_mark(text: str) -> tuple[str, str]:
    """A text without the marks that close it, and these, with the space before them: "Aye, aye" and
    "!", "no way" and " !". A text that is made of marks alone stays whole."""
    body = _CLOSING.sub("", text)
    return (body, text[len(body) :]) if body else (text, "")


def split_words(text: str) -> tuple[list[str], str, str]:
    """Words, the space between them, and the mark that closes the text; characters where there is
    a single word, as in Japanese.

    To be put together in another way: the mark is no part, as moved or lost it would tell by itself
    that something was done to the text.
    """
    body, mark = split_closing_mark(text.strip())
    words = body.split()
    return (words, " ", mark) if len(words) > 1 else (list(body), "", mark)
