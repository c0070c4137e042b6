"""What a fresh encoder learns of the language: order from disorder, and words from their places."""

import random

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from rlhf_dialog.discriminators import word_order
from rlhf_dialog.discriminators.model import fresh_discriminator
from rlhf_dialog.discriminators.negatives import Pair
from rlhf_dialog.discriminators.word_order import learn_word_order
from rlhf_dialog.errors import UserError

SLOTS = (("the", "a"), ("old", "wet", "tall"), ("ship", "kettle", "lamp"), ("sinks", "sings"))


def sentences(count: int, seed: int) -> list[str]:
    """A language of four places, whose words say nothing but where they stand."""
    rng = random.Random(seed)
    return [" ".join(rng.choice(words) for words in SLOTS) + "." for _ in range(count)]


def reader():
    return fresh_discriminator(sentences(64, 1), hidden_size=32, layers=2, max_tokens=24, seed=0)


def learn(discriminator, texts, steps):
    torch.manual_seed(0)
    learn_word_order(
        discriminator,
        texts,
        steps=steps,
        batch_size=16,
        learning_rate=5e-3,
        rng=random.Random(0),
        advance=lambda: None,
    )


def test_the_same_words_in_disorder_score_below():
    discriminator, texts = reader(), sentences(40, 2)
    rng = random.Random(3)
    mixed = [" ".join(rng.sample(t[:-1].split(), 4)) + "." for t in texts]
    mixed = [m for m, t in zip(mixed, texts, strict=True) if m != t]

    def auc():
        scores = discriminator([[""]] * (len(texts) + len(mixed)), [*texts, *mixed]).numpy()
        return roc_auc_score(np.arange(len(scores)) < len(texts), scores)

    before = auc()
    learn(discriminator, sentences(200, 4), 200)
    assert auc() > 0.95 > before
    assert not discriminator.model.training


def test_words_are_masked_on_both_sides_and_guessed_where_they_are_in_order(monkeypatch):
    """The loss against one worked out from the model's outputs, in float64."""
    discriminator, texts = reader(), sentences(6, 5)
    discriminator.model.eval()  # no dropout
    mixed = " ".join(reversed(texts[1][:-1].split())) + "."
    order = Pair(("",), texts[0], "real", ""), Pair(("",), mixed, "degenerate", "")
    guess = torch.nn.Linear(32, 32)
    encoded = discriminator.encode([p.context for p in order], [p.reply for p in order])
    ids, special = encoded["input_ids"], torch.tensor(discriminator.tokenizer.all_special_ids)
    chosen = torch.ones(ids.shape)
    chosen[:, :5] = 0.0  # below the share, so masked, where it is a word
    monkeypatch.setattr(torch, "rand", lambda shape: chosen)
    seen, read = [], []
    forward = discriminator.model.forward

    def watched(**inputs):
        read.append(inputs["input_ids"])
        seen.append(forward(**inputs))
        return seen[-1]

    monkeypatch.setattr(discriminator.model, "forward", watched)
    loss = word_order._loss(discriminator, guess, order).item()
    masked = (chosen == 0) & ~torch.isin(ids, special)
    assert masked[0].sum() >= 2 and masked[1].any() and not masked[:, 0].any()
    mask = discriminator.tokenizer.mask_token_id
    assert torch.equal(read[0], torch.where(masked, mask, ids))
    output = seen[0]
    z = output.logits.squeeze(-1).double()
    ordered = (torch.log1p(torch.exp(-z[0])) + torch.log1p(torch.exp(z[1]))) / 2
    table = discriminator.model.get_input_embeddings().weight.double()
    states = output.hidden_states[-1][0][masked[0]].double()
    scores = (states @ guess.weight.double().T + guess.bias.double()) @ table.T
    right = scores.softmax(-1)[torch.arange(len(scores)), ids[0][masked[0]]]
    assert loss == pytest.approx((ordered - right.log().mean()).item(), abs=1e-6)


def test_an_encoder_that_cannot_mask_is_refused_with_the_option():
    discriminator = reader()
    discriminator.tokenizer.mask_token = None
    with pytest.raises(UserError, match="has a mask token; give 0"):
        learn(discriminator, sentences(8, 6), 1)
