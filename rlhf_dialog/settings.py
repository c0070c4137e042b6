"""The values of a run that are not PPO's own, one dataclass a room.

Every field is a key of a recipe's YAML file and a flag of its command line. PPO's values are in
`rlhf_dialog.ppo.config`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from rlhf_dialog.errors import UserError
from rlhf_dialog.shipped import demo_script


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


DECODINGS = ("sample", "greedy", "beam")
RERANKINGS = ("none", "likelihood", "mmi", "discriminator")
SCHEDULES = ("linear", "polynomial", "noam")


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
    warm_start_dialogues_form: str | None = _help(
        None, "Form of that file, docs/data_forms.md; without it the file itself tells."
    )
    warm_start_dialogues_columns: list[str] | None = field(
        default=None, metadata={"help": "Columns of that file, as dialogues_columns."}
    )
    warm_start_epochs: float = _help(
        3.0,
        "Supervised passes over the generator's dialogues; 0, or a warm-started folder: none.",
    )
    warm_start_learning_rate: float = _help(5e-5, "Peak learning rate of the warm start.")
    warm_start_batch_size: int = _help(
        32, "Examples per optimizer step of the warm start and process."
    )
    warm_start_schedule: str = _help(
        "linear",
        "How the rate falls from its peak: linear | polynomial (squared) | noam (1 / √step).",
    )
    warm_start_warmup: float = _help(
        0.05, "Steps in which the rate rises; below 1 a share of all steps."
    )
    warm_start_context_weight: float | None = _help(
        None,
        "Weight of a context token in a causal model's loss, where a reply's is 1; without it 1 in "
        "the form dialogpt, which is its objective, and 0 in others.",
    )
    warm_start_validation_share: float = _help(
        0.0,
        "Share of the generator's dialogues held out, to keep the epoch of least loss; 0: last.",
    )
    warm_start_distractors: int = _help(
        0, "Wrong replies beside each right one, for a second head that tells them apart; 0: none."
    )
    warm_start_choice_coef: float = _help(
        1.0, "Weight of the second head's loss beside the language model's."
    )
    warm_start_reverse: bool = _help(
        False, "Learn the dialogues backwards: a reverse model for MMI decoding, not for PPO."
    )

    def __post_init__(self) -> None:
        _at_least(self, 0, "warm_start_epochs", "warm_start_learning_rate", "warm_start_warmup")
        _at_least(self, 0, "warm_start_distractors", "warm_start_choice_coef")
        _shares(self, "warm_start_validation_share", below=0.5)
        if self.warm_start_context_weight is not None:
            _at_least(self, 0, "warm_start_context_weight")
        if self.warm_start_schedule not in SCHEDULES:
            raise UserError(
                f"warm_start_schedule: {self.warm_start_schedule!r} is not known; choose one of "
                f"{', '.join(SCHEDULES)}."
            )
        if self.warm_start_schedule == "noam" and not self.warm_start_warmup:
            raise UserError("warm_start_warmup: must be above 0 for the schedule noam.")
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
    """Warm start, tuned generator, controls and people on the test contexts (docs/evaluation.md).

    Every number of contexts and samples costs time and buys narrower intervals.
    """

    samples_per_context: int = _help(4, "Replies sampled per test context.")
    bootstrap_resamples: int = _help(2000, "Resamples of the test contexts for the 95 % intervals.")
    supervised_control_epochs: float = _help(
        0.0,
        "Passes of a control, supervised on the character's replies alone; 0: none.",
    )
    distractors: int = _help(9, "Human replies that hits@1 sets beside the right one; 0: none.")
    hits_contexts: int = _help(100, "Test contexts, the first ones, on which hits@1 is measured.")
    self_bleu_sample: int = _help(200, "Most replies that self-BLEU compares with each other.")
    temperatures: list[float] | None = field(
        default=None,
        metadata={"help": "Further temperatures at which quality is set against diversity."},
    )
    temperature_contexts: int = _help(100, "Test contexts for each temperature, evenly spaced.")
    general_dialogues: str | None = _help(
        None,
        "Dialogue file for retention; without it warm_start_dialogues, or else the rest of the "
        "cast in the test's dialogues.",
    )
    general_contexts: int = _help(100, "Contexts of general dialogue, evenly spaced; 0: none.")

    def __post_init__(self) -> None:
        _at_least(self, 1, "samples_per_context", "bootstrap_resamples", "temperature_contexts")
        _at_least(self, 0, "supervised_control_epochs", "distractors", "hits_contexts")
        _at_least(self, 0, "general_contexts")
        _at_least(self, 2, "self_bleu_sample")
        for temperature in self.temperatures or []:
            if not isinstance(temperature, int | float) or not temperature > 0:
                raise UserError(f"temperatures: {temperature!r} must be a number above 0.")


@dataclass
class DecodingSettings:
    """How replies are chosen when somebody reads them; rollouts and tests sample as they are."""

    decoding: str = _help("sample", "How tokens are chosen: sample | greedy | beam.")
    temperature: float = _help(1.0, "Of sampling: logits are divided by it.")
    top_k: int = _help(0, "Of sampling: only the k most likely tokens; 0: all.")
    top_p: float = _help(1.0, "Of sampling: only the tokens that hold this share of the mass.")
    num_beams: int = _help(5, "Of beam search: hypotheses kept.")
    repetition_penalty: float = _help(
        1.0, "Logits of tokens that were there are divided by it (Keskar et al. 2019); 1: none."
    )
    no_repeat_ngram: int = _help(0, "No n-gram of so many tokens twice in a reply; 0: any.")
    response_length: int = _help(48, "Longest reply, in tokens.")
    returns: int = _help(1, "Replies to each context.")
    candidates: int = _help(16, "Replies generated to each context where they are reranked.")
    rerank: str = _help(
        "none", "What puts the best candidate first: none | likelihood | mmi | discriminator."
    )
    mmi_weight: float = _help(
        1.0, "Weight of log p(context | reply) in mmi; the rest is log p(reply | context)."
    )
    seed: int = _help(0, "Of sampling.")

    def __post_init__(self) -> None:
        _at_least(self, 1, "num_beams", "response_length", "returns", "candidates")
        _at_least(self, 0, "top_k", "no_repeat_ngram", "seed")
        _shares(self, "top_p", "mmi_weight")
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

    generator: str | None = _help(None, "Hub id or folder of the generator that replies.")
    context_length: int | None = _help(
        None, "Longest prompt, in tokens; without it what the model has room for, at most 512."
    )
    max_turns: int = _help(5, "Turns of history that are read.")
    discriminator: str | None = _help(
        None, "Hub id or folder of a classifier with one logit, which scores replies."
    )
    reverse_generator: str | None = _help(
        None, "Hub id or folder of a reverse model, for rerank mmi."
    )

    def __post_init__(self) -> None:
        _at_least(self, 1, "max_turns")
        if self.context_length is not None:
            _at_least(self, 8, "context_length")


@dataclass
class GenerationFileSettings:
    """Which dialogues are to be gone on with, and where the replies go."""

    dialogues: str | None = _help(None, "File of dialogues (docs/data_forms.md).")
    dialogues_form: str | None = _help(None, "Its form; without it the file itself tells.")
    dialogues_columns: list[str] | None = field(
        default=None, metadata={"help": "Its columns, as in the other recipes."}
    )
    character: str | None = _help(
        None, "Who replies, for the persona; without it who did not speak last."
    )
    output_file: str = _help("runs/replies.jsonl", "A new file for the replies, one line each.")


@dataclass
class ChatSettings:
    """Where one talks."""

    page: bool = _help(False, "A page in the browser instead of the terminal; needs gradio.")
    base: str | None = _help(
        None, "Hub id or folder of a second generator, beside which the page sets the first."
    )
    persona: list[str] | None = field(
        default=None, metadata={"help": "Sentences that describe who replies."}
    )
    host: str = _help("127.0.0.1", "Address of the page; others than loopback open it to others.")
    port: int = _help(7860, "Port of the page.")


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
