"""The sides that `ppo_step.py` measures: stock TRL, the plain way, and ours.

Each takes a `Meter` and trains until that says stop. The same prompts, first weights, reward model
and hyper-parameters; the same random numbers at the start of every update.
"""

from __future__ import annotations

import copy
import json
import os
import resource
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import wraps
from typing import Any

import torch
from datasets import Dataset
from ppo_shapes import (
    CONTEXT,
    EPISODES,
    RESPONSE,
    Shape,
    build_critic_on_ids,
    build_examples,
    build_generator,
    build_published,
    build_reward_on_ids,
    build_reward_on_text,
    fixed_logprobs,
)
from stock_position import StockPosition
from transformers import PreTrainedModel, PrinterCallback, TrainerCallback
from trl.experimental.ppo import PPOConfig, PPOTrainer, ppo_trainer
from trl.experimental.ppo.ppo_trainer import get_reward

from rlhf_dialog.generators.prompts import encode_contexts
from rlhf_dialog.generators.sampling import mask_after_eos
from rlhf_dialog.ppo import trainer as our_trainer
from rlhf_dialog.ppo.config import SeqGANPPOConfig
from rlhf_dialog.ppo.trainer import SeqGANPPOTrainer

PHASES = ("sample", "score", "reference", "value", "update", "refresh", "other")
UPDATES = 1000  # more than anybody measures


@dataclass(frozen=True)
class Setting:
    """What is measured: one shape in one precision, with one kind of critic of ours."""

    shape: Shape
    dtype: str = "fp32"
    device: str = "cpu"
    critic: str = "value_head"
    episodes: int = EPISODES
    context: int = CONTEXT
    response: int = RESPONSE

    def trainer(self, folder: str, dtype: str) -> dict[str, Any]:
        """The hyper-parameters of both trainers."""
        return {
            "output_dir": folder,
            "per_device_train_batch_size": self.episodes,
            "gradient_accumulation_steps": 1,
            "num_ppo_epochs": 2,
            "num_mini_batches": 1,
            "response_length": self.response,
            "temperature": 1.0,
            "learning_rate": 1e-5,
            "lr_scheduler_type": "constant",
            "kl_coef": 0.1,
            "stop_token": "eos",
            "num_sample_generations": 0,
            "save_strategy": "no",
            "bf16": dtype == "bf16",
            "gradient_checkpointing": False,
            "report_to": "none",
            "disable_tqdm": True,
            "use_cpu": self.device == "cpu",
            "seed": 3,
        }

    def examples(self):
        # No pass over the data ends within a measurement: stock takes other steps there (defect 8).
        return build_examples(self.shape, 64 * self.episodes, longest=self.context)


class Finished(Exception):
    """The meter has been told to stop."""


@dataclass
class Meter:
    """Takes turns with another process: one update, then a line of JSON, then waits for a word.

    Seconds are CPU seconds of this process, which other work on the machine does not change; on a
    GPU they are those of the clock, after synchronising.
    """

    device: str
    policy: PreTrainedModel | None = None  # which the side trains
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    tokens: int = 0
    started: float = 0.0
    marked: float = 0.0
    turns: int = 0

    def clock(self) -> float:
        if self.device == "cpu":
            return time.process_time()
        torch.cuda.synchronize()
        return time.perf_counter()

    def wrap(self, owner: object, name: str, phase: str | Callable[..., str]) -> None:
        """Counts what `owner.name(...)` takes as `phase`, or as what that says of its arguments."""
        function = getattr(owner, name)

        @wraps(function)
        def timed(*arguments, **options):
            start = self.clock()
            result = function(*arguments, **options)
            which = phase if isinstance(phase, str) else phase(*arguments, **options)
            self.seconds[which] += self.clock() - start
            return result

        setattr(owner, name, timed)

    def turn(self, seed: int) -> None:
        """Ends a step, tells of it, waits for the next one's turn, and seeds it."""
        total = self.clock() - self.started
        known = {phase: self.seconds[phase] for phase in PHASES[:-1]}
        if self.device == "cpu":
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
        else:
            peak = torch.cuda.max_memory_allocated() / 2**20
        told = {
            "seconds": total,
            "phases": known | {"other": total - sum(known.values())},
            "tokens": self.tokens,
            "peak_mib": peak,
        }
        if self.policy is not None and self.turns < 2:  # before the first update and behind it
            told["logprobs"] = fixed_logprobs(self.policy)
        self.turns += 1
        first = int(os.environ.get("RANK", "0")) == 0  # speaks for all ranks
        if first:
            print(json.dumps(told), flush=True)
        word = [sys.stdin.readline().strip() if first else ""]
        if torch.distributed.is_initialized():
            torch.distributed.broadcast_object_list(word)
        if word[0] != "go":
            raise Finished
        torch.manual_seed(seed)
        self.seconds.clear()
        self.tokens, self.started = 0, self.clock()


