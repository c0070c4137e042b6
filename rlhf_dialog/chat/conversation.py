"""A conversation with a generator: who replies, and what has been said."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from rlhf_dialog.dialogues.schema import Context, clean_text, clean_texts
from rlhf_dialog.discriminators.reward_model import load_reward_model
from rlhf_dialog.errors import UserError
from rlhf_dialog.generators.decoding import generate_replies
from rlhf_dialog.generators.input_forms import input_form
from rlhf_dialog.generators.loading import Generator, check_lengths, context_room, load_generator
from rlhf_dialog.generators.reranking import TextScorer, named_scorer
from rlhf_dialog.generators.summaries import Summarizer, load_summarizer, spoken
from rlhf_dialog.settings import DecodingSettings, SpeakerSettings

USER, BOT = "user", "bot"
SILENCE = "…"  # where a generator ends its reply before it has begun


class Weighed(NamedTuple):
    """A candidate: what the reranking thought of it, and what the discriminator thinks."""

    text: str
    rank: float | None
    score: float | None


@dataclass
class Speaker:
    """A generator, what its replies are ranked and scored by, and what sums up for it what it does
    not see. It remembers nothing."""

    generator: Generator
    context_length: int | None = None
    max_turns: int = 5
    discriminator: TextScorer | None = None
    reverse: Generator | None = None
    summarizer: Summarizer | None = None

    @classmethod
    def load(cls, settings: SpeakerSettings) -> Speaker:
        """The models that the settings name.

        Raises:
            UserError: one is missing, or is not what it should be.
        """
        if settings.generator is None:
            raise UserError("--generator: is needed; give a Hub id or a folder.")
        generator = load_generator(settings.generator)
        discriminator = reverse = None
        if settings.discriminator is not None:
            discriminator = load_reward_model(settings.discriminator, what="discriminator")
        if settings.reverse_generator is not None:
            reverse = load_generator(settings.reverse_generator)
        summarizer = load_summarizer(generator, settings)
        lengths = settings.context_length, settings.max_turns
        return cls(generator, *lengths, discriminator, reverse, summarizer)

    def summaries(self, conversations: Sequence[Sequence[tuple[str, str]]]) -> list[str]:
        """Of all turns, (speaker, text), but the last one; empty where there is no other, no
        summarizer, or a generator that reads none."""
        if self.summarizer is None or input_form(self.generator) != "summary":
            return [""] * len(conversations)
        earlier = [spoken(turns[:-1]) for turns in conversations]
        made = iter(self.summarizer([text for text in earlier if text]))
        return [next(made) if text else "" for text in earlier]

    def answers(
        self,
        contexts: Sequence[Sequence[str]],
        decoding: DecodingSettings,
    ) -> list[list[Weighed]]:
        """The candidates for a reply to each context, the best first: all that were generated.

        Raises:
            UserError: lengths beyond the model's positions, or a reranking without its model.
        """
        length = self.context_length or context_room(self.generator, decoding.response_length)
        check_lengths(self.generator, length, decoding.response_length)
        ranker = named_scorer(
            decoding,
            self.generator,
            context_length=length,
            reverse=self.reverse,
            discriminator=self.discriminator,
        )
        if ranker is not None:
            decoding = replace(decoding, returns=decoding.candidates)
        recent = [_last_turns(context, self.max_turns) for context in contexts]
        found = generate_replies(
            self.generator, recent, decoding, context_length=length, scorer=ranker
        )
        rows = zip(recent, found, self._scores(recent, found), strict=True)
        return [
            # One who says nothing is asked last.
            sorted(map(Weighed, *zip(*row, strict=True), scores), key=lambda c: not c.text)
            for _, row, scores in rows
        ]

    def _scores(self, contexts: Sequence[Sequence[str]], found: Sequence[Sequence]) -> list[list]:
        if self.discriminator is None:
            return [[None] * len(row) for row in found]
        pairs = [
            (c, candidate.text) for c, row in zip(contexts, found, strict=True) for candidate in row
        ]
        scores = iter(self.discriminator([c for c, _ in pairs], [t for _, t in pairs]).tolist())
        return [[next(scores) for _ in row] for row in found]


@dataclass
class Chat:
    """One conversation: `reply` says something to the speaker and remembers both.

    The same seed and the same words give the same conversation.
    """

    speaker: Speaker
    decoding: DecodingSettings = field(default_factory=DecodingSettings)
    persona: tuple[str, ...] = ()
    history: list[str] = field(default_factory=list)  # the user's turn, the reply, ...
    candidates: list[Weighed] = field(default_factory=list)  # for the last reply, the best first

    @classmethod
    def load(cls, generator: str, **decoding: object) -> Chat:
        """A conversation with the generator in a folder or on the Hub; fields of
        `DecodingSettings` say how it replies."""
        speaker = Speaker.load(SpeakerSettings(generator=generator))
        return cls(speaker, DecodingSettings(**decoding))  # type: ignore[arg-type]

    def reply(self, text: str) -> str:
        """The answer to `text`.

        Raises:
            UserError: `text` is empty, or cannot be encoded.
        """
        said = clean_text(text, "message")
        texts = [*self.history, said]
        turns = [((USER, BOT)[place % 2], text) for place, text in enumerate(texts)]
        context = Context(texts, self.persona, *self.speaker.summaries([turns]))
        turn = replace(self.decoding, seed=self.decoding.seed + len(self.history) // 2)
        (self.candidates,) = self.speaker.answers([context], turn)
        answer = self.candidates[0].text or SILENCE
        self.history += [said, answer]
        return answer

    def reset(self) -> None:
        """Forgets what was said; persona, seed and decoding stay."""
        self.history, self.candidates = [], []

    def be(self, sentences: Sequence[str]) -> None:
        """Sets the persona, for generators whose form reads one."""
        self.persona = clean_texts(list(sentences), "persona")

    def save(self, path: str | Path) -> Path:
        """Writes the conversation as a dialogue of this project's JSON lines.

        Raises:
            UserError: nothing was said yet, the file is there already, or cannot be written.
        """
        path = Path(path).expanduser()
        if not self.history:
            raise UserError("nothing was said yet; there is nothing to save.")
        turns = [
            {"speaker": (USER, BOT)[place % 2], "text": text}
            for place, text in enumerate(self.history)
        ]
        dialogue: dict[str, object] = {"dialogue_id": path.stem, "turns": turns}
        if self.persona:
            dialogue["persona"] = {BOT: list(self.persona)}
        try:
            with path.open("x", encoding="utf-8") as file:
                file.write(json.dumps(dialogue, ensure_ascii=False) + "\n")
        except OSError as error:
            raise UserError(
                f"{path}: cannot be written ({error.strerror}); name a new file in a folder that "
                "there is."
            ) from error
        return path


def _last_turns(context: Sequence[str], number: int) -> Context:
    whole = context if isinstance(context, Context) else Context(context)
    return Context(whole[-number:], whole.persona, whole.summary)
