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

from rlhf_dialog.cpu import attention
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
        and not _is_busy(model)
    )


def packed_hidden(
    trunk: GPT2Model,
    ids: torch.Tensor,
    positions: torch.Tensor,
    rows: tuple[Rows, ...],
    picked: torch.Tensor,
    asks: tuple[Rows, ...],
    types: torch.Tensor | None = None,
    cache: list[torch.Tensor] | None = None,
) -> torch.Tensor:
    """Last hidden states (M, H) of the `picked` tokens.

    Args:
        ids: (N,) int64 tokens, packed as `rows` say; positions: (N,) of each in its row; types:
            (N,) their types.
        picked: (M,) which tokens' states are wanted, in the same rows, which `asks` says: the last
            layer has of the others keys and values alone.
        cache: is given the keys and values (N, 2, heads, D) of each layer.
    """
    states = F.embedding(ids, trunk.wte.weight)
    states = states + F.embedding(positions, trunk.wpe.weight)
    if types is not None:
        states = states + F.embedding(types, trunk.wte.weight)
    *layers, last = (_Layer(block) for block in trunk.h)
    for layer in layers:
        read = layer.read(states)
        if cache is not None:
            cache.append(read[:, 1:])
        states = layer.rest(states, _attend(layer, read, rows))
    query, held = last.read_picked(states, picked)
    if cache is not None:
        cache.append(held)
    attended = _attend_picked(last, query, held, positions[picked], asks, rows)
    return _norm(last.rest(states.index_select(0, picked), attended), *_norm_of(trunk.ln_f))


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
        self.lm, trunk = lm, lm.transformer
        self.layers = [_Layer(block) for block in trunk.h]
        self.position = mask.sum(1)  # (rows,) of the next token
        last = self.position.cumsum(0) - 1  # (rows,) of the packed tokens
        cache: list[torch.Tensor] = []
        prompts, asks = (Rows.of(mask),), (Rows.of(torch.ones_like(mask[:, :1])),)
        read = (ids[mask], packing.positions(prompts), prompts, last, asks)
        self.hidden = packed_hidden(trunk, *read, cache=cache)
        self.logits = head(lm, self.hidden)  # (rows, V)
        rows = Rows.of(mask, side="left")
        self.filled, room = rows.mask.shape[1], longest - ids.shape[1]
        bias = F.pad(rows.bias(cache[0].dtype), (0, room))
        self.bias = bias.repeat(1, cache[0].shape[2], 1, 1)  # (rows, heads, 1, L)
        self.cache = [
            F.pad(rows.apart(states).permute(2, 0, 3, 1, 4), (0, 0, 0, room)) for states in cache
        ]  # keys and values of each layer (2, rows, heads, L, D)

    def select(self, rows: torch.Tensor) -> None:
        """Goes on with these rows alone."""
        self.position, self.bias = self.position[rows], self.bias[rows]
        # A quarter of the time of `states[:, rows]`, which goes number by number.
        self.cache = [states.index_select(1, rows) for states in self.cache]

    def step(self, ids: torch.Tensor) -> None:
        """Reads the last of the `ids` (rows, L) so far, and has `logits` (rows, V) and `hidden`
        (rows, H) for the next."""
        trunk, place = self.lm.transformer, self.filled
        self.filled += 1
        words = F.embedding(ids[:, -1], trunk.wte.weight)
        states = words + F.embedding(self.position, trunk.wpe.weight)
        self.position = self.position + 1
        bias = self.bias[..., : self.filled].flatten(0, 1)
        for layer, cache in zip(self.layers, self.cache, strict=True):
            read = layer.read(states)
            cache[..., place, :] = read[:, 1:].transpose(0, 1)
            # One product for each head of each row: the fused kernel is made for many queries.
            query = read[:, 0].reshape(len(bias), 1, -1)
            keys, values = cache[..., : self.filled, :].flatten(1, 2)  # (rows · heads, L, D)
            scores = torch.baddbmm(bias, query, keys.transpose(1, 2), alpha=layer.scale)
            attended = torch.bmm(scores.softmax(-1), values)
            states = layer.rest(states, attended.view_as(states))
        self.hidden = _norm(states, *_norm_of(trunk.ln_f))
        self.logits = head(self.lm, self.hidden)


