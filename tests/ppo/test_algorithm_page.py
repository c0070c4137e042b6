"""Every piece of Python on docs/algorithm.md runs, and its logged metrics are all explained."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset
from transformers import GPT2Config, GPT2ForSequenceClassification
from trl import GRPOConfig

from rlhf_dialog.discriminators.model import fresh_discriminator
from rlhf_dialog.generators.loading import train_tokenizer
from rlhf_dialog.ppo.config import SeqGANPPOConfig
from tests.conftest import SENTENCES
from tests.ppo.trainers import build_trainer, grade

PAGE = (Path(__file__).parents[2] / "docs" / "algorithm.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)


def block(text):
    (found,) = [code for code in BLOCKS if text in code]
    return found


@pytest.fixture
def place(tmp_path, monkeypatch, make_generator):
    """A folder that holds what the page speaks of: a script, a warm start, a reward model."""
    turns = [{"speaker": ("Ann", "Bob")[n % 2], "text": SENTENCES[n % 6]} for n in range(200)]
    script = [json.dumps({"turns": turns[start : start + 10]}) for start in range(0, 200, 10)]
    (tmp_path / "my_script.jsonl").write_text("\n".join(script) + "\n")
    make_generator("gpt2").save(tmp_path / "runs/warm_start/generator")
    tokenizer = train_tokenizer(SENTENCES, 280)  # not the generator's
    config = GPT2Config(
        vocab_size=len(tokenizer), n_positions=128, n_embd=32, n_layer=1, n_head=2, num_labels=1
    )
    for saved in (GPT2ForSequenceClassification(config), tokenizer):
        saved.save_pretrained(tmp_path / "runs/reward_model")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def small(code):
    """The page's own code with one update of two episodes and prompts that fit a tiny model."""
    return (
        code.replace("max_steps=30", "max_steps=1, use_cpu=True, disable_tqdm=True")
        .replace("per_device_train_batch_size=64", "per_device_train_batch_size=2")
        .replace("context_length=64", "context_length=32")
    )


def test_the_page_runs_from_top_to_bottom(place, capsys):
    assert len(BLOCKS) == 5
    names = {}
    exec(block("class RewardModel"), names)
    exec(small(block("from rlhf_dialog.dialogues.examples")), names)
    assert (place / "runs/mine/model.safetensors").is_file()
    assert (place / "runs/mine/value/value_head.safetensors").is_file()
    names["args"].output_dir = "runs/curious"  # the first run's folder holds its checkpoints
    exec(block("class Curious"), names)
    trainer = names["Curious"](
        names["args"], names["generator"], grade, names["examples"], context_length=32
    )
    trainer.train()
    assert trainer.state.log_history[-1]["reward/questions"] == 0
    names["args"].output_dir = "runs/adapters"
    exec(small(block("LoraConfig")), names)
    names["trainer"].train()
    assert np.isfinite(names["trainer"].state.log_history[-1]["objective/scores"])
    fresh_discriminator(SENTENCES, hidden_size=32, layers=1, max_tokens=96, seed=0).save(
        place / "runs/demo/discriminator"
    )
    names |= {
        "model": names["generator"].model,
        "args": GRPOConfig(output_dir="runs/grpo", use_cpu=True, bf16=False, report_to=[]),
        "prompts": Dataset.from_dict({"prompt": SENTENCES}),
    }
    exec(block("GRPOTrainer"), names)
    assert names["trainer"].reward_func_names == ["weighted_sum"]


def test_the_custom_reward_is_as_short_as_it_is_said_to_be():
    lines = [line for line in block("class Curious").splitlines() if line.strip()]
    assert len(lines) <= 15


def test_every_logged_metric_is_explained(make_generator, examples, tmp_path):
    trainer, history = build_trainer(
        make_generator("gpt2"),
        examples,
        tmp_path,
        grade,
        trainer={"supervised_examples": examples},
    )
    trainer.train()
    table = PAGE[PAGE.index("## Logged metrics") : PAGE.index("## Implementation details")]
    explained = set(re.findall(r"`([^`]+)`", table))
    assert set(history.logs[0]) - {"epoch"} <= explained


def test_every_option_on_the_page_exists():
    options = set(re.findall(r"`([a-z0-9]+_[a-z0-9_]+)(?:: [^`]+)?`", PAGE))
    fields = set(SeqGANPPOConfig.__dataclass_fields__)
    elsewhere = {
        *("from_pretrained", "save_model", "eval_examples", "compute_rewards", "ppo_loss"),
        *("refresh_steps", "refresh_generated_share", "refresh_ceiling", "refresh_floor"),
        *("refresh_batch_size", "word_order_steps"),
        *("match_lengths", "my_reward", "value_head", "reward_funcs", "minus_log_1_minus_d"),
        "log_d",
    }
    tests = {name for name in options if name.startswith("test_")}
    assert options - elsewhere - tests <= fields
    sources = "".join(path.read_text() for path in Path(__file__).parents[1].rglob("test_*.py"))
    assert all(f"def {name}(" in sources for name in tests)
