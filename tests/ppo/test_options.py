"""Each option of sampling, loss and reward does what it says, on tiny models."""

import numpy as np
import pytest
import torch

from rlhf_dialog.ppo import objectives
from tests.ppo.trainers import column, rollout_of, weights

both_families = pytest.mark.parametrize("family", ["gpt2", "blenderbot-small"])


def gradients(trainer, monkeypatch):
    """Trains; the gradients that the first optimizer step found, by name."""
    found = {}
    step = trainer.optimizer.optimizer.step

    def watched(*arguments, **options):
        if not found:
            found.update({k: p.grad.clone() for k, p in trainer.model.named_parameters()})
        step(*arguments, **options)

    monkeypatch.setattr(trainer.optimizer.optimizer, "step", watched)
    trainer.train()
    return found


# ---------------------------------------------------------------- sampling and precision

SAMPLINGS = [
    {"temperature": 0.5},
    {"top_k": 3},
    {"top_p": 0.7},
    {"temperature": 1.5, "top_k": 40, "top_p": 0.9},
]


@pytest.mark.parametrize("sampling", SAMPLINGS, ids=str)
@both_families
def test_ratio_is_one_and_kl_zero_under_every_sampling(build, family, sampling):
    trainer, history = build(family, sharp=True, **sampling)
    trainer.train()
    (logs,) = history.logs
    assert logs["val/ratio"] == pytest.approx(1, abs=1e-5)
    assert logs["objective/kl"] == pytest.approx(0, abs=1e-5)


@both_families
def test_a_truncated_policy_that_moves_stays_finite(build, family):
    trainer, history = build(
        family, max_steps=4, num_ppo_epochs=3, top_k=3, kl_coef=0.0, kl_target=None
    )
    trainer.train()
    assert all(np.isfinite(list(logs.values())).all() for logs in history.logs)
    assert column(history, "objective/kl")[-1] > 1e-3


@both_families
def test_bf16_begins_with_a_ratio_of_exactly_one(build, family):
    trainer, history = build(
        family, sharp=True, bf16=True, per_device_train_batch_size=4, max_steps=2
    )
    assert trainer.accelerator.mixed_precision == "bf16"
    dtypes = set()
    trainer.policy.lm.get_output_embeddings().register_forward_hook(
        lambda module, inputs, output: dtypes.add(output.dtype)
    )
    trainer.train()
    assert dtypes == {torch.bfloat16}  # sampling, scoring and training alike
    assert {p.dtype for p in trainer.model.parameters()} == {torch.float32}
    assert column(history, "val/ratio") == [1.0, 1.0]
    assert history.logs[0]["objective/kl"] == 0 != history.logs[1]["objective/kl"]
    plain, _ = build(family)  # a later trainer of the same process is not bound by it
    assert plain.accelerator.mixed_precision == "no"


# ---------------------------------------------------------------- the loss


@both_families
def test_gradient_checkpointing_changes_memory_and_not_the_gradient(build, monkeypatch, family):
    found = []
    for checkpointing in (False, True):
        trainer, _ = build(family, gradient_checkpointing=checkpointing)
        layer = trainer.policy.lm.get_submodule(
            "transformer.h.0.ln_1" if family == "gpt2" else "model.decoder.layers.0.self_attn"
        )
        calls = []
        layer.register_forward_pre_hook(
            lambda module, inputs, c=calls: c.append(torch.is_grad_enabled())
        )
        found.append((gradients(trainer, monkeypatch), sum(calls)))
        assert not trainer.model.training
    (plain, once), (checkpointed, twice) = found
    assert twice == 2 * once > 0
    for name, gradient in plain.items():
        assert torch.allclose(gradient, checkpointed[name], atol=1e-6), name


def test_the_entropy_bonus_raises_entropy(build):
    ends = []
    for coefficient in (0.0, 0.5):
        trainer, history = build(
            reward=lambda c, r: torch.zeros(len(r)),
            sharp=True,
            max_steps=6,
            kl_coef=0.0,
            kl_target=None,
            entropy_coef=coefficient,
        )
        trainer.train()
        ends.append(column(history, "policy/entropy_avg"))
    assert ends[0][0] == pytest.approx(ends[1][0], abs=1e-5)
    assert max(np.abs(np.diff(ends[0]))) < 0.2 and ends[1][-1] > ends[1][0] + 0.3


