import copy
import random
from dataclasses import replace

import pytest
import torch

from rlhf_dialog.discriminators.refresh import MOST_ROUNDS, Refresher, refresh_shares
from rlhf_dialog.settings import DiscriminatorSettings
from tests.discriminators.toy import SETTINGS, sentence


def test_a_refresh_learns_what_the_generator_has_turned_to(trained):
    discriminator, pools, _ = trained
    rng = random.Random(5)

    def new_generator(contexts):  # it has learnt to say "aye", and something of its own with it
        return [sentence(rng, "aye") + " lamp lamp" for _ in contexts]

    refresher = Refresher(copy.deepcopy(discriminator), pools, SETTINGS, seed=0)
    first = refresher(new_generator)
    accuracies = [refresher(new_generator)["discriminator/accuracy_fresh"] for _ in range(6)]
    assert "discriminator/loss" in first
    assert first["discriminator/accuracy_fresh"] < 0.6
    assert accuracies[-1] > first["discriminator/accuracy_fresh"] + 0.3


def test_above_the_ceiling_nothing_is_trained(trained):
    discriminator, pools, _ = trained
    before = [p.clone() for p in discriminator.model.parameters()]
    refresher = Refresher(
        discriminator, pools, DiscriminatorSettings(refresh_floor=0.0, refresh_ceiling=0.0), seed=0
    )
    metrics = refresher(lambda contexts: ["soup soup soup" for _ in contexts])
    assert "discriminator/loss" not in metrics and metrics["discriminator/steps"] == 0
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


@pytest.mark.parametrize(("floor", "rounds"), [(0.0, 1), (0.95, MOST_ROUNDS)])
def test_below_the_floor_the_steps_are_repeated(trained, floor, rounds):
    discriminator, pools, _ = trained
    settings = replace(
        SETTINGS, refresh_floor=floor, refresh_ceiling=1.0, refresh_learning_rate=1e-9
    )
    refresher = Refresher(copy.deepcopy(discriminator), pools, settings, seed=0)
    rng = random.Random(5)
    metrics = refresher(lambda contexts: [sentence(rng, "aye") for _ in contexts])
    assert metrics["discriminator/accuracy"] < 0.95
    assert metrics["discriminator/steps"] == rounds * settings.refresh_steps


def test_the_floor_is_reached_with_steps_that_teach(trained):
    """Fresh fakes that are longer than reals and older fakes are learnt all the same."""
    discriminator, pools, _ = trained
    settings = replace(SETTINGS, refresh_floor=0.9)
    refresher = Refresher(copy.deepcopy(discriminator), pools, settings, seed=0)
    rng = random.Random(5)
    metrics = refresher(lambda contexts: [sentence(rng, "aye") + " lamp lamp" for _ in contexts])
    assert metrics["discriminator/accuracy"] < 0.75
    assert metrics["discriminator/accuracy_after"] > 0.9


def test_a_generator_that_repeats_the_real_replies_leaves_chance(trained):
    discriminator, pools, _ = trained
    real = {pair.context: pair.reply for pair in pools["real"]}
    refresher = Refresher(copy.deepcopy(discriminator), pools, SETTINGS, seed=0)
    metrics = refresher(lambda contexts: [real[context] for context in contexts])
    assert metrics["discriminator/accuracy_fresh"] == 0.5


def test_the_fakes_of_a_refresh_are_mostly_the_generators():
    shares = refresh_shares(DiscriminatorSettings(refresh_generated_share=0.7))
    assert shares["generated"] == 0.7
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["cast"] / shares["degenerate"] == pytest.approx(1)
    nothing_else = refresh_shares(
        DiscriminatorSettings(generated_share=0.0, refresh_generated_share=0.0)
    )
    assert nothing_else["generated"] == 0 and sum(nothing_else.values()) == pytest.approx(1)
