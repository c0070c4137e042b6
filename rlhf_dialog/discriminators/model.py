"""The discriminator: a BERT-style classifier of (context, reply) pairs with its own tokenizer.

One logit: above zero, the reply sounds like the character's own (Goodfellow et al. 2014; for
dialogue, Li et al. 2017). Contexts and replies arrive as text, so that any generator can be judged.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from tokenizers import (
    BertWordPieceTokenizer,
    Tokenizer,
    models,
    normalizers,
    pre_tokenizers,
    trainers,
)
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertTokenizerFast,
    DebertaV2Config,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from rlhf_dialog.devices import own_device
from rlhf_dialog.dialogues.control_tokens import all_without_control_tokens
from rlhf_dialog.errors import UserError, cannot_load

SCORING_BATCH = 64
SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
WORD_START = "▁"


@dataclass
class Discriminator:
    """A sequence classifier with one logit, and the tokenizer that feeds it.

    Calling it scores text: `(contexts, replies) -> FloatTensor[B]` of logits, the text-reward
    signature.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    max_tokens: int
    fresh: bool = False  # its encoder has learnt nothing yet

    @torch.no_grad()
    def __call__(self, contexts: Sequence[Sequence[str]], replies: Sequence[str]) -> torch.Tensor:
        """Logits (B,) float32 on the CPU, in the order given; batches are sorted by length."""
        self.model.eval()
        if not replies:
            return torch.empty(0)
        rows = self._tokenize(contexts, replies)
        order = sorted(range(len(replies)), key=lambda i: len(rows["input_ids"][i]))
        scores = torch.empty(len(replies))
        for start in range(0, len(order), SCORING_BATCH):
            chosen = order[start : start + SCORING_BATCH]
            batch = {name: [ids[i] for i in chosen] for name, ids in rows.items()}
            scores[chosen] = self.logits(self._padded(batch)).float().cpu()
        return scores

    def encode(self, contexts: Sequence[Sequence[str]], replies: Sequence[str]) -> dict:
        """Token tensors of a batch of pairs. The reply is kept whole, and the latest context.

        A reply longer than two thirds of `max_tokens` loses its end: it is then long enough to
        be judged, and some context has to remain.
        """
        return self._padded(self._tokenize(contexts, replies))

    def logits(self, batch: dict) -> torch.Tensor:
        """Logits (B,) of an encoded batch, with gradients where they are on."""
        return self.model(**batch).logits.squeeze(-1)

    def save(self, folder: Path) -> None:
        self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)

    def _tokenize(self, contexts: Sequence[Sequence[str]], replies: Sequence[str]) -> dict:
        """Lists of ids, not padded, by one call for all pairs: the tokenizer is slow to start.

        A separator that somebody typed would move the border between context and reply: a space
        stands in its place.
        """
        separator = f" {self.tokenizer.sep_token} "
        typed = list(dict.fromkeys([*(turn for turns in contexts for turn in turns), *replies]))
        plain = dict(zip(typed, all_without_control_tokens(self.tokenizer, typed), strict=True))
        return dict(
            self.tokenizer(
                [separator.join(plain[turn] for turn in turns) for turns in contexts],
                self._trimmed([plain[reply] for reply in replies]),
                truncation="only_first",
                max_length=self.max_tokens,
            )
        )

    def _trimmed(self, replies: Sequence[str]) -> list[str]:
        room = self.max_tokens * 2 // 3
        trimmed = list(replies)
        # no tokenizer makes more tokens than there are bytes
        long = [i for i, reply in enumerate(replies) if len(reply.encode()) > room]
        if long:
            texts = [replies[i] for i in long]
            tokens = self.tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
            for i, ids in zip(long, tokens, strict=True):
                if len(ids) > room:
                    trimmed[i] = self.tokenizer.decode(ids[:room])
        return trimmed

    def _padded(self, rows: dict) -> dict:
        batch = self.tokenizer.pad(rows, return_tensors="pt", verbose=False)
        return {name: tensor.to(self.model.device) for name, tensor in batch.items()}


