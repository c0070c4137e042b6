"""Every command on a page of the documentation is run, page by page, as a reader would.

The words are the page's; only smaller values are put behind them. tests/recipes/test_tutorial.py
runs those of the tutorial that lead from a script to the Hub.
"""

import dataclasses
import glob
import importlib.util
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import yaml

from rlhf_dialog import cli
from tests.pages import PAGES, SETTINGS, commands, name_of
from tests.recipes.forks import Forks
from tests.recipes.helpers import ROOT, TINY
from tests.recipes.place import add_runs, write_files
from tests.recipes.test_tutorial import tutorial_commands

PARITY = r"tokens by (\S+) nats .* at most (\S+) apart"  # of ppo_step.py
SMALL = {name: value for name, value in TINY.items() if name != "character"} | {
    "bootstrap_resamples": 100,
    "discriminator_epochs": 1,
    "refresh_every": 1,
    "max_steps": 1,
    "hits_contexts": 2,
    "self_bleu_sample": 20,
    "temperature_contexts": 4,
    "general_contexts": 4,
}
# The beginning of a command that is not run here -> why, and what runs the same path.
NOT_RUN = {
    "make demo": "installs from a package index; its recipe makes the run the others begin with",
    "make test": "installs, and is what runs this test",
    "make format": "installs, and changes the sources",
    "git clone": "a placeholder, and the network",
    "python -m venv": "the environment is there",
    "pip install": "installs from a package index",
    "DS_BUILD_OPS=0 pip install": "installs from a package index",
    "--dialogues li2017dailydialog": "of the Hub; tests/dialogues/test_readers.py has its rows",
    "benchmarks/speed_series.sh": "hours; ppo_step.py, which it calls, is run",
}
OF_THE_HUB = {"facebook/bart-large-cnn": "models/summarizer"}  # and what stands for it here
CHAT = "Where is the tea?\n/why\n/quit\n"
# PASSIVE: threads of a recipe that wait for each other leave the cores to others.
ENVIRONMENT = {
    "OMP_WAIT_POLICY": "PASSIVE",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "ACCELERATE_USE_CPU": "true",
}


def is_run(words):
    return not any(" ".join(words).startswith(beginning) for beginning in NOT_RUN)


def to_run(page):
    """The page's commands that neither the table nor the tutorial's own test accounts for."""
    elsewhere = list(tutorial_commands()) if page.name == "tutorial.md" else []
    return [words for words in commands(page) if is_run(words) and words[1:] not in elsewhere]


WITH_COMMANDS = [page for page in PAGES if to_run(page)]


def recipe_of(words):
    """(path of the recipe, its flags)."""
    if words[0].startswith("--"):  # flags that every recipe takes
        return "recipes/generate.py", ["--generator", "runs/demo/generator", *words]
    if words[0] == "rlhf-dialog":
        name, rest = cli._command(words[1:])
        return f"recipes/{cli.COMMANDS[name].recipe}", rest
    (place,) = [n for n, word in enumerate(words) if word.endswith(".py")]
    return words[place], words[place + 1 :]


def value_of(flags, name):
    return flags[flags.index(name) + 1] if name in flags else None


def small(recipe, flags):
    """Flags that follow the page's own: small values, and local models for those of the Hub."""
    if recipe == "benchmarks/ppo_step.py":
        return ["--repeats", "1"]
    if "--run" in flags or goes_on(flags):  # has the run's values
        return []
    name = Path(recipe).name
    known = {f.name for kind in SETTINGS.get(name, ()) for f in dataclasses.fields(kind)}
    values = {key: value for key, value in SMALL.items() if key in known}
    config = value_of(flags, "--config")
    if config is not None:
        file = ROOT / "recipes/configs" / f"{Path(config).stem}.yaml"
        given = yaml.safe_load(file.read_text(encoding="utf-8"))
        values |= {
            part: f"models/{part}"
            for part in ("generator", "discriminator", "judge")
            if part in given
        }
    if recipe == "recipes/generate.py" and "--output_file" not in flags:
        values["output_file"] = f"replies-{len(flags)}.jsonl"
    return [
        part
        for key, value in values.items()
        if f"--{key}" not in flags
        for part in (f"--{key}", str(value))
    ]


@pytest.fixture(scope="module")
def forks():
    with Forks(**ENVIRONMENT, OMP_NUM_THREADS="1") as running:
        yield running


def succeeds(fork):
    status, out, err = fork.wait()
    assert status == 0 and "Traceback" not in err, (out[-2000:], err[-4000:])
    return out


@pytest.fixture(scope="module")
def prepared(forks, tmp_path_factory):
    """A folder with what the pages speak of; no test changes it."""
    place = tmp_path_factory.mktemp("pages") / "prepared"
    write_files(place)
    words = ["recipes/seqgan_ppo.py", "--output_dir", "runs/demo"]
    succeeds(forks.start([*words, *small(words[0], words)], place))
    add_runs(place)
    return place


def makes(words):
    """What a command makes and refuses to write over."""
    recipe, flags = recipe_of(words)
    trains = recipe in ("recipes/seqgan_ppo.py", "recipes/warm_start.py")
    made = value_of(flags, "--output_dir") or value_of(flags, "--output_file")
    return made or ("runs/demo" if trains and not goes_on(flags) else None)


