"""Training under DeepSpeed ZeRO: who steps, who holds which weights, and how they become whole.

The engine of DeepSpeed would step by a count of its own, divide losses by it, and clip by its own
file. Here the loss is a sum over the tokens of a whole minibatch, so the trainer says when a step
is due (`EngineGradients`) and hands its values down (`configure`). Under stage 3 every process
holds a share of each weight: `whole_weights` gathers them for a while, `unshard` for good.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from accelerate.utils import DistributedType
from torch import nn
from transformers.integrations import unset_hf_deepspeed_config
from transformers.integrations.deepspeed import set_hf_deepspeed_config
from trl.models.utils import remove_hooks, unwrap_model_for_generation

from rlhf_dialog.devices import build_whole_models
from rlhf_dialog.generators.policy import Policy
from rlhf_dialog.ppo.config import SeqGANPPOConfig


def is_engine(accelerator: Accelerator) -> bool:
    """Whether models are DeepSpeed's engines."""
    return accelerator.distributed_type == DistributedType.DEEPSPEED


def is_sharded(accelerator: Accelerator) -> bool:
    """Whether weights lie in shares on the processes (ZeRO stage 3)."""
    return is_engine(accelerator) and accelerator.state.deepspeed_plugin.zero_stage == 3


def configure(accelerator: Accelerator, args: SeqGANPPOConfig) -> None:
    """Tells DeepSpeed the batch sizes and the clipping that are true (defects 9 and 28).

    To be called after the `Accelerator` is made and before it prepares the models.
    """
    if not is_engine(accelerator):
        return
    rows = args.micro_rows
    accelerator.gradient_accumulation_steps = -(-args.local_mini_batch_size // rows)
    config = accelerator.state.deepspeed_plugin.deepspeed_config
    config["train_micro_batch_size_per_gpu"] = rows
    config["gradient_accumulation_steps"] = accelerator.gradient_accumulation_steps
    config["gradient_clipping"] = args.max_grad_norm or 0.0
    # By the model's width. DeepSpeed's own numbers are a buffer of 2 GB for gradients, and leave a
    # small model whole on every process.
    for size in ("reduce_bucket_size", "stage3_param_persistence_threshold"):
        config["zero_optimization"].setdefault(size, "auto")
    build_whole_models()


def schedule_engine(
    scheduler: torch.optim.lr_scheduler.LRScheduler,
    optimizer: torch.optim.Optimizer,
    accelerator: Accelerator,
) -> None:
    """Makes the schedule that was built on the plain optimizer set the engine's learning rates.

    The two share their groups until a checkpoint is loaded or Adam is offloaded; then no more.
    """
    if is_engine(accelerator):
        scheduler.optimizer = optimizer


class Gradients:
    """Backward passes that join one optimizer step, and the step: one process, or DDP."""

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        accelerator: Accelerator,
        max_norm: float,
    ) -> None:
        self.model, self.accelerator = model, accelerator
        # Out of Accelerate's wrapper, which looks for packages on the disk at each step. It is for
        # loss scaling, which bf16 does without, and for Accelerate's accumulation, which is off.
        inner = optimizer.optimizer if isinstance(optimizer, AcceleratedOptimizer) else optimizer
        self.optimizer: torch.optim.Optimizer = inner
        self.max_norm = max_norm

    @contextmanager
    def micro_batch(self, *, last: bool) -> Iterator[None]:
        """Around forward and backward of a micro-batch; at the `last` one processes exchange."""
        with nullcontext() if last else self.accelerator.no_sync(self.model):
            yield

    def backward(self, loss: torch.Tensor) -> None:
        """Adds the gradient of `loss`; over processes it is averaged."""
        self.accelerator.backward(loss)

    def step(self) -> None:
        """One optimizer step on the clipped sum; the gradients are forgotten."""
        if self.max_norm:  # defect 9; 0 means off, as in transformers
            self.accelerator.clip_grad_norm_(self.model.parameters(), self.max_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()

    def drop(self) -> None:
        """Forgets the gradients without a step."""
        self.optimizer.zero_grad()


class EngineGradients(Gradients):
    """The same of DeepSpeed's engine, which clips by what `configure` told it."""

    model: Any  # a DeepSpeedEngine

    @contextmanager
    def micro_batch(self, *, last: bool) -> Iterator[None]:
        self.model.set_gradient_accumulation_boundary(last)
        yield

    def backward(self, loss: torch.Tensor) -> None:
        self.model.backward(loss, scale_wrt_gas=False)

    def step(self) -> None:
        self.model.step()

    def drop(self) -> None:
        """What DeepSpeed does with gradients that have overflowed."""
        optimizer = self.model.optimizer
        optimizer.zero_grad()
        if self.model.zero_optimization_stage() not in (1, 2):
            return  # stage 3 counts its micro-batches anew after `zero_grad`
        optimizer.micro_step_id = -1
        optimizer._release_preflattened_grad_buffers()
        if optimizer.cpu_offload:
            optimizer.reset_cpu_buffers()
        else:
            optimizer.averaged_gradients = dict.fromkeys(optimizer.averaged_gradients)
            optimizer.all_grad_tensors = dict.fromkeys(optimizer.all_grad_tensors)


def gradients_of(
    model: nn.Module, optimizer: torch.optim.Optimizer, accelerator: Accelerator, max_norm: float
) -> Gradients:
    """The kind that fits the way `model` was prepared."""
    kind = EngineGradients if is_engine(accelerator) else Gradients
    return kind(model, optimizer, accelerator, max_norm)


@contextmanager
def ready_to_generate(
    policy: Policy, model: nn.Module, accelerator: Accelerator, gather: bool
) -> Iterator[Policy]:
    """The policy that `model` wraps, for generation; all processes have to enter.

    Args:
        gather: under stage 3, all weights are gathered before and shared out again after.
            Otherwise each layer is gathered at each token: slower, in less memory, and all
            processes have to generate equally often.
    """
    if not (is_sharded(accelerator) or policy.is_gradient_checkpointing):
        yield policy  # TRL would unwrap it anew, which takes as long as to draw several tokens
        return
    in_step = is_sharded(accelerator) and not gather
    if in_step:  # how `generate` learns that it goes on until the last process's replies end
        set_hf_deepspeed_config(accelerator.state.deepspeed_plugin.dschf)
    try:
        with unwrap_model_for_generation(
            model, accelerator, gather_deepspeed3_params=gather
        ) as unwrapped:
            yield unwrapped
    finally:
        if in_step:
            unset_hf_deepspeed_config()


@contextmanager
def whole_weights(module: nn.Module, accelerator: Accelerator) -> Iterator[None]:
    """Within, every process holds all of the module's weights; all processes have to enter.

    They are for reading: a forward pass would find DeepSpeed's hooks in its way (see `unshard`).
    """
    if not is_sharded(accelerator):
        yield
        return
    import deepspeed  # late: to import it takes seconds, and one process does without

    with deepspeed.zero.GatheredParameters(list(module.parameters())):
        yield


def unshard(engine: Any, accelerator: Accelerator) -> None:
    """Turns what the engine trained into a plain module again, whole on every process.

    For good: the engine can train no further.
    """
    if not is_sharded(accelerator):
        return
    module = accelerator.unwrap_model(engine)
    with whole_weights(module, accelerator):
        whole = {
            id(p): nn.Parameter(p.detach().clone(), p.requires_grad) for p in module.parameters()
        }
    remove_hooks(engine)
    for child in module.modules():
        # By plain dictionaries, in place of those that gather on access; tied weights stay tied.
        named = child._parameters.items()
        child._parameters = {k: None if p is None else whole[id(p)] for k, p in named}
