"""Files to dialogues: JSON lines, and plain-text transcripts. Every mistake is told in a sentence.

JSON lines, one dialogue a line, any other fields allowed:

    {"dialogue_id": "s01e01_01", "group": "s01e01", "turns": [{"speaker": "Ann", "text": "Hi!"}]}

Transcript, one scene a dialogue:

    ## Scene: the bar
    ANN: Hi! (waves)
    BOB: Oh, hello.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path

from rlhf_dialog.dialogues.schema import Dialogue, Turn, clean_text
from rlhf_dialog.dialogues.transcript import directions_removed, is_scene_heading, speaker_and_text
from rlhf_dialog.errors import UserError


def read_dialogues(path: str | Path) -> list[Dialogue]:
    """All dialogues of a `.jsonl` file (`read_jsonl`) or a `.txt` file (`read_transcript`).

    Raises:
        UserError: the file cannot be read, any line of it is wrong, or its suffix is another one.
    """
    suffix = Path(path).suffix.lower()
    if suffix == ".jsonl":
        return list(read_jsonl(path))
    if suffix == ".txt":
        return list(read_transcript(path))
    raise UserError(
        f"{path}: the suffix {suffix or '(none)'} is unknown; "
        "give a .jsonl file of dialogues or a .txt transcript"
    )


def read_jsonl(path: str | Path) -> Iterator[Dialogue]:
    """Dialogues of a JSON-lines file, in file order; blank lines are skipped.

    A dialogue without `dialogue_id` is named after its line. The group is `group` where given, else
    `s01e02` from whole numbers `season` and `episode`, else `parallel_id` (the same dialogue told
    in several styles), else the id. A dialogue with `duplicate_of` is checked, then dropped.

    Raises:
        UserError: while iterating, at the first thing that is wrong.
    """
    line_of_id: dict[str, int] = {}
    kept = 0
    for number, line in numbered_lines(path):
        if not line.strip():
            continue
        try:
            record = parsed_object(line)
            dialogue = _dialogue_from(record, default_id=f"line-{number:06d}")
        except UserError as error:
            raise UserError(f"{path}, line {number}: {error}") from None
        if dialogue.id in line_of_id:
            raise UserError(
                f'{path}, line {number}: field "dialogue_id" is "{dialogue.id}", as on line '
                f"{line_of_id[dialogue.id]}; give every dialogue an id of its own"
            )
        line_of_id[dialogue.id] = number
        if not record.get("duplicate_of"):
            kept += 1
            yield dialogue
    if not kept:
        raise UserError(
            f'{path}: every dialogue is marked "duplicate_of"; remove the field from those to keep'
        )


def read_transcript(path: str | Path) -> Iterator[Dialogue]:
    """Dialogues of a plain-text transcript, one a scene, in file order.

    `NAME: line` begins a turn and a line without a name continues the turn before. Scene headings
    (`is_scene_heading`) end a dialogue; lines between a heading and the next name are prose and
    are skipped. Stage directions in round or square brackets are removed, and turns of nothing
    else are dropped. Blank lines mean nothing. Ids are `<file name>-scene-0001` and so on; every
    scene is its own group.

    Raises:
        UserError: the file cannot be read, or no line of it has the form `NAME: line`.
    """
    stem = Path(path).stem
    scenes: list[list[tuple[str, str]]] = [[]]
    for _, line in numbered_lines(path):
        if not line.strip():
            continue
        if is_scene_heading(line):
            scenes.append([])
            continue
        turns = scenes[-1]
        named = speaker_and_text(line)
        if named is not None:
            turns.append(named)
        elif turns:
            speaker, text = turns[-1]
            turns[-1] = (speaker, f"{text}\n{line}")

    number = 0
    for scene in scenes:
        # Removed only here, since a direction may run over several lines of its turn.
        spoken = [(speaker, directions_removed(text)) for speaker, text in scene]
        turns_said = tuple(Turn(speaker, text) for speaker, text in spoken if text.strip())
        if turns_said:
            number += 1
            yield Dialogue(f"{stem}-scene-{number:04d}", turns_said)
    if not number:
        raise UserError(
            f'{path}: no line has the form "NAME: line"; put the speaker\'s name and a colon '
            "before what is said"
        )


def numbered_lines(path: str | Path, holds: str = "dialogues") -> list[tuple[int, str]]:
    """Lines with their numbers, from 1. A mark of byte order is dropped, all line ends are known.

    Not `str.splitlines`: JSON strings may hold U+2028 and its like unescaped.
    """
    if Path(path).is_dir():
        raise UserError(f"{path}: this is a folder; give a file inside it")
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file; check the path") from None
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(f"{path}: cannot be read ({reason}); check its permissions") from None
    try:
        content = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        number = data.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"{path}, line {number}: byte 0x{data[error.start]:02x} is not UTF-8; "
            "save the file with the encoding UTF-8"
        ) from None
    if not content.strip():
        raise UserError(f"{path}: the file is empty; give one that holds {holds}")
    return list(enumerate(re.split(r"\r\n|\r|\n", content), start=1))


def parsed_object(line: str, form: str = '{"turns": [...]}') -> dict[str, object]:
    """The JSON object of one line; `form` is what a line should look like, for errors."""
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        raise UserError(
            f"broken JSON at column {error.colno} ({error.msg}); "
            "write one complete JSON object on each line"
        ) from None
    except (ValueError, RecursionError) as error:  # a number or a nesting beyond Python's limits
        raise UserError(f"JSON that cannot be read ({error}); simplify the line") from None
    if not isinstance(record, dict):
        raise UserError(
            f"a JSON value of type {type(record).__name__} instead of an object; "
            f"write {form} on each line"
        )
    return record


def _dialogue_from(record: dict[str, object], default_id: str) -> Dialogue:
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
    return Dialogue(
        id=dialogue_id,  # type: ignore[arg-type]  # Dialogue checks it
        turns=tuple(_turn_from(turn, place) for place, turn in enumerate(turns, start=1)),
        group=_group_of(record),
    )


def _turn_from(turn: object, place: int) -> Turn:
    """`place` counts from 1, as people do."""
    if not isinstance(turn, dict):
        raise UserError(
            f'turn {place} of field "turns" is of type {type(turn).__name__}; '
            'make it an object {"speaker": "...", "text": "..."}'
        )
    try:
        return Turn(turn.get("speaker"), turn.get("text"))  # type: ignore[arg-type]  # Turn checks
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


def _group_name(value: object, field: str) -> str:
    return clean_text(str(value) if type(value) is int else value, field)
