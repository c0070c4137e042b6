"""Packed rows against the same model row by row, as transformers runs it."""

import copy

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    BlenderbotSmallConfig,
    BlenderbotSmallForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
)

from rlhf_dialog.generators import gpt2, packing
from rlhf_dialog.generators.policy import (
    Policy,
    disable_dropout,
    separate_trunk,
    token_logits,
)
from rlhf_dialog.generators.sampling import draw

PACKED = ("gpt2", "blenderbot-small")
CONTEXTS, REPLIES = (3, 9, 1, 20, 7), (4, 1, 12, 12, 6)  # tokens of five rows


def batch(family):
    """Context ids and mask (5, 20), reply ids and mask (5, 12)."""
    torch.manual_seed(2)
    columns = torch.arange(20)
    lengths = torch.tensor(CONTEXTS)[:, None]
    context_mask = columns >= 20 - lengths if family == "gpt2" else columns < lengths
    reply_mask = torch.arange(12) < torch.tensor(REPLIES)[:, None]
    context_ids = torch.randint(5, 250, (5, 20)).where(context_mask, 0)
    return (
        context_ids,
        context_mask,
        torch.randint(5, 250, (5, 12)).where(reply_mask, 0),
        reply_mask,
    )


def published(model):
    """The model as transformers has it, with the same weights and its own attention."""
    config = copy.deepcopy(model.config)
    config._attn_implementation = "eager"
    plain = type(model)(config)
    plain.load_state_dict(model.state_dict())
    disable_dropout(plain)
    return plain.train()


def row_by_row(model, context_ids, context_mask, reply_ids, reply_mask):
    """Logits (V,) under each real reply token, one row at a time and nothing padded."""
    logits = []
    for context, seen, reply, real in zip(
        context_ids, context_mask, reply_ids, reply_mask, strict=True
    ):
        context, reply = context[seen][None], reply[real][None]
        if model.config.is_encoder_decoder:
            start = torch.full_like(reply[:, :1], model.config.decoder_start_token_id)
            read = torch.cat([start, reply[:, :-1]], 1)
            logits.append(model(input_ids=context, decoder_input_ids=read).logits[0])
        else:
            ids = torch.cat([context, reply], 1)
            logits.append(model(input_ids=ids).logits[0, context.shape[1] - 1 : -1])
    return torch.cat(logits)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("family", PACKED)
def test_logits_and_gradients_are_those_of_each_row_by_itself(
    make_generator, family, checkpointing
):
    model = make_generator(family, sharp=True).model
    disable_dropout(model)
    assert packing.takes_packed(model)
    plain, inputs = published(model), batch(family)
    if checkpointing:
        model.train().gradient_checkpointing_enable({"use_reentrant": False})
    passes = [token_logits(model, *inputs)[0], row_by_row(plain, *inputs)]
    torch.testing.assert_close(passes[0], passes[1], rtol=1e-4, atol=1e-5)
    for logits in passes:
        torch.log_softmax(logits, -1)[:, 7].sum().backward()
    of_plain = dict(plain.named_parameters())
    for name, parameter in model.named_parameters():
        wanted = of_plain[name].grad
        torch.testing.assert_close(parameter.grad, wanted, rtol=1e-3, atol=1e-4, msg=name)
        assert wanted.abs().max() > 1e-3 or name.endswith("k_proj.bias")  # which changes nothing


@pytest.mark.parametrize("family", PACKED)
@torch.no_grad()
def test_a_critics_own_trunk_is_packed_too(make_generator, family):
    model = make_generator(family, sharp=True).model
    inputs = batch(family)
    values = []
    for name in (packing.NAME, "sdpa"):
        policy = Policy(model, value_trunk=separate_trunk(model)).eval()
        torch.manual_seed(3)
        torch.nn.init.normal_(policy.value_head.weight)
        policy.value_trunk.set_attn_implementation(name)
        values.append(policy(*inputs, logprobs=False).values)
        assert packing.takes_packed(policy.value_trunk) is (name == packing.NAME)
    torch.testing.assert_close(*values, rtol=1e-4, atol=1e-5)
    assert values[0].std() > 0.1


