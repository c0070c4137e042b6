"""Plain-text transcripts, one scene a dialogue:

## Scene: the bar
ANN: Hi! (waves)
BOB: Oh, hello.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rlhf_dialog.dialogues.readers.lines import ReadLog, numbered_lines
from rlhf_dialog.dialogues.schema import Dialogue, Turn
from rlhf_dialog.dialogues.transcript import directions_removed, is_scene_heading, speaker_and_text
from rlhf_dialog.errors import UserError


def read_transcript(path: str | Path, log: ReadLog | None = None) -> Iterator[Dialogue]:
    """Dialogues of a plain-text transcript, one a scene, in file order.

    `NAME: line` begins a turn and a line without a name continues the turn before. Scene headings
    (`is_scene_heading`) end a dialogue; lines between a heading and the next name are prose and
    are skipped. Stage directions in round or square brackets are removed, and turns of nothing
    else are dropped. Blank lines mean nothing. Ids are `<file name>-scene-0001` and so on; every
    scene is its own group.

    Raises:
        UserError: the file cannot be read, or no line of it has the form `NAME: line`.
    """
    log = log or ReadLog()
    stem = Path(path).stem
    number = 0
    for line, scene in _scenes(path, log):
        # Removed only here, since a direction may run over several lines of its turn.
        spoken = [(speaker, directions_removed(text)) for speaker, text in scene]
        turns = tuple(Turn(speaker, text) for speaker, text in spoken if text.strip())
        log.drop("turns of stage directions alone", len(scene) - len(turns))
        if turns:
            number += 1
            yield Dialogue(f"{stem}-scene-{number:04d}", turns, line=line)
    if not number:
        raise UserError(
            f'{path}: no line has the form "NAME: line"; put the speaker\'s name and a colon '
            "before what is said"
        )


def _scenes(path: str | Path, log: ReadLog) -> Iterator[tuple[int, list[tuple[str, str]]]]:
    """The line of each scene's first turn, and (speaker, text with its directions) in order."""
    first, turns = 0, list[tuple[str, str]]()
    for number, line in numbered_lines(path):
        if not line.strip():
            continue
        if is_scene_heading(line):
            yield first, turns
            turns = []
            continue
        named = speaker_and_text(line)
        if named is not None:
            first = first if turns else number
            turns.append(named)
        elif turns:
            speaker, text = turns[-1]
            turns[-1] = (speaker, f"{text}\n{line}")
        else:
            log.drop("lines of prose before the first turn of a scene")
    yield first, turns
