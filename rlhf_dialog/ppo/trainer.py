"""PPO on dialogue with a reward on text, for causal and encoder-decoder generators.

Kept of the textbook (Schulman et al. 2017; Ziegler et al. 2019): clipped policy and value losses,
GAE, whitened advantages, a KL penalty per token to the generator the run began with, an adaptive
coefficient. Added for an adversarial reward: the discriminator is refreshed on fresh samples, what
length explains is taken out of its score, scores are normalised, and a language-model loss on real
replies is interleaved. Left out: reward models inside the policy's tokenizer, full-vocabulary
statistics of whole rollouts, sampling from a truncated distribution.

    trainer = SeqGANPPOTrainer(args, generator, reward, examples, context_length=64)
    trainer.train()

One update: sample -> score -> reward -> advantages -> update -> refresh -> log.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from itertools import chain, repeat
from pathlib import Path
from typing import ClassVar

import torch
from accelerate.utils import gather_object
from torch import nn
from transformers import TrainerControl, TrainerState
from trl.experimental.ppo import PPOTrainer
from trl.models.utils import unwrap_model_for_generation

from rlhf_dialog.dialogues.schema import Example
from rlhf_dialog.discriminators.refresh import Refresher
from rlhf_dialog.generators.decoding import decode_rows
from rlhf_dialog.generators.loading import Generator
from rlhf_dialog.generators.policy import Policy, disable_dropout
from rlhf_dialog.generators.prompts import encode_batch, encode_context, pad_prompts
from rlhf_dialog.ppo import objectives
from rlhf_dialog.ppo.config import SeqGANPPOConfig
from rlhf_dialog.ppo.rewards import (
    AdaptiveKLController,
    LengthResidual,
    RewardNormalizer,
    TextReward,
)
from rlhf_dialog.ppo.rollouts import Rollout, in_chunks, respond

# (contexts, replies) of all ranks' episodes -> metrics by name; read by the log alone
Monitor = Callable[[Sequence[Sequence[str]], Sequence[str]], dict[str, float]]


class SeqGANPPOTrainer(PPOTrainer):
    """TRL's `PPOTrainer` with its construction kept and its loop replaced.

    Args:
        args: see `SeqGANPPOConfig`.
        generator: the policy; a frozen copy of it, taken now, is the reference of the KL.
        reward: any callable `(contexts, replies) -> FloatTensor[B]` on text.
        train_examples: their contexts are the prompts.
        context_length: longest prompt, in tokens.
        refresher: trains the discriminator behind `reward` on fresh samples; see `Refresher`.
        refresh_every: updates between refreshes; 0 never.
        supervised_examples: real replies for the interleaved language-model loss.
        monitors: further looks at each update's replies, for the log. They never reach the policy.
    """

    _tag_names: ClassVar[list[str]] = ["trl", "ppo", "rlhf_dialog", "dialogue"]
    args: SeqGANPPOConfig
    state: TrainerState
    control: TrainerControl
    model: nn.Module
    optimizer: torch.optim.Optimizer
    lr_scheduler: torch.optim.lr_scheduler.LRScheduler

    def __init__(
        self,
        args: SeqGANPPOConfig,
        generator: Generator,
        reward: TextReward,
        train_examples: Sequence[Example],
        *,
        context_length: int,
        refresher: Refresher | None = None,
        refresh_every: int = 0,
        supervised_examples: Sequence[Example] = (),
        monitors: Sequence[Monitor] = (),
        callbacks: list | None = None,
    ) -> None:
        self.generator = generator
        self.context_length = context_length
        self.reward = reward
        self.refresher, self.refresh_every = refresher, refresh_every
        self.supervised_examples, self.monitors = list(supervised_examples), monitors
        policy = Policy(generator.model, args.temperature)
        super().__init__(
            args,
            processing_class=generator.tokenizer,
            model=generator.model,
            ref_model=generator.frozen_copy().model,
            reward_model=nn.Identity(),  # the reward is a callable on text, not a module of TRL's
            train_dataset=list(train_examples),
            value_model=policy,
            data_collator=self._collate,
            callbacks=callbacks,
        )
        # Micro-batch losses are sums divided by the tokens of the whole minibatch, so nothing may
        # divide them again (defects 6 and 24).
        self.accelerator.gradient_accumulation_steps = 1
        disable_dropout(self.ref_model)
        self.ref_policy = Policy(self.ref_model, args.temperature).to(self.accelerator.device)
        # Order of minibatches and of real replies, another one on each rank (defect 20).
        self.order = torch.Generator().manual_seed(self.local_seed + 1)
        self.length_residual = LengthResidual(args.length_residual_window)
        self.normalizer = RewardNormalizer()
        self.kl_controller = AdaptiveKLController(args.kl_coef, args.kl_target, args.kl_horizon)

    def create_optimizer_and_scheduler(self, num_training_steps: int) -> None:
        """Called by TRL's constructor between wrapping the models and preparing them.

        It has just built its own two-trunk wrapper; the policy with its value head takes its place.
        """
        args = self.args
        self.model = self.value_model
        disable_dropout(self.model)  # TRL's own misses functional dropout (defect 16)
        self.model.config = self.policy_model.config
        if args.max_steps > 0:  # defect 19
            args.num_total_batches = args.max_steps
            args.total_episodes = args.max_steps * args.batch_size
        args.check_contexts(self.train_dataset_len, args.world_size)
        super().create_optimizer_and_scheduler(args.num_total_batches)

    def train(self) -> None:
        """The whole run, one update after the other."""
        args = self.args
        batches = chain.from_iterable(repeat(self.dataloader))
        self.state.max_steps = args.num_total_batches
        self.state.num_train_epochs = args.total_episodes / self.train_dataset_len
        self.control = self.callback_handler.on_train_begin(args, self.state, self.control)
        self.model.eval()  # dropout is out; eval also keeps layers such as layerdrop still
        for _ in range(args.num_total_batches):
            start = time.time()
            rollout = self.sample(next(batches))
            scores = self.score(rollout)
            rewards, metrics = self.compute_rewards(rollout, scores)
            advantages, returns = objectives.generalized_advantages(
                rewards, rollout.values, rollout.reply_mask, args.gamma, args.lam
            )
            metrics |= self._describe(rollout, returns)
            whitened = objectives.masked_whiten(advantages, rollout.reply_mask, self._sum_ranks)
            metrics |= self.update(rollout, whitened, returns)
            self.lr_scheduler.step()
            self.kl_controller.update(metrics["objective/kl"], args.batch_size)
            self.state.global_step += 1
            self.state.episode += args.batch_size
            self.state.epoch = self.state.episode / self.train_dataset_len
            metrics |= self.refresh()
            self.log({**metrics, "episode": self.state.episode, "seconds": time.time() - start})
            self.control = self.callback_handler.on_step_end(args, self.state, self.control)
            if self.control.should_training_stop:
                break
        self.control = self.callback_handler.on_train_end(args, self.state, self.control)

    @torch.no_grad()
    def sample(self, batch: dict) -> Rollout:
        """Replies to a batch of contexts, and what policy and reference make of them."""
        context_ids, context_mask = batch["input_ids"], batch["attention_mask"].bool()
        reply_ids, reply_mask = self._respond(context_ids, context_mask)
        inputs = (context_ids, context_mask, reply_ids, reply_mask)
        size = self.args.local_rollout_forward_batch_size
        policy = in_chunks(self.model, size, *inputs)
        reference = in_chunks(self.ref_policy, size, *inputs)
        replies = decode_rows(self.generator, reply_ids, reply_mask)
        return Rollout(
            batch["contexts"],
            replies,
            *inputs,
            logprobs=policy[0],
            ref_logprobs=reference[0],
            values=policy[1],
            entropies=policy[2],
        )

    def score(self, rollout: Rollout) -> torch.Tensor:
        """Reward of each reply (B,), as the reward gives it.

        Raises:
            ValueError: the reward returned another number of scores, or one that is not finite.
        """
        scores = torch.as_tensor(self.reward(rollout.contexts, rollout.replies)).float()
        if scores.shape != (len(rollout.replies),):
            raise ValueError(
                f"The reward returned shape {tuple(scores.shape)}, not ({len(rollout.replies)},)."
            )
        if not torch.isfinite(scores).all():
            worst = int((~torch.isfinite(scores)).nonzero()[0])
            raise ValueError(
                f"The reward of reply {rollout.replies[worst]!r} is {scores[worst].item()}, "
                "not a finite number."
            )
        return scores.to(self.accelerator.device)

    def compute_rewards(
        self, rollout: Rollout, scores: torch.Tensor
    ) -> tuple[torch.Tensor, dict[str, float]]:
        """Per-token rewards (B, T): -β·KL at every token, and the shaped score on the last one."""
        args, mask = self.args, rollout.reply_mask
        everyone = self.accelerator.gather(scores)
        lengths = self.accelerator.gather(mask.sum(1))
        if args.length_residual_window:
            everyone = self.length_residual(everyone, lengths)
        shaped = self.normalizer(everyone).clamp(-args.reward_clip, args.reward_clip)
        own = shaped.view(args.world_size, -1)[self.accelerator.process_index]
        kl = objectives.kl_per_token(
            rollout.logprobs, rollout.ref_logprobs, mask, args.kl_estimator
        )
        penalty = self.kl_controller.coefficient * kl
        rewards = objectives.terminal_reward(own, mask) - penalty
        metrics = {
            "objective/scores": self._mean(scores),
            "objective/kl": self._mean(kl.sum(1)),
            "objective/kl_coef": self.kl_controller.coefficient,
            "objective/rlhf_reward": self._mean(rewards.sum(1)),
        }
        return rewards, metrics

    def update(
        self, rollout: Rollout, advantages: torch.Tensor, returns: torch.Tensor
    ) -> dict[str, float]:
        """`num_ppo_epochs` passes over the rollout in `num_mini_batches` optimizer steps each."""
        args = self.args
        totals: dict[str, torch.Tensor] = defaultdict(
            lambda: torch.zeros((), device=advantages.device)
        )
        for _ in range(args.num_ppo_epochs):
            order = torch.randperm(args.local_batch_size, generator=self.order)
            for rows in order.split(args.local_mini_batch_size):
                self._optimizer_step(rollout, advantages, returns, rows, totals)
        names = sorted(set(totals) - {"tokens", "supervised_tokens"})
        sums = self._sum_ranks(torch.stack([totals[name] for name in names]))
        tokens = self._sum_ranks(totals["tokens"])
        metrics = {name: (value / tokens).item() for name, value in zip(names, sums, strict=True)}
        if self.supervised_examples and args.supervised_coef:
            count = self._sum_ranks(totals["supervised_tokens"])
            metrics["loss/supervised_avg"] *= (tokens / count).item()
        return metrics | {"lr": self.lr_scheduler.get_last_lr()[0]}

    def refresh(self) -> dict[str, float]:
        """Trains the discriminator on fresh samples when its turn has come."""
        if self.refresher is None or not self.refresh_every:
            return {}
        if self.state.global_step % self.refresh_every:
            return {}
        return self.refresher(self.sample_replies)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """The generator alone, as a folder that plain `from_pretrained` loads (defect 3)."""
        if self.args.should_save:
            self.generator.save(Path(output_dir or str(self.args.output_dir)))

    @torch.no_grad()
    def sample_replies(self, contexts: Sequence[Sequence[str]]) -> list[str]:
        """One reply of the current policy to each context; every rank samples a share of them."""
        ranks, rank = self.accelerator.num_processes, self.accelerator.process_index
        share = -(-len(contexts) // ranks)
        own = list(contexts[rank * share : (rank + 1) * share])
        replies: list[str] = []
        if own:
            prompts = [encode_context(self.generator, c, self.context_length) for c in own]
            ids, mask = pad_prompts(prompts, self.generator)
            device = self.accelerator.device
            reply_ids, reply_mask = self._respond(ids.to(device), mask.to(device))
            replies = decode_rows(self.generator, reply_ids, reply_mask)
        return gather_object(replies) if ranks > 1 else replies

    def _respond(
        self, context_ids: torch.Tensor, context_mask: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Responses (B, T) of the current policy and their mask."""
        with unwrap_model_for_generation(
            self.model,
            self.accelerator,
            gather_deepspeed3_params=self.args.ds3_gather_for_generation,
        ) as policy:
            return respond(
                policy.lm,
                context_ids,
                context_mask,
                chunk=self.args.local_rollout_forward_batch_size,
                max_tokens=self.args.response_length,
                temperature=self.args.temperature,
            )

    def _optimizer_step(
        self,
        rollout: Rollout,
        advantages: torch.Tensor,
        returns: torch.Tensor,
        rows: torch.Tensor,
        totals: dict[str, torch.Tensor],
    ) -> None:
        """One step on one minibatch: the exact mean over its tokens on all ranks."""
        args = self.args
        if self.supervised_examples and args.supervised_coef:
            self._backward_supervised(totals)
        # DDP averages gradients over ranks; the loss is a mean over all ranks' tokens.
        scale = args.world_size / self._sum_ranks(rollout.reply_mask[rows].sum())
        micro_batches = rows.split(args.per_device_train_batch_size)
        for index, micro in enumerate(micro_batches):
            last = index == len(micro_batches) - 1
            with nullcontext() if last else self.accelerator.no_sync(self.model):
                old = rollout.tensors(micro)
                loss = self._ppo_loss(old, advantages[micro], returns[micro], totals)
                self.accelerator.backward(loss * scale)
        if args.max_grad_norm:  # defect 9; 0 means off, as in transformers
            self.accelerator.clip_grad_norm_(self.model.parameters(), args.max_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()

    def _ppo_loss(
        self,
        old: dict[str, torch.Tensor],
        advantages: torch.Tensor,
        returns: torch.Tensor,
        totals: dict[str, torch.Tensor],
    ) -> torch.Tensor:
        """Policy and value loss summed over a micro-batch's tokens; statistics join `totals`."""
        args, mask = self.args, old["reply_mask"]
        length = mask.shape[1]
        new = self.model(old["context_ids"], old["context_mask"], old["reply_ids"], mask)
        policy_loss, clipped = objectives.clipped_policy_loss(
            new.logprobs, old["logprobs"], advantages[:, :length], mask, args.cliprange
        )
        value_loss = objectives.clipped_value_loss(
            new.values, old["values"], returns[:, :length], mask, args.cliprange_value
        )
        log_ratio = (new.logprobs - old["logprobs"]).detach()
        for name, value in {
            "tokens": mask.float(),
            "loss/policy_avg": policy_loss.detach(),
            "loss/value_avg": value_loss.detach(),
            "policy/clipfrac_avg": clipped.float(),
            "policy/approxkl_avg": 0.5 * log_ratio**2,
            "policy/entropy_avg": new.entropies,
            "val/ratio": log_ratio.exp() * mask,
        }.items():
            totals[name] = totals[name] + value.sum()
        return policy_loss.sum() + args.vf_coef * value_loss.sum()

    def _backward_supervised(self, totals: dict[str, torch.Tensor]) -> None:
        """Adds the gradient of the language-model loss on a random batch of real replies.

        It runs before the PPO micro-batches, so that the last backward, on which DDP synchronises,
        is one that uses every parameter.
        """
        count = min(self.args.supervised_batch_size, len(self.supervised_examples))
        picked = torch.randperm(len(self.supervised_examples), generator=self.order)[:count]
        examples = [self.supervised_examples[i] for i in picked.tolist()]
        inputs = encode_batch(
            self.generator,
            [example.context for example in examples],
            [example.reply for example in examples],
            context_length=self.context_length,
            response_length=self.args.response_length,
        )
        with self.accelerator.no_sync(self.model):
            negative_logprobs = -self.model(*inputs).logprobs.sum()
            tokens = inputs[-1].sum()
            self.accelerator.backward(self.args.supervised_coef * negative_logprobs / tokens)
        totals["loss/supervised_avg"] = totals["loss/supervised_avg"] + negative_logprobs.detach()
        totals["supervised_tokens"] = totals["supervised_tokens"] + tokens

    def _describe(self, rollout: Rollout, returns: torch.Tensor) -> dict[str, float]:
        """Metrics of the rollout itself, over the replies of all ranks."""
        mask = rollout.reply_mask
        contexts, replies = gather_object(rollout.contexts), gather_object(rollout.replies)
        eos = (rollout.reply_ids == self.stop_token_id) & mask
        explained = objectives.explained_variance(rollout.values, returns, mask, self._sum_ranks)
        metrics = {
            "objective/entropy": self._mean(-rollout.logprobs.sum(1)),
            "value/explained_variance": explained.item(),
            "text/eos_rate": self._mean(eos.any(1).float()),
        }
        for monitor in self.monitors:
            metrics |= monitor(contexts, replies)
        return metrics

    def _collate(self, examples: Sequence[Example]) -> dict:
        contexts = [list(example.context) for example in examples]
        prompts = [encode_context(self.generator, e.context, self.context_length) for e in examples]
        ids, mask = pad_prompts(prompts, self.generator)
        return {"input_ids": ids, "attention_mask": mask, "contexts": contexts}

    def _sum_ranks(self, tensor: torch.Tensor) -> torch.Tensor:
        return self.accelerator.reduce(tensor, reduction="sum")

    def _mean(self, values: torch.Tensor) -> float:
        """Mean over the rows of all ranks (each rank has equally many)."""
        return self.accelerator.gather(values).float().mean().item()
