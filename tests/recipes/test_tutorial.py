"""docs/tutorial.md, command by command: from a transcript to repositories on a Hub on loopback.

Models are tiny and the training command gets `push_to_hub` besides, so that both ways of pushing
are gone.
"""

import json
import os
import subprocess
import sys

import pytest

from rlhf_dialog import cli
from rlhf_dialog.evaluation.findings import number
from tests.pages import commands
from tests.publishing.loopback_hub import TOKEN, LoopbackHub
from tests.recipes.helpers import ROOT, TINY

KNOWN = {name.split()[0] for name in cli.COMMANDS}


def tutorial_commands():
    """The commands of this project on the page, but the one that needs a model of the Hub."""
    for words in commands(ROOT / "docs/tutorial.md"):
        if words[0] == "rlhf-dialog" and "--config" not in words and words[1] in KNOWN:
            yield words[1:]


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """(hub, folder, output by command) after everything on the page was typed."""
    folder = tmp_path_factory.mktemp("tutorial")
    scenes = (ROOT / "data/tidy_tide.jsonl").read_text(encoding="utf-8").splitlines()[::12]
    lines = []
    for scene in map(json.loads, scenes):
        lines.append(f"\n## Scene: {scene['title']}")
        lines += [f"{t['speaker'].replace('PLUME', 'ANN')}: {t['text']}" for t in scene["turns"]]
    (folder / "my_script.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    small = {name: value for name, value in TINY.items() if name != "character"} | {"max_steps": 1}
    tiny = [part for name, value in small.items() for part in (f"--{name}", str(value))]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    environment |= {"HF_TOKEN": TOKEN, "PYTHONPATH": str(ROOT), "HF_HUB_DISABLE_TELEMETRY": "1"}
    outputs = {}
    with LoopbackHub() as hub:
        environment |= {"HF_ENDPOINT": hub.url, "HF_HOME": str(folder / "home")}
        for words in tutorial_commands():
            trains = words[0] == "seqgan-ppo"
            more = [*tiny, "--push_to_hub", "--hub_model_id", "pushed"] if trains else []
            process = subprocess.run(
                [sys.executable, "-m", "rlhf_dialog.cli", *words, *more],
                cwd=folder,
                env=environment,
                input="Where is the tea?\n",
                capture_output=True,
                text=True,
                timeout=400,
            )
            assert process.returncode == 0, (words, process.stderr)
            outputs[" ".join(words)] = process.stdout
        yield hub, folder, outputs


def test_every_step_of_the_page_was_gone(done):
    hub, folder, outputs = done
    asked = " / ".join(outputs)
    assert all(name in asked for name in ("data inspect", "seqgan-ppo", "--dry_run"))
    assert (folder / "runs/ann/report.html").is_file()
    assert "ANN" in outputs["data inspect my_script.txt"]
    assert not hub.unknown


def test_both_pushes_have_arrived(done):
    hub, folder, _ = done
    for name in ("ann", "pushed"):
        for repo in (name, f"{name}-discriminator", f"{name}-judge"):
            stored = hub.repositories["model", f"me/{repo}"]
            assert stored.private and "README.md" in stored.files
        stored = hub.repositories["model", f"me/{name}"]
        weights = (folder / "runs/ann/generator/model.safetensors").read_bytes()
        assert stored.files["model.safetensors"] == weights
        report = json.loads((folder / "runs/ann/report.json").read_text())
        value = number(report["metrics"]["judge_score"]["after"], ".2f")
        assert f"| {value} |" in stored.files["README.md"].decode()
    licence = b"license: apache-2.0"
    assert licence in hub.repositories["model", "me/ann"].files["README.md"]
    contents = [c for r in hub.repositories.values() for c in r.files.values()]
    assert not any(str(folder).encode() in content for content in contents)


def test_the_main_job_pushes_what_it_made(done):
    """push_to_hub, told by the recipe itself; test_no_dead_options.py names this test."""
    (told,) = [out for command, out in done[2].items() if command.startswith("seqgan-ppo")]
    assert "complete: " in told and "/me/pushed-judge" in told.replace("\n", "")
