"""GPT-2 written out over a model's own weights: passes over packed rows, and one new token a row.

In a small model Python in its modules takes as long as the arithmetic under it: for each token that
is drawn, masks, caches and wrappers are made anew. And a module cannot be told that of its last
layer only some states are wanted. Whatever is more than GPT-2's weights (adapters, hooks,
checkpoints) stays with the modules; `fits` says which.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import nn
from transformers import GPT2LMHeadModel, GPT2Model, PreTrainedModel
from transformers.integrations.fsdp import is_fsdp_managed_module
from transformers.models.gpt2.modeling_gpt2 import GPT2Block
from transformers.pytorch_utils import Conv1D
from transformers.utils import output_capturing

from rlhf_dialog.generators import packing
from rlhf_dialog.generators.packing import Rows


def fits(model: PreTrainedModel) -> bool:
    """Whether `model`, with its head or without, is a GPT-2 that is nothing but its weights.

    A PEFT model is not; nor can one see, in the model inside of it, that prefixes come before rows.
    """
    return (
        type(model) in (GPT2LMHeadModel, GPT2Model)
        and packing.takes_packed(model)
        and not is_fsdp_managed_module(model)
        and all(type(layer) is kind for layer, kind in _layers(model))
        and not any(_is_busy(module) for module in model.modules())
    )


def packed_hidden(
    trunk: GPT2Model,
    ids: torch.Tensor,
    positions: torch.Tensor,
    rows: tuple[Rows, ...],
    picked: torch.Tensor,
    types: torch.Tensor | None = None,
    cache: list[torch.Tensor] | None = None,
) -> torch.Tensor:
    """Last hidden states (M, H) of the `picked` tokens.

    Args:
        ids: (N,) int64 tokens, packed as `rows` say; positions: (N,) of each in its row; types:
            (N,) their types.
        picked: (M,) which tokens' states are wanted: the last layer goes no further than attention
            with the others.
        cache: is given the keys and values (N, 2, heads, D) of each layer.
    """
    states = F.embedding(ids, trunk.wte.weight)
    states = states + F.embedding(positions, trunk.wpe.weight)
    if types is not None:
        states = states + F.embedding(types, trunk.wte.weight)
    for block in trunk.h:
        read = _read(block, states)
        if cache is not None:
            cache.append(read[:, 1:])
        attended = _attend(block, read, rows)
        if block is trunk.h[-1]:
            states, attended = states[picked], attended[picked]
        states = _rest(block, states, attended)
    return _norm(trunk.ln_f, states)


def head(lm: GPT2LMHeadModel, hidden: torch.Tensor) -> torch.Tensor:
    """Logits (N, V) of last hidden states (N, H)."""
    return F.linear(hidden, lm.lm_head.weight, lm.lm_head.bias)


class Steps:
    """As `sampling.ModuleSteps`, for a model that `fits` and has no token types.

    Args:
        lm: see `fits`.
        ids: (B, P) prompts, padded on the left; mask: (B, P) bool.
        longest: tokens of a padded prompt and its response.
    """

    def __init__(
        self, lm: GPT2LMHeadModel, ids: torch.Tensor, mask: torch.Tensor, longest: int
    ) -> None:
        self.lm = lm
        self.position = mask.sum(1)  # (rows,) of the next token
        last = self.position.cumsum(0) - 1  # (rows,) of the packed tokens
        cache: list[torch.Tensor] = []
        halves = Rows.halves(mask)
        read = (ids[mask], packing.positions(halves), halves, last)
        self.hidden = packed_hidden(lm.transformer, *read, cache=cache)
        self.logits = head(lm, self.hidden)  # (rows, V)
        rows = Rows.of(mask, side="left")
        self.filled, room = rows.mask.shape[1], longest - ids.shape[1]
        # Added to the scores of attention: (rows, 1, 1, L), minus infinity at the prompts' padding.
        bias = torch.zeros_like(rows.mask, dtype=torch.float).masked_fill(~rows.mask, -torch.inf)
        self.bias = F.pad(bias, (0, room))[:, None, None]
        self.cache = [
            F.pad(rows.apart(states), (0, 0, 0, 0, 0, 0, 0, room)) for states in cache
        ]  # keys and values of each layer (rows, L, 2, heads, D)

    def select(self, rows: torch.Tensor) -> None:
        """Goes on with these rows alone."""
        self.position, self.bias = self.position[rows], self.bias[rows]
        self.cache = [states[rows] for states in self.cache]

    def step(self, ids: torch.Tensor) -> None:
        """Reads the last of the `ids` (rows, L) so far, and has `logits` (rows, V) and `hidden`
        (rows, H) for the next."""
        trunk, place = self.lm.transformer, self.filled
        self.filled += 1
        words = F.embedding(ids[:, -1], trunk.wte.weight)
        states = words + F.embedding(self.position, trunk.wpe.weight)
        self.position = self.position + 1
        for block, cache in zip(trunk.h, self.cache, strict=True):
            read = _read(block, states)
            cache[:, place] = read[:, 1:]
            keys, values = cache[:, : self.filled].permute(2, 0, 3, 1, 4)  # (rows, heads, L, D)
            attended = F.scaled_dot_product_attention(
                read[:, 0].unsqueeze(2),
                keys,
                values,
                attn_mask=self.bias[..., : self.filled].to(read.dtype),
                scale=block.attn.scaling,
            )
            states = _rest(block, states, attended.flatten(1))
        self.hidden = _norm(trunk.ln_f, states)
        self.logits = head(self.lm, self.hidden)


def _read(block: GPT2Block, states: torch.Tensor) -> torch.Tensor:
    """Queries, keys and values (N, 3, heads, D) of `states` (N, H)."""
    read = _linear(block.attn.c_attn, _norm(block.ln_1, states))
    return read.unflatten(1, (3, block.attn.num_heads, -1))


def _attend(block: GPT2Block, read: torch.Tensor, rows: tuple[Rows, ...]) -> torch.Tensor:
    """What each packed token sees of its row's, itself included: (N, 3, heads, D) -> (N, H)."""
    attended = []
    for part, own in zip(rows, read.split([len(part.place) for part in rows]), strict=True):
        query, key, value = part.apart(own).permute(2, 0, 3, 1, 4)  # each (B, heads, W, D)
        output = F.scaled_dot_product_attention(
            query, key, value, is_causal=True, scale=block.attn.scaling
        )
        attended.append(part.together(output.transpose(1, 2).flatten(2)))
    return torch.cat(attended)


