"""distinct-n: how many of the n-grams in a set of replies are different from each other.

An `evaluate` module that stands alone: `evaluate.load("<this folder>")` copies the file into a
cache and imports it from there, so it uses nothing else of the project. The loader also needs the
class to be written `evaluate.Metric`; a `from evaluate import Metric` breaks it.
"""

import unicodedata
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import datasets
import evaluate
import regex

Level = Literal["corpus", "reply"]
Normalization = Literal["none", "words"]

# In this order: one character of a script written without spaces (else a Chinese sentence would be
# a single word); a word, whose inner apostrophe belongs to it; any other visible character (a
# punctuation mark, a whole emoji). Marks (\p{M}) are the vowel signs of Indic scripts, which
# Python's own \w leaves out.
_WORDS = regex.compile(
    r"(?=[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}])\X"
    r"|[\p{L}\p{M}\p{N}]+(?:['’][\p{L}\p{M}\p{N}]+)*"
    r"|(?=\S)\X"
)

_CITATION = """\
@inproceedings{li-etal-2016-diversity,
    title = "A Diversity-Promoting Objective Function for Neural Conversation Models",
    author = "Li, Jiwei and Galley, Michel and Brockett, Chris and Gao, Jianfeng and Dolan, Bill",
    booktitle = "Proceedings of NAACL-HLT 2016",
    year = "2016",
    pages = "110--119",
}
"""

_DESCRIPTION = """\
distinct-n is the share of different n-grams among all n-grams of a set of replies. 1 means that no
n-gram is said twice; a model that gives one reply to everything falls towards 0.
"""

_INPUTS = """
Args:
    predictions (list[str]): the replies.
    n (int): length of the n-grams, in tokens. Default 2.
    level (str): "corpus" (default) divides the unique n-grams of all replies by all their n-grams;
        "reply" is the mean of the ratios of the single replies, those too short for an n-gram
        skipped. Either is 0.0 when there is no n-gram at all.
    normalization (str): "none" (default) splits on white space; "words" lower-cases and takes words
        and punctuation marks.
Returns:
    distinct (float): between 0 and 1.
Examples:
    >>> metric = evaluate.load("distinct_n")
    >>> metric.compute(predictions=["no no no", "yes"], n=1)
    {'distinct': 0.5}
"""


def tokens(text: str, normalization: Normalization = "none") -> list[str]:
    """Split a reply into tokens.

    "none" splits on white space. "words" lower-cases, composes accents (NFC) and takes words and
    punctuation marks; `don't` is one word, and scripts without spaces give one token a character.

    Raises ValueError for any other normalization.
    """
    if normalization == "none":
        return text.split()
    if normalization == "words":
        return _WORDS.findall(unicodedata.normalize("NFC", text).lower())
    raise ValueError(f"normalization is {normalization!r}; it must be 'none' or 'words'.")


def ngrams(tokens: Sequence[str], n: int) -> Iterator[tuple[str, ...]]:
    """The n-grams of a token sequence in order: max(0, len(tokens) − n + 1) tuples of length n.

    Raises ValueError when n < 1.
    """
    if n < 1:
        raise ValueError(f"n is {n}; an n-gram has at least one token.")
    return (tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1))


def distinct_n(
    replies: Sequence[str],
    n: int = 2,
    level: Level = "corpus",
    normalization: Normalization = "none",
) -> float:
    """Unique n-grams over all n-grams, in [0, 1]; 0.0 when there is no n-gram.

    corpus:  |⋃ᵣ set(gramsₙ(r))| / Σᵣ |gramsₙ(r)|      (DSTC7, DialoGPT, ParlAI's interdistinct)
    reply:   mean of |set(gramsₙ(r))| / |gramsₙ(r)| over the replies that have an n-gram

    Li et al. 2016 (https://aclanthology.org/N16-1014) divide by all tokens, for n = 2 too; here as
    in the later literature the divisor is the number of n-grams.

    Raises ValueError when n < 1 or when level or normalization is unknown.
    """
    grams = [list(ngrams(tokens(reply, normalization), n)) for reply in replies]
    grams = [of_reply for of_reply in grams if of_reply]
    if level == "corpus":
        total = sum(map(len, grams))
        return len(set().union(*grams)) / total if total else 0.0
    if level == "reply":
        ratios = [len(set(of_reply)) / len(of_reply) for of_reply in grams]
        return sum(ratios) / len(ratios) if ratios else 0.0
    raise ValueError(f"level is {level!r}; it must be 'corpus' or 'reply'.")


class DistinctN(evaluate.Metric):
    """`distinct_n` behind the `evaluate` interface; see the card beside this file."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": datasets.Value("string")}),
            reference_urls=["https://aclanthology.org/N16-1014"],
        )

    def _compute(
        self,
        predictions: list[str],
        n: int = 2,
        level: Level = "corpus",
        normalization: Normalization = "none",
        **_: Any,  # `evaluate` passes references=None to a metric that has no references
    ) -> dict[str, float]:
        return {"distinct": distinct_n(predictions, n, level, normalization)}
