import copy
import math
import random
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from rlhf_dialog.errors import UserError
from rlhf_dialog.generators.prompts import encode_context
from rlhf_dialog.ppo import objectives
from rlhf_dialog.ppo.update import RolloutOptimizer
from tests.ppo.trainers import column, grade, rollout_of, weights

both_families = pytest.mark.parametrize("family", ["gpt2", "blenderbot-small"])


def watch_steps(trainer, monkeypatch):
    """The gradients that each optimizer step finds."""
    seen = []
    step = trainer.optimizer.optimizer.step

    def watched(*args, **kwargs):
        seen.append([p.grad.clone() for p in trainer.model.parameters()])
        step(*args, **kwargs)

    monkeypatch.setattr(trainer.optimizer.optimizer, "step", watched)
    return seen


@torch.no_grad()
def entropy(trainer, rollout):
    """Of the next token under the reference, nats per token: the policy's before the first step."""
    inputs = (rollout.context_ids, rollout.context_mask, rollout.reply_ids, rollout.reply_mask)
    return (trainer.ref_policy(*inputs, entropies=True).entropies.sum() / inputs[-1].sum()).item()


# ---------------------------------------------------------------- before the first step


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@both_families
def test_the_first_ratio_is_one_and_the_first_kl_zero(build, monkeypatch, family, temperature):
    trainer, history = build(family, temperature=temperature, per_device_train_batch_size=4)
    config = trainer.generator.model.config
    assert max(getattr(config, "dropout", 0), getattr(config, "embd_pdrop", 0)) > 0
    rollouts = []
    sample = trainer.sample
    monkeypatch.setattr(
        trainer, "sample", lambda batch: rollouts.append(sample(batch)) or rollouts[0]
    )
    trainer.train()
    (logs,) = history.logs
    assert logs["val/ratio"] == pytest.approx(1, abs=1e-5)
    assert logs["objective/kl"] == pytest.approx(0, abs=1e-5)
    assert logs["policy/approxkl_avg"] == pytest.approx(0, abs=1e-8)
    assert logs["policy/clipfrac_avg"] == 0
    (rollout,) = rollouts
    assert logs["policy/entropy_avg"] == pytest.approx(entropy(trainer, rollout), rel=1e-5)
    assert logs["objective/entropy"] == pytest.approx(-rollout.logprobs.sum(1).mean().item())


def test_what_is_logged_is_what_happened(build):
    seen = []

    def reward(contexts, replies):
        seen.append(replies)
        return grade(contexts, replies)

    def monitor(contexts, replies):
        return {"text/letters": float(np.mean([len(reply) for reply in replies]))}

    trainer, history = build(reward=reward, max_steps=3, trainer={"monitors": [monitor]})
    trainer.train()
    assert column(history, "episode") == [16, 32, 48]
    assert column(history, "lr") == [5e-3] * 3
    for logs, replies in zip(history.logs, seen, strict=True):
        assert logs["objective/scores"] == pytest.approx(grade(None, replies).mean().item())
        assert logs["text/letters"] == np.mean([len(reply) for reply in replies])
        assert all(math.isfinite(value) for value in logs.values())


@both_families
def test_a_rollout_fits_together(build, family):
    trainer, _ = build(family, per_device_train_batch_size=10, length_residual_window=0)
    generator = trainer.generator
    rollout = trainer.sample(next(iter(trainer.dataloader)))
    for row, context in enumerate(rollout.contexts):
        prompt = rollout.context_ids[row][rollout.context_mask[row]].tolist()
        assert prompt == encode_context(generator, context, 24)
        reply = rollout.reply_ids[row][rollout.reply_mask[row]].tolist()
        assert generator.decode(reply) == rollout.replies[row]
        assert len(reply) == 6 or reply[-1] == generator.tokenizer.eos_token_id
    assert torch.equal(rollout.logprobs, rollout.ref_logprobs)
    scores = trainer.score(rollout)
    rewards, metrics = trainer.compute_rewards(rollout, scores)
    last = rollout.reply_mask.sum(1) - 1
    at_the_end = rewards[torch.arange(20), last]
    assert torch.equal(rewards.sum(1), at_the_end)  # before the first step there is no KL
    assert at_the_end.unique().numel() > 10
    order = scores.argsort()
    assert at_the_end[order].diff().min() >= 0  # each reply has its own score
    assert metrics["objective/rlhf_reward"] == pytest.approx(at_the_end.mean().item(), abs=1e-6)


@both_families
def test_replies_are_sampled_at_the_temperature_at_which_they_are_scored(build, family):
    trainer, _ = build(family, temperature=0.05, per_device_train_batch_size=15)
    rollout = trainer.sample(next(iter(trainer.dataloader)))
    mask = rollout.reply_mask
    surprise = -rollout.logprobs[mask].mean().item()
    assert surprise < 5  # far from uniform: ln 300 = 5.7
    assert surprise == pytest.approx(entropy(trainer, rollout), abs=0.4)


# ---------------------------------------------------------------- steps and gradients


