import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_dialog.dialogues.schema import Dialogue, Turn
from rlhf_dialog.dialogues.splits import split_dialogues
from rlhf_dialog.errors import UserError

SHARES = {"train": 0.8, "validation": 0.1, "test": 0.1}


def dialogue(id, turns=2, group="", text=None):
    said = text or f"unlike any other {id}"
    return Dialogue(id, tuple(Turn("AB"[n % 2], f"{said} {n}") for n in range(turns)), group)


def size(dialogues):
    return sum(len(dialogue.turns) for dialogue in dialogues)


MANY = [dialogue(f"d{n}", 1 + n % 7, group=f"e{n // 3}") for n in range(300)]


def test_sizes_follow_the_shares_by_turns():
    splits = split_dialogues(MANY, SHARES, seed=3)
    assert list(splits) == list(SHARES)
    for name, share in SHARES.items():
        assert abs(size(splits[name]) - share * size(MANY)) <= 2


def test_whole_groups_come_as_close_as_they_can():
    sizes = (80, 10, 10)
    for seed in range(5):
        splits = split_dialogues(
            [dialogue(f"d{s}{n}", s) for n, s in enumerate(sizes)], SHARES, seed
        )
        assert {name: size(part) for name, part in splits.items()} == dict(
            zip(SHARES, sizes, strict=True)
        )


def test_long_dialogues_reach_every_split():
    splits = split_dialogues([dialogue(f"d{n}", 1 + n % 20) for n in range(2000)], SHARES, seed=0)
    for part in splits.values():
        assert size(part) / len(part) == pytest.approx(10.5, abs=2)


def test_another_seed_is_another_split():
    assert split_dialogues(MANY, SHARES, 1) != split_dialogues(MANY, SHARES, 2)


def test_exact_duplicates_tie_their_groups_together():
    twins = [dialogue(f"t{n}", group=f"g{n}", text="the same") for n in range(10)]
    splits = split_dialogues([*twins, *MANY], SHARES, seed=0)
    assert sum(any(twin in part for twin in twins) for part in splits.values()) == 1
    with pytest.raises(UserError, match="form 1 independent groups and 3 are needed"):
        split_dialogues(twins, SHARES, seed=0)


@pytest.mark.parametrize("count", [0, 1, 2])
def test_too_few_groups_are_told(count):
    with pytest.raises(UserError, match=f"form {count} independent groups and 3 are needed"):
        split_dialogues([dialogue(f"d{n}") for n in range(count)], SHARES, seed=0)


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ({"train": 1.0, "test": 0.0}, '"test" is 0.0; give a number above 0'),
        ({"train": 1.2, "test": -0.2}, '"test" is -0.2'),
        ({"train": float("nan"), "test": 0.5}, '"train" is nan'),
        ({"train": 0.8, "test": 0.1}, "sum to 0.9; make them sum to 1"),
        ({}, "sum to 0;"),
    ],
)
def test_wrong_shares_are_told(shares, message):
    with pytest.raises(UserError, match=message):
        split_dialogues(MANY, shares, seed=0)


def test_every_process_makes_the_same_split():
    program = (
        "from tests.dialogues.test_splits import *;"
        "print([d.id for d in split_dialogues(MANY, SHARES, 5)['test']])"
    )
    here = str([d.id for d in split_dialogues(MANY, SHARES, 5)["test"]])
    for hash_seed in ("1", "2"):
        environment = {
            **os.environ,
            "PYTHONHASHSEED": hash_seed,
            "PYTHONPATH": str(Path(__file__).parents[2]),
        }
        ran = subprocess.run(
            [sys.executable, "-c", program],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        assert ran.stdout.strip() == here


corpora = st.lists(
    st.tuples(st.integers(1, 6), st.integers(0, 12), st.sampled_from([None, None, None, "same"])),
    min_size=1,
    max_size=40,
).map(lambda rows: [dialogue(f"d{n}", k, f"g{g}", text) for n, (k, g, text) in enumerate(rows)])


@given(corpora, st.integers(), st.randoms(use_true_random=False))
def test_splits_are_disjoint_complete_and_blind_to_order(
    corpus: list[Dialogue], seed: int, shuffler: random.Random
):
    try:
        splits = split_dialogues(corpus, SHARES, seed)
    except UserError:
        assert len({one.group for one in corpus}) < 3 or len({one.turns for one in corpus}) < len(
            corpus
        )
        return
    assert sorted(d.id for part in splits.values() for d in part) == sorted(d.id for d in corpus)
    for of in (lambda d: d.group, lambda d: d.turns):
        seen = [{of(d) for d in part} for part in splits.values()]
        assert all(seen)
        assert sum(map(len, seen)) == len(set.union(*seen))
    shuffled = list(corpus)
    shuffler.shuffle(shuffled)
    assert split_dialogues(shuffled, SHARES, seed) == splits
