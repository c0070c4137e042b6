"""How a trained generator speaks: decoding, chat, replies to a file."""

from __future__ import annotations

from dataclasses import dataclass, field

from rlhf_dialog.errors import UserError
from rlhf_dialog.settings.fields import at_least, explained, shares

DECODINGS = ("sample", "greedy", "beam")
RERANKINGS = ("none", "likelihood", "mmi", "discriminator")


@dataclass
class DecodingSettings:
    """How replies are chosen when somebody reads them; rollouts and tests sample as they are."""

    decoding: str = explained("sample", "How tokens are chosen: sample | greedy | beam.")
    temperature: float = explained(1.0, "Of sampling: logits are divided by it.")
    top_k: int = explained(0, "Of sampling: only the k most likely tokens; 0: all.")
    top_p: float = explained(1.0, "Of sampling: only the tokens that hold this share of the mass.")
    num_beams: int = explained(5, "Of beam search: hypotheses kept.")
    repetition_penalty: float = explained(
        1.0, "Logits of tokens that were there are divided by it (Keskar et al. 2019); 1: none."
    )
    no_repeat_ngram: int = explained(0, "No n-gram of so many tokens twice in a reply; 0: any.")
    response_length: int = explained(48, "Longest reply, in tokens.")
    returns: int = explained(1, "Replies to each context.")
    candidates: int = explained(16, "Replies generated to each context where they are reranked.")
    rerank: str = explained(
        "none", "What puts the best candidate first: none | likelihood | mmi | discriminator."
    )
    mmi_weight: float = explained(
        1.0, "Weight of log p(context | reply) in mmi; the rest is log p(reply | context)."
    )
    seed: int = explained(0, "Of sampling.")

    def __post_init__(self) -> None:
        at_least(self, 1, "num_beams", "response_length", "returns", "candidates")
        at_least(self, 0, "top_k", "no_repeat_ngram", "seed")
        shares(self, "top_p", "mmi_weight")
        for name in ("temperature", "repetition_penalty", "top_p"):
            if not getattr(self, name) > 0:
                raise UserError(f"{name}: {getattr(self, name)} must be above 0.")
        for name, known in (("decoding", DECODINGS), ("rerank", RERANKINGS)):
            if getattr(self, name) not in known:
                raise UserError(
                    f"{name}: {getattr(self, name)!r} is not known; choose one of "
                    f"{', '.join(known)}."
                )
        if self.rerank != "none" and self.returns > self.candidates:
            raise UserError(
                f"returns: {self.returns} is more than the {self.candidates} candidates; raise "
                "candidates."
            )


@dataclass
class SpeakerSettings:
    """Who replies, for generate.py and chat.py."""

    generator: str | None = explained(None, "Hub id or folder of the generator that replies.")
    context_length: int | None = explained(
        None, "Longest prompt, in tokens; without it what the model has room for, at most 512."
    )
    max_turns: int = explained(5, "Turns of history that are read.")
    summarizer: str | None = explained(
        None,
        "Hub id or folder of a summarisation model (encoder-decoder), for a generator that reads "
        "the form summary: of all turns but the last.",
    )
    summary_tokens: int = explained(64, "Longest summary that it makes, in its tokens.")
    discriminator: str | None = explained(
        None, "Hub id or folder of a classifier with one logit, which scores replies."
    )
    reverse_generator: str | None = explained(
        None, "Hub id or folder of a reverse model, for rerank mmi."
    )

    def __post_init__(self) -> None:
        at_least(self, 1, "max_turns", "summary_tokens")
        if self.context_length is not None:
            at_least(self, 8, "context_length")


@dataclass
class GenerationFileSettings:
    """Which dialogues are to be gone on with, and where the replies go."""

    dialogues: str | None = explained(None, "File of dialogues (docs/data_forms.md).")
    dialogues_form: str | None = explained(None, "Its form; without it the file itself tells.")
    dialogues_columns: list[str] | None = field(
        default=None, metadata={"help": "Its columns, as in the other recipes."}
    )
    character: str | None = explained(
        None, "Who replies, for the persona; without it who did not speak last."
    )
    output_file: str = explained("runs/replies.jsonl", "A new file for the replies, one line each.")


@dataclass
class ChatSettings:
    """Where one talks."""

    page: bool = explained(False, "A page in the browser instead of the terminal; needs gradio.")
    base: str | None = explained(
        None, "Hub id or folder of a second generator, beside which the page sets the first."
    )
    persona: list[str] | None = field(
        default=None, metadata={"help": "Sentences that describe who replies."}
    )
    host: str = explained(
        "127.0.0.1", "Address of the page; others than loopback open it to others."
    )
    port: int = explained(7860, "Port of the page.")
