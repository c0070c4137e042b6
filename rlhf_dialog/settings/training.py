"""What is learnt: dialogues, the generator's supervised stage, the discriminator."""

from __future__ import annotations

from dataclasses import dataclass, field

from rlhf_dialog.errors import UserError
from rlhf_dialog.settings.fields import at_least, explained, shares
from rlhf_dialog.shipped import demo_script

SCHEDULES = ("linear", "polynomial", "noam")


@dataclass
class DialogueSettings:
    """What people said, and who is to be learnt."""

    dialogues: str = explained(
        "data/tidy_tide.jsonl",
        "Script file (docs/own_script.md, docs/data_forms.md), or Hub id or folder of a dataset.",
    )
    dialogues_form: str | None = explained(
        None, "Form of the dialogues, docs/data_forms.md; without it the file itself tells."
    )
    dialogues_columns: list[str] | None = field(
        default=None,
        metadata={
            "help": "Two columns of pairs, or field=column ... of a dataset (data_forms.md)."
        },
    )
    character: str = explained("PLUME", "Name of the speaker whose way of talking is the goal.")
    max_turns: int = explained(3, "Turns of history in a context.")
    generator_share: float = explained(
        0.5, "Share of the turns for the generator (warm start, PPO)."
    )
    discriminator_share: float = explained(0.2, "Share of the turns for the discriminator.")
    judge_share: float = explained(0.2, "Share of the turns for the frozen judge.")
    test_share: float = explained(0.1, "Share of the turns for the final test.")

    def __post_init__(self) -> None:
        at_least(self, 1, "max_turns")
        self.dialogues = demo_script(self.dialogues)

    @property
    def shares(self) -> dict[str, float]:
        return {
            "generator": self.generator_share,
            "discriminator": self.discriminator_share,
            "judge": self.judge_share,
            "test": self.test_share,
        }


@dataclass
class GeneratorSettings:
    """The policy before reinforcement learning."""

    generator: str | None = explained(
        None,
        "Hub id or folder of a causal or encoder-decoder model; without it a fresh one is made.",
    )
    input_form: str | None = explained(
        None, "Form of the prompts (docs/input_forms.md); without it that of the model's family."
    )
    summarizer: str | None = explained(
        None,
        "Hub id or folder of a summarisation model (encoder-decoder), for the form summary where "
        "the dialogues bring none.",
    )
    summary_tokens: int = explained(64, "Longest summary that it makes, in its tokens.")
    context_length: int = explained(64, "Longest prompt, in tokens; older turns are dropped first.")
    fresh_architecture: str = explained(
        "gpt2", "Architecture of a fresh model: gpt2 | blenderbot-small."
    )
    fresh_vocab_size: int = explained(2048, "BPE tokens of a fresh generator.")
    fresh_hidden_size: int = explained(192, "Width of a fresh generator.")
    fresh_layers: int = explained(4, "Layers of a fresh generator (encoder and decoder each).")
    fresh_heads: int = explained(4, "Attention heads of a fresh generator.")
    warm_start_dialogues: str | None = explained(
        None, "A further dialogue file that the warm start reads first (general conversation)."
    )
    warm_start_dialogues_form: str | None = explained(
        None, "Form of that file, docs/data_forms.md; without it the file itself tells."
    )
    warm_start_dialogues_columns: list[str] | None = field(
        default=None, metadata={"help": "Columns of that file, as dialogues_columns."}
    )
    warm_start_epochs: float = explained(
        3.0,
        "Supervised passes over the generator's dialogues; 0, or a warm-started folder: none.",
    )
    warm_start_learning_rate: float = explained(5e-5, "Peak learning rate of the warm start.")
    warm_start_batch_size: int = explained(
        32, "Examples per optimizer step of the warm start and process."
    )
    warm_start_schedule: str = explained(
        "linear",
        "How the rate falls from its peak: linear | polynomial (squared) | noam (1 / √step).",
    )
    warm_start_warmup: float = explained(
        0.05, "Steps in which the rate rises; below 1 a share of all steps."
    )
    warm_start_context_weight: float | None = explained(
        None,
        "Weight of a context token in a causal model's loss, where a reply's is 1; without it 1 in "
        "the form dialogpt, which is its objective, and 0 in others.",
    )
    warm_start_validation_share: float = explained(
        0.0,
        "Share of the generator's dialogues held out, to keep the epoch of least loss; 0: last.",
    )
    warm_start_distractors: int = explained(
        0, "Wrong replies beside each right one, for a second head that tells them apart; 0: none."
    )
    warm_start_choice_coef: float = explained(
        1.0, "Weight of the second head's loss beside the language model's."
    )
    warm_start_reverse: bool = explained(
        False, "Learn the dialogues backwards: a reverse model for MMI decoding, not for PPO."
    )

    def __post_init__(self) -> None:
        at_least(self, 0, "warm_start_epochs", "warm_start_learning_rate", "warm_start_warmup")
        at_least(self, 0, "warm_start_distractors", "warm_start_choice_coef")
        shares(self, "warm_start_validation_share", below=0.5)
        if self.warm_start_context_weight is not None:
            at_least(self, 0, "warm_start_context_weight")
        if self.warm_start_schedule not in SCHEDULES:
            raise UserError(
                f"warm_start_schedule: {self.warm_start_schedule!r} is not known; choose one of "
                f"{', '.join(SCHEDULES)}."
            )
        if self.warm_start_schedule == "noam" and not self.warm_start_warmup:
            raise UserError("warm_start_warmup: must be above 0 for the schedule noam.")
        if self.summarizer is not None and self.warm_start_reverse:
            raise UserError(
                "summarizer: a reverse model reads no summaries; leave summarizer or "
                "warm_start_reverse out."
            )
        at_least(self, 1, "summary_tokens")
        at_least(self, 8, "context_length")
        at_least(self, 300, "fresh_vocab_size")  # 256 bytes and the control tokens
        at_least(self, 1, "fresh_layers", "fresh_heads", "warm_start_batch_size")
        if self.fresh_hidden_size % self.fresh_heads:
            raise UserError(
                f"fresh_hidden_size: {self.fresh_hidden_size} must be a multiple of fresh_heads, "
                f"{self.fresh_heads}."
            )


