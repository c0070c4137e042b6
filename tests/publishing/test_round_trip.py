"""Create, push, download, reload, equal logits: each kind of repository, the default client."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.publishing.loopback_hub import TOKEN, LoopbackHub
from tests.publishing.runs import TEMPLATE, with_adapters, write_run
from tests.recipes.helpers import ROOT

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def pushed(_originals, tmp_path_factory):
    """(hub, results of round_trip.py by name) for every family of generator, and adapters."""
    import copy

    from rlhf_dialog.generators.input_forms import use_input_form
    from rlhf_dialog.generators.loading import Generator

    def make(family):
        original = _originals[family]
        return Generator(copy.deepcopy(original.model), copy.deepcopy(original.tokenizer))

    folder = tmp_path_factory.mktemp("runs")
    generators = {family: make(family) for family in ("gpt2", "blenderbot-small", "bart", "t5")}
    generators["chat"] = make("gpt2")
    generators["chat"].tokenizer.chat_template = TEMPLATE
    generators["speakers"] = make("gpt2")
    use_input_form(generators["speakers"], "speakers")
    runs = [write_run(folder / name, generator) for name, generator in generators.items()]
    adapters = with_adapters(make("gpt2"), folder / "base")
    runs.append(write_run(folder / "lora", adapters, base="me/gpt2"))  # pushed before it
    config = folder / "lora" / "generator" / "adapter_config.json"
    config.write_text(config.read_text().replace(str(folder / "base"), "me/gpt2"))
    with LoopbackHub() as hub:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
        environment |= {"HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN, "PYTHONPATH": str(ROOT)}
        environment |= {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HOME": str(folder / "home")}
        process = subprocess.run(
            [sys.executable, HERE / "round_trip.py", *(f"{run}:{run.name}" for run in runs)],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert process.returncode == 0, process.stderr[-3000:]
        yield hub, json.loads(re.search(r"RESULT (.*)", process.stdout)[1]), runs


@pytest.mark.parametrize(
    "name", ["gpt2", "blenderbot-small", "bart", "t5", "chat", "speakers", "lora"]
)
def test_what_comes_back_is_what_was_pushed(pushed, name):
    found = pushed[1][name]
    assert all(found.values()), found
    assert {"logits", "snippet", "judge", "discriminator"} <= set(found)


def test_the_client_asked_for_nothing_else(pushed):
    assert not pushed[0].unknown


def test_nothing_private_has_left(pushed):
    hub, _, runs = pushed
    for (_, repo), stored in hub.repositories.items():
        assert not any(path.endswith((".bin", "trainer_state.json")) for path in stored.files)
        for path, content in stored.files.items():
            for needle in (
                "/home/",
                "somebody/",
                "ssssssss",
                str(ROOT),
                str(runs[0].parent),
                "/tmp",
            ):
                assert needle.encode() not in content, (repo, path, needle)


def test_metrics_and_data_come_back(pushed):
    """As Spaces that `evaluate` loads, and as a data set that `datasets` loads, by their ids."""
    hub, results, _ = pushed
    found = results["data and metrics"]
    assert found["spaces"] == 11 and found["rows"] == 480
    assert found["distinct"] == pytest.approx(2 / 3)  # ab ba ab: two of three
    first = json.loads((ROOT / "data/tidy_tide.jsonl").read_text().splitlines()[0])
    assert found["turn"] == first["turns"][0]
    (collection,) = hub.collections.values()
    assert len(collection["items"]) == 12 and not collection["private"]
