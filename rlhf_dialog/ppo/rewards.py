"""From the score of a text to a number that PPO can use; and the controller of the KL penalty.

The rewards themselves, on text, are in `rlhf_dialog.discriminators.rewards`.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence

import numpy as np
import torch

from rlhf_dialog.discriminators.rewards import TextScorer


def score_texts(
    reward: TextScorer, contexts: Sequence[Sequence[str]], replies: Sequence[str]
) -> torch.Tensor:
    """Reward of each reply (B,) float32, as the reward gives it.

    Raises:
        ValueError: the reward returned another number of scores, or one that is not finite.
    """
    scores = torch.as_tensor(reward(contexts, replies)).float()
    if scores.shape != (len(replies),):
        raise ValueError(f"The reward returned shape {tuple(scores.shape)}, not ({len(replies)},).")
    if not torch.isfinite(scores).all():
        worst = int((~torch.isfinite(scores)).nonzero()[0])
        raise ValueError(
            f"The reward of reply {replies[worst]!r} is {scores[worst].item()}, "
            "not a finite number."
        )
    return scores


class LengthResidual:
    """Takes out of a score what reply length alone explains.

    Fits score = a + b·log(tokens) by least squares over the last `window` replies, with an `a` for
    each batch, and returns score - b·(log(tokens) - the batch's mean). A policy then gains nothing
    by merely getting longer or shorter, and a drift of scores and lengths in the course of a run
    is not taken for an effect of length.
    """

    def __init__(self, window: int) -> None:
        self.history: deque[tuple[float, float]] = deque(maxlen=window)
        self.slope, self.centre = 0.0, 0.0  # of the last batch

    def __call__(self, scores: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """`scores` (B,) and lengths `tokens` (B,), at least 1, of all ranks -> residuals (B,)."""
        logs = tokens.double().log().cpu().numpy()
        self.centre = float(logs.mean())
        logs = logs - self.centre
        centred = (scores - scores.mean()).tolist()
        self.history.extend(zip(logs.tolist(), centred, strict=True))
        x, y = np.array(self.history).T
        self.slope = float(x @ y / (x @ x)) if x.std() > 1e-6 else 0.0
        return self.subtract(scores, tokens)

    def subtract(self, scores: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """Residuals (B,) of further replies by the line of the last batch; nothing is fitted."""
        effect = self.slope * (tokens.double().log() - self.centre)
        return scores - effect.to(scores)


class RewardNormalizer:
    """Divides centred scores by their running standard deviation (Welford, merged by batches)."""

    def __init__(self) -> None:
        self.count, self.mean, self.m2 = 0.0, 0.0, 0.0

    def __call__(self, scores: torch.Tensor) -> torch.Tensor:
        """Updates the statistics with `scores` (B,), those of all ranks, and normalises them."""
        count, mean = float(scores.numel()), scores.double().mean().item()
        m2 = ((scores.double() - mean) ** 2).sum().item()
        total = self.count + count
        delta = mean - self.mean
        self.m2 += m2 + delta**2 * self.count * count / total
        self.mean += delta * count / total
        self.count = total
        return self.normalize(scores)

    def normalize(self, scores: torch.Tensor) -> torch.Tensor:
        """Normalises further scores (B,) by the statistics as they are."""
        std = math.sqrt(self.m2 / max(1.0, self.count - 1))
        return (scores - self.mean) / (std + 1e-6)


class AdaptiveKLController:
    """Moves the KL coefficient towards a target (Ziegler et al. 2019, section 2.2):

        e = clip(KL / target - 1, -0.2, 0.2)        β ← β · (1 + e · episodes / horizon)

    Without a target the coefficient is fixed.
    """

    def __init__(self, coefficient: float, target: float | None, horizon: int) -> None:
        self.coefficient, self.target, self.horizon = coefficient, target, horizon

    def update(self, kl: float, episodes: int) -> None:
        """`kl` in nats per reply, measured on `episodes` replies."""
        if self.target is not None:
            error = min(0.2, max(-0.2, kl / self.target - 1))
            # Ziegler's factor, kept above zero where an update is longer than the horizon.
            self.coefficient *= max(0.1, 1 + error * episodes / self.horizon)
