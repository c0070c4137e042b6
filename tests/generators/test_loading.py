import json

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

from rlhf_dialog.errors import UserError
from rlhf_dialog.generators.loading import fresh_generator, load_generator, train_tokenizer
from rlhf_dialog.generators.prompts import encode_context, pad_prompts
from tests.conftest import FAMILIES, SENTENCES

SMALL = {"vocab_size": 300, "hidden_size": 32, "layers": 1, "heads": 2, "positions": 64}
ONE_SENTENCE = r"^[^\n]*[^.\n]\.$"


@torch.no_grad()
def lower_all_logits(generator):
    """Gives a GPT-2 the offset that training gives the real one: every logit far below zero."""
    direction = torch.randn(32, generator=torch.Generator().manual_seed(1))
    generator.model.transformer.wte.weight += direction
    generator.model.transformer.ln_f.bias -= 3 * direction


@pytest.mark.parametrize("family", FAMILIES)
def test_pad_is_distinct_from_eos(make_generator, family):
    generator = make_generator(family)
    tokenizer, model = generator.tokenizer, generator.model
    assert tokenizer.pad_token_id != tokenizer.eos_token_id
    assert model.config.pad_token_id == model.generation_config.pad_token_id
    assert model.config.pad_token_id == tokenizer.pad_token_id
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id


@pytest.mark.parametrize("pad", ["<|end|>", None])
def test_a_gpt2_folder_whose_pad_is_eos_or_missing_gets_one(make_generator, tmp_path, pad):
    generator = make_generator("gpt2", sharp=True)
    generator.tokenizer.pad_token = pad
    generator.save(tmp_path)
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert settings.get("pad_token") == pad

    loaded = load_generator(str(tmp_path))
    tokenizer = loaded.tokenizer
    assert tokenizer.pad_token_id not in (None, tokenizer.eos_token_id)
    assert loaded.model.config.pad_token_id == tokenizer.pad_token_id
    assert loaded.model.get_input_embeddings().num_embeddings >= len(tokenizer)
    ids = torch.tensor([encode_context(loaded, SENTENCES[:2], 40)])
    assert torch.equal(loaded.model(ids).logits, generator.model.eval()(ids).logits)


def test_a_new_pad_token_is_next_to_never_sampled(make_generator, tmp_path):
    """GPT-2's logits lie far below zero; beside them a random new row would win every draw."""
    generator = make_generator("gpt2")
    lower_all_logits(generator)
    tokenizer = train_tokenizer(SENTENCES, 300)
    tokenizer.pad_token = None
    settings = json.loads(tokenizer.backend_tokenizer.to_str())
    generator.tokenizer = tokenizer
    generator.save(tmp_path)
    # take <|pad|> out of the folder altogether, as in GPT-2's
    settings["added_tokens"] = [t for t in settings["added_tokens"] if t["content"] != "<|pad|>"]
    settings["model"]["vocab"] = {
        ("unused" if token == "<|pad|>" else token): i
        for token, i in settings["model"]["vocab"].items()
    }
    (tmp_path / "tokenizer.json").write_text(json.dumps(settings))

    loaded = load_generator(str(tmp_path))
    pad = loaded.tokenizer.pad_token_id
    assert pad == 300 and loaded.model.get_input_embeddings().num_embeddings == 301
    ids = torch.tensor([encode_context(loaded, SENTENCES[:3], 60)])
    logits = loaded.model(ids).logits
    assert logits.mean() < -10
    assert torch.softmax(logits, dim=-1)[..., pad].max() <= 1 / 300


@pytest.mark.parametrize("family", FAMILIES)
def test_a_saved_folder_is_plain_transformers(make_generator, tmp_path, family):
    generator = make_generator(family, sharp=True)
    generator.save(tmp_path)
    auto = AutoModelForSeq2SeqLM if generator.is_encoder_decoder else AutoModelForCausalLM
    model = auto.from_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    for plain in (model, generator.model, load_generator(str(tmp_path)).model):
        plain.eval()
        ids, mask = pad_prompts([encode_context(generator, SENTENCES[:2], 50)], generator)
        extra = {"decoder_input_ids": ids[:, :4]} if generator.is_encoder_decoder else {}
        logits = plain(input_ids=ids, attention_mask=mask.long(), **extra).logits
        reference = generator.model(input_ids=ids, attention_mask=mask.long(), **extra).logits
        assert torch.equal(logits, reference)
    assert tokenizer(SENTENCES[0])["input_ids"] == generator.tokenizer(SENTENCES[0])["input_ids"]
    assert tokenizer.pad_token_id == generator.tokenizer.pad_token_id


