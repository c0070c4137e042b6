"""One face over both families: log-probabilities and values of responses given prompts."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoModel, PreTrainedModel

from rlhf_dialog.errors import UserError
from rlhf_dialog.generators import gpt2, packing
from rlhf_dialog.generators.distributions import Sampling, token_entropies, token_logprobs
from rlhf_dialog.generators.sampling import draw
from rlhf_dialog.generators.token_types import with_types

VALUE_HEAD = "value_head.safetensors"


class PolicyOutput(NamedTuple):
    """What PPO needs of a batch of responses, each (B, T) float32; padding holds zeros."""

    logprobs: torch.Tensor | None  # log p(token | prompt, tokens before), nats; where asked for
    values: torch.Tensor  # V(prompt, tokens before the one at t)
    entropies: torch.Tensor | None = None  # of the next-token distribution, nats; where asked for


class Policy(nn.Module):
    """A generator and its critic: a value head on the generator's trunk, or on one of its own.

    Everything happens in `forward`, so that the hooks of DDP and ZeRO see it. The logits are the
    model's own (`PreTrainedModel.forward`; `gpt2` has GPT-2's written out), made at real response
    tokens only: N of them, not B·T.

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
        packing.prepare(lm)
        if value_trunk is not None:
            packing.prepare(value_trunk)
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
        logprobs: bool = True,
    ) -> PolicyOutput:
        """Scores responses.

        Args:
            context_ids: (B, P) int64 prompts; context_mask: (B, P) bool.
            reply_ids: (B, T) int64 responses, padded on the right; reply_mask: (B, T) bool.
            entropies: whether they are wanted too.
            logprobs: whether they are wanted; a critic with a trunk of its own does without.
        """
        inputs = (context_ids, context_mask, reply_ids, reply_mask)
        ids, trunk = reply_ids[reply_mask], self.value_trunk

        def in_place(values: torch.Tensor) -> torch.Tensor:  # (N,) -> (B, T)
            return torch.zeros(reply_mask.shape, device=values.device).masked_scatter(
                reply_mask, values.float()
            )

        if trunk is not None and not logprobs:
            return PolicyOutput(None, in_place(self.values(response_hidden(trunk, *inputs))))
        logits, hidden = token_logits(self.lm, *inputs)  # (N, V), (N, H)
        if trunk is not None:
            hidden = response_hidden(trunk, *inputs)
        logits = self.sampling.logits(logits, ids)
        return PolicyOutput(
            logprobs=in_place(token_logprobs(logits, ids)),
            values=in_place(self.values(hidden)),
            entropies=in_place(token_entropies(logits)) if entropies else None,
        )

    def values(self, hidden: torch.Tensor) -> torch.Tensor:
        """Hidden states (..., H) -> (...) float32."""
        return self.value_head(hidden.to(self.value_head.weight.dtype)).squeeze(-1).float()

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
    """Logits (B, T, V) that predict each response token, and hidden states (B, T, H) under them;
    zero at padding. For a look at few responses: `token_logits` has the real ones alone."""

    def in_place(rows: torch.Tensor) -> torch.Tensor:
        wide = rows.new_zeros(*reply_mask.shape, rows.shape[-1])
        return wide.masked_scatter(reply_mask.unsqueeze(-1), rows)

    logits, hidden = token_logits(lm, context_ids, context_mask, reply_ids, reply_mask)
    return in_place(logits), in_place(hidden)


