"""Each reward's formula by hand, its two ways to be called, and one step of TRL's trainers."""

import math

import numpy as np
import pytest
import torch
from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer

from rlhf_dialog.discriminators.model import fresh_discriminator
from rlhf_dialog.discriminators.penalties import RepetitionPenalty
from rlhf_dialog.discriminators.rewards import (
    ConstantReward,
    LogitReward,
    RandomReward,
    RelativeReward,
    ShuffledReward,
    TextReward,
    WeightedSum,
    named_reward,
)
from rlhf_dialog.errors import UserError
from tests.conftest import SENTENCES

SCORES = {"bad": -2.0, "so so": 0.0, "good": 3.0, "real": 1.0, "human": 2.0}


def scorer(contexts, replies):
    assert len(contexts) == len(replies)
    return torch.tensor([SCORES[reply] for reply in replies], dtype=torch.float64)


def graded(contexts, replies):
    return torch.tensor([float(len(reply)) for reply in replies])


CONTEXTS, REPLIES = [["a", "b"], ["c"], ["c"]], ["bad", "so so", "good"]
E2, E3 = math.exp(-2), math.exp(3)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("logit", [-2, 0, 3]),
        ("probability", [E2 / (1 + E2), 0.5, E3 / (1 + E3)]),
        ("log_d", [-2 - math.log1p(E2), -math.log(2), -math.log1p(1 / E3)]),
        ("minus_log_1_minus_d", [math.log1p(E2), math.log(2), math.log1p(E3)]),
        # Real replies: 1.0 to the first context; 1.0 and 2.0 to the second, of which the mean.
        (
            "relative",
            [
                1 / (1 + math.exp(3)),
                (1 / (1 + math.exp(1)) + 1 / (1 + math.exp(2))) / 2,
                (1 / (1 + math.exp(-2)) + 1 / (1 + math.exp(-1))) / 2,
            ],
        ),
        ("constant", [0, 0, 0]),
    ],
)
def test_formulas_by_hand(name, expected):
    pairs = [(("a", "b"), "real"), (["c"], "real"), (("c",), "human")]
    reward = named_reward(name, scorer, seed=0, real_pairs=pairs)
    rewards = reward(CONTEXTS, REPLIES)
    assert rewards.tolist() == pytest.approx(expected, abs=1e-12 if name != "constant" else 0)
    assert reward.__name__ == name
    assert reward([], []).shape == (0,)


def test_a_name_that_is_no_reward():
    with pytest.raises(UserError, match="reward: 'praise' is not one of logit, probability"):
        named_reward("praise", scorer, seed=0)


def test_extreme_scores_stay_finite():
    def extreme(contexts, replies):
        return torch.tensor([-1e4, 1e4])

    for name in ("probability", "log_d", "minus_log_1_minus_d"):
        reward = named_reward(name, extreme, seed=0)
        assert torch.isfinite(reward([["a"]] * 2, ["x", "y"])).all(), name


def test_a_context_without_a_real_reply_is_named():
    with pytest.raises(UserError, match=r"context that ends with 'c' has no real reply.*reference"):
        RelativeReward(scorer, [(["a", "b"], "real")])(CONTEXTS, REPLIES)


@pytest.mark.parametrize("replies", [["bad"], None])
def test_contexts_and_replies_must_be_as_many(replies):
    with pytest.raises(ValueError, match="as many contexts as replies"):
        LogitReward(scorer)([["a"], ["b"]], replies)


# ---------------------------------------------------------------- controls


def test_a_shuffled_reward_is_a_permutation_of_the_reward():
    replies = ["x" * n for n in range(40)]
    contexts = [["hm"]] * 40
    shuffled = ShuffledReward(graded, seed=3)
    first, second = shuffled(contexts, replies), shuffled(contexts, replies)
    honest = graded(contexts, replies)
    for scores in (first, second):
        assert torch.equal(scores.sort().values, honest)
        assert abs(np.corrcoef(scores, honest)[0, 1]) < 0.5
    assert not torch.equal(first, second)
    assert torch.equal(ShuffledReward(graded, seed=3)(contexts, replies), first)
    assert not torch.equal(ShuffledReward(graded, seed=4)(contexts, replies), first)


def test_a_random_reward_is_standard_normal_noise():
    rewards = RandomReward(seed=1)([["hm"]] * 4000, ["x"] * 4000)
    assert abs(rewards.mean()) < 0.05 and rewards.std() == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize(
    "make",
    [
        lambda: RandomReward(seed=3),
        lambda: ShuffledReward(RandomReward(seed=3), seed=4),
        lambda: WeightedSum([(1.0, graded), (0.5, ShuffledReward(graded, seed=5))]),
    ],
    ids=["random", "shuffled", "sum"],
)
def test_random_rewards_go_on_where_they_stopped(make):
    contexts, replies = [["hm"]] * 6, ["a", "bb", "ccc", "dddd", "eeeee", "ffffff"]
    state = torch.random.get_rng_state()
    first = make()
    first(contexts, replies)
    saved = {name: value.clone() for name, value in first.state_dict().items()}
    expected = first(contexts, replies)
    resumed = make()
    resumed.load_state_dict(saved)
    assert torch.equal(resumed(contexts, replies), expected)
    assert torch.equal(torch.random.get_rng_state(), state)  # the global generator stands still
    with pytest.raises(ValueError, match="the state of reward"):
        resumed.load_state_dict({"other": torch.zeros(1)})


