"""The mathematics of PPO on responses: pure functions of tensors.

Shape letters: B batch, T response tokens. A mask (B, T) bool is true at real response tokens, EOS
included; masked positions never influence a result, whatever they hold.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

Reduce = Callable[[torch.Tensor], torch.Tensor]  # sums a tensor over ranks


def identity(tensor: torch.Tensor) -> torch.Tensor:
    """The `Reduce` of a single process."""
    return tensor


def _check(mask: torch.Tensor, *tensors: torch.Tensor) -> None:
    if mask.dtype != torch.bool:
        raise ValueError(f"mask must be bool, not {mask.dtype}")
    for tensor in tensors:
        if tensor.shape != mask.shape:
            raise ValueError(f"shape {tuple(tensor.shape)} differs from mask {tuple(mask.shape)}")


def masked_sum(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Sum over real tokens, a scalar. NaN or infinity under the mask does not leak."""
    _check(mask, values)
    return torch.where(mask, values, torch.zeros_like(values)).sum()


def masked_mean(
    values: torch.Tensor, mask: torch.Tensor, reduce: Reduce = identity
) -> torch.Tensor:
    """Mean over real tokens of all ranks, a scalar; 0 where there is no real token."""
    total = reduce(torch.stack([masked_sum(values, mask), mask.sum().to(values.dtype)]))
    return total[0] / total[1].clamp(min=1)


def masked_whiten(
    values: torch.Tensor,
    mask: torch.Tensor,
    reduce: Reduce = identity,
    epsilon: float = 1e-8,
    *,
    shift_mean: bool = True,
) -> torch.Tensor:
    """(x - mean) / std over the real tokens of all ranks (Bessel-corrected); zero elsewhere.

    Without `shift_mean` the mean is added again, so that only the scale changes. Stock TRL
    whitens each rank on its own (defect 24).
    """
    _check(mask, values)
    values = torch.where(mask, values, torch.zeros_like(values))
    mean = masked_mean(values, mask, reduce)
    total = reduce(
        torch.stack([masked_sum((values - mean) ** 2, mask), mask.sum().to(values.dtype)])
    )
    variance = total[0] / (total[1] - 1).clamp(min=1)
    whitened = (values - mean) * torch.rsqrt(variance + epsilon)
    if not shift_mean:
        whitened = whitened + mean
    return torch.where(mask, whitened, torch.zeros_like(whitened))


def kl_per_token(
    logprobs: torch.Tensor, ref_logprobs: torch.Tensor, mask: torch.Tensor, estimator: str = "k1"
) -> torch.Tensor:
    """Monte-Carlo KL(policy ‖ reference) at each sampled token, nats (B, T).

    With r = log p_ref - log p:  k1 = -r (unbiased),  k3 = e^r - 1 - r (unbiased, never negative).
    Schulman, "Approximating KL divergence", 2020.
    """
    _check(mask, logprobs, ref_logprobs)
    zero = torch.zeros_like(logprobs)
    log_ratio = torch.where(mask, ref_logprobs - logprobs, zero)
    if estimator == "k1":
        return -log_ratio
    if estimator == "k3":
        return torch.expm1(log_ratio) - log_ratio
    raise ValueError(f"kl_estimator must be 'k1' or 'k3', not {estimator!r}")


def terminal_reward(scores: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """(B, T): the score of each response on its last real token (B,) -> zero elsewhere.

    Stock TRL puts it one slot after EOS on short rows (defect 11).
    """
    _check(mask)
    if scores.shape != mask.shape[:1]:
        raise ValueError(f"shape {tuple(scores.shape)} of scores is not {tuple(mask.shape[:1])}")
    last = mask.long().cumsum(1).argmax(1)  # first index of the largest count
    rewards = torch.zeros(mask.shape, dtype=scores.dtype, device=scores.device)
    return rewards.scatter(1, last.unsqueeze(1), scores.unsqueeze(1)) * mask


def generalized_advantages(
    rewards: torch.Tensor, values: torch.Tensor, mask: torch.Tensor, gamma: float, lam: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Advantages and returns (B, T), Schulman et al. 2016:

        δₜ = rₜ + γ Vₜ₊₁ - Vₜ        Âₜ = Σₛ (γλ)ˢ⁻ᵗ δₛ over s ≥ t        Rₜ = Âₜ + Vₜ

    `mask` is true up to the end of a response, where the episode ends: nothing is bootstrapped from
    beyond it.
    """
    _check(mask, rewards, values)
    zero = torch.zeros_like(values)
    rewards = torch.where(mask, rewards, zero)
    values = torch.where(mask, values, zero)
    following = torch.cat([values[:, 1:], zero[:, :1]], dim=1)
    deltas = rewards + gamma * following - values
    places = torch.arange(mask.shape[1], device=mask.device)
    ahead = places[:, None] - places  # s - t
    weights = ((gamma * lam) ** ahead.clamp(min=0).double()).tril()
    # In float64, which no setting for products in lower precision reaches.
    advantages = torch.where(mask, (deltas.double() @ weights).to(deltas), zero)
    return advantages, torch.where(mask, advantages + values, zero)


def clipped_policy_loss(
    logprobs: torch.Tensor,
    old_logprobs: torch.Tensor,
    advantages: torch.Tensor,
    mask: torch.Tensor,
    cliprange: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Per-token loss and whether it is clipped, both (B, T), Schulman et al. 2017, eq. 7:

    -min(ρ Â, clip(ρ, 1-ε, 1+ε) Â)   with   ρ = p_new / p_old
    """
    _check(mask, logprobs, old_logprobs, advantages)
    zero = torch.zeros_like(logprobs)
    ratio = torch.where(mask, logprobs - old_logprobs, zero).exp()
    advantages = torch.where(mask, advantages, zero)
    plain = -advantages * ratio
    clipped = -advantages * ratio.clamp(1 - cliprange, 1 + cliprange)
    return torch.maximum(plain, clipped), (clipped > plain) & mask


def clipped_value_loss(
    values: torch.Tensor,
    old_values: torch.Tensor,
    returns: torch.Tensor,
    mask: torch.Tensor,
    cliprange: float | None,
) -> torch.Tensor:
    """Per-token loss (B, T): ½ max((V-R)², (clip(V, V_old±ε)-R)²); zero at masked positions.

    Without a `cliprange` ½ (V-R)².
    """
    _check(mask, values, old_values, returns)
    # Masked before the arithmetic: 0 · NaN in the backward pass would be NaN.
    zero = torch.zeros_like(values)
    values, old_values, returns = (
        torch.where(mask, tensor, zero) for tensor in (values, old_values, returns)
    )
    if cliprange is None:
        return 0.5 * (values - returns) ** 2
    limited = old_values + (values - old_values).clamp(-cliprange, cliprange)
    return 0.5 * torch.maximum((values - returns) ** 2, (limited - returns) ** 2)


def explained_variance(
    values: torch.Tensor, returns: torch.Tensor, mask: torch.Tensor, reduce: Reduce = identity
) -> torch.Tensor:
    """1 - Var(R - V) / Var(R) over real tokens of all ranks: 1 perfect, 0 a constant guess; 0 too
    where the returns are all alike and there is nothing to explain."""
    _check(mask, values, returns)

    def variance(x: torch.Tensor) -> torch.Tensor:
        return masked_mean((x - masked_mean(x, mask, reduce)) ** 2, mask, reduce)

    total = variance(returns)
    return torch.where(
        total > 1e-12, 1 - variance(returns - values) / total, torch.zeros_like(total)
    )
