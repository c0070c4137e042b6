"""What a run trains and what it is held to: policy, critic, adapters, reference."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import patch_environment
from torch import nn
from transformers import PreTrainedModel

from rlhf_dialog.errors import UserError
from rlhf_dialog.generators.distributions import Sampling
from rlhf_dialog.generators.loading import Generator
from rlhf_dialog.generators.policy import Policy, disable_dropout, separate_trunk
from rlhf_dialog.ppo.config import SeqGANPPOConfig


def build_policy(generator: Generator, args: SeqGANPPOConfig, peft_config=None) -> Policy:
    """The policy and its critic; with a `peft_config` the generator's model becomes a PEFT model.

    Args:
        peft_config: a `peft.PeftConfig`, such as `LoraConfig`; None trains every weight.

    Raises:
        UserError: `value_path` holds no critic that fits.
    """
    trunk = separate_trunk(generator.model) if args.critic == "separate" else None
    if peft_config is not None:
        generator.model = add_adapters(generator, peft_config, args.seed)
    policy = Policy(generator.model, sampling_of(args), trunk)
    if args.value_path is not None:
        policy.load_value(Path(args.value_path))
    if args.gradient_checkpointing:  # defect 10
        policy.gradient_checkpointing_enable(args.gradient_checkpointing_kwargs)
    return policy


def add_adapters(generator: Generator, peft_config, seed: int) -> PreTrainedModel:
    """The generator's model with fresh adapters, which alone take gradients."""
    from peft import get_peft_model  # an optional dependency

    if peft_config.is_prompt_learning and peft_config.peft_type.value != "PREFIX_TUNING":
        raise UserError(
            f"peft_config: {peft_config.peft_type.value} puts tokens before the prompt, which "
            "rollouts and scores would place differently; use adapters such as LoRA."
        )
    if peft_config.task_type is None:
        peft_config.task_type = "SEQ_2_SEQ_LM" if generator.is_encoder_decoder else "CAUSAL_LM"
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return get_peft_model(generator.model, peft_config)


def build_reference(generator: Generator, args: SeqGANPPOConfig) -> Policy:
    """A frozen copy of the generator under the policy's sampling."""
    model = generator.frozen_copy().model
    disable_dropout(model)
    reference = Policy(model, sampling_of(args)).requires_grad_(False).eval()
    reference.config = model.config  # TRL reads it where it shards models
    return reference


def sampling_of(args: SeqGANPPOConfig) -> Sampling:
    """What replies are drawn from and scored under."""
    return Sampling(args.temperature, args.top_k, args.top_p)


class NoReward(nn.Module):
    """In the place of TRL's reward module: the reward is a callable on text."""

    def __init__(self, config) -> None:
        super().__init__()
        self.config = config  # TRL reads it where it shards models
        self.unused = nn.Parameter(torch.zeros(1), requires_grad=False)  # ZeRO-3 shards something


@contextmanager
def reference_policy(
    reference: nn.Module | None, model: nn.Module, accelerator: Accelerator
) -> Iterator[nn.Module]:
    """The policy from which the KL is measured: a frozen copy, or the model without its adapters.

    It runs under the autocast of training, as the policy does (defect 17).
    """
    with (
        accelerator.unwrap_model(model).lm.disable_adapter()
        if reference is None
        else nullcontext(),
        accelerator.autocast(),
    ):
        yield reference or model


@contextmanager
def precision(args: SeqGANPPOConfig) -> Iterator[None]:
    """Lets an Accelerator that TRL builds inside know of `bf16`, which TRL does not tell it."""
    if AcceleratorState._shared_state and (
        AcceleratorState().mixed_precision != args.mixed_precision
    ):
        AcceleratorState._reset_state()  # of an earlier trainer in this process; HF does likewise
    with patch_environment(accelerate_mixed_precision=args.mixed_precision):
        yield
