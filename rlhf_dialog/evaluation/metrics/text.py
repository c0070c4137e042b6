"""Replies as tokens and n-grams: what all metrics on text count, defined once.

The unit is a choice, and every number depends on it:

============  =====================================================================================
words         lower-cased words and punctuation marks of any script; `don't` is one word; scripts
              written without spaces (Han, kana, Thai, Lao, Khmer, Burmese) give one token a
              character
parlai        ParlAI's `normalize_answer`: lower-cased, ASCII punctuation and the English articles
              taken out, split on white space
whitespace    split on white space, nothing changed (DialoGPT, DSTC7)
characters    what a reader takes for one character (a grapheme cluster), case kept, white space
              left out: a Hangul syllable, a kanji, a whole emoji
============  =====================================================================================

`words` and `characters` compose accents and Hangul first (Unicode NFC), so that one text spelt in
two ways counts the same. Korean has spaces, between phrases (eojeol) and not between words;
Japanese and Chinese have none, so for `parlai` and `whitespace` a sentence of theirs is one token.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable, Iterator, Sequence, Sized
from typing import Literal, get_args

import regex

from rlhf_dialog.dialogues import words
from rlhf_dialog.errors import UserError

Normalization = Literal["words", "parlai", "whitespace", "characters"]
Tokens = Sequence[str]
Gram = tuple[str, ...]

_VISIBLE_CHARACTERS = regex.compile(r"(?=\S)\X")
_CHARACTERS = regex.compile(r"\X")
_PARLAI_PUNCTUATION = regex.compile(r"""[!"#$%&()*+,\-./:;<=>?@\[\]\\^`{|}~_']""")
_PARLAI_ARTICLES = regex.compile(r"\b(a|an|the)\b")


def tokens(text: str, normalization: Normalization = "words") -> list[str]:
    """Splits a reply into tokens of the unit named (see the table above).

    Raises:
        UserError: any other normalization.
    """
    if normalization == "words":
        return words.tokenize(text)
    if normalization == "parlai":
        return parlai_normalized(text).split()
    if normalization == "whitespace":
        return text.split()
    if normalization == "characters":
        return _VISIBLE_CHARACTERS.findall(unicodedata.normalize("NFC", text))
    raise unknown("normalization", normalization, get_args(Normalization))


def parlai_normalized(text: str) -> str:
    """`text` in lower case, without ASCII punctuation and English articles, its spaces single
    (`normalize_answer` of parlai/core/metrics.py)."""
    without_punctuation = _PARLAI_PUNCTUATION.sub(" ", text.lower())
    return " ".join(_PARLAI_ARTICLES.sub(" ", without_punctuation).split())


def characters(text: str) -> int:
    """How many characters a reader sees, spaces among them: grapheme clusters of the NFC form,
    white space at both ends left out."""
    return len(_CHARACTERS.findall(unicodedata.normalize("NFC", text.strip())))


def ngrams(tokens: Tokens, n: int) -> Iterator[Gram]:
    """The n-grams of a token sequence in order: max(0, len(tokens) − n + 1) tuples of length n.

    Raises:
        UserError: n < 1.
    """
    if n < 1:
        raise UserError(f"n: {n} is too small; an n-gram has at least 1 token.")
    return words.ngrams(tokens, n)


def tokenized(texts: Iterable[str], normalization: Normalization) -> list[list[str]]:
    """`tokens` of every text."""
    return [tokens(text, normalization) for text in texts]


def mean(values: Sequence[float]) -> float:
    """The mean, rounded once, so that the order of the values does not matter; 0.0 of none."""
    return math.fsum(values) / len(values) if values else 0.0


def one_for_each(**columns: Sized) -> None:
    """Nothing, when the columns have the same length.

    Raises:
        UserError: they differ; names them and their lengths.
    """
    if len({len(column) for column in columns.values()}) > 1:
        told = ", ".join(f"{name} {len(column)}" for name, column in columns.items())
        raise UserError(f"The columns differ in length ({told}); give one entry to each reply.")


def lists_of_texts(name: str, column: Sequence[Sequence[str]]) -> None:
    """Nothing, when every entry is a list. A bare string would be taken for a list of letters.

    Raises:
        UserError: an entry is a string; names its place.
    """
    for row, entry in enumerate(column):
        if isinstance(entry, str):
            raise UserError(
                f"{name}[{row}] is a string where a list of strings belongs; "
                f"write [{entry[:20]!r}] for a list of one."
            )


def check_references(replies: Sized, references: Sequence[Sequence[str]]) -> None:
    """Nothing, when every reply has a list of at least one reference.

    Raises:
        UserError: it has not; names the place.
    """
    one_for_each(replies=replies, references=references)
    lists_of_texts("references", references)
    for row, texts in enumerate(references):
        if not texts:
            raise UserError(f"references[{row}] is empty; give at least one human reply.")


def unknown(name: str, value: object, known: Sequence[str]) -> UserError:
    return UserError(f"{name}: {value!r} is not known; choose one of {', '.join(known)}.")
