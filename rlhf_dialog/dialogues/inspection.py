"""What is in a file of dialogues: counts, lengths, languages, mistakes, duplicates, characters.

The file is read once, dialogue by dialogue. What is kept grows with the number of dialogues by one
fingerprint and one id each, and with the number of speakers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import regex
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from rlhf_dialog.dialogues.duplicates import fingerprint
from rlhf_dialog.dialogues.examples import FEWEST_REPLIES
from rlhf_dialog.dialogues.languages import language_of
from rlhf_dialog.dialogues.readers import ReadLog, form_of, iter_dialogues
from rlhf_dialog.dialogues.schema import Dialogue, speaker_key

LONG_TURN = 200  # words
_SHOWN_PROBLEMS = 8
_SHOWN_SPEAKERS = 12
_SHOWN_PLACES = 3
_ALL_DIALOGUES = 5_000  # of these the language is guessed; later of every 20th
_UNREADABLE = regex.compile(r"\uFFFD|Ã[\u0080-\u00BF]|â€")  # UTF-8 read as Latin-1, or lost
_CONTROL = regex.compile(r"[\p{Cc}]")


@dataclass
class Character:
    """One speaker's part."""

    name: str
    turns: int = 0
    replies: int = 0  # turns that follow somebody else's; neighbours of one speaker count once
    words: int = 0
    dialogues: int = 0
    persona: bool = False


@dataclass
class Inspection:
    """What `inspect_dialogues` found. A word is what stands between spaces."""

    path: str
    form: str
    dialogues: int = 0
    turns: int = 0
    candidates: int = 0  # turns that have some
    summaries: int = 0  # turns that have one
    splits: Counter[str] = field(default_factory=Counter)
    turns_per_dialogue: Counter[int] = field(default_factory=Counter)
    words_per_turn: Counter[int] = field(default_factory=Counter)
    characters: int = 0  # Unicode code points of all turns
    languages: Counter[str] = field(default_factory=Counter)  # of dialogues
    speakers: dict[str, Character] = field(default_factory=dict)
    duplicates: Counter[str] = field(default_factory=Counter)
    oddities: Counter[str] = field(default_factory=Counter)  # of dialogues
    first_seen: dict[str, list[str]] = field(default_factory=dict)  # oddity to places
    log: ReadLog = field(default_factory=lambda: ReadLog(keep_going=True))

    @property
    def trainable(self) -> list[Character]:
        """Who has enough replies to be learnt, most first."""
        enough = [c for c in self.speakers.values() if c.replies >= FEWEST_REPLIES]
        return sorted(enough, key=lambda character: -character.replies)


def inspect_dialogues(
    path: str | Path, form: str | None = None, columns: Sequence[str] | None = None
) -> Inspection:
    """Reads a whole file (or folder, or Hub dataset) and counts; wrong entries are left out.

    Raises:
        UserError: it cannot be read at all.
    """
    found = Inspection(str(path), form or form_of(path))
    seen: dict[bytes, tuple[str, str]] = {}
    for dialogue in iter_dialogues(path, found.form, columns, found.log):
        place = f"line {dialogue.line}" if dialogue.line else f'dialogue "{dialogue.id}"'
        found.dialogues += 1
        found.splits[dialogue.split] += 1
        found.turns_per_dialogue[len(dialogue.turns)] += 1
        _count_turns(found, dialogue)
        if found.dialogues <= _ALL_DIALOGUES or found.dialogues % 20 == 0:
            text = " ".join(turn.text for turn in dialogue.turns)
            found.languages[language_of(text)] += 1
        for oddity in _oddities(dialogue):
            found.oddities[oddity] += 1
            if found.oddities[oddity] <= _SHOWN_PLACES:
                found.first_seen.setdefault(oddity, []).append(place)
        first_place, split = seen.setdefault(fingerprint(dialogue), (place, dialogue.split))
        if first_place != place:
            across = split != dialogue.split
            found.duplicates["across splits" if across else "within a split"] += 1
    return found


def _count_turns(found: Inspection, dialogue: Dialogue) -> None:
    previous, present = None, set()
    for turn in dialogue.turns:
        key = speaker_key(turn.speaker)
        character = found.speakers.setdefault(key, Character(turn.speaker))
        words = len(turn.text.split())
        character.turns += 1
        character.words += words
        character.replies += previous not in (None, key)
        if key not in present:
            present.add(key)
            character.dialogues += 1
            character.persona = character.persona or bool(dialogue.persona_of(turn.speaker))
        found.turns += 1
        found.words_per_turn[words] += 1
        found.characters += len(turn.text)
        found.candidates += bool(turn.distractors)
        found.summaries += bool(turn.summary)
        previous = key


