"""Defect 11 put back, the one difference from stock TRL that no option brings back.

For whoever compares the two: the benchmark's parity, and tests/ppo/test_parity.py.
"""

from __future__ import annotations

import torch

from rlhf_dialog.ppo import objectives
from rlhf_dialog.ppo.rollouts import Rollout
from rlhf_dialog.ppo.trainer import SeqGANPPOTrainer


def with_one_more(mask: torch.Tensor) -> torch.Tensor:
    """Stock's mask of values, (B, T) bool: one slot behind EOS counts too, where there is one."""
    first = torch.ones_like(mask[:, :1])
    return torch.cat([first, mask[:, :-1]], dim=1)


class StockPosition(SeqGANPPOTrainer):
    """The score, value and return of a short reply have a slot behind its EOS."""

    def compute_rewards(
        self, rollout: Rollout, scores: torch.Tensor
    ) -> tuple[torch.Tensor, dict[str, float]]:
        rewards, metrics = super().compute_rewards(rollout, scores)
        wide = with_one_more(rollout.reply_mask)
        there = objectives.terminal_reward(scores, wide)
        return rewards - objectives.terminal_reward(scores, rollout.reply_mask) + there, metrics

    def advantages(
        self, rollout: Rollout, rewards: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        wide = with_one_more(rollout.reply_mask)
        advantages, returns = objectives.generalized_advantages(
            rewards, rollout.values, wide, self.args.gamma, self.args.lam
        )
        return self._whiten(advantages, rollout.reply_mask), returns