@pytest.mark.parametrize(
    ("per_device", "accumulation", "mini_batches", "epochs"),
    [
        (8, 1, 1, 1),
        (8, 2, 4, 3),
        (2, 4, 2, 2),
        (4, 4, 1, 2),
        (1, 4, 4, 1),
        (15, 2, 3, 1),  # the whole data set is one batch
        (1, 1, 1, 4),
        (3, 4, 6, 1),
        (5, 3, 5, 2),
        (4, 1, 2, 3),
        (10, 1, 1, 2),  # a pass ends with a batch in full
        (7, 1, 7, 1),
    ],
)
def test_everything_is_counted_by_the_book(
    build, monkeypatch, per_device, accumulation, mini_batches, epochs
):
    updates = 5  # more than one pass over the data: stock TRL steps differently at its end
    trainer, history = build(
        max_steps=updates,
        per_device_train_batch_size=per_device,
        gradient_accumulation_steps=accumulation,
        num_mini_batches=mini_batches,
        num_ppo_epochs=epochs,
    )
    steps = watch_steps(trainer, monkeypatch)
    sample, loss, schedule = trainer.sample, trainer.ppo_loss, trainer.lr_scheduler.step
    sampled, trained, scheduled = [], [], []

    def watched_sample(batch):
        rollout = sample(batch)
        sampled.append(rollout.reply_mask.sum().item())
        return rollout

    def watched_loss(old, *arguments):
        mask = old["reply_mask"]
        trained.append((len(mask), mask.sum().item()))
        return loss(old, *arguments)

    monkeypatch.setattr(trainer, "sample", watched_sample)
    monkeypatch.setattr(trainer, "ppo_loss", watched_loss)
    monkeypatch.setattr(trainer.lr_scheduler, "step", lambda: scheduled.append(1) or schedule())
    trainer.train()
    episodes = per_device * accumulation
    assert len(steps) == updates * epochs * mini_batches
    assert len(scheduled) == updates
    assert column(history, "episode") == [episodes * (n + 1) for n in range(updates)]
    assert column(history, "policy/steps") == [epochs * mini_batches] * updates
    assert sum(rows for rows, _ in trained) == updates * epochs * episodes
    assert max(rows for rows, _ in trained) <= per_device
    assert sum(tokens for _, tokens in trained) == epochs * sum(sampled)


@both_families
def test_the_gradient_is_that_of_the_mean_over_all_tokens(build, monkeypatch, family):
    """However a minibatch is cut: sixteen episodes as 1 x 16, 2 x 8 and 8 x 2."""
    for per_device, accumulation in [(16, 1), (8, 2), (2, 8)]:
        trainer, _ = build(
            family,
            per_device_train_batch_size=per_device,
            gradient_accumulation_steps=accumulation,
            max_grad_norm=1e9,
        )
        policy = copy.deepcopy(trainer.model)
        steps = watch_steps(trainer, monkeypatch)
        captured = []
        update = trainer.update
        monkeypatch.setattr(
            trainer, "update", lambda *a, c=captured, u=update: c.append(a) or u(*a)
        )
        trainer.train()

        ((rollout, advantages, returns),) = captured
        mask = rollout.reply_mask
        assert len(mask.sum(1).unique()) > 1  # else a mean of means would be as good
        policy.zero_grad()
        new = policy(rollout.context_ids, rollout.context_mask, rollout.reply_ids, mask)
        actor, _ = objectives.clipped_policy_loss(
            new.logprobs, rollout.logprobs, advantages, mask, trainer.args.cliprange
        )
        critic = objectives.clipped_value_loss(
            new.values, rollout.values, returns, mask, trainer.args.cliprange_value
        )
        ((actor.sum() + trainer.args.vf_coef * critic.sum()) / mask.sum()).backward()
        (found,) = steps
        wanted = [parameter.grad for parameter in policy.parameters()]
        assert max(gradient.abs().max() for gradient in wanted) > 1e-2
        for a, b in zip(found, wanted, strict=True):
            assert torch.allclose(a, b, atol=1e-5)


def test_minibatches_partition_the_rollout(build, monkeypatch):
    trainer, _ = build(num_mini_batches=4, num_ppo_epochs=2)
    seen = []
    step = RolloutOptimizer.step
    monkeypatch.setattr(RolloutOptimizer, "step", lambda *a: seen.append(a[4].tolist()) or step(*a))
    trainer.train()
    first, second = seen[:4], seen[4:]
    for epoch in (first, second):
        assert sorted(row for rows in epoch for row in rows) == list(range(16))
    assert first != second


def test_gradients_are_clipped(build, monkeypatch):
    trainer, _ = build(max_grad_norm=0.01)
    steps = watch_steps(trainer, monkeypatch)
    trainer.train()
    norm = torch.cat([gradient.flatten() for gradient in steps[0]]).norm()
    assert norm.item() == pytest.approx(0.01, rel=1e-3)


