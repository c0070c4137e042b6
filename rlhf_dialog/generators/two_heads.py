"""A generator with a second head, which tells the right next utterance from distractors.

TransferTransfo (Wolf et al. 2019): one logit from the hidden state of a candidate's last token, and
a softmax over the candidates. For GPT-2 this is transformers' `GPT2DoubleHeadsModel`; an
encoder-decoder's head reads the decoder's last token.

Shape letters: B examples, C candidates of each, the right one last, R = B·C rows, K positions at
the end of a row, H hidden width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

from rlhf_dialog.errors import UserError
from rlhf_dialog.generators.loading import Generator
from rlhf_dialog.generators.policy import hidden_size
from rlhf_dialog.generators.supervised_rows import Row, collate, encode_row

CHOICE_HEAD = "choice_head.safetensors"
DROPOUT = 0.1  # GPT-2's `summary_first_dropout`
SCORING_BATCH = 32


class ChoiceHead(nn.Linear):
    """Hidden states (..., H) to logits (...): how well a candidate that ends there fits."""

    def __init__(self, width: int) -> None:
        super().__init__(width, 1)
        nn.init.normal_(self.weight, std=0.02)  # as GPT-2's
        nn.init.zeros_(self.bias)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        dropped = F.dropout(hidden, DROPOUT, self.training)
        return super().forward(dropped.to(self.weight.dtype)).squeeze(-1)


class TwoHeads(nn.Module):
    """A language model, and a choice head where there are distractors to learn from."""

    def __init__(
        self, lm: PreTrainedModel, choice_head: ChoiceHead | None = None, choice_coef: float = 1.0
    ) -> None:
        super().__init__()
        self.lm = lm
        self.choice_head = choice_head
        self.choice_coef = choice_coef

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        labels: torch.Tensor,
        weights: torch.Tensor,
        ends: torch.Tensor,
        token_type_ids: torch.Tensor | None = None,
        decoder_input_ids: torch.Tensor | None = None,
    ) -> dict[str, torch.Tensor]:
        """What `collate` makes, as losses in nats: `lm_loss`, `choice_loss` where there is a head,
        and their weighted sum `loss`; `scores` (B, C), the logits of the head.

        Args:
            input_ids, attention_mask: (R, L) of causal models; (B, P) of an encoder.
            labels: (B, K) int64 of the right candidates.
            weights: (B, K) float of the labels; 0 where nothing is learnt.
            ends: (R,) int64, the place of each candidate's last token.
            decoder_input_ids: (R, K + 1).
        """
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask}
        if token_type_ids is not None:
            inputs["token_type_ids"] = token_type_ids
        logits, hidden = self._run(inputs, labels.shape[1] + 1, decoder_input_ids)
        candidates = len(ends) // len(labels)
        right = logits[candidates - 1 :: candidates, :-1].float()  # (B, K, V)
        nll = F.cross_entropy(right.flatten(0, 1), labels.flatten(), reduction="none")
        weights = weights.flatten()
        lm_loss = (nll * weights).sum() / weights.sum().clamp(min=1e-6)
        if self.choice_head is None:
            return {"loss": lm_loss, "lm_loss": lm_loss}
        last = hidden[torch.arange(len(ends), device=hidden.device), ends]  # (R, H)
        scores = self.choice_head(last).float().view(-1, candidates)
        target = torch.full_like(labels[:, 0], candidates - 1)
        choice_loss = F.cross_entropy(scores, target)
        loss = lm_loss + self.choice_coef * choice_loss
        return {"loss": loss, "lm_loss": lm_loss, "choice_loss": choice_loss, "scores": scores}

    def _run(
        self, inputs: dict[str, Any], kept: int, decoder_input_ids: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits (R, K + 1, V) of the last positions, and hidden states (R, length, H)."""
        heads = self.choice_head is not None
        if decoder_input_ids is None:
            mask = inputs["attention_mask"]
            places = (mask.cumsum(1) - 1).clamp(min=0)
            options = {"output_hidden_states": heads, "use_cache": False, "logits_to_keep": kept}
            output = self.lm(**inputs, position_ids=places, **options)
            return output.logits, output.hidden_states[-1] if heads else output.logits
        # The encoder runs once per context, however many candidates there are.
        state = self.lm.get_encoder()(**inputs).last_hidden_state
        times = len(decoder_input_ids) // len(state)
        output = self.lm(
            encoder_outputs=BaseModelOutput(state.repeat_interleave(times, 0)),
            attention_mask=inputs["attention_mask"].repeat_interleave(times, 0),
            decoder_input_ids=decoder_input_ids,
            output_hidden_states=heads,
            use_cache=False,
        )
        return output.logits, output.decoder_hidden_states[-1] if heads else output.logits


class ChoiceScorer:
    """How well replies fit their contexts, by the second head: a text scorer like any other,
    `(contexts, replies) -> (B,)` float32 logits on the CPU, higher is better."""

    def __init__(
        self, generator: Generator, head: ChoiceHead, *, context_length: int, response_length: int
    ) -> None:
        self.generator = generator
        self.model = TwoHeads(generator.model, head.to(generator.model.device))
        self.context_length = context_length
        self.response_length = response_length

    @torch.no_grad()
    def __call__(self, contexts: Sequence[Sequence[str]], replies: Sequence[str]) -> torch.Tensor:
        self.model.eval()
        scores = torch.empty(len(replies))
        rows: list[Row] = [
            encode_row(self.generator, context, [reply], self.context_length, self.response_length)
            for context, reply in zip(contexts, replies, strict=True)
        ]
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]["input_ids"]))
        for start in range(0, len(order), SCORING_BATCH):
            chosen = order[start : start + SCORING_BATCH]
            batch = collate(self.generator, [rows[i] for i in chosen])
            batch = {name: tensor.to(self.generator.model.device) for name, tensor in batch.items()}
            scores[chosen] = self.model(**batch)["scores"][:, 0].cpu()
        return scores


def fresh_choice_head(generator: Generator, seed: int) -> ChoiceHead:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return ChoiceHead(hidden_size(generator.model)).to(generator.model.device)


def save_choice_head(head: ChoiceHead, folder: Path) -> None:
    """Writes the head beside a generator, whose folder still loads with plain transformers."""
    state = {name: tensor.contiguous() for name, tensor in head.state_dict().items()}
    save_file(state, folder / CHOICE_HEAD)


def load_choice_head(folder: str | Path) -> ChoiceHead:
    """Reads what `save_choice_head` wrote.

    Raises:
        UserError: the folder has no such head.
    """
    file = Path(folder) / CHOICE_HEAD
    if not file.is_file():
        raise UserError(
            f"{folder}: holds no {CHOICE_HEAD}; train one with recipes/warm_start.py and "
            "--warm_start_distractors 1 or more."
        )
    state = load_file(file)
    head = ChoiceHead(state["weight"].shape[1])
    head.load_state_dict(state)
    return head
