import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rlhf_dialog.ppo.rewards import (
    AdaptiveKLController,
    LengthResidual,
    RewardNormalizer,
)


def lengths(seed, count, low=1, high=30):
    return torch.tensor(np.random.default_rng(seed).integers(low, high, count))


def noise(seed, count):
    return torch.tensor(np.random.default_rng(seed).normal(size=count))


# ---------------------------------------------------------------- normaliser


@given(st.lists(st.lists(st.floats(-50, 50), min_size=1, max_size=9), min_size=1, max_size=6))
def test_the_normaliser_knows_the_whole_stream(stream):
    normalizer = RewardNormalizer()
    for batch in stream:
        shaped = normalizer(torch.tensor(batch, dtype=torch.float64))
    everything = np.concatenate(stream)
    std = everything.std(ddof=1) if len(everything) > 1 else 0.0
    expected = (np.array(stream[-1]) - everything.mean()) / (std + 1e-6)
    assert normalizer.count == len(everything)
    assert np.allclose(shaped.numpy(), expected, rtol=1e-6, atol=1e-6)


def test_a_constant_score_is_worth_nothing():
    normalizer = RewardNormalizer()
    for size in (1, 4, 4):
        assert not normalizer(torch.full((size,), 0.1)).abs().gt(1e-6).any()


def test_normalised_scores_keep_order_dtype_and_input():
    scores = torch.tensor([3.0, -1.0, 7.0])
    shaped = RewardNormalizer()(scores)
    assert shaped.dtype == torch.float32
    assert shaped.argsort().tolist() == scores.argsort().tolist()
    assert scores.tolist() == [3.0, -1.0, 7.0]


# ---------------------------------------------------------------- KL controller


def test_the_kl_controller_by_hand():
    # target 6, horizon 10000, 256 episodes: a full step is 1 +- .2 * .0256 = 1 +- .00512
    controller = AdaptiveKLController(0.2, 6.0, 10_000)
    controller.update(60.0, 256)  # error 9, clipped to .2
    assert controller.coefficient == pytest.approx(0.2 * 1.00512)
    controller.update(0.0, 256)  # error -1, clipped to -.2
    assert controller.coefficient == pytest.approx(0.2 * 1.00512 * 0.99488)
    controller.update(6.6, 256)  # error .1
    assert controller.coefficient == pytest.approx(0.2 * 1.00512 * 0.99488 * 1.00256)
    before = controller.coefficient
    controller.update(6.0, 256)  # on target
    assert controller.coefficient == before


def test_without_a_target_the_kl_coefficient_stays():
    controller = AdaptiveKLController(0.2, None, 1000)
    controller.update(99.0, 256)
    assert controller.coefficient == 0.2


# ---------------------------------------------------------------- length residual


def test_a_score_that_only_length_determines_becomes_constant():
    residual = LengthResidual(512)
    for seed in range(3):
        words = lengths(seed, 64)
        scores = 2 - 3 * torch.log(words.double())
        left = residual(scores, words)
    assert scores.std() > 1 and left.std() < 1e-9
    assert left[0] == pytest.approx(scores.mean().item())


def test_a_drift_of_scores_and_lengths_is_no_effect_of_length():
    residual = LengthResidual(4096)
    for update in range(20):  # both grow from update to update; within one they are independent
        words, scores = lengths(update, 200) + 10 * update, noise(99 + update, 200) + update
        left = residual(scores, words)
    assert (left - scores).abs().max() < 0.2


def test_an_independent_score_is_left_nearly_alone():
    residual = LengthResidual(4096)
    residual(noise(1, 4000), lengths(2, 4000))
    scores = noise(3, 200)
    left = residual(scores, lengths(4, 200))
    assert (left - scores).abs().max() < 0.15
    assert np.corrcoef(left, scores)[0, 1] > 0.999


def test_what_length_does_not_explain_survives():
    words, merit = lengths(5, 2000), noise(6, 2000)
    left = LengthResidual(2000)(merit + 4 * torch.log(words.double()), words)
    assert np.corrcoef(left, merit)[0, 1] > 0.99
    assert abs(np.corrcoef(left, words)[0, 1]) < 0.1


@pytest.mark.parametrize("batch", [1, 2, 16])
def test_constant_lengths_change_nothing_from_the_first_batch_on(batch):
    residual = LengthResidual(64)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for seed in range(3):
            scores = noise(seed, batch)
            assert torch.equal(residual(scores, torch.full((batch,), 7)), scores)


def test_the_window_forgets():
    residual = LengthResidual(50)
    words = lengths(0, 50)
    residual(10 * torch.log(words.double()), words)  # then the effect turns round
    scores = -2 * torch.log(words.double())
    assert residual(scores, words).std() < 1e-9


def test_residuals_are_those_of_a_least_squares_line():
    words, scores = lengths(7, 40), noise(8, 40)
    x = np.log(words.numpy())
    slope, _ = np.polyfit(x, scores.numpy(), 1)
    expected = scores.numpy() - slope * (x - x.mean())
    assert np.allclose(LengthResidual(40)(scores, words), expected)
