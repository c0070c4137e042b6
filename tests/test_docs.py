"""The documentation: its links lead somewhere, its commands and messages exist."""

import dataclasses
import importlib.util
import os
import re
import subprocess
import sys

import pytest

from rlhf_dialog import cli, parsing
from tests.pages import PAGES, ROOT, SETTINGS, commands, name_of

MORE_FLAGS = {
    "evaluate_dialog.py": {"before", "generators", "run"},
    "warm_start.py": {"resume"},
}


def headings(path):
    """Anchors as GitHub and mkdocs make them of headings."""
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page):
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), target
        assert not anchor or anchor in headings(file), target


@pytest.mark.parametrize("page", PAGES, ids=name_of)
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
        recipe = recipe.split("/")[-1]
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
