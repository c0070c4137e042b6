"""The values of a run that are not PPO's own, one dataclass a room.

Every field is a key of a recipe's YAML file and a flag of its command line. PPO's values are in
`rlhf_dialog.ppo.config`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from rlhf_dialog.errors import UserError


def _help(default, text: str):
    return field(default=default, metadata={"help": text.replace("%", "%%")})  # argparse formats it


def _at_least(settings: Any, least: float, *names: str) -> None:
    for name in names:
        if not getattr(settings, name) >= least:
            raise UserError(f"{name}: {getattr(settings, name)} must be at least {least}.")


def _shares(settings: Any, *names: str, below: float = 1.0) -> None:
    for name in names:
        if not 0 <= getattr(settings, name) <= below:
            raise UserError(f"{name}: {getattr(settings, name)} must be from 0 to {below}.")


@dataclass
class DialogueSettings:
    """What people said, and who is to be learnt."""

    dialogues: str = _help(
        "data/tidy_tide.jsonl",
        "Script file (docs/own_script.md, docs/data_forms.md), or Hub id or folder of a dataset.",
    )
    dialogues_form: str | None = _help(
        None, "Form of the dialogues, docs/data_forms.md; without it the file itself tells."
    )
    dialogues_columns: list[str] | None = field(
        default=None,
        metadata={
            "help": "Two columns of pairs, or field=column ... of a dataset (data_forms.md)."
        },
    )
    character: str = _help("PLUME", "Name of the speaker whose way of talking is the goal.")
    max_turns: int = _help(3, "Turns of history in a context.")
    generator_share: float = _help(0.5, "Share of the turns for the generator (warm start, PPO).")
    discriminator_share: float = _help(0.2, "Share of the turns for the discriminator.")
    judge_share: float = _help(0.2, "Share of the turns for the frozen judge.")
    test_share: float = _help(0.1, "Share of the turns for the final test.")

    def __post_init__(self) -> None:
        _at_least(self, 1, "max_turns")

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

    generator: str | None = _help(
        None,
        "Hub id or folder of a causal or encoder-decoder model; without it a fresh one is made.",
    )
    input_form: str | None = _help(
        None, "Form of the prompts (docs/input_forms.md); without it that of the model's family."
    )
    context_length: int = _help(64, "Longest prompt, in tokens; older turns are dropped first.")
    fresh_architecture: str = _help(
        "gpt2", "Architecture of a fresh model: gpt2 | blenderbot-small."
    )
    fresh_vocab_size: int = _help(2048, "BPE tokens of a fresh generator.")
    fresh_hidden_size: int = _help(192, "Width of a fresh generator.")
    fresh_layers: int = _help(4, "Layers of a fresh generator (encoder and decoder each).")
    fresh_heads: int = _help(4, "Attention heads of a fresh generator.")
    warm_start_dialogues: str | None = _help(
        None, "A further dialogue file that the warm start reads first (general conversation)."
    )
    warm_start_epochs: float = _help(
        3.0,
        "Supervised passes over the generator's dialogues; 0, or a warm-started folder: none.",
    )
    warm_start_learning_rate: float = _help(5e-5, "Peak learning rate of the warm start (linear).")
    warm_start_batch_size: int = _help(
        32, "Examples per optimizer step of the warm start and process."
    )

    def __post_init__(self) -> None:
        _at_least(self, 0, "warm_start_epochs", "warm_start_learning_rate")
        _at_least(self, 8, "context_length")
        _at_least(self, 300, "fresh_vocab_size")  # 256 bytes and the control tokens
        _at_least(self, 1, "fresh_layers", "fresh_heads", "warm_start_batch_size")
        if self.fresh_hidden_size % self.fresh_heads:
            raise UserError(
                f"fresh_hidden_size: {self.fresh_hidden_size} must be a multiple of fresh_heads, "
                f"{self.fresh_heads}."
            )


@dataclass
class DiscriminatorSettings:
    """The reward model, and the judge, which trains by the same code on its own dialogues."""

    discriminator: str | None = _help(
        None, "Hub id or folder of a BERT-style encoder; without it a fresh one is made."
    )
    judge: str | None = _help(None, "Hub id or folder the judge starts from; fresh without it.")
    fresh_discriminator_hidden_size: int = _help(128, "Width of a fresh discriminator or judge.")
    fresh_discriminator_layers: int = _help(2, "Layers of a fresh discriminator or judge.")
    discriminator_max_tokens: int = _help(96, "Longest (context, reply) pair, in its tokens.")
    discriminator_epochs: int = _help(6, "Most passes of pretraining; it stops early.")
    discriminator_learning_rate: float = _help(5e-4, "Learning rate of pretraining (AdamW).")
    discriminator_batch_size: int = _help(
        32, "Pairs per step of pretraining, half real and half fake."
    )
    word_order_steps: int = _help(
        100,
        "Steps before pretraining in which replies are told from their words shuffled; a fresh "
        "encoder needs them, a pretrained one knows the order of words; 0: none.",
    )
    label_smoothing: float = _help(
        0.1, "Real replies are labelled 1 - x, fakes x, in pretraining and refresh."
    )
    generated_share: float = _help(0.3, "Share of generator samples among the fakes.")
    cast_share: float = _help(0.3, "Share of other characters' replies among the fakes.")
    wrong_context_share: float = _help(0.1, "Share of real replies under wrong contexts.")
    degenerate_share: float = _help(
        0.3, "Share of broken replies: too short, repeated, copied, shuffled."
    )
    match_lengths: bool = _help(
        True, "Draw fakes (but the degenerate ones) so that they are as long as the real replies."
    )
    refresh_every: int = _help(5, "Updates between refreshes of the discriminator; 0: never.")
    refresh_steps: int = _help(6, "Optimizer steps of one refresh.")
    refresh_batch_size: int = _help(64, "Pairs per step of a refresh, half real and half fake.")
    refresh_samples: int = _help(128, "Fresh generator replies sampled for one refresh.")
    refresh_learning_rate: float = _help(1e-4, "Learning rate of refreshes.")
    refresh_floor: float = _help(
        0.55, "Up to three times the steps while held-out accuracy, fresh and human, is below this."
    )
    refresh_ceiling: float = _help(
        0.9, "A refresh is skipped while held-out accuracy, fresh and human, is above this."
    )
    refresh_generated_share: float = _help(
        0.7, "Share of generator samples, fresh and older, among the fakes of a refresh."
    )
    replay_size: int = _help(1024, "Older fakes kept for refreshes.")
    replay_share: float = _help(0.5, "Share of older fakes among a refresh's generated ones.")

    def __post_init__(self) -> None:
        _at_least(self, 1, "discriminator_epochs", "refresh_steps", "fresh_discriminator_layers")
        _at_least(self, 2, "discriminator_batch_size", "refresh_batch_size", "refresh_samples")
        _at_least(self, 0, "refresh_every", "replay_size", "refresh_learning_rate")
        _at_least(self, 0, "word_order_steps")
        _at_least(self, 16, "discriminator_max_tokens")
        kinds = ("generated_share", "cast_share", "wrong_context_share", "degenerate_share")
        _shares(self, *kinds, "refresh_floor", "refresh_ceiling", "refresh_generated_share")
        _shares(self, "label_smoothing", below=0.49)
        _shares(self, "replay_share", below=0.95)
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

    dialogues: str | None = _help(
        None, "JSON lines of parallel dialogues, each with a style and a parallel_id."
    )
    style: str | None = _help(None, "The style to tell from the others.")
    style_field: str = _help("style", "Field of a dialogue that names its style.")
    max_turns: int = _help(1, "Turns of history in a context.")
    output_dir: str = _help("runs/style", "A new folder for the discriminator.")
    seed: int = _help(0, "Of the split, the fakes and the training.")

    def __post_init__(self) -> None:
        _at_least(self, 1, "max_turns")
        _at_least(self, 0, "seed")


@dataclass
class EvaluationSettings:
    """Before and after."""

    samples_per_context: int = _help(4, "Replies sampled per test context.")
    bootstrap_resamples: int = _help(2000, "Resamples of the test contexts for the 95 % intervals.")

    def __post_init__(self) -> None:
        _at_least(self, 1, "samples_per_context", "bootstrap_resamples")


@dataclass
class RewardEvaluationSettings:
    """A reward model on labelled replies."""

    reward_model: str | None = _help(
        None, "Hub id or folder of any sequence classifier with one logit."
    )
    data: str | None = _help(
        None, "JSON lines of labelled replies or preference pairs (docs/evaluate_reward.md)."
    )
    judge: str | None = _help(
        None, "Hub id or folder of a second model to compare the scores with."
    )
    output_dir: str = _help("runs/reward", "A new folder for the report.")
    seed: int = _help(0, "Of the bootstrap, the shuffled words and the replies that are edited.")
    bootstrap_resamples: int = _help(1000, "Resamples for the 95 % intervals.")
    max_tokens: int | None = _help(
        None, "Longest pair or conversation, in tokens; default: what the model takes, at most 512."
    )

    def __post_init__(self) -> None:
        _at_least(self, 100, "bootstrap_resamples")
        _at_least(self, 0, "seed")
        if self.max_tokens is not None:
            _at_least(self, 16, "max_tokens")
