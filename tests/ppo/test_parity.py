"""The same five updates by stock TRL 1.12 and by this trainer.

What differs on purpose is switched off by configuration; the one thing that no option brings back,
the score's position one slot behind EOS (defect 11), is put back by a subclass.
"""

from dataclasses import replace

import pytest
import torch
from transformers import TrainerCallback
from trl.experimental.ppo.ppo_trainer import get_reward

from benchmarks.stock_position import StockPosition, with_one_more
from rlhf_dialog.ppo import objectives
from rlhf_dialog.ppo.rollouts import in_chunks
from tests.ppo.stock import Reseed, build_stock, classifier, run_stock
from tests.ppo.trainers import build_trainer, make_ends_likely

UPDATES, BATCH = 5, 8


class Watched(StockPosition):
    """Stock's reward and values, and its mean of the value loss; keeps rollouts and advantages."""

    stock_reward: torch.nn.Module
    rollouts: list
    whitened: list

    def score(self, rollout):
        ids = torch.cat([rollout.context_ids, rollout.reply_ids], dim=1)
        pad = self.processing_class.pad_token_id
        return get_reward(self.stock_reward, ids, pad, rollout.context_ids.shape[1])[1]

    @torch.no_grad()
    def sample(self, batch):
        rollout = super().sample(batch)
        wide = with_one_more(rollout.reply_mask)
        inputs = (rollout.context_ids, rollout.context_mask, rollout.reply_ids, wide)
        rollout = replace(rollout, values=in_chunks(self.model, 64, *inputs)[1])
        self.rollouts.append(rollout)
        return rollout

    def advantages(self, rollout, rewards):
        advantages, returns = super().advantages(rollout, rewards)
        self.whitened.append(advantages)
        return advantages, returns

    def ppo_loss(self, old, advantages, returns, totals):
        mask = old["reply_mask"]
        wide = with_one_more(mask)
        new = self.model(old["context_ids"], old["context_mask"], old["reply_ids"], wide)
        policy, _ = objectives.clipped_policy_loss(
            new.logprobs, old["logprobs"], advantages, mask, self.args.cliprange
        )
        value = objectives.clipped_value_loss(
            new.values, old["values"], returns, wide, self.args.cliprange_value
        ).sum() * (mask.sum() / wide.sum())  # stock's mean is over its own mask
        totals["tokens"] = totals["tokens"] + mask.sum()
        totals["loss/policy_avg"] = totals["loss/policy_avg"] + policy.sum().detach()
        totals["loss/value_avg"] = totals["loss/value_avg"] + value.detach()
        return policy.sum() + self.args.vf_coef * value


@torch.no_grad()
def pad_is_never_sampled(generator):
    """Its logit is far below the others: `make_ends_likely` has moved the last hidden states."""
    model, pad = generator.model, generator.tokenizer.pad_token_id
    model.get_output_embeddings().weight[pad] = -2 * model.transformer.ln_f.bias


def test_parity_with_stock_trl(make_generator, examples, tmp_path, monkeypatch):
    generator = make_generator("gpt2", sharp=True)
    make_ends_likely(generator.model, generator.tokenizer.eos_token_id)
    pad_is_never_sampled(generator)  # stock would take it for the end
    reward, value = classifier(generator, 1), classifier(generator, 2)
    common = {
        "per_device_train_batch_size": BATCH,
        "gradient_accumulation_steps": 1,
        "num_ppo_epochs": 2,
        "learning_rate": 1e-3,
        "adam_epsilon": 1e-5,  # else a gradient that is rounding noise takes a whole step
        "kl_coef": 0.2,
        "response_length": 6,
    }
    values = {name: tensor.clone() for name, tensor in value.state_dict().items()}
    stock = build_stock(
        generator,
        examples[: 2 * BATCH],  # the passes over the data end at different updates
        tmp_path / "stock",
        reward=reward,
        value=value,
        total_episodes=UPDATES * BATCH,
        **common,
    )
    theirs = run_stock(stock, monkeypatch)

    monkeypatch.setattr("tests.ppo.trainers.SeqGANPPOTrainer", Watched)
    monkeypatch.setattr("tests.ppo.trainers.make_ends_likely", lambda *a: None)  # done above
    ours, history = build_trainer(
        generator,
        examples[: 2 * BATCH],
        tmp_path / "ours",
        None,
        max_steps=UPDATES,
        critic="separate",
        kl_target=None,
        normalize_scores=False,
        reward_clip=None,
        length_residual_window=0,
        max_grad_norm=0.0,
        **common,
    )
    ours.stock_reward, ours.rollouts, ours.whitened = reward, [], []
    critic = {k.removeprefix("transformer."): v for k, v in values.items() if k != "score.weight"}
    ours.policy.value_trunk.load_state_dict(critic)
    ours.policy.value_head.weight.data.copy_(values["score.weight"])
    ours.policy.value_head.bias.requires_grad_(False)  # stock's has none
    parameters = []

    class Parameters(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            parameters.append({k: v.detach().clone() for k, v in ours.model.named_parameters()})

    ours.add_callback(Reseed())
    ours.add_callback(Parameters())
    ours.train()

    assert len(history.logs) == len(theirs.responses) == len(parameters) == UPDATES
    lengths = torch.cat([rollout.reply_mask.sum(1) for rollout in ours.rollouts])
    assert (lengths < 6).any() and (lengths == 6).any()  # both places of the score occur
    for update in range(UPDATES):
        rollout, log, logged = ours.rollouts[update], history.logs[update], theirs.logs[update]
        assert torch.equal(rollout.context_ids, theirs.contexts[update])
        assert torch.equal(rollout.reply_ids, theirs.responses[update])
        assert torch.equal(rollout.reply_mask, theirs.masks[update])
        wanted = objectives.masked_whiten(theirs.advantages[update], theirs.masks[update])
        assert torch.allclose(ours.whitened[update], wanted, atol=1e-5)
        for name in ("objective/kl", "objective/scores", "loss/policy_avg", "loss/value_avg"):
            assert log[name] == pytest.approx(logged[name], abs=1e-5), (update, name)
        for name, tensor in parameters[update].items():
            twin = theirs.parameters[update].get(stock_name(name))
            assert (twin is None) == (name == "value_head.bias")
            if twin is not None:
                assert torch.allclose(tensor, twin, atol=1e-5), (update, name)
    moved = (
        theirs.parameters[-1]["policy.transformer.wte.weight"]
        - theirs.parameters[0]["policy.transformer.wte.weight"]
    )
    assert moved.abs().max() > 1e-3 and abs(theirs.logs[-1]["objective/kl"]) > 1e-3


def stock_name(name):
    for ours, theirs in (
        ("lm.", "policy."),
        ("value_trunk.", "value_model.transformer."),
        ("value_head.", "value_model.score."),
    ):
        if name.startswith(ours):
            return theirs + name.removeprefix(ours)
    return name
