"""Critics and adapters, and the replies of people beside the reward."""

import json

import pytest
import torch
from peft import LoraConfig, PeftModel

from rlhf_dialog.errors import UserError
from rlhf_dialog.generators.policy import Policy
from rlhf_dialog.generators.prompts import encode_reply
from rlhf_dialog.ppo.anchor import linear_schedule
from rlhf_dialog.ppo.update import RolloutOptimizer
from tests.ppo.trainers import grade, rollout_of, share_of_e, weights

both_families = pytest.mark.parametrize("family", ["gpt2", "blenderbot-small"])


# ---------------------------------------------------------------- critics


@both_families
def test_a_separate_critic_has_weights_of_its_own(build, family):
    trainer, _ = build(family, critic="separate", max_steps=2)
    policy = trainer.policy
    before = weights(policy.value_trunk)
    shared = {p.data_ptr() for p in policy.lm.parameters()}
    assert not shared & {p.data_ptr() for p in policy.value_trunk.parameters()}
    trainer.train()
    assert any(
        not torch.equal(a, b) for a, b in zip(before, weights(policy.value_trunk), strict=True)
    )


@pytest.mark.parametrize("family", ["gpt2", "blenderbot-small", "bart", "t5"])
def test_a_separate_critic_begins_where_the_generator_is(build, family):
    values = []
    for critic in ("value_head", "separate"):
        trainer, _ = build_plain(build, family, critic=critic)
        torch.manual_seed(0)
        torch.nn.init.normal_(trainer.policy.value_head.weight)
        values.append(rollout_of(trainer).values)
    assert values[0].std() > 1e-2
    assert torch.allclose(*values, atol=1e-5)


def build_plain(build, family, **values):
    with pytest.MonkeyPatch.context() as patch:  # whose hook knows two of the four families
        patch.setattr("tests.ppo.trainers.make_ends_likely", lambda *arguments: None)
        return build(family, **values)


@pytest.mark.parametrize("critic", ["value_head", "separate"])
def test_a_critic_is_saved_and_comes_back(build, tmp_path, critic):
    trainer, _ = build(critic=critic, max_steps=2)
    trainer.train()
    rollout = rollout_of(trainer)
    trainer.save_model(str(tmp_path / "saved"))
    folder = tmp_path / "saved" / "value"
    assert not list(folder.rglob("*.bin"))
    again, _ = build(critic=critic, value_path=str(folder))
    assert not again.policy.value_head.weight.eq(0).all()
    for name, tensor in trainer.policy.state_dict().items():
        if name.startswith("value"):
            assert torch.equal(tensor, again.policy.state_dict()[name])
    if critic == "separate":
        inputs = (rollout.context_ids, rollout.context_mask, rollout.reply_ids, rollout.reply_mask)
        with torch.no_grad():
            values = again.model.eval()(*inputs).values
            assert torch.allclose(values, trainer.model(*inputs).values, atol=1e-6)
    other = {"value_head": "separate", "separate": "value_head"}[critic]
    with pytest.raises(UserError, match=f"holds no critic of kind '{other}'"):
        build(critic=other, value_path=str(folder))


# ---------------------------------------------------------------- adapters