@pytest.mark.parametrize("architecture", ["gpt2", "blenderbot-small"])
def test_a_fresh_generator_is_a_function_of_its_seed(architecture):
    state = torch.random.get_rng_state()
    one = fresh_generator(architecture, SENTENCES, seed=1, **SMALL)
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.rand(3)
    same = fresh_generator(architecture, SENTENCES, seed=1, **SMALL)
    other = fresh_generator(architecture, SENTENCES, seed=2, **SMALL)
    weights = [list(g.model.parameters()) for g in (one, same, other)]
    assert all(torch.equal(a, b) for a, b in zip(weights[0], weights[1], strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(weights[0], weights[2], strict=True))
    assert one.tokenizer.get_vocab() == same.tokenizer.get_vocab()
    assert one.kind == ("causal" if architecture == "gpt2" else "encoder-decoder")
    assert one.max_positions == 64


def test_positions_are_unlimited_where_they_are_relative(make_generator):
    assert make_generator("t5").max_positions is None
    assert make_generator("bart").max_positions == 64


def test_an_unknown_architecture_is_named():
    with pytest.raises(UserError, match=r"'lstm' is not known; choose one of .*gpt2"):
        fresh_generator("lstm", SENTENCES, seed=0, **SMALL)


def test_an_unknown_hub_id_is_told_in_one_sentence():
    with pytest.raises(UserError, match=ONE_SENTENCE) as caught:
        load_generator("nobody/no-such-model")
    assert "nobody/no-such-model" in str(caught.value) and "spelling" in str(caught.value)


def test_a_folder_without_config_is_told_in_one_sentence(tmp_path):
    with pytest.raises(UserError, match=ONE_SENTENCE) as caught:
        load_generator(str(tmp_path))
    assert str(tmp_path) in str(caught.value) and "save_pretrained" in str(caught.value)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    "broken", ["config.json", "tokenizer.json", "model.safetensors", "no tokenizer", "no weights"]
)
def test_a_broken_folder_is_told_in_one_sentence(make_generator, tmp_path, family, broken):
    make_generator(family).save(tmp_path)
    if broken == "no tokenizer":
        for file in tmp_path.glob("token*"):
            file.unlink()
    elif broken == "no weights":
        (tmp_path / "model.safetensors").unlink()
    else:
        (tmp_path / broken).write_text("{")
    with pytest.raises(UserError, match=ONE_SENTENCE) as caught:
        load_generator(str(tmp_path))
    assert str(tmp_path) in str(caught.value)


def test_a_model_of_another_kind_is_told_in_one_sentence(make_generator, tmp_path):
    generator = make_generator("gpt2")
    generator.tokenizer.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "vit"}')
    with pytest.raises(UserError, match=ONE_SENTENCE):
        load_generator(str(tmp_path))


def test_a_tokenizer_without_an_end_is_refused(make_generator, tmp_path):
    generator = make_generator("gpt2")
    generator.tokenizer.eos_token = None
    generator.save(tmp_path)
    with pytest.raises(UserError, match="no end-of-sequence token"):
        load_generator(str(tmp_path))


@pytest.mark.parametrize("family", FAMILIES)
def test_round_trip_spells_as_the_generator_does(make_generator, family):
    generator = make_generator(family)
    for text in ["Where is the captain?", "안녕 선장님 😀", "a <|end|> b"]:
        assert generator.round_trip(text) == text  # byte-level: nothing is lost
    assert generator.round_trip("  tide ") == "tide"


@pytest.mark.parametrize("special", [True, False])
def test_text_that_spells_an_added_token_does_not_become_it(make_generator, special):
    """T5's sentinels, and <think>, which models add without calling it special."""
    tokenizer = (generator := make_generator("t5")).tokenizer
    plain = generator.encode("the  tide Frodo :)")
    tokenizer.add_tokens(["<extra_id_0>", "<think>"], special_tokens=special)
    sentinels = tokenizer.convert_tokens_to_ids(["<extra_id_0>", "<think>"])
    assert not {*sentinels} & {*generator.encode("the <extra_id_0> tide <think>")}
    assert generator.encode("the  tide Frodo :)") == plain
    # What was added and reads as text is text: runs of spaces (GPT-NeoX), plain words.
    tokenizer.add_tokens(["  ", "Frodo"])
    added = tokenizer.convert_tokens_to_ids(["  ", "Frodo"])
    assert {*added} <= {*generator.encode("the  tide Frodo :)")}


def test_a_frozen_copy_is_independent_and_takes_no_gradient(make_generator):
    generator = make_generator("gpt2")
    generator.model.train()
    frozen = generator.frozen_copy()
    assert not frozen.model.training and generator.model.training
    assert not any(p.requires_grad for p in frozen.model.parameters())
    assert all(p.requires_grad for p in generator.model.parameters())
    with torch.no_grad():
        generator.model.transformer.wte.weight.zero_()
    assert frozen.model.transformer.wte.weight.any()


@torch.no_grad()
def test_a_frozen_copy_keeps_a_head_that_is_not_tied(make_generator):
    """A T5 built from its config would tie its head to its embeddings."""
    generator = make_generator("t5")
    model = generator.model
    model.lm_head.weight = torch.nn.Parameter(torch.randn_like(model.lm_head.weight))
    ids = torch.ones((1, 4), dtype=torch.long)
    copied = generator.frozen_copy().model(input_ids=ids, decoder_input_ids=ids).logits
    torch.testing.assert_close(copied, model.eval()(input_ids=ids, decoder_input_ids=ids).logits)