def test_epochs_end_where_the_policy_has_gone_too_far(build):
    limit = 0.01
    free, history = build(num_ppo_epochs=6, num_mini_batches=2)
    free.train()
    assert history.logs[0]["policy/steps"] == 12
    assert history.logs[0]["policy/kl_sampling_avg"] > limit
    held, history = build(num_ppo_epochs=6, num_mini_batches=2, update_kl_limit=limit)
    held.train()
    assert 1 <= history.logs[0]["policy/steps"] < 12
    before = weights(held.model)
    held.args.update_kl_limit = -1.0  # even a policy that has not moved is too far
    rollout = rollout_of(held)
    metrics = held.update(rollout, torch.ones_like(rollout.values), rollout.values)
    assert metrics["policy/steps"] == 0
    assert all(torch.equal(a, b) for a, b in zip(before, weights(held.model), strict=True))
    assert all(p.grad is None for p in held.model.parameters())


def test_the_value_loss_is_clipped_or_not(build):
    losses = []
    for cliprange in (0.2, None):
        trainer, _ = build(cliprange_value=cliprange)
        rollout = rollout_of(trainer)
        old = rollout.tensors(torch.arange(16))
        old["values"] = old["values"] + 3 * rollout.reply_mask  # far from what the critic says now
        totals = dict.fromkeys(
            [
                "tokens",
                "loss/policy_avg",
                "loss/value_avg",
                "policy/clipfrac_avg",
                "policy/approxkl_avg",
                "policy/kl_sampling_avg",
                "policy/entropy_avg",
                "val/ratio",
            ],
            0.0,
        )
        nothing = torch.zeros_like(rollout.values)
        trainer.ppo_loss(old, nothing, nothing, totals)
        losses.append((totals["loss/value_avg"] / totals["tokens"]).item())
    assert losses == pytest.approx([0.5 * 2.8**2, 0])  # limited to 3 - .2; not limited: V = R = 0


# ---------------------------------------------------------------- rewards


def test_penalties_fall_on_unended_and_on_short_replies(build):
    trainer, _ = build(
        reward=lambda c, r: torch.zeros(len(r)),
        length_residual_window=0,
        missing_eos_penalty=2.0,
        min_reply_tokens=3,
        short_reply_penalty=0.5,
        per_device_train_batch_size=15,
    )
    rollout = rollout_of(trainer)
    rewards, _ = trainer.compute_rewards(rollout, trainer.score(rollout))
    lengths = rollout.reply_mask.sum(1)
    ended = rollout.reply_ids[torch.arange(30), lengths - 1] == trainer.stop_token_id
    assert 0 < ended.sum() < 30 and (lengths < 3).any()
    assert torch.allclose(rewards.sum(1), -2.0 * ~ended - 0.5 * (lengths < 3), atol=1e-5)


def test_whitened_rewards_keep_their_mean(build):
    pairs = []
    for whiten in (False, True):
        trainer, _ = build(whiten_rewards=whiten)
        rollout = rollout_of(trainer)
        pairs.append(trainer.compute_rewards(rollout, trainer.score(rollout))[0])
    mask = rollout.reply_mask
    plain, whitened = (rewards[mask].double() for rewards in pairs)
    wanted = (plain - plain.mean()) / plain.std() + plain.mean()
    assert torch.allclose(whitened, wanted, atol=1e-5) and not pairs[1][~mask].any()


def test_a_custom_stop_token_ends_replies_and_demonstrations(build, examples):
    trainer, _ = build(
        stop_token_id=70, demonstration_share=0.5, trainer={"supervised_examples": examples}
    )
    assert trainer.stop_token_id == 70
    rows = trainer.anchor.draw(torch.Generator().manual_seed(0))
    last = rows[2][torch.arange(len(rows[2])), rows[3].sum(1) - 1]
    eos = trainer.generator.tokenizer.eos_token_id
    assert eos not in rows[2][rows[3]].tolist()
    assert (last == 70).any() or (rows[3].sum(1) == 6).all()
    rollout = rollout_of(trainer)
    assert rollout.demonstrations
    for ids, mask in zip(rollout.reply_ids, rollout.reply_mask, strict=True):
        reply = ids[mask].tolist()
        assert 70 not in reply[:-1] and (len(reply) == 6 or reply[-1] == 70)


def test_advantages_are_whitened_or_not(build):
    rewards = None
    for whiten in (True, False):
        trainer, _ = build(whiten_advantages=whiten)
        rollout = rollout_of(trainer)
        rewards = torch.where(rollout.reply_mask, rollout.logprobs, 0.0)
        advantages, returns = trainer.advantages(rollout, rewards)
        plain, same = objectives.generalized_advantages(
            rewards, rollout.values, rollout.reply_mask, 1.0, 0.95
        )
        assert torch.equal(returns, same)
        assert torch.equal(advantages, plain) == (not whiten)
