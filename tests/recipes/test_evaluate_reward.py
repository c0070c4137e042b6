"""The recipe for real: a small trained discriminator, its fakes, and every way to misuse it."""

import json
import random
import runpy
import sys

import pytest
import torch
from sklearn.metrics import roc_auc_score
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from rlhf_dialog.discriminators.model import fresh_discriminator
from rlhf_dialog.discriminators.reward_model import load_reward_model
from rlhf_dialog.discriminators.training import pretrain, split_pools
from tests.discriminators.toy import SETTINGS, toy_pools
from tests.recipes.helpers import ROOT

RECIPE = "evaluate_reward.py"


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    """(folder of a trained discriminator, file of held-out labelled replies, its rows)."""
    folder = tmp_path_factory.mktemp("toy")
    pools = toy_pools(random.Random(1), count=240)
    texts = [pair.reply for pool in pools.values() for pair in pool] + ["what ever ?"]
    discriminator = fresh_discriminator(texts, hidden_size=64, layers=1, max_tokens=32, seed=0)
    pretrain(discriminator, pools, SETTINGS, seed=0, description="toy")
    discriminator.save(folder / "model")
    _, held_out = split_pools(pools, random.Random(0), lengths=True)
    rows = [
        {"context": list(p.context), "reply": p.reply, "label": int(p.is_real)}
        | ({} if p.is_real else {"kind": p.kind})
        for kind in ("real", "cast", "generated")
        for p in held_out[kind]
    ]
    rows.append({"context": "tea ?", "reply": "", "label": 0, "kind": "<b>empty</b>"})
    path = folder / "replies.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder / "model", path, rows


def command(monkeypatch, **options):
    monkeypatch.chdir(ROOT)
    flags = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    monkeypatch.setattr(sys, "argv", [RECIPE, "--bootstrap_resamples", "100", *flags])


@pytest.fixture
def evaluate(monkeypatch, capsys):
    def run(**options):
        command(monkeypatch, **options)
        runpy.run_path(f"recipes/{RECIPE}", run_name="__main__")
        folder = options["output_dir"]
        report = json.loads((folder / "reward_report.json").read_text(encoding="utf-8"))
        return report, capsys.readouterr().out

    return run


@pytest.fixture
def refused(monkeypatch, capsys):
    def run(**options):
        command(monkeypatch, **options)
        with pytest.raises(SystemExit) as stop:
            runpy.run_path(f"recipes/{RECIPE}", run_name="__main__")
        error = capsys.readouterr().err.strip().splitlines()
        assert stop.value.code == 2 and len(error) == 1, error
        return error[0]

    return run


def test_a_labelled_file_with_a_judge(toy, evaluate, tmp_path):
    model, data, rows = toy
    report, printed = evaluate(
        reward_model=model, data=data, judge=model, output_dir=tmp_path / "run", seed=3
    )
    reward = load_reward_model(str(model), what="reward_model")
    contexts = [[r["context"]] if isinstance(r["context"], str) else r["context"] for r in rows]
    scores = reward(contexts, [row["reply"] for row in rows])
    expected = roc_auc_score([row["label"] for row in rows], scores)
    assert report["metrics"]["auc"]["value"] == pytest.approx(expected, abs=1e-6)
    low, high = report["metrics"]["auc"]["ci95"]
    assert 0.9 < low <= expected <= high <= 1
    assert set(report["by_kind"]) == {"cast", "generated", "<b>empty</b>"}
    assert report["agreement"]["spearman"]["value"] == pytest.approx(1)
    assert report["pairwise"]["pairs"] > 10
    # A model that has seen the mark of the character and broken replies.
    assert report["degenerate"]["empty"]["below"]["value"] > 0.9
    assert report["harmless_edits"]["whitespace"]["mean_absolute_change"] < 1e-5
    assert report["seed"] == 3 and report["max_tokens"] == 32

    page = (tmp_path / "run/reward_report.html").read_text(encoding="utf-8")
    assert page.count("<svg") == 2 and "&lt;b&gt;empty" in page and "<b>empty" not in page
    assert "http" not in page.replace("http-equiv", "").replace("http://www.w3.org", "")
    assert "var(--after)" in page and "prefers-color-scheme: dark" in page
    text = (tmp_path / "run/reward_report.md").read_text(encoding="utf-8")
    for name in ("AUC", "Average precision", "ECE, positive class", "Spearman", "shuffled words"):
        assert name in text and name in page and name.split()[0] in printed
    assert "reward_report.html" in printed.replace("\n", "")


def test_preference_pairs_in_messages(toy, evaluate, tmp_path):
    model, _, rows = toy
    real = [row for row in rows if row["label"]]
    pairs = []
    for row in real:
        user = [{"role": "user", "content": row["context"][0]}]
        sides = {"chosen": row["reply"], "rejected": row["reply"].replace("aye", "yeah")}
        pairs.append(
            {side: [*user, {"role": "assistant", "content": text}] for side, text in sides.items()}
        )
    data = tmp_path / "pairs.jsonl"
    data.write_text("".join(json.dumps(pair) + "\n" for pair in pairs), encoding="utf-8")
    report, _ = evaluate(reward_model=model, data=data, output_dir=tmp_path / "run")
    assert report["form"] == "preference" and report["agreement"] is None
    assert report["pairwise"]["pairs"] == len(real)
    assert report["pairwise"]["accuracy"]["value"] > 0.9
    again, _ = evaluate(reward_model=model, data=data, output_dir=tmp_path / "again")
    del report["seconds"], again["seconds"]
    assert report == again


def test_mistakes_end_in_one_sentence_before_a_model_is_loaded(toy, refused, tmp_path):
    model, data, rows = toy
    out = tmp_path / "run"
    assert "--reward_model: is needed" in refused(data=data)
    assert "--data: is needed" in refused(reward_model="nobody/nothing")
    one = tmp_path / "one.jsonl"
    one.write_text(json.dumps(rows[0]) + "\n", encoding="utf-8")
    assert "add fake replies" in refused(reward_model="nobody/nothing", data=one, output_dir=out)
    sentence = refused(reward_model="nobody/nothing", data=data, output_dir=tmp_path)
    assert "already holds" in sentence  # and not that the model is unknown
    sentence = refused(reward_model="nobody/nothing", data=data, output_dir=out)
    assert "--reward_model nobody/nothing: cannot be loaded" in sentence
    sentence = refused(reward_model=model, data=data, output_dir=out, max_tokens=64)
    assert "max_tokens: 64 is more than the 32" in sentence
    assert not out.exists()


def test_a_model_that_diverged_is_found_out(toy, refused, tmp_path):
    source, data, _ = toy
    model = AutoModelForSequenceClassification.from_pretrained(source)
    with torch.no_grad():
        model.classifier.bias.fill_(float("nan"))
    model.save_pretrained(tmp_path / "nan")
    AutoTokenizer.from_pretrained(source).save_pretrained(tmp_path / "nan")
    sentence = refused(reward_model=tmp_path / "nan", data=data, output_dir=tmp_path / "run")
    assert f"{data}, line 1: --reward_model gives the reply" in sentence and "nan" in sentence
    assert not (tmp_path / "run").exists()
