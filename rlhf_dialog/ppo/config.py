"""PPO's values: TRL's `PPOConfig` and what an adversarial reward on text needs besides."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from transformers.trainer_utils import SaveStrategy
from trl.experimental.ppo import PPOConfig

from rlhf_dialog.devices import build_whole_models, meet_for_training, under_deepspeed
from rlhf_dialog.errors import UserError
from rlhf_dialog.ppo.inherited import ACTED_UPON, FOLLOWS, POSSIBLE, default_of, plain


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
    stop_token_id: int | None = field(
        default=None, metadata={"help": "A reply ends with this token instead of EOS."}
    )
    temperature: float = field(default=1.0, metadata={"help": "Sampling temperature of rollouts."})
    top_k: int = field(
        default=0, metadata={"help": "Rollouts sample from the k likeliest tokens; 0: from all."}
    )
    top_p: float = field(
        default=1.0,
        metadata={"help": "Rollouts sample from the tokens that hold this share of the mass."},
    )
    bf16: bool | None = field(
        default=False, metadata={"help": "Autocast to bfloat16, in rollouts and in training alike."}
    )
    gradient_checkpointing: bool = field(
        default=False, metadata={"help": "Compute activations twice instead of keeping them."}
    )
    logging_steps: float = field(
        default=1, metadata={"help": "Updates between two logs; below 1 a share of the run."}
    )
    save_strategy: SaveStrategy | str = field(
        default="steps",
        metadata={
            "help": "Checkpoints to go on from. steps: every save_steps updates and at the end; "
            "best: then too, and the generator that an evaluation found best in best/; no: none "
            "but at a signal."
        },
    )
    save_steps: float = field(
        default=10,
        metadata={"help": "Updates between two checkpoints; below 1 a share of the run."},
    )
    save_total_limit: int | None = field(
        default=2, metadata={"help": "Newest checkpoints that are kept; none: all."}
    )
    resume_from_checkpoint: str | None = field(
        default=None,
        metadata={"help": "latest, or the path of a checkpoint in output_dir: go on from there."},
    )
    accept_changes: list[str] | None = field(
        default=None,
        metadata={"help": "Fields that may differ from those of the run that is gone on with."},
    )
    num_sample_generations: int = field(
        default=0, metadata={"help": "Not supported: see eval_strategy and eval_samples_shown."}
    )
    output_dir: str | None = field(default="runs/demo", metadata={"help": "The run's new folder."})
    cliprange_value: float | None = field(
        default=0.2, metadata={"help": "Clip range of the value loss; none: not clipped."}
    )

    critic: str = field(
        default="value_head",
        metadata={"help": "value_head (on the generator's trunk) or separate (its own trunk)."},
    )
    value_path: str | None = field(
        default=None, metadata={"help": "Folder `value/` of a run that the critic begins from."}
    )
    entropy_coef: float = field(
        default=0.0, metadata={"help": "Bonus on the entropy of the next token, per nat; 0: off."}
    )
    whiten_advantages: bool = field(
        default=True, metadata={"help": "Advantages to mean 0 and deviation 1 over all ranks."}
    )
    update_kl_limit: float | None = field(
        default=None,
        metadata={
            "help": "An update ends early when the policy is this far from the one that sampled, "
            "nats per token (Stable-Baselines3's target_kl); none: never."
        },
    )
    normalize_scores: bool = field(
        default=True, metadata={"help": "Scores to mean 0 and deviation 1 of the run so far."}
    )
    min_reply_tokens: int = field(
        default=0, metadata={"help": "A reply with fewer tokens, EOS included, is short; 0: none."}
    )
    short_reply_penalty: float = field(
        default=1.0, metadata={"help": "Taken off the normalised score of a short reply."}
    )
    # Inherited; named here for their types and what they mean here.
    push_to_hub: bool = field(
        default=False, metadata={"help": "Push the finished run to the Hub (docs/publish.md)."}
    )
    hub_model_id: str | None = field(
        default=None,
        metadata={"help": "NAME or OWNER/NAME of its repositories; see push_to_hub.py --name."},
    )
    hub_private_repo: bool | None = field(
        default=None, metadata={"help": "false publishes them; they are private otherwise."}
    )
    metric_for_best_model: str | None = field(
        default=None,
        metadata={"help": "Metric of evaluations that is to be best, such as judge/score."},
    )

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
    reward_clip: float | None = field(
        default=4.0,
        metadata={"help": "Normalised scores are clipped to ± this many deviations; none: not."},
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
    supervised_coef_final: float | None = field(
        default=None,
        metadata={"help": "That weight at the last update, reached linearly; none: constant."},
    )
    supervised_batch_size: int = field(
        default=32, metadata={"help": "Real replies per optimizer step for that loss and process."}
    )
    demonstration_share: float = field(
        default=0.0,
        metadata={
            "help": "Share of the first rollout that people's replies replace; falls to 0 linearly."
        },
    )
    merge_adapters: bool = field(
        default=False,
        metadata={"help": "Save adapters merged into the whole model; false: by themselves."},
    )
    length_groups: int | None = field(
        default=None,
        metadata={
            "help": "A batch of per_device_train_batch_size is computed in so many parts of like "
            "length: less memory, and less padding where rows are padded; more passes; none: as "
            "the model's size and family ask for."
        },
    )
    float32_matmul_precision: str | None = field(
        default=None,
        metadata={
            "help": "highest, high or medium: torch.set_float32_matmul_precision for the whole "
            "run. high and medium are TF32 on a GPU; medium allows a CPU bfloat16 inside of "
            "products, and one without matrix units for it computes in float32 all the same, and "
            "large models faster (docs/speed.md). None: as it is."
        },
    )
    eval_samples_shown: int = field(
        default=4, metadata={"help": "Replies that an evaluation prints as a table."}
    )

    def check_contexts(self, contexts: int, world_size: int) -> None:
        """Raises UserError where an update needs more contexts than there are (defect 21)."""
        needed = self.per_device_train_batch_size * self.gradient_accumulation_steps * world_size
        if contexts < needed:
            raise UserError(
                f"per_device_train_batch_size: an update needs {needed} contexts on {world_size} "
                f"process(es), but the generator's split holds {contexts}; lower it or "
                "gradient_accumulation_steps, launch fewer processes, or give more dialogues."
            )

    @property
    def micro_rows(self) -> int:
        """Rows of one pass forward and back: those of a minibatch, in groups of like length.

        The number of passes follows from the configuration alone, so that it is the same on every
        rank, where ZeRO-3 needs it so.
        """
        rows = min(self.per_device_train_batch_size, self.local_mini_batch_size)
        return -(-rows // (self.length_groups or 1))

    @property
    def scoring_rows(self) -> int:
        """Rows of one forward pass over a rollout.

        In bfloat16 the shape of a batch shows in the last digits, so the rollout is scored in the
        batches of training: with one minibatch the first ratio is then exactly 1 (defect 17).
        """
        return self.micro_rows if self.bf16 else self.local_rollout_forward_batch_size

    def check_push(self) -> None:
        """Raises UserError where the trainer itself is to push; TRL's would, without the critic."""
        if self.push_to_hub:
            raise UserError(
                "push_to_hub: is for recipes; push a finished run with rlhf_dialog.publishing."
            )

    def check_evaluation(self, contexts: int) -> None:
        """Raises UserError where there is to be an evaluation and nothing to evaluate on."""
        if (self.eval_on_start or plain(self.eval_strategy) != "no") and not contexts:
            raise UserError("eval_strategy: there is nothing to evaluate on; give eval_examples.")

    def __post_init__(self) -> None:
        self._check_inherited()
        self._check_own()
        if self.stop_token_id is not None:
            self.stop_token = None
        if os.environ.get("ACCELERATE_MIXED_PRECISION", "no") == "bf16":
            self.bf16 = True  # asked for at launch
        if plain(self.save_strategy) == "best" and self.metric_for_best_model is None:
            self.metric_for_best_model = "judge/score"
        if self.bf16 and under_deepspeed():
            raise UserError("bf16: DeepSpeed would round the weights too; launch with 'no'.")
        if meet_for_training(self.ddp_timeout):
            self.use_cpu, self.ddp_backend = False, "gloo"  # else DeepSpeed would be left out
        super().__post_init__()
        build_whole_models()
        if self.float32_matmul_precision is not None:
            torch.set_float32_matmul_precision(self.float32_matmul_precision)

    def _check_inherited(self) -> None:
        """Refuses values of inherited fields that this trainer does not act upon."""
        inherited = {f.name for f in fields(PPOConfig)}
        for f in fields(self):
            value = plain(getattr(self, f.name))
            ignored = f.name in inherited and f.name not in ACTED_UPON
            if f.name in FOLLOWS and FOLLOWS[f.name](self):
                continue
            if ignored and value != default_of(f):
                told = "(hidden)" if "token" in f.name else value
                raise UserError(f"{f.name}: {told} is not supported by this trainer; leave it out.")
            possible = POSSIBLE.get(f.name, (value,))
            if value not in possible:
                raise UserError(
                    f"{f.name}: {value!r} is not one of {', '.join(map(str, possible))}."
                )
        if str(plain(self.lr_scheduler_type)) in ("reduce_lr_on_plateau", "greedy"):
            raise UserError(
                f"lr_scheduler_type: {plain(self.lr_scheduler_type)} needs a loss that falls; "
                "choose linear, cosine, constant or another one that counts steps."
            )
        if os.environ.get("ACCELERATE_MIXED_PRECISION", "no") not in ("no", "bf16"):
            raise UserError("mixed_precision: only bf16 is supported; launch with 'no' or 'bf16'.")

    def _check_own(self) -> None:
        if not 1 <= self.length_penalty_least <= self.length_penalty_most:
            raise UserError(
                f"length_penalty_least: {self.length_penalty_least} must be from 1 to "
                f"length_penalty_most, {self.length_penalty_most}."
            )
        if self.length_penalty_coef and self.length_residual_window:
            raise UserError(
                "length_penalty_coef: needs length_residual_window: 0, which would take the "
                "penalty out again."
            )
        if self.response_length < 2:
            raise UserError("response_length: a reply needs at least 2 tokens, one word and EOS.")
        if self.stop_token is None and self.stop_token_id is None:
            raise UserError("stop_token: none would never let a reply end; give a stop_token_id.")
        _check(self, lambda x: x > 0, "must be above 0", *_POSITIVE.split())
        _check(self, lambda x: x >= 0, "must not be below 0", *_NOT_NEGATIVE.split())
        _check(self, lambda x: x >= 1, "must be at least 1", *_COUNTS.split())
        _check(self, lambda x: 0 <= x <= 1, "must be from 0 to 1", "gamma", "lam")
        _check(self, lambda x: 0 <= x < 1, "must be from 0 to below 1", "demonstration_share")
        _check(self, lambda x: 0 < x <= 1, "must be above 0 and at most 1", "top_p")
        if self.tf32 is not None and self.float32_matmul_precision is not None:
            raise UserError("tf32: float32_matmul_precision says the same thing; give one of them.")
        if self.load_best_model_at_end and plain(self.save_strategy) != "best":
            raise UserError("load_best_model_at_end: needs save_strategy: best.")
        if plain(self.save_strategy) == "best" and plain(self.eval_strategy) == "no":
            raise UserError("save_strategy: best needs eval_strategy: steps, which finds the best.")
        if self.merge_adapters and self.load_best_model_at_end:
            raise UserError("merge_adapters: leaves no adapters that load_best_model_at_end loads.")
        if not self.ds3_gather_for_generation and self.reward_granularity == "rollout":
            raise UserError("ds3_gather_for_generation: reward_granularity: rollout needs true.")
        episodes = self.per_device_train_batch_size * self.gradient_accumulation_steps
        if episodes % self.num_mini_batches:
            raise UserError(
                f"num_mini_batches: {episodes} episodes (per_device_train_batch_size times "
                f"gradient_accumulation_steps) do not divide into {self.num_mini_batches}."
            )


_POSITIVE = (
    "temperature reward_clip kl_target kl_horizon supervised_batch_size update_kl_limit cliprange "
    "cliprange_value missing_eos_penalty save_steps"
)
_NOT_NEGATIVE = (
    "kl_coef vf_coef entropy_coef top_k min_reply_tokens short_reply_penalty supervised_coef "
    "supervised_coef_final length_residual_window max_grad_norm eval_samples_shown "
    "repetition_penalty_coef copy_penalty_coef length_penalty_coef learning_rate weight_decay"
)
_COUNTS = (
    "num_mini_batches num_ppo_epochs per_device_train_batch_size gradient_accumulation_steps "
    "per_device_eval_batch_size local_rollout_forward_batch_size reward_positions "
    "rollouts_per_prefix save_total_limit length_groups"
)


def _check(config: SeqGANPPOConfig, holds: Callable[[Any], bool], told: str, *names: str) -> None:
    for name in names:
        value = getattr(config, name)
        if value is not None and not holds(value):
            raise UserError(f"{name}: {value} {told}.")
