import numpy as np
import pytest
import torch

from rlhf_dialog.generators.prompts import encode_context, encode_reply, pad_ids, pad_prompts
from tests.ppo.trainers import column, share_of_e, weights

both_families = pytest.mark.parametrize("family", ["gpt2", "blenderbot-small"])


LONG = {
    "max_steps": 40,
    "per_device_train_batch_size": 15,
    "num_mini_batches": 2,
    "num_ppo_epochs": 4,
    "learning_rate": 3e-3,
    "kl_target": None,
    "supervised_coef": 0.0,
    "length_residual_window": 0,
}


@both_families
def test_a_rewarded_letter_takes_over(build, family):
    trainer, history = build(family, share_of_e, kl_coef=0.02, **LONG)
    trainer.train()
    scores = column(history, "objective/scores")
    assert len(scores) == 40
    assert scores[0] < 0.1 and np.mean(scores[-5:]) > 0.8
    assert column(history, "objective/kl")[-1] > 3


@both_families
def test_a_constant_reward_moves_nothing(build, family):
    trainer, history = build(
        family, lambda c, r: torch.full((len(r),), 5.0), max_steps=4, num_ppo_epochs=2
    )
    before = weights(trainer.generator.model)
    trainer.train()
    after = weights(trainer.generator.model)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(before, after, strict=True))
    assert all(abs(kl) < 1e-5 for kl in column(history, "objective/kl"))


def test_a_higher_kl_price_keeps_the_policy_nearer(build):
    ends = []
    for kl_coef in (0.0, 0.5):
        trainer, history = build("gpt2", share_of_e, kl_coef=kl_coef, **{**LONG, "max_steps": 15})
        trainer.train()
        ends.append(np.mean(column(history, "objective/kl")[-3:]))
    assert ends[1] < 0.5 * ends[0]


def test_the_supervised_loss_teaches_real_replies(build, examples):
    losses = {}
    for coefficient in (0.0, 1.0):
        trainer, history = build(
            reward=lambda c, r: torch.zeros(len(r)),
            supervised_coef=coefficient,
            max_steps=15,
            kl_coef=0.0,
            kl_target=None,
            trainer={"supervised_examples": examples},
        )
        prompts = [encode_context(trainer.generator, e.context, 24) for e in examples]
        replies = [encode_reply(trainer.generator, e.reply, 6) for e in examples]
        inputs = (
            *pad_prompts(prompts, trainer.generator),
            *pad_ids(replies, trainer.generator.tokenizer.pad_token_id),
        )

        def nll(trainer=trainer, inputs=inputs):
            with torch.no_grad():
                return (-trainer.model(*inputs).logprobs.sum() / inputs[-1].sum()).item()

        first = nll()
        trainer.train()
        losses[coefficient] = first - nll()
        if coefficient:  # the log tells the loss itself, in nats per token
            logged = column(history, "loss/supervised_avg")
            assert logged[0] == pytest.approx(first, abs=1e-4) and logged[-1] < logged[0] - 1
        else:
            assert "loss/supervised_avg" not in history.logs[0]
    assert abs(losses[0.0]) < 1e-3 and losses[1.0] > 1
