"""Two processes: stopped by a signal to one of them, both go on where both were."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from rlhf_dialog.errors import UserError
from tests.ppo.resumable import rows, train
from tests.ppo.resume_on_two_ranks import build

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    command = [
        sys.executable,
        *("-m", "accelerate.commands.launch", "--quiet"),
        *("--config_file", "accelerate_configs/multi_cpu.yaml"),
        *("-m", "tests.ppo.resume_on_two_ranks", str(folder)),
    ]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "ACCELERATE_USE_CPU": "true"}
    process = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=500
    )
    assert process.returncode == 0, process.stderr
    assert process.stdout.count("SIGTERM: stopped after update 4 of 6") == 2  # one a family
    return folder


@pytest.mark.parametrize("family", ["gpt2", "blenderbot-small"])
def test_two_processes_go_on_where_they_were(runs, family):
    wanted, found = (rows(runs / family / name) for name in ("straight", "parts"))
    assert [row["update"] for row in found] == [1, 2, 3, 4, 5, 6]
    assert [row["update"] for row in rows(runs / family / "stopped")] == [1, 2, 3, 4]
    assert "discriminator/loss" in found[1] and "discriminator/loss" in found[5]
    for one, other in zip(wanted, found, strict=True):
        assert one == pytest.approx(other, abs=1e-6, rel=1e-6)


def test_a_number_of_processes_is_part_of_a_run(runs):
    """Two processes' run on one: refused, but for leave to change it."""
    with pytest.raises(UserError, match=r"world_size was 2 and is 1; .*--accept_changes world_s"):
        train(build(runs / "gpt2/stopped", "gpt2"), resume_from_checkpoint="latest")
    alone = build(runs / "gpt2/stopped", "gpt2", accept_changes=["world_size"])
    train(alone, resume_from_checkpoint="latest")
    assert [row["episode"] for row in rows(runs / "gpt2/stopped")] == [16, 32, 48, 64, 72, 80]


def test_a_number_that_is_none_on_one_process_ends_both(runs):
    sentences = {(runs / f"told-{rank}").read_text() for rank in (0, 1)}
    assert len(sentences) == 1  # the same on both
    (told,) = sentences
    samples = rows(runs / "nan", "stopped-000001.jsonl")
    assert len(samples) == 16 and "update 1: The reward of reply" in told
    assert repr(samples[9]["reply"]) in told  # the second of the second process