class _Layer:
    """A layer's weights, looked up once: modules take longer to find one than to add a bias."""

    def __init__(self, block: GPT2Block) -> None:
        attn, mlp = block.attn, block.mlp
        self.heads, self.scale = attn.num_heads, attn.scaling
        self.norms = _norm_of(block.ln_1), _norm_of(block.ln_2)
        products = (attn.c_attn, attn.c_proj, mlp.c_fc, mlp.c_proj)
        self.c_attn, self.c_proj, self.c_fc, self.mlp_proj = ((p.bias, p.weight) for p in products)
        self.act = mlp.act.forward  # which nothing hooks, as `fits` says

    def read(self, states: torch.Tensor) -> torch.Tensor:
        """Queries, keys and values (N, 3, heads, D) of `states` (N, H)."""
        read = _product(_norm(states, *self.norms[0]), *self.c_attn)
        return read.unflatten(1, (3, self.heads, -1))

    def read_picked(
        self, states: torch.Tensor, picked: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Queries (M, heads, D) of the `picked` ones of `states` (N, H); keys and values of all
        (N, 2, heads, D)."""
        states, width = _norm(states, *self.norms[0]), states.shape[1]
        biases, weights = (part.split((width, 2 * width), -1) for part in self.c_attn)
        query = _product(states.index_select(0, picked), biases[0], weights[0])
        held = _product(states, biases[1], weights[1])
        return query.unflatten(1, (self.heads, -1)), held.unflatten(1, (2, self.heads, -1))

    def rest(self, states: torch.Tensor, attended: torch.Tensor) -> torch.Tensor:
        """What comes behind attention: states (N, H) that went in, `attended` (N, H) -> (N, H)."""
        states = states + _product(attended, *self.c_proj)
        inner = self.act(_product(_norm(states, *self.norms[1]), *self.c_fc))
        return states + _product(inner, *self.mlp_proj)


def _attend(layer: _Layer, read: torch.Tensor, rows: tuple[Rows, ...]) -> torch.Tensor:
    """What each token sees of its row up to itself: (N, 3, heads, D) -> (N, H)."""
    attended = []
    for row, own in zip(rows, read.split([len(row.place) for row in rows]), strict=True):
        states = row.apart(own).permute(2, 0, 3, 1, 4)  # (3, B, heads, W, D)
        output = attention(*states, scale=layer.scale)
        attended.append(row.together(output.transpose(1, 2).flatten(2)))
    return torch.cat(attended)


def _attend_picked(
    layer: _Layer,
    query: torch.Tensor,
    held: torch.Tensor,
    places: torch.Tensor,
    asks: tuple[Rows, ...],
    rows: tuple[Rows, ...],
) -> torch.Tensor:
    """The same for queries (M, heads, D) alone, where `asks` says and at `places` (M,) of their
    rows, which hold the keys and values (N, 2, heads, D)."""
    attended = []
    picked, tokens = ([len(row.place) for row in parts] for parts in (asks, rows))
    split = (query.split(picked), places.split(picked), held.split(tokens))
    for ask, row, own, place, others in zip(asks, rows, *split, strict=True):
        key, value = row.apart(others).permute(2, 0, 3, 1, 4)  # (B, heads, W, D)
        columns = torch.arange(key.shape[2], device=key.device)
        later = columns > ask.apart(place)[:, None, :, None]  # (B, 1, T, W)
        bias = torch.zeros_like(later, dtype=key.dtype).masked_fill_(later, -torch.inf)
        queries = ask.apart(own).transpose(1, 2)  # (B, heads, T, D)
        output = attention(queries, key, value, scale=layer.scale, bias=bias)
        attended.append(ask.together(output.transpose(1, 2).flatten(2)))
    return torch.cat(attended)


def _product(states: torch.Tensor, bias: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return torch.addmm(bias, states, weight)


def _norm_of(layer: nn.LayerNorm) -> tuple[torch.Tensor, torch.Tensor, float]:
    return layer.weight, layer.bias, layer.eps


def _norm(
    states: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, eps: float
) -> torch.Tensor:
    return torch.layer_norm(states, weight.shape, weight, bias, eps)


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
    """Whether more happens in a module, or in one within it, than its computation: hooks,
    checkpoints, dropout, a `forward` of its own (offloading puts one there)."""
    # Asked at every pass: what a module lacks takes it long to say, its dictionary no time.
    own = vars(module)
    hooks = own["_forward_hooks"].values()
    if (
        own["training"]
        or "forward" in own
        or own["_forward_pre_hooks"]
        or own["_backward_hooks"]
        or own["_backward_pre_hooks"]
        or own.get("gradient_checkpointing")
        # transformers leaves hooks on a model whose hidden states were once asked for; they idle.
        or (hooks and any(hook.__module__ != output_capturing.__name__ for hook in hooks))
    ):
        return True
    for child in own["_modules"].values():  # noqa: SIM110 (a generator takes as long again)
        if child is not None and _is_busy(child):
            return True
    return False
