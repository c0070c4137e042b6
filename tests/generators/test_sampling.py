"""`draw` against transformers' own `generate`, and what it keeps against a forward pass."""

import pytest
import torch
from transformers import (
    GenerationConfig,
    Lfm2Config,
    Lfm2ForCausalLM,
    RobertaConfig,
    RobertaForCausalLM,
)

from rlhf_dialog.errors import UserError
from rlhf_dialog.generators import gpt2, sampling
from rlhf_dialog.generators.distributions import Sampling
from rlhf_dialog.generators.policy import Policy, token_logits
from rlhf_dialog.generators.prompts import encode_context, pad_prompts
from rlhf_dialog.generators.sampling import draw
from tests.conftest import FAMILIES
from tests.ppo.trainers import make_ends_likely

CONTEXTS = [["where is the captain tonight ?"], ["who ?", "not me , i was asleep ."], ["no"]] * 4


def prompts_of(make_generator, family):
    generator = make_generator(family, sharp=True)
    if family != "t5":  # whose last norm has no bias
        make_ends_likely(generator.model, generator.tokenizer.eos_token_id)
    prompts = [encode_context(generator, context, 40) for context in CONTEXTS]
    return generator, pad_prompts(prompts, generator)


@pytest.mark.parametrize("how", [Sampling(), Sampling(0.8, top_k=40, top_p=0.9)])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_same_seed_gives_the_replies_of_generate(make_generator, family, how):
    generator, (ids, mask) = prompts_of(make_generator, family)
    start = 1 if generator.is_encoder_decoder else ids.shape[1]
    torch.manual_seed(4)
    wanted = generator.model.generate(
        input_ids=ids,
        attention_mask=mask.long(),
        generation_config=GenerationConfig(
            **generator.model.generation_config.to_dict()
            | how.generation()
            | {"max_new_tokens": 12}
        ),
    )[:, start:]
    torch.manual_seed(4)
    before = generator.model.generation_config.to_dict()
    drawn = draw(generator.model, ids, mask, max_tokens=12, sampling=how)
    assert torch.equal(drawn.ids, wanted)
    assert generator.model.generation_config.to_dict() == before
    lengths = drawn.mask.sum(1)
    assert family == "t5" or (lengths.min() < lengths.max())  # some left the batch early


@torch.no_grad()
def test_models_with_other_caches_and_other_first_positions():
    """LFM2 keeps a convolution's state beside its cache; RoBERTa counts from behind its pad."""
    torch.manual_seed(6)
    lfm2 = Lfm2ForCausalLM(
        Lfm2Config(
            vocab_size=30,
            hidden_size=32,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
            layer_types=["conv", "full_attention"],
            pad_token_id=0,
            eos_token_id=1,
        )
    )
    roberta = RobertaForCausalLM(
        RobertaConfig(
            vocab_size=30,
            hidden_size=32,
            intermediate_size=32,
            is_decoder=True,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=40,
            pad_token_id=0,
            eos_token_id=1,
            initializer_range=0.1,
        )
    )
    ids = torch.tensor([[0, 0, 5, 6], [7, 8, 9, 10], [0, 11, 12, 13]] * 4)
    for model in (lfm2.eval(), roberta.eval()):
        model.generation_config.pad_token_id, model.generation_config.eos_token_id = 0, 1
        how = Sampling()
        drawn = draw(model, ids, ids != 0, max_tokens=20, sampling=how, keep=True)
        assert drawn.mask.sum(1).min() < drawn.mask.sum(1).max()
        if drawn.logprobs is not None:
            scored = Policy(model, how)(ids, ids != 0, drawn.ids, drawn.mask)
            assert torch.allclose(
                drawn.logprobs[drawn.mask], scored.logprobs[drawn.mask], atol=1e-4
            )


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_what_is_kept_is_what_a_forward_pass_says(make_generator, family):
    generator, inputs = prompts_of(make_generator, family)
    how = Sampling(0.8, top_k=40)
    torch.manual_seed(5)
    drawn = draw(generator.model, *inputs, max_tokens=12, sampling=how, keep=True)
    scored = Policy(generator.model, how)(*inputs, drawn.ids, drawn.mask)
    assert torch.allclose(drawn.logprobs[drawn.mask], scored.logprobs[drawn.mask], atol=1e-5)
    _, hidden = token_logits(generator.model, *inputs, drawn.ids, drawn.mask)
    assert torch.allclose(drawn.hidden[drawn.mask], hidden, atol=1e-4)
    ended = torch.arange(drawn.mask.shape[1]) > drawn.mask.sum(1, keepdim=True)
    assert not drawn.logprobs[ended].any() and not drawn.hidden[ended].any()


def test_ranks_that_share_one_models_weights_keep_step(make_generator, monkeypatch):
    """A rank whose replies have ended goes on with the others (ZeRO-3), as `generate` sees to."""
    generator, inputs = prompts_of(make_generator, "gpt2")
    torch.manual_seed(6)
    wanted = draw(generator.model, *inputs, max_tokens=6)
    monkeypatch.setattr(sampling, "is_deepspeed_zero3_enabled", lambda: True)
    monkeypatch.setattr(sampling._Loop, "run", None)
    torch.manual_seed(6)
    drawn = draw(generator.model, *inputs, max_tokens=6, keep=True)
    assert torch.equal(drawn.ids, wanted.ids) and drawn.logprobs is None


