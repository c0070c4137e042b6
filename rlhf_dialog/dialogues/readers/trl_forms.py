"""TRL's dataset forms as JSON lines: `messages`, and `prompt` with `completion`.

    {"messages": [{"role": "user", "content": "Hi!"}, {"role": "assistant", "content": "Hello."}]}
    {"prompt": "Hi!", "completion": "Hello."}
    {"prompt": [{"role": "user", "content": "Hi!"}],
     "completion": [{"role": "assistant", "content": "Hello."}]}

Roles are the speakers. What a system message says is kept as the persona of "assistant".
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rlhf_dialog.dialogues.readers.lines import (
    ReadLog,
    dialogues_of,
    filled_lines,
    parsed_object,
    split_name,
)
from rlhf_dialog.dialogues.schema import Dialogue, Turn
from rlhf_dialog.errors import UserError

USER, ASSISTANT, SYSTEM = "user", "assistant", "system"
_SHARE_GPT = {"human": USER, "gpt": ASSISTANT}  # roles of the older {"from", "value"} messages


def read_messages(path: str | Path, log: ReadLog | None = None) -> Iterator[Dialogue]:
    """One conversation a line, under "messages" (or "conversations" of {"from", "value"}).

    Messages without text (calls of tools) are dropped; of content in parts, the text is kept.

    Raises:
        UserError: while iterating; a field that is missing or of another type.
    """
    yield from _read(path, log or ReadLog(), '{"messages": [...]}')


def read_prompt_completion(path: str | Path, log: ReadLog | None = None) -> Iterator[Dialogue]:
    """One prompt and its completion a line, standard (strings) or conversational (messages).

    Raises:
        UserError: while iterating; a field that is missing or of another type.
    """
    yield from _read(path, log or ReadLog(), '{"prompt": ..., "completion": ...}')


def _read(path: str | Path, log: ReadLog, form: str) -> Iterator[Dialogue]:
    stem, split = Path(path).stem, split_name(Path(path).stem)

    def make(entry: tuple[int, str]) -> Dialogue | None:
        number, line = entry
        record = parsed_object(line, form)
        return conversation(record, f"{stem}-{number:06d}", split, log, number)

    yield from dialogues_of(path, filled_lines(path), make, log, "no message has text; add some")


def conversation(
    record: dict[str, object], name: str, split: str, log: ReadLog, line: int = 0
) -> Dialogue | None:
    """The dialogue of one record with "messages", "conversations", or "prompt" and "completion"."""
    # Whole conversations first: many datasets repeat the first message as a "prompt" beside them.
    whole = next((f for f in ("messages", "conversations") if record.get(f) is not None), None)
    if whole is None and ("prompt" in record or "completion" in record):
        messages = [
            *_messages(record, "prompt", USER),
            *_messages(record, "completion", ASSISTANT),
        ]
    else:
        messages = _messages(record, whole or "messages", None)
    turns, system = [], []
    for place, (field, message) in enumerate(messages, start=1):
        try:
            role, text = _role_and_text(message, log)
            if not text.strip():
                log.drop("messages without text")
            elif role == SYSTEM:
                system.append(text)
            else:
                turns.append(Turn(role, text))
        except UserError as error:
            raise UserError(f'in message {place} of field "{field}", {error}') from None
    if not turns:
        log.drop("dialogues without a turn")
        return None
    personas = {ASSISTANT: tuple(system)} if system else {}
    return Dialogue(name, tuple(turns), personas=personas, split=split, line=line)


def _messages(record: dict[str, object], field: str, role: str | None) -> list[tuple[str, object]]:
    """The messages of a field, each with the field's name; a string is one message of `role`."""
    value = record.get(field)
    if isinstance(value, str) and role is not None:
        return [(field, {"role": role, "content": value})]
    if not isinstance(value, list) or not value:
        raise UserError(
            f'field "{field}" is missing, empty or no list; write '
            '[{"role": "user", "content": "..."}, ...]'
        )
    return [(field, message) for message in value]


def _role_and_text(message: object, log: ReadLog) -> tuple[str, str]:
    if not isinstance(message, dict):
        raise UserError(
            f'a value of type {type(message).__name__}; make it {{"role": "...", "content": "..."}}'
        )
    role = message.get("role", message.get("from"))
    content = message.get("content", message.get("value"))
    if not isinstance(role, str):
        raise UserError('field "role" is missing or no string; write "user" or "assistant"')
    if isinstance(content, list):
        parts = [p for p in content if isinstance(p, dict) and isinstance(p.get("text"), str)]
        log.drop("parts of messages that are no text", len(content) - len(parts))
        content = " ".join(part["text"] for part in parts)
    if not isinstance(content, str | None):
        raise UserError(
            f'field "content" is of type {type(content).__name__}; make it a string in quotes'
        )
    return _SHARE_GPT.get(role, role), content or ""
