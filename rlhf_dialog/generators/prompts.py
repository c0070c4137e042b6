"""How a context (texts, oldest first) becomes a prompt (token ids) that is not too long.

The form is the model's: `input_forms` has them all. A context that is too long loses its oldest
turns first, then its persona's last sentences or its summary's last words; a single turn that is
too long loses its beginning. A reply is its token ids and EOS.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn.utils.rnn import pad_sequence

from rlhf_dialog.dialogues.schema import Context
from rlhf_dialog.generators.input_forms import Prompt, render
from rlhf_dialog.generators.loading import Generator

_CHARACTERS = 32  # more than a token has on average, in any language


def encode_context(generator: Generator, context: Sequence[str], max_tokens: int) -> list[int]:
    """Prompt ids of one context; see `build_prompts`."""
    return build_prompt(generator, context, max_tokens).ids


def build_prompt(generator: Generator, context: Sequence[str], max_tokens: int) -> Prompt:
    """One context as `build_prompts` has it."""
    [prompt] = build_prompts(generator, [context], max_tokens)
    return prompt


def encode_contexts(
    generator: Generator, contexts: Sequence[Sequence[str]], max_tokens: int
) -> list[list[int]]:
    """Prompt ids of each context, at most `max_tokens` of them; see `build_prompts`."""
    return [prompt.ids for prompt in build_prompts(generator, contexts, max_tokens)]


def build_prompts(
    generator: Generator, contexts: Sequence[Sequence[str]], max_tokens: int
) -> list[Prompt]:
    """Each context in the generator's input form, in at most `max_tokens` tokens.

    Args:
        contexts: texts, oldest first; a `Context` brings a persona and a summary to the forms that
            read them.
    """
    typed = (c if isinstance(c, Context) else Context(c) for c in contexts)
    bounded = [_bounded(context, _CHARACTERS * max_tokens) for context in typed]
    whole = zip(bounded, render(generator, bounded), strict=True)
    return [_fitted(generator, context, prompt, max_tokens) for context, prompt in whole]


def _fitted(generator: Generator, context: Context, prompt: Prompt, max_tokens: int) -> Prompt:
    """The `prompt` of a context, or of as much of it as does not make too many tokens."""
    while len(prompt.ids) > max_tokens and (shorter := _shortened(context)) is not None:
        context = shorter
        [prompt] = render(generator, [context])
    return (
        prompt
        if len(prompt.ids) <= max_tokens
        else Prompt.typed(generator, prompt.ids[-max_tokens:])
    )


def _bounded(context: Context, most: int) -> Context:
    """Without the characters of each text that cannot be in the prompt, which are slow to encode:
    the beginning of a turn, the end of a persona's sentence or of a summary."""
    if max(map(len, (*context, *context.persona, context.summary))) <= most:
        return context
    turns = (text if len(text) <= most else _newest(text, len(text) - most) for text in context)
    persona = (sentence[:most] for sentence in context.persona)
    return Context(turns, persona, context.summary[:most])


def _newest(text: str, less: int) -> str:
    """`text` less so many characters, and on to the next word; not every script has spaces."""
    text = text[less:]
    return text.partition(" ")[2] or text


def _shortened(context: Context) -> Context | None:
    """The context with a little less in it; None when hardly anything is left."""
    if len(context) > 1:
        return Context(context[1:], context.persona, context.summary)
    if context.persona:
        return Context(context, context.persona[:-1], context.summary)
    if context.summary:
        return Context(context, (), context.summary[: len(context.summary) // 2])
    text = context[0]
    if len(text) <= 1:
        return None
    return Context([_newest(text, max(1, len(text) // 8))])


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
        *pad_prompts(encode_contexts(generator, contexts, context_length), generator),
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
    if not rows:
        return torch.zeros(0, 0, dtype=torch.long), torch.zeros(0, 0, dtype=torch.bool)
    ids = pad_sequence(
        [torch.tensor(row, dtype=torch.long) for row in rows],
        batch_first=True,
        padding_value=fill,
        padding_side=side,
    )
    lengths = torch.tensor([[len(row)] for row in rows])
    columns = torch.arange(ids.shape[1])
    mask = columns < lengths if side == "right" else columns >= ids.shape[1] - lengths
    return ids, mask
