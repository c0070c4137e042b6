"""Dialogues told in several styles: what a discriminator of a style is trained on.

JSON lines as `read_jsonl` takes them, with two fields more. "style" names how a dialogue is told,
"parallel_id" what is told; lines that share it are the same dialogue (SmileStyle, Smilegate 2022):

    {"parallel_id": 7, "style": "formal", "turns": [{"speaker": "A", "text": "Good evening."}, ...]}
    {"parallel_id": 7, "style": "pirate", "turns": [{"speaker": "A", "text": "Ahoy!"}, ...]}
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path

from rlhf_dialog.dialogues.readers import ReadLog, numbered_lines, parsed_object
from rlhf_dialog.dialogues.readers.jsonl import dialogue_from
from rlhf_dialog.dialogues.schema import Dialogue, clean_text, speaker_key
from rlhf_dialog.errors import UserError


@dataclass(frozen=True)
class StyledReply:
    """A reply in the wanted style, or the same place of the dialogue told in another one.

    Attributes:
        context: the turns before it as told in the wanted style, whose reply ever it is: what is
            left to tell the two apart is the reply.
        group: what the parallel dialogues share; a split must not divide it.
    """

    context: tuple[str, ...]
    reply: str
    style: str
    is_wanted: bool
    group: str


def read_styled_replies(
    path: str | Path, style: str, *, field: str = "style", max_turns: int = 2
) -> list[StyledReply]:
    """Every reply in `style`, and in each other style the one nearest to the same place.

    Places can differ, as some styles leave turns out; a dialogue without the wanted style is left
    out, and so is what another style says in the very same words.

    Raises:
        UserError: anything wrong with a line, a style that does not occur, or one without others.
    """
    told: dict[str, list[tuple[str, Dialogue]]] = defaultdict(list)
    for number, line in numbered_lines(path, "dialogues in several styles"):
        if not line.strip():
            continue
        try:
            record = parsed_object(line)
            name = clean_text(record.get(field), field)
            if record.get("parallel_id") is None:
                raise UserError(
                    'field "parallel_id" is missing; give it the same value in all lines that '
                    "tell the same dialogue"
                )
            dialogue = dialogue_from(record, f"line-{number:06d}", number, ReadLog())
        except UserError as error:
            raise UserError(f"{path}, line {number}: {error}") from None
        if dialogue is not None:
            told[dialogue.group].append((name, dialogue))
    _check_styles(path, told, style, field)
    return [reply for same in told.values() for reply in _replies(same, style, max_turns)]


def _check_styles(
    path: str | Path, told: dict[str, list[tuple[str, Dialogue]]], style: str, field: str
) -> None:
    counts = Counter(name for same in told.values() for name, _ in same)
    wanted = speaker_key(style)
    if wanted not in {speaker_key(name) for name in counts}:
        there = ", ".join(f"{name} ({n} dialogues)" for name, n in counts.most_common(8))
        raise UserError(
            f'{path}: no dialogue has the style "{style}" in its field "{field}"; there are: '
            f"{there or 'none'}"
        )
    if len({speaker_key(name) for name in counts}) == 1:
        raise UserError(
            f'{path}: "{style}" is the only style (field "{field}"), so there is nothing to tell '
            "it from; add the same dialogues in others"
        )


def _replies(same: list[tuple[str, Dialogue]], style: str, max_turns: int) -> list[StyledReply]:
    """Of one dialogue told several times."""
    wanted = speaker_key(style)
    own = next((dialogue for name, dialogue in same if speaker_key(name) == wanted), None)
    if own is None:
        return []
    turns = [turn.text for turn in own.turns]
    replies = []
    for place in range(1, len(turns)):
        context = tuple(turns[max(0, place - max_turns) : place])
        replies.append(StyledReply(context, turns[place], style, True, own.group))
        for name, other in same:
            text = other.turns[min(place, len(other.turns) - 1)].text
            if speaker_key(name) != wanted and text != turns[place]:
                replies.append(StyledReply(context, text, name, False, own.group))
    return replies
