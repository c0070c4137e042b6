"""One process, two under DDP, ZeRO-2, ZeRO-3: the same run, saved whole, gone on with exactly.

Each configuration is launched once, as `accelerate launch` does it, and trains both families. The
other configurations are in `benchmarks/modes.py`, whose table is in docs/cluster.md.
"""

import json

import pytest

from benchmarks.modes import FAMILIES, largest_difference, run_mode

MODES = ("multi_cpu", "deepspeed_zero2", "deepspeed_zero3")


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """mode -> family -> what each process measured; launched when first asked for."""
    found = {}

    def ask(mode):
        if mode not in found:
            found[mode] = run_mode(mode, tmp_path_factory.mktemp("modes") / mode, "--fixed")
        return found[mode]

    return ask


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_is_the_run_of_one_process(told, mode):
    one, several = told("single_process"), told(mode)
    for family in FAMILIES:
        first, (rank, other) = one[family][0], several[family]
        assert first["processes"] == 1 and rank["processes"] == 2
        assert len(first["history"]) == 4
        assert first["history"][0]["policy/approxkl_avg"] > 1e-5  # the policy has moved
        assert "discriminator/loss" in first["history"][1]  # and the discriminator
        assert largest_difference(first["history"], rank["history"]) < 1e-4
        assert largest_difference(rank["history"], other["history"]) < 1e-6
        assert spread(first["logprobs"], rank["logprobs"]) < 1e-4


@pytest.mark.parametrize("mode", ["single_process", *MODES])
def test_what_is_saved_is_whole_and_what_is_resumed_the_same(told, mode):
    for ranks in told(mode).values():
        for rank in ranks:  # every process loads what the first one wrote, and holds it itself
            assert rank["reload_difference"] < 1e-6
            assert rank["discriminators_differ"] == 0
            assert largest_difference(rank["history"][2:], rank["resumed"]) < 1e-6


def spread(first, second):
    return max(abs(a - b) for a, b in zip(flat(first), flat(second), strict=True))


def flat(nested):
    return json.loads("[" + json.dumps(nested).replace("[", "").replace("]", "") + "]")
