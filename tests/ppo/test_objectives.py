import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rlhf_dialog.ppo.objectives import (
    clipped_policy_loss,
    clipped_value_loss,
    explained_variance,
    generalized_advantages,
    kl_per_token,
    masked_mean,
    masked_sum,
    masked_whiten,
    terminal_reward,
)

F = False
T = True


def f64(rows):
    return torch.tensor(rows, dtype=torch.float64)


def equal(tensor, rows):
    return torch.allclose(tensor, f64(rows), atol=1e-12, rtol=0)


def two_ranks(*parts):
    """What `reduce` does on the first of two ranks: adds what the other has, call by call."""
    others = iter(parts)
    return lambda tensor: tensor + next(others)


# ---------------------------------------------------------------- worked out by hand

MASK = torch.tensor([[T, T, T], [T, F, F]])


def test_masked_sum_and_mean():
    values = f64([[1, 2, 6], [3, math.nan, math.inf]])
    assert masked_sum(values, MASK) == 1 + 2 + 6 + 3
    assert masked_mean(values, MASK) == 12 / 4
    assert masked_mean(values, torch.zeros_like(MASK)) == 0
    other = f64([8, 1])  # the other rank: one token that holds 8
    assert masked_mean(values, MASK, two_ranks(other)) == (12 + 8) / 5


def test_masked_whiten():
    # mean (1 + 2 + 6 + 3) / 4 = 3; squares 4 + 1 + 9 + 0 = 14; variance 14 / 3
    std = math.sqrt(14 / 3)
    values = f64([[1, 2, 6], [3, 99, 99]])
    expected = [[-2 / std, -1 / std, 3 / std], [0, 0, 0]]
    assert equal(masked_whiten(values, MASK, epsilon=0.0), expected)
    expected = [[3 - 2 / std, 3 - 1 / std, 3 + 3 / std], [3, 0, 0]]
    assert equal(masked_whiten(values, MASK, epsilon=0.0, shift_mean=False), expected)


def test_masked_whiten_over_two_ranks():
    # with a token 8 elsewhere: mean 20 / 5 = 4; squares 9 + 4 + 4 + 1 and 16; variance 34 / 4
    std = math.sqrt(34 / 4)
    values = f64([[1, 2, 6], [3, 99, 99]])
    reduce = two_ranks(f64([8, 1]), f64([16, 1]))
    expected = [[-3 / std, -2 / std, 2 / std], [-1 / std, 0, 0]]
    assert equal(masked_whiten(values, MASK, reduce, epsilon=0.0), expected)


def test_kl_per_token():
    # probabilities .5 against .25: r = ln .25 - ln .5 = -ln 2; k1 = ln 2; k3 = 1/2 - 1 + ln 2
    # probabilities .2 against .8: r = ln 4; k1 = -ln 4; k3 = 4 - 1 - ln 4
    logprobs = f64([[0.5, 0.2, 1.0]]).log()
    reference = f64([[0.25, 0.8, 0.1]]).log()
    mask = torch.tensor([[T, T, F]])
    ln2, ln4 = math.log(2), math.log(4)
    assert equal(kl_per_token(logprobs, reference, mask), [[ln2, -ln4, 0]])
    assert equal(kl_per_token(logprobs, reference, mask, "k3"), [[ln2 - 0.5, 3 - ln4, 0]])


def test_both_kl_estimators_are_unbiased():
    p, q = f64([0.5, 0.3, 0.2]), f64([0.1, 0.3, 0.6])
    true = (p * (p / q).log()).sum()
    every = torch.ones(1, 3, dtype=torch.bool)
    for estimator in ("k1", "k3"):
        samples = kl_per_token(p.log()[None], q.log()[None], every, estimator)
        assert torch.allclose((p * samples).sum(), true)


def test_terminal_reward_lies_on_the_last_real_token():
    mask = torch.tensor([[T, T, T], [T, T, F], [T, F, F], [F, F, F]])
    rewards = terminal_reward(f64([5, -7, 2, 9]), mask)
    assert equal(rewards, [[0, 0, 5], [0, -7, 0], [2, 0, 0], [0, 0, 0]])


