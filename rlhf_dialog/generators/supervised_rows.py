"""Examples as the supervised stage feeds them: ids, labels, and a weight for each label."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

import torch

from rlhf_dialog.generators.loading import Generator
from rlhf_dialog.generators.prompts import build_prompt, encode_reply, pad_ids


class Row(TypedDict):
    """One example.

    `candidates` are the ids of the replies, the right one last. By the length of `input_ids`, which
    is the prompt with that reply of causal models, transformers groups examples into batches.
    """

    input_ids: list[int]
    prompt: list[int]
    token_types: list[int] | None
    reply_type: int | None
    candidates: list[list[int]]
    weight: float
    context_weight: float


def encode_row(
    generator: Generator,
    context: Sequence[str],
    candidates: Sequence[str],
    context_length: int,
    response_length: int,
    *,
    weight: float = 1.0,
    context_weight: float = 0.0,
) -> Row:
    """A context and its candidates, the right reply last.

    Args:
        weight: of each of the reply's tokens in the language-model loss.
        context_weight: of each of the prompt's tokens but the first; causal models only.
    """
    prompt = build_prompt(generator, context, context_length)
    replies = [encode_reply(generator, reply, response_length) for reply in candidates]
    return Row(
        input_ids=prompt.ids if generator.is_encoder_decoder else [*prompt.ids, *replies[-1]],
        prompt=prompt.ids,
        token_types=prompt.token_types,
        reply_type=prompt.reply_type,
        candidates=replies,
        weight=weight,
        context_weight=context_weight,
    )


def collate(generator: Generator, rows: Sequence[Row]) -> dict[str, torch.Tensor]:
    """What `TwoHeads.forward` takes, of rows with equally many candidates."""
    collated = _for_decoder if generator.is_encoder_decoder else _for_causal
    return collated(generator, rows)


def _for_causal(generator: Generator, rows: Sequence[Row]) -> dict[str, torch.Tensor]:
    """Prompt and candidate in one row, padded on the left: all end at the last column, so only the
    last K logits, of what has a weight, are ever computed."""
    pad = generator.tokenizer.pad_token_id
    whole = [[*row["prompt"], *reply] for row in rows for reply in row["candidates"]]
    ids, mask = pad_ids(whole, pad, side="left")
    labels, weights = [], []
    for row in rows:
        reply = row["candidates"][-1]
        before = row["prompt"][1:] if row["context_weight"] else []
        labels.append([*before, *reply])
        weights.append([row["context_weight"]] * len(before) + [row["weight"]] * len(reply))
    batch = {
        "input_ids": ids,
        "attention_mask": mask.long(),
        "labels": pad_ids(labels, pad, side="left")[0],
        "weights": _padded(weights, side="left"),
        "ends": torch.full((len(ids),), ids.shape[1] - 1),
    }
    if all(row["token_types"] is not None for row in rows):
        types = [
            [*(row["token_types"] or ()), *[row["reply_type"] or 0] * len(reply)]
            for row in rows
            for reply in row["candidates"]
        ]
        batch["token_type_ids"] = pad_ids(types, pad, side="left")[0]
    return batch


def _for_decoder(generator: Generator, rows: Sequence[Row]) -> dict[str, torch.Tensor]:
    pad = generator.tokenizer.pad_token_id
    start = generator.model.config.decoder_start_token_id
    ids, mask = pad_ids([row["prompt"] for row in rows], pad)
    candidates = [reply for row in rows for reply in row["candidates"]]
    decoder_ids, _ = pad_ids([[start, *reply] for reply in candidates], pad)
    width = decoder_ids.shape[1] - 1
    right = [row["candidates"][-1] for row in rows]
    labels = [[*reply, *[pad] * (width - len(reply))] for reply in right]
    weights = [[row["weight"]] * len(row["candidates"][-1]) for row in rows]
    return {
        "input_ids": ids,
        "attention_mask": mask.long(),
        "decoder_input_ids": decoder_ids,
        "labels": torch.tensor(labels),
        "weights": _padded(weights, width=width),
        "ends": torch.tensor([len(reply) for reply in candidates]),
    }


def _padded(
    rows: Sequence[Sequence[float]], *, side: str = "right", width: int | None = None
) -> torch.Tensor:
    """Rows of weights as one matrix (B, K) float32, zero where there is none."""
    width = max(map(len, rows)) if width is None else width
    matrix = torch.zeros((len(rows), width))
    for index, row in enumerate(rows):
        place = slice(width - len(row), width) if side == "left" else slice(0, len(row))
        matrix[index, place] = torch.tensor(row)
    return matrix
