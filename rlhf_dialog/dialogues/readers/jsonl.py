"""JSON lines of this project, one dialogue a line, any other fields allowed:

    {"dialogue_id": "s01e01_01", "group": "s01e01", "turns": [{"speaker": "Ann", "text": "Hi!"}]}

A dialogue may hold "persona" ({"Ann": ["I keep bees."]}) and "split" ("train", "valid", "test"), a
turn "candidates" (replies that could stand here; the turn's own text may be among them) and
"summary" (of what was said before it, but for the turn just before) and "weight" (of the turn as a
reply, in the loss of the supervised stage; 1 without it, and 0 for one that is not to be learnt).
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
from rlhf_dialog.dialogues.schema import Dialogue, Turn, clean_text
from rlhf_dialog.errors import UserError


def read_jsonl(path: str | Path, log: ReadLog | None = None) -> Iterator[Dialogue]:
    """Dialogues of a JSON-lines file, in file order; blank lines are skipped.

    A dialogue without `dialogue_id` is named after its line. The group is `group` where given, else
    `s01e02` from whole numbers `season` and `episode`, else `parallel_id` (the same dialogue told
    in several styles), else the id. A dialogue with `duplicate_of` is checked, then dropped.

    Raises:
        UserError: while iterating, at the first thing that is wrong.
    """
    log = log or ReadLog()

    def make(entry: tuple[int, str]) -> Dialogue | None:
        number, line = entry
        return dialogue_from(parsed_object(line), f"line-{number:06d}", number, log)

    nothing = 'every dialogue is marked "duplicate_of"; remove the field from those to keep'
    yield from dialogues_of(path, filled_lines(path), make, log, nothing)


def dialogue_from(
    record: dict[str, object], default_id: str, line: int, log: ReadLog
) -> Dialogue | None:
    """The dialogue of one JSON object; None for a known duplicate."""
    turns = record.get("turns")
    if turns is None:
        raise UserError('field "turns" is missing; add the list of {"speaker", "text"} objects')
    if not isinstance(turns, list):
        raise UserError(
            f'field "turns" is of type {type(turns).__name__}; '
            'make it a list of {"speaker", "text"} objects'
        )
    dialogue_id = record.get("dialogue_id")
    if dialogue_id is None:
        dialogue_id = default_id
    dialogue = Dialogue(
        id=dialogue_id,  # type: ignore[arg-type]  # Dialogue checks it
        turns=tuple(turn_from(turn, place) for place, turn in enumerate(turns, start=1)),
        group=_group_of(record),
        personas=_personas_of(record),
        split=split_name(record.get("split", "")),
        line=line,
    )
    if record.get("duplicate_of"):
        log.drop('marked "duplicate_of"')
        return None
    return dialogue


def turn_from(turn: object, place: int) -> Turn:
    """One turn of a list; `place` counts from 1, as people do."""
    if not isinstance(turn, dict):
        raise UserError(
            f'turn {place} of field "turns" is of type {type(turn).__name__}; '
            'make it an object {"speaker": "...", "text": "..."}'
        )
    try:
        return Turn(
            turn.get("speaker"),  # type: ignore[arg-type]  # Turn checks them all
            turn.get("text"),  # type: ignore[arg-type]
            turn.get("candidates") or (),
            turn.get("summary") or "",
            turn.get("weight", 1.0),
        )
    except UserError as error:
        raise UserError(f"in turn {place}, {error}") from None


def _group_of(record: dict[str, object]) -> str:
    """The group that a record names, or "" where it names none."""
    if record.get("group") is not None:
        return _group_name(record["group"], "group")
    season, episode = record.get("season"), record.get("episode")
    if season is not None and episode is not None:
        if type(season) is not int or type(episode) is not int:
            # Passing over them would scatter an episode over training and test without a word.
            raise UserError(
                'fields "season" and "episode" are not both whole numbers; '
                'make them so, or name the unit that must stay together in a field "group"'
            )
        return f"s{season:02d}e{episode:02d}"
    if record.get("parallel_id") is not None:
        return "parallel-" + _group_name(record["parallel_id"], "parallel_id")
    return ""


def _personas_of(record: dict[str, object]) -> dict[str, tuple[str, ...]]:
    personas = record.get("persona")
    if personas is None:
        return {}
    if not isinstance(personas, dict):
        raise UserError(
            f'field "persona" is of type {type(personas).__name__}; make it an object, from the '
            'name of a speaker to a list of sentences: {"Ann": ["I keep bees."]}'
        )
    return personas


def _group_name(value: object, field: str) -> str:
    return clean_text(str(value) if type(value) is int else value, field)
