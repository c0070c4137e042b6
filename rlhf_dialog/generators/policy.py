"""One face over both families: log-probabilities and values of responses given prompts."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoModel, GenerationConfig, PreTrainedModel

from rlhf_dialog.errors import UserError
from rlhf_dialog.generators.distributions import Sampling, token_entropies, token_logprobs
from rlhf_dialog.generators.token_types import with_types

VALUE_HEAD = "value_head.safetensors"


class PolicyOutput(NamedTuple):
    """What PPO needs of a batch of responses, each (B, T) float32; padding holds zeros."""

    logprobs: torch.Tensor  # log p(token | prompt, tokens before), nats
    values: torch.Tensor  # V(prompt, tokens before the one at t)
    entropies: torch.Tensor | None = None  # of the next-token distribution, nats; where asked for


class Policy(nn.Module):
    """A generator and its critic: a value head on the generator's trunk, or on one of its own.

    Everything happens in `forward`, so that the hooks of DDP and ZeRO see it. The logits are the
    model's own (`PreTrainedModel.forward`), asked for at response positions only.

    Args:
        lm: a causal or encoder-decoder language model, or a PEFT model around one.
        sampling: the distribution that replies are drawn from and scored under.
        value_trunk: a separate value model's trunk (see `separate_trunk`); without one the value
            head reads the generator's own hidden states.
    """

    # TRL builds its own policy-and-value wrapper from a value model's `base_model_prefix`.
    base_model_prefix = "lm"

    def __init__(
        self,
        lm: PreTrainedModel,
        sampling: Sampling | None = None,
        value_trunk: PreTrainedModel | None = None,
    ) -> None:
        super().__init__()
        self.lm = lm
        self.is_gradient_checkpointing = False  # read by TRL, which turns it off while it generates
        self._checkpointing: dict[str, Any] = {"use_reentrant": False}
        self.sampling = sampling or Sampling()
        self.value_trunk = value_trunk
        self.value_head = nn.Linear(hidden_size(lm), 1)
        # Zero: the first advantages are then the rewards themselves, not a random head's noise.
        nn.init.zeros_(self.value_head.weight)
        nn.init.zeros_(self.value_head.bias)

    def forward(
        self,
        context_ids: torch.Tensor,
        context_mask: torch.Tensor,
        reply_ids: torch.Tensor,
        reply_mask: torch.Tensor,
        entropies: bool = False,
    ) -> PolicyOutput:
        """Scores responses.

        Args:
            context_ids: (B, P) int64 prompts; context_mask: (B, P) bool.
            reply_ids: (B, T) int64 responses, padded on the right; reply_mask: (B, T) bool.
            entropies: whether they are wanted too.
        """
        inputs = (context_ids, context_mask, reply_ids, reply_mask)
        logits, hidden = response_logits(self.lm, *inputs)  # (B, T, V), (B, T, H)
        if self.value_trunk is not None:
            hidden = response_hidden(self.value_trunk, *inputs)
        values = self.value_head(hidden.to(self.value_head.weight.dtype)).squeeze(-1).float()
        logits = self.sampling.logits(logits, reply_ids)
        zero = torch.zeros((), device=logits.device)
        return PolicyOutput(
            logprobs=torch.where(reply_mask, token_logprobs(logits, reply_ids), zero),
            values=torch.where(reply_mask, values, zero),
            entropies=torch.where(reply_mask, token_entropies(logits), zero) if entropies else None,
        )

    def gradient_checkpointing_enable(self, kwargs: dict[str, Any] | None = None) -> None:
        """Keeps few activations for the backward pass and computes the others again.

        TRL calls this without arguments after each generation: they are remembered.
        """
        self._checkpointing = kwargs or self._checkpointing
        for trunk in self._trunks():
            trunk.activation_checkpointing_enable(
                activation_checkpointing_kwargs=self._checkpointing
            )
        self.is_gradient_checkpointing = True

    def gradient_checkpointing_disable(self) -> None:
        for trunk in self._trunks():
            trunk.activation_checkpointing_disable()
        self.is_gradient_checkpointing = False

    def save_value(self, folder: Path) -> None:
        """Writes the critic in safetensors: its head, and its trunk where it has its own.

        Stock TRL leaves it out of what is saved (defect 5).
        """
        folder.mkdir(parents=True, exist_ok=True)
        head = {name: tensor.contiguous() for name, tensor in self.value_head.state_dict().items()}
        save_file(head, folder / VALUE_HEAD)
        if self.value_trunk is not None:
            self.value_trunk.save_pretrained(folder)

    def load_value(self, folder: Path) -> None:
        """Reads what `save_value` wrote, in place.

        Raises:
            UserError: no critic there, or one of another kind or width.
        """
        own_trunk = self.value_trunk is not None
        if not (folder / VALUE_HEAD).is_file() or own_trunk != (folder / "config.json").is_file():
            kind = "separate" if own_trunk else "value_head"
            raise UserError(
                f"value_path {folder}: holds no critic of kind {kind!r}; give a folder `value/` "
                "that a run with the same `critic` wrote."
            )
        try:
            self.value_head.load_state_dict(load_file(folder / VALUE_HEAD))
            if self.value_trunk is not None:
                saved = type(self.value_trunk).from_pretrained(folder)
                self.value_trunk.load_state_dict(saved.state_dict())
        except Exception as error:  # of another width, or damaged
            reason = str(error).strip().splitlines()[-1].strip().rstrip(".")
            raise UserError(
                f"value_path {folder}: does not fit this generator ({reason}); give the `value/` "
                "folder of a run on the same architecture."
            ) from error

    def _trunks(self) -> list[PreTrainedModel]:
        return [self.lm] if self.value_trunk is None else [self.lm, self.value_trunk]


def separate_trunk(lm: PreTrainedModel) -> PreTrainedModel:
    """A copy of a language model without its head, for a critic with weights of its own."""
    if lm.base_model is not lm:
        return copy.deepcopy(lm.base_model)
    trunk = AutoModel.from_config(lm.config)  # T5: its trunk is not a module of its own
    known = trunk.state_dict()
    trunk.load_state_dict({k: v for k, v in lm.state_dict().items() if k in known})
    return trunk.to(lm.device)


def response_logits(
    lm: PreTrainedModel,
    context_ids: torch.Tensor,
    context_mask: torch.Tensor,
    reply_ids: torch.Tensor,
    reply_mask: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (B, T, V) that predict each response token, and hidden states (B, T, H) under them."""
    inputs = _model_inputs(lm, context_ids, context_mask, reply_ids, reply_mask)
    if lm.config.is_encoder_decoder:
        output = lm(**inputs, output_hidden_states=True)
        return output.logits, output.decoder_hidden_states[-1]
    length = reply_ids.shape[1]
    output = lm(**inputs, output_hidden_states=True, logits_to_keep=length)
    return output.logits, output.hidden_states[-1][:, -length:]


