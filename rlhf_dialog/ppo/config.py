"""PPO's values: TRL's `PPOConfig` and what an adversarial reward on text needs besides."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from transformers.trainer_utils import SaveStrategy
from trl.experimental.ppo import PPOConfig

from rlhf_dialog.errors import UserError

# The first five are made of the discriminator's score, the others are controls.
REWARDS = (
    "logit",
    "probability",
    "log_d",
    "minus_log_1_minus_d",
    "relative",
    "constant",
    "random",
    "shuffled",
)
GRANULARITIES = ("final", "prefix", "rollout")

# Inherited options that this trainer does not act on, and the values that ask nothing of it. An
# option that is silently ignored is worse than one that is missing.
NOT_SUPPORTED = {
    "whiten_rewards": (False,),
    "missing_eos_penalty": (None,),
    "gradient_checkpointing": (False,),
    "bf16": (False,),
    "fp16": (False,),
    "save_strategy": ("no",),
    "eval_strategy": ("no",),
    "load_best_model_at_end": (False,),
    "push_to_hub": (False,),
    "resume_from_checkpoint": (None,),
    "num_sample_generations": (0,),
    "activation_checkpointing": (None, False),
    "torch_compile": (False,),
    "logging_steps": (10,),
    "total_episodes": (None,),
    "batch_size": (None,),
    "mini_batch_size": (None,),
    "stop_token": ("eos",),
    "stop_token_id": (None,),
}


@dataclass
class SeqGANPPOConfig(PPOConfig):
    """Configuration of `SeqGANPPOTrainer`.

    An update is one rollout of `per_device_train_batch_size · gradient_accumulation_steps ·
    world size` episodes and `num_ppo_epochs · num_mini_batches` optimizer steps on it.
    `max_steps` counts updates.
    """

    learning_rate: float = field(default=1e-5, metadata={"help": "Peak learning rate of AdamW."})
    response_length: int = field(
        default=32, metadata={"help": "Longest reply, in tokens with EOS."}
    )
    stop_token: str | None = field(
        default="eos", metadata={"help": "A reply ends with the tokenizer's EOS."}
    )
    temperature: float = field(default=1.0, metadata={"help": "Sampling temperature of rollouts."})
    bf16: bool | None = field(default=False, metadata={"help": "Not supported."})
    gradient_checkpointing: bool = field(default=False, metadata={"help": "Not supported."})
    save_strategy: SaveStrategy | str = field(
        default="no", metadata={"help": "Not supported: models are saved at the end."}
    )
    num_sample_generations: int = field(
        default=0, metadata={"help": "Not supported: see samples.jsonl."}
    )
    output_dir: str | None = field(default="runs/demo", metadata={"help": "The run's new folder."})

    reward: str = field(
        default="logit",
        metadata={
            "help": "Made of the discriminator's score s: logit (s), probability, log_d, "
            "minus_log_1_minus_d, relative (to the real reply); or a control: constant, random, "
            "shuffled."
        },
    )
    repetition_penalty_coef: float = field(
        default=0.0,
        metadata={"help": "Reward lost by a reply that only repeats its own 2-grams; 0: off."},
    )
    copy_penalty_coef: float = field(
        default=0.0,
        metadata={"help": "Reward lost by a reply all of whose 3-grams stand in the context."},
    )
    length_penalty_coef: float = field(
        default=0.0,
        metadata={"help": "Reward lost by a reply far outside the band of lengths; 0: off."},
    )
    length_penalty_least: int = field(
        default=3, metadata={"help": "Shortest reply within the band, in words."}
    )
    length_penalty_most: int = field(
        default=30, metadata={"help": "Longest reply within the band, in words."}
    )
    reward_granularity: str = field(
        default="final",
        metadata={
            "help": "final: one score at the end; prefix: differences of the scores of prefixes; "
            "rollout: of the mean scores of completions of prefixes (SeqGAN)."
        },
    )
    reward_positions: int = field(
        default=3, metadata={"help": "Prefixes of a reply that are scored, for prefix and rollout."}
    )
    rollouts_per_prefix: int = field(
        default=4, metadata={"help": "Completions sampled of each prefix, for rollout."}
    )
    reward_clip: float = field(
        default=4.0, metadata={"help": "Normalised scores are clipped to ± this many deviations."}
    )
    length_residual_window: int = field(
        default=1024,
        metadata={
            "help": "Replies over which the effect of length is regressed out of the score; 0: off."
        },
    )
    kl_coef: float = field(default=0.1, metadata={"help": "First KL coefficient, reward per nat."})
    kl_target: float | None = field(
        default=3.0,
        metadata={
            "help": "Target of KL(policy ‖ warm start), nats per reply; none: fixed kl_coef."
        },
    )
    kl_horizon: int = field(
        default=1000, metadata={"help": "Episodes over which the KL controller reacts."}
    )
    supervised_coef: float = field(
        default=0.1,
        metadata={"help": "Weight of the language-model loss on the warm start's replies; 0: off."},
    )
    supervised_batch_size: int = field(
        default=32, metadata={"help": "Real replies per optimizer step for that loss and process."}
    )

    def check_contexts(self, contexts: int, world_size: int) -> None:
        """Raises UserError where an update needs more contexts than there are (defect 21)."""
        needed = self.per_device_train_batch_size * self.gradient_accumulation_steps * world_size
        if contexts < needed:
            raise UserError(
                f"per_device_train_batch_size: an update needs {needed} contexts, but the "
                f"generator's split holds {contexts}; lower it or gradient_accumulation_steps, or "
                "give more dialogues."
            )

    def __post_init__(self) -> None:
        if self.reward not in REWARDS:
            raise UserError(f"reward: {self.reward!r} is not one of {', '.join(REWARDS)}.")
        if self.reward_granularity not in GRANULARITIES:
            raise UserError(
                f"reward_granularity: {self.reward_granularity!r} is not one of "
                f"{', '.join(GRANULARITIES)}."
            )
        for name in ("repetition_penalty_coef", "copy_penalty_coef", "length_penalty_coef"):
            if not getattr(self, name) >= 0:
                raise UserError(f"{name}: {getattr(self, name)} must not be below 0.")
        for name in ("reward_positions", "rollouts_per_prefix"):
            if getattr(self, name) < 1:
                raise UserError(f"{name}: {getattr(self, name)} must be at least 1.")
        if not 1 <= self.length_penalty_least <= self.length_penalty_most:
            raise UserError(
                f"length_penalty_least: {self.length_penalty_least} must be from 1 to "
                f"length_penalty_most, {self.length_penalty_most}."
            )
        if self.response_length < 2:
            raise UserError("response_length: a reply needs at least 2 tokens, one word and EOS.")
        if not self.temperature > 0:
            raise UserError(f"temperature: {self.temperature} must be above 0.")
        if self.kl_coef < 0 or self.kl_estimator not in ("k1", "k3"):
            raise UserError("kl_coef must not be below 0, and kl_estimator must be k1 or k3.")
        for name in ("num_mini_batches", "num_ppo_epochs", "per_device_train_batch_size"):
            if getattr(self, name) < 1:
                raise UserError(f"{name}: {getattr(self, name)} must be at least 1.")
        if os.environ.get("ACCELERATE_MIXED_PRECISION", "no") != "no":
            raise UserError("mixed_precision: is not supported by this trainer; launch with 'no'.")
        for name in ("reward_clip", "kl_target", "kl_horizon", "supervised_batch_size"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise UserError(f"{name}: {value} must be above 0.")
        for name, allowed in NOT_SUPPORTED.items():
            value = getattr(self, name)
            if getattr(value, "value", value) not in allowed:
                raise UserError(f"{name}: {value} is not supported by this trainer; leave it out.")
        episodes = self.per_device_train_batch_size * self.gradient_accumulation_steps
        if episodes % self.num_mini_batches:
            raise UserError(
                f"num_mini_batches: {episodes} episodes (per_device_train_batch_size times "
                f"gradient_accumulation_steps) do not divide into {self.num_mini_batches}."
            )
        super().__post_init__()
