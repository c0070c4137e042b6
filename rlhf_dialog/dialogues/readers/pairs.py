"""Two columns, one exchange a row: CSV (Korean `ChatbotData.csv`), or TSV.

Q,A,label
12시 땡!,하루가 또 가네요.,0
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

from rlhf_dialog.dialogues.readers.lines import ReadLog, dialogues_of, numbered_lines, split_name
from rlhf_dialog.dialogues.schema import Dialogue, Turn
from rlhf_dialog.errors import UserError

SPEAKERS = ("user", "bot")
_HEADERS = {"q", "a", "question", "answer", "query", "reply", "response", "context", "input"} | {
    "prompt", "completion", "output", "utterance", "post", "user", "bot", "source", "target"
}  # fmt: skip

# (number of the line it begins on, cells)
Row = tuple[int, list[str]]


def read_pairs(
    path: str | Path, log: ReadLog | None = None, columns: Sequence[str] | None = None
) -> Iterator[Dialogue]:
    """Each row as a dialogue of two turns, by "user" and "bot"; other columns are not read.

    CSV is read with its quotes. TSV has none: a cell is what stands between tabs, less a pair of
    quotes around it if no lone one is inside. Rows with an empty cell are dropped.

    Args:
        columns: names of the two columns, from the header. By default the first two; the first row
            is a header when both of its names are usual ones (Q and A, question and answer, ...).

    Raises:
        UserError: while iterating; a row of fewer columns, quotes that do not close, or no such
            column.
    """
    log = log or ReadLog()
    stem, split = Path(path).stem, split_name(Path(path).stem)
    rows = _tab_rows(path) if Path(path).suffix.lower() == ".tsv" else _comma_rows(path)
    places = (0, 1)
    first = next(rows, None)
    if first is not None and columns is not None:
        places = _places(path, first, columns)
    elif first is not None and not {cell.strip().lower() for cell in first[1][:2]} <= _HEADERS:
        rows = chain([first], rows)

    def make(row: Row) -> Dialogue | None:
        number, cells = row
        if len(cells) <= max(places):
            raise UserError(
                f"{len(cells)} column{'s' if len(cells) != 1 else ''} instead of at least "
                f"{max(places) + 1}; write a question and an answer in every row"
            )
        texts = [cells[place] for place in places]
        if not all(text.strip() for text in texts):
            log.drop("pairs with an empty side")
            return None
        turns = tuple(Turn(who, text) for who, text in zip(SPEAKERS, texts, strict=True))
        return Dialogue(f"{stem}-{number:06d}", turns, split=split, line=number)

    entries = ((f"line {number}", (number, cells)) for number, cells in rows)
    nothing = "no row holds two texts; write a question and an answer in every row"
    yield from dialogues_of(path, entries, make, log, nothing)


def _comma_rows(path: str | Path) -> Iterator[Row]:
    csv.field_size_limit(2**31 - 1)  # the default, 128 KiB, is less than a long text
    first = 1

    def lines() -> Iterator[str]:
        return (f"{line}\n" for _, line in numbered_lines(path))

    reader = csv.reader(lines(), strict=True)
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise UserError(
                f"{path}, line {first}: the quotes of this row cannot be read ({error}); close "
                'each quoted cell, and write a quote inside it twice ("")'
            ) from None
        if any(cell.strip() for cell in cells):
            yield first, cells
        first = reader.line_num + 1


def _tab_rows(path: str | Path) -> Iterator[Row]:
    for number, line in numbered_lines(path):
        if line.strip():
            yield number, [_unquoted(cell) for cell in line.split("\t")]


def _unquoted(cell: str) -> str:
    """Without the quotes that a spreadsheet put around it, which doubled those that were inside; a
    lone one inside means that the outer two belong to the text."""
    inner = cell[1:-1]
    if len(cell) < 2 or not cell[0] == cell[-1] == '"' or '"' in inner.replace('""', ""):
        return cell
    return inner.replace('""', '"')


def _places(path: str | Path, header: Row, columns: Sequence[str]) -> tuple[int, int]:
    number, cells = header
    names = [name.strip() for name in cells]
    for column in columns:
        if column not in names:
            raise UserError(
                f'{path}, line {number}: there is no column "{column}"; the columns are '
                f"{', '.join(names)}"
            )
    return names.index(columns[0]), names.index(columns[1])
