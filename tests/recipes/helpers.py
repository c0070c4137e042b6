"""Running recipes as a user runs them, on values small enough for a test."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
TINY = {
    "character": "PLUME",
    "max_turns": 2,
    "context_length": 24,
    "response_length": 12,
    "fresh_vocab_size": 400,
    "fresh_hidden_size": 32,
    "fresh_layers": 1,
    "fresh_heads": 2,
    "warm_start_epochs": 1,
    "warm_start_learning_rate": 2e-3,
    "fresh_discriminator_hidden_size": 32,
    "fresh_discriminator_layers": 1,
    "discriminator_max_tokens": 48,
    "discriminator_epochs": 2,
    "word_order_steps": 4,
    "refresh_every": 2,
    "refresh_steps": 2,
    "refresh_samples": 16,
    "max_steps": 4,
    "per_device_train_batch_size": 8,
    "gradient_accumulation_steps": 2,
    "num_mini_batches": 2,
    "num_ppo_epochs": 1,
    "supervised_batch_size": 4,
    "samples_per_context": 2,
    "bootstrap_resamples": 200,
    "hits_contexts": 8,
}


def arguments(**changed):
    return [part for name, value in (TINY | changed).items() for part in (f"--{name}", str(value))]


def launch(recipe, accelerate_config="single_process", **changed):
    """Runs a recipe under `accelerate launch`; returns the finished process."""
    command = [
        sys.executable,
        *("-m", "accelerate.commands.launch", "--quiet"),
        *("--config_file", f"accelerate_configs/{accelerate_config}.yaml"),
        f"recipes/{recipe}",
        *arguments(**changed),
    ]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "ACCELERATE_USE_CPU": "true"}
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=400
    )


def read_jsonl(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
