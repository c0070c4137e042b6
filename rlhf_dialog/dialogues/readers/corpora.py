"""DailyDialog, EmpatheticDialogues and BlendedSkillTalk as they were released."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import zip_longest
from pathlib import Path

from rlhf_dialog.dialogues.readers.lines import (
    ReadLog,
    dialogues_of,
    filled_lines,
    numbered_lines,
    parsed_file,
    parsed_object,
    split_name,
)
from rlhf_dialog.dialogues.schema import Dialogue, Turn
from rlhf_dialog.errors import UserError

EMPATHETIC_HEADER = "conv_id,utterance_idx,context,prompt,speaker_idx,utterance"
END_OF_UTTERANCE = "__eou__"
_CONVERSATION_ID = re.compile(r"hit:\d+_conv:\d+")


def read_daily_dialog(path: str | Path, log: ReadLog | None = None) -> Iterator[Dialogue]:
    """DailyDialog (Li et al. 2017), one dialogue a line; "A" and "B" alternate.

    Three forms: the release's `dialogues_text.txt` (`Hi . __eou__ Hello . __eou__`), ParlAI's JSON
    lines ({"fold", "topic", "dialogue": [{"text", "emotion", "act"}]}), and JSON lines of the Hub's
    rows ({"dialog": ["Hi .", "Hello ."]}). Spaces between tokens stay as they are.

    Raises:
        UserError: while iterating; a line without `__eou__`, or a field that is missing.
    """
    log = log or ReadLog()
    stem, split = Path(path).stem, split_name(Path(path).stem)

    def make(entry: tuple[int, str]) -> Dialogue | None:
        number, line = entry
        name = f"{stem}-{number:06d}"
        if line.lstrip().startswith("{"):
            return daily_dialogue(
                parsed_object(line, '{"dialog": [...]}'), name, split, log, number
            )
        if END_OF_UTTERANCE not in line:
            raise UserError(f"there is no {END_OF_UTTERANCE}; write one after every utterance")
        texts = line.split(END_OF_UTTERANCE)
        return _alternating(texts if texts[-1].strip() else texts[:-1], name, split, log, number)

    yield from dialogues_of(path, filled_lines(path), make, log, "no dialogue has a turn; add some")


def daily_dialogue(
    record: dict[str, object], name: str, split: str, log: ReadLog, line: int = 0
) -> Dialogue | None:
    """The dialogue of one JSON object, ParlAI's or the Hub's."""
    field = "dialogue" if "dialogue" in record else "dialog"
    turns = record.get(field)
    if not isinstance(turns, list):
        raise UserError(f'field "{field}" is missing or no list; make it a list of utterances')
    texts = [turn.get("text") if isinstance(turn, dict) else turn for turn in turns]
    if not all(isinstance(text, str) for text in texts):
        raise UserError(
            f'field "{field}" holds something that is neither a string nor {{"text": "..."}}; '
            "write every utterance so"
        )
    return _alternating(texts, name, split_name(record.get("fold", "")) or split, log, line)


def _alternating(
    texts: list, name: str, split: str, log: ReadLog, line: int, speakers: str = "AB"
) -> Dialogue | None:
    """Every other text is the other speaker's, those that are empty included; then they go."""
    turns = [Turn(speakers[n % 2], text) for n, text in enumerate(texts) if text.strip()]
    log.drop("empty turns", len(texts) - len(turns))
    if not turns:
        log.drop("dialogues without a turn")
        return None
    return Dialogue(name, tuple(turns), split=split, line=line)


def read_empathetic_dialogues(path: str | Path, log: ReadLog | None = None) -> Iterator[Dialogue]:
    """EmpatheticDialogues (Rashkin et al. 2019): a CSV without quotes, one utterance a row.

    `_comma_` is a comma; who speaks first is the "speaker", the other the "listener". A ninth
    column, of the validation and test files, holds candidates, parted by bars. Utterances into
    which the release let the id of a conversation slip are dropped, as other loaders drop them.

    Raises:
        UserError: while iterating; another header, or a row with too few or too many columns.
    """
    log = log or ReadLog()
    split = split_name(Path(path).stem)

    def make(rows: list[tuple[int, list[str]]]) -> Dialogue | None:
        return _empathetic(rows, split, log)

    entries = ((f"line {rows[0][0]}", rows) for rows in _conversations(path, log))
    yield from dialogues_of(path, entries, make, log, "there is no row under the header; add some")


