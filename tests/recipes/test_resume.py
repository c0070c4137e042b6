"""A recipe that was stopped goes on where it was, without doing again what came before PPO."""

import os
import signal
import subprocess
import sys
import time

import pytest

from tests.recipes.helpers import ROOT, arguments, read_jsonl

PLAN = {"max_steps": 6, "save_steps": 2, "refresh_every": 2}
ENVIRONMENT = os.environ | {"HF_HUB_OFFLINE": "1", "ACCELERATE_USE_CPU": "true"}


def start(*given):
    """The recipe as a process of its own, which a signal reaches without a launcher."""
    command = [sys.executable, "recipes/seqgan_ppo.py", *map(str, given)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=ROOT, env=ENVIRONMENT, **pipes)


def updates(folder):
    rows = read_jsonl(folder / "metrics.jsonl")
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


@pytest.fixture(scope="module")
def stopped(script, tmp_path_factory):
    """(values, folder, output) of a run that SIGTERM stopped after its first update or later."""
    folder = tmp_path_factory.mktemp("stopped") / "run"
    values = PLAN | {"dialogues": script, "fresh_architecture": "blenderbot-small"}
    process = start(*arguments(**values, output_dir=folder))
    log = folder / "metrics.jsonl"
    while process.poll() is None and not (log.is_file() and log.stat().st_size):
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=400)
    assert process.returncode == 128 + signal.SIGTERM, err
    return values, folder, out


def test_a_stopped_recipe_goes_on_by_the_command_it_prints(stopped, tmp_path):
    values, folder, out = stopped
    done = len(updates(folder))
    assert 1 <= done < 6
    command = next(line for line in out.splitlines() if "To go on:" in line).split("To go on: ")[1]
    given = command.split("seqgan_ppo.py ")[1].split()
    config = (folder / "config.yaml").read_bytes()
    made = [folder / f"{name}/model.safetensors" for name in ("warm_start", "judge")]
    before = [path.stat().st_mtime_ns for path in made]

    other = start(*given, "--learning_rate", "1e-3", "--max_turns", "1")
    _, told = other.communicate(timeout=400)
    assert other.returncode == 2 and len(told.splitlines()) == 1
    assert "learning_rate was 0.0003 and is 0.001" in told and "max_turns was 2 and is 1" in told

    again = start(*given)
    out, err = again.communicate(timeout=400)
    assert again.returncode == 0, err
    assert "held-out AUC beside" not in out  # none of what came before PPO was done again
    assert [path.stat().st_mtime_ns for path in made] == before
    assert (folder / "config.yaml").read_bytes() == config
    assert (folder / "report.json").is_file()
    straight = start(*arguments(**values, output_dir=tmp_path / "straight"))
    _, err = straight.communicate(timeout=400)
    assert straight.returncode == 0, err
    # Threads add up in an order of their own; tests/ppo/test_resume.py looks at the last digits.
    for one, other in zip(updates(folder), updates(tmp_path / "straight"), strict=True):
        assert one == pytest.approx(other, rel=1e-6, abs=1e-6)
    spoken = [
        [(row["before"], row["after"]) for row in read_jsonl(run / "samples.jsonl")]
        for run in (folder, tmp_path / "straight")
    ]
    assert spoken[0] == spoken[1]