def _rest(block: GPT2Block, states: torch.Tensor, attended: torch.Tensor) -> torch.Tensor:
    """A layer behind attention: states (N, H) that went in, `attended` (N, H) -> (N, H)."""
    states = states + _linear(block.attn.c_proj, attended)
    inner = block.mlp.act(_linear(block.mlp.c_fc, _norm(block.ln_2, states)))
    return states + _linear(block.mlp.c_proj, inner)


def _norm(layer: nn.LayerNorm, states: torch.Tensor) -> torch.Tensor:
    return F.layer_norm(states, layer.normalized_shape, layer.weight, layer.bias, layer.eps)


def _linear(layer: Conv1D, states: torch.Tensor) -> torch.Tensor:
    return torch.addmm(layer.bias, states, layer.weight)


def _layers(model: PreTrainedModel) -> Iterator[tuple[nn.Module, type]]:
    """All layers that hold weights, each with what it is in a GPT-2 as it was published."""
    trunk = model.base_model
    yield from ((trunk.wte, nn.Embedding), (trunk.wpe, nn.Embedding), (trunk.ln_f, nn.LayerNorm))
    if trunk is not model:
        yield model.lm_head, nn.Linear
    for block in trunk.h:
        yield from ((norm, nn.LayerNorm) for norm in (block.ln_1, block.ln_2))
        yield from ((part, Conv1D) for part in (block.attn.c_attn, block.attn.c_proj))
        yield from ((part, Conv1D) for part in (block.mlp.c_fc, block.mlp.c_proj))


def _is_busy(module: nn.Module) -> bool:
    """Whether more happens in a module than its computation: hooks, checkpoints, dropout, a
    `forward` of its own (offloading puts one there)."""
    # transformers leaves hooks on a model whose hidden states were once asked for; they idle.
    return (
        module.training
        or "forward" in vars(module)
        or bool(module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks)
        or any(h.__module__ != output_capturing.__name__ for h in module._forward_hooks.values())
        or getattr(module, "gradient_checkpointing", False)
    )
