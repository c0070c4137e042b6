"""A run that is stopped and goes on is the run without a stop, to the last digit."""

import os
import shutil
import signal
import time

import pytest
import torch
from accelerate.optimizer import AcceleratedOptimizer
from peft import LoraConfig
from transformers import EarlyStoppingCallback

from rlhf_dialog.discriminators.refresh import Refresher
from rlhf_dialog.discriminators.rewards import RandomReward, ShuffledReward
from rlhf_dialog.errors import UserError
from rlhf_dialog.ppo import checkpoints, interruption
from rlhf_dialog.ppo.batches import Batches
from rlhf_dialog.ppo.rewards import AdaptiveKLController, ScoreShaper
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


def test_adapters_go_on_and_their_base_is_not_written(make, tmp_path):
    values = {"lora": True, "reward": grade, "max_steps": 4}
    straight = make(folder="straight", **values)
    train(straight)
    assert train(make(folder="parts", stop_after=2, **values)) == 143
    parts = make(folder="parts", **values)
    train(parts, resume_from_checkpoint=True)
    assert rows(tmp_path / "parts") == rows(tmp_path / "straight")
    pairs = zip(weights(straight.model), weights(parts.model), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    saved = parts.last_checkpoint / "policy.safetensors"
    whole = sum(p.numel() * 4 for p in parts.policy.parameters())
    assert saved.stat().st_size < whole / 5


class _Deaf(torch.Generator):
    def set_state(self, state):
        return self


def _nothing(*_):
    return None


FORGOTTEN = {
    "order": lambda patch, trainer: setattr(trainer, "order", _Deaf().manual_seed(4)),
    "position in the data": lambda patch, _: patch.setattr(Batches, "load_state_dict", _nothing),
    "KL": lambda patch, _: patch.setattr(AdaptiveKLController, "load_state_dict", _nothing),
    "scores": lambda patch, _: patch.setattr(ScoreShaper, "load_state_dict", _nothing),
    "refresher": lambda patch, _: patch.setattr(Refresher, "load_state_dict", _nothing),
    "random": lambda patch, _: patch.setattr(checkpoints, "_set_random_states", _nothing),
    "Adam": lambda patch, _: patch.setattr(AcceleratedOptimizer, "load_state_dict", _nothing),
    "schedule": lambda patch, t: patch.setattr(t.lr_scheduler, "load_state_dict", _nothing),
    "reward": lambda patch, _: patch.setattr(RandomReward, "load_state_dict", _nothing),
}


@pytest.fixture(scope="module")
def once():
    """Whether the reward draws -> (rows of a straight run, folder of one stopped after four)."""
    return {}


@pytest.mark.parametrize("part", FORGOTTEN)
def test_no_part_of_the_state_can_be_left_out(
    make, once, tmp_path, tmp_path_factory, monkeypatch, part
):
    """So that the tests above are known to fail where one is missing."""
    draws = part == "reward"

    def build(folder, **values):
        return make(folder=folder, **({"reward": RandomReward(seed=5)} if draws else {}), **values)

    if draws not in once:
        train(build("straight"))
        stopped = tmp_path_factory.mktemp("stopped") / "run"
        train(build(stopped, stop_after=4))
        once[draws] = rows(tmp_path / "straight"), stopped
    straight, stopped = once[draws]
    shutil.copytree(stopped, tmp_path / "parts")
    trainer = build("parts")
    FORGOTTEN[part](monkeypatch, trainer)
    train(trainer, resume_from_checkpoint=True)
    assert rows(tmp_path / "parts") != straight


def test_callbacks_with_a_state_keep_it(make, tmp_path):
    """Two evaluations without a rise end the run: one before the stop, one after it."""
    values = {
        "eval_strategy": "steps",
        "eval_steps": 1,
        "metric_for_best_model": "objective/scores",
        "greater_is_better": True,
        "max_steps": 9,
    }
    falling = {1: 3.0, 2: 2.0, 3: 1.0}

    def build(**more):
        def score(contexts, replies):
            update = trainer.state.global_step
            return torch.full((len(replies),), falling.get(update, 0.0))

        patience = EarlyStoppingCallback(early_stopping_patience=2)
        trainer = make(reward=score, callbacks=[patience], **values, **more)
        return trainer

    assert train(build(stop_after=2)) == 143
    trainer = build()
    train(trainer, resume_from_checkpoint=True)
    assert trainer.state.global_step == 3 and trainer.state.best_metric == 3
    again = build()  # it had come to its end: nothing is left to do
    train(again, resume_from_checkpoint=True)
    assert again.state.global_step == 3 and len(rows(tmp_path / "run")) == 3


# ---------------------------------------------------------------- how a run ends before its end


def test_a_loss_that_is_none_ends_the_run_with_its_samples(make, tmp_path):
    trainer = make(reward=grade, save_steps=1)
    honest = trainer.ppo_loss

    def broken(old, advantages, returns, totals):
        loss = honest(old, advantages, returns, totals)
        if trainer.state.global_step == 2:
            totals["loss/policy_avg"] = totals["loss/policy_avg"] * torch.nan
        return loss

    trainer.ppo_loss = broken
    told = r"update 3: loss/policy_avg is nan; .*stopped-000003.jsonl, and .*step-000002\.$"
    with pytest.raises(UserError, match=told):
        trainer.train()
    samples = rows(tmp_path / "run", "stopped-000003.jsonl")
    assert len(samples) == 8 and {"context", "reply", "score"} < set(samples[0])
    assert [row["score"] for row in samples] == grade(None, [r["reply"] for r in samples]).tolist()


def test_a_second_signal_ends_at_once(monkeypatch):
    monkeypatch.setattr(interruption, "SAME_SIGNAL", 0.05)
    before = signal.getsignal(signal.SIGTERM)
    child = os.fork()
    if not child:
        with interruption.Signals():
            for _ in range(2):  # as a launcher does that passes on what all have had
                os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.1)
            os.kill(os.getpid(), signal.SIGTERM)
            os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is before


def test_signals_are_a_scripts_own_again_after_training(make):
    before = [signal.getsignal(signum) for signum in interruption.CAUGHT]
    train(make(reward=grade, max_steps=1))
    assert [signal.getsignal(signum) for signum in interruption.CAUGHT] == before
