"""From the scores of replies to the rewards of tokens."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import torch

from rlhf_dialog.devices import together
from rlhf_dialog.errors import UserError
from rlhf_dialog.ppo import objectives
from rlhf_dialog.ppo.interruption import stopped
from rlhf_dialog.ppo.rewards import ending_penalties
from rlhf_dialog.ppo.rollouts import Rollout

if TYPE_CHECKING:
    from rlhf_dialog.ppo.trainer import SeqGANPPOTrainer


def token_rewards(
    trainer: SeqGANPPOTrainer, rollout: Rollout, scores: torch.Tensor
) -> tuple[torch.Tensor, dict[str, float]]:
    """Per-token rewards (B, T): -β·KL at every token, and the shaped score by granularity.

    Args:
        scores: (B,) of this rank's replies; shaped with the statistics of all ranks'.

    Returns:
        the rewards, and their metrics (means over all ranks' replies).
    """
    args, mask = trainer.args, rollout.reply_mask
    sampled, people = rollout.sampled, slice(rollout.demonstrations)
    lengths = mask.sum(1)
    everyone = trainer.accelerator.gather(scores[sampled])
    shaped = trainer.shape_scores(everyone, trainer.accelerator.gather(lengths[sampled]))
    own = shaped.view(args.world_size, -1)[trainer.accelerator.process_index]
    own = own - ending_penalties(
        rollout.ended(trainer.stop_token_id)[sampled],
        lengths[sampled],
        missing_eos_penalty=args.missing_eos_penalty,
        min_reply_tokens=args.min_reply_tokens,
        short_reply_penalty=args.short_reply_penalty,
    )
    # What people said is shaped by statistics of what the policy says: it scores higher and
    # is longer, which would pass for an effect of length.
    own = torch.cat([trainer.shape_scores.further(scores[people], lengths[people]), own])
    kl = objectives.kl_per_token(rollout.logprobs, rollout.ref_logprobs, mask, args.kl_estimator)
    kl[people] = 0  # nobody sampled these: they are no estimate of the KL
    penalty = trainer.kl_controller.coefficient * kl
    try:  # prefixes are scored too
        dense = together(partial(trainer.spread_rewards, rollout, own, trainer._unwrapped))
    except UserError as error:
        raise stopped(trainer, rollout, str(error), scores) from error
    rewards = dense - penalty
    metrics = {
        "objective/scores": trainer._mean(scores[sampled]),
        "objective/kl": trainer._mean(kl[sampled].sum(1)),
        "objective/kl_coef": trainer.kl_controller.coefficient,
        "objective/rlhf_reward": trainer._mean(rewards[sampled].sum(1)),
    }
    if args.whiten_rewards:
        rewards = trainer._whiten(rewards, mask, shift_mean=False)
    return rewards, metrics