def goes_on(flags):
    return bool({"--resume", "--resume_from_checkpoint"} & set(flags))


@pytest.fixture
def place(prepared, tmp_path, page):
    """A copy of it, without the runs that the page itself makes."""
    shutil.copytree(prepared, tmp_path / "place", symlinks=True)
    for made in filter(None, map(makes, to_run(page))):
        path = tmp_path / "place" / made
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    return tmp_path / "place"


@pytest.mark.parametrize("page", WITH_COMMANDS, ids=name_of)
def test_the_commands_of_a_page(page, place, forks):
    all_words = to_run(page)
    for number, words in enumerate(all_words):
        recipe, flags = recipe_of(words)
        flags = [
            part
            for flag in (OF_THE_HUB.get(flag, flag) for flag in flags)
            for part in sorted(glob.glob(flag, root_dir=place)) or [flag]
        ]
        flags += small(recipe, flags)
        made = makes(words)
        if value_of(flags, "--page") == "true":
            talk_over_http(forks, [recipe, *flags], place)
        elif made and any(resumes(later, made) for later in all_words[number + 1 :]):
            longer = ["--max_steps", "6"] if recipe.endswith("seqgan_ppo.py") else []
            interrupt(forks.start([recipe, *flags, *longer], place), recipe, place / made)
        elif "--config_file" in words:
            launch(words, flags, place)
        else:
            out = succeeds(forks.start([recipe, *flags], place, CHAT))
            check(recipe, flags, place, out)


def resumes(words, run):
    return value_of(words, "--resume") == run or (
        "--resume_from_checkpoint" in words and value_of(words, "--config") == f"{run}/config.yaml"
    )


def check(recipe, flags, place, out):
    """What the recipe says it leaves is there."""
    name = Path(recipe).name
    run = value_of(flags, "--output_dir") or value_of(flags, "--resume")
    if "--resume_from_checkpoint" in flags:
        run = str(Path(value_of(flags, "--config")).parent)
    run = place / (run or value_of(flags, "--run") or flags[0])
    named = "--output_dir" in flags
    left = {
        "seqgan_ppo.py": "report.html",
        "warm_start.py": "generator/model.safetensors",
        "train_style.py": "held_out.json",
        "evaluate_reward.py": "reward_report.html",
        "evaluate_dialog.py": "report.html" if named else "evaluations/*/report.html",
        "report.py": "comparison.html" if named else "report.html",
    }
    if name in left:
        assert list(run.glob(left[name])), (recipe, flags)
    elif name == "generate.py":
        lines = (place / value_of(flags, "--output_file")).read_text().splitlines()
        returns = int(value_of(flags, "--returns") or 1)
        assert lines and all(len(json.loads(line)["replies"]) == returns for line in lines)
    elif name == "chat.py":
        assert "bot>" in out and "candidate" in out and "error" not in out
    elif name == "push_to_hub.py":
        assert value_of(flags, "--name") in out and "model.safetensors" in out
    elif name == "ppo_step.py":
        assert "floor: " in out
        moved, apart = map(float, re.search(PARITY, out).groups())
        assert apart < moved / 100
    else:
        raise AssertionError(f"say what {recipe} leaves")


def interrupt(fork, recipe, run):
    """Stops a run once there is something to go on from: PPO politely, the warm start not."""
    ppo = recipe.endswith("seqgan_ppo.py")
    begun = "metrics.jsonl" if ppo else "checkpoints/**/trainer_state.json"
    fork.interrupt(
        lambda: any(path.stat().st_size for path in run.glob(begun)),
        signal.SIGTERM if ppo else signal.SIGKILL,
    )
    status, _, err = fork.wait()
    assert status == (128 + signal.SIGTERM if ppo else -signal.SIGKILL), err
    assert not (run / "report.json").exists()


def launch(words, flags, place):
    """The whole way, through `accelerate launch`."""
    words = words[: words.index("recipes/seqgan_ppo.py") + 1]
    words = " ".join(words).replace("<one of these>", "single_process").split()
    assert words[:2] == ["accelerate", "launch"]
    process = subprocess.run(
        [sys.executable, "-m", "accelerate.commands.launch", *words[2:], *flags],
        cwd=place,
        env=os.environ | ENVIRONMENT | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert process.returncode == 0, process.stderr
    assert (place / "runs/demo/report.html").is_file()


def talk_over_http(forks, words, place):
    """The page is served on loopback; tests/chat/test_page.py talks to it in a browser."""
    if importlib.util.find_spec("gradio") is None:  # the last command of its page
        pytest.skip("gradio is not installed; pip install -e '.[chat]'")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    fork = forks.start([*words, "--port", str(port)], place)
    served = []

    def is_served():
        try:
            with urllib.request.urlopen(f"{address}/config", timeout=5) as answer:
                served.append(json.load(answer))
        except (urllib.error.URLError, ConnectionError):
            return False
        return True

    fork.interrupt(is_served)
    status, out, err = fork.wait()
    assert served and address in out and status == -signal.SIGTERM, err
    labels = {part["props"].get("label") for part in served[0]["components"]}
    assert {"base", "tuned", "temperature"} <= labels


def test_what_is_not_run_is_on_a_page():
    written = [" ".join(words) for page in PAGES for words in commands(page)]
    for beginning in NOT_RUN:
        assert any(line.startswith(beginning) for line in written), beginning
