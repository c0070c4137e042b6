"""From the score of a text to a number that PPO can use; and the controller of the KL penalty.

The rewards themselves, on text, are in `rlhf_dialog.discriminators.rewards`.
"""

from __future__ import annotations

import math
from collections import deque

import numpy as np
import torch


class LengthResidual:
    """Takes out of a score what reply length alone explains.

    Fits score = a + b·log(tokens) by least squares over the last `window` replies, with an `a` for
    each batch, and returns score - b·(log(tokens) - the batch's mean). A policy then gains nothing
    by merely getting longer or shorter, and a drift of scores and lengths in the course of a run
    is not taken for an effect of length.
    """

    def __init__(self, window: int) -> None:
        self.history: deque[tuple[float, float]] = deque(maxlen=window)

    def __call__(self, scores: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """`scores` (B,) and lengths `tokens` (B,), at least 1, of all ranks -> residuals (B,)."""
        logs = tokens.double().log().cpu().numpy()
        logs = logs - logs.mean()
        centred = (scores - scores.mean()).tolist()
        self.history.extend(zip(logs.tolist(), centred, strict=True))
        x, y = np.array(self.history).T
        slope = float(x @ y / (x @ x)) if x.std() > 1e-6 else 0.0
        effect = slope * logs
        return scores - torch.tensor(effect, dtype=scores.dtype, device=scores.device)


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
        std = math.sqrt(self.m2 / max(1.0, total - 1))
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