def _conversations(path: str | Path, log: ReadLog) -> Iterator[list[tuple[int, list[str]]]]:
    """Rows of one `conv_id` that follow each other, with their line numbers."""
    rows: list[tuple[int, list[str]]] = []
    for number, line in numbered_lines(path):
        if number == 1 and not line.startswith(EMPATHETIC_HEADER):
            raise UserError(
                f"{path}, line 1: the header does not begin with {EMPATHETIC_HEADER}; give the "
                "file as it was released"
            )
        if number == 1 or not line.strip():
            continue
        cells = line.rstrip().split(",")
        if not 8 <= len(cells) <= 9 and len(cells) != 6:
            log.mistake(
                UserError(
                    f"{path}, line {number}: {len(cells)} columns instead of 8 or 9; write a "
                    "comma inside a text as _comma_"
                )
            )
            continue
        if rows and cells[0] != rows[0][1][0]:
            yield rows
            rows = []
        rows.append((number, cells))
    if rows:
        yield rows


def _empathetic(rows: list[tuple[int, list[str]]], split: str, log: ReadLog) -> Dialogue | None:
    first = rows[0][1][4]
    turns = []
    for number, cells in rows:
        text = cells[5].replace("_comma_", ",")
        if not text.strip():
            log.drop("empty turns")
            continue
        if _CONVERSATION_ID.search(text):
            log.drop("utterances that hold the id of a conversation")
            continue
        candidates = cells[8].replace("_comma_", ",").split("|") if len(cells) > 8 else []
        others = tuple(text.replace("_pipe_", "|") for text in candidates)
        try:
            turns.append(Turn("speaker" if cells[4] == first else "listener", text, others))
        except UserError as error:
            raise UserError(f"in line {number}, {error}") from None
    if not turns:
        log.drop("dialogues without a turn")
        return None
    return Dialogue(rows[0][1][0], tuple(turns), split=split, line=rows[0][0])


def read_blended_skill_talk(path: str | Path, log: ReadLog | None = None) -> Iterator[Dialogue]:
    """BlendedSkillTalk (Smith et al. 2020): the release's JSON list, or JSON lines of Hub rows.

    The "free" worker speaks first; the "guided" one is the model's side in the original. Both
    opening utterances are turns, and personas and candidates are kept; suggestions and the
    situation are not read. A `.json` file is held whole.

    Raises:
        UserError: while iterating; a field that is missing or of another type.
    """
    log = log or ReadLog()
    stem, split = Path(path).stem, split_name(Path(path).stem)
    if Path(path).suffix.lower() == ".json":
        episodes = parsed_file(path)
        if not isinstance(episodes, list):
            raise UserError(f"{path}: the JSON value is no list; write a list of episodes")
        entries: Iterator = ((f"episode {n}", (n, 0, e)) for n, e in enumerate(episodes, start=1))
    else:
        entries = ((place, (n, n, line)) for place, (n, line) in filled_lines(path))

    def make(entry: tuple[int, int, object]) -> Dialogue | None:
        number, line, episode = entry
        record = (
            parsed_object(episode, '{"personas": ...}') if isinstance(episode, str) else episode
        )
        return blended_dialogue(record, f"{stem}-{number:06d}", split, log, line)

    yield from dialogues_of(path, entries, make, log, "there is no episode in it; add some")


def blended_dialogue(
    record: object, name: str, split: str, log: ReadLog, line: int = 0
) -> Dialogue | None:
    """The dialogue of one episode, the release's or a row of the Hub's."""
    if not isinstance(record, dict):
        raise UserError(f"a value of type {type(record).__name__} instead of an episode's object")
    if "dialog" in record:
        said = _field(
            record, "dialog", lambda v: all(isinstance(x, list) and len(x) == 2 for x in v)
        )
        opening = [record.get(f"{who}_turker_utterance") or "" for who in ("free", "guided")]
        texts = [*opening, *(text for _, text in said)]
        personas = dict(zip(("free", "guided"), _field(record, "personas"), strict=False))
    else:
        free, guided = _field(record, "free_messages"), _field(record, "guided_messages")
        texts = [*_field(record, "previous_utterance")]
        texts += [t for both in zip_longest(free, guided, fillvalue="") for t in both]
        personas = {"guided": _field(record, "personas")}
    if not all(isinstance(text, str) for text in texts):
        raise UserError("an utterance is no string; write every utterance in quotes")
    candidates = _field(record, "label_candidates") if record.get("label_candidates") else []
    turns = []
    for place, text in enumerate(texts):
        reply = (place - 3) // 2  # the guided worker's replies after the opening: 3, 5, ...
        others = candidates[reply] if place % 2 and 0 <= reply < len(candidates) else ()
        if text.strip():
            turns.append(Turn(("free", "guided")[place % 2], text, others))
    log.drop("empty turns", len(texts) - len(turns))
    if not turns:
        log.drop("dialogues without a turn")
        return None
    return Dialogue(name, tuple(turns), personas=personas, split=split, line=line)


def _field(record: dict, field: str, fits: Callable[[list], bool] = lambda value: True) -> list:
    value = record.get(field)
    if not isinstance(value, list) or not fits(value):
        raise UserError(
            f'field "{field}" is missing or not the list it is in the release; '
            "give the file as it was released"
        )
    return value
