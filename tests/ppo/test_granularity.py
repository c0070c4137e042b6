"""Rewards along a reply: by hand, by their sums, and against the models' own forward."""

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import GenerationConfig

from rlhf_dialog.generators.distributions import Sampling
from rlhf_dialog.generators.policy import response_logits
from rlhf_dialog.generators.prompts import encode_batch
from rlhf_dialog.ppo.granularity import Cuts, RewardSpreader, completions, cut, spread
from rlhf_dialog.ppo.rewards import ScoreShaper
from tests.ppo.trainers import build_trainer, column, grade, make_ends_likely

both_families = pytest.mark.parametrize("family", ["gpt2", "blenderbot-small"])


def rows_of(lengths):
    return torch.arange(max(lengths)) < torch.tensor(lengths).unsqueeze(1)


def test_where_replies_are_cut():
    cuts = cut(rows_of([8, 1, 2, 5]), positions=3)
    # 8 tokens: 2, 4, 6; one: none; two: 0 (left out), 1, 1; five: 1, 2, 3
    assert cuts.rows.tolist() == [0, 0, 0, 2, 3, 3, 3]
    assert cuts.lengths.tolist() == [2, 4, 6, 1, 1, 2, 3]
    every = cut(rows_of([6]), positions=99)
    assert every.lengths.tolist() == [1, 2, 3, 4, 5]
    assert cut(rows_of([1]), positions=3).rows.shape == (0,)


def test_differences_by_hand():
    mask = rows_of([4, 2])
    cuts = Cuts(torch.tensor([0, 0, 1]), torch.tensor([1, 3, 1]))
    values = torch.tensor([0.5, -1.0, 0.25], dtype=torch.float64)
    rewards = spread(torch.tensor([2.0, 1.0], dtype=torch.float64), mask, cuts, values)
    assert rewards.tolist() == [[0.5, 0, -1.5, 3.0], [0.25, 0.75, 0, 0]]


@given(
    lengths=st.lists(st.integers(1, 12), min_size=1, max_size=5),
    positions=st.integers(1, 15),
    seed=st.integers(0, 99),
)
def test_a_row_sums_to_its_score_whatever_the_prefixes_are_worth(lengths, positions, seed):
    mask, generator = rows_of(lengths), torch.Generator().manual_seed(seed)
    cuts = cut(mask, positions)
    values = torch.randn(len(cuts.rows), generator=generator, dtype=torch.float64)
    final = torch.randn(len(lengths), generator=generator, dtype=torch.float64)
    rewards = spread(final, mask, cuts, values)
    torch.testing.assert_close(rewards.sum(1), final)
    assert not rewards[~mask].any()


# ---------------------------------------------------------------- completions


@pytest.fixture
def sampled(make_generator, examples, tmp_path):
    """(family, values) -> a trainer, its model as sharp as to have likely continuations."""

    def make(family, reward=grade, **values):
        values = {"response_length": 8, "num_mini_batches": 2, **values}
        trainer, history = build_trainer(
            make_generator(family, sharp=True), examples, tmp_path, reward, **values
        )
        return trainer, history

    return make


@pytest.mark.parametrize("family", ["gpt2", "blenderbot-small", "bart", "t5"])
def test_completions_follow_the_model_after_the_prefix(make_generator, family):
    generator = make_generator(family, sharp=True)
    contexts = [["who took the red lamp ?"], ["tea ?", "not me ."], ["where is the captain ?"]]
    replies = ["the captain is on the ship", "not me , i was asleep .", "the tide is high"]
    batch = encode_batch(generator, contexts, replies, context_length=20, response_length=8)

    class Batch:
        context_ids, context_mask, reply_ids, reply_mask = batch

    cuts = Cuts(torch.tensor([0, 0, 1, 2]), torch.tensor([1, 3, 3, 2]))
    found = completions(
        generator.model, Batch, cuts, 2, chunk=3, max_tokens=8, sampling=Sampling(1e-4)
    )
    assert len(found) == 8
    for index, (row, length) in enumerate(zip([0, 0, 1, 2], [1, 3, 3, 2], strict=True)):
        prefix = Batch.reply_ids[row, :length].tolist()
        first, second = found[2 * index], found[2 * index + 1]
        assert first[:length] == prefix and first == second  # nearly greedy
        assert length < len(first) <= 8
        ids = torch.tensor([first])
        own = Batch.context_mask[row]
        logits, _ = response_logits(
            generator.model,
            Batch.context_ids[row][own].unsqueeze(0),
            own[own].unsqueeze(0),
            ids,
            torch.ones_like(ids, dtype=torch.bool),
        )
        assert first[length:] == logits[0].argmax(-1)[length:].tolist()
        eos = generator.tokenizer.eos_token_id
        assert len(first) == 8 or first[-1] == eos
        assert eos not in first[length:-1]


def test_completions_are_samples_of_the_policy(make_generator, examples):
    generator = make_generator("gpt2")
    make_ends_likely(generator.model, generator.tokenizer.eos_token_id)
    batch = encode_batch(
        generator, [["tea ?"]], ["the captain"], context_length=20, response_length=8
    )

    class Batch:
        context_ids, context_mask, reply_ids, reply_mask = batch

    cuts = Cuts(torch.tensor([0]), torch.tensor([2]))
    torch.manual_seed(0)
    found = completions(
        generator.model, Batch, cuts, 3000, chunk=1000, max_tokens=3, sampling=Sampling()
    )
    logits, _ = response_logits(generator.model, *batch)
    ends = [row[2] == generator.tokenizer.eos_token_id for row in found]
    expected = logits[0, 2].softmax(-1)[generator.tokenizer.eos_token_id].item()
    assert 0.01 < expected < 0.5
    assert sum(ends) / 3000 == pytest.approx(expected, abs=4 * (expected / 3000) ** 0.5)


