"""Turn, Dialogue, Example: the three shapes of text that every other room works with."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable, Mapping
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


def clean_texts(values: object, field: str) -> tuple[str, ...]:
    """A list of texts, each cleaned by `clean_text`; those that are empty are left out.

    Raises:
        UserError: no list or tuple, or an entry that is no text.
    """
    if not isinstance(values, (list, tuple)):
        raise UserError(
            f'field "{field}" is of type {type(values).__name__}; make it a list of strings'
        )
    blank = (isinstance(value, str) and not value.strip() for value in values)
    return tuple(clean_text(v, field) for v, empty in zip(values, blank, strict=True) if not empty)


def speaker_key(name: str) -> str:
    """What two spellings of one speaker share: case, outer spaces and Unicode form are ignored."""
    return unicodedata.normalize("NFC", name.strip().casefold())


@dataclass(frozen=True)
class Turn:
    """One speaker says one text.

    Attributes:
        speaker, text: cleaned by `clean_text`, whose UserError may rise.
        distractors: replies that could have stood here and did not (ConvAI2's candidates without
            the true one), in the order of their source.
        summary: of what was said before this turn, but for the turn just before it.
        weight: of this turn as a reply, in the loss of the supervised stage; 0: never learnt.
    """

    speaker: str
    text: str
    distractors: tuple[str, ...] = field(default=(), compare=False)
    summary: str = field(default="", compare=False)
    weight: float = field(default=1.0, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "speaker", clean_text(self.speaker, "speaker"))
        object.__setattr__(self, "text", clean_text(self.text, "text"))
        number = isinstance(self.weight, (int, float)) and not isinstance(self.weight, bool)
        if not number or not 0 <= self.weight < math.inf:
            raise UserError(f'field "weight" is {self.weight!r}; give a number from 0 up')
        if self.distractors:
            texts = clean_texts(self.distractors, "candidates")
            others = tuple(text for text in texts if text != self.text)
            object.__setattr__(self, "distractors", others)
        if self.summary:
            object.__setattr__(self, "summary", clean_text(self.summary, "summary"))


@dataclass(frozen=True)
class Dialogue:
    """Turns in the order in which they were said.

    Attributes:
        id: unique among the dialogues read together.
        turns: at least one.
        group: the unit that `split_dialogues` never divides, an episode for instance; left empty,
            it is the id.
        personas: name of a speaker to sentences that describe them.
        split: "train", "valid" or "test", where the source says which; else empty.
        line: of its file, on which it begins, from 1; 0 where that means nothing.

    Raises:
        UserError: no turns, or an id, group or persona that `clean_text` refuses.
    """

    id: str
    turns: tuple[Turn, ...]
    group: str = ""
    personas: Mapping[str, tuple[str, ...]] = field(default_factory=dict, compare=False)
    split: str = field(default="", compare=False)
    line: int = field(default=0, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "id", clean_text(self.id, "dialogue_id"))
        group = clean_text(self.group, "group") if self.group else self.id
        object.__setattr__(self, "group", group)
        if not self.turns:
            raise UserError('field "turns" is empty; a dialogue needs at least one turn')
        if self.personas:
            personas = {
                speaker_key(name): clean_texts(sentences, "persona")
                for name, sentences in self.personas.items()
            }
            object.__setattr__(self, "personas", personas)

    def persona_of(self, speaker: str) -> tuple[str, ...]:
        """Sentences that describe `speaker`, found by `speaker_key`; empty where there are none."""
        return self.personas.get(speaker_key(speaker), ()) if self.personas else ()


class Context(tuple[str, ...]):
    """The texts before a reply, oldest first, and what else may condition it.

    It is the tuple of its texts, equal to any other such tuple: whoever reads text alone (a reward,
    a judge) needs to know no more.

    Attributes:
        persona: sentences that describe who replies.
        summary: of the texts but the last.
    """

    persona: tuple[str, ...]
    summary: str

    def __new__(
        cls, texts: Iterable[str], persona: Iterable[str] = (), summary: str = ""
    ) -> Context:
        context = super().__new__(cls, texts)
        context.persona = tuple(persona)
        context.summary = summary
        return context


@dataclass(frozen=True)
class Example:
    """A context and the reply that a human gave to it.

    Attributes:
        context: texts of the turns before the reply, oldest first, at least one; a plain tuple
            becomes a `Context` without persona and summary.
        reply: the text of the reply.
        speaker: who replies, spelled as in the dialogue.
        dialogue_id: `Dialogue.id` of the dialogue it was taken from.
        answers: who spoke the last turn of the context, where that is known.
        distractors: wrong replies, for next-utterance classification and hits@1.
        weight: of the reply in the loss of the supervised stage.
        group: `Dialogue.group` of that dialogue; left empty, the dialogue itself.

    Raises:
        UserError: an empty context, or a text that `clean_text` refuses.
    """

    context: tuple[str, ...]
    reply: str
    speaker: str
    dialogue_id: str
    answers: str = field(default="", compare=False)
    distractors: tuple[str, ...] = field(default=(), compare=False)
    weight: float = field(default=1.0, compare=False)
    group: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        if not self.context:
            raise UserError('field "context" is empty; an example needs at least one earlier turn')
        texts = tuple(clean_text(text, "context") for text in self.context)
        if isinstance(self.context, Context):
            context = Context(texts, self.context.persona, self.context.summary)
        else:
            context = Context(texts)
        object.__setattr__(self, "context", context)
        object.__setattr__(self, "reply", clean_text(self.reply, "reply"))
        object.__setattr__(self, "speaker", clean_text(self.speaker, "speaker"))
        object.__setattr__(self, "dialogue_id", clean_text(self.dialogue_id, "dialogue_id"))
        object.__setattr__(self, "group", self.group or self.dialogue_id)
