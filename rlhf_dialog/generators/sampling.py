"""Responses drawn from a model, with what is known of each token at the moment it is drawn.

transformers' `generate` prepares the inputs, the cache and the truncation; `_Loop` takes the place
of its sampling loop (`custom_generate`). It draws the same tokens from the same random numbers and
spends less on them: a sequence that has ended leaves the batch and its random numbers are not made
into anything, and the log-probability of a token and the state under it are kept as it is drawn, so
that nothing has to be computed again for them. Measured in docs/speed.md.
"""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

import torch
from transformers import DynamicCache, EncoderDecoderCache, GenerationConfig, PreTrainedModel
from transformers.cache_utils import LinearAttentionCacheLayerMixin
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled
from transformers.integrations.fsdp import is_fsdp_managed_module

from rlhf_dialog.errors import UserError
from rlhf_dialog.generators import gpt2, packing
from rlhf_dialog.generators.distributions import Sampling
from rlhf_dialog.generators.token_types import with_types


class Responses(NamedTuple):
    """Sampled responses; T is the length of the longest. Behind a first EOS all are padding."""

    ids: torch.Tensor  # (B, T) int64
    mask: torch.Tensor  # (B, T) bool, true up to and including the first EOS
    logprobs: torch.Tensor | None = None  # (B, T) float32 under the sampling distribution, nats
    hidden: torch.Tensor | None = None  # (B, T, H) that each token was predicted from


@torch.no_grad()
def draw(
    lm: PreTrainedModel,
    context_ids: torch.Tensor,
    context_mask: torch.Tensor,
    *,
    max_tokens: int,
    sampling: Sampling | None = None,
    prefix_ids: torch.Tensor | None = None,
    keep: bool = False,
) -> Responses:
    """Samples responses, by default from the untruncated distribution at temperature 1.

    Args:
        context_ids: (B, P) int64; context_mask: (B, P) bool.
        prefix_ids: (B, t) first tokens of the responses, unpadded; what follows is sampled and
            returned.
        keep: log-probabilities and hidden states too. They are None nevertheless where the loop is
            `generate`'s own: where ranks share one model's weights (ZeRO-3, FSDP), so that their
            loops have to keep step, and for models with another kind of cache.
    """
    config = copy.copy(lm.generation_config)
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
    if is_deepspeed_zero3_enabled() or is_fsdp_managed_module(lm):
        ids = lm.generate(**inputs, generation_config=config)[:, given:]
        return Responses(ids, mask_after_eos(ids, config.eos_token_id))
    loop = _Loop(keep, rows_are_whole=packing.takes_packed(lm))
    ids = lm.generate(**inputs, generation_config=config, custom_generate=loop.run)[:, given:]
    return Responses(ids, mask_after_eos(ids, config.eos_token_id), *loop.kept())


def mask_after_eos(ids: torch.Tensor, eos_token_id: int) -> torch.Tensor:
    """(B, T) bool: true up to and including the first EOS of each row."""
    ended_before = (ids == eos_token_id).long().cumsum(1) - (ids == eos_token_id).long()
    return ended_before == 0


class _Loop:
    """One call of `generate`; keeps what is known of the tokens that were drawn."""

    def __init__(self, keep: bool, rows_are_whole: bool) -> None:
        self.keep = keep
        self.rows_are_whole = rows_are_whole  # no adapter puts states before them
        self.drawn: list[_Drawn] = []

    def kept(self) -> tuple[torch.Tensor, torch.Tensor] | tuple[()]:
        if not self.keep or not self.drawn:  # not asked for, or drawn by `generate`'s own loop
            return ()
        return self._placed("chances", 1.0).log(), self._placed("hidden", 0.0)

    def run(
        self,
        lm: PreTrainedModel,
        input_ids: torch.Tensor,
        logits_processor: Any,
        stopping_criteria: Any,
        generation_config: GenerationConfig,
        **inputs: Any,
    ) -> torch.Tensor:
        """Ids (B, given + T): what was given and what follows, padded behind a first EOS."""
        if not _rows_can_leave(inputs.get("past_key_values")):
            given = (input_ids, logits_processor, stopping_criteria, generation_config)
            return lm._sample(*given, **inputs)
        rows = torch.arange(len(input_ids), device=input_ids.device)  # those that have not ended
        going, longest = input_ids, generation_config.max_length
        steps: gpt2.Steps | ModuleSteps
        if self.rows_are_whole and gpt2.fits(lm) and "token_type_ids" not in inputs:
            mask = inputs.get("attention_mask")  # None where nothing is padded
            mask = torch.ones_like(input_ids) if mask is None else mask
            steps = gpt2.Steps(lm, input_ids, mask.bool(), longest)
        else:
            inputs["output_hidden_states"] = self.keep
            steps = ModuleSteps(lm, inputs, lm._prefill(input_ids, generation_config, inputs))
        while True:
            chances = torch.softmax(logits_processor(going, steps.logits.float()), dim=-1)
            tokens = (chances / _exponentials(rows, input_ids, chances.shape[1])).argmax(1)
            column = tokens.unsqueeze(1)
            chance = chances.gather(1, column).squeeze(1)
            self.drawn.append(_Drawn(rows, tokens, chance, steps.hidden if self.keep else None))
            going = torch.cat([going, column], dim=1)
            on = (tokens != generation_config.eos_token_id).nonzero().squeeze(1)
            if not len(on) or going.shape[1] >= longest:
                return torch.cat([input_ids, self._ids(generation_config.pad_token_id)], dim=1)
            if len(on) < len(rows):
                rows, going = rows[on], going[on]
                steps.select(on)
            steps.step(going)

    def _ids(self, pad_token_id: int) -> torch.Tensor:
        """What was drawn (B, T), padded behind the ends."""
        if torch.cat([drawn.chances for drawn in self.drawn]).isnan().any():
            raise UserError(
                "The generator's chances of the next token are not numbers (NaN): its weights are "
                "damaged, or training has gone astray. Go on from an earlier checkpoint, with a "
                "lower learning rate."
            )
        return self._placed("tokens", pad_token_id)

    def _placed(self, name: str, fill: float) -> torch.Tensor:
        """What was kept by step and row as (B, T, ...), `fill` where a row had ended."""
        values = torch.cat([getattr(drawn, name) for drawn in self.drawn])
        rows = torch.cat([drawn.rows for drawn in self.drawn])
        lengths = torch.tensor([len(drawn.rows) for drawn in self.drawn], device=rows.device)
        times = torch.arange(len(lengths), device=rows.device).repeat_interleave(lengths)
        shape = (int(lengths[0]), len(lengths), *values.shape[1:])
        return values.new_full(shape, fill).index_put_((rows, times), values)


