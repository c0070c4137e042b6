"""Any sequence classifier with one logit as a reward: `(contexts, replies) -> scores`.

Which text a model reads is decided by its tokenizer, as it was when the model was trained:

=====================================  ===========================================================
with a chat template                   the conversation as the template writes it: TRL's
                                       `RewardTrainer` on conversational data, causal or not
without, but with a separator token    the pair (context, reply): BERT-style encoders, and what
                                       train_discriminator.py and seqgan_ppo.py write
=====================================  ===========================================================
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from jinja2 import TemplateError
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from rlhf_dialog.devices import own_device
from rlhf_dialog.dialogues.control_tokens import without_control_tokens
from rlhf_dialog.discriminators.model import SCORING_BATCH, load_discriminator
from rlhf_dialog.errors import UserError, cannot_load

MOST_TOKENS = 512  # of a pair or conversation, where nobody says how many


class RewardModel(Protocol):
    """(contexts, replies) -> scores (B,) float32 on the CPU; reads at most `max_tokens` of each."""

    max_tokens: int

    def __call__(
        self, contexts: Sequence[Sequence[str]], replies: Sequence[str]
    ) -> torch.Tensor: ...


@dataclass
class ConversationRewardModel:
    """A sequence classifier with one logit that reads what its tokenizer's chat template writes.

    The turns of a context alternate between user and assistant, the last one is the user's, and the
    reply is the assistant's. A conversation of more than `max_tokens` loses its oldest turns, and
    of a last turn and reply that are still too long the first tokens. Control tokens that a text
    spells are taken out of it, so that no reply opens turns of its own or closes the conversation.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    max_tokens: int

    def __post_init__(self) -> None:
        self.user_first = not self._accepts("assistant", "user", "assistant")

    @torch.no_grad()
    def __call__(self, contexts: Sequence[Sequence[str]], replies: Sequence[str]) -> torch.Tensor:
        """Logits (B,) float32 on the CPU, in the order given; batches are sorted by length."""
        self.model.eval()
        rows = [self.token_ids(*pair) for pair in zip(contexts, replies, strict=True)]
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
        scores = torch.empty(len(rows))
        # Without a pad token the model cannot tell where a shorter row ends: one row at a time.
        size = 1 if self.model.config.get_text_config().pad_token_id is None else SCORING_BATCH
        for start in range(0, len(order), size):
            chosen = order[start : start + size]
            scores[chosen] = self._logits([rows[i] for i in chosen]).float().cpu()
        return scores

    def token_ids(self, context: Sequence[str], reply: str) -> list[int]:
        """The ids of one conversation, at most `max_tokens`."""
        turns = [without_control_tokens(self.tokenizer, turn) for turn in context]
        reply = without_control_tokens(self.tokenizer, reply)
        while True:
            roles = [
                "assistant" if (len(turns) - i) % 2 == 0 else "user" for i in range(len(turns))
            ]
            if self.user_first and roles[0] == "assistant" and len(turns) > 1:
                turns = turns[1:]
                continue
            ids = self._template([*zip(roles, turns, strict=True), ("assistant", reply)])
            if len(ids) <= self.max_tokens or len(turns) == 1:
                return ids[-self.max_tokens :]
            turns = turns[1:]

    def _template(self, messages: Sequence[tuple[str, str]]) -> list[int]:
        chat = [{"role": role, "content": content} for role, content in messages]
        return self.tokenizer.apply_chat_template(chat, tokenize=True, return_dict=True)[
            "input_ids"
        ]

    def _accepts(self, *roles: str) -> bool:
        try:
            self._template([(role, "Hello.") for role in roles])
        except TemplateError:
            return False
        return True

    def _logits(self, rows: list[list[int]]) -> torch.Tensor:
        """(b,) of rows that are padded on the right with the id that the model looks for."""
        pad = self.model.config.get_text_config().pad_token_id or 0
        longest = max(map(len, rows))
        ids = torch.tensor([row + [pad] * (longest - len(row)) for row in rows])
        mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
        device = self.model.device
        out = self.model(input_ids=ids.to(device), attention_mask=mask.to(device))
        return out.logits.squeeze(-1)


def load_reward_model(
    name_or_path: str, *, max_tokens: int | None = None, what: str
) -> RewardModel:
    """Any sequence classifier with one trained logit, by Hub id or folder.

    Args:
        max_tokens: longest pair or conversation, in its tokens; None: as many as it takes, at most
            `MOST_TOKENS`.
        what: the flag that named it, for errors.

    Raises:
        UserError: nothing to load there, no trained head, several logits, fewer positions than
            `max_tokens`, or a tokenizer that does not tell how a conversation is to be written.
    """
    try:
        config = AutoConfig.from_pretrained(name_or_path)
        tokenizer = AutoTokenizer.from_pretrained(name_or_path)
    except Exception as error:  # damaged files raise what the parser of the day raises
        raise cannot_load(what, name_or_path, error) from error
    _check_head(config, name_or_path, what)
    tokens = _token_limit(config, tokenizer, max_tokens, name_or_path)
    if not tokenizer.chat_template:
        if tokenizer.sep_token is None:
            raise UserError(
                f"--{what} {name_or_path}: its tokenizer has neither a chat template nor a "
                "separator token, so how it reads a context and a reply is unknown; set the chat "
                "template it was trained with (tokenizer.chat_template) and save it again."
            )
        return load_discriminator(name_or_path, max_tokens=tokens, what=what, trained=True)
    try:
        model, info = AutoModelForSequenceClassification.from_pretrained(
            name_or_path, num_labels=1, dtype=torch.float32, output_loading_info=True
        )
    except Exception as error:
        raise cannot_load(what, name_or_path, error) from error
    if info["missing_keys"]:
        raise _untrained(name_or_path, what)
    return ConversationRewardModel(model.eval().to(own_device()), tokenizer, tokens)


def _check_head(config: PretrainedConfig, name_or_path: str, what: str) -> None:
    """By the configuration alone: what a model class makes up for a missing head is random."""
    if not any("SequenceClassification" in name for name in config.architectures or ()):
        raise _untrained(name_or_path, what)
    if config.num_labels != 1:
        raise UserError(
            f"--{what} {name_or_path}: its head has {config.num_labels} logits and a reward needs "
            "one; train it with num_labels=1, as TRL's RewardTrainer does."
        )


def _untrained(name_or_path: str, what: str) -> UserError:
    return UserError(
        f"--{what} {name_or_path}: has no trained classification head, so its scores would be "
        "random; give one that train_discriminator.py, seqgan_ppo.py or TRL's RewardTrainer wrote."
    )


def _token_limit(
    config: PretrainedConfig,
    tokenizer: PreTrainedTokenizerBase,
    max_tokens: int | None,
    name_or_path: str,
) -> int:
    positions = getattr(config.get_text_config(), "max_position_embeddings", None) or MOST_TOKENS
    # A tokenizer's limit may be smaller (RoBERTa: 514 positions, 512 of them for text; a
    # discriminator of ours: what it was trained with); no limit is a number of thirty digits.
    limit = min(positions, tokenizer.model_max_length)
    if max_tokens is None:
        return min(limit, MOST_TOKENS)
    if max_tokens > limit:
        raise UserError(
            f"max_tokens: {max_tokens} is more than the {limit} that {name_or_path} takes; give at "
            f"most {limit}."
        )
    return max_tokens
