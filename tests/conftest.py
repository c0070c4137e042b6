"""Tiny real models of four architectures, untrained, on a tokenizer made from a few sentences."""

import copy
import os

os.environ["HF_HUB_OFFLINE"] = "1"  # nothing here may reach for the network
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

import pytest
import torch
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    T5Config,
    T5ForConditionalGeneration,
)

from rlhf_dialog.dialogues.schema import Example
from rlhf_dialog.generators.loading import Generator, fresh_generator, load_generator

SENTENCES = [
    "where is the captain tonight ?",
    "the captain is on the ship , as always .",
    "who took the red lamp from the harbour ?",
    "not me , i was asleep .",
    "the tide is late and the lamp is red .",
    "we sail at night when the tide is high .",
]
FAMILIES = ("gpt2", "blenderbot-small", "bart", "t5")


def _fresh(architecture):
    return fresh_generator(
        architecture,
        SENTENCES,
        vocab_size=300,
        hidden_size=32,
        layers=2 if architecture == "gpt2" else 1,
        heads=2,
        positions=64,
        seed=7,
    )


def _published(family, folder, tokenizer):
    """A BART or T5 folder as an author would publish it, dropout and forced EOS included."""
    ids = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    torch.manual_seed(7)
    if family == "bart":
        config = BartConfig(
            vocab_size=len(tokenizer),
            d_model=32,
            encoder_layers=1,
            decoder_layers=1,
            encoder_attention_heads=2,
            decoder_attention_heads=2,
            encoder_ffn_dim=64,
            decoder_ffn_dim=64,
            max_position_embeddings=64,
            bos_token_id=tokenizer.bos_token_id,
            decoder_start_token_id=tokenizer.eos_token_id,
            forced_eos_token_id=tokenizer.eos_token_id,
            **ids,
        )
        model = BartForConditionalGeneration(config)
    else:
        config = T5Config(
            vocab_size=len(tokenizer),
            d_model=32,
            d_kv=16,
            d_ff=64,
            num_layers=1,
            num_heads=2,
            decoder_start_token_id=tokenizer.pad_token_id,
            **ids,
        )
        model = T5ForConditionalGeneration(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


@pytest.fixture(scope="session")
def _originals(tmp_path_factory):
    originals = {name: _fresh(name) for name in ("gpt2", "blenderbot-small")}
    for family in ("bart", "t5"):
        folder = tmp_path_factory.mktemp(family)
        _published(family, folder, originals["gpt2"].tokenizer)
        originals[family] = load_generator(str(folder))
    for generator in originals.values():
        generator.model.eval()
    return originals


@pytest.fixture
def make_generator(_originals):
    """family -> a `Generator` of the test's own; `sharp`: with distributions far from uniform."""

    def make(family, *, sharp=False):
        original = _originals[family]
        generator = Generator(copy.deepcopy(original.model), copy.deepcopy(original.tokenizer))
        if sharp and family != "t5":  # whose own initialisation is wide enough
            with torch.no_grad():
                for parameter in generator.model.parameters():
                    if parameter.dim() > 1:
                        parameter.mul_(4)
        return generator

    return make


def attentive(generator):
    """The encoder-decoder, changed so that what it says depends on what it reads."""
    with torch.no_grad():
        for name, parameter in generator.model.named_parameters():
            if "encoder_attn" in name or "EncDecAttention" in name:
                parameter.mul_(5)
    return generator


@pytest.fixture
def examples():
    """Thirty contexts of one or two turns, each with a reply."""
    return [
        Example(
            tuple(SENTENCES[(n + k) % 6] for k in range(1 + n % 2)),
            SENTENCES[(n + 3) % 6],
            "mate",
            f"d{n}",
        )
        for n in range(30)
    ]
