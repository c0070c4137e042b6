"""Wrong replies beside the right one: what next-utterance classification learns to tell apart."""

from __future__ import annotations

import random
from collections.abc import Sequence

from rlhf_dialog.dialogues.schema import Example
from rlhf_dialog.errors import UserError


def draw_distractors(examples: Sequence[Example], number: int, seed: int) -> list[list[str]]:
    """So many distractors for each example: its own first (ConvAI2's candidates), as many as there
    are, drawn at random; the rest are replies to other contexts.

    All differ from the reply and from each other, but for case and white space. The same seed gives
    the same ones.

    Raises:
        UserError: too few different replies to draw from.
    """
    spelling: dict[str, str] = {}
    for example in examples:
        spelling.setdefault(_key(example.reply), example.reply)
    if number >= len(spelling):
        raise UserError(
            f"warm_start_distractors: {number} cannot be drawn from {len(spelling)} different "
            "replies; give fewer, or more dialogues."
        )
    draw = random.Random(seed)
    keys = list(spelling)
    chosen = []
    for example in examples:
        reply = _key(example.reply)
        own = {_key(text): text for text in example.distractors if _key(text) != reply}
        texts = dict(draw.sample(sorted(own.items()), min(number, len(own))))
        while len(texts) < number:
            key = draw.choice(keys)
            if key != reply:
                texts.setdefault(key, spelling[key])
        chosen.append(list(texts.values()))
    return chosen


def _key(text: str) -> str:
    return " ".join(text.split()).casefold()
