"""A Hub id, a folder or a fresh architecture becomes one thing: a `Generator`."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    BlenderbotSmallConfig,
    GenerationConfig,
    GPT2Config,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)
from transformers.activations import ACT2FN, NewGELUActivation

from rlhf_dialog.devices import own_device
from rlhf_dialog.dialogues.control_tokens import control_tokens
from rlhf_dialog.errors import UserError, cannot_load
from rlhf_dialog.generators import packing
from rlhf_dialog.generators.adapters import (
    adapters_of_hub,
    base_of,
    has_adapters,
    is_adapter_folder,
    save_adapters,
    with_adapters,
)

PAD_TOKEN = "<|pad|>"
ARCHITECTURES = ("gpt2", "blenderbot-small")


@dataclass
class Generator:
    """A dialogue model and the tokenizer that belongs to it.

    The pad token is always distinct from every end-of-sequence token, because a loss mask that is
    read off a shared id silently drops the end of the reply (TRL defect 12).
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase

    @property
    def is_encoder_decoder(self) -> bool:
        return bool(self.model.config.is_encoder_decoder)

    @property
    def kind(self) -> str:
        return "encoder-decoder" if self.is_encoder_decoder else "causal"

    @property
    def max_positions(self) -> int | None:
        """Longest sequence the model takes, in tokens; None where positions are relative (T5)."""
        return getattr(self.model.config, "max_position_embeddings", None)

    def round_trip(self, text: str, response_length: int | None = None) -> str:
        """`text` as this generator would have spelt it: through its tokenizer and back, and no
        longer than a response of `response_length` tokens (EOS is one of them) can be.

        A discriminator that sees raw human text beside decoded model text learns casing, spacing
        (BlenderBot-small writes ``hello , how``) and what was cut off, instead of the character.
        """
        ids = self.encode(text)
        return self.decode(ids if response_length is None else ids[: response_length - 1])

    def encode(self, text: str) -> list[int]:
        """Token ids of plain text; text that spells a control token does not become one.

        It becomes letters where the tokenizer can do so, and is left out where it cannot (tokens
        that were added without being called special).
        """
        return self.encode_all([text])[0]

    def encode_all(self, texts: list[str]) -> list[list[int]]:
        """`encode` of each text, in one call of the tokenizer."""
        if not texts:
            return []  # which tokenizers take for no text at all
        rows = self.tokenizer(
            texts, add_special_tokens=False, split_special_tokens=True, verbose=False
        )["input_ids"]
        control = control_tokens(self.tokenizer)
        return [[token for token in ids if token not in control] for ids in rows]

    def decode(self, ids: Iterable[int]) -> str:
        return self.tokenizer.decode(list(ids), skip_special_tokens=True).strip()

    def save(self, folder: Path, *, merge_adapters: bool = False) -> None:
        """Writes a folder that plain `from_pretrained` loads; of a PEFT model its adapters, or
        with `merge_adapters` the whole model with them in its weights."""
        if has_adapters(self.model):
            save_adapters(self.model, folder, merge=merge_adapters)
        else:
            self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)

    def frozen_copy(self) -> Generator:
        """An independent copy that takes no gradients, in eval mode."""
        model = rebuilt(self.model).eval().requires_grad_(False)
        return Generator(model, self.tokenizer)


def rebuilt(model: PreTrainedModel) -> PreTrainedModel:
    """A copy with weights of its own and the `forward` of its class.

    A trainer may have replaced `model.forward` by a closure over the model (TRL's SFTTrainer does),
    and the copy would go on computing with the original's weights. Building a new model from the
    config is no way out: a T5 built so ties its head to its embeddings, whatever its file says.
    """
    twin = copy.deepcopy(model)
    vars(twin).pop("forward", None)
    return twin


def load_generator(name_or_path: str, *, dtype: torch.dtype = torch.float32) -> Generator:
    """Loads a causal or an encoder-decoder language model by Hub id or folder.

    Of adapters, on the Hub or in a folder, the base model that they name, with them in its weights.

    Raises:
        UserError: the model, its tokenizer or an adapter's base is not to be found, or is of
            another kind.
    """
    if is_adapter_folder(name_or_path):
        return _load_adapters(name_or_path, dtype)
    try:
        config = AutoConfig.from_pretrained(name_or_path)
        auto = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
        tokenizer = AutoTokenizer.from_pretrained(name_or_path)
        model = auto.from_pretrained(name_or_path, dtype=dtype)
    except Exception as error:  # a broken folder raises OSError, TypeError, SafetensorError, ...
        if (adapters := adapters_of_hub(name_or_path)) is not None:
            return _load_adapters(adapters, dtype)
        raise cannot_load("generator", name_or_path, error) from error
    rows = model.get_input_embeddings().num_embeddings
    if len(tokenizer) < rows // 2:  # transformers invents an empty one where the files are missing
        missing = ValueError(f"its tokenizer has {len(tokenizer)} tokens, the model {rows}")
        raise cannot_load("generator", name_or_path, missing)
    return _complete(model, tokenizer)


def _load_adapters(folder: str, dtype: torch.dtype) -> Generator:
    base = load_generator(base_of(folder), dtype=dtype)
    return Generator(with_adapters(base.model, folder), base.tokenizer)


