"""The optimisation of one rollout: epochs of minibatches, each one optimizer step."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from torch import nn
from transformers import PreTrainedModel

from rlhf_dialog.generators.packing import takes_packed
from rlhf_dialog.ppo import objectives
from rlhf_dialog.ppo.anchor import SupervisedAnchor
from rlhf_dialog.ppo.config import SeqGANPPOConfig
from rlhf_dialog.ppo.rollouts import Rollout, by_length
from rlhf_dialog.ppo.zero import gradients_of, is_engine

# Sums over tokens by name: the numerators of what is logged.
Totals = dict[str, torch.Tensor]
# (old, advantages, returns, totals) -> the loss summed over a micro-batch's tokens; see `ppo_loss`
Loss = Callable[[dict[str, torch.Tensor], torch.Tensor, torch.Tensor, Totals], torch.Tensor]


@dataclass
class RolloutOptimizer:
    """`num_ppo_epochs` passes over a rollout in `num_mini_batches` optimizer steps each.

    Args:
        loss: of a micro-batch, summed over its tokens; by default the trainer's `ppo_loss`.
        anchor: draws the real replies of the language-model loss that joins every step.
        order: draws the minibatches and the real replies, another one on each rank (defect 20).
    """

    args: SeqGANPPOConfig
    model: nn.Module
    optimizer: torch.optim.Optimizer
    accelerator: Accelerator
    loss: Loss
    anchor: SupervisedAnchor
    order: torch.Generator

    def __post_init__(self) -> None:
        self.gradients = gradients_of(
            self.model, self.optimizer, self.accelerator, self.args.max_grad_norm
        )

    def run(
        self, rollout: Rollout, advantages: torch.Tensor, returns: torch.Tensor, coefficient: float
    ) -> dict[str, float]:
        """Trains on one rollout; advantages and returns are (B, T).

        Args:
            coefficient: of the supervised loss; 0 leaves it out.

        Returns:
            `policy/steps`, and means over the tokens of all ranks and steps.
        """
        args = self.args
        totals: Totals = defaultdict(lambda: torch.zeros((), device=advantages.device))
        if args.gradient_checkpointing:
            # Checkpointed layers compute anew in train mode only; there is no dropout to switch on.
            self.model.train()
        steps = 0
        minibatches = (
            rows
            for _ in range(args.num_ppo_epochs)
            for rows in torch.randperm(len(rollout.replies), generator=self.order).split(
                args.local_mini_batch_size
            )
        )
        for rows in minibatches:
            with self.accelerator.autocast():  # around all passes: weights are cast once a step
                near = self.step(rollout, advantages, returns, rows, coefficient, totals)
            if not near:
                break
            steps += 1
        if args.gradient_checkpointing:
            self.model.eval()
        metrics = self._means(totals)
        metrics["policy/steps"] = steps
        return metrics

    def step(
        self,
        rollout: Rollout,
        advantages: torch.Tensor,
        returns: torch.Tensor,
        rows: torch.Tensor,
        coefficient: float,
        totals: Totals,
    ) -> bool:
        """One step on one minibatch: the exact mean over its tokens on all ranks (defect 24).

        Returns:
            False where the policy has gone too far from the one that sampled: no step is taken.
        """
        args = self.args
        if coefficient:
            self._backward_supervised(coefficient, totals)
        # DDP averages gradients over ranks; the loss is a mean over all ranks' tokens.
        tokens = self._sum_ranks(rollout.reply_mask[rows].sum())
        before = totals["policy/kl_sampling_avg"]
        # Rows of like length together: little is padding. In the rollout's order where lengths are
        # equal: a minibatch of the whole rollout then has the groups that it was scored in.
        rows = rows.sort().values
        order = by_length(rollout.context_mask[rows], rollout.reply_mask[rows]).to(rows.device)
        micro_batches = rows[order].split(args.micro_rows)
        for index, micro in enumerate(micro_batches):
            with self.gradients.micro_batch(last=index == len(micro_batches) - 1):
                old = rollout.tensors(micro)
                loss = self.loss(old, advantages[micro], returns[micro], totals)
                self.gradients.backward(loss * (args.world_size / tokens))
        if args.update_kl_limit is not None:
            gone = self._sum_ranks(totals["policy/kl_sampling_avg"] - before) / tokens
            if gone > args.update_kl_limit:
                self.gradients.drop()
                return False
        self.gradients.step()
        return True

    def _backward_supervised(self, coefficient: float, totals: Totals) -> None:
        """Adds the gradient of the language-model loss on a random batch of real replies.

        It runs before the PPO micro-batches, so that the last backward, on which DDP synchronises,
        is one that uses every parameter. ZeRO wants every backward to do so: it adds a gradient to
        what the first backward of the step left behind.
        """
        inputs = [part.to(self.accelerator.device) for part in self.anchor.draw(self.order)]
        tokens = inputs[-1].sum()
        scale = coefficient * self.args.world_size / self._sum_ranks(tokens)
        with self.gradients.micro_batch(last=False):
            scored = self.model(*inputs)
            negative_logprobs = -scored.logprobs.sum()
            unused = 0 * scored.values.sum() if is_engine(self.accelerator) else 0
            self.gradients.backward(scale * negative_logprobs + unused)
        totals["loss/supervised_avg"] = totals["loss/supervised_avg"] + negative_logprobs.detach()
        totals["supervised_tokens"] = totals["supervised_tokens"] + tokens

    def _means(self, totals: Totals) -> dict[str, float]:
        means: dict[str, float]
        names = sorted(totals)
        sums = self._sum_ranks(torch.stack([totals[name].float() for name in names]))
        everywhere = dict(zip(names, sums, strict=True))
        tokens = everywhere.pop("tokens")
        supervised = everywhere.pop("supervised_tokens", None)
        means = {name: (value / tokens).item() for name, value in everywhere.items()}
        if supervised is not None:
            means["loss/supervised_avg"] *= (tokens / supervised).item()
        return means

    def _sum_ranks(self, tensor: torch.Tensor) -> torch.Tensor:
        return self.accelerator.reduce(tensor, reduction="sum")


def ppo_loss(
    args: SeqGANPPOConfig,
    model: nn.Module,
    old: dict[str, torch.Tensor],
    advantages: torch.Tensor,
    returns: torch.Tensor,
    totals: Totals,
) -> torch.Tensor:
    """Policy loss + vf_coef · value loss - entropy_coef · entropy, summed over the tokens of `old`.

    `old` holds (b, t) rows of a rollout; advantages and returns may be wider than its longest
    response. Statistics join `totals`.
    """
    mask = old["reply_mask"]
    advantages, returns = advantages[:, : mask.shape[1]], returns[:, : mask.shape[1]]
    new = model(old["context_ids"], old["context_mask"], old["reply_ids"], mask, entropies=True)
    policy_loss, clipped = objectives.clipped_policy_loss(
        new.logprobs, old["logprobs"], advantages, mask, args.cliprange
    )
    value_loss = objectives.clipped_value_loss(
        new.values, old["values"], returns, mask, args.cliprange_value
    )
    log_ratio = (new.logprobs - old["logprobs"]).detach()
    for name, value in {
        "tokens": mask.float(),
        "loss/policy_avg": policy_loss.detach(),
        "loss/value_avg": value_loss.detach(),
        "policy/clipfrac_avg": clipped.float(),
        "policy/approxkl_avg": 0.5 * log_ratio**2,
        "policy/kl_sampling_avg": torch.expm1(log_ratio) - log_ratio,
        "policy/entropy_avg": new.entropies.detach(),
        "val/ratio": log_ratio.exp() * mask,
    }.items():
        totals[name] = totals[name] + value.sum()
    loss = policy_loss.sum() + args.vf_coef * value_loss.sum()
    if args.entropy_coef:  # else nothing asks for the gradient of the entropies
        loss = loss - args.entropy_coef * new.entropies.sum()
    return loss


def natural_groups(model: PreTrainedModel) -> int:
    """Parts of like length that a batch is computed in: 2 where rows are padded and a pass takes
    long beside what starting another one costs, which is a large model on a CPU (docs/speed.md)."""
    large = model.num_parameters() > 2e7
    return 2 if large and model.device.type == "cpu" and not takes_packed(model) else 1
