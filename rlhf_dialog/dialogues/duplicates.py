"""The same dialogue twice: found by its texts, and kept once, where it is needed most."""

from __future__ import annotations

import hashlib
import unicodedata
from collections import Counter
from collections.abc import Sequence

from rlhf_dialog.dialogues.schema import Dialogue

# Of copies, the one in the last of these splits stays: a published test set stays whole.
_PRECEDENCE = ("", "train", "valid", "test")


def fingerprint(dialogue: Dialogue) -> bytes:
    """16 bytes that two dialogues share when their texts do, but for case, white space and Unicode
    form. Names of speakers do not count: whoever has seen the texts has seen the dialogue."""
    digest = hashlib.blake2b(digest_size=16)
    for turn in dialogue.turns:
        text = " ".join(unicodedata.normalize("NFC", turn.text).casefold().split())
        digest.update(text.encode())
        digest.update(b"\x00\n")
    return digest.digest()


def drop_duplicates(dialogues: Sequence[Dialogue]) -> tuple[list[Dialogue], Counter[str]]:
    """Each dialogue once, in the order given, and how many copies were dropped from where.

    Of copies in several splits (`Dialogue.split`) the one in "test" stays, else that in "valid",
    else that in "train"; within a split the first one stays. DailyDialog's release, for example,
    holds 110 of its test dialogues in its training set as well.

    Returns:
        The dialogues kept, and reason to number: "copies in train of dialogues in test",
        "copies within train", "copies".
    """
    kept: dict[bytes, int] = {}
    prints = [fingerprint(dialogue) for dialogue in dialogues]
    for place, (dialogue, mark) in enumerate(zip(dialogues, prints, strict=True)):
        best = kept.setdefault(mark, place)
        if _PRECEDENCE.index(dialogue.split) > _PRECEDENCE.index(dialogues[best].split):
            kept[mark] = place
    dropped: Counter[str] = Counter()
    for place, (dialogue, mark) in enumerate(zip(dialogues, prints, strict=True)):
        if kept[mark] != place:
            dropped[_reason(dialogue.split, dialogues[kept[mark]].split)] += 1
    return [dialogues[place] for place in sorted(kept.values())], dropped


def _reason(split: str, keeper: str) -> str:
    if split == keeper:
        return f"copies within {split}" if split else "copies"
    return f"copies in {split or 'no split'} of dialogues in {keeper}"