def check_lengths(generator: Generator, context_length: int, response_length: int) -> None:
    """Raises UserError where prompt and response do not fit into the model's positions."""
    limit = generator.max_positions
    if limit is None:
        return
    if generator.is_encoder_decoder:
        if max(context_length, response_length) > limit:
            raise UserError(
                f"context_length {context_length} or response_length {response_length} is more "
                f"than the generator's {limit} positions; lower it."
            )
    elif context_length + response_length > limit:
        raise UserError(
            f"context_length {context_length} and response_length {response_length} together are "
            f"more than the generator's {limit} positions; lower one of them."
        )


MOST_CONTEXT = 512  # tokens of a prompt, where nobody says how many


def context_room(generator: Generator, response_length: int) -> int:
    """How many tokens a prompt may have beside a response of that length, at most 512.

    Raises:
        UserError: the model's positions leave less than 8.
    """
    limit = generator.max_positions or MOST_CONTEXT
    room = limit if generator.is_encoder_decoder else limit - response_length
    if room < 8 or response_length > limit:
        raise UserError(
            f"response_length: {response_length} leaves no room for a prompt in the generator's "
            f"{limit} positions; lower it."
        )
    return min(room, MOST_CONTEXT)


def fresh_generator(
    architecture: str,
    texts: Iterable[str],
    *,
    vocab_size: int,
    hidden_size: int,
    layers: int,
    heads: int,
    positions: int,
    seed: int,
) -> Generator:
    """A small untrained generator and a byte-level BPE tokenizer made from `texts`.

    For machines that can download nothing. The architectures are the real ones: GPT-2 (which
    DialoGPT is) and BlenderBot-small; for the latter `layers` counts encoder and decoder each.
    """
    if architecture not in ARCHITECTURES:
        raise UserError(
            f"fresh_architecture: {architecture!r} is not known; choose one of {ARCHITECTURES}."
        )
    tokenizer = train_tokenizer(texts, vocab_size)
    ids = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    config: PreTrainedConfig
    if architecture == "gpt2":
        config = GPT2Config(
            vocab_size=len(tokenizer),
            n_positions=positions,
            n_embd=hidden_size,
            n_layer=layers,
            n_head=heads,
            # The same function as GPT-2's own "gelu_new", in one kernel instead of eight.
            activation_function="gelu_pytorch_tanh",
            attn_pdrop=0.0,
            **ids,
        )
    else:
        config = BlenderbotSmallConfig(
            vocab_size=len(tokenizer),
            max_position_embeddings=positions,
            d_model=hidden_size,
            encoder_layers=layers,
            decoder_layers=layers,
            encoder_attention_heads=heads,
            decoder_attention_heads=heads,
            encoder_ffn_dim=4 * hidden_size,
            decoder_ffn_dim=4 * hidden_size,
            decoder_start_token_id=tokenizer.bos_token_id,
            forced_eos_token_id=None,
            scale_embedding=True,
            **ids,
        )
    auto = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = auto.from_config(config)
    return _complete(model, tokenizer)


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE (Radford et al. 2019), so that no text of any script is unknown to it."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    special = ["<|start|>", "<|end|>", PAD_TOKEN]
    backend.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=vocab_size,
            special_tokens=special,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token=special[0], eos_token=special[1], pad_token=special[2]
    )


def _complete(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Generator:
    """Gives the pair a distinct pad token, generation settings that truncate nothing, and faster
    kernels for the same function."""
    if tokenizer.eos_token_id is None:
        raise UserError(
            "The generator's tokenizer has no end-of-sequence token; replies could never end."
        )
    if tokenizer.pad_token_id is None or tokenizer.pad_token_id == tokenizer.eos_token_id:
        tokenizer.add_special_tokens({"pad_token": PAD_TOKEN})
    _fuse_activations(model)
    packing.prepare(model)
    _grow_embeddings(model, len(tokenizer))
    model.config.pad_token_id = tokenizer.pad_token_id
    # A published file may force beams and at least 20 tokens (BlenderBot-small does), which makes
    # every sampled reply longer than the policy that is being scored would have it.
    model.generation_config = GenerationConfig(
        do_sample=True,
        top_k=0,
        top_p=1.0,
        temperature=1.0,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        decoder_start_token_id=model.config.decoder_start_token_id
        if model.config.is_encoder_decoder
        else None,
    )
    return Generator(model.to(own_device()), tokenizer)


def _fuse_activations(model: PreTrainedModel) -> None:
    """GPT-2's "gelu_new" is written in eight elementwise kernels, "gelu_pytorch_tanh" is one that
    computes the same; the configuration keeps the name it was published with."""
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, NewGELUActivation):
                setattr(module, name, ACT2FN["gelu_pytorch_tanh"])


def _grow_embeddings(model: PreTrainedModel, size: int) -> None:
    """Makes room for new tokens, each with the mean of the rows that were there.

    A random row would do harm: GPT-2's logits lie far below zero, so a new token with a logit near
    zero would be sampled almost always. The mean row has the mean logit, hence by Jensen's
    inequality a probability below 1 / vocabulary.
    """
    known = model.get_input_embeddings().num_embeddings
    if size <= known:
        return
    model.resize_token_embeddings(size, mean_resizing=False)
    with torch.no_grad():
        for layer in (model.get_input_embeddings(), model.get_output_embeddings()):
            layer.weight[known:] = layer.weight[:known].mean(0)
