"""What makes an update fast changes nothing that it computes."""

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from rlhf_dialog.generators import packing
from rlhf_dialog.ppo.update import natural_groups
from tests.ppo.trainers import rollout_of, weights


def sizes_seen(trainer):
    """(rows, columns) of what the language model reads from now on, of both its halves together."""
    sizes = []

    def look(module, arguments, options):
        read = [options[name] for name in ("input_ids", "decoder_input_ids") if name in options]
        sizes.append((len(read[0]), sum(ids.shape[1] for ids in read)))

    trainer.policy.lm.register_forward_pre_hook(look, with_kwargs=True)
    return sizes


@pytest.mark.parametrize("family", ["gpt2", "blenderbot-small", "bart"])
def test_length_groups_compute_the_same_in_more_passes_with_less_padding(build, family):
    """None is left where rows are packed, as one row for the model."""
    outcomes = []
    for groups in (1, 4):
        trainer, history = build(family, length_groups=groups, num_ppo_epochs=2)
        sizes = sizes_seen(trainer)
        update = trainer.update
        trainer.update = lambda *a, update=update, sizes=sizes: sizes.clear() or update(*a)
        trainer.train()
        outcomes.append((history.logs[0], weights(trainer.policy), sizes))
    (one, before, whole), (four, after, parts) = outcomes
    for name in ("policy/approxkl_avg", "loss/policy_avg", "loss/value_avg", "val/ratio"):
        assert four[name] == pytest.approx(one[name], abs=1e-5)
    # AdamW's first steps have the size of the learning rate, whatever the gradient's rounding
    moved = torch.cat([(a - b).abs().flatten() for a, b in zip(before, after, strict=True)])
    assert moved.quantile(0.99) < 1e-4
    packed = family != "bart"
    assert [rows for rows, _ in whole] == [1 if packed else 8] * 4
    assert [rows for rows, _ in parts] == [1 if packed else 2] * 16
    computed, wanted = (sum(a * b for a, b in sizes) for sizes in (parts, whole))
    assert computed == wanted if packed else computed < 0.95 * wanted


def test_groups_follow_from_the_models_size_and_padding(make_generator):
    assert natural_groups(make_generator("bart").model) == 1
    wide = {"vocab_size": 330_000, "n_embd": 64, "n_layer": 1, "n_head": 2, "n_positions": 8}
    large = GPT2LMHeadModel(GPT2Config(**wide))
    assert natural_groups(large) == 2
    packing.prepare(large)
    assert natural_groups(large) == 1


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("family", ["gpt2", "blenderbot-small"])
def test_in_bf16_short_rows_leave_the_fused_attention_and_drawing_does_not(
    build, family, checkpointing
):
    """Where layers are computed again, on the way back, as on the way there."""
    trainer, _ = build(family, bf16=True, gradient_checkpointing=checkpointing)
    seen = {"drawn": set(), "passes": set()}
    drawing = [False]
    respond = trainer._respond

    def drawn(*arguments, **options):
        drawing[0] = True
        result = respond(*arguments, **options)
        drawing[0] = False
        return result

    def look(*_):
        seen["drawn" if drawing[0] else "passes"].add(torch.backends.cuda.flash_sdp_enabled())

    trainer._respond = drawn
    for policy in (trainer.policy, trainer.ref_policy):
        for module in policy.lm.modules():
            if type(module).__name__.endswith("Attention"):
                module.register_forward_pre_hook(look)
    trainer.train()
    assert seen == {"drawn": {True}, "passes": {False}}


def test_what_is_kept_of_the_drawing_equals_a_pass_over_the_rollout(build, monkeypatch):
    """With a critic of either kind; and in bf16, where it does not, there is such a pass."""
    for critic in ("value_head", "separate"):
        trainer, _ = build(critic=critic)
        torch.nn.init.normal_(trainer.policy.value_head.weight, std=0.3)
        sizes = sizes_seen(trainer)
        rollout_of(trainer)  # policy and reference are the same: both are scored by one pass
        assert max(columns for _, columns in sizes[1:]) > 1
        trainer.kl_controller.last_kl = 0.1
        sizes.clear()
        rollout = rollout_of(trainer)
        mask = rollout.reply_mask
        assert max(columns for _, columns in sizes[1:]) == 1  # prompts once, then token by token
        inputs = (rollout.context_ids, rollout.context_mask, rollout.reply_ids, mask)
        with torch.no_grad():
            output = trainer.policy(*inputs)
        assert torch.allclose(rollout.logprobs, output.logprobs, atol=1e-5)
        assert torch.allclose(rollout.values, output.values, atol=1e-5)
        assert output.values.std() > 1e-3
    trainer, _ = build(bf16=True)
    trainer.kl_controller.last_kl = 0.1
    sizes = sizes_seen(trainer)
    rollout_of(trainer)
    assert max(columns for _, columns in sizes[1:]) > 1