class Turns(TrainerCallback):
    """A turn after each update, each with the same random numbers as the other side's."""

    def __init__(self, meter: Meter) -> None:
        self.meter = meter

    def on_train_begin(self, args, state, control, **kwargs):
        self.meter.turn(1000)

    def on_step_end(self, args, state, control, **kwargs):
        self.meter.turn(1000 + state.global_step)


def run_stock(setting: Setting, meter: Meter) -> None:
    """TRL 1.12's own trainer; in bf16 as `accelerate launch --mixed_precision bf16` starts it."""
    shape, generator = setting.shape, build_published(setting.shape)
    examples = setting.examples()
    tokenizer = copy.deepcopy(generator.tokenizer)
    tokenizer.padding_side = "left"
    prompts = encode_contexts(generator, [e.context for e in examples], setting.context)
    trainer = PPOTrainer(
        PPOConfig(
            **setting.trainer(os.environ["BENCHMARK_FOLDER"], setting.dtype),
            total_episodes=UPDATES * setting.episodes,
        ),
        processing_class=tokenizer,
        model=generator.model,
        ref_model=copy.deepcopy(generator.model),
        reward_model=build_reward_on_ids(shape),
        value_model=build_critic_on_ids(shape),
        train_dataset=Dataset.from_list([{"input_ids": ids} for ids in prompts]),
        callbacks=[Turns(meter)],
    )
    trainer.remove_callback(PrinterCallback)
    meter.policy = trainer.model.policy
    reward = trainer.reward_model
    generate, whiten = ppo_trainer.batch_generation, ppo_trainer.masked_whiten

    def counted(model, queries, *arguments):
        ids, logits = generate(model, queries, *arguments)
        mask = mask_after_eos(ids[:, queries.shape[1] :], tokenizer.eos_token_id)
        meter.tokens += int(mask.sum())
        return ids, logits

    def marked(*arguments, **options):  # the last that happens before the update
        result = whiten(*arguments, **options)
        meter.marked = meter.clock()
        return result

    def log(metrics):
        meter.seconds["update"] += meter.clock() - meter.marked
        PPOTrainer.log(trainer, metrics)

    ppo_trainer.batch_generation, ppo_trainer.masked_whiten = counted, marked
    trainer.log = log
    meter.wrap(ppo_trainer, "batch_generation", "sample")
    meter.wrap(ppo_trainer, "get_reward", lambda m, *_: "score" if m is reward else "value")
    reference = trainer.ref_model
    meter.wrap(ppo_trainer, "forward", lambda m, *_: "reference" if m is reference else "forward")
    trainer.train()


class RewardOnIds(StockPosition):
    """Reads stock's reward model, on token ids, so that both sides are told the same."""

    stock_reward: torch.nn.Module

    def score(self, rollout):
        ids = torch.cat([rollout.context_ids, rollout.reply_ids], dim=1)
        pad = self.processing_class.pad_token_id
        ids[:, -rollout.reply_mask.shape[1] :][~rollout.reply_mask] = pad
        return get_reward(self.stock_reward, ids, pad, rollout.context_ids.shape[1])[1]


def run_ours(setting: Setting, meter: Meter) -> None:
    shape, generator = setting.shape, build_generator(setting.shape)
    config = SeqGANPPOConfig(
        **setting.trainer(os.environ["BENCHMARK_FOLDER"], setting.dtype),
        max_steps=UPDATES,
        critic=setting.critic,
        # What differs from stock on purpose is off; none of it takes time.
        kl_target=None,
        normalize_scores=False,
        reward_clip=None,
        length_residual_window=0,
        max_grad_norm=0.0,
    )
    kind = SeqGANPPOTrainer if shape.encoder_decoder else RewardOnIds
    trainer = kind(
        config,
        generator,
        build_reward_on_text(shape),
        setting.examples(),
        context_length=setting.context,
        callbacks=[Turns(meter)],
    )
    if not shape.encoder_decoder:
        trainer.stock_reward = build_reward_on_ids(shape).to(trainer.accelerator.device)
    trainer.remove_callback(PrinterCallback)
    meter.policy = trainer.policy.lm
    sample = trainer.sample

    def counted(batch):
        rollout = sample(batch)
        meter.tokens += int(rollout.reply_mask.sum())
        return rollout

    trainer.sample = counted
    meter.wrap(trainer, "_respond", "sample")
    meter.wrap(trainer, "score", "score")
    meter.wrap(trainer, "update", "update")
    meter.wrap(trainer, "refresh", "refresh")
    meter.wrap(our_trainer, "own_scores", "value")
    meter.wrap(our_trainer, "in_chunks", "reference")
    trainer.train()