def test_generalized_advantages():
    # gamma .5, lambda .5, so gamma lambda = .25
    # row 0, from the end: d2 = 4 - 1 = 3                A2 = 3
    #                      d1 = 1 + .5 * 1 - 2 = -.5     A1 = -.5 + .25 * 3 = .25
    #                      d0 = 0 + .5 * 2 - 3 = -2      A0 = -2 + .25 * .25 = -1.9375
    # row 1, one token:    d0 = 6 - 2 = 4                A0 = 4; what is masked never enters
    rewards = f64([[0, 1, 4], [6, 50, math.nan]])
    values = f64([[3, 2, 1], [2, 50, math.inf]])
    advantages, returns = generalized_advantages(rewards, values, MASK, gamma=0.5, lam=0.5)
    assert equal(advantages, [[-1.9375, 0.25, 3], [4, 0, 0]])
    assert equal(returns, [[3 - 1.9375, 2.25, 4], [6, 0, 0]])


def test_clipped_policy_loss():
    # epsilon .2; ratios 1.5, 1.5, .5, .5, 1.1 with advantages 2, -2, 2, -2, 2
    #  1.5,  2: max(-3, -1.2 * 2) = -2.4, clipped       1.5, -2: max(3, 2.4) = 3
    #   .5,  2: max(-1, -.8 * 2) = -1                    .5, -2: max(1, 1.6) = 1.6, clipped
    #  1.1,  2: -2.2, inside
    ratios = f64([[1.5, 1.5, 0.5, 0.5, 1.1, 9.0]])
    old = f64([[-1, -2, -3, -0.5, -1, 0]])
    mask = torch.tensor([[T, T, T, T, T, F]])
    advantages = f64([[2, -2, 2, -2, 2, 2]])
    loss, clipped = clipped_policy_loss(old + ratios.log(), old, advantages, mask, 0.2)
    assert equal(loss, [[-2.4, 3, -1, 1.6, -2.2, 0]])
    assert clipped.tolist() == [[True, False, False, True, False, False]]


def test_clipped_value_loss():
    # epsilon .2, old value 1
    # V 2, R 0: limited 1.2; max(4, 1.44) / 2 = 2         V 2, R 3: max(1, 3.24) / 2 = 1.62
    # V 1.1, R 1: limited 1.1; .01 / 2 = .005             V 0, R 0: limited .8; .64 / 2 = .32
    mask = torch.tensor([[T, T, T, T, F]])
    loss = clipped_value_loss(
        f64([[2, 2, 1.1, 0, 7]]), f64([[1, 1, 1, 1, 0]]), f64([[0, 3, 1, 0, 0]]), mask, 0.2
    )
    assert equal(loss, [[2, 1.62, 0.005, 0.32, 0]])
    # not clipped: 4 / 2, 1 / 2, .01 / 2, 0
    loss = clipped_value_loss(
        f64([[2, 2, 1.1, 0, 7]]), f64([[1, 1, 1, 1, 0]]), f64([[0, 3, 1, 0, 0]]), mask, None
    )
    assert equal(loss, [[2, 0.5, 0.005, 0, 0]])


def test_explained_variance():
    # returns 1, 2, 6, 3: mean 3, variance 14 / 4; residuals 0, 1, 4, 1: mean 1.5, squares
    # 2.25 + .25 + 6.25 + .25 = 9, variance 9 / 4
    returns = f64([[1, 2, 6], [3, 99, 99]])
    values = f64([[1, 1, 2], [2, -5, math.nan]])
    assert explained_variance(values, returns, MASK).item() == pytest.approx(1 - 9 / 14)
    assert explained_variance(returns, returns, MASK) == 1
    assert explained_variance(torch.full_like(returns, 7), returns, MASK).item() == 0


# ---------------------------------------------------------------- properties

numbers = st.floats(-5, 5, allow_subnormal=False)


@st.composite
def batches(draw):
    """Four float64 tensors (B, T) and a mask whose rows hold 1..T real tokens."""
    rows, columns = draw(st.integers(1, 4)), draw(st.integers(1, 5))
    one = st.lists(numbers, min_size=rows * columns, max_size=rows * columns)
    tensors = [f64(draw(one)).view(rows, columns) for _ in range(4)]
    lengths = draw(st.lists(st.integers(1, columns), min_size=rows, max_size=rows))
    mask = torch.arange(columns) < torch.tensor(lengths)[:, None]
    return (*tensors, mask)


