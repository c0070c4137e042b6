"""Dialogues to named splits that share no group and no dialogue."""

import hashlib
import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import permutations

from rlhf_dialog.dialogues.schema import Dialogue, Turn
from rlhf_dialog.errors import UserError


@dataclass(frozen=True)
class _Unit:
    """Dialogues that must stay together: a group, or several that hold a common dialogue."""

    dialogues: tuple[Dialogue, ...]
    turns: int


@dataclass
class _Split:
    target: float  # turns wanted
    units: list[_Unit] = field(default_factory=list)
    turns: int = 0  # turns held

    @property
    def excess(self) -> float:
        return self.turns - self.target

    def add(self, unit: _Unit) -> None:
        self.units.append(unit)
        self.turns += unit.turns

    def remove(self, unit: _Unit) -> None:
        self.units.remove(unit)
        self.turns -= unit.turns


def split_dialogues(
    dialogues: Sequence[Dialogue], shares: Mapping[str, float], seed: int
) -> dict[str, list[Dialogue]]:
    """Each dialogue in exactly one split, its whole `group` with it.

    Groups that hold the same dialogue (an identical sequence of turns) stay together too, so no
    test dialogue was trained on. The result depends on the set of dialogues, the shares and the
    seed alone: not on the order of the input, nor on the process. Dialogues of a split are sorted
    by id.

    Args:
        dialogues: what to split.
        shares: name of each split to its share of all turns; positive, summing to 1.
        seed: another seed, another split.

    Returns:
        The names of `shares`, in its order, to dialogues. No split is empty. Sizes in turns come as
        close to the shares as exchanging two groups, or moving one, can bring them.

    Raises:
        UserError: shares that are not positive or do not sum to 1; fewer groups than shares.
    """
    _check_shares(shares)
    units = _units(dialogues)
    if len(units) < len(shares):
        raise UserError(
            f"the dialogues form {len(units)} independent groups and {len(shares)} are needed, one "
            f"for each of {', '.join(shares)}; add dialogues, use smaller groups, or mark the "
            "scenes of a transcript with headings"
        )
    total = sum(unit.turns for unit in units)
    splits = {name: _Split(target=share * total) for name, share in shares.items()}
    for unit in _shuffled(units, seed):
        # The emptiest split is next: a random order keeps long and short groups in all of them.
        min(splits.values(), key=lambda split: split.turns / split.target).add(unit)
    while _improve(list(splits.values())):
        pass
    return {
        name: sorted((d for unit in split.units for d in unit.dialogues), key=_sort_key)
        for name, split in splits.items()
    }


def _check_shares(shares: Mapping[str, float]) -> None:
    for name, share in shares.items():
        if not (math.isfinite(share) and share > 0):
            raise UserError(f'the share of split "{name}" is {share}; give a number above 0')
    total = math.fsum(shares.values())
    if abs(total - 1) > 1e-6:
        raise UserError(f"the shares {dict(shares)} sum to {total:g}; make them sum to 1")


def _units(dialogues: Sequence[Dialogue]) -> list[_Unit]:
    """Connected components of groups, where a common sequence of turns connects (union-find)."""
    parent = {dialogue.group: dialogue.group for dialogue in dialogues}

    def root(group: str) -> str:
        while parent[group] != group:
            parent[group] = parent[parent[group]]
            group = parent[group]
        return group

    first_group: dict[tuple[Turn, ...], str] = {}
    for dialogue in dialogues:
        earlier = first_group.setdefault(dialogue.turns, dialogue.group)
        parent[root(dialogue.group)] = root(earlier)

    members: dict[str, list[Dialogue]] = {}
    for dialogue in dialogues:
        members.setdefault(root(dialogue.group), []).append(dialogue)
    return [
        _Unit(tuple(together), sum(len(dialogue.turns) for dialogue in together))
        for together in members.values()
    ]


def _shuffled(units: list[_Unit], seed: int) -> list[_Unit]:
    """An order drawn from `seed` and the names of the groups, the same in every process."""

    def draw(unit: _Unit) -> tuple[bytes, str]:
        group = min(dialogue.group for dialogue in unit.dialogues)
        return hashlib.sha256(f"{seed}\n{group}".encode()).digest(), group

    return sorted(units, key=draw)


def _improve(splits: list[_Split]) -> bool:
    """Make the one move or exchange of units that best nears the targets; False when none does.

    Carrying `net` turns from one split to another lowers the sum of squared excesses by
    2 net (Δ − net), with Δ the difference of their excesses: most at net = Δ/2, and nothing
    outside (0, Δ).
    Each step lowers that sum, so the search ends.
    """
    best_gain = 1e-6  # turns², above the noise of rounding
    best: tuple[_Split, _Unit, _Split, _Unit | None] | None = None
    for giver, taker in permutations(splits, 2):
        difference = giver.excess - taker.excess
        if difference <= 0:
            continue
        in_return: dict[int, _Unit | None] = {unit.turns: unit for unit in taker.units}
        if len(giver.units) > 1:
            in_return[0] = None  # nothing comes back: a move
        sizes = sorted(in_return)
        for unit in {unit.turns: unit for unit in giver.units}.values():
            place = bisect_left(sizes, unit.turns - difference / 2)
            for size in sizes[max(0, place - 1) : place + 1]:
                net = unit.turns - size
                gain = 2 * net * (difference - net)
                if gain > best_gain:
                    best_gain, best = gain, (giver, unit, taker, in_return[size])
    if best is None:
        return False
    giver, unit, taker, returned = best
    giver.remove(unit)
    taker.add(unit)
    if returned is not None:
        taker.remove(returned)
        giver.add(returned)
    return True


def _sort_key(dialogue: Dialogue) -> tuple[str, list[tuple[str, str]]]:
    return dialogue.id, [(turn.speaker, turn.text) for turn in dialogue.turns]
