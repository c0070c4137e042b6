"""The forms in which dialogue systems read a context: texts to token ids, and token types.

docs/input_forms.md renders an example of each. What the user typed never becomes a control token:
texts are encoded on their own, and control tokens are put between them by id.

=================  =================================================================================
dialogpt           ``turn <eos> turn <eos>`` (Zhang et al. 2020; their windows have 128 tokens)
speakers           ``<bos> <sp1> turn <sp2> turn <sp1> turn <sp2>``, token types by speaker; the
                   reply is always <sp2>'s (gpt2-dialogue-generation; its windows have 5 turns)
persona            ``<bos> persona <speaker1> turn <speaker2> turn <speaker1>``, token types by
                   segment (TransferTransfo, Wolf et al. 2019; 2k + 1 turns of history)
separator          ``<bos> turn [SEPT] turn [SEPT]`` (Korean GPT-2); Meena's encoder has <bos> last
summary            ``<bos> <sp1> summary <sp2> turn <sp1>``, the last turn alone
blenderbot-small   ``turn __end__ __start__ turn``, as its authors' examples join turns
chat               the model's own chat template; the last turn is the user's
lines              ``turn \\n turn <eos>``, for other encoder-decoders; EOS for ``\\n``, where the
                   tokenizer makes a space of a line end (T5)
=================  =================================================================================

Encoder-decoders take "persona" and "summary" as text: ``your persona: …`` lines, as ParlAI gave
them to BlenderBot, or the summary, before the turns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jinja2
import torch

from rlhf_dialog.dialogues.control_tokens import without_control_tokens
from rlhf_dialog.dialogues.schema import Context
from rlhf_dialog.errors import UserError
from rlhf_dialog.generators.loading import Generator, _grow_embeddings
from rlhf_dialog.generators.token_types import has_types, mark_speakers, token_types

Pieces = list[int | str]  # of a prompt: token ids, and texts that are tokenized on their own

SP1, SP2 = "<sp1>", "<sp2>"
SPEAKER1, SPEAKER2 = "<speaker1>", "<speaker2>"
BEGIN, SEPARATOR, NEW_LINE = "<bos>", "[SEPT]", "__newln__"


class Prompt(NamedTuple):
    """Token ids of a context, and the token types of forms that have them."""

    ids: list[int]
    token_types: list[int] | None = None  # one for each id
    reply_type: int | None = None  # of every token of the reply

    @classmethod
    def typed(cls, generator: Generator, ids: list[int]) -> Prompt:
        """`ids` with the types that the generator's form gives them, if it does."""
        config = generator.model.config
        if not has_types(config):
            return cls(ids)
        types = token_types(config, torch.tensor([ids], dtype=torch.long))
        return cls(ids, types[0].tolist(), int(types[0, -1]))


class InputForm(NamedTuple):
    """How contexts are rendered, for whom, and with which control tokens."""

    render: Callable[[Generator, Context], Pieces]
    fits: Callable[[Generator], bool]
    whom: str  # for an error
    tokens: tuple[str, ...] = ()  # control tokens that causal models need
    begins: bool = False  # needs a token of beginning that is not EOS
    separates: bool = False  # needs a separator that is not EOS


def use_input_form(generator: Generator, name: str) -> None:
    """Makes `generator` read contexts in another form than its family's own, from now on.

    Control tokens that its tokenizer lacks are added, with embeddings. The choice is a field of the
    model's configuration, so a saved folder goes on with it.

    Raises:
        UserError: an unknown form, or one that this model cannot read.
    """
    if name not in FORMS:
        raise UserError(f"input_form: {name!r} is not known; choose one of {', '.join(FORMS)}.")
    form = FORMS[name]
    if not form.fits(generator):
        model_type = generator.model.config.model_type
        raise UserError(f"input_form: {name!r} is for {form.whom}; this one is {model_type}.")
    tokenizer = generator.tokenizer
    if form.begins and tokenizer.bos_token_id in (None, tokenizer.eos_token_id):
        tokenizer.add_special_tokens({"bos_token": BEGIN})
    if form.separates and tokenizer.sep_token_id in (None, tokenizer.eos_token_id):
        tokenizer.add_special_tokens({"sep_token": SEPARATOR})
    tokens = [] if generator.is_encoder_decoder else list(form.tokens)
    if name == "persona" and _is_blenderbot_small(generator):
        tokens = [NEW_LINE]
    missing = [token for token in tokens if token not in tokenizer.get_vocab()]
    tokenizer.add_tokens(missing, special_tokens=True)
    _grow_embeddings(generator.model, len(tokenizer))
    generator.model.config.input_form = name
    typed = not generator.is_encoder_decoder and len(form.tokens) == 2
    mark_speakers(generator.model.config, _ids(generator, *form.tokens) if typed else None)


