"""PPO on dialogue with a reward on text, for causal and encoder-decoder generators.

Kept of the textbook (Schulman et al. 2017; Ziegler et al. 2019): clipped policy and value losses,
GAE, whitened advantages, a KL penalty per token to the generator the run began with, an adaptive
coefficient. Added for an adversarial reward: the discriminator is refreshed on fresh samples, what
length explains is taken out of its score, scores are normalised, and a language-model loss on real
replies is interleaved. Left out: reward models inside the policy's tokenizer, full-vocabulary
statistics of whole rollouts.

    trainer = SeqGANPPOTrainer(args, generator, reward, examples, context_length=64)
    trainer.train()  # or trainer.train(resume_from_checkpoint="latest")

One update: sample -> score -> reward -> advantages -> update -> refresh -> log -> evaluate -> save.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import ClassVar

import torch
from accelerate.utils import gather_object
from torch import nn
from transformers import TrainerControl, TrainerState
from trl.experimental.ppo import PPOTrainer

from rlhf_dialog.cpu import FreedMemory, attention_kernel
from rlhf_dialog.devices import build_whole_models, own_share, require_shared, together
from rlhf_dialog.dialogues.schema import Example
from rlhf_dialog.discriminators.refresh import Refresher
from rlhf_dialog.discriminators.rewards import TextScorer
from rlhf_dialog.errors import UserError
from rlhf_dialog.generators.adapters import weights_fingerprint
from rlhf_dialog.generators.decoding import decode_rows
from rlhf_dialog.generators.loading import Generator, check_lengths
from rlhf_dialog.generators.policy import Policy, disable_dropout
from rlhf_dialog.generators.prompts import encode_contexts, pad_prompts
from rlhf_dialog.generators.sampling import Responses
from rlhf_dialog.ppo import objectives, zero
from rlhf_dialog.ppo.anchor import SupervisedAnchor, demonstrate, linear_schedule
from rlhf_dialog.ppo.batches import Batches
from rlhf_dialog.ppo.checkpoints import begin_or_resume, save_checkpoint
from rlhf_dialog.ppo.config import SeqGANPPOConfig
from rlhf_dialog.ppo.granularity import RewardSpreader
from rlhf_dialog.ppo.interruption import Signals, leave, require_finite, stopped
from rlhf_dialog.ppo.monitoring import Monitor, describe
from rlhf_dialog.ppo.networks import (
    NoReward,
    build_policy,
    build_reference,
    precision,
    reference_policy,
)
from rlhf_dialog.ppo.rewards import AdaptiveKLController, ScoreShaper, score_texts
from rlhf_dialog.ppo.rollouts import Rollout, collate, in_chunks, own_scores, respond
from rlhf_dialog.ppo.selection import evaluate_and_keep, load_best, measure
from rlhf_dialog.ppo.token_rewards import token_rewards
from rlhf_dialog.ppo.update import RolloutOptimizer, Totals, natural_groups, ppo_loss


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
        eval_examples: their contexts are answered when `eval_strategy` says so.
        peft_config: trains adapters (LoRA and its kind) and leaves the generator's own weights,
            which are then the reference of the KL. The generator's model becomes a PEFT model.
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
        reward: TextScorer,
        train_examples: Sequence[Example],
        *,
        context_length: int,
        refresher: Refresher | None = None,
        refresh_every: int = 0,
        supervised_examples: Sequence[Example] = (),
        monitors: Sequence[Monitor] = (),
        eval_examples: Sequence[Example] = (),
        peft_config=None,
        callbacks: list | None = None,
    ) -> None:
        self.generator = generator
        self.context_length = context_length
        self.reward = reward
        self.refresher, self.refresh_every = refresher, refresh_every
        self.monitors, self.eval_examples = monitors, list(eval_examples)
        self.began_from = weights_fingerprint(generator.model.named_parameters())
        self.last_checkpoint: Path | None = None
        self.how_to_go_on = 'trainer.train(resume_from_checkpoint="latest")'
        args.check_evaluation(len(eval_examples))
        args.check_push()
        check_lengths(generator, context_length, args.response_length)
        reference = None if peft_config is not None else build_reference(generator, args)
        policy = build_policy(generator, args, peft_config)
        args.length_groups = args.length_groups or natural_groups(policy.lm)
        with precision(args):
            super().__init__(
                args,
                processing_class=generator.tokenizer,
                model=generator.model,
                ref_model=reference,
                reward_model=NoReward(generator.model.config),
                train_dataset=list(train_examples),
                value_model=policy,
                data_collator=partial(collate, generator=generator, context_length=context_length),
                callbacks=callbacks,
            )
        # Micro-batch losses are sums divided by the tokens of the whole minibatch, so nothing may
        # divide them again (defects 6 and 24).
        self.accelerator.gradient_accumulation_steps = 1
        build_whole_models()
        # Generator and critic, out of whatever wraps them. Once: to unwrap takes milliseconds.
        self.policy: Policy = self.accelerator.unwrap_model(self.model)
        zero.schedule_engine(self.lr_scheduler, self.optimizer, self.accelerator)
        self.ref_policy = self.ref_model
        # Order of minibatches and of real replies, another one on each rank (defect 20).
        self.order = torch.Generator().manual_seed(self.local_seed + 1)
        self.anchor = SupervisedAnchor(
            args, generator, supervised_examples, context_length, self.stop_token_id
        )
        self.shape_scores = ScoreShaper(
            args.length_residual_window, args.normalize_scores, args.reward_clip
        )
        self.spread_rewards = RewardSpreader(args, generator, reward, self.shape_scores)
        self.kl_controller = AdaptiveKLController(args.kl_coef, args.kl_target, args.kl_horizon)
        self.batches = Batches(self.dataloader)
        # Around passes over whole rows: models that draw by their modules keep the fused kernel.
        device, width = self.accelerator.device, context_length + args.response_length
        self.attention = partial(attention_kernel, device, width, bool(args.bf16))
        if device.type == "cpu":
            self.add_callback(FreedMemory())

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
        zero.configure(self.accelerator, args)
        super().create_optimizer_and_scheduler(args.num_total_batches)

    def train(self, resume_from_checkpoint: bool | str | Path | None = None) -> None:
        """The whole run, one update after the other, or what is left of one that was stopped.

        Args:
            resume_from_checkpoint: True or "latest": the newest complete checkpoint in
                `output_dir`; a path: that one; False: a new run; None: as `args` says. The trainer
                is to be built as it was for the run that wrote it (defect 1).

        Raises:
            UserError: a checkpoint that cannot be taken up or written; a loss or reward that is
                not finite.
            Interrupted: SIGTERM or SIGINT came; the state has been saved.
        """
        args = self.args
        self.state.max_steps = args.num_total_batches
        self.state.num_train_epochs = args.total_episodes / self.train_dataset_len
        self.state.compute_steps(args, args.num_total_batches)
        require_shared(Path(str(args.output_dir)))
        begin_or_resume(self, resume_from_checkpoint)
        ended = self.control.should_training_stop  # by a callback, when the checkpoint was written
        self.control = self.callback_handler.on_train_begin(args, self.state, self.control)
        self.control.should_training_stop |= ended
        self.model.eval()  # dropout is out; eval also keeps layers such as layerdrop still
        if args.eval_on_start and not self.state.global_step:
            evaluate_and_keep(self)
        with Signals() as signals:
            while self.state.global_step < self.state.max_steps:
                if self.control.should_training_stop:
                    break
                start = time.time()
                self.control = self.callback_handler.on_step_begin(args, self.state, self.control)
                with torch.no_grad():  # a reward may well be a module
                    with self.accelerator.autocast():  # around it all: weights are cast once
                        rollout = self.sample(next(self.batches))
                    scores = self.score(rollout).to(self.accelerator.device)
                    rewards, metrics = self.compute_rewards(rollout, scores)
                    advantages, returns = self.advantages(rollout, rewards)
                    metrics |= describe(self, rollout, returns)
                metrics |= self.update(rollout, advantages, returns)
                require_finite(self, rollout, scores, metrics)
                self.lr_scheduler.step()
                self.kl_controller.update(metrics["objective/kl"], args.batch_size)
                self.state.global_step += 1
                self.state.episode += args.batch_size
                self.state.epoch = self.state.episode / self.train_dataset_len
                metrics |= self.refresh()
                metrics |= {"episode": self.state.episode, "seconds": time.time() - start}
                self.control = self.callback_handler.on_step_end(args, self.state, self.control)
                if self.control.should_log:
                    self.log(metrics)
                if self.control.should_evaluate:
                    evaluate_and_keep(self)
                self.save(signals.agreed(self.accelerator))
        zero.unshard(self.model, self.accelerator)
        if args.load_best_model_at_end and self.state.best_model_checkpoint:
            load_best(self)
        self.control = self.callback_handler.on_train_end(args, self.state, self.control)

    @torch.no_grad()
    def sample(self, batch: dict) -> Rollout:
        """Replies to a batch of contexts, and what policy and reference make of them."""
        context_ids, context_mask = batch["input_ids"], batch["attention_mask"].bool()
        args, update = self.args, self.state.global_step
        share = linear_schedule(args.demonstration_share, 0.0, update, self.state.max_steps)
        # What was known as tokens were drawn is not used while policy and reference are the same:
        # the KL is then exactly 0, and whitening would make noise of full size of its rounding. Nor
        # in bf16, where it differs from training (defect 17), nor of a critic in shards.
        moved = self.kl_controller.last_kl != 0
        keep = moved and not (share or args.bf16 or zero.is_sharded(self.accelerator))
        drawn = self._respond(context_ids, context_mask, keep=keep)
        reply_ids, reply_mask, demonstrations = demonstrate(
            args, self.generator, batch, drawn.ids, drawn.mask, share, self.stop_token_id
        )
        inputs, size = (context_ids, context_mask, reply_ids, reply_mask), args.scoring_rows
        with self.attention():
            logprobs, values = own_scores(self.model, self.policy, size, drawn, *inputs)
            with reference_policy(self.ref_policy, self.model, self.accelerator) as reference:
                ref_logprobs, _ = in_chunks(reference, size, *inputs)
        return Rollout(
            batch["contexts"],
            decode_rows(self.generator, reply_ids, reply_mask),
            *inputs,
            logprobs=logprobs,
            ref_logprobs=ref_logprobs,
            values=values,
            demonstrations=demonstrations,
        )

    def score(self, rollout: Rollout) -> torch.Tensor:
        """Reward of each reply (B,), as the reward gives it; see `score_texts`."""
        try:
            return together(partial(score_texts, self.reward, rollout.contexts, rollout.replies))
        except UserError as error:
            raise stopped(self, rollout, str(error)) from error

    def compute_rewards(
        self, rollout: Rollout, scores: torch.Tensor
    ) -> tuple[torch.Tensor, dict[str, float]]:
        """Per-token rewards (B, T) and their metrics; see `token_rewards`."""
        return token_rewards(self, rollout, scores)

    def advantages(
        self, rollout: Rollout, rewards: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Advantages, whitened over all ranks, and returns, both (B, T)."""
        args, mask = self.args, rollout.reply_mask
        advantages, returns = objectives.generalized_advantages(
            rewards, rollout.values, mask, args.gamma, args.lam
        )
        return self._whiten(advantages, mask) if args.whiten_advantages else advantages, returns

    def update(
        self, rollout: Rollout, advantages: torch.Tensor, returns: torch.Tensor
    ) -> dict[str, float]:
        """Optimizer steps on one rollout; see `RolloutOptimizer`."""
        args, model, optimizer = self.args, self.model, self.optimizer
        steps = RolloutOptimizer(
            args, model, optimizer, self.accelerator, self.ppo_loss, self.anchor, self.order
        )
        coefficient = self.anchor.coefficient(self.state.global_step, self.state.max_steps)
        with self.attention():
            metrics = steps.run(rollout, advantages, returns, coefficient)
        metrics["lr"] = float(self.lr_scheduler.get_last_lr()[0])
        return metrics

    def ppo_loss(
        self,
        old: dict[str, torch.Tensor],
        advantages: torch.Tensor,
        returns: torch.Tensor,
        totals: Totals,
    ) -> torch.Tensor:
        """The loss summed over a micro-batch's tokens; see `rlhf_dialog.ppo.update.ppo_loss`."""
        return ppo_loss(self.args, self.model, old, advantages, returns, totals)

    def refresh(self) -> dict[str, float]:
        """Trains the discriminator on fresh samples when its turn has come."""
        if self.refresher is None or not self.refresh_every:
            return {}
        turn = self.state.global_step % self.refresh_every == 0
        return self.refresher(self.sample_replies) if turn else {}

    def evaluate(
        self,
        eval_dataset: Sequence[Example] | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """Reward and monitors on replies to `eval_examples`; names are those of training behind
        `eval_`. Stock TRL's raises (defect 18)."""
        metrics = measure(self, self.eval_examples if eval_dataset is None else eval_dataset)
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in metrics.items()}
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics

    def save(self, signum: int = 0) -> None:
        """The whole state, where `save_strategy` says so or a signal came, which ends the run."""
        ends = self.control.should_training_stop
        due = ends or self.state.global_step % self.state.save_steps == 0
        if signum or self.control.should_save or (due and self.args.save_strategy != "no"):
            checkpoint = save_checkpoint(self)
            if signum:
                leave(self, signum, checkpoint)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """The generator as a folder that plain `from_pretrained` loads (defect 3), and the critic
        in its folder `value/` (defect 5). All processes have to call it: weights may be sharded."""
        folder = Path(output_dir or str(self.args.output_dir))
        with zero.whole_weights(self.policy, self.accelerator):
            if self.args.should_save:
                self.generator.save(folder, merge_adapters=self.args.merge_adapters)
                self.policy.save_value(folder / "value")
        self.accelerator.wait_for_everyone()

    @torch.no_grad()
    def sample_replies(
        self, contexts: Sequence[Sequence[str]], chunk: int | None = None
    ) -> list[str]:
        """One reply of the current policy to each context; every rank samples a share of them."""
        if not contexts:
            return []
        own, real = own_share(contexts)
        prompts = encode_contexts(self.generator, own, self.context_length)
        device = self.accelerator.device
        ids, mask = (x.to(device) for x in pad_prompts(prompts, self.generator))
        drawn = self._respond(ids, mask, chunk)
        replies = decode_rows(self.generator, drawn.ids, drawn.mask)[:real]
        return gather_object(replies) if self.args.world_size > 1 else replies

    def _respond(
        self, ids: torch.Tensor, mask: torch.Tensor, chunk: int | None = None, keep: bool = False
    ) -> Responses:
        """Responses (B, T) of the current policy to contexts (B, P)."""
        with self._unwrapped() as policy:
            return respond(
                policy.lm,
                ids,
                mask,
                chunk=chunk or self.args.local_rollout_forward_batch_size,
                max_tokens=self.args.response_length,
                sampling=policy.sampling,
                keep=keep,
            )

    @contextmanager
    def _unwrapped(self) -> Iterator[Policy]:
        """The policy for generation, in the precision of training (defect 17)."""
        gather = self.args.ds3_gather_for_generation
        with (
            zero.ready_to_generate(self.policy, self.model, self.accelerator, gather) as policy,
            self.accelerator.autocast(),
        ):
            yield policy

    def _whiten(self, values: torch.Tensor, mask: torch.Tensor, **how: bool) -> torch.Tensor:
        return objectives.masked_whiten(values, mask, self._sum_ranks, **how)

    def _sum_ranks(self, tensor: torch.Tensor) -> torch.Tensor:
        return self.accelerator.reduce(tensor, reduction="sum")

    def _mean(self, values: torch.Tensor) -> float:
        """Mean over the rows of all ranks (each rank has equally many)."""
        return self.accelerator.gather(values).float().mean().item()
