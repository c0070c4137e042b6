"""PersonaChat and ConvAI2 (Zhang et al. 2018, Dinan et al. 2019) in both forms that circulate.

ParlAI's text, numbered from 1 in each dialogue; columns are parted by tabs, candidates by bars:

    1 your persona: i like to remodel homes.
    2 hi , how are you ?<TAB>i am fine .<TAB><TAB>no .|i am fine .|me too

`personachat_self_original.json` of TransferTransfo, whose last candidate is the true reply:

    {"train": [{"personality": ["i like to remodel homes ."],
                "utterances": [{"history": ["hi"], "candidates": ["no .", "i am fine ."]}]}]}

The one who is described is "self", the other "partner".
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from rlhf_dialog.dialogues.readers.lines import (
    ReadLog,
    dialogues_of,
    numbered_lines,
    parsed_file,
    split_name,
)
from rlhf_dialog.dialogues.schema import Dialogue, Turn, clean_text, clean_texts
from rlhf_dialog.errors import UserError

SELF, PARTNER = "self", "partner"
NUMBERED_LINE = re.compile(r"(\d+) (.*)", re.DOTALL)
_PERSONAS = {"your persona: ": SELF, "partner's persona: ": PARTNER}

# Lines of one dialogue: (number in the file, text after the number in the dialogue)
Block = list[tuple[int, str]]


def is_silence(text: object) -> bool:
    """Whether `text` is the mark of a turn that nobody spoke, in either spelling."""
    return isinstance(text, str) and text.replace(" ", "") == "__SILENCE__"


def read_persona_chat(path: str | Path, log: ReadLog | None = None) -> Iterator[Dialogue]:
    """Dialogues of ParlAI's text (`.txt`), or of the JSON form (`.json`, which is held whole).

    Personas, and candidates as the distractors of the turns of "self", are kept; marks of silence
    are dropped.

    Raises:
        UserError: while iterating; a line without a number, or a field that is missing.
    """
    log = log or ReadLog()
    if Path(path).suffix.lower() == ".json":
        yield from _read_json(path, log)
        return
    stem, split = Path(path).stem, split_name(Path(path).stem)

    def make(block: Block) -> Dialogue | None:
        first = block[0][0]
        return _dialogue_of_block(block, f"{stem}-{first:06d}", split, log)

    entries = ((f"line {block[0][0]}", block) for block in _blocks(path, log))
    yield from dialogues_of(path, entries, make, log, "no dialogue with a turn is in it; add some")


def _blocks(path: str | Path, log: ReadLog) -> Iterator[Block]:
    """The lines of each dialogue; a number that does not grow begins a new one."""
    block: Block = []
    previous = 0
    for number, line in numbered_lines(path):
        if not line.strip():
            continue
        match = NUMBERED_LINE.fullmatch(line)
        if match is None:
            log.mistake(
                UserError(
                    f'{path}, line {number}: "{line[:30]}" does not begin with a number and a '
                    "space; number the lines of each dialogue from 1"
                )
            )
            continue
        count = int(match[1][:9])
        if count <= previous and block:
            yield block
            block = []
        previous = count
        block.append((number, match[2]))
    if block:
        yield block


def _dialogue_of_block(block: Block, name: str, split: str, log: ReadLog) -> Dialogue | None:
    personas: dict[str, list[str]] = {}
    turns: list[Turn] = []
    for number, text in block:
        owner = next((p for p in _PERSONAS if text.startswith(p)), None)
        if owner is not None:
            personas.setdefault(_PERSONAS[owner], []).append(text.removeprefix(owner))
            continue
        try:
            turns += _turns_of_line(text.replace("\\n", "\n"), log)
        except UserError as error:
            raise UserError(f"in its line {number}, {error}") from None
    if not turns:
        log.drop("dialogues without a turn")
        return None
    kept = {who: tuple(sentences) for who, sentences in personas.items()}
    return Dialogue(name, tuple(turns), personas=kept, split=split, line=block[0][0])


def _turns_of_line(line: str, log: ReadLog) -> list[Turn]:
    """partner's text, self's reply, a reward (not read) and the candidates."""
    columns = line.split("\t")
    candidates = columns[3].split("|") if len(columns) > 3 else []
    turns = []
    for speaker, text in zip((PARTNER, SELF), columns[:2], strict=False):
        if is_silence(text):
            log.drop("marks of silence")
        elif not text.strip():
            log.drop("empty turns")
        else:
            turns.append(Turn(speaker, text, tuple(candidates) if speaker == SELF else ()))
    return turns


def _read_json(path: str | Path, log: ReadLog) -> Iterator[Dialogue]:
    splits = parsed_file(path)
    if not isinstance(splits, dict):
        raise UserError(
            f"{path}: a JSON value of type {type(splits).__name__} instead of an object; write "
            '{"train": [...], "valid": [...]}'
        )

    def entries() -> Iterator[tuple[str, tuple[str, int, object]]]:
        for name, dialogues in splits.items():
            if not isinstance(dialogues, list):
                raise UserError(
                    f'{path}: field "{name}" is of type {type(dialogues).__name__}; make it a list '
                    'of {"personality", "utterances"} objects'
                )
            for place, record in enumerate(dialogues, start=1):
                yield f'dialogue {place} of "{name}"', (name, place, record)

    def make(entry: tuple[str, int, object]) -> Dialogue | None:
        name, place, record = entry
        return personality_dialogue(record, f"{name}-{place:06d}", split_name(name), log)

    yield from dialogues_of(
        path, entries(), make, log, "no dialogue with a turn is in it; add some"
    )


def personality_dialogue(
    record: object, name: str, split: str, log: ReadLog, line: int = 0
) -> Dialogue | None:
    """The dialogue of one {"personality", "utterances"} object: what its last history tells, and
    the true reply to it. The speakers alternate, and every true reply is that of "self"."""
    if not isinstance(record, dict):
        raise UserError(
            f'a value of type {type(record).__name__}; make it {{"personality", "utterances"}}'
        )
    utterances = record.get("utterances")
    if not isinstance(utterances, list) or not utterances:
        raise UserError('field "utterances" is missing or empty; add {"history", "candidates"}')
    histories, candidates = zip(
        *(_exchange(utterance, place) for place, utterance in enumerate(utterances, start=1)),
        strict=True,
    )
    texts = [*histories[-1], candidates[-1][-1]]
    candidates_of = {len(h): given for h, given in zip(histories, candidates, strict=True)}
    turns = []
    for place, text in enumerate(texts):
        if is_silence(text) or not text.strip():
            log.drop("marks of silence" if is_silence(text) else "empty turns")
            continue
        speaker = SELF if (len(texts) - place) % 2 else PARTNER
        given = candidates_of.get(place, [""])
        if place in candidates_of and given[-1].strip() != text.strip():
            log.drop("lists of candidates that do not end with the reply that was given")
            given = [""]
        turns.append(Turn(speaker, text, tuple(given[:-1])))
    if not turns:
        log.drop("dialogues without a turn")
        return None
    persona = clean_texts(record.get("personality", []), "personality")
    return Dialogue(name, tuple(turns), personas={SELF: persona}, split=split, line=line)


def _exchange(utterance: object, place: int) -> tuple[list[str], list[str]]:
    """History and candidates of one utterance, as they are written."""
    lists = []
    for field in ("history", "candidates"):
        value = utterance.get(field) if isinstance(utterance, dict) else None
        texts = isinstance(value, list) and all(isinstance(text, str) for text in value)
        if not texts or not value:
            raise UserError(
                f'in utterance {place}, field "{field}" is missing, empty or no list of strings; '
                'write {"history": ["..."], "candidates": ["...", "the true reply"]}'
            )
        lists.append([clean_text(t, field) if t.strip() else "" for t in value])
    return lists[0], lists[1]
