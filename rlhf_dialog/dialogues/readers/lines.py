"""What all readers share: numbered lines, JSON objects, and a log of what was left out.

Readers are lazy: they hold one dialogue at a time, and a mistake is told when it is reached.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from rlhf_dialog.dialogues.schema import Dialogue
from rlhf_dialog.errors import UserError

MOST_PROBLEMS = 1000  # kept as sentences; more are counted
_UNDECODED = re.compile("[\udc80-\udcff]")  # how "surrogateescape" hands on a byte
_SPLITS = {
    "train": "train",
    "training": "train",
    "valid": "valid",
    "validation": "valid",
    "dev": "valid",
    "test": "test",
}

T = TypeVar("T")


@dataclass
class ReadLog:
    """What a reader left out, and why. Give one to a reader, and look into it afterwards.

    Attributes:
        keep_going: a wrong entry is noted in `problems` and left out, instead of ending the reading
            with its UserError. A file that cannot be read at all ends it either way.
        dropped: reason to number, of what the reader leaves out by design: empty turns, marks of
            silence, known duplicates.
        problems: the first `MOST_PROBLEMS` mistakes, each a sentence with file, line and field.
        wrong: number of all mistakes.
    """

    keep_going: bool = False
    dropped: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    wrong: int = 0

    def drop(self, reason: str, number: int = 1) -> None:
        if number:
            self.dropped[reason] += number

    def mistake(self, error: UserError) -> None:
        if not self.keep_going:
            raise error from None
        self.wrong += 1
        if len(self.problems) < MOST_PROBLEMS:
            self.problems.append(str(error))


def numbered_lines(path: str | Path, holds: str = "dialogues") -> Iterator[tuple[int, str]]:
    """Lines with their numbers, from 1. A mark of byte order is dropped, all line ends are known.

    Not `str.splitlines`: JSON strings may hold U+2028 and its like unescaped.

    Raises:
        UserError: while iterating; no such file, a folder, a byte that is not UTF-8, nothing in it.
    """
    if Path(path).is_dir():
        raise UserError(f"{path}: this is a folder; give a file inside it")
    anything = False
    try:
        with open(path, encoding="utf-8-sig", errors="surrogateescape") as file:
            for number, line in enumerate(file, start=1):
                if not line.isascii() and (found := _UNDECODED.search(line)):
                    raise UserError(
                        f"{path}, line {number}: byte 0x{ord(found[0]) - 0xDC00:02x} is not UTF-8; "
                        "save the file with the encoding UTF-8"
                    )
                anything = anything or not line.isspace()
                yield number, line.removesuffix("\n")
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file; check the path") from None
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(f"{path}: cannot be read ({reason}); check its permissions") from None
    if not anything:
        raise UserError(f"{path}: the file is empty; give one that holds {holds}")


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


def parsed_file(path: str | Path) -> object:
    """The one JSON value of a whole file, which is held in memory at once."""
    content = "\n".join(line for _, line in numbered_lines(path))
    try:
        return json.loads(content)
    except json.JSONDecodeError as error:
        raise UserError(
            f"{path}, line {error.lineno}: broken JSON at column {error.colno} ({error.msg}); "
            "write one complete JSON value"
        ) from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: JSON that cannot be read ({error}); simplify it") from None


def dialogues_of(
    path: str | Path,
    entries: Iterable[tuple[str, T]],
    make: Callable[[T], Dialogue | None],
    log: ReadLog,
    nothing: str,
) -> Iterator[Dialogue]:
    """The dialogues that `make` makes of entries; what is wrong goes to the log with its place.

    Args:
        entries: (place, what stands there); the place is "line 7", say.
        make: None where the log was told why there is no dialogue.
        nothing: what to say where not one dialogue is left: what is missing, and the remedy.
    """
    place_of_id: dict[str, str] = {}
    kept = 0
    for place, entry in entries:
        try:
            dialogue = make(entry)
            if dialogue is not None:
                earlier = place_of_id.setdefault(dialogue.id, place)
                if earlier is not place:
                    raise UserError(
                        f'field "dialogue_id" is "{dialogue.id}", as on {earlier}; '
                        "give every dialogue an id of its own"
                    )
        except UserError as error:
            log.mistake(UserError(f"{path}, {place}: {error}"))
            continue
        if dialogue is not None:
            kept += 1
            yield dialogue
    if not kept and not log.wrong:
        raise UserError(f"{path}: {nothing}")


def filled_lines(path: str | Path) -> Iterator[tuple[str, tuple[int, str]]]:
    """("line 7", (7, text)) of every line that is not blank: entries for `dialogues_of`."""
    return ((f"line {n}", (n, line)) for n, line in numbered_lines(path) if line.strip())


def split_name(value: object) -> str:
    """ "train", "valid" or "test" of a field or a file name; "" of anything else."""
    words = re.split(r"[^a-z]+", str(value).lower())
    return next((_SPLITS[word] for word in words if word in _SPLITS), "")
