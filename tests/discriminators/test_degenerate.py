"""Broken replies score below the real ones: on the script that the repository ships."""

import random
from pathlib import Path

from rlhf_dialog.dialogues.examples import make_examples
from rlhf_dialog.dialogues.readers import read_dialogues
from rlhf_dialog.dialogues.splits import split_dialogues
from rlhf_dialog.discriminators.model import fresh_discriminator
from rlhf_dialog.discriminators.negatives import Pair, answers_somebody_else, degenerate_fakes
from rlhf_dialog.discriminators.training import batches, pretrain, score
from rlhf_dialog.settings import DialogueSettings, DiscriminatorSettings
from tests.discriminators.toy import toy_pools

SCRIPT = Path(__file__).parents[2] / "data" / "tidy_tide.jsonl"


def test_degenerate_replies_score_below_the_real_ones():
    """Of scenes that were not trained on. A bag of words reaches .85 (shuffled: one half)."""
    settings = DialogueSettings()
    splits = split_dialogues(read_dialogues(str(SCRIPT)), settings.shares, 0)

    def pairs(split, kind, wanted):
        return [
            Pair(example.context, example.reply, kind, example.dialogue_id)
            for example in make_examples(splits[split], max_turns=1)
            if wanted(example)
        ]

    def own(example):
        return example.speaker == settings.character

    def others(example):
        return answers_somebody_else(example, settings.character)

    pools = {"real": pairs("judge", "real", own), "cast": pairs("judge", "cast", others)}
    discriminator = fresh_discriminator(
        [turn.text for dialogue in splits["judge"] for turn in dialogue.turns],
        hidden_size=128,
        layers=2,
        max_tokens=64,
        seed=0,
    )
    pretrain(
        discriminator,
        pools,
        DiscriminatorSettings(discriminator_epochs=2),
        seed=0,
        description="test",
    )
    rng = random.Random(0)
    test = pairs("test", "real", own)
    fakes = [(real, fake) for real in test for fake in degenerate_fakes([real], rng)]
    reals = score(discriminator, [real for real, _ in fakes])
    assert len(fakes) > 300
    assert (score(discriminator, [fake for _, fake in fakes]) < reals).mean() >= 0.94


def test_degenerate_fakes_of_a_batch_are_made_of_its_own_reals():
    pools = toy_pools(random.Random(2))
    shares = {"cast": 0.5, "degenerate": 0.5}
    made = 0
    for batch in batches(pools, shares, 32, 5, random.Random(3)):
        reals = {pair.context for pair in batch if pair.is_real}
        broken = [pair for pair in batch if pair.kind == "degenerate"]
        assert len(reals) == 16 and {pair.context for pair in broken} <= reals
        made += len(broken)
    assert 20 <= made <= 60