def token_logits(
    lm: PreTrainedModel,
    context_ids: torch.Tensor,
    context_mask: torch.Tensor,
    reply_ids: torch.Tensor,
    reply_mask: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (N, V) that predict each real response token, and hidden states (N, H) under them.

    The N tokens are those of `reply_mask`, row by row.
    """
    inputs, place = _model_inputs(lm, context_ids, context_mask, reply_ids, reply_mask)
    if gpt2.fits(lm):
        hidden = _gpt2_hidden(lm.base_model, inputs, place, reply_mask)
        return gpt2.head(lm, hidden), hidden

    def pick(head: nn.Module, arguments: tuple) -> tuple[torch.Tensor]:
        return (arguments[0][place].unsqueeze(0),)

    # What a model does around its head (T5 scales, BART adds a bias, Gemma caps) stays its own.
    handle = lm.get_output_embeddings().register_forward_pre_hook(pick)
    try:
        with packing.own_positions(lm, inputs):
            output = lm(**inputs, output_hidden_states=True)
    finally:
        handle.remove()
    states = output.decoder_hidden_states if "decoder_input_ids" in inputs else output.hidden_states
    return output.logits.squeeze(0), states[-1][place]


def response_hidden(
    trunk: PreTrainedModel,
    context_ids: torch.Tensor,
    context_mask: torch.Tensor,
    reply_ids: torch.Tensor,
    reply_mask: torch.Tensor,
) -> torch.Tensor:
    """Last hidden states (N, H) of a headless model that predict each real response token."""
    inputs, place = _model_inputs(trunk, context_ids, context_mask, reply_ids, reply_mask)
    if gpt2.fits(trunk):
        return _gpt2_hidden(trunk, inputs, place, reply_mask)
    with packing.own_positions(trunk, inputs):
        return trunk(**inputs).last_hidden_state[place]


def _gpt2_hidden(
    trunk: PreTrainedModel, inputs: dict[str, Any], place: Any, reply_mask: torch.Tensor
) -> torch.Tensor:
    """(N, H) under the real response tokens, by `gpt2.packed_hidden`."""
    ids, positions = inputs["input_ids"][0], inputs["position_ids"][0]
    types = inputs["token_type_ids"][0] if "token_type_ids" in inputs else None
    asks = packing.Rows.halves(reply_mask)
    return gpt2.packed_hidden(trunk, ids, positions, inputs["rows"], place[1], asks, types)


def _model_inputs(
    model: PreTrainedModel,
    context_ids: torch.Tensor,
    context_mask: torch.Tensor,
    reply_ids: torch.Tensor,
    reply_mask: torch.Tensor,
) -> tuple[dict, tuple[torch.Tensor, torch.Tensor]]:
    """What the model reads, packed where it can be, else with as little padding as the longest row
    needs; and rows (N,) and columns (N,) of the states that predict each real response token.

    A prompt and the response tokens but the last, which predicts nothing that is asked for.
    """
    if packing.takes_packed(model):
        return packing.packed_inputs(model, context_ids, context_mask, reply_ids, reply_mask)
    rows, columns = reply_mask.nonzero(as_tuple=True)
    if model.config.is_encoder_decoder:
        width = int(reply_mask.sum(1).max())
        start = torch.full_like(reply_ids[:, :1], model.config.decoder_start_token_id)
        seen = context_mask.any(0)
        return {
            "input_ids": context_ids[:, seen],
            "attention_mask": context_mask[:, seen].long(),
            "decoder_input_ids": torch.cat([start, reply_ids[:, : width - 1]], dim=1),
            "use_cache": False,
        }, (rows, columns - width)
    mask = torch.cat([context_mask, reply_mask[:, :-1]], dim=1)
    given = {"input_ids": torch.cat([context_ids, reply_ids[:, :-1]], dim=1)}
    given |= with_types(model.config, context_ids, reply_ids.shape[1] - 1)
    # Padding moves to the end of each row, where no real token looks: no mask is needed then.
    width = int(mask.sum(1).max())
    order = (~mask).byte().argsort(dim=1, stable=True)[:, :width]
    before = context_mask.sum(1)[rows] + reply_mask.cumsum(1)[rows, columns] - 1  # real tokens
    real = mask.gather(1, order)
    packed = {name: ids.gather(1, order) for name, ids in given.items()}
    # Any token will do behind the end; models warn of a pad token without a mask.
    inputs = {name: torch.where(real, ids, ids[:, :1]) for name, ids in packed.items()}
    # Counted from 0, as `generate` does; RoBERTa's kin would begin behind their pad token.
    positions = torch.arange(width, device=order.device).expand(len(order), -1)
    return inputs | {"position_ids": positions, "use_cache": False}, (rows, before - 1 - width)


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
        for name, value in list(vars(child).items()):
            if "drop" in name and isinstance(value, float):
                setattr(child, name, 0.0)


def sample_responses(
    lm: PreTrainedModel,
    context_ids: torch.Tensor,
    context_mask: torch.Tensor,
    *,
    max_tokens: int,
    sampling: Sampling | None = None,
    prefix_ids: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids (B, T) int64 with T <= max_tokens, and mask (B, T) bool of sampled responses; see `draw`.

    The mask holds up to and including the first EOS. Nothing is read off a pad id.
    """
    drawn = draw(
        lm,
        context_ids,
        context_mask,
        max_tokens=max_tokens,
        sampling=sampling,
        prefix_ids=prefix_ids,
    )
    return drawn.ids, drawn.mask
