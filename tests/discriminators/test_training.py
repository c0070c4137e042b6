import copy
import random

import pytest
import torch

from rlhf_dialog.discriminators.model import fresh_discriminator
from rlhf_dialog.discriminators.negatives import Pair, fakes
from rlhf_dialog.discriminators.training import (
    Refresher,
    fake_shares,
    held_out_report,
    pretrain,
    split_pools,
)
from rlhf_dialog.settings import DiscriminatorSettings

WORDS = ["tea", "ship", "lamp", "tide", "rain", "soup", "bread", "door"]
SETTINGS = DiscriminatorSettings(
    discriminator_epochs=6,
    discriminator_batch_size=32,
    discriminator_learning_rate=2e-3,
    refresh_steps=12,
    refresh_samples=40,
    refresh_learning_rate=2e-3,
    refresh_ceiling=0.95,
)


def _sentence(rng, mark):
    words = rng.sample(WORDS, 4)
    words.insert(rng.randrange(5), mark)
    return " ".join(words)


def _pools(rng, count=80):
    """Reals say "aye", the cast says "yeah", the generator says "hmm"."""
    contexts = [(f"{rng.choice(WORDS)} {n} ?",) for n in range(count)]
    return {
        "real": [Pair(c, _sentence(rng, "aye"), True, "real") for c in contexts],
        "generated": fakes("generated", contexts, [_sentence(rng, "hmm") for _ in contexts]),
        "cast": fakes("cast", contexts, [_sentence(rng, "yeah") for _ in contexts]),
    }


@pytest.fixture(scope="module")
def trained():
    pools = _pools(random.Random(1))
    texts = [pair.reply for pool in pools.values() for pair in pool] + ["what ever"]
    discriminator = fresh_discriminator(texts, hidden_size=64, layers=1, max_tokens=32, seed=0)
    report = pretrain(discriminator, pools, SETTINGS, seed=0, description="test")
    return discriminator, pools, report


def test_pretraining_learns_the_mark_of_the_character(trained):
    _, _, report = trained
    assert report["auc/generated"] > 0.95 and report["auc/cast"] > 0.95
    assert report["accuracy/real"] > 0.8


def test_the_best_pass_is_the_one_that_is_kept(trained):
    discriminator, pools, report = trained
    _, held_out = split_pools(pools, random.Random(0))  # as pretrain split them
    assert held_out_report(discriminator, held_out, fake_shares(SETTINGS)) == pytest.approx(report)


def test_no_context_stands_on_both_sides_and_no_reply_crosses_over():
    train, held_out = split_pools(_pools(random.Random(2)), random.Random(3))
    assert {k for k, pool in held_out.items() if pool} == {
        "real",
        "generated",
        "cast",
        "wrong_context",
        "degenerate",
    }
    seen = {pair.context for pool in train.values() for pair in pool}
    assert not seen & {pair.context for pool in held_out.values() for pair in pool}
    own = {pair.reply for pair in held_out["real"]}
    assert {pair.reply for pair in held_out["wrong_context"]} <= own


def test_a_refresh_learns_what_the_generator_has_turned_to(trained):
    discriminator, pools, _ = trained
    rng = random.Random(5)

    def new_generator(contexts):  # it has learnt to say "aye", and something of its own with it
        return [_sentence(rng, "aye") + " lamp lamp" for _ in contexts]

    refresher = Refresher(discriminator, pools, SETTINGS, seed=0)
    first = refresher(new_generator)
    accuracies = [refresher(new_generator)["discriminator/accuracy_fresh"] for _ in range(6)]
    assert "discriminator/loss" in first
    assert first["discriminator/accuracy_fresh"] < 0.6
    assert accuracies[-1] > first["discriminator/accuracy_fresh"] + 0.3


def test_above_the_ceiling_nothing_is_trained(trained):
    discriminator, pools, _ = trained
    before = [p.clone() for p in discriminator.model.parameters()]
    refresher = Refresher(discriminator, pools, DiscriminatorSettings(refresh_ceiling=0.0), seed=0)
    metrics = refresher(lambda contexts: ["soup soup soup" for _ in contexts])
    assert "discriminator/loss" not in metrics
    after = discriminator.model.parameters()
    assert all(torch.equal(b, a) for b, a in zip(before, after, strict=True))


def test_a_refresh_is_repeatable_and_leaves_the_global_random_state_alone(trained):

    discriminator, pools, _ = trained
    weights = []
    for noise in (1, 2):
        torch.manual_seed(noise)
        state = torch.get_rng_state()
        own = copy.deepcopy(discriminator)
        Refresher(own, pools, SETTINGS, seed=4)(lambda cs: ["hmm tea tea" for _ in cs])
        assert torch.equal(state, torch.get_rng_state())
        weights.append(own.model.classifier.weight.clone())
    assert torch.equal(*weights)
