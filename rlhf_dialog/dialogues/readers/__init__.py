"""Files and datasets to dialogues: one reader per source, and the choice among them.

Every reader is a function of a path and, if wanted, a `ReadLog`; it yields dialogues one by one,
and tells every mistake in a sentence with file, line and field.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path

from rlhf_dialog.dialogues.readers.corpora import (
    EMPATHETIC_HEADER,
    END_OF_UTTERANCE,
    read_blended_skill_talk,
    read_daily_dialog,
    read_empathetic_dialogues,
)
from rlhf_dialog.dialogues.readers.hub import read_dataset
from rlhf_dialog.dialogues.readers.jsonl import read_jsonl
from rlhf_dialog.dialogues.readers.lines import ReadLog, numbered_lines, parsed_object
from rlhf_dialog.dialogues.readers.pairs import read_pairs
from rlhf_dialog.dialogues.readers.persona_chat import NUMBERED_LINE, read_persona_chat
from rlhf_dialog.dialogues.readers.transcripts import read_transcript
from rlhf_dialog.dialogues.readers.trl_forms import read_messages, read_prompt_completion
from rlhf_dialog.dialogues.schema import Dialogue
from rlhf_dialog.errors import UserError

__all__ = [
    "READERS",
    "ReadLog",
    "form_of",
    "iter_dialogues",
    "numbered_lines",
    "parsed_object",
    "read_blended_skill_talk",
    "read_daily_dialog",
    "read_dataset",
    "read_dialogues",
    "read_empathetic_dialogues",
    "read_jsonl",
    "read_messages",
    "read_pairs",
    "read_persona_chat",
    "read_prompt_completion",
    "read_transcript",
]

READERS: dict[str, Callable[..., Iterator[Dialogue]]] = {
    "jsonl": read_jsonl,
    "transcript": read_transcript,
    "pairs": read_pairs,
    "daily-dialog": read_daily_dialog,
    "empathetic-dialogues": read_empathetic_dialogues,
    "persona-chat": read_persona_chat,
    "blended-skill-talk": read_blended_skill_talk,
    "messages": read_messages,
    "prompt-completion": read_prompt_completion,
    "dataset": read_dataset,
}
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(@.+)?")
# Of the first object of JSON lines, the fields that tell the form; the first that fits.
_JSON_FORMS = (
    ("turns", "jsonl"),
    ("messages", "messages"),
    ("conversations", "messages"),
    ("completion", "prompt-completion"),
    ("free_messages", "blended-skill-talk"),
    ("dialog", "daily-dialog"),
    ("dialogue", "daily-dialog"),
)


def read_dialogues(
    path: str | Path, form: str | None = None, columns: Sequence[str] | None = None
) -> list[Dialogue]:
    """All dialogues of a file, a folder or a Hub dataset; see `iter_dialogues`."""
    return list(iter_dialogues(path, form, columns))


def iter_dialogues(
    path: str | Path,
    form: str | None = None,
    columns: Sequence[str] | None = None,
    log: ReadLog | None = None,
) -> Iterator[Dialogue]:
    """Dialogues one by one, by the reader that `form` names or that fits the file.

    Args:
        path: a file, a folder, or the Hub id of a dataset.
        form: a key of `READERS`; None lets `form_of` decide.
        columns: for "pairs" the names of two columns; for "dataset" `field=column` (`hub.FIELDS`).

    Raises:
        UserError: an unknown form, columns of a form that has none, or what the reader says.
    """
    form = form or form_of(path)
    if form not in READERS:
        raise UserError(f'the form "{form}" is unknown; give one of {", ".join(READERS)}')
    reader = READERS[form]
    if columns and form == "pairs":
        if len(columns) != 2:
            raise UserError(
                f"{path}: {len(columns)} columns are named; name two, of text and reply"
            )
        reader = partial(reader, columns=list(columns))
    elif columns and form == "dataset":
        wrong = next((c for c in columns if "=" not in c), None)
        if wrong is not None:
            raise UserError(f'{path}: the column "{wrong}" maps to nothing; write field=column')
        reader = partial(reader, columns=dict(c.split("=", 1) for c in columns))
    elif columns:
        raise UserError(f'{path}: the form "{form}" has no columns to name; leave them out')
    return reader(path, log)


def form_of(path: str | Path) -> str:
    """The key of `READERS` that fits a file, by its suffix and its first line.

    Raises:
        UserError: the suffix is unknown, or the file cannot be read.
    """
    file, suffix = Path(path), Path(path).suffix.lower()
    if suffix == ".jsonl":
        # What is nothing we know is left to `read_jsonl`, whose error says what is wrong with it.
        return _json_form(_first_line(path)) or "jsonl"
    if suffix == ".json":
        return _json_file_form(path)
    if suffix == ".txt":
        return _text_form(_first_line(path))
    if suffix in (".csv", ".tsv"):
        empathetic = _first_line(path).startswith(EMPATHETIC_HEADER)
        return "empathetic-dialogues" if empathetic else "pairs"
    if file.is_dir() or (not file.exists() and _HUB_ID.fullmatch(str(path))):
        return "dataset"
    raise UserError(
        f"{path}: the suffix {suffix or '(none)'} is unknown; "
        "give a .jsonl file of dialogues or a .txt transcript, a .json, .csv or .tsv file as "
        f"docs/data_forms.md shows them, or name the form: {', '.join(READERS)}"
    )


def _first_line(path: str | Path) -> str:
    return next((line for _, line in numbered_lines(path) if line.strip()), "")


def _text_form(line: str) -> str:
    if END_OF_UTTERANCE in line:
        return "daily-dialog"
    match = NUMBERED_LINE.fullmatch(line)
    if match and (match[2].startswith(("your persona:", "partner's persona:")) or "\t" in match[2]):
        return "persona-chat"
    return "transcript"


def _json_form(line: str) -> str | None:
    """Of the first object of JSON lines."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    fields = record if isinstance(record, dict) else {}
    return next((form for field, form in _JSON_FORMS if field in fields), None)


def _json_file_form(path: str | Path) -> str:
    """JSON lines under another suffix, BlendedSkillTalk's one list, or PersonaChat's object."""
    lines = list(islice((line for _, line in numbered_lines(path) if line.strip()), 100))
    form = _json_form(lines[0])
    beginning = "".join(lines)[:10_000].lstrip()
    if form is None and beginning.startswith("["):
        form = "blended-skill-talk"
    if form is None and ('"personality"' in beginning or '"utterances"' in beginning):
        form = "persona-chat"
    if form is not None:
        return form
    raise UserError(
        f"{path}: the JSON has none of the known forms; give JSON lines of dialogues (.jsonl), or "
        f"name the form: {', '.join(READERS)}"
    )