def _oddities(dialogue: Dialogue) -> Iterator[str]:
    """What is no mistake, but worth a look."""
    turns = dialogue.turns
    keys = [speaker_key(turn.speaker) for turn in turns]
    if len(set(keys)) == 1:
        yield "one speaker alone: nobody replies"
    if any(one == other for one, other in pairwise(keys)):
        yield "neighbouring turns of one speaker (they are joined)"
    if any(len(turn.text) > LONG_TURN and len(turn.text.split()) > LONG_TURN for turn in turns):
        yield f"a turn of more than {LONG_TURN} words"
    if any(not t.text.isascii() and _UNREADABLE.search(t.text) for t in turns):
        yield "characters that were lost in another encoding"
    if any(not t.text.isprintable() and _CONTROL.search(t.text) for t in turns):
        yield "control characters"


def as_tables(found: Inspection) -> RenderableType:
    """The inspection as a person reads it."""
    return Group(_overview(found), _characters(found), *_problems(found))


def _overview(found: Inspection) -> Table:
    table = Table(title=f"{found.path} ({found.form})", show_header=False, title_justify="left")
    table.add_column(style="bold")
    table.add_column()
    words = sum(n * count for n, count in found.words_per_turn.items())
    rows = {
        "dialogues": f"{found.dialogues:,}",
        "turns": f"{found.turns:,}",
        "speakers": f"{len(found.speakers):,}",
        "turns per dialogue": _spread(found.turns_per_dialogue),
        "words per turn": _spread(found.words_per_turn),
        "words, characters": f"{words:,}, {found.characters:,}",
        "language (a guess)": _shares(found.languages),
        "splits": ", ".join(f"{k} {n:,}" for k, n in found.splits.items() if k),
        "turns with candidates": f"{found.candidates:,}" if found.candidates else "",
        "turns with a summary": f"{found.summaries:,}" if found.summaries else "",
        "duplicates": ", ".join(f"{n:,} {k}" for k, n in found.duplicates.items()) or "none",
        "left out": ", ".join(f"{n:,} {k}" for k, n in found.log.dropped.items()) or "nothing",
        "mistakes": f"{found.log.wrong:,}" if found.log.wrong else "none",
    }
    for name, value in rows.items():
        if value:
            table.add_row(name, Text(value))
    return table


def _characters(found: Inspection) -> Table:
    enough = len(found.trainable)
    table = Table(
        title=f"{enough} of {len(found.speakers):,} speakers have at least {FEWEST_REPLIES} "
        "replies, enough to train on",
        title_justify="left",
    )
    for name in ("speaker", "replies", "turns", "dialogues", "words per turn", "persona", "enough"):
        table.add_column(name, justify="left" if name == "speaker" else "right")
    ranked = sorted(found.speakers.values(), key=lambda c: (-c.replies, -c.turns))
    for c in ranked[:_SHOWN_SPEAKERS]:
        table.add_row(
            Text(c.name[:40]),
            f"{c.replies:,}",
            f"{c.turns:,}",
            f"{c.dialogues:,}",
            f"{c.words / c.turns:.1f}",
            "yes" if c.persona else "",
            "yes" if c.replies >= FEWEST_REPLIES else "",
        )
    if len(ranked) > _SHOWN_SPEAKERS:
        table.caption = f"and {len(ranked) - _SHOWN_SPEAKERS:,} more"
    return table


def _problems(found: Inspection) -> Iterator[RenderableType]:
    if found.log.wrong:
        table = Table(title=f"mistakes: {found.log.wrong:,}", show_header=False)
        for problem in found.log.problems[:_SHOWN_PROBLEMS]:
            table.add_row(Text(problem))
        if found.log.wrong > _SHOWN_PROBLEMS:
            table.caption = f"and {found.log.wrong - _SHOWN_PROBLEMS:,} more"
        yield table
    if found.oddities:
        table = Table("dialogues", "worth a look", "first seen", title_justify="left")
        for oddity, number in found.oddities.items():
            table.add_row(f"{number:,}", oddity, Text(", ".join(found.first_seen[oddity])))
        yield table


def _spread(counts: Counter[int]) -> str:
    """Mean, median and largest of a histogram."""
    if not counts:
        return ""
    number = sum(counts.values())
    mean = sum(value * count for value, count in counts.items()) / number
    middle, passed = 0, 0
    for value in sorted(counts):
        passed += counts[value]
        if 2 * passed >= number:
            middle = value
            break
    return f"mean {mean:.1f}, median {middle}, largest {max(counts):,}"


def _shares(counts: Counter[str]) -> str:
    total = sum(counts.values())
    large = [(k, n) for k, n in counts.most_common(4) if n >= 0.005 * total]
    return ", ".join(f"{name} {number / total:.0%}" for name, number in large)