@both_families
def test_the_generator_is_trained_in_place_and_the_reference_stays(build, family, tmp_path):
    trainer, _ = build(family, max_steps=3)
    model = trainer.generator.model
    before = weights(model)
    trainer.train()
    assert trainer.generator.model is model
    reference = weights(trainer.ref_policy.lm)
    assert all(torch.equal(a, b) for a, b in zip(before, reference, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(before, weights(model), strict=True))
    trainer.generator.save(tmp_path / "generator")
    loaded = type(model).from_pretrained(tmp_path / "generator")
    assert all(torch.equal(a, b) for a, b in zip(weights(model), weights(loaded), strict=True))


# ---------------------------------------------------------------- the run


def test_the_same_seed_gives_the_same_run(build):
    def run(seed, elsewhere):
        trainer, history = build(max_steps=3, num_mini_batches=2, num_ppo_epochs=2, seed=seed)
        np.random.seed(elsewhere)
        random.seed(elsewhere)
        trainer.train()
        return [{k: v for k, v in logs.items() if k != "seconds"} for logs in history.logs]

    assert run(3, elsewhere=1) == run(3, elsewhere=2)
    assert run(3, elsewhere=1) != run(4, elsewhere=1)


def test_a_run_stops_when_a_callback_says_so(build):
    trainer, history = build(max_steps=9, stop_after=2)
    trainer.train()
    assert len(history.logs) == 2


def test_without_max_steps_epochs_count(build):
    trainer, history = build(max_steps=-1, num_train_epochs=2)  # 60 episodes of 30, 16 an update
    trainer.train()
    assert len(history.logs) == 4


def test_refreshes_come_in_their_turn_and_see_fresh_replies(build):
    calls = []

    def refresher(sample):
        calls.append(sample([["the tide"], ["who ?"], ["the lamp"]]))
        return {"discriminator/loss": float(len(calls))}

    trainer, history = build(max_steps=5, trainer={"refresher": refresher, "refresh_every": 2})
    trainer.train()
    assert ["discriminator/loss" in logs for logs in history.logs] == [False, True] * 2 + [False]
    assert [len(replies) for replies in calls] == [3, 3] and calls[0] != calls[1]
    assert trainer.sample_replies([]) == []


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_reward_that_is_not_finite_is_named_with_its_reply(build, bad):
    said = []

    def reward(contexts, replies):
        said.extend(replies)
        scores = torch.zeros(len(replies))
        scores[3] = bad
        return scores

    trainer, _ = build(reward=reward)
    with pytest.raises(ValueError, match=f"is {bad}, not a finite number") as caught:
        trainer.train()
    assert repr(said[3]) in str(caught.value)


@pytest.mark.parametrize("shape", [(15,), (17,), (1,), (16, 1), ()])
def test_a_reward_of_another_shape_is_refused(build, shape):
    trainer, _ = build(reward=lambda c, r: torch.zeros(shape))
    with pytest.raises(ValueError, match=r"returned shape .*16"):
        trainer.train()


def test_a_reward_of_words_is_refused(build):
    trainer, _ = build(reward=lambda c, r: r)
    with pytest.raises(UserError, match="returned list of something else than numbers"):
        trainer.train()


def test_replies_that_do_not_fit_the_model_are_refused(build):
    with pytest.raises(UserError, match=r"response_length 41 together are more .* 64 positions"):
        build(response_length=41)
    with pytest.raises(UserError, match=r"response_length 65 is more than .* 64 positions"):
        build("blenderbot-small", response_length=65)


def test_a_prompt_longer_than_the_context_loses_its_oldest_turns(build, examples):
    long = replace(examples[0], context=("the tide is late",) * 30)
    trainer, _ = build(trainer={"train_examples": [long] * 16})
    rollout = rollout_of(trainer)
    assert 12 < rollout.context_mask.sum(1).max() <= 24 == trainer.context_length


@both_families
def test_an_empty_reply_is_a_reply(build, family):
    trainer, history = build(family, reward=lambda c, r: [float(not reply) for reply in r])
    eos = trainer.generator.tokenizer.eos_token_id
    generate = type(trainer.policy.lm).generate

    def silent(model, **options):
        ids = generate(model, **options)
        start = 1 if trainer.generator.is_encoder_decoder else options["input_ids"].shape[1]
        ids[::2, start:] = eos
        return ids

    trainer.policy.lm.generate = partial(silent, trainer.policy.lm)
    rollout = rollout_of(trainer)
    assert rollout.replies[::2] == [""] * 8 and rollout.reply_mask[::2].sum(1).tolist() == [1] * 8
    trainer.train()
    assert history.logs[0]["objective/scores"] >= 0.5
    assert all(math.isfinite(value) for value in history.logs[0].values())


def test_a_reward_may_be_a_list_of_numbers(build):
    trainer, history = build(reward=lambda c, r: [1.0] * len(r))
    trainer.train()
    assert history.logs[0]["objective/scores"] == 1


def test_too_few_contexts_are_refused(build, examples):
    with pytest.raises(UserError, match=r"needs 16 contexts on 1 process.*, but .* holds 15"):
        build(trainer={"train_examples": examples[:15]})
    build(trainer={"train_examples": examples[:16]})[0].train()