def load_discriminator(
    name_or_path: str, *, max_tokens: int, what: str, seed: int = 0, trained: bool = False
) -> Discriminator:
    """Any encoder by Hub id or folder, with a head of one logit.

    Args:
        max_tokens: longest pair, in its tokens.
        what: the flag that named it, for errors.
        seed: of the head, where the file has none.
        trained: refuse a file without a head, whose scores would be random.

    Raises:
        UserError: nothing to load there, or a head that is missing.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(name_or_path)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model, info = AutoModelForSequenceClassification.from_pretrained(
                name_or_path, num_labels=1, dtype=torch.float32, output_loading_info=True
            )
    except Exception as error:  # damaged files raise what the parser of the day raises
        raise cannot_load(what, name_or_path, error) from error
    if len(tokenizer) <= len(tokenizer.all_special_ids):
        raise cannot_load(what, name_or_path, ValueError("its tokenizer has no words"))
    if tokenizer.pad_token is None or tokenizer.sep_token is None:
        raise cannot_load(
            what, name_or_path, ValueError("its tokenizer has no padding or no separator token")
        )
    if trained and info["missing_keys"]:
        raise UserError(
            f"--{what} {name_or_path}: has no trained classification head, so its scores would be "
            "random; give one that train_discriminator.py or seqgan_ppo.py wrote."
        )
    limit = getattr(model.config, "max_position_embeddings", max_tokens)
    if max_tokens > limit:
        raise UserError(
            f"discriminator_max_tokens: {max_tokens} is more than the {limit} positions of "
            f"{name_or_path}; give at most {limit}."
        )
    return _complete(model, tokenizer, max_tokens)


def fresh_discriminator(
    texts: Iterable[str], *, hidden_size: int, layers: int, max_tokens: int, seed: int
) -> Discriminator:
    """A small untrained encoder and a WordPiece tokenizer made from `texts`, for offline machines.

    DeBERTa-v2 is BERT with relative positions and a convolution over three neighbouring tokens (He
    et al. 2021, arXiv:2006.03654). A BERT of this size stays a bag of words: within the few steps
    of a pretraining it does not learn to tell a reply from its own words shuffled. More dropout
    than this delays that too.
    """
    wordpiece = BertWordPieceTokenizer(wordpiece_vocabulary(texts, size=4000), lowercase=True)
    tokenizer = BertTokenizerFast(tokenizer_object=wordpiece._tokenizer)
    config = DebertaV2Config(
        vocab_size=wordpiece.get_vocab_size(),
        hidden_size=hidden_size,
        num_hidden_layers=layers,
        num_attention_heads=max(1, hidden_size // 32),
        intermediate_size=4 * hidden_size,
        max_position_embeddings=max_tokens,
        type_vocab_size=2,  # context and reply
        position_biased_input=False,
        relative_attention=True,
        pos_att_type=["c2p", "p2c"],
        max_relative_positions=16,  # tokens farther apart than that are equally far
        share_att_key=True,
        norm_rel_ebd="layer_norm",
        conv_kernel_size=3,
        conv_act="gelu",
        hidden_dropout_prob=0.05,
        attention_probs_dropout_prob=0.05,
        num_labels=1,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = AutoModelForSequenceClassification.from_config(config)
    return replace(_complete(model, tokenizer, max_tokens), fresh=True)


def wordpiece_vocabulary(texts: Iterable[str], *, size: int) -> dict[str, int]:
    """Word pieces and their ids, the same in every process that gives the same texts.

    The library's own WordPiece trainer numbers its letters in the order of a randomly seeded hash
    map, so that two ranks, or two runs of one seed, get different vocabularies. Byte-pair merges
    over words that open with a mark are the same pieces, and sorted.
    """
    backend = Tokenizer(models.BPE())
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    mark = pre_tokenizers.Metaspace(WORD_START, prepend_scheme="always", split=False)
    backend.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.BertPreTokenizer(), mark])
    trainer = trainers.BpeTrainer(
        vocab_size=size, min_frequency=2, limit_alphabet=1000, show_progress=False
    )
    backend.train_from_iterator(list(texts), trainer)
    ids = backend.get_vocab()
    tokens = [*SPECIAL_TOKENS]
    for token in sorted(ids, key=ids.__getitem__):
        word = token.removeprefix(WORD_START)
        if word == token:
            tokens.append(f"##{token}")
        if word and (word != token or len(token) == 1):  # a letter can open a word as well
            tokens.append(word)
    return {token: i for i, token in enumerate(dict.fromkeys(tokens))}


def _complete(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, max_tokens: int
) -> Discriminator:
    tokenizer.truncation_side = "left"  # of the context: its oldest part goes first
    tokenizer.model_max_length = max_tokens
    return Discriminator(model.eval().to(own_device()), tokenizer, max_tokens)
