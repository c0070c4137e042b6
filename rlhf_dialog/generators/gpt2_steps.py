"""GPT-2's passes over prompts and then one new token a row, from a model's own weights.

A step of a small model is microseconds of arithmetic and half a millisecond of Python in its
modules: masks, caches and wrappers are made anew for each token. Here is what `GPT2LMHeadModel`
computes for one token, written out, over a cache that is laid out once; prompts go through the
model itself, packed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from transformers import DynamicCache, GPT2LMHeadModel, PreTrainedModel
from transformers.pytorch_utils import Conv1D
from transformers.utils import output_capturing

from rlhf_dialog.generators import packing

# Settings of a GPT-2 that would have to be written out too.
VARIANTS = ("add_cross_attention", "reorder_and_upcast_attn", "scale_attn_by_inverse_layer_idx")


class GPT2Steps:
    """As `sampling.ModuleSteps`, for a model that `fits`.

    Args:
        lm: see `fits`.
        ids: (B, P) prompts, padded on the left.
        inputs: of `generate`'s loop.
        longest: tokens of a prompt and its response.
    """

    def __init__(
        self, lm: GPT2LMHeadModel, ids: torch.Tensor, inputs: dict[str, Any], longest: int
    ) -> None:
        self.lm = lm
        mask = inputs.get("attention_mask")
        mask = torch.ones_like(ids, dtype=torch.bool) if mask is None else mask.bool()
        read, cache = packing.packed_prompts(ids, mask), DynamicCache(config=lm.config)
        self.position = mask.sum(1)  # (rows,) of the next token
        last = self.position.cumsum(0) - 1  # (rows,) of the packed tokens
        output = lm.transformer(**read, picked=last, past_key_values=cache, use_cache=True)
        self.hidden = output.last_hidden_state[0, last]  # (rows, H)
        self.logits = F.linear(self.hidden, lm.lm_head.weight)  # (rows, V)
        rows = packing.Rows.of(mask, side="left")
        self.filled, room = rows.mask.shape[1], longest - ids.shape[1]
        # Added to the scores of attention: (rows, 1, 1, L), minus infinity at the prompts' padding.
        bias = torch.zeros_like(rows.mask, dtype=torch.float).masked_fill(~rows.mask, -torch.inf)
        self.bias = F.pad(bias, (0, room))[:, None, None]
        self.cache = [
            [F.pad(rows.apart(states), (0, 0, 0, room)) for states in (layer.keys, layer.values)]
            for layer in cache.layers
        ]  # keys and values of each layer, each (rows, heads, L, D)

    @staticmethod
    def fits(lm: PreTrainedModel, inputs: dict[str, Any]) -> bool:
        """Whether `lm` is a GPT-2 that is nothing but its weights: no adapters, hooks, dropout or
        attention of another kind, and no token types."""
        return (
            type(lm) is GPT2LMHeadModel
            and not lm.training
            and packing.takes_packed(lm)
            and "token_type_ids" not in inputs
            and not any(getattr(lm.config, name) for name in VARIANTS)
            and all(type(layer) is kind for layer, kind in _layers(lm))
            and not any(_hooked(module) for module in lm.modules())
        )

    def select(self, rows: torch.Tensor) -> None:
        """Goes on with these rows alone."""
        self.position, self.bias = self.position[rows], self.bias[rows]
        self.cache = [[states[rows] for states in layer] for layer in self.cache]

    def step(self, ids: torch.Tensor) -> None:
        """Reads the last of the `ids` (rows, L) so far, and has `logits` (rows, V) and `hidden`
        (rows, H) for the next."""
        trunk, place = self.lm.transformer, self.filled
        self.filled += 1
        words = F.embedding(ids[:, -1], trunk.wte.weight)
        states = words + F.embedding(self.position, trunk.wpe.weight)
        self.position = self.position + 1
        for block, (keys, values) in zip(trunk.h, self.cache, strict=True):
            read = _linear(block.attn.c_attn, _norm(block.ln_1, states))
            query, keys[:, :, place], values[:, :, place] = read.view(
                -1, 3, keys.shape[1], keys.shape[3]
            ).unbind(1)
            attended = F.scaled_dot_product_attention(
                query.unsqueeze(2),
                keys[:, :, : self.filled],
                values[:, :, : self.filled],
                attn_mask=self.bias[..., : self.filled].to(query.dtype),
                scale=block.attn.scaling,
            )
            states = states + _linear(block.attn.c_proj, attended.flatten(1))
            inner = block.mlp.act(_linear(block.mlp.c_fc, _norm(block.ln_2, states)))
            states = states + _linear(block.mlp.c_proj, inner)
        self.hidden = _norm(trunk.ln_f, states)
        self.logits = F.linear(self.hidden, self.lm.lm_head.weight)


def _layers(lm: GPT2LMHeadModel) -> Iterator[tuple[nn.Module, type]]:
    """All layers that hold weights, each with what it is in a GPT-2 as it was published."""
    trunk = lm.transformer
    yield from ((trunk.wte, nn.Embedding), (trunk.wpe, nn.Embedding))
    yield from ((trunk.ln_f, nn.LayerNorm), (lm.lm_head, nn.Linear))
    for block in trunk.h:
        yield from ((norm, nn.LayerNorm) for norm in (block.ln_1, block.ln_2))
        yield from ((part, Conv1D) for part in (block.attn.c_attn, block.attn.c_proj))
        yield from ((part, Conv1D) for part in (block.mlp.c_fc, block.mlp.c_proj))


def _hooked(module: nn.Module) -> bool:
    hooks = [*module._forward_hooks.values(), *module._forward_pre_hooks.values()]
    # transformers leaves its own on a model whose hidden states were once asked for; they idle.
    return any(hook.__module__ != output_capturing.__name__ for hook in hooks)


def _norm(layer: nn.LayerNorm, states: torch.Tensor) -> torch.Tensor:
    return F.layer_norm(states, layer.normalized_shape, layer.weight, layer.bias, layer.eps)


def _linear(layer: Conv1D, states: torch.Tensor) -> torch.Tensor:
    return torch.addmm(layer.bias, states, layer.weight)
