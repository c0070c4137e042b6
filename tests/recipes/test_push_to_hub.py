"""The main job with push_to_hub: what it made arrives, on a Hub on loopback."""

import json
import os
import subprocess
import sys

from tests.publishing.loopback_hub import TOKEN, LoopbackHub
from tests.recipes.helpers import ROOT, arguments


def test_the_main_job_pushes_what_it_made(script, tmp_path):
    with LoopbackHub() as loopback:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
        environment |= {"HF_ENDPOINT": loopback.url, "HF_TOKEN": TOKEN, "PYTHONPATH": str(ROOT)}
        environment |= {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HOME": str(tmp_path / "home")}
        run = tmp_path / "run"
        given = arguments(dialogues=script, output_dir=run, max_steps=1, hub_model_id="plume")
        process = subprocess.run(
            [sys.executable, "recipes/seqgan_ppo.py", *given, "--push_to_hub"],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
        )
    assert process.returncode == 0, process.stderr
    names = {repo for _, repo in loopback.repositories}
    assert names == {"me/plume", "me/plume-discriminator", "me/plume-judge"}
    stored = loopback.repositories["model", "me/plume"]
    weights = (run / "generator/model.safetensors").read_bytes()
    assert stored.private and stored.files["model.safetensors"] == weights
    report = json.loads((run / "report.json").read_text())["metrics"]["judge_score"]
    value = f"{report['after']:.2f}".replace("-", "−")
    assert f"| {value} |" in stored.files["README.md"].decode()
    for content in (c for r in loopback.repositories.values() for c in r.files.values()):
        assert str(tmp_path).encode() not in content
    assert not loopback.unknown
