"""Rows of different lengths one behind the other, so that no time goes into padding.

What a transformer does token by token (embeddings, norms, products with weights, activations) reads
N real tokens as one row; attention alone needs rows, which are set apart for it and put together
behind it. That is an attention function of transformers' own kind, given to a model when it is
loaded: without packed rows it is plain `sdpa`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from rlhf_dialog.cpu import attention
from rlhf_dialog.generators.token_types import with_types

NAME = "sdpa_or_packed"
# Families whose layers hand on to attention what they do not know, and whose positions can be said;
# and whether they are encoder-decoders (BlenderBot-small has a causal model too, which is not one).
FAMILIES = {"gpt2": False, "blenderbot-small": True}


@dataclass(frozen=True)
class Rows:
    """Where N packed tokens stand in B rows of width W."""

    mask: torch.Tensor  # (B, W) bool: a token, not padding
    place: torch.Tensor  # (N,) int64 into (B·W)

    @staticmethod
    def of(mask: torch.Tensor, side: str = "right") -> Rows:
        """Rows whose padding stands on that `side`; `mask` (B, L) may have it anywhere."""
        lengths = mask.sum(1, keepdim=True)
        columns = torch.arange(max(1, int(lengths.max())), device=mask.device)
        width = len(columns)
        real = columns < lengths if side == "right" else columns >= width - lengths
        return Rows(real, real.flatten().nonzero().squeeze(1))

    @staticmethod
    def halves(mask: torch.Tensor) -> tuple[Rows, ...]:
        """The first and the second half of the rows: where they are sorted by length, the shorter
        ones are padded to their own longest."""
        return tuple(Rows.of(part) for part in mask.chunk(2))

    def bias(self, dtype: torch.dtype) -> torch.Tensor:
        """(B, 1, 1, W), added to the products of attention: minus infinity at padding."""
        bias = torch.zeros(self.mask.shape, dtype=dtype, device=self.mask.device)
        return bias.masked_fill_(~self.mask, -torch.inf)[:, None, None]

    def apart(self, packed: torch.Tensor) -> torch.Tensor:
        """(N, ...) -> (B, W, ...), zero at padding."""
        rows = packed.new_zeros(self.mask.numel(), *packed.shape[1:])
        return rows.index_copy_(0, self.place, packed).unflatten(0, self.mask.shape)

    def together(self, rows: torch.Tensor) -> torch.Tensor:
        """(B, W, ...) -> (N, ...)."""
        return rows.flatten(0, 1).index_select(0, self.place)


def attend(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    rows: tuple[Rows, ...] | None = None,
    source: tuple[Rows, ...] | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """`sdpa`, row by row where tokens are packed.

    Args:
        rows: of a causal model's tokens, or a decoder's.
        source: of an encoder's tokens.
    """
    if rows is None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout, scaling, **options
        )
    queries, keys, causal = rows, rows, source is None or module.is_causal
    if source is not None and not causal:
        queries, keys = (rows if module.is_decoder else source), source
    outputs = []
    tokens, others = ([len(part.place) for part in parts] for parts in (queries, keys))
    split = (query.split(tokens, 2), key.split(others, 2), value.split(others, 2))
    for asks, holds, *states in zip(queries, keys, *split, strict=True):
        apart = (  # (1, heads, N, D) -> (B, heads, W, D)
            part.apart(own[0].transpose(0, 1)).transpose(1, 2)
            for part, own in zip((asks, holds, holds), states, strict=True)
        )
        # Causal: no token sees the padding behind its row.
        bias = None if causal else holds.bias(query.dtype)
        output = attention(*apart, scale=scaling, bias=bias, dropout=dropout)
        outputs.append(asks.together(output.transpose(1, 2)))
    return torch.cat(outputs).unsqueeze(0), None


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, sdpa_mask)


def prepare(model: PreTrainedModel) -> None:
    """Lets a model take packed rows, where it is of a family that can and attends by `sdpa`."""
    config = model.config
    known = FAMILIES.get(config.model_type) is bool(config.is_encoder_decoder)
    if known and config._attn_implementation == "sdpa":
        model.set_attn_implementation(NAME)


def takes_packed(model: PreTrainedModel) -> bool:
    """Whether `model` has been prepared; not where adapters put states before each row."""
    adapters = getattr(model, "active_peft_config", None)
    return model.config._attn_implementation == NAME and not (
        adapters is not None and adapters.is_prompt_learning
    )


def packed_inputs(
    model: PreTrainedModel,
    context_ids: torch.Tensor,
    context_mask: torch.Tensor,
    reply_ids: torch.Tensor,
    reply_mask: torch.Tensor,
) -> tuple[dict[str, Any], tuple[torch.Tensor, torch.Tensor]]:
    """What a prepared model reads of prompts (B, P) and responses (B, T); and rows (M,), all 0, and
    columns (M,) of the states that predict each of the M real response tokens, row by row."""
    if model.config.is_encoder_decoder:
        start = torch.full_like(reply_ids[:, :1], model.config.decoder_start_token_id)
        read = torch.cat([start, reply_ids[:, :-1]], dim=1)[reply_mask]
        inputs = {
            "input_ids": context_ids[context_mask].unsqueeze(0),
            "attention_mask": _no_mask(read),
            "decoder_input_ids": read.unsqueeze(0),
            "decoder_attention_mask": _no_mask(read),
            "rows": Rows.halves(reply_mask),
            "source": Rows.halves(context_mask),
        }
        columns = torch.arange(len(read), device=read.device)
    else:
        mask = torch.cat([context_mask, reply_mask[:, 1:]], dim=1)  # no row's last token is read
        rows = Rows.halves(mask)
        inputs = {
            "input_ids": torch.cat([context_ids, reply_ids[:, :-1]], dim=1)[mask].unsqueeze(0),
            "position_ids": positions(rows).unsqueeze(0),
            "attention_mask": _no_mask(mask),
            "rows": rows,
        }
        for name, types in with_types(model.config, context_ids, reply_ids.shape[1] - 1).items():
            inputs[name] = types[mask].unsqueeze(0)
        which, tokens = reply_mask.nonzero(as_tuple=True)
        lengths = mask.sum(1)
        before = context_mask.sum(1)[which] + reply_mask.cumsum(1)[which, tokens] - 1  # in a row
        columns = (lengths.cumsum(0) - lengths)[which] + before - 1
    return inputs | {"use_cache": False}, (torch.zeros_like(columns), columns)


def _no_mask(ids: torch.Tensor) -> torch.Tensor:
    """In the place of a mask: models hand on what has four dimensions as it is, and `attend` does
    not read it."""
    return torch.ones(1, 1, 1, 1, dtype=torch.bool, device=ids.device)


def positions(rows: tuple[Rows, ...]) -> torch.Tensor:
    """(N,) of each token in its row, from 0."""
    return torch.cat([(part.mask.cumsum(1) - 1)[part.mask] for part in rows])


@contextmanager
def own_positions(model: PreTrainedModel, inputs: dict[str, Any]) -> Iterator[None]:
    """Within, an encoder-decoder that reads packed `inputs` counts positions in each row; causal
    models are told them with the `inputs`."""
    with ExitStack() as hooks:
        if "source" in inputs:
            halves = ((model.get_encoder(), "source"), (model.get_decoder(), "rows"))
            for half, name in halves:
                told = {"position_ids": positions(inputs[name])}
                handle = half.embed_positions.register_forward_pre_hook(
                    lambda _, arguments, options, told=told: (arguments, options | told),
                    with_kwargs=True,
                )
                hooks.callback(handle.remove)
        yield