def input_form(generator: Generator) -> str:
    """The name of the form that `generator` reads: the one chosen, else its family's own."""
    chosen = getattr(generator.model.config, "input_form", None)
    if chosen:
        return chosen
    if not generator.is_encoder_decoder:
        return "chat" if generator.tokenizer.chat_template else "dialogpt"
    return "blenderbot-small" if _is_blenderbot_small(generator) else "lines"


def render(generator: Generator, contexts: Sequence[Context]) -> list[Prompt]:
    """Each context in the generator's form, however long it becomes. The texts of all are tokenized
    in one call, where a form leaves them as texts: that takes a fraction of the time."""
    form = FORMS[input_form(generator)]
    rows = [form.render(generator, _clean(context)) for context in contexts]
    texts = [piece for row in rows for piece in row if isinstance(piece, str)]
    encoded = iter(generator.encode_all(texts))
    prompts = []
    for row in rows:
        ids: list[int] = []
        for piece in row:
            ids += next(encoded) if isinstance(piece, str) else [piece]
        # Nothing is left of some texts, and an encoder has to read something.
        prompts.append(Prompt.typed(generator, ids or [generator.tokenizer.eos_token_id]))
    return prompts


def _clean(context: Context) -> Context:
    texts = (_one_line(text) for text in context)
    persona = (_one_line(text) for text in context.persona)
    return Context(texts, persona, _one_line(context.summary))


def _one_line(text: str) -> str:
    """Without line ends, which some forms part turns by, and halves of surrogate pairs, which no
    tokenizer takes. Texts of a `Turn` have neither."""
    text = " ".join(part for line in text.splitlines() if (part := line.strip()))
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def _dialogpt(generator: Generator, context: Context) -> Pieces:
    eos = generator.tokenizer.eos_token_id
    return [piece for turn in context for piece in (turn, eos)]


def _speakers(generator: Generator, context: Context) -> Pieces:
    # Backwards from the reply, which is <sp2>'s.
    names = [(SP1, SP2)[(len(context) - place) % 2 == 0] for place in range(len(context))]
    turns = list(zip(_ids(generator, *names), context, strict=True))
    return _spoken(generator, turns, *_ids(generator, SP2))


def _summary(generator: Generator, context: Context) -> Pieces:
    if generator.is_encoder_decoder:
        return _joined(generator, [*filter(None, [context.summary]), context[-1]])
    first, second = _ids(generator, SP1, SP2)
    return _spoken(generator, [(first, context.summary), (second, context[-1])], first)


def _spoken(generator: Generator, turns: Sequence[tuple[int, str]], reply: int) -> Pieces:
    """Each text behind the token of its speaker."""
    spoken = (piece for turn in turns for piece in turn)
    return [generator.tokenizer.bos_token_id, *spoken, reply]


def _persona(generator: Generator, context: Context) -> Pieces:
    """`build_inputs` of TransferTransfo's article, less the reply.

    Words alternate backwards from the reply, which is <speaker1>'s; types (`token_types`) alternate
    forwards from the persona, which is <speaker1>'s. With an odd number of turns, as there, the two
    agree.
    """
    if generator.is_encoder_decoder:
        persona = [f"your persona: {sentence}" for sentence in context.persona]
        return _joined(generator, context, persona)
    speakers = _ids(generator, SPEAKER1, SPEAKER2)
    pieces: Pieces = [generator.tokenizer.bos_token_id, *context.persona]
    for place, text in enumerate(context):
        pieces += [speakers[(len(context) - place) % 2], text]
    return [*pieces, speakers[0]]


def _separator(generator: Generator, context: Context) -> Pieces:
    tokenizer = generator.tokenizer
    turns: Pieces = [piece for turn in context for piece in (turn, tokenizer.sep_token_id)]
    begin = tokenizer.bos_token_id
    return [*turns, begin] if generator.is_encoder_decoder else [begin, *turns]


def _turns(generator: Generator, context: Context) -> Pieces:
    return _joined(generator, context)