def test_rewards_without_chance_have_no_state():
    assert LogitReward(scorer).state_dict() == ConstantReward().state_dict() == {}


# ---------------------------------------------------------------- sums


def test_a_sum_weighs_its_parts():
    reward = WeightedSum([(2.0, scorer), (-1.0, ConstantReward(3.0)), (0.5, graded)])
    assert reward(CONTEXTS, REPLIES).tolist() == pytest.approx(
        [2 * -2 - 3 + 0.5 * 3, 0 - 3 + 0.5 * 5, 2 * 3 - 3 + 0.5 * 4]
    )
    with pytest.raises(UserError, match="at least one"):
        WeightedSum([])


# ---------------------------------------------------------------- as TRL calls it


class Echo(TextReward):
    """Keeps what reached it."""

    name = "echo"

    def score(self, contexts, replies, references=None):
        self.seen = contexts, replies, references
        return torch.arange(len(replies), dtype=torch.float32)


CHAT = [[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Tea?"}]]
PARTS = [{"role": "assistant", "content": [{"type": "text", "text": "Yes, "}, {"type": "image"}]}]


@pytest.mark.parametrize(
    ("given", "contexts", "replies", "references"),
    [
        ({"prompts": ["Tea?"], "completions": ["Yes."]}, [["Tea?"]], ["Yes."], None),
        (
            {"prompts": CHAT, "completions": [[{"role": "assistant", "content": "Yes."}]]},
            [["Be brief.", "Tea?"]],
            ["Yes."],
            None,
        ),
        (
            {"prompts": ["<p>"], "completions": [PARTS], "context": [["Hi.", "Tea?"]]},
            [["Hi.", "Tea?"]],
            ["Yes, "],
            None,
        ),
        (
            {"prompts": ["<p>"], "completions": [""], "context": ["Tea?"], "reference": ["No."]},
            [["Tea?"]],
            [""],
            ["No."],
        ),
    ],
    ids=["text", "conversation", "context", "reference"],
)
def test_columns_become_contexts_and_replies(given, contexts, replies, references):
    reward = Echo()
    rewards = reward(**given, completion_ids=[[1]], trainer_state=None, log_metric=print, other=[0])
    assert rewards == [0.0] and type(rewards[0]) is float
    assert reward.seen == (contexts, replies, references)


def test_a_reference_column_serves_relative_inside_a_sum():
    reward = WeightedSum([(1.0, RelativeReward(scorer)), (1.0, RepetitionPenalty())])
    rewards = reward(prompts=["a", "b"], completions=["bad", "good"], reference=["real", "human"])
    assert rewards == pytest.approx([1 / (1 + math.exp(3)), 1 / (1 + math.exp(-1))])


CHAT_TEMPLATE = "{% for m in messages %}{{ m['content'] + eos_token }}{% endfor %}"


@pytest.mark.parametrize("conversational", [False, True], ids=["standard", "conversational"])
@pytest.mark.parametrize(
    ("trainer_class", "config_class"),
    [(GRPOTrainer, GRPOConfig), (RLOOTrainer, RLOOConfig)],
    ids=["GRPO", "RLOO"],
)
def test_one_step_of_trls_trainers(
    make_generator, tmp_path, trainer_class, config_class, conversational
):
    discriminator = fresh_discriminator(SENTENCES, hidden_size=32, layers=1, max_tokens=48, seed=0)
    seen = []

    def watched(contexts, replies):
        scores = discriminator(contexts, replies)
        seen.append((contexts, replies, scores))
        return scores

    generator = make_generator("gpt2", sharp=True)
    if conversational:
        generator.tokenizer.chat_template = CHAT_TEMPLATE
        prompts = [[{"role": "user", "content": text}] for text in SENTENCES[:4]]
    else:
        prompts = SENTENCES[:4]
    generator.save(tmp_path / "generator")
    trainer = trainer_class(
        model=str(tmp_path / "generator"),
        processing_class=generator.tokenizer,
        reward_funcs=[
            LogitReward(watched),
            WeightedSum([(1.0, RelativeReward(discriminator)), (0.5, RepetitionPenalty())]),
        ],
        args=config_class(
            output_dir=str(tmp_path / "run"),
            max_steps=1,
            per_device_train_batch_size=4,
            num_generations=2,
            max_completion_length=6,
            learning_rate=0.1,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
        ),
        train_dataset=Dataset.from_dict({"prompt": prompts, "reference": SENTENCES[1:5]}),
    )
    trainer.train()
    contexts, replies, scores = seen[0]
    assert len(replies) == 4 and all(context[0] in SENTENCES for context in contexts)
    (logs,) = [row for row in trainer.state.log_history if "rewards/logit/mean" in row]
    assert logs["rewards/logit/mean"] == pytest.approx(scores.mean().item(), abs=1e-5)
    assert math.isfinite(logs["rewards/weighted_sum/mean"])
    before, after = generator.model.parameters(), trainer.model.parameters()
    assert not all(torch.equal(b, a) for b, a in zip(before, after, strict=True))
