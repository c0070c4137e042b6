"""Perplexity of replies against Hugging Face's own loss, one reply at a time, in float64."""

import copy
import math

import pytest
import torch

from rlhf_dialog.errors import UserError
from rlhf_dialog.evaluation.metrics.conditional_perplexity.conditional_perplexity import (
    ConditionalPerplexity,
    conditional_perplexity,
    mean_log_likelihoods,
    perplexity,
    reply_likelihoods,
)
from rlhf_dialog.generators.prompts import encode_context

FAMILIES = ("gpt2", "blenderbot-small", "bart", "t5")
CONTEXTS = [
    ["where is the captain tonight ?"],
    ["the captain is on the ship .", "who took the red lamp from the harbour ?"],
    ["오늘 뭐 해 ?"],
    ["the tide is late", "and the lamp " * 30],  # too long, also without its first turn
    ["ok"],
    ["we sail at night", "not me", "the lamp is red ."],
]
REPLIES = ["the captain is on the ship .", "", "몰라요 👩‍👩‍👧", "ok .", "the tide " * 40, "no"]
CONTEXT_LENGTH, RESPONSE_LENGTH = 24, 30  # tokens; the tiny models have 64 positions
LENGTHS = {"context_length": CONTEXT_LENGTH, "response_length": RESPONSE_LENGTH}


@torch.no_grad()
def nats_one_by_one(generator):
    """Total NLL and number of tokens of each reply, from `loss` of a float64 copy."""
    model = copy.deepcopy(generator.model).double().eval()
    found = []
    for context, reply in zip(CONTEXTS, REPLIES, strict=True):
        prompt = encode_context(generator, context, CONTEXT_LENGTH)
        response = [*generator.encode(reply), generator.tokenizer.eos_token_id][:RESPONSE_LENGTH]
        if generator.is_encoder_decoder:
            inputs = {"input_ids": prompt, "labels": response}
        else:
            inputs = {
                "input_ids": prompt + response,
                "labels": [-100] * len(prompt) + response,
            }
        loss = model(**{name: torch.tensor([row]) for name, row in inputs.items()}).loss
        found.append((loss.item() * len(response), len(response)))
    return found


@pytest.mark.parametrize("family", FAMILIES)
def test_equals_a_loop_of_single_forwards(make_generator, family):
    generator = make_generator(family, sharp=True)
    nats, tokens = zip(*nats_one_by_one(generator), strict=True)
    for batch_size, side in [(1, "right"), (3, "left"), (3, "right"), (64, "left")]:
        generator.tokenizer.padding_side = side
        found = reply_likelihoods(generator, CONTEXTS, REPLIES, batch_size=batch_size, **LENGTHS)
        assert [len(nlls) for nlls in found.token_nlls] == list(tokens)
        assert [sum(nlls) for nlls in found.token_nlls] == pytest.approx(nats, rel=1e-5)
        result = conditional_perplexity(
            generator, CONTEXTS, REPLIES, batch_size=batch_size, **LENGTHS
        )
        expected = math.exp(sum(nats) / sum(tokens))
        assert result["per_token"] == pytest.approx(expected, rel=1e-5)
        assert result["cut_contexts"] == sum(found.context_was_cut)
    flat = [nat for nlls in found.token_nlls for nat in nlls]
    assert max(flat) - min(flat) > 0.5  # no uniform distribution, which would forgive much
    assert found.reply_was_cut == [False] * 4 + [True, False]
    assert found.context_was_cut[3] and not found.context_was_cut[4]
    means = mean_log_likelihoods(generator, CONTEXTS[:1], REPLIES[:1])
    assert means.tolist() == pytest.approx([-nats[0] / tokens[0]], rel=1e-5)


def test_empty_and_over_long_replies_as_documented(make_generator):
    generator = make_generator("gpt2")
    found = reply_likelihoods(generator, CONTEXTS, REPLIES, **LENGTHS)
    assert len(found.token_nlls[1]) == 1  # EOS
    kept = generator.decode(generator.encode(REPLIES[4])[:RESPONSE_LENGTH])
    assert found.words == [7, 0, 2, 2, len(kept.split()), 1]
    assert found.characters == [28, 0, 5, 4, len(kept), 2]
    only_empty = conditional_perplexity(generator, CONTEXTS[:1], [""])
    assert only_empty["per_token"] is not None
    assert only_empty["per_word"] is only_empty["per_character"] is None
    nothing = conditional_perplexity(generator, [], [])
    assert nothing["per_token"] is nothing["mean_of_replies"] is nothing["bits_per_token"] is None
    assert nothing["tokens"] == 0 and nothing["nll"] == 0.0


def test_dropout_is_off_and_the_mode_is_left_as_it_was(make_generator):
    generator = make_generator("bart", sharp=True)
    expected = reply_likelihoods(generator, CONTEXTS, REPLIES, **LENGTHS)
    generator.model.train()
    assert reply_likelihoods(generator, CONTEXTS, REPLIES, **LENGTHS) == expected
    assert generator.model.training
    assert all(p.grad_fn is None for p in generator.model.parameters())


def test_definitions_that_share_the_name():
    """ParlAI's, words, DialoGPT's and `evaluate`'s, and bits, of the same four tokens."""
    found = perplexity([[1.0, 2.0, 3.0], [0.5]], words=3, characters=10)
    assert found.per_token == pytest.approx(5.0784190371800815, abs=1e-9)
    assert found.per_word == pytest.approx(8.72913836372013, abs=1e-9)
    assert found.per_character == pytest.approx(math.exp(0.65), abs=1e-9)
    assert found.exp_of_reply_means == pytest.approx(3.4903429574618414, abs=1e-9)
    assert found.mean_of_replies == pytest.approx(4.518888684815389, abs=1e-9)
    assert found.bits_per_token == pytest.approx(2.344379441444566, abs=1e-9)
    assert perplexity([[800.0]], words=1, characters=1).per_word == math.inf


def test_the_module_takes_a_folder(make_generator, tmp_path):
    generator = make_generator("t5")
    generator.save(tmp_path / "saved")
    metric = ConditionalPerplexity(cache_dir=str(tmp_path))
    asked = {"predictions": REPLIES, "contexts": CONTEXTS, **LENGTHS}
    result = metric.compute(**asked, generator=str(tmp_path / "saved"))
    expected = conditional_perplexity(generator, CONTEXTS, REPLIES, **LENGTHS)
    assert result == pytest.approx(expected)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"contexts": [["a"]]}, "replies 2, contexts 1"),
        ({"contexts": [["a"], []]}, r"contexts\[1\] is empty"),
        ({"contexts": ["a", "b"]}, r"contexts\[0\] is a string"),
        ({"batch_size": 0}, "batch_size: 0"),
        ({"context_length": 40, "response_length": 30}, "40 and response_length 30 .* 64"),
        ({"response_length": 0}, "response_length 0"),
    ],
    ids=str,
)
def test_mistakes_are_told_before_any_work(make_generator, change, told):
    asked = {"contexts": [["a"], ["b"]], "replies": ["c", "d"]} | change
    with pytest.raises(UserError, match=told):
        conditional_perplexity(make_generator("gpt2"), **asked)
