"""Models, prompts and rewards of the speed benchmarks: published sizes, random weights."""

from __future__ import annotations

import random
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertTokenizerFast,
    BlenderbotSmallConfig,
    BlenderbotSmallForConditionalGeneration,
    GPT2Config,
    GPT2ForSequenceClassification,
    GPT2LMHeadModel,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from rlhf_dialog.dialogues.schema import Example
from rlhf_dialog.discriminators.model import Discriminator
from rlhf_dialog.generators.loading import Generator, _complete

SPECIAL = ("<pad>", "<end>", "<start>")
IDS = {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2}
CONTEXT, RESPONSE = 48, 32  # longest prompt and reply, in tokens
EPISODES = 16


@dataclass(frozen=True)
class Shape:
    """A generator's size and that of the reward model beside it."""

    name: str
    width: int
    layers: int  # of the decoder, and of the encoder where there is one
    heads: int
    vocabulary: int
    encoder_decoder: bool = False
    reward_width: int = 512  # that of bert-small, the discriminator of the SeqGAN dialogue system
    reward_layers: int = 4
    positions: int = 512
    ends: float = 0.07  # probability of EOS at a token: half the replies have 10, a tenth has 32


SHAPES = {
    shape.name: shape
    for shape in (
        Shape("tiny", 64, 2, 2, 400, reward_width=64, reward_layers=2),
        Shape("dialogpt-small", 768, 12, 12, 50257),
        Shape("tiny-seq2seq", 64, 2, 2, 400, True, reward_width=64, reward_layers=2),
        Shape("blenderbot-small", 512, 8, 16, 54944, True),
    )
}


def build_generator(shape: Shape, seed: int = 0) -> Generator:
    """As this project loads it; `build_published` has it as transformers does."""
    published = build_published(shape, seed)
    return _complete(published.model, published.tokenizer)


def build_published(shape: Shape, seed: int = 0) -> Generator:
    """The model as its authors publish it, and a tokenizer of made-up words."""
    words = [*SPECIAL, *(f"w{i}" for i in range(len(SPECIAL), shape.vocabulary))]
    backend = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, SPECIAL[0]))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    pad, end, start = SPECIAL
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token=pad, eos_token=end, bos_token=start
    )
    torch.manual_seed(seed)
    if shape.encoder_decoder:
        config = BlenderbotSmallConfig(
            vocab_size=shape.vocabulary,
            d_model=shape.width,
            encoder_layers=shape.layers,
            decoder_layers=shape.layers,
            encoder_attention_heads=shape.heads,
            decoder_attention_heads=shape.heads,
            encoder_ffn_dim=4 * shape.width,
            decoder_ffn_dim=4 * shape.width,
            max_position_embeddings=shape.positions,
            activation_function="gelu",
            decoder_start_token_id=2,
            scale_embedding=True,
            tie_word_embeddings=True,
            forced_eos_token_id=None,
            **IDS,
        )
        model = BlenderbotSmallForConditionalGeneration(config)
    else:
        model = GPT2LMHeadModel(_gpt2(shape, shape.width, shape.layers, shape.heads))
    end_early(model, shape.ends)
    return Generator(model.eval(), tokenizer)


def _gpt2(shape: Shape, width: int, layers: int, heads: int) -> GPT2Config:
    return GPT2Config(
        vocab_size=shape.vocabulary,
        n_positions=shape.positions,
        n_embd=width,
        n_layer=layers,
        n_head=heads,
        **IDS,
    )


@torch.no_grad()
def end_early(model, share: float) -> None:
    """Untrained weights say every token alike; here EOS has this `share`, and pad none, which
    stock TRL would take for the end."""
    wanted = torch.tensor(share / (1 - share) * model.config.vocab_size).log()
    if model.config.is_encoder_decoder:
        model.final_logits_bias[0, model.config.eos_token_id] = wanted
        model.final_logits_bias[0, model.config.pad_token_id] = -1e4
        return
    direction = torch.ones(model.config.n_embd) / model.config.n_embd**0.5
    model.transformer.ln_f.bias += 5 * direction
    model.lm_head.weight[model.config.eos_token_id] += wanted / 5 * direction
    model.lm_head.weight[model.config.pad_token_id] -= 20 * direction


def build_examples(
    shape: Shape, count: int, *, longest: int = CONTEXT, seed: int = 0
) -> list[Example]:
    """Contexts of two turns whose prompts have from half of `longest` to `longest` tokens."""
    draw = random.Random(seed)

    def turn(tokens: int) -> str:
        return " ".join(f"w{draw.randrange(3, shape.vocabulary)}" for _ in range(tokens))

    examples = []
    for _ in range(count):
        tokens = draw.randint(longest // 2, longest) - 2  # each form puts two more between turns
        first = draw.randint(1, tokens - 1)
        context = (turn(first), turn(tokens - first))
        examples.append(Example(context, turn(8), speaker="a", dialogue_id=str(len(examples))))
    return examples


def build_reward_on_ids(shape: Shape) -> GPT2ForSequenceClassification:
    """With the generator's token ids, as stock TRL asks for."""
    heads = max(1, shape.reward_width // 64)
    config = _gpt2(shape, shape.reward_width, shape.reward_layers, heads)
    config.num_labels = 1
    config.activation_function = "gelu"  # BERT's
    torch.manual_seed(1)
    return GPT2ForSequenceClassification(config).eval()


def build_critic_on_ids(shape: Shape) -> GPT2ForSequenceClassification:
    """Stock's value model: another trunk of the generator's size. Its head is zero, as ours is, so
    that both sides value the first rollout alike: at nothing."""
    config = _gpt2(shape, shape.width, shape.layers, shape.heads)
    config.num_labels = 1
    torch.manual_seed(2)
    model = GPT2ForSequenceClassification(config).eval()
    torch.nn.init.zeros_(model.score.weight)
    return model


@torch.no_grad()
def fixed_logprobs(model: PreTrainedModel) -> list[float]:
    """What the model makes of 4 × 16 fixed tokens behind fixed prompts, nats: two sides that have
    computed the same say the same of them."""
    drawn = torch.Generator().manual_seed(5)
    ids = torch.randint(3, model.config.vocab_size, (4, 40), generator=drawn).to(model.device)
    if model.config.is_encoder_decoder:
        logits = model(input_ids=ids[:, :23], decoder_input_ids=ids[:, 23:]).logits[:, :-1]
    else:
        logits = model(input_ids=ids, logits_to_keep=17).logits[:, :-1]
    chances = logits.float().log_softmax(-1)
    return chances.gather(2, ids[:, 24:].unsqueeze(2)).flatten().tolist()


def build_reward_on_text(shape: Shape) -> Discriminator:
    """A BERT of the reward model's size on words of its own."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words = [*special, *(f"w{i}" for i in range(3, shape.vocabulary))]
    tokenizer = BertTokenizerFast(vocab={word: i for i, word in enumerate(words)})
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=shape.reward_width,
        num_hidden_layers=shape.reward_layers,
        num_attention_heads=max(1, shape.reward_width // 64),
        intermediate_size=4 * shape.reward_width,
        num_labels=1,
    )
    torch.manual_seed(1)
    return Discriminator(BertForSequenceClassification(config).eval(), tokenizer, 128)
