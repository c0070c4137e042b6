"""Which tokens of a tokenizer steer a model, so that no text that somebody typed may become one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# The added ones of each tokenizer, by its size: some have thousands, and every text asks for them.
_ADDED: WeakKeyDictionary[PreTrainedTokenizerBase, tuple[int, dict[int, str]]]
_ADDED = WeakKeyDictionary()


def control_tokens(tokenizer: PreTrainedTokenizerBase) -> dict[int, str]:
    """Id to spelling of the special tokens but the unknown one, and of all that were added to the
    vocabulary and do not read as text: ``<think>`` is added without being called special.

    Runs of white space (GPT-NeoX, Gemma) and plain words are text, though they were added.
    """
    size = len(tokenizer)
    known = _ADDED.get(tokenizer)
    if known is None or known[0] != size:
        contents = {n: token.content for n, token in tokenizer.added_tokens_decoder.items()}
        known = size, {n: text for n, text in contents.items() if not _reads_as_text(text)}
        _ADDED[tokenizer] = known
    named = zip(tokenizer.all_special_ids, tokenizer.all_special_tokens, strict=True)
    tokens = {**known[1], **dict(named)}
    tokens.pop(tokenizer.unk_token_id, None)
    return tokens


def without_control_tokens(tokenizer: PreTrainedTokenizerBase, text: str) -> str:
    """`text`, with a space for whatever spells a control token or the unknown one.

    For text that a chat template is filled with: it is tokenized as a whole, so a marker that was
    typed would open or close a turn. Where letters are left that the tokenizer normalizes to a
    marker, `text` is what it makes of them; otherwise every other character stays.
    """
    tokens = control_tokens(tokenizer)
    spelt = sorted({*tokens.values(), tokenizer.unk_token or ""} - {""}, key=len, reverse=True)
    text = _replaced(text, spelt)
    ids = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    if tokens.keys().isdisjoint(ids):
        return text
    return _replaced(tokenizer.decode([token for token in ids if token not in tokens]), spelt)


def all_without_control_tokens(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]
) -> list[str]:
    """`without_control_tokens` of each text, in order; one call tells which of them spell any."""
    if not texts:
        return []
    tokens = control_tokens(tokenizer)
    rows = tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]
    return [
        text if tokens.keys().isdisjoint(ids) else without_control_tokens(tokenizer, text)
        for text, ids in zip(texts, rows, strict=True)
    ]


def _replaced(text: str, spelt: list[str]) -> str:
    """Again until nothing is left, as the space in place of one may complete another."""
    before = None
    while text != before:
        before = text
        for token in spelt:
            text = text.replace(token, " ")
    return text


def _reads_as_text(token: str) -> bool:
    return all(character.isalnum() or character in " \t\r\n▁" for character in token)