# name -> function of four tensors and a mask that returns tensors (B, T) or scalars
FUNCTIONS = {
    "sum": lambda a, b, c, d, m: masked_sum(a, m),
    "mean": lambda a, b, c, d, m: masked_mean(a, m),
    "whiten": lambda a, b, c, d, m: masked_whiten(a, m, epsilon=1e-2),
    "rescale": lambda a, b, c, d, m: masked_whiten(a, m, epsilon=1e-2, shift_mean=False),
    "k1": lambda a, b, c, d, m: kl_per_token(a, b, m, "k1"),
    "k3": lambda a, b, c, d, m: kl_per_token(a, b, m, "k3"),
    "terminal": lambda a, b, c, d, m: terminal_reward(a[:, 0], m),
    "advantages": lambda a, b, c, d, m: generalized_advantages(a, b, m, 0.9, 0.8)[0],
    "returns": lambda a, b, c, d, m: generalized_advantages(a, b, m, 0.9, 0.8)[1],
    "policy": lambda a, b, c, d, m: clipped_policy_loss(a, b, c, m, 0.2)[0],
    "clipped": lambda a, b, c, d, m: clipped_policy_loss(a, b, c, m, 0.2)[1].double(),
    "value": lambda a, b, c, d, m: clipped_value_loss(a, b, c, m, 0.2),
    "unclipped": lambda a, b, c, d, m: clipped_value_loss(a, b, c, m, None),
    "explained": lambda a, b, c, d, m: explained_variance(a, b + torch.arange(b.shape[1]), m),
}
every_function = pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)
SCALARS = ("sum", "mean", "explained")


def with_garbage(tensor, columns):
    """The tensor with further columns, and masked ones, of NaN and infinity."""
    garbage = torch.tensor([math.nan, math.inf, -math.inf], dtype=tensor.dtype)
    return torch.cat([tensor, garbage[:columns].expand(len(tensor), columns)], dim=1)


@every_function
@given(batches(), st.integers(1, 3))
def test_masked_entries_never_influence_a_result(function, batch, columns):
    *tensors, mask = batch
    plain = function(*tensors, mask)
    wide_mask = torch.cat([mask, torch.zeros(len(mask), columns, dtype=torch.bool)], dim=1)
    dirty = [with_garbage(t, columns) for t in tensors]
    for garbage in (math.nan, math.inf):
        first = [torch.where(wide_mask, t, torch.full_like(t, garbage)) for t in dirty]
        wide = function(*first, wide_mask)
        if plain.dim() == 0:
            assert torch.allclose(wide, plain)
        else:
            width = plain.shape[1]
            assert torch.allclose(wide[:, :width], plain) and not wide[:, width:].any()


@pytest.mark.parametrize("name", ["sum", "mean", "whiten", "k1", "k3", "policy", "value"])
@given(batches())
def test_masked_garbage_gives_no_gradient(name, batch):
    *tensors, mask = batch
    leaves = [torch.where(mask, t, torch.full_like(t, math.nan)) for t in tensors]
    for leaf in leaves:
        leaf.requires_grad_()
    clean = [torch.where(mask, t, torch.zeros_like(t)).requires_grad_() for t in tensors]
    for inputs in (leaves, clean):
        FUNCTIONS[name](*inputs, mask).sum().backward()
    for dirty, tidy in zip(leaves, clean, strict=True):
        if dirty.grad is not None:
            assert not dirty.grad[~mask].any()  # NaN counts as any
            assert torch.allclose(dirty.grad, tidy.grad)


@every_function
@given(batches(), st.randoms())
def test_the_order_of_rows_does_not_matter(function, batch, random):
    *tensors, mask = batch
    order = list(range(len(mask)))
    random.shuffle(order)
    plain = function(*tensors, mask)
    turned = function(*(t[order] for t in tensors), mask[order])
    assert torch.allclose(turned, plain if plain.dim() == 0 else plain[order])


@given(batches())
def test_k3_is_never_negative(batch):
    a, b, _, _, mask = batch
    assert (kl_per_token(a, b, mask, "k3") >= 0).all()
    assert not kl_per_token(a, a, mask, "k3").any()


@given(batches())
def test_whitened_values_have_mean_0_and_variance_1(batch):
    a, _, _, _, mask = batch
    real = a[mask]
    whitened = masked_whiten(a, mask)[mask]
    assert whitened.mean().abs() < 1e-4
    if len(real) > 1 and real.var() > 1e-3:
        assert whitened.var().item() == pytest.approx(1, abs=1e-4)