class _Drawn(NamedTuple):
    """What one step drew, for the rows that had not ended."""

    rows: torch.Tensor  # (rows,) of B
    tokens: torch.Tensor  # (rows,) int64
    chances: torch.Tensor  # (rows,) of the tokens
    hidden: torch.Tensor | None  # (rows, H) that they were predicted from


def _exponentials(rows: torch.Tensor, batch: torch.Tensor, vocabulary: int) -> torch.Tensor:
    """Exponential noise (rows, V) for the `rows` of a `batch` of B that go on.

    A token is drawn by dividing each one's chance by such a number and taking the largest. That is
    how `torch.multinomial` does it, for B rows, as `generate` has it do: here the same numbers are
    taken from the random generator, so that the same seed gives the same responses. On a CPU, to
    make uniform numbers exponential takes most of the time, and is left where a row has ended.
    """
    shape = (len(batch), vocabulary)
    if batch.device.type != "cpu":
        return torch.empty(shape, device=batch.device).exponential_().index_select(0, rows)
    uniform = torch.empty(shape, dtype=torch.double, device="cpu").uniform_()
    # As `exponential_` goes on, which is to float32 in the end.
    return uniform.index_select(0, rows).neg_().log1p_().neg_().float()


class ModuleSteps:
    """A model's passes over one new token a row, by its own modules.

    Args:
        lm: any model that `generate` knows.
        inputs: of `generate`'s loop.
        outputs: the model's, for the prompts.
    """

    def __init__(self, lm: PreTrainedModel, inputs: dict[str, Any], outputs: Any) -> None:
        self.lm, self.inputs = lm, inputs
        self._read(outputs)

    def select(self, rows: torch.Tensor) -> None:
        """Goes on with these rows alone."""
        self.inputs = _selected(self.inputs, rows)

    def step(self, ids: torch.Tensor) -> None:
        """Reads the last of the `ids` (rows, L) so far, and has `logits` (rows, V) and `hidden`
        (rows, H) for the next."""
        given = self.lm.prepare_inputs_for_generation(ids, next_sequence_length=1, **self.inputs)
        self._read(self.lm(**given, return_dict=True))

    def _read(self, outputs: Any) -> None:
        self.logits = outputs.logits[:, -1]
        states = outputs.get("decoder_hidden_states") or outputs.get("hidden_states")
        self.hidden = states[-1][:, -1] if states else None
        self.inputs = self.lm._update_model_kwargs_for_generation(
            outputs, self.inputs, is_encoder_decoder=self.lm.config.is_encoder_decoder
        )


def _rows_can_leave(cache: Any) -> bool:
    """Whether a cache can forget some of its rows: not that of a state-space model or a hybrid."""
    if isinstance(cache, EncoderDecoderCache):
        cache = cache.self_attention_cache
    return isinstance(cache, DynamicCache) and not any(
        isinstance(layer, LinearAttentionCacheLayerMixin) for layer in cache.layers
    )


def _selected(inputs: dict[str, Any], rows: torch.Tensor) -> dict[str, Any]:
    """The `rows` of a batch's inputs: masks, positions, the encoder's output, the cache."""
    selected = dict(inputs)
    for name, value in inputs.items():
        if isinstance(value, torch.Tensor) and value.dim() > 1:
            selected[name] = value[rows]
    if (encoded := inputs.get("encoder_outputs")) is not None:
        kept = {k: v[rows] for k, v in encoded.items() if isinstance(v, torch.Tensor)}
        selected["encoder_outputs"] = type(encoded)(**kept)
    inputs["past_key_values"].batch_select_indices(rows)
    return selected