def _joined(generator: Generator, turns: Sequence[str], before: Sequence[str] = ()) -> Pieces:
    """Lines before the turns, and the turns, as an encoder reads them."""
    tokenizer = generator.tokenizer
    eos, bos = tokenizer.eos_token_id, tokenizer.bos_token_id
    if not _is_blenderbot_small(generator):
        lines = [*before, *turns]
        if _reads_line_ends(generator):
            return ["\n".join(lines), eos]
        return [piece for line in lines for piece in (line, eos)]
    # An ordinary token of the vocabulary, and so of users, wherever no line is parted by it.
    new_line = _ids(generator, NEW_LINE) if before else []

    def without(text: str) -> Pieces:
        return [t for t in generator.encode(text) if t not in new_line] if new_line else [text]

    pieces: Pieces = [piece for line in before for piece in (*without(line), *new_line)]
    for place, turn in enumerate(turns):
        pieces += [eos, bos] if place else []
        pieces += without(turn)
    return pieces


def _reads_line_ends(generator: Generator) -> bool:
    """Whether a line end is anything else than a space: to the tokenizer of T5 it is not, and three
    turns would be one to it."""
    return generator.encode("a\nb") not in (generator.encode("a b"), generator.encode("ab"))


def _chat(generator: Generator, context: Context) -> Pieces:
    """The turn before the reply is the user's, the one before it the assistant's, and so on; a
    persona is the system's message.

    Many templates refuse a conversation that the assistant begins, so such a first turn is left
    out; an odd `max_turns` loses nothing. Where a template knows no system, the user's first turn
    begins with the persona.
    """
    turns = [_without_control_tokens(generator, turn) for turn in context]
    turns = turns[1:] if len(turns) % 2 == 0 else turns
    persona = _without_control_tokens(generator, " ".join(context.persona))
    system = [{"role": "system", "content": persona}] if persona else []
    try:
        return _filled_template(generator, [*system, *_messages(turns)])
    except jinja2.TemplateError:
        if not system:
            raise
        return _filled_template(generator, _messages([f"{persona} {turns[0]}", *turns[1:]]))


def _messages(turns: Sequence[str]) -> list[dict[str, str]]:
    roles = ["user" if (len(turns) - place) % 2 else "assistant" for place in range(len(turns))]
    return [{"role": role, "content": turn} for role, turn in zip(roles, turns, strict=True)]


def _filled_template(generator: Generator, messages: list[dict[str, str]]) -> Pieces:
    encoded = generator.tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, tokenize=True, return_dict=True
    )
    return list(encoded["input_ids"])


def _without_control_tokens(generator: Generator, text: str) -> str:
    """A template is filled as text and tokenized as a whole, so nobody may spell its markers,
    neither as they are nor in letters that the tokenizer normalizes to them."""
    text = without_control_tokens(generator.tokenizer, text)
    return without_control_tokens(generator.tokenizer, generator.round_trip(text))


def _ids(generator: Generator, *tokens: str) -> list[int]:
    tokenizer = generator.tokenizer
    ids = [tokenizer.convert_tokens_to_ids(token) for token in tokens]
    missing = [t for t, i in zip(tokens, ids, strict=True) if i in (None, tokenizer.unk_token_id)]
    if missing:
        raise UserError(
            f"input_form: the tokenizer has no {missing[0]}; give the model this form with "
            "use_input_form, which adds it."
        )
    return ids


def _is_blenderbot_small(generator: Generator) -> bool:
    return generator.model.config.model_type == "blenderbot-small"


def _is_causal(generator: Generator) -> bool:
    return not generator.is_encoder_decoder


def _is_any(generator: Generator) -> bool:
    return True


FORMS: dict[str, InputForm] = {
    "dialogpt": InputForm(_dialogpt, _is_causal, "causal models"),
    "speakers": InputForm(_speakers, _is_causal, "causal models", (SP1, SP2), begins=True),
    "persona": InputForm(_persona, _is_any, "all models", (SPEAKER1, SPEAKER2), begins=True),
    "separator": InputForm(_separator, _is_any, "all models", begins=True, separates=True),
    "summary": InputForm(_summary, _is_any, "all models", (SP1, SP2), begins=True),
    "blenderbot-small": InputForm(_turns, _is_blenderbot_small, "BlenderBot-small"),
    "chat": InputForm(
        _chat,
        lambda generator: _is_causal(generator) and bool(generator.tokenizer.chat_template),
        "causal models with a chat template",
    ),
    "lines": InputForm(
        _turns,
        lambda g: g.is_encoder_decoder and not _is_blenderbot_small(g),
        "encoder-decoders other than BlenderBot-small",
    ),
}