@given(batches(), st.floats(0, 1), st.floats(0, 1))
def test_gae_is_the_explicit_sum(batch, gamma, lam):
    """A_t = sum over l of (gamma lambda)^l delta_{t+l}, term by term."""
    rewards, values, _, _, mask = batch
    advantages, returns = generalized_advantages(rewards, values, mask, gamma, lam)
    for row, length in enumerate(mask.sum(1).tolist()):
        r, v = rewards[row, :length].numpy(), values[row, :length].numpy()
        delta = r + gamma * np.append(v[1:], 0.0) - v
        for t in range(length):
            total = sum((gamma * lam) ** k * delta[t + k] for k in range(length - t))
            assert advantages[row, t].item() == pytest.approx(total, abs=1e-9)
            assert returns[row, t].item() == pytest.approx(total + v[t], abs=1e-9)


@given(batches(), st.floats(0.01, 0.5))
def test_a_ratio_of_one_clips_nothing_and_has_the_plain_gradient(batch, cliprange):
    logprobs, _, advantages, _, mask = batch
    new = logprobs.clone().requires_grad_()
    loss, clipped = clipped_policy_loss(new, logprobs, advantages, mask, cliprange)
    assert not clipped.any()
    assert torch.equal(loss, torch.where(mask, -advantages, torch.zeros_like(loss)))
    loss.sum().backward()  # d(-A exp(x - old)) / dx = -A at x = old
    assert torch.allclose(new.grad, torch.where(mask, -advantages, torch.zeros_like(loss)))


def test_a_clipped_token_has_no_gradient():
    new = f64([[1.0, 0.0]]).requires_grad_()
    loss, clipped = clipped_policy_loss(
        new, f64([[0.0, 0.0]]), f64([[2.0, 2.0]]), torch.tensor([[T, T]]), 0.2
    )
    loss.sum().backward()
    assert clipped.tolist() == [[True, False]] and new.grad.tolist() == [[0.0, -2.0]]


@given(batches(), st.floats(0.01, 0.5))
def test_values_within_the_clip_range_lose_half_the_squared_error(batch, cliprange):
    values, returns, _, _, mask = batch
    loss = clipped_value_loss(values, values, returns, mask, cliprange)
    assert torch.allclose(loss, 0.5 * (values - returns) ** 2 * mask)


@given(batches())
def test_perfect_values_explain_everything(batch):
    a, b, _, _, mask = batch
    alike = torch.full_like(a, 2.5)
    if mask.any() and a[mask].var(unbiased=False) > 1e-9:
        assert explained_variance(a, a, mask) == 1
    assert explained_variance(a, alike, mask) == 0  # nothing to explain
    assert explained_variance(b, a, mask) <= 1


# ---------------------------------------------------------------- what is refused

SHAPED = [name for name in FUNCTIONS if name != "terminal"]


@every_function
def test_a_mask_that_is_not_bool_is_refused(function):
    tensors = [torch.zeros(2, 3) for _ in range(4)]
    with pytest.raises(ValueError, match=r"mask must be bool, not torch\.int64"):
        function(*tensors, torch.ones(2, 3, dtype=torch.long))


@pytest.mark.parametrize("name", SHAPED)
def test_shapes_that_differ_are_refused(name):
    tensors = [torch.zeros(2, 4) for _ in range(4)]
    with pytest.raises(ValueError, match=r"shape \(2, 4\) differs from mask \(2, 3\)"):
        FUNCTIONS[name](*tensors, torch.ones(2, 3, dtype=torch.bool))


@pytest.mark.parametrize("shape", [(3,), (1,), (2, 1), ()])
def test_one_score_for_each_row_is_asked_for(shape):
    with pytest.raises(ValueError, match="of scores is not"):
        terminal_reward(torch.zeros(shape), torch.ones(2, 3, dtype=torch.bool))


def test_an_unknown_kl_estimator_is_refused():
    with pytest.raises(ValueError, match="'k1' or 'k3', not 'k2'"):
        kl_per_token(torch.zeros(1, 1), torch.zeros(1, 1), torch.ones(1, 1).bool(), "k2")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@every_function
def test_dtypes_are_kept(function, dtype):
    tensors = [torch.zeros(2, 3, dtype=dtype) for _ in range(4)]
    result = function(*tensors, torch.ones(2, 3, dtype=torch.bool))
    assert result.dtype in (dtype, torch.float64)  # `clipped` is made double above