class Scripted:
    """A policy that goes on with the next of `lines`, whatever was said."""

    config = SimpleNamespace(
        is_encoder_decoder=False, eos_token_id=1, pad_token_id=0, _attn_implementation="sdpa"
    )
    generation_config = GenerationConfig(eos_token_id=1, pad_token_id=0)

    def __init__(self, *lines):
        self.lines = torch.tensor(lines)

    def generate(self, input_ids, **_):
        return torch.cat([input_ids, self.lines[: len(input_ids)]], dim=1)


def test_the_value_of_a_prefix_is_the_mean_of_its_completions():
    """Scores 1 and 3 at mean 0.5 and deviation 2: 0.25 and 1.25, which is clipped to 1."""
    rollout = SimpleNamespace(
        contexts=[["tea ?"]],
        context_ids=torch.tensor([[4]]),
        context_mask=torch.ones(1, 1, dtype=torch.bool),
        reply_ids=torch.tensor([[5, 6, 7, 1]]),
        reply_mask=torch.ones(1, 4, dtype=torch.bool),
    )
    heard = []

    def scorer(contexts, replies):
        heard.append((contexts, replies))
        return torch.tensor([{"5 6 8 1": 1.0, "5 6 9 9": 3.0}[reply] for reply in replies])

    shape = ScoreShaper(window=0, normalize=True, clip=1.0)
    shape.normalizer.count, shape.normalizer.mean, shape.normalizer.m2 = 2.0, 0.5, 4.0
    args = SimpleNamespace(
        reward_granularity="rollout",
        reward_positions=1,
        rollouts_per_prefix=2,
        local_rollout_forward_batch_size=8,
        response_length=4,
    )
    spreader = RewardSpreader(
        args,
        SimpleNamespace(decode=lambda ids: " ".join(map(str, ids))),
        scorer,
        shape,
    )
    policy = SimpleNamespace(lm=Scripted([8, 1], [9, 9]), sampling=Sampling())
    rewards = spreader(rollout, torch.tensor([0.8]), lambda: nullcontext(policy))
    assert rewards.tolist() == [pytest.approx([0, 0.625, 0, 0.175], abs=1e-5)]
    assert heard == [([["tea ?"], ["tea ?"]], ["5 6 8 1", "5 6 9 9"])]


# ---------------------------------------------------------------- in the trainer


@pytest.mark.parametrize("granularity", ["prefix", "rollout"])
@both_families
def test_dense_rewards_sum_to_the_shaped_score(sampled, family, granularity):
    rewards = {}
    for name in ("final", granularity):
        torch.manual_seed(0)
        trainer, _ = sampled(family, reward_granularity=name, rollouts_per_prefix=2, reward_clip=1)
        rollout = trainer.sample(next(iter(trainer.dataloader)))
        rewards[name], _ = trainer.compute_rewards(rollout, trainer.score(rollout))
    final, dense = rewards["final"], rewards[granularity]
    torch.testing.assert_close(dense.sum(1), final.sum(1), atol=1e-5, rtol=0)
    assert (final != 0).sum(1).max() == 1  # before the first step there is no KL
    long = rollout.reply_mask.sum(1) >= 4
    assert long.any() and (dense[long] != 0).sum(1).max() == 4  # fewer where clipped values tie
    assert not dense[~rollout.reply_mask].any()


def test_prefix_rewards_are_scores_of_prefixes(sampled):
    """Shaped by the running statistics of the whole replies: by hand, from the text up."""
    trainer, _ = sampled("gpt2", reward_granularity="prefix", reward_positions=2, kl_coef=0.0)
    rollout = trainer.sample(next(iter(trainer.dataloader)))
    scores = trainer.score(rollout)
    rewards, _ = trainer.compute_rewards(rollout, scores)
    tokens = rollout.reply_mask.sum(1).double()
    logs = tokens.log() - tokens.log().mean()
    slope = (logs @ (scores - scores.mean()).double()) / (logs @ logs)
    residuals = scores - slope * logs
    for row, total in enumerate(rollout.reply_mask.sum(1).tolist()):
        value = 0.0
        for length in sorted({total // 3, 2 * total // 3} - {0}):
            text = trainer.generator.decode(rollout.reply_ids[row, :length].tolist())
            score = grade(None, [text]).item()
            score -= slope * (torch.tensor(length + 1.0).log() - tokens.log().mean())
            new = ((score - residuals.mean()) / residuals.std()).item()
            assert rewards[row, length - 1].item() == pytest.approx(new - value, abs=1e-3)
            value = new


@pytest.mark.parametrize("granularity", ["prefix", "rollout"])
def test_training_with_dense_rewards_raises_the_reward(sampled, granularity):
    def share_of_t(contexts, replies):
        return torch.tensor([reply.count("t") / max(1, len(reply)) for reply in replies])

    trainer, history = sampled(
        "gpt2",
        share_of_t,
        reward_granularity=granularity,
        rollouts_per_prefix=1,
        max_steps=12,
        num_ppo_epochs=4,
        learning_rate=3e-3,
        kl_coef=0.0,
        kl_target=None,
        length_residual_window=0,
    )
    trainer.train()
    scores = column(history, "objective/scores")
    assert sum(scores[-3:]) / 3 > scores[0] + 0.1
