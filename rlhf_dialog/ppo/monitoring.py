"""What is logged of a rollout itself, over the replies of all ranks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from accelerate.utils import gather_object

from rlhf_dialog.ppo import objectives
from rlhf_dialog.ppo.rollouts import Rollout

if TYPE_CHECKING:
    from rlhf_dialog.ppo.trainer import SeqGANPPOTrainer

# (contexts, replies) of all ranks' episodes -> metrics by name; read by the log alone
Monitor = Callable[[Sequence[Sequence[str]], Sequence[str]], dict[str, float]]


def describe(
    trainer: SeqGANPPOTrainer, rollout: Rollout, returns: torch.Tensor
) -> dict[str, float]:
    """Entropy, explained variance, share of replies that ended, and what the monitors say."""
    mask, sampled = rollout.reply_mask, rollout.sampled
    contexts = gather_object(rollout.contexts[sampled])
    replies = gather_object(rollout.replies[sampled])
    explained = objectives.explained_variance(rollout.values, returns, mask, trainer._sum_ranks)
    metrics = {
        "objective/entropy": trainer._mean(-rollout.logprobs[sampled].sum(1)),
        "value/explained_variance": explained.item(),
        "text/eos_rate": trainer._mean(rollout.ended(trainer.stop_token_id)[sampled].float()),
    }
    return metrics | watch(trainer.monitors, contexts, replies)


def watch(
    monitors: Sequence[Monitor], contexts: Sequence[Sequence[str]], replies: Sequence[str]
) -> dict[str, float]:
    """What the monitors say of the replies of all ranks."""
    return {k: v for look in monitors for k, v in look(contexts, replies).items()}
