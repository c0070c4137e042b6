"""The steps of the main job as recipes of their own, one feeding the next."""

import json
import runpy
import shutil
import subprocess
import sys

import pytest

from tests.evaluation.reports import plain_report
from tests.recipes.helpers import ROOT, launch, read_jsonl


@pytest.fixture(scope="module")
def steps(script, tmp_path_factory):
    """A folder with warm/, disc/ and the run/ that used them."""
    folder = tmp_path_factory.mktemp("steps")
    for recipe, name, given in (
        ("warm_start.py", "warm", {}),
        ("train_discriminator.py", "disc", {"generator": folder / "warm/generator"}),
        (
            "seqgan_ppo.py",
            "run",
            {
                "generator": folder / "warm/generator",
                "discriminator": folder / "disc/discriminator",
                "max_steps": 1,
            },
        ),
    ):
        process = launch(recipe, dialogues=script, output_dir=folder / name, seed=0, **given)
        assert process.returncode == 0, process.stderr
    return folder


def test_a_warm_started_generator_is_not_trained_again(steps):
    assert (steps / "warm/generator/warm_start.json").is_file()
    # The first update's KL is taken from the generator the run began with.
    assert abs(read_jsonl(steps / "run/metrics.jsonl")[0]["objective/kl"]) < 1e-4


def test_the_discriminator_reports_each_kind_of_fake(steps):
    held_out = json.loads((steps / "disc/held_out.json").read_text())
    kinds = ("generated", "cast", "wrong_context", "degenerate")
    assert all(0 <= held_out[f"auc/{kind}"] <= 1 for kind in (*kinds, "all"))
    assert set(held_out["shortcuts"]) == {"length", "casing_punctuation", "bag_of_words"}
    for aucs in held_out["shortcuts"].values():
        assert set(aucs) == {*kinds, "all"} and all(0 <= auc <= 1 for auc in aucs.values())


def test_evaluation_on_its_own_agrees_with_the_run(steps, script, tmp_path):
    process = launch(
        "evaluate_dialog.py",
        dialogues=script,
        output_dir=tmp_path / "evaluation",
        seed=0,
        before=steps / "run/warm_start",
        generator=steps / "run/generator",
        judge=steps / "run/judge",
        discriminator=steps / "run/discriminator",
    )
    assert process.returncode == 0, process.stderr
    own, again = (
        json.loads((folder / "report.json").read_text())["metrics"]
        for folder in (steps / "run", tmp_path / "evaluation")
    )
    for name in ("judge_score", "perplexity", "distinct_2", "kl"):
        assert again[name]["after"] == pytest.approx(own[name]["after"], rel=1e-3), name


def test_a_run_is_evaluated_by_its_folder_and_compared(steps, script, tmp_path):
    """--run takes what it needs from the folder, further generators are rows, and report.py builds
    the pages anew from what is there."""
    run = tmp_path / "run"
    shutil.copytree(steps / "run", run)
    command = [sys.executable, "recipes/evaluate_dialog.py", "--run", str(run)]
    command += ["--generators", f"again={run / 'generator'}", "--temperatures", "0.5"]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=400)
    assert process.returncode == 0, process.stderr
    (folder,) = (run / "evaluations").iterdir()
    assert folder.name == "update-000001"
    report = json.loads((folder / "report.json").read_text())
    rows = {name: row["metrics"] for name, row in report["generators"].items()}
    assert list(rows) == ["warm start", "tuned", "again", "human"]
    own = json.loads((run / "report.json").read_text())["metrics"]
    for name in ("judge_score", "perplexity", "distinct_2", "kl"):
        assert rows["again"][name]["value"] == rows["tuned"][name]["value"]
        assert rows["tuned"][name]["value"] == pytest.approx(own[name]["after"], rel=1e-3), name
    assert {p["temperature"] for p in report["temperatures"]} == {0.5, 1.0, None}
    assert report["updates"] == 1

    other = tmp_path / "other"
    shutil.copytree(run, other)
    changed = json.loads((other / "report.json").read_text())
    (other / "report.json").write_text(json.dumps(changed | {"seed": 1}))
    before = (run / "report.html").read_text()
    (run / "report.html").unlink()
    command = [sys.executable, "recipes/report.py", str(run), str(other)]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=400)
    assert process.returncode == 0, process.stderr
    assert (run / "report.html").read_text() == before
    pooled = json.loads((tmp_path / "comparison" / "comparison.json").read_text())
    (group,) = pooled["groups"]
    assert [of["seed"] for of in group["runs"]] == [0, 1]
    assert group["metrics"]["judge_score"]["between_seeds"] == 0
    assert "Over 2 seeds" in process.stdout


def test_a_flag_wins_over_the_run_however_it_is_written(tmp_path):
    (tmp_path / "config.yaml").write_text("seed: 0\n")
    own_flags = runpy.run_path(f"{ROOT}/recipes/evaluate_dialog.py")["own_flags"]
    given = ["--output-dir", "mine", "--generator=gpt2", "--judge", "bert"]
    _, rest, _ = own_flags(["--run", str(tmp_path), *given])
    assert rest == [*given, "--discriminator", str(tmp_path / "discriminator_before")]


def test_a_comparison_beside_its_runs_is_no_run(tmp_path, monkeypatch, capsys):
    for seed in range(2):
        (tmp_path / f"run-{seed}").mkdir()
        report = json.dumps(plain_report() | {"seed": seed})
        (tmp_path / f"run-{seed}/report.json").write_text(report)
    for _ in range(2):  # the second time `*` finds the comparison too
        folders = [str(folder) for folder in sorted(tmp_path.iterdir())]
        monkeypatch.setattr(sys, "argv", ["report.py", *folders])
        runpy.run_path(f"{ROOT}/recipes/report.py", run_name="__main__")
        comparison = json.loads((tmp_path / "comparison/comparison.json").read_text())
        assert [r["folder"] for r in comparison["groups"][0]["runs"]] == ["run-0", "run-1"]
        (tmp_path / "comparison/comparison.html").unlink()
    assert len(folders) == 3
    monkeypatch.setattr(sys, "argv", ["report.py", str(tmp_path / "comparison")])
    with pytest.raises(SystemExit):
        runpy.run_path(f"{ROOT}/recipes/report.py", run_name="__main__")
    assert "holds a comparison and no run" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (["--run", "nowhere"], "--run nowhere: is no run's folder"),
        (["--generators", "path/alone"], "--generators path/alone: write NAME=PATH"),
        (["--generators", "tuned=x"], "--generators tuned=x: write NAME=PATH"),
    ],
)
def test_what_cannot_be_evaluated(refused, tmp_path, given, sentence):
    assert sentence in refused("evaluate_dialog.py", *given, output_dir=tmp_path / "x")
