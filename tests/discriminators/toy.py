"""A toy world for discriminators: a mark in each reply tells who speaks."""

from rlhf_dialog.discriminators.negatives import Pair, fakes
from rlhf_dialog.settings import DiscriminatorSettings

WORDS = ["tea", "ship", "lamp", "tide", "rain", "soup", "bread", "door"]
SETTINGS = DiscriminatorSettings(
    discriminator_epochs=6,
    discriminator_batch_size=32,
    word_order_steps=0,  # the toy world's words have no order
    refresh_batch_size=32,
    discriminator_learning_rate=2e-3,
    refresh_steps=12,
    refresh_samples=40,
    refresh_learning_rate=2e-3,
    refresh_ceiling=0.95,
)


def sentence(rng, mark):
    words = rng.sample(WORDS, 4)
    words.insert(rng.randrange(5), mark)
    return " ".join(words)


def toy_pools(rng, count=80):
    """Reals say "aye", the cast says "yeah", the generator says "hmm"."""
    reals = [
        Pair((f"{rng.choice(WORDS)} {n} ?",), sentence(rng, "aye"), "real", f"scene {n // 4}")
        for n in range(count)
    ]
    return {
        "real": reals,
        "generated": fakes("generated", reals, [sentence(rng, "hmm") for _ in reals]),
        "cast": fakes("cast", reals, [sentence(rng, "yeah") for _ in reals]),
    }
