"""Two processes on one machine: one run, one folder, twice the episodes."""

import json

from tests.recipes.helpers import launch, read_jsonl


def test_two_processes_make_one_run(script, tmp_path):
    process = launch(
        "seqgan_ppo.py",
        accelerate_config="multi_cpu",
        dialogues=script,
        output_dir=tmp_path / "run",
        max_steps=2,
    )
    assert process.returncode == 0, process.stderr
    rows = read_jsonl(tmp_path / "run/metrics.jsonl")
    assert [row["episode"] for row in rows] == [32, 64]
    assert abs(rows[0]["objective/kl"]) < 1e-4
    report = json.loads((tmp_path / "run/report.json").read_text())
    assert report["updates"] == 2 and report["metrics"]["kl"]["after"] != 0
    assert process.stdout.count("The whole report") == 1
