"""How a context (texts, oldest first) becomes a prompt (token ids), one form per family.

========================  =====================================================================
causal (DialoGPT)         ``turn <eos> turn <eos>``: turns joined and closed by EOS
causal with a template    the model's own chat template; the last turn is the user's
BlenderBot-small          ``turn __end__ __start__ turn``: as its authors' examples join turns
other encoder-decoders    ``turn \\n turn <eos>``
========================  =====================================================================

A context that is too long loses its oldest turns first; a single turn that is too long loses its
beginning. A reply is its token ids and EOS.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from rlhf_dialog.generators.loading import Generator

IGNORED = -100  # label of a position that no loss sees


def encode_context(generator: Generator, context: Sequence[str], max_tokens: int) -> list[int]:
    """Prompt ids of one context, at most `max_tokens` of them."""
    turns = list(context)
    while True:
        ids = _render(generator, turns)
        if len(ids) <= max_tokens:
            return ids
        if len(turns) == 1:
            break
        turns = turns[1:]
    text = turns[0]
    while len(ids) > max_tokens and len(text) > 1:
        text = text[max(1, len(text) // 8) :]
        text = text.partition(" ")[2] or text  # on to the next word; not every script has spaces
        ids = _render(generator, [text])
    return ids[-max_tokens:]


def encode_reply(
    generator: Generator, reply: str, max_tokens: int, end: int | None = None
) -> list[int]:
    """Reply ids closed by the token `end`, by default EOS. One longer than `max_tokens` is cut off
    and not closed: nobody should learn to stop where the reply did not."""
    end = generator.tokenizer.eos_token_id if end is None else end
    return [*generator.encode(reply), end][:max_tokens]


def encode_batch(
    generator: Generator,
    contexts: Sequence[Sequence[str]],
    replies: Sequence[str],
    *,
    context_length: int,
    response_length: int,
    end: int | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Contexts and replies as a policy takes them: context ids and mask (B, P), reply ids and mask
    (B, T), on the generator's device."""
    tensors = (
        *pad_prompts([encode_context(generator, c, context_length) for c in contexts], generator),
        *pad_ids(
            [encode_reply(generator, reply, response_length, end) for reply in replies],
            generator.tokenizer.pad_token_id,
        ),
    )
    context_ids, context_mask, ids, mask = (t.to(generator.model.device) for t in tensors)
    return context_ids, context_mask, ids, mask


def pad_prompts(
    prompts: Sequence[Sequence[int]], generator: Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """ids (B, P) int64 and mask (B, P) bool; on the left for causal models, else on the right."""
    side = "right" if generator.is_encoder_decoder else "left"
    return pad_ids(prompts, generator.tokenizer.pad_token_id, side=side)


def pad_ids(
    rows: Sequence[Sequence[int]], fill: int, *, side: str = "right"
) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of ids as one matrix (B, L) int64, and which entries are real (B, L) bool."""
    width = max((len(row) for row in rows), default=0)
    ids = torch.full((len(rows), width), fill, dtype=torch.long)
    mask = torch.zeros((len(rows), width), dtype=torch.bool)
    for index, row in enumerate(rows):
        place = slice(width - len(row), width) if side == "left" else slice(0, len(row))
        ids[index, place] = torch.tensor(row, dtype=torch.long)
        mask[index, place] = True
    return ids, mask


def _render(generator: Generator, turns: Sequence[str]) -> list[int]:
    tokenizer = generator.tokenizer
    eos, bos = tokenizer.eos_token_id, tokenizer.bos_token_id
    if not generator.is_encoder_decoder:
        if tokenizer.chat_template:
            return _render_chat(generator, turns)
        return [token for turn in turns for token in (*generator.encode(turn), eos)]
    if generator.model.config.model_type == "blenderbot-small":
        ids = generator.encode(turns[0])
        for turn in turns[1:]:
            ids += [eos, bos, *generator.encode(turn)]
        return ids or [eos]
    return [*generator.encode("\n".join(turns)), eos]


def _render_chat(generator: Generator, turns: Sequence[str]) -> list[int]:
    """The turn before the reply is the user's, the one before it the assistant's, and so on.

    Many templates refuse a conversation that the assistant begins, so such a first turn is left
    out; an odd `max_turns` loses nothing.
    """
    turns = turns[1:] if len(turns) % 2 == 0 else turns
    roles = ["user" if (len(turns) - index) % 2 else "assistant" for index in range(len(turns))]
    messages = [
        {"role": role, "content": _without_control_tokens(generator, turn)}
        for role, turn in zip(roles, turns, strict=True)
    ]
    return list(
        generator.tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, tokenize=True, return_dict=True
        )["input_ids"]
    )


def _without_control_tokens(generator: Generator, text: str) -> str:
    """A template is filled as text and tokenized as a whole, so nobody may spell its markers."""
    for token in generator.tokenizer.added_tokens_decoder.values():
        if token.special:
            text = text.replace(token.content, " ")
    return generator.round_trip(text)