@pytest.mark.parametrize("written_out", [True, False])
@torch.no_grad()
def test_no_layer_reads_padding_and_the_last_only_what_is_asked_for(
    make_generator, monkeypatch, written_out
):
    """The latter where GPT-2 is written out; its modules' last layer reads all tokens."""
    model, seen = make_generator("gpt2").model, []
    if not written_out:
        monkeypatch.setattr(gpt2, "fits", lambda _: False)
    kind = type(model.transformer.h[0].mlp.act)
    call = kind.forward
    monkeypatch.setattr(kind, "forward", lambda m, x: seen.append(x.numel() // 128) or call(m, x))
    token_logits(model, *batch("gpt2"))
    tokens = sum(CONTEXTS) + sum(REPLIES) - len(REPLIES)
    assert seen == [tokens, sum(REPLIES) if written_out else tokens]


def test_what_is_saved_is_a_plain_model(make_generator, tmp_path):
    for family, kind in zip(PACKED, (AutoModelForCausalLM, AutoModelForSeq2SeqLM), strict=True):
        generator = make_generator(family)
        generator.save(tmp_path / family)
        assert packing.NAME not in (tmp_path / family / "config.json").read_text()
        again = kind.from_pretrained(tmp_path / family)
        assert again.config._attn_implementation == "sdpa"


def test_other_attention_and_other_families_are_left_alone(make_generator):
    sizes = {"vocab_size": 30, "n_embd": 8, "n_layer": 1, "n_head": 2}
    eager = GPT2LMHeadModel(GPT2Config(**sizes, attn_implementation="eager"))
    packing.prepare(eager)
    assert eager.config._attn_implementation == "eager"
    assert not any(packing.takes_packed(m) for m in (eager, make_generator("bart").model))


def test_prefixes_of_adapters_are_not_packed_and_replies_are_drawn_behind_them(make_generator):
    """They stand before each row, and a packed batch has one."""
    from peft import PrefixTuningConfig, get_peft_model

    model = make_generator("gpt2").model
    prefix = PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)
    adapted = get_peft_model(model, prefix).eval()
    assert packing.takes_packed(model) and not packing.takes_packed(adapted)
    context_ids, context_mask, reply_ids, reply_mask = batch("gpt2")
    with torch.no_grad():
        logits, _ = token_logits(adapted, context_ids, context_mask, reply_ids, reply_mask)
        first = adapted(torch.cat([context_ids[:1, -3:], reply_ids[:1, :4]], 1)).logits[0, 2:-1]
    torch.testing.assert_close(logits[:4], first, rtol=1e-4, atol=1e-5)
    drawn = draw(adapted, context_ids, context_mask, max_tokens=12, keep=True)
    with torch.no_grad():
        scored = Policy(adapted)(context_ids, context_mask, drawn.ids, drawn.mask).logprobs
        plain = Policy(model)(context_ids, context_mask, drawn.ids, drawn.mask).logprobs
    torch.testing.assert_close(drawn.logprobs * drawn.mask, scored, rtol=1e-4, atol=1e-4)
    assert (plain - scored).abs().max() > 1e-2  # the prefix tells


VARIANTS = [
    {},
    {"tie_word_embeddings": False},
    {"scale_attn_weights": False},
    {"scale_attn_by_inverse_layer_idx": True},
    {"layer_norm_epsilon": 0.3, "n_inner": 20},
    {"activation_function": "relu"},
]


@pytest.mark.parametrize("settings", VARIANTS, ids=lambda settings: "-".join(settings) or "plain")
@torch.no_grad()
def test_gpt2_written_out_is_its_modules_in_every_variant(monkeypatch, settings):
    """Drawn and scored; in float64, and from prompts that need no padding."""
    torch.manual_seed(8)
    sizes = {"vocab_size": 260, "n_positions": 40, "n_embd": 16, "n_layer": 3, "n_head": 2}
    ends = {"eos_token_id": 1, "pad_token_id": 0, "initializer_range": 0.4}
    model = GPT2LMHeadModel(GPT2Config(**sizes, **ends, **settings)).double().eval()
    model.generation_config.pad_token_id = 0
    packing.prepare(model)
    inputs = batch("gpt2")
    full = torch.randint(5, 250, (5, 9)), torch.ones(5, 9, dtype=torch.bool)
    assert gpt2.fits(model)
    outcomes = []
    for written_out in (True, False):
        if not written_out:
            monkeypatch.setattr(gpt2, "fits", lambda _: False)
        outcome = list(token_logits(model, *inputs))
        for context in (inputs[:2], full):
            torch.manual_seed(9)
            outcome += draw(model, *context, max_tokens=12, keep=True)
        outcomes.append(outcome)
    for ours, theirs in zip(*outcomes, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


@torch.no_grad()
def test_rows_without_a_token_do_no_harm(make_generator):
    """Two of five replies, which are the second half's, are empty; the parts are 3 and 2 rows."""
    for family in PACKED:
        model = make_generator(family).model
        *inputs, reply_mask = batch(family)
        some = reply_mask.clone()
        some[3:] = False
        logits, _ = token_logits(model, *inputs, some)
        whole, _ = token_logits(model, *inputs, reply_mask)
        torch.testing.assert_close(logits, whole[: len(logits)], rtol=1e-4, atol=1e-5)


def test_a_causal_model_of_the_other_family_is_left_alone():
    sizes = {"vocab_size": 30, "d_model": 8, "encoder_layers": 1, "decoder_layers": 1}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
    causal = BlenderbotSmallForCausalLM(
        BlenderbotSmallConfig(**sizes, **heads, is_encoder_decoder=False, is_decoder=True)
    )
    packing.prepare(causal)
    assert not packing.takes_packed(causal)
