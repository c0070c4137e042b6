"""Turn, Dialogue, Example: the three shapes of text that every other room works with."""

import unicodedata
from dataclasses import dataclass, field

from rlhf_dialog.errors import UserError


def clean_text(value: object, field: str) -> str:
    """`value` as one stripped line; `field` is the name under which an error speaks of it.

    Inner line breaks (any that `str.splitlines` knows) become single spaces. Everything else is
    kept as written: case, punctuation, emoji, runs of spaces.

    Raises:
        UserError: `value` is missing (None), not a string, empty after stripping, or holds half of
            a surrogate pair, which no tokenizer can encode.
    """
    if value is None:
        raise UserError(f'field "{field}" is missing; add it as a string')
    if not isinstance(value, str):
        raise UserError(
            f'field "{field}" is of type {type(value).__name__}; make it a string in quotes'
        )
    text = " ".join(part for line in value.splitlines() if (part := line.strip()))
    if not text:
        raise UserError(f'field "{field}" is empty; fill it in, or remove the entry')
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        code = f"\\u{ord(text[error.start]):04x}"
        raise UserError(
            f'field "{field}" holds {code}, half of a surrogate pair; write the character in full'
        ) from None
    return text


def speaker_key(name: str) -> str:
    """What two spellings of one speaker share: case, outer spaces and Unicode form are ignored."""
    return unicodedata.normalize("NFC", name.strip().casefold())


@dataclass(frozen=True)
class Turn:
    """One speaker says one text. Both are cleaned by `clean_text`, whose UserError may rise."""

    speaker: str
    text: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "speaker", clean_text(self.speaker, "speaker"))
        object.__setattr__(self, "text", clean_text(self.text, "text"))


@dataclass(frozen=True)
class Dialogue:
    """Turns in the order in which they were said.

    Attributes:
        id: unique among the dialogues read together.
        turns: at least one.
        group: the unit that `split_dialogues` never divides, an episode for instance; left empty,
            it is the id.

    Raises:
        UserError: no turns, or an id or group that `clean_text` refuses.
    """

    id: str
    turns: tuple[Turn, ...]
    group: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "id", clean_text(self.id, "dialogue_id"))
        group = clean_text(self.group, "group") if self.group else self.id
        object.__setattr__(self, "group", group)
        if not self.turns:
            raise UserError('field "turns" is empty; a dialogue needs at least one turn')


@dataclass(frozen=True)
class Example:
    """A context and the reply that a human gave to it.

    Attributes:
        context: texts of the turns before the reply, oldest first, at least one.
        reply: the text of the reply.
        speaker: who replies, spelled as in the dialogue.
        dialogue_id: `Dialogue.id` of the dialogue it was taken from.
        answers: who spoke the last turn of the context, where that is known.

    Raises:
        UserError: an empty context, or a text that `clean_text` refuses.
    """

    context: tuple[str, ...]
    reply: str
    speaker: str
    dialogue_id: str
    answers: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        if not self.context:
            raise UserError('field "context" is empty; an example needs at least one earlier turn')
        context = tuple(clean_text(text, "context") for text in self.context)
        object.__setattr__(self, "context", context)
        object.__setattr__(self, "reply", clean_text(self.reply, "reply"))
        object.__setattr__(self, "speaker", clean_text(self.speaker, "speaker"))
        object.__setattr__(self, "dialogue_id", clean_text(self.dialogue_id, "dialogue_id"))
