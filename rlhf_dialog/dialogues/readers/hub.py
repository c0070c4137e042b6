"""Anything that `datasets.load_dataset` loads, by Hub id or folder, with a mapping of columns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

from rlhf_dialog.dialogues.readers.corpora import blended_dialogue, daily_dialogue
from rlhf_dialog.dialogues.readers.jsonl import dialogue_from
from rlhf_dialog.dialogues.readers.lines import ReadLog, dialogues_of, split_name
from rlhf_dialog.dialogues.readers.persona_chat import personality_dialogue
from rlhf_dialog.dialogues.readers.trl_forms import conversation
from rlhf_dialog.dialogues.schema import Dialogue, Turn, clean_texts
from rlhf_dialog.errors import UserError

# What a column may be mapped to.
FIELDS = (
    "turns",  # a list of texts (speakers alternate), or of {"speaker", "text"}
    "speakers",  # a list as long as "turns", of names
    "context",  # a text, or a list of them, oldest first
    "reply",  # the text that answers it
    "text",  # one turn a row: rows of one "dialogue_id" that follow each other are a dialogue
    "speaker",
    "dialogue_id",
    "group",
    "persona",  # of who speaks last: a list of sentences, or a text
    "candidates",  # for the last turn; with "text", for the turn of the row
    "summary",  # of what was said before that turn, but for the turn just before it
)
# Repositories that are no longer scripts, to name when somebody gives an id of old.
_MOVED = {
    "daily_dialog": "li2017dailydialog/daily_dialog@refs/convert/parquet",
    "empathetic_dialogues": "facebook/empathetic_dialogues@refs/convert/parquet",
    "blended_skill_talk": "ParlAI/blended_skill_talk",
    "conv_ai_2": "convai-challenge/conv_ai_2@refs/convert/parquet",
}


def read_dataset(
    name: str | Path, log: ReadLog | None = None, columns: Mapping[str, str] | None = None
) -> Iterator[Dialogue]:
    """Dialogues of all splits of a dataset, streamed.

    Args:
        name: a Hub id, `id@revision`, a folder of data files, or one that `save_to_disk` wrote.
        columns: `FIELDS` to the names of columns. Not needed where the columns are those of a form
            this project reads: `turns`, `messages`, `prompt` and `completion`, `dialog`
            (DailyDialog), `personality` (PersonaChat), `free_messages` (BlendedSkillTalk).

    Raises:
        UserError: while iterating; nothing loads, rows that cannot be read, or no such column.
    """
    log = log or ReadLog()
    for split, rows in _splits(name).items():
        prefix = f"{split}-"
        first = next(_read_rows(name, split, rows), None)
        if first is None:
            continue
        mapping = _checked(name, columns, list(first))
        read = _read_rows(name, split, rows)
        renamed = ({**row, **{f: row[c] for f, c in mapping.items()}} for row in read)
        if "text" in mapping:
            entries: Iterator = _grouped(renamed, split, mapping)
        else:
            entries = ((f'row {n} of "{split}"', (n, r)) for n, r in enumerate(renamed, start=1))

        def make(
            entry: tuple[int, dict], prefix: str = prefix, split: str = split, mapping=mapping
        ) -> Dialogue | None:
            number, record = entry
            default_id = f"{prefix}{number:06d}"
            return dialogue_of_record(record, mapping, default_id, split_name(split), log)

        nothing = f'no row of "{split}" gives a dialogue; check the mapping of columns'
        yield from dialogues_of(name, entries, make, log, nothing)


def _splits(name: str | Path) -> Mapping[str, Iterable[dict[str, Any]]]:
    import datasets  # slow to import, and most readings do without

    identifier, _, revision = (
        (str(name), "", "") if Path(name).is_dir() else str(name).partition("@")
    )
    folder = Path(identifier)
    try:
        if (folder / "dataset_dict.json").is_file():
            return datasets.load_from_disk(identifier)
        if (folder / "dataset_info.json").is_file():
            return {"train": datasets.load_from_disk(identifier)}
        return datasets.load_dataset(identifier, revision=revision or None, streaming=True)
    except Exception as error:  # OSError, ValueError, ConnectionError, RuntimeError, ...
        moved = _MOVED.get(identifier.split("/")[-1])
        remedy = f"give {moved}" if moved else "give another id"
        raise UserError(
            f"{name}: cannot be loaded by datasets.load_dataset ({_first_line(error)}); {remedy}, "
            "a folder of Parquet, JSON or CSV files, or check the spelling and the network"
        ) from error


def _read_rows(
    name: str | Path, split: str, rows: Iterable[dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    """The rows; a streamed file is opened and parsed only here, so a broken one fails here."""
    try:
        yield from rows
    except Exception as error:  # ArrowInvalid, UnicodeDecodeError, DatasetGenerationError, ...
        cause: BaseException = error
        while cause.__cause__ is not None:  # datasets wraps what happened in what it was doing
            cause = cause.__cause__
        raise UserError(
            f'{name}: the files of "{split}" cannot be read ({_first_line(cause)}); mend them, '
            "with the encoding UTF-8, or leave the broken one out"
        ) from error


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or repr(error)).splitlines()[0].rstrip(".")


def _checked(
    name: str | Path, columns: Mapping[str, str] | None, present: list[str]
) -> dict[str, str]:
    for field, column in (columns or {}).items():
        if field not in FIELDS:
            raise UserError(
                f'{name}: "{field}" is no field to map to; they are {", ".join(FIELDS)}'
            )
        if column not in present:
            raise UserError(
                f'{name}: there is no column "{column}"; the columns are {", ".join(present)}'
            )
    if columns and "text" in columns and "dialogue_id" not in columns:
        raise UserError(f'{name}: "text" is one turn a row; map "dialogue_id" as well')
    return dict(columns or {})


def _grouped(rows: Iterable[dict[str, Any]], split: str, mapping: Mapping[str, str]) -> Iterator:
    """Rows of one dialogue, as the one record that they make together."""
    numbered = enumerate(rows, start=1)
    for _, group in groupby(numbered, key=lambda entry: entry[1].get("dialogue_id")):
        together = list(group)
        number, first = together[0]
        turns = [row.get("text") for _, row in together]
        record: dict[str, Any] = {"dialogue_id": first.get("dialogue_id"), "turns": turns}
        record |= {f: first.get(f) for f in ("group", "persona") if f in mapping}
        record |= {
            f: [row.get(f) for _, row in together]
            for f in ("candidates", "summary")
            if f in mapping
        }
        if "speaker" in mapping:
            record["speakers"] = [str(row["speaker"]) for _, row in together]
        yield f'row {number} of "{split}"', (number, record)


def dialogue_of_record(
    record: dict[str, Any], mapping: Mapping[str, str], default_id: str, split: str, log: ReadLog
) -> Dialogue | None:
    """One row as a dialogue, by the mapping or, without one, by the form its columns have."""
    if mapping:
        return _mapped(record, mapping, default_id, split, log)
    if "messages" in record or "conversations" in record or "completion" in record:
        return conversation(record, default_id, split, log)
    if "personality" in record:
        return personality_dialogue(record, default_id, split, log)
    if "free_messages" in record:
        return blended_dialogue(record, default_id, split, log)
    if "dialog" in record or "dialogue" in record:
        return daily_dialogue(record, default_id, split, log)
    if "turns" in record:
        return dialogue_from({"split": split, **record}, default_id, 0, log)
    raise UserError(
        f"the columns {', '.join(record)} are not those of a known form; map them, for example "
        "context=question reply=answer"
    )


def _mapped(
    record: dict[str, Any], mapping: Mapping[str, str], default_id: str, split: str, log: ReadLog
) -> Dialogue | None:
    texts, speakers = _texts_and_speakers(record, mapping)
    if all(isinstance(turn, dict) for turn in texts):
        return dialogue_from({**record, "split": split}, default_id, 0, log)
    given = {field: record[field] for field in mapping if record.get(field) is not None}
    turns = []
    for speaker, text, candidates, summary in zip(
        speakers,
        texts,
        *(_by_turn(given.get(f), "text" in mapping, len(texts)) for f in ("candidates", "summary")),
        strict=True,
    ):
        if isinstance(text, str) and not text.strip():
            log.drop("empty turns")
            continue
        others = () if candidates is None else clean_texts(candidates, "candidates")
        turns.append(Turn(str(speaker), text, others, summary or ""))
    if not turns:
        log.drop("dialogues without a turn")
        return None
    persona = given.get("persona", [])
    sentences = clean_texts([persona] if isinstance(persona, str) else persona, "persona")
    return Dialogue(
        str(given.get("dialogue_id", default_id)),
        tuple(turns),
        group=str(given.get("group", "")),
        personas={turns[-1].speaker: sentences} if sentences else {},
        split=split,
    )


def _by_turn(value: Any, one_turn_a_row: bool, turns: int) -> list[Any]:
    """A field of each turn: those of its rows, or that of the one row for the last turn alone."""
    if one_turn_a_row:
        return value or [None] * turns
    return [*[None] * (turns - 1), value]


def _texts_and_speakers(
    record: dict[str, Any], mapping: Mapping[str, str]
) -> tuple[list[Any], list[Any]]:
    """The turns of a row, oldest first, and who says each; names alternate where none is given."""
    if "context" in mapping:
        context = record.get("context")
        before = [context] if isinstance(context, str) else context
        texts = [*before, record.get("reply")] if isinstance(before, list) else None
        names = ("user", "bot") if texts and len(texts) % 2 == 0 else ("bot", "user")
    else:
        texts, names = record.get("turns"), ("A", "B")
    if not isinstance(texts, list) or not texts:
        raise UserError(
            'neither the field "turns" nor "context" and "reply" give a list of texts; map them'
        )
    if "speakers" not in mapping and "speaker" not in mapping:
        return texts, [names[place % 2] for place in range(len(texts))]
    speakers = record.get("speakers")
    if not isinstance(speakers, list) or len(speakers) != len(texts):
        raise UserError(
            f'field "speakers" does not name a speaker for each of {len(texts)} turns; name them'
        )
    return texts, speakers
