"""Dialogues to (context, reply) examples, for everybody or for one character."""

import difflib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby

from rlhf_dialog.dialogues.schema import Context, Dialogue, Example, Turn, speaker_key
from rlhf_dialog.errors import UserError

FEWEST_REPLIES = 100  # of a character in the whole script, to be learnt and tested


def make_examples(
    dialogues: Sequence[Dialogue], *, character: str | None = None, max_turns: int = 3
) -> list[Example]:
    """Every reply with the turns before it, in the order of the dialogues.

    Adjacent turns of one speaker are first merged into one, joined by a space. Every turn but the
    first of a dialogue is then a reply to somebody else. Its context knows the persona of who
    replies, and the summary that the dialogue holds of it.

    Args:
        dialogues: where to look.
        character: whose replies to keep, compared by `speaker_key`; None keeps everybody's.
        max_turns: the most turns (merged ones) in a context, at least 1.

    Raises:
        UserError: `max_turns` is below 1.
    """
    if max_turns < 1:
        raise UserError(f"max_turns is {max_turns}; give at least 1 turn of context")
    wanted = None if character is None else speaker_key(character)
    examples = []
    for dialogue in dialogues:
        turns = _merged(dialogue.turns)
        for place in range(1, len(turns)):
            reply = turns[place]
            if wanted is None or speaker_key(reply.speaker) == wanted:
                before = turns[max(0, place - max_turns) : place]
                texts = (turn.text for turn in before)
                context = Context(texts, dialogue.persona_of(reply.speaker), reply.summary)
                example = (context, reply.text, reply.speaker, dialogue.id, before[-1].speaker)
                of_turn = (reply.distractors, reply.weight)
                examples.append(Example(*example, *of_turn, dialogue.group))
    return examples


def require_character(dialogues: Sequence[Dialogue], character: str, minimum: int) -> None:
    """Nothing, when `character` has at least `minimum` replies in `dialogues`.

    Raises:
        UserError: the character does not occur (the message names the five most frequent speakers
            and the closest spelling), or has too few replies (it says how many, and how many are
            needed).
    """
    turns_of: Counter[str] = Counter()
    spelling: dict[str, str] = {}
    for dialogue in dialogues:
        for turn in dialogue.turns:
            key = speaker_key(turn.speaker)
            turns_of[key] += 1
            spelling.setdefault(key, turn.speaker)

    wanted = speaker_key(character)
    if wanted not in turns_of:
        close = difflib.get_close_matches(wanted, turns_of, n=1)
        hint = f'did you mean "{spelling[close[0]]}"? ' if close else ""
        frequent = ", ".join(f"{spelling[key]} ({n} turns)" for key, n in turns_of.most_common(5))
        raise UserError(
            f'the character "{character}" says nothing in these dialogues; {hint}'
            f"the most frequent speakers are: {frequent or 'none'}"
        )
    replies = len(make_examples(dialogues, character=character))
    if replies < minimum:
        raise UserError(
            f'the character "{character}" has {replies} replies in these dialogues and at least '
            f"{minimum} are needed; add dialogues or choose a character who speaks more"
        )


def _merged(turns: Sequence[Turn]) -> list[Turn]:
    """`turns`, with neighbours of one speaker joined; the first spelling of the name is kept.

    A joined turn has the summary of its first part, which is of what came before, and no
    distractors, which are alternatives to a part. Its weight is the least of its parts', so that
    what is not to be learnt is not learnt.
    """
    return [run[0] if len(run) == 1 else _joined(run) for run in _runs(turns)]


def _runs(turns: Sequence[Turn]) -> Iterator[list[Turn]]:
    return (list(run) for _, run in groupby(turns, key=lambda turn: speaker_key(turn.speaker)))


def _joined(run: Sequence[Turn]) -> Turn:
    text = " ".join(turn.text for turn in run)
    return Turn(run[0].speaker, text, (), run[0].summary, min(turn.weight for turn in run))


def without_summary(dialogue: Dialogue) -> Iterator[tuple[int, list[tuple[str, str]]]]:
    """Replies of which the dialogue brings no summary, though there is something to summarise.

    Yields:
        the place of the (first) turn of the reply, and what was said before it but for the
        (merged) turn just before it: (speaker, text), merged, oldest first, at least one.
    """
    place = 0
    before: list[tuple[str, str]] = []
    for run in _runs(dialogue.turns):
        if len(before) > 1 and not run[0].summary:
            yield place, before[:-1]
        place += len(run)
        before.append((run[0].speaker, " ".join(turn.text for turn in run)))


def backwards(dialogues: Sequence[Dialogue]) -> list[Dialogue]:
    """The dialogues with their last turn first. A reverse model learns from them what a reply
    may have answered (Zhang et al. 2020, section 3.2). Distractors and summaries, which look the
    other way, are left out."""
    return [
        replace(d, turns=tuple(Turn(t.speaker, t.text, weight=t.weight) for t in d.turns[::-1]))
        for d in dialogues
    ]