@dataclass
class DiscriminatorSettings:
    """The reward model, and the judge, which trains by the same code on its own dialogues."""

    discriminator: str | None = explained(
        None, "Hub id or folder of a BERT-style encoder; without it a fresh one is made."
    )
    judge: str | None = explained(None, "Hub id or folder the judge starts from; fresh without it.")
    fresh_discriminator_hidden_size: int = explained(
        128, "Width of a fresh discriminator or judge."
    )
    fresh_discriminator_layers: int = explained(2, "Layers of a fresh discriminator or judge.")
    discriminator_max_tokens: int = explained(96, "Longest (context, reply) pair, in its tokens.")
    discriminator_epochs: int = explained(6, "Most passes of pretraining; it stops early.")
    discriminator_learning_rate: float | None = explained(
        None,
        "Peak learning rate of pretraining (AdamW); without it 1e-3 for a fresh encoder, 5e-5 for "
        "one that is given.",
    )
    discriminator_batch_size: int = explained(
        32, "Pairs per step of pretraining, half real and half fake."
    )
    word_order_steps: int | None = explained(
        None,
        "Steps before pretraining in which turns are told from their own words in disorder and "
        "masked words are guessed; without it 500 for a fresh encoder, none for one that is given "
        "and knows the order.",
    )
    label_smoothing: float = explained(
        0.1, "Real replies are labelled 1 - x, fakes x, in pretraining and refresh."
    )
    generated_share: float = explained(0.3, "Share of generator samples among the fakes.")
    cast_share: float = explained(0.3, "Share of other characters' replies among the fakes.")
    wrong_context_share: float = explained(0.1, "Share of real replies under wrong contexts.")
    degenerate_share: float = explained(
        0.3, "Share of broken replies: too short, repeated, copied, shuffled."
    )
    match_lengths: bool = explained(
        True, "Draw fakes (but the degenerate ones) so that they are as long as the real replies."
    )
    refresh_every: int = explained(5, "Updates between refreshes of the discriminator; 0: never.")
    refresh_steps: int = explained(6, "Optimizer steps of one refresh.")
    refresh_batch_size: int = explained(64, "Pairs per step of a refresh, half real and half fake.")
    refresh_samples: int = explained(128, "Fresh generator replies sampled for one refresh.")
    refresh_learning_rate: float = explained(1e-4, "Learning rate of refreshes.")
    refresh_floor: float = explained(
        0.55, "Up to three times the steps while held-out accuracy, fresh and human, is below this."
    )
    refresh_ceiling: float = explained(
        0.9, "A refresh is skipped while held-out accuracy, fresh and human, is above this."
    )
    refresh_generated_share: float = explained(
        0.7, "Share of generator samples, fresh and older, among the fakes of a refresh."
    )
    replay_size: int = explained(1024, "Older fakes kept for refreshes.")
    replay_share: float = explained(0.5, "Share of older fakes among a refresh's generated ones.")

    def __post_init__(self) -> None:
        at_least(self, 1, "discriminator_epochs", "refresh_steps", "fresh_discriminator_layers")
        at_least(self, 2, "discriminator_batch_size", "refresh_batch_size", "refresh_samples")
        at_least(self, 0, "refresh_every", "replay_size", "refresh_learning_rate")
        if self.word_order_steps is not None:
            at_least(self, 0, "word_order_steps")
        if self.discriminator_learning_rate is not None:
            at_least(self, 0, "discriminator_learning_rate")
        at_least(self, 16, "discriminator_max_tokens")
        kinds = ("generated_share", "cast_share", "wrong_context_share", "degenerate_share")
        shares(self, *kinds, "refresh_floor", "refresh_ceiling", "refresh_generated_share")
        shares(self, "label_smoothing", below=0.49)
        shares(self, "replay_share", below=0.95)
        if not sum(getattr(self, name) for name in kinds) > self.generated_share:
            raise UserError(
                f"{', '.join(kinds[1:])}: at least one must be above 0, as the judge learns from "
                "these."
            )
        if self.refresh_floor > self.refresh_ceiling:
            raise UserError(
                f"refresh_floor: {self.refresh_floor} is above refresh_ceiling, "
                f"{self.refresh_ceiling}."
            )
        if self.fresh_discriminator_hidden_size % 32:
            raise UserError(
                f"fresh_discriminator_hidden_size: {self.fresh_discriminator_hidden_size} must be "
                "a multiple of 32, the width of a head."
            )


@dataclass
class StyleSettings:
    """The same dialogues told in several styles, of which one is to be learnt."""

    dialogues: str | None = explained(
        None, "JSON lines of parallel dialogues, each with a style and a parallel_id."
    )
    style: str | None = explained(None, "The style to tell from the others.")
    style_field: str = explained("style", "Field of a dialogue that names its style.")
    max_turns: int = explained(1, "Turns of history in a context.")
    output_dir: str = explained("runs/style", "A new folder for the discriminator.")
    seed: int = explained(0, "Of the split, the fakes and the training.")

    def __post_init__(self) -> None:
        at_least(self, 1, "max_turns")
        at_least(self, 0, "seed")