@pytest.mark.parametrize("family", ["gpt2", "blenderbot-small"])
def test_weights_that_are_no_numbers_draw_no_tokens(make_generator, family):
    generator, inputs = prompts_of(make_generator, family)
    torch.nn.init.constant_(generator.model.get_output_embeddings().weight[7:8], torch.nan)
    with pytest.raises(UserError, match="not numbers"):
        draw(generator.model, *inputs, max_tokens=3)


def test_the_numbers_of_rows_that_go_on_are_those_of_multinomial():
    """Those of no other row; and what is drawn after that is as it would have been."""
    chances = torch.randn(9, 300, generator=torch.Generator().manual_seed(1)).softmax(1)
    rows = torch.tensor([0, 4, 5, 8])
    torch.manual_seed(3)
    wanted = [torch.multinomial(chances, 1)[rows].squeeze(1) for _ in range(20)]
    torch.manual_seed(3)
    drawn = [
        (chances[rows] / sampling._exponentials(rows, chances, 300)).argmax(1) for _ in range(20)
    ]
    assert torch.equal(torch.stack(drawn), torch.stack(wanted))
    torch.manual_seed(3)
    noise = torch.empty(9, 300).exponential_()[rows]
    torch.manual_seed(3)
    assert torch.equal(sampling._exponentials(rows, chances, 300), noise)


@pytest.mark.parametrize("kind", [gpt2.Steps, sampling.ModuleSteps])
def test_a_batch_shrinks_as_its_replies_end(make_generator, monkeypatch, kind):
    generator, inputs = prompts_of(make_generator, "gpt2")
    sizes, step = [], kind.step
    monkeypatch.setattr(kind, "step", lambda self, ids: sizes.append(len(ids)) or step(self, ids))
    if kind is sampling.ModuleSteps:
        monkeypatch.setattr(gpt2, "fits", lambda _: False)
    torch.manual_seed(4)
    drawn = draw(generator.model, *inputs, max_tokens=12)
    going = drawn.mask.sum(0).tolist()[1:]  # before the last token, those that are not done
    assert sizes == going and going[-1] < going[0] < len(CONTEXTS)


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("bf16", [False, True])
@torch.no_grad()
def test_gpt2s_steps_are_those_of_its_modules(make_generator, monkeypatch, bf16, padded):
    """The same random numbers give the same tokens, from the same logits and states."""
    generator, (ids, mask) = prompts_of(make_generator, "gpt2")
    if padded:  # wider than the longest prompt: a part of a batch
        ids, mask = (torch.nn.functional.pad(x, (4, 0)) for x in (ids, mask))
    outcomes = []
    for written_out in (True, False):
        if not written_out:
            monkeypatch.setattr(gpt2, "fits", lambda _: False)
        torch.manual_seed(4)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            outcomes.append(draw(generator.model, ids, mask, max_tokens=12, keep=True))
    ours, theirs = outcomes
    assert ours.hidden.dtype == theirs.hidden.dtype
    if not bf16:  # whose last digits may draw another token
        assert torch.equal(ours.ids, theirs.ids)
    same = (ours.ids == theirs.ids).cumprod(1).bool() & ours.mask
    assert same.sum() > 0.5 * ours.mask.sum()
    close = {"rtol": 0.1, "atol": 0.1} if bf16 else {"rtol": 1e-4, "atol": 1e-5}
    torch.testing.assert_close(ours.logprobs[same], theirs.logprobs[same], **close)
    torch.testing.assert_close(ours.hidden[same], theirs.hidden[same], **close)


def test_what_is_more_than_weights_is_left_to_the_modules(make_generator):
    from peft import IA3Config, LoraConfig, get_peft_model

    def fits(change):
        model = make_generator("gpt2").model
        change(model)
        return gpt2.fits(model), gpt2.fits(model.base_model)

    def block(model):
        return model.transformer.h[1]

    def adapt(config):
        return lambda model: get_peft_model(model, config)

    def own_forward(model):
        block(model).ln_2.forward = lambda states: states

    ask = {"input_ids": torch.ones(1, 3, dtype=torch.long), "output_hidden_states": True}
    for change in (
        lambda model: None,
        lambda model: model(**ask),  # which leaves idle hooks
        lambda model: block(model).register_module("gate", None),
    ):
        assert fits(change) == (True, True)
    for change in (
        lambda model: model.train(),
        lambda model: model.activation_checkpointing_enable(),
        lambda model: model.set_attn_implementation("eager"),
        lambda model: block(model).mlp.register_forward_hook(print),
        lambda model: block(model).attn.register_forward_pre_hook(print),
        lambda model: block(model).ln_1.register_full_backward_hook(print),
        lambda model: block(model).ln_1.register_full_backward_pre_hook(print),
        own_forward,
        *(adapt(LoraConfig(target_modules=[name])) for name in ("c_fc", "attn.c_proj", "wte")),
        adapt(IA3Config(target_modules=["c_attn"], feedforward_modules=[])),
    ):
        assert fits(change) == (False, False)
    assert not gpt2.fits(make_generator("t5").model)
