"""Robustness of a reward model: edits that should not matter, and replies that should score low.

Works with and without spaces between words: where a reply has none, its characters take the place
of words.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence

import numpy as np

from rlhf_dialog.dialogues.labelled import LabelledReply
from rlhf_dialog.dialogues.words import split_words

# (contexts, replies) -> scores (B,) float64
Scores = Callable[[Sequence[Sequence[str]], Sequence[str]], np.ndarray]

MOST_REPLIES = 500  # real ones that are edited


def _casing(reply: str) -> str:
    """In lower case; what is so already gets a capital."""
    return reply.lower() if reply.lower() != reply else reply[:1].upper() + reply[1:]


def _final_punctuation(reply: str) -> str:
    """Without its full stop, or with one where no mark ends it; "?" and "!" stay."""
    if reply[-1] in ".。":
        return reply.rstrip(".。…") or reply
    wide = re.search(r"[぀-ヿ一-鿿]$", reply)
    return reply + ("。" if wide else ".") if reply[-1].isalnum() else reply


def _whitespace(reply: str) -> str:
    """Every inner space doubled, and one space at each end."""
    return f" {reply.replace(' ', '  ')} "


EDITS: dict[str, Callable[[str], str]] = {
    "casing": _casing,
    "final_punctuation": _final_punctuation,
    "whitespace": _whitespace,
}


def _repeated(reply: LabelledReply, rng: random.Random) -> str:
    units, joint, mark = split_words(reply.reply)
    return joint.join(units[:2] * 4) + mark


def _copied_context(reply: LabelledReply, rng: random.Random) -> str:
    return reply.context[-1]


def _shuffled_words(reply: LabelledReply, rng: random.Random) -> str:
    units, joint, mark = split_words(reply.reply)
    return joint.join(rng.sample(units, len(units))) + mark


DEGENERATE: dict[str, Callable[[LabelledReply, random.Random], str]] = {
    "empty": lambda reply, rng: "",
    "repeated": _repeated,
    "copied_context": _copied_context,
    "shuffled_words": _shuffled_words,
}


def harmless_edits(
    score: Scores, reals: Sequence[LabelledReply], *, spread: float
) -> dict[str, dict]:
    """What editing a real reply does to its score.

    Args:
        spread: standard deviation of the scores of the whole file, logits.

    Returns:
        Per edit, of the replies that it changes: `count`, `mean_change` and `mean_absolute_change`
        (logits), `relative` (the latter over `spread`; 0 where that is 0), and `flips`, the share
        that changes the side of logit 0.
    """
    before = score([r.context for r in reals], [r.reply for r in reals])
    report = {}
    for name, edit in EDITS.items():
        edited = [edit(reply.reply) for reply in reals]
        rows = [i for i, text in enumerate(edited) if text != reals[i].reply]
        if not rows:
            continue
        after = score([reals[i].context for i in rows], [edited[i] for i in rows])
        change = after - before[rows]
        report[name] = {
            "count": len(rows),
            "mean_change": float(change.mean()),
            "mean_absolute_change": float(np.abs(change).mean()),
            "relative": float(np.abs(change).mean() / spread) if spread else 0.0,
            "flips": float(((after > 0) != (before[rows] > 0)).mean()),
        }
    return report


def degenerate_replies(
    score: Scores, reals: Sequence[LabelledReply], *, resamples: int, seed: int
) -> dict[str, dict]:
    """How often a broken reply scores strictly below the real one of the same context.

    Returns:
        Per kind: `count`, and `below` ({"value", "ci95"}, percentile bootstrap over contexts). What
        happens to equal the real reply is left out.
    """
    rng, draw = random.Random(seed), np.random.default_rng(seed)
    before = score([r.context for r in reals], [r.reply for r in reals])
    report = {}
    for name, make in DEGENERATE.items():
        broken = [make(reply, rng) for reply in reals]
        rows = [i for i, text in enumerate(broken) if text != reals[i].reply]
        if not rows:
            continue
        after = score([reals[i].context for i in rows], [broken[i] for i in rows])
        below = after < before[rows]
        means = below[draw.integers(len(rows), size=(resamples, len(rows)))].mean(1)
        low, high = np.percentile(means, [2.5, 97.5])
        report[name] = {
            "count": len(rows),
            "below": {"value": float(below.mean()), "ci95": [float(low), float(high)]},
        }
    return report


def some_reals(replies: Sequence[LabelledReply], seed: int) -> list[LabelledReply]:
    """The real replies, or `MOST_REPLIES` of them drawn by `seed`."""
    reals = [reply for reply in replies if reply.is_real]
    if len(reals) <= MOST_REPLIES:
        return reals
    return random.Random(seed).sample(reals, MOST_REPLIES)
