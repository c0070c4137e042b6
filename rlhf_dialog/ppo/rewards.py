"""From the score of a text to a number that PPO can use; and the controller of the KL penalty.

The rewards themselves, on text, are in `rlhf_dialog.discriminators.rewards`.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from rlhf_dialog.discriminators.rewards import TextScorer
from rlhf_dialog.errors import UserError


def score_texts(
    reward: TextScorer, contexts: Sequence[Sequence[str]], replies: Sequence[str]
) -> torch.Tensor:
    """Scores (B,) float32 as the reward gives them.

    Raises:
        UserError: something else than one finite number for each reply.
    """
    returned = reward(contexts, replies)
    try:
        scores = torch.as_tensor(returned).detach().float()
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(
            f"The reward returned {type(returned).__name__} of something else than numbers; give "
            "one number for each reply."
        ) from error
    if scores.shape != (len(replies),):
        raise UserError(f"The reward returned shape {tuple(scores.shape)}, not ({len(replies)},).")
    if not torch.isfinite(scores).all():
        worst = int((~torch.isfinite(scores)).nonzero()[0])
        raise UserError(
            f"The reward of reply {replies[worst]!r} is {scores[worst].item()}, "
            "not a finite number."
        )
    return scores


def ending_penalties(
    ended: torch.Tensor,
    tokens: torch.Tensor,
    *,
    missing_eos_penalty: float | None,
    min_reply_tokens: int,
    short_reply_penalty: float,
) -> torch.Tensor:
    """What is taken off the shaped score of each reply (B,): of one that did not end, of one with
    fewer than `min_reply_tokens`. `ended` (B,) bool, lengths `tokens` (B,).

    Stock TRL looks for EOS, whatever the stop token is (defect 13).
    """
    short = tokens < min_reply_tokens
    return ~ended * (missing_eos_penalty or 0.0) + short * short_reply_penalty


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

    def state_dict(self) -> dict[str, Any]:
        return {"history": list(self.history), "slope": self.slope, "centre": self.centre}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.history.extend(state["history"])  # the oldest give way where the window is shorter
        self.slope, self.centre = state["slope"], state["centre"]


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

    def state_dict(self) -> dict[str, float]:
        return {"count": self.count, "mean": self.mean, "m2": self.m2}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        self.count, self.mean, self.m2 = state["count"], state["mean"], state["m2"]


class ScoreShaper:
    """Scores as PPO takes them: without what length explains, normalised, clipped.

    Args:
        window: of the length effect, in replies; 0 leaves it in.
        normalize: to mean 0 and deviation 1 of the run so far.
        clip: to ± this; None: not.
    """

    def __init__(self, window: int, normalize: bool, clip: float | None) -> None:
        self.length_residual = LengthResidual(window) if window else None
        self.normalizer = RewardNormalizer() if normalize else None
        self.clip = clip

    def __call__(self, scores: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """Takes in `scores` (B,) and lengths `tokens` (B,) of all ranks, and shapes them."""
        if self.length_residual is not None:
            scores = self.length_residual(scores, tokens)
        if self.normalizer is not None:
            scores = self.normalizer(scores)
        return self._clipped(scores)

    def further(self, scores: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """Shapes further scores (B,) by the statistics as they are; nothing is taken in."""
        if self.length_residual is not None:
            scores = self.length_residual.subtract(scores, tokens)
        if self.normalizer is not None:
            scores = self.normalizer.normalize(scores)
        return self._clipped(scores)

    def state_dict(self) -> dict[str, Any]:
        """Running statistics; of a part that is turned off there are none."""
        parts = {"length_residual": self.length_residual, "normalizer": self.normalizer}
        return {name: part.state_dict() for name, part in parts.items() if part is not None}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if self.length_residual is not None and "length_residual" in state:
            self.length_residual.load_state_dict(state["length_residual"])
        if self.normalizer is not None and "normalizer" in state:
            self.normalizer.load_state_dict(state["normalizer"])

    def _clipped(self, scores: torch.Tensor) -> torch.Tensor:
        return scores if self.clip is None else scores.clamp(-self.clip, self.clip)


class AdaptiveKLController:
    """Moves the KL coefficient towards a target (Ziegler et al. 2019, section 2.2):

        e = clip(KL / target - 1, -0.2, 0.2)        β ← β · (1 + e · episodes / horizon)

    Without a target the coefficient is fixed.
    """

    def __init__(self, coefficient: float, target: float | None, horizon: int) -> None:
        self.coefficient, self.target, self.horizon = coefficient, target, horizon
        self.last_kl = 0.0

    def update(self, kl: float, episodes: int) -> None:
        """`kl` in nats per reply, measured on `episodes` replies."""
        self.last_kl = kl
        if self.target is not None:
            error = min(0.2, max(-0.2, kl / self.target - 1))
            # Ziegler's factor, kept above zero where an update is longer than the horizon.
            self.coefficient *= max(0.1, 1 + error * episodes / self.horizon)

    def state_dict(self) -> dict[str, float]:
        return {"coefficient": self.coefficient, "last_kl": self.last_kl}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        self.coefficient, self.last_kl = state["coefficient"], state["last_kl"]
