"""Fields that `PPOConfig` inherits from TRL and transformers: which are acted upon, and how far."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, Field
from typing import Any

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

# Inherited fields that are acted upon, and by whom. Every other inherited field has to keep its
# default: an option that is silently ignored is worse than one that is missing.
_TRAINER = (
    "num_train_epochs max_steps per_device_train_batch_size gradient_accumulation_steps "
    "per_device_eval_batch_size max_grad_norm gradient_checkpointing gradient_checkpointing_kwargs "
    "activation_checkpointing activation_checkpointing_kwargs bf16 logging_steps eval_strategy "
    "eval_steps eval_delay eval_on_start save_strategy save_steps save_total_limit "
    "resume_from_checkpoint load_best_model_at_end metric_for_best_model greater_is_better seed "
    "output_dir num_mini_batches local_rollout_forward_batch_size response_length stop_token "
    "stop_token_id temperature missing_eos_penalty num_ppo_epochs whiten_rewards kl_coef "
    "kl_estimator cliprange vf_coef cliprange_value gamma lam ds3_gather_for_generation"
)
_OPTIMIZER = (
    "learning_rate lr_scheduler_type lr_scheduler_kwargs warmup_steps optim optim_args "
    "weight_decay adam_beta1 adam_beta2 adam_epsilon"
)
_CALLBACKS = (
    "logging_first_step disable_tqdm report_to run_name project trackio_space_id "
    "trackio_bucket_id trackio_static_space_id save_on_each_node"
)
_ARGUMENTS = "use_cpu tf32 ddp_backend ddp_timeout"
_PUBLISHING = "push_to_hub hub_model_id hub_private_repo"
ACTED_UPON: dict[str, str] = {
    name: reader
    for reader, names in {
        "the trainer": _TRAINER,
        "the optimizer or its schedule": _OPTIMIZER,
        "callbacks, reporting among them": _CALLBACKS,
        "TrainingArguments themselves": _ARGUMENTS,
        "publishing, when the recipe has finished": _PUBLISHING,
    }.items()
    for name in names.split()
}

# What TrainingArguments or a parser make of a default or of other fields: it asks for nothing, and
# comes back when a configuration is read again.
FOLLOWS: dict[str, Callable[[Any], bool]] = {
    "include_num_input_tokens_seen": lambda args: args.include_num_input_tokens_seen is False,
    "do_eval": lambda args: plain(args.eval_strategy) != "no",
    "debug": lambda args: not args.debug,
    "dataloader_pin_memory": lambda args: args.use_cpu,
}

# The values that a field may have, where these are few: of some transformers has more.
POSSIBLE = {
    "eval_strategy": ("no", "steps"),
    "save_strategy": ("no", "steps", "best"),
    "stop_token": ("eos", None),
    "kl_estimator": ("k1", "k3"),
    "critic": ("value_head", "separate"),
    "reward": REWARDS,
    "reward_granularity": ("final", "prefix", "rollout"),
    "float32_matmul_precision": (None, "highest", "high", "medium"),
}


def plain(value: Any) -> Any:
    return getattr(value, "value", value)  # an Enum's


def default_of(f: Field) -> Any:
    return plain(f.default if f.default_factory is MISSING else f.default_factory())
