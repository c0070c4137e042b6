"""A run that is stopped and goes on is the run without a stop, to the last digit."""

import pytest
import torch
from peft import LoraConfig

from rlhf_dialog.discriminators.rewards import RandomReward, ShuffledReward
from tests.ppo.resumable import build_run, rows, train
from tests.ppo.trainers import grade, weights

EVERYTHING = {
    "critic": "separate",
    "demonstration_share": 0.5,
    "supervised_coef_final": 0.5,
    "reward_granularity": "rollout",
    "lr_scheduler_type": "cosine",
    "warmup_steps": 2,
    "eval_strategy": "steps",
    "eval_steps": 2,
    "save_strategy": "best",
    "load_best_model_at_end": True,
}
VARIANTS = {
    "discriminator": dict,
    "everything": lambda: {**EVERYTHING, "reward": RandomReward(seed=5)},
    "shuffled": lambda: {"reward": ShuffledReward(grade, seed=5), "gradient_checkpointing": True},
}


@pytest.fixture
def make(make_generator, examples, tmp_path):
    """(family, folder, ...) -> a trainer of a run in that folder, built as for a new one."""

    def build(family="gpt2", folder="run", lora=False, **values):
        people = {"supervised_examples": examples, "eval_examples": examples[:5]}
        if lora:
            people["peft_config"] = LoraConfig(r=4, target_modules=["c_attn"], fan_in_fan_out=True)
        return build_run(
            make_generator(family), examples, tmp_path / folder, trainer=people, **values
        )

    return build


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("family", ["gpt2", "blenderbot-small"])
def test_a_stopped_run_goes_on_as_if_nothing_had_been(make, tmp_path, family, variant):
    straight = make(family, "straight", **VARIANTS[variant]())
    assert train(straight) == 0
    for stop in (1, 4, None):  # the second stop is in a pass over the data, after a refresh
        parts = make(family, "parts", stop_after=stop, **VARIANTS[variant]())
        status = train(parts, resume_from_checkpoint=stop != 1)
        assert status == (143 if stop else 0)
    for name in ("metrics.jsonl", "evaluations.jsonl", "eval_samples.jsonl"):
        if (tmp_path / "straight" / name).exists():
            assert rows(tmp_path / "parts", name) == rows(tmp_path / "straight", name)
    assert len(rows(tmp_path / "parts")) == 6
    pairs = zip(weights(straight.model), weights(parts.model), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
