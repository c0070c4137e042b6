import copy
import random
from dataclasses import replace

import pytest
import torch

from rlhf_dialog.discriminators.negatives import Pair
from rlhf_dialog.discriminators.training import (
    batches,
    fake_shares,
    held_out_report,
    pace,
    pretrain,
    split_pools,
)
from rlhf_dialog.discriminators.word_order import learn_word_order
from rlhf_dialog.settings import DiscriminatorSettings
from tests.discriminators.toy import SETTINGS, toy_pools


def test_pretraining_learns_the_mark_of_the_character(trained):
    _, _, report = trained
    assert report["auc/generated"] > 0.95 and report["auc/cast"] > 0.95
    assert report["accuracy/real"] > 0.8


def test_the_best_pass_is_the_one_that_is_kept(trained):
    discriminator, pools, report = trained
    _, held_out = split_pools(pools, random.Random(0), lengths=True)  # as pretrain split them
    again = held_out_report(discriminator, held_out, fake_shares(SETTINGS))
    assert again == pytest.approx({name: report[name] for name in again})
    assert report.keys() - again.keys() == {"learning_rate", "word_order_steps"}


def test_the_pace_is_as_set_or_what_suits_the_encoder(trained):
    given, fresh = (replace(trained[0], fresh=fresh) for fresh in (False, True))
    assert pace(fresh, DiscriminatorSettings()) == (1e-3, 500)
    assert pace(given, DiscriminatorSettings()) == (5e-5, 0)
    chosen = DiscriminatorSettings(discriminator_learning_rate=2e-4, word_order_steps=7)
    assert pace(fresh, chosen) == pace(given, chosen) == (2e-4, 7)


def test_the_order_of_words_is_learnt_from_turns_that_are_not_held_out(trained, monkeypatch):
    discriminator = replace(trained[0], model=copy.deepcopy(trained[0].model))
    pools = trained[1]
    _, held_out = split_pools(pools, random.Random(0), lengths=True)
    aside = {pair.group for pair in held_out["real"]}
    seen = []

    def watched(discriminator, texts, **how):
        seen.append((set(texts), how["steps"], how["learning_rate"]))
        return learn_word_order(discriminator, texts, **how)

    monkeypatch.setattr("rlhf_dialog.discriminators.training.learn_word_order", watched)
    settings = replace(SETTINGS, word_order_steps=3, discriminator_epochs=1)
    pretrain(discriminator, pools, settings, seed=0, description="test")
    ((texts, steps, rate),) = seen
    assert (steps, rate) == (3, 2 * SETTINGS.discriminator_learning_rate)
    unseen = {p.reply for p in pools["real"] if p.group in aside}
    known = {t for p in pools["real"] if p.group not in aside for t in (p.reply, p.answered)}
    assert texts and not texts & (unseen - known)


def test_degenerate_replies_are_compared_with_the_real_one_of_their_context():
    def pair(context, reply, kind):
        return Pair((context,), reply, kind, "d")

    pools = {
        "real": [pair("a", "xxx", "real"), pair("b", "x", "real")],
        "degenerate": [
            pair("a", "xx", "degenerate"),  # 2 < 3
            pair("b", "xx", "degenerate"),  # 2 > 1
            pair("b", "x", "degenerate"),  # a tie is not below
            pair("a", "", "degenerate"),  # 0 < 3
        ],
    }

    def length(contexts, replies):
        return torch.tensor([float(len(reply)) for reply in replies])

    report = held_out_report(length, pools, {"degenerate": 1.0})
    assert report["below_real/degenerate"] == 0.5


def test_no_dialogue_stands_on_both_sides_and_no_reply_crosses_over():
    train, held_out = split_pools(toy_pools(random.Random(2)), random.Random(3), lengths=False)
    assert {k for k, pool in held_out.items() if pool} == {
        "real",
        "generated",
        "cast",
        "wrong_context",
        "degenerate",
    }
    seen = {pair.group for pool in train.values() for pair in pool}
    assert not seen & {pair.group for pool in held_out.values() for pair in pool}
    own = {pair.reply for pair in held_out["real"]}
    assert {pair.reply for pair in held_out["wrong_context"]} <= own
    assert 0.1 <= len(held_out["real"]) / 80 <= 0.3


@pytest.mark.parametrize("dialogues", [2, 3])
def test_both_sides_hold_reals_however_few_dialogues_there_are(dialogues):
    pools = {
        kind: [replace(pair, group=f"d{i % dialogues}") for i, pair in enumerate(pool)]
        for kind, pool in toy_pools(random.Random(2)).items()
    }
    train, held_out = split_pools(pools, random.Random(0), lengths=True)
    assert train["real"] and held_out["real"]


def test_a_long_dialogue_is_not_held_out_where_a_short_one_does():
    pools = {
        kind: [replace(pair, group="long" if i < 70 else "short") for i, pair in enumerate(p)]
        for kind, p in toy_pools(random.Random(2)).items()
    }
    for seed in range(20):
        train, held_out = split_pools(pools, random.Random(seed), lengths=False)
        assert len(train["real"]) == 70 and len(held_out["real"]) == 10


def test_batches_are_balanced_however_few_the_reals():
    pools = {kind: pool[:5] for kind, pool in toy_pools(random.Random(2)).items()}
    (batch,) = batches(pools, {"generated": 0.5, "cast": 0.5}, 32, 1, random.Random(0))
    assert sum(pair.is_real for pair in batch) == 16 and len(batch) == 32


def test_one_dialogue_cannot_be_split():
    pools = {"real": [replace(p, group="d") for p in toy_pools(random.Random(2))["real"]]}
    with pytest.raises(ValueError, match="two groups"):
        split_pools(pools, random.Random(0), lengths=True)
