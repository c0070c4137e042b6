"""Summaries for the input form `summary`, where the data brings none: a model of the user's makes
them of the turns that the generator does not see.

The form reads the last turn alone, so what is summarised is every turn before it: one line each,
``speaker: text``, as in SAMSum (Gliwa et al. 2019), on which summarisers of dialogue are trained.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace

import torch
from accelerate.utils import gather_object
from transformers import (
    AutoConfig,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from rlhf_dialog.console import progress
from rlhf_dialog.devices import own_device, own_share
from rlhf_dialog.dialogues.examples import without_summary
from rlhf_dialog.dialogues.schema import Dialogue
from rlhf_dialog.errors import UserError, cannot_load
from rlhf_dialog.generators.input_forms import input_form
from rlhf_dialog.generators.loading import Generator
from rlhf_dialog.generators.prompts import pad_ids
from rlhf_dialog.settings import GeneratorSettings, SpeakerSettings

Summarise = Callable[[Sequence[str]], list[str]]

BATCH = 16  # texts
MOST_TOKENS = 1024  # of a text, where neither model nor tokenizer says how many
_CHARACTERS = 16 * MOST_TOKENS  # of a text; what is further back would not be read


@dataclass
class Summarizer:
    """A summarisation model; each distinct text is summarised once.

    Attributes:
        prefix: what the model was trained to see before a text (T5's ``summarize: ``).
        most: tokens of a text that are read; older lines are left out first.
        tokens: most new tokens of a summary.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    prefix: str
    most: int
    tokens: int
    known: dict[str, str] = field(default_factory=dict)

    def __call__(self, texts: Sequence[str]) -> list[str]:
        """The summary of each text, made by this process alone."""
        self.known |= self._made([t for t in dict.fromkeys(texts) if t not in self.known])
        return [self.known[text] for text in texts]

    def shared(self, texts: Sequence[str]) -> list[str]:
        """The same; each process makes its share, and all have all. All have to call it."""
        share, own = own_share([t for t in dict.fromkeys(texts) if t not in self.known])
        self.known |= dict(gather_object(list(self._made(share[:own]).items())))
        return [self.known[text] for text in texts]

    def _made(self, texts: Sequence[str]) -> dict[str, str]:
        ids = {text: self._encode(text) for text in texts}
        order = sorted(texts, key=lambda text: -len(ids[text]))  # little padding
        batches = [order[start : start + BATCH] for start in range(0, len(order), BATCH)]
        made: dict[str, str] = {}
        bar = progress("summaries", len(batches)) if len(batches) > 1 else nullcontext(str)
        with bar as advance:
            for batch in batches:
                made |= zip(batch, self._generate([ids[text] for text in batch]), strict=True)
                advance()
        return made

    @torch.no_grad()
    def _generate(self, rows: Sequence[list[int]]) -> list[str]:
        """What the model's own generation settings give, but that nothing is sampled."""
        ids, mask = (t.to(self.model.device) for t in pad_ids(rows, self._pad()))
        found = self.model.generate(
            input_ids=ids, attention_mask=mask.long(), max_new_tokens=self.tokens, do_sample=False
        )
        texts = self.tokenizer.batch_decode(found, skip_special_tokens=True)
        return [" ".join(text.split()) for text in texts]

    def _pad(self) -> int:
        return self.tokenizer.pad_token_id or 0  # which one does not matter, it is masked

    def _encode(self, text: str) -> list[int]:
        lines = text.split("\n")
        if len(self._ids(lines)) > self.most:
            first = bisect_left(
                range(len(lines) - 1), True, key=lambda n: len(self._ids(lines[n:])) <= self.most
            )
            lines = lines[first:]
        return self._ids(lines, truncation=True, max_length=self.most)

    def _ids(self, lines: Sequence[str], **how: object) -> list[int]:
        text = self.prefix + "\n".join(lines)
        return self.tokenizer(text, split_special_tokens=True, verbose=False, **how)["input_ids"]


def load_summarizer(
    generator: Generator, settings: GeneratorSettings | SpeakerSettings
) -> Summarizer | None:
    """The summarisation model that the settings name for `generator`, or None.

    Prefix and generation settings that its configuration has for the task "summarization" are
    taken, as transformers' pipelines did.

    Raises:
        UserError: `generator` reads no summary; the model is not to be found, is no
            encoder-decoder, or has fewer than `summary_tokens` positions.
    """
    name, tokens = settings.summarizer, settings.summary_tokens
    if name is None:
        return None
    if (form := input_form(generator)) != "summary":
        raise UserError(
            f"--summarizer {name}: the generator reads the form {form!r}, which has no summary; "
            "leave the summarizer out, or teach the form with input_form: summary."
        )
    try:
        config = AutoConfig.from_pretrained(name)
    except Exception as error:  # a broken folder raises more than OSError
        raise cannot_load("summarizer", name, error) from error
    if not config.is_encoder_decoder:
        raise UserError(
            f"--summarizer {name}: is a {config.model_type}, no encoder-decoder; give a "
            "sequence-to-sequence summarisation model."
        )
    try:
        model = AutoModelForSeq2SeqLM.from_pretrained(
            name, dtype=torch.float32, use_safetensors=True
        )
        tokenizer = AutoTokenizer.from_pretrained(name)
        rows = model.get_input_embeddings().num_embeddings
        if len(tokenizer) < rows // 2:  # transformers invents one where the files are missing
            raise ValueError(f"its tokenizer has {len(tokenizer)} tokens, the model {rows}")
    except Exception as error:
        raise cannot_load("summarizer", name, error) from error
    positions = getattr(config, "max_position_embeddings", None) or MOST_TOKENS
    if tokens > positions:
        raise UserError(
            f"summary_tokens: {tokens} is more than the {positions} tokens that {name} may write; "
            "lower it."
        )
    own = (getattr(config, "task_specific_params", None) or {}).get("summarization", {})
    model.generation_config.update(**own)
    # One summary a text, as long as `summary_tokens` says: models for news ask for more.
    shortest = min(model.generation_config.min_length or 0, tokens // 2)
    model.generation_config.update(max_length=None, min_length=shortest, num_return_sequences=1)
    prefix = own.get("prefix") or getattr(config, "prefix", None) or ""
    most = min(tokenizer.model_max_length, positions, MOST_TOKENS)
    return Summarizer(model.eval().to(own_device()), tokenizer, prefix, most, tokens)


def spoken(turns: Sequence[tuple[str, str]]) -> str:
    """Turns, (speaker, text), as a text to be summarised; those far back are left out."""
    lines: list[str] = []
    room = _CHARACTERS
    for speaker, text in reversed(turns):
        lines.append(f"{speaker}: {text}")
        room -= len(lines[-1])
        if room < 0:
            break
    return "\n".join(reversed(lines))


def with_summaries(
    dialogues: Sequence[Dialogue], summarise: Summarise | None = None
) -> list[Dialogue]:
    """The dialogues, with a summary wherever they bring none and something can be summarised.

    Replies to a first turn have nothing before the turn that the generator sees. Without
    `summarise` the dialogues are as they were.
    """
    if summarise is None:
        return list(dialogues)
    lacking = [[(n, spoken(told)) for n, told in without_summary(d)] for d in dialogues]
    made = iter(summarise([text for places in lacking for _, text in places]))
    filled = []
    for dialogue, places in zip(dialogues, lacking, strict=True):
        turns = list(dialogue.turns)
        for place, _ in places:
            turns[place] = replace(turns[place], summary=next(made))
        filled.append(replace(dialogue, turns=tuple(turns)))
    return filled
