"""The documentation: its links lead somewhere, its commands and messages exist, its Python runs."""

import dataclasses
import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from rlhf_dialog import cli, parsing
from rlhf_dialog.ppo.config import SeqGANPPOConfig
from rlhf_dialog.publishing import PushSettings
from rlhf_dialog.settings import (
    ChatSettings,
    DecodingSettings,
    DialogueSettings,
    DiscriminatorSettings,
    EvaluationSettings,
    GenerationFileSettings,
    GeneratorSettings,
    RewardEvaluationSettings,
    SpeakerSettings,
    StyleSettings,
)
from tests.conftest import SENTENCES

ROOT = Path(__file__).parents[1]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]
RUN = (
    DialogueSettings,
    GeneratorSettings,
    DiscriminatorSettings,
    EvaluationSettings,
    SeqGANPPOConfig,
)
SETTINGS = {
    "seqgan_ppo.py": RUN,
    "warm_start.py": RUN,
    "train_discriminator.py": RUN,
    "evaluate_dialog.py": RUN,
    "evaluate_reward.py": (RewardEvaluationSettings,),
    "push_to_hub.py": (PushSettings,),
    "chat.py": (ChatSettings, SpeakerSettings, DecodingSettings),
    "generate.py": (GenerationFileSettings, SpeakerSettings, DecodingSettings),
    "train_style.py": (StyleSettings, DiscriminatorSettings),
}
MORE_FLAGS = {
    "evaluate_dialog.py": {"before", "generators", "run"},
    "warm_start.py": {"resume"},
}


def blocks(page, language):
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


def commands(page):
    """Command lines of a page, continued lines joined."""
    for block in blocks(page, "bash"):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words:
                yield words


def headings(path):
    """Anchors as GitHub and mkdocs make them of headings."""
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(page):
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), target
        assert not anchor or anchor in headings(file), target


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_commands_and_their_flags_exist(page):
    for words in commands(page):
        scripts = [word for word in words if word.startswith("recipes/") and word.endswith(".py")]
        if scripts:
            recipe, flags = scripts[0], words[words.index(scripts[0]) + 1 :]
            assert (ROOT / recipe).is_file(), words
        elif words[0] == "rlhf-dialog":
            name, rest = cli._command(words[1:])
            cli.command_line(name, rest)  # refuses an accelerate configuration that is not there
            recipe, flags = cli.COMMANDS[name].recipe, cli._accelerate_config(rest)[1]
        else:
            continue
        recipe = Path(recipe).name
        if recipe in SETTINGS:
            known = {f.name for kind in SETTINGS[recipe] for f in dataclasses.fields(kind)}
            parsing._check_flags(flags, known | MORE_FLAGS.get(recipe, set()))


def test_messages_of_the_troubleshooting_page_are_those_of_the_code():
    """What stands between the dots of a quoted message stands in a string of the code."""
    sources = "".join(path.read_text() for path in (ROOT / "rlhf_dialog").rglob("*.py"))
    joined = re.sub(r"['\"]\s*\n\s*f?['\"]", "", sources)  # neighbouring strings are one
    quoted = re.findall(
        r"^\| `([^|]*)` \|", (ROOT / "docs/troubleshooting.md").read_text(), re.MULTILINE
    )
    assert len(quoted) > 15
    for message in quoted:
        without_values = re.sub(r"\b\d+\b|\(…\)", "…", message)
        for piece in filter(lambda p: len(p) > 4, map(str.strip, re.split("[…;]", without_values))):
            assert piece.strip(" :,;") in joined, piece


@pytest.fixture
def place(tmp_path, monkeypatch, make_generator):
    """A folder with what the pages speak of."""
    from rlhf_dialog.discriminators.model import fresh_discriminator

    turns = [{"speaker": ("Ann", "Bob")[n % 2], "text": SENTENCES[n % 6]} for n in range(200)]
    script = [json.dumps({"turns": turns[start : start + 10]}) for start in range(0, 200, 10)]
    (tmp_path / "my_script.jsonl").write_text("\n".join(script) + "\n")
    make_generator("gpt2").save(tmp_path / "runs/warm_start/generator")
    make_generator("gpt2").save(tmp_path / "OWNER/ann")
    discriminator = fresh_discriminator(SENTENCES, hidden_size=32, layers=1, max_tokens=96, seed=0)
    discriminator.save(tmp_path / "runs/ann/discriminator")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def small(code):
    return (
        code.replace("max_steps=30", "max_steps=1, use_cpu=True, disable_tqdm=True, report_to=[]")
        .replace("per_device_train_batch_size=64", "per_device_train_batch_size=2")
        .replace("context_length=64", "context_length=32")
    )


@pytest.mark.parametrize("name", ["own_reward.md", "own_language.md", "publish.md"])
def test_the_python_of_how_to_pages_runs(place, name, capsys):
    found = blocks(ROOT / "docs" / name, "python")
    assert found
    for code in found:
        names: dict = {}
        exec(small(code), names)
        if "questions" in names:
            assert (place / "runs/curious/value").is_dir()
            assert names["questions"]([["a"], ["b"]], ["Why?", "So."]).tolist() == [1, 0]
        if "scores" in names:
            assert names["scores"].shape == (1,)


@pytest.mark.skipif(
    importlib.util.find_spec("mkdocs") is None,
    reason="mkdocs is not installed; pip install -e '.[docs]'",
)
def test_the_site_builds_without_network_and_without_a_warning(tmp_path):
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1", "http_proxy": "http://127.0.0.1:9"}
    process = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path / "site"],
        cwd=ROOT,
        env=environment | {"https_proxy": "http://127.0.0.1:9"},
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    home = (tmp_path / "site/index.html").read_text()
    assert "effect.svg" in home and (tmp_path / "site/figures/effect.svg").is_file()
    assert "push_run" in (tmp_path / "site/api/index.html").read_text()
