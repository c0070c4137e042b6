import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rlhf_dialog.generators import distributions
from rlhf_dialog.generators.distributions import Sampling, token_entropies, token_logprobs

INF = math.inf


def f64(rows):
    return torch.tensor(rows, dtype=torch.float64)


# ---------------------------------------------------------------- entropy


def test_entropy_by_hand():
    # .5 .25 .25: .5 ln 2 + 2 · .25 ln 4 = 1.5 ln 2;  uniform over 3: ln 3;  one certain: 0;
    # what is cut off (-inf) adds nothing: .5 .5: ln 2
    probabilities = f64([[0.5, 0.25, 0.25], [1 / 3, 1 / 3, 1 / 3], [1, 0, 0], [0.5, 0.5, 0]])
    wanted = f64([1.5 * math.log(2), math.log(3), 0, math.log(2)])
    assert torch.allclose(token_entropies(probabilities.log() + 7), wanted, atol=1e-12)


def test_logprobs_by_hand():
    logits = f64([[0.5, 0.25, 0.25], [0.2, 0.8, 0]]).log() + 3
    wanted = f64([math.log(0.25), math.log(0.2)])
    assert torch.allclose(token_logprobs(logits, torch.tensor([2, 0])), wanted, atol=1e-12)


@given(st.integers(1, 40), st.integers(0, 99))
def test_entropy_is_the_same_in_chunks_of_any_size(chunk, seed):
    logits = 3 * torch.randn(2, 3, 7, generator=torch.Generator().manual_seed(seed)).double()
    probabilities = torch.softmax(logits, dim=-1)
    wanted = -(probabilities * probabilities.log()).sum(-1)
    assert torch.allclose(token_entropies(logits, chunk), wanted)


def test_the_gradient_of_an_entropy_is_its_derivative():
    logits = torch.randn(3, 5, generator=torch.Generator().manual_seed(1)).double()
    logits.requires_grad_()
    assert torch.autograd.gradcheck(lambda z: token_entropies(z, 10), logits)
    cut_off = torch.tensor([False, True, False, False, True])
    token_entropies(logits.masked_fill(cut_off, -INF)).sum().backward()
    assert torch.isfinite(logits.grad).all() and not logits.grad[:, cut_off].any()


def test_an_entropy_never_holds_more_than_a_chunk_of_probabilities(monkeypatch):
    seen = []
    softmax = distributions._softmax
    monkeypatch.setattr(distributions, "_softmax", lambda z: seen.append(z.numel()) or softmax(z))
    logits = torch.randn(6, 50, requires_grad=True)
    token_entropies(logits, 100).sum().backward()
    assert seen == [100] * 6  # three chunks forth, three back


# ---------------------------------------------------------------- what is cut off

LOGITS = f64([[[0.4, 0.3, 0.2, 0.1]]]).log()  # (1, 1, 4)


@pytest.mark.parametrize(
    ("sampling", "token", "kept"),
    [
        (Sampling(), 3, [0.4, 0.3, 0.2, 0.1]),
        (Sampling(top_k=2), 0, [4 / 7, 3 / 7, 0, 0]),
        (Sampling(top_p=0.65), 0, [4 / 7, 3 / 7, 0, 0]),  # .4 + .3 is the first sum to reach it
        (Sampling(top_k=3, top_p=0.5), 1, [4 / 7, 3 / 7, 0, 0]),  # of the three: .44, .33, .22
        (Sampling(top_k=2), 3, [0.5, 0.375, 0, 0.125]),  # another policy sampled the last one
        (Sampling(0.5, top_k=2), 0, [16 / 25, 9 / 25, 0, 0]),
    ],
)
def test_the_truncated_distribution_by_hand(sampling, token, kept):
    ids = torch.tensor([[token]])
    logits = sampling.logits(LOGITS, ids)
    assert torch.allclose(torch.softmax(logits, -1)[0, 0], torch.tensor(kept), atol=1e-6)
    wanted = torch.tensor(kept[token]).log()
    assert torch.allclose(token_logprobs(logits, ids)[0, 0], wanted, atol=1e-6)


def test_a_truncated_logprob_has_the_gradient_of_its_own_softmax():
    logits = LOGITS.float().clone().requires_grad_()
    ids = torch.tensor([[0]])
    token_logprobs(Sampling(top_k=2).logits(logits, ids), ids).sum().backward()
    assert torch.allclose(logits.grad[0, 0], torch.tensor([3 / 7, -3 / 7, 0, 0]), atol=1e-6)
