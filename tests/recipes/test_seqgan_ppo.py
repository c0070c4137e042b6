"""The main job end to end, in a process of its own, for both families."""

import json
import math

import pytest
import torch
import yaml
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)

from rlhf_dialog.parsing import parse_run
from rlhf_dialog.runs import all_values
from tests.recipes.helpers import launch, read_jsonl

METRICS = {
    "judge_score",
    "discriminator_score",
    "distinct_1",
    "distinct_2",
    "distinct_3",
    "perplexity",
    "reply_length",
    "kl",
}


@pytest.fixture(scope="module", params=["gpt2", "blenderbot-small"])
def finished(request, script, tmp_path_factory):
    """(architecture, run folder, output) of one complete run."""
    folder = tmp_path_factory.mktemp("runs") / request.param
    process = launch(
        "seqgan_ppo.py",
        dialogues=script,
        output_dir=folder,
        fresh_architecture=request.param,
    )
    assert process.returncode == 0, process.stderr
    return request.param, folder, process


def test_the_report_keeps_its_contract(finished):
    architecture, folder, _ = finished
    report = json.loads((folder / "report.json").read_text())
    assert set(report) >= {"metrics", "seed", "updates", "versions", "config", "seconds"}
    assert set(report["metrics"]) == METRICS
    for entry in report["metrics"].values():
        numbers = [entry["before"], entry["after"], entry["difference"], *entry["ci95"]]
        assert all(isinstance(n, float) and math.isfinite(n) for n in numbers)
        assert entry["difference"] == pytest.approx(entry["after"] - entry["before"])
        assert entry["ci95"][0] <= entry["difference"] + 1e-6
        assert entry["difference"] <= entry["ci95"][1] + 1e-6
    # A Monte-Carlo estimate of a small KL may fall below zero; an untouched model's is exactly 0.
    assert report["metrics"]["kl"]["before"] == 0 != report["metrics"]["kl"]["after"]
    assert report["updates"] == 4 and report["seed"] == 0
    assert report["versions"]["trl"].startswith("1.12")
    assert report["config"]["fresh_architecture"] == architecture


def test_every_update_is_on_record(finished):
    _, folder, _ = finished
    rows = read_jsonl(folder / "metrics.jsonl")
    assert [row["update"] for row in rows] == [1, 2, 3, 4]
    assert [row["episode"] for row in rows] == [16, 32, 48, 64]
    for row in rows:
        assert {"objective/scores", "objective/kl", "judge/score", "text/distinct_2"} <= set(row)
        assert ("discriminator/accuracy_fresh" in row) == (row["update"] % 2 == 0)
    assert rows[0]["objective/kl"] == pytest.approx(0, abs=1e-4)


def test_samples_and_pages_are_there(finished):
    _, folder, process = finished
    samples = read_jsonl(folder / "samples.jsonl")
    report = json.loads((folder / "report.json").read_text())
    assert len(samples) == report["test_contexts"] > 10
    assert set(samples[0]) == {"context", "before", "after", "human", "scores"}
    assert (folder / "report.md").read_text().startswith("#")
    assert str(folder / "report.html").split("/")[-2] in process.stdout.replace("\n", "")


def test_the_models_load_with_plain_transformers(finished):
    architecture, folder, _ = finished
    auto = AutoModelForCausalLM if architecture == "gpt2" else AutoModelForSeq2SeqLM
    model = auto.from_pretrained(folder / "generator").eval()
    tokenizer = AutoTokenizer.from_pretrained(folder / "generator")
    assert tokenizer.pad_token_id != tokenizer.eos_token_id
    ids = tokenizer("Where is the tea?" + tokenizer.eos_token, return_tensors="pt")["input_ids"]
    reply = model.generate(ids, max_new_tokens=8)
    assert reply.shape[1] > 1
    for name in ("discriminator", "judge"):
        classifier = AutoModelForSequenceClassification.from_pretrained(folder / name).eval()
        encoded = AutoTokenizer.from_pretrained(folder / name)("a", "b", return_tensors="pt")
        assert torch.isfinite(classifier(**encoded).logits).all()
    assert "never a reward" in (folder / "judge" / "judge.json").read_text()
    assert not [path for path in folder.rglob("*.bin") if "checkpoints" not in path.parts]


def test_the_configuration_can_be_given_back(finished):
    architecture, folder, _ = finished
    text = (folder / "config.yaml").read_text()
    assert "# trl 1.12" in text and f"fresh_architecture: {architecture}" in text
    again = parse_run(folder / "config.yaml", arguments=[])
    assert again.ppo.max_steps == 4 and again.generator.fresh_hidden_size == 32
    written = yaml.safe_load(text)
    assert all_values(*again) == written


def test_nothing_noisy_reaches_the_user(finished):
    _, _, process = finished
    assert "Warning" not in process.stderr and "Traceback" not in process.stderr
    assert "{'objective" not in process.stdout  # the trainer's own printing
