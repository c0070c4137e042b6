"""Labelled replies and preference pairs: what a reward model is tested on.

JSON lines, one object a line, one of two forms in a file, any other fields allowed:

    {"context": ["Where were you?"], "reply": "Guess.", "label": 1}
    {"context": ["Where were you?"], "reply": "At home.", "label": 0, "kind": "cast"}

    {"prompt": "Where were you?", "chosen": "Guess.", "rejected": "At home."}
    {"chosen": [{"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Aye."}],
     "rejected": [{"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Hello."}]}

The second form is TRL's: plain strings, or lists of messages with an explicit `prompt` or none. A
prompt that the messages begin with is not read twice, and a plain one beside messages is the
user's. Of messages the last one is the reply and those before it are the context; messages of one
role that follow each other are one turn, and a system message is no turn: it is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Literal

from rlhf_dialog.dialogues.readers import numbered_lines, parsed_object
from rlhf_dialog.dialogues.schema import clean_text
from rlhf_dialog.errors import UserError

Form = Literal["labelled", "preference"]

REAL, FAKE, REJECTED = "real", "fake", "rejected"
_LABELS = {0: False, 1: True, FAKE: False, REAL: True}
_FIELDS: dict[Form, str] = {
    "labelled": '{"context": [...], "reply": "...", "label": 0 or 1}',
    "preference": '{"prompt": ..., "chosen": ..., "rejected": ...}',
}


@dataclass(frozen=True)
class LabelledReply:
    """A reply, and whether it is a real (chosen) one.

    Attributes:
        context: texts of the turns before the reply, oldest first, at least one, as written.
        reply: as written; that of a fake may be empty.
        is_real: label 1, or chosen.
        kind: "real", or what kind of fake it is: the field `kind`, else "fake" or "rejected".
        line: of the file, from 1; chosen and rejected share it.
    """

    context: tuple[str, ...]
    reply: str
    is_real: bool
    kind: str
    line: int


@dataclass(frozen=True)
class LabelledFile:
    """The replies of one file, in its order; of a pair the chosen one comes first."""

    path: str
    form: Form
    replies: tuple[LabelledReply, ...]


def read_labelled(path: str | Path) -> LabelledFile:
    """Reads and checks a file of labelled replies or of preference pairs; blank lines are skipped.

    An empty reply is a legitimate fake, one that a reward model must score low; as the real one it
    is a mistake in the file.

    Raises:
        UserError: anything wrong with a line, lines of both forms, or replies of one class only.
    """
    replies: list[LabelledReply] = []
    forms: dict[Form, int] = {}
    for number, line in numbered_lines(path, "labelled replies or preference pairs"):
        if not line.strip():
            continue
        try:
            record = parsed_object(line, f"{_FIELDS['labelled']} or {_FIELDS['preference']}")
            form = _form(record)
            forms.setdefault(form, number)
            if len(forms) > 1:
                raise UserError(
                    f"a {form} line in a file whose line {min(forms.values())} is of the other "
                    "form; put labelled replies and preference pairs into files of their own"
                )
            replies += (_labelled if form == "labelled" else _preference)(record, number)
        except UserError as error:
            raise UserError(f"{path}, line {number}: {error}") from None
    real = sum(reply.is_real for reply in replies)
    if real in (0, len(replies)):
        only, other = ("fake", "real") if real == 0 else ("real", "fake")
        raise UserError(
            f'{path}: all {len(replies)} replies are {only} (field "label"), and no measure can '
            f"be taken of one class; add {other} replies"
        )
    return LabelledFile(str(path), next(iter(forms)), tuple(replies))


def _form(record: dict[str, object]) -> Form:
    preference = {"chosen", "rejected"} & set(record)
    if preference and "label" in record:
        raise UserError(
            f'fields "label" and "{min(preference)}" stand in one object; keep one form, '
            f"{_FIELDS['labelled']} or {_FIELDS['preference']}"
        )
    return "preference" if preference else "labelled"


def _labelled(record: dict[str, object], line: int) -> list[LabelledReply]:
    if record.get("label") is None:
        raise UserError(
            'field "label" is missing, and an unlabelled reply measures nothing; add 1 (real) or 0 '
            '(fake), or give pairs of "chosen" and "rejected"'
        )
    label = record["label"]
    if not isinstance(label, int | str) or label not in _LABELS:
        raise UserError(
            f'field "label" is {label!r}; make it 0 or 1, false or true, "fake" or "real"'
        )
    is_real = _LABELS[label]
    kind = REAL if is_real else FAKE
    if record.get("kind") is not None:
        kind = clean_text(record["kind"], "kind")
        if (kind == REAL) != is_real:
            raise UserError(
                f'field "kind" is "{kind}" on a {REAL if is_real else FAKE} reply; it names the '
                "kind of a fake, so remove it or mend the label"
            )
    context = _turns(record, "context")
    return [LabelledReply(context, _reply(record, "reply", is_real), is_real, kind, line)]


def _preference(record: dict[str, object], line: int) -> list[LabelledReply]:
    sides = {}
    for field in ("chosen", "rejected"):
        value = record.get(field)
        if isinstance(value, list):
            messages = _messages(value, field)
            before = _prompt(record) if "prompt" in record else []
            # Some datasets repeat the prompt in both conversations.
            repeated = len(messages) > len(before) and messages[: len(before)] == before
            sides[field] = _conversation(messages if repeated else [*before, *messages], field)
        else:
            context = _turns(record, "prompt" if "prompt" in record else "context")
            sides[field] = context, _reply(record, field, field == "chosen")
    if sides["chosen"] == sides["rejected"]:
        raise UserError(
            'fields "chosen" and "rejected" are the same; remove the line, as nothing is preferred'
        )
    return [
        LabelledReply(*sides["chosen"], True, REAL, line),
        LabelledReply(*sides["rejected"], False, REJECTED, line),
    ]


def _prompt(record: dict[str, object]) -> list[tuple[str, str]]:
    """The prompt beside lists of messages: a list of them too, or what the user said."""
    prompt = record["prompt"]
    return [("user", prompt)] if isinstance(prompt, str) else _messages(prompt, "prompt")


def _turns(record: dict[str, object], field: str) -> tuple[str, ...]:
    """The context: one string, a list of them, or a list of messages."""
    value = record.get(field)
    if isinstance(value, list) and value and all(isinstance(turn, dict) for turn in value):
        return tuple(text for _, text in _merged(_messages(value, field)))
    turns = value if isinstance(value, list) else [value]
    if not turns:
        raise UserError(f'field "{field}" is empty; give at least one turn before the reply')
    return tuple(_text(turn, field) for turn in turns)


def _conversation(messages: Sequence[tuple[str, str]], field: str) -> tuple[tuple[str, ...], str]:
    """(context, reply) of messages of which the last is the reply."""
    if not messages or messages[-1][0] != "assistant":
        raise UserError(
            f'field "{field}" does not end with a message of the role "assistant"; add the reply'
        )
    reply = messages[-1][1]
    if field == "chosen" or reply.strip():
        _text(reply, field)
    context = tuple(text for _, text in _merged(messages[:-1]))
    if not context:
        raise UserError(
            f'field "{field}" holds no message before the reply; add the context to it or as '
            '"prompt"'
        )
    return context, reply


def _messages(value: object, field: str) -> list[tuple[str, str]]:
    """(role, content) of TRL's message objects, without those of the system."""
    if not isinstance(value, list):
        raise UserError(
            f'field "{field}" is of type {type(value).__name__} beside a list of messages; make '
            'it a list of {"role": ..., "content": ...} too'
        )
    messages = []
    for place, message in enumerate(value, start=1):
        role = message.get("role") if isinstance(message, dict) else None
        if role not in ("user", "assistant", "system"):
            raise UserError(
                f'message {place} of field "{field}" has the role {role!r}; make it an object '
                '{"role": "user" or "assistant", "content": "..."}'
            )
        if not isinstance(message.get("content"), str):
            raise UserError(
                f'"content" of message {place} of field "{field}" is no string; write the text in '
                "quotes"
            )
        if role != "system":
            messages.append((role, message["content"]))
    return messages


def _merged(messages: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """`messages`, with neighbours of one role joined by a space."""
    return [
        (role, " ".join(_text(content, "content") for _, content in run))
        for role, run in groupby(messages, key=lambda message: message[0])
    ]


def _reply(record: dict[str, object], field: str, is_real: bool) -> str:
    value = record.get(field)
    if isinstance(value, str) and not value.strip() and not is_real:
        return value
    return _text(value, field)


def _text(value: object, field: str) -> str:
    """`value`, checked as `clean_text` does and kept as written: a reward model sees every byte."""
    clean_text(value, field)
    return str(value)