def response_hidden(
    trunk: PreTrainedModel,
    context_ids: torch.Tensor,
    context_mask: torch.Tensor,
    reply_ids: torch.Tensor,
    reply_mask: torch.Tensor,
) -> torch.Tensor:
    """Last hidden states (B, T, H) of a headless model, those that predict each response token."""
    output = trunk(**_model_inputs(trunk, context_ids, context_mask, reply_ids, reply_mask))
    return output.last_hidden_state[:, -reply_ids.shape[1] :]


def _model_inputs(
    model: PreTrainedModel,
    context_ids: torch.Tensor,
    context_mask: torch.Tensor,
    reply_ids: torch.Tensor,
    reply_mask: torch.Tensor,
) -> dict:
    """A prompt and the response tokens but the last, which predicts nothing that is asked for."""
    if model.config.is_encoder_decoder:
        start = torch.full_like(reply_ids[:, :1], model.config.decoder_start_token_id)
        return {
            "input_ids": context_ids,
            "attention_mask": context_mask.long(),
            "decoder_input_ids": torch.cat([start, reply_ids[:, :-1]], dim=1),
            "use_cache": False,
        }
    mask = torch.cat([context_mask, reply_mask[:, :-1]], dim=1).long()
    types = with_types(model.config, context_ids, reply_ids.shape[1] - 1)
    return types | {
        "input_ids": torch.cat([context_ids, reply_ids[:, :-1]], dim=1),
        "attention_mask": mask,
        "position_ids": (mask.cumsum(1) - 1).clamp(min=0),
        "use_cache": False,
    }


def hidden_size(lm: PreTrainedModel) -> int:
    """Width of the hidden states under the head: its name differs by family, its shape not."""
    return lm.get_output_embeddings().weight.shape[1]


def disable_dropout(module: nn.Module) -> None:
    """Takes dropout out for good: a policy must score what it sampled (TRL defect 16).

    BART-like layers keep their rates as plain numbers and call the functional form, so clearing
    `nn.Dropout` modules is not enough.
    """
    for child in module.modules():
        if isinstance(child, nn.Dropout):
            child.p = 0.0
        for name in ("dropout", "attention_dropout", "activation_dropout", "layerdrop"):
            if isinstance(getattr(child, name, None), float):
                setattr(child, name, 0.0)


@torch.no_grad()
def sample_responses(
    lm: PreTrainedModel,
    context_ids: torch.Tensor,
    context_mask: torch.Tensor,
    *,
    max_tokens: int,
    sampling: Sampling | None = None,
    prefix_ids: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Samples responses, by default from the untruncated distribution at temperature 1.

    Args:
        prefix_ids: (B, t) first tokens of the responses, unpadded; what follows is sampled and
            returned.

    Returns:
        ids (B, T) int64 with T <= max_tokens, and mask (B, T) bool that holds up to and including
        the first EOS. Nothing is read off a pad id.
    """
    config = GenerationConfig(**lm.generation_config.to_dict())
    config.update(**(sampling or Sampling()).generation())
    config.update(max_new_tokens=max_tokens, min_length=0, num_beams=1)
    prefix = context_ids[:, :0] if prefix_ids is None else prefix_ids
    inputs = {"input_ids": context_ids, "attention_mask": context_mask.long()}
    if lm.config.is_encoder_decoder:
        start = torch.full_like(context_ids[:, :1], lm.config.decoder_start_token_id)
        inputs["decoder_input_ids"] = torch.cat([start, prefix], dim=1)
        given = 1 + prefix.shape[1]
    else:
        inputs["input_ids"] = torch.cat([context_ids, prefix], dim=1)
        mask = torch.cat([context_mask, torch.ones_like(prefix, dtype=torch.bool)], dim=1)
        inputs["attention_mask"] = mask.long()
        inputs |= with_types(lm.config, context_ids, prefix.shape[1])
        given = inputs["input_ids"].shape[1]
    ids = lm.generate(**inputs, generation_config=config)[:, given:]
    return ids, mask_after_eos(ids, config.eos_token_id)


def mask_after_eos(ids: torch.Tensor, eos_token_id: int) -> torch.Tensor:
    """(B, T) bool: true up to and including the first EOS of each row."""
    ended_before = (ids == eos_token_id).long().cumsum(1) - (ids == eos_token_id).long()
    return ended_before == 0
