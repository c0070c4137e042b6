"""Launches that are wrong are refused; a process that dies does not leave the others waiting."""

import os
import re
import subprocess
import sys
import time

import psutil
import pytest

from rlhf_dialog.errors import UserError
from rlhf_dialog.ppo.config import SeqGANPPOConfig
from tests.recipes.helpers import ROOT


@pytest.fixture(scope="module")
def launched(tmp_path_factory):
    """(output, errors, exit status, time of the end) of two processes of which one is killed."""
    folder = tmp_path_factory.mktemp("launched")
    process = subprocess.run(
        [
            *(sys.executable, "-m", "accelerate.commands.launch", "--quiet"),
            *("--config_file", "accelerate_configs/multi_cpu.yaml", "--main_process_port", "0"),
            *("-m", "tests.launching.one_of_two", str(folder)),
        ],
        cwd=ROOT,
        env=os.environ | {"ACCELERATE_USE_CPU": "true", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    return process.stdout, process.stderr, process.returncode, time.time(), folder


def test_a_folder_that_is_not_shared_is_refused_on_all_processes(launched):
    output, _, _, _, folder = launched
    refusals = re.findall("refused: (.*)", output)
    assert len(refusals) == 2 and refusals[0] == refusals[1]
    assert f"--output_dir {folder}/elsewhere: process 1, on" in refusals[0]
    assert "give all processes one folder" in refusals[0]
    assert not list(folder.glob(".seen*"))


def test_a_process_that_is_killed_ends_the_others(launched):
    output, errors, status, ended, folder = launched
    (killed,) = re.findall(r"killed at ([\d.]+)", output)
    assert ended - float(killed) < 60
    assert status != 0
    assert "error: process 0 ends, because another process of this run has died" in errors
    assert "SIGKILL" in errors  # the launcher's summary
    left = [p.pid for p in psutil.process_iter(["cmdline"]) if str(folder) in str(p.info)]
    assert not left


def test_fewer_contexts_than_processes_are_refused(tmp_path):
    config = SeqGANPPOConfig(
        output_dir=str(tmp_path), per_device_train_batch_size=1, gradient_accumulation_steps=1
    )
    config.check_contexts(4, world_size=4)
    with pytest.raises(UserError, match=r"needs 4 contexts on 4 .* holds 3; .* fewer processes"):
        config.check_contexts(3, world_size=4)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"bf16": True}, "bf16: DeepSpeed would round the weights"),
        (
            {"ds3_gather_for_generation": False, "reward_granularity": "rollout"},
            "ds3_gather_for_generation: reward_granularity",
        ),
    ],
)
def test_what_zero_cannot_do_is_refused(tmp_path, monkeypatch, values, told):
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    with pytest.raises(UserError, match=told):
        SeqGANPPOConfig(output_dir=str(tmp_path), use_cpu=True, **values)