@both_families
def test_adapters_learn_and_the_base_is_the_reference(build, family, tmp_path):
    lora = LoraConfig(
        r=4,
        target_modules=["c_attn"] if family == "gpt2" else ["q_proj", "v_proj"],
        lora_dropout=0.3,
    )
    trainer, history = build(
        family, share_of_e, max_steps=3, num_ppo_epochs=2, trainer={"peft_config": lora}
    )
    model = trainer.generator.model
    assert isinstance(model, PeftModel) and trainer.ref_policy is None
    base = {n: p.clone() for n, p in model.named_parameters() if "lora" not in n}
    trainer.train()
    assert history.logs[0]["val/ratio"] != 1  # the second epoch's steps moved it
    assert history.logs[0]["objective/kl"] == pytest.approx(0, abs=1e-5)
    assert abs(history.logs[-1]["objective/kl"]) > 1e-4
    for name, tensor in base.items():
        assert torch.equal(tensor, model.get_parameter(name))
    rollout = rollout_of(trainer)
    inputs = (rollout.context_ids, rollout.context_mask, rollout.reply_ids, rollout.reply_mask)
    with torch.no_grad(), model.disable_adapter():
        plain = Policy(model, trainer.policy.sampling)(*inputs).logprobs
    assert torch.allclose(rollout.ref_logprobs, plain, atol=1e-6)
    assert (rollout.logprobs - rollout.ref_logprobs).abs().max() > 1e-4

    trainer.save_model(str(tmp_path / "adapters"))
    saved = json.loads((tmp_path / "adapters" / "adapter_config.json").read_text())
    assert saved["r"] == 4 and (tmp_path / "adapters" / "adapter_model.safetensors").is_file()
    with model.disable_adapter():
        again = PeftModel.from_pretrained(model.get_base_model(), tmp_path / "adapters", "again")
    again.set_adapter("again")
    with torch.no_grad():
        assert torch.allclose(Policy(again)(*inputs).logprobs, rollout.logprobs, atol=1e-5)


# ---------------------------------------------------------------- what people said


def test_schedules_go_from_the_first_value_to_the_last():
    assert [linear_schedule(0.4, 0.1, u, 4) for u in range(4)] == pytest.approx(
        [0.4, 0.3, 0.2, 0.1]
    )
    assert linear_schedule(0.4, 0.1, 0, 1) == 0.4


def test_the_supervised_coefficient_falls(build, examples, monkeypatch):
    trainer, _ = build(
        max_steps=3,
        supervised_coef=0.6,
        supervised_coef_final=0.0,
        trainer={"supervised_examples": examples},
    )
    seen = []
    step = RolloutOptimizer.step
    monkeypatch.setattr(RolloutOptimizer, "step", lambda *a: seen.append(a[5]) or step(*a))
    trainer.train()
    assert seen == pytest.approx([0.6, 0.3, 0.0])


@both_families
def test_demonstrations_take_a_falling_share_of_the_rollout(build, monkeypatch, family, examples):
    trainer, history = build(family, max_steps=3, demonstration_share=0.5)
    rollouts, batches = [], []
    sample = trainer.sample
    monkeypatch.setattr(
        trainer,
        "sample",
        lambda batch: batches.append(batch) or rollouts.append(sample(batch)) or rollouts[-1],
    )
    seen = []
    trainer.monitors = [lambda contexts, replies: seen.append(replies) or {}]
    trainer.train()
    assert [rollout.demonstrations for rollout in rollouts] == [8, 4, 0]
    for rollout, batch, replies in zip(rollouts, batches, seen, strict=True):
        said = rollout.demonstrations
        for row in range(said):
            ids = encode_reply(trainer.generator, batch["replies"][row], 6)
            assert rollout.reply_ids[row][rollout.reply_mask[row]].tolist() == ids
        assert replies == rollout.replies[said:]  # the log tells of the policy's own
        kl = (rollout.logprobs - rollout.ref_logprobs)[said:].sum(1).mean().item()
        step = rollouts.index(rollout)
        assert history.logs[step]["objective/kl"] == pytest.approx(kl, abs=1e-5)
        assert history.logs[step]["objective/scores"] == pytest.approx(
            grade(None, rollout.replies[said:]).mean().item()
        )


def test_demonstrations_are_learnt(build, examples):
    """A reward that tells people from the policy raises the probability of what people say."""
    people = {e.reply[:3] for e in examples}
    trainer, _ = build(
        reward=lambda c, r: torch.tensor([float(reply[:3] in people) for reply in r]),
        max_steps=8,
        num_ppo_epochs=4,
        demonstration_share=0.5,
        kl_coef=0.0,
        kl_target=None,
        length_residual_window=0,
    )
    first = said_logprob(trainer, examples)
    trainer.train()
    assert said_logprob(trainer, examples) > first + 0.5


@torch.no_grad()
def said_logprob(trainer, examples):
    trainer.anchor.examples = examples
    inputs = trainer.anchor.draw(torch.Generator().manual_seed(0))
    return (trainer.model.eval()(*inputs).logprobs.sum() / inputs[-1].sum()).item()
