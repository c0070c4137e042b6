import numpy as np
import pytest
import torch

from rlhf_dialog.evaluation.suite import (
    Measurement,
    TextMonitor,
    compare,
    measure_generator,
    measure_humans,
    side_by_side,
)
from rlhf_dialog.generators.prompts import encode_context, encode_reply


def length_scorer(contexts, replies):
    return torch.tensor([float(len(reply)) for reply in replies])


LENGTHS = {"context_length": 24, "response_length": 8}


def _measure(generator, reference, examples, **changed):
    return measure_generator(
        generator,
        reference,
        examples,
        {"judge": length_scorer},
        samples=3,
        seed=1,
        description="test",
        **(LENGTHS | changed),
    )


@pytest.mark.parametrize("family", ["gpt2", "blenderbot-small", "t5"])
def test_perplexity_is_that_of_an_unbatched_float64_loop(make_generator, examples, family):
    generator = make_generator(family, sharp=True)
    examples = examples[:9]
    measured = _measure(generator, None, examples)
    total, count = 0.0, 0
    model = generator.model.double()
    for example in examples:
        prompt = torch.tensor([encode_context(generator, example.context, 24)])
        reply = torch.tensor([encode_reply(generator, example.reply, 8)])
        with torch.no_grad():
            if generator.is_encoder_decoder:
                logits = model(input_ids=prompt, labels=reply).logits[0]
            else:
                logits = model(input_ids=torch.cat([prompt, reply], 1)).logits[0]
                logits = logits[prompt.shape[1] - 1 : -1]
        logprobs = torch.log_softmax(logits, -1).gather(1, reply[0].unsqueeze(1))
        total, count = total - logprobs.sum().item(), count + reply.shape[1]
    perplexity = np.exp(measured.nll.sum() / measured.tokens.sum())
    assert perplexity == pytest.approx(np.exp(total / count), rel=1e-5)


@pytest.mark.parametrize("family", ["gpt2", "blenderbot-small"])
def test_kl_to_itself_is_zero_and_to_another_positive(make_generator, examples, family):
    generator = make_generator(family)
    assert np.abs(_measure(generator, generator.frozen_copy(), examples).kl).max() < 1e-5
    other = make_generator(family, sharp=True)
    assert _measure(other, generator, examples).kl.mean() > 0.1


def test_the_same_seed_gives_the_same_replies(make_generator, examples):
    generator = make_generator("gpt2", sharp=True)
    torch.manual_seed(1)
    first = _measure(generator, None, examples)
    torch.manual_seed(2)
    assert _measure(generator, None, examples).replies == first.replies
    assert len({reply for row in first.replies for reply in row}) > 10


def _made_up(rng, shift=0.0, n=60, words=("a", "b", "c", "d", "e")):
    replies = [[" ".join(rng.choice(words, 6)) for _ in range(2)] for _ in range(n)]
    scores = {"judge": rng.normal(shift, 1, (n, 2))}
    return Measurement(replies, scores, rng.uniform(5, 9, n), np.full(n, 4), np.zeros((n, 2)))


def test_compare_by_hand():
    before = Measurement(
        [["a b"], ["a b"]],
        {"judge": np.array([[0.0], [1.0]])},
        np.log([4.0, 16.0]),
        np.array([1, 2]),
        np.zeros((2, 1)),
    )
    after = Measurement(
        [["a b c"], ["x y z"]],
        {"judge": np.array([[1.0], [2.0]])},
        np.log([4.0, 2.0]),
        np.array([1, 2]),
        np.array([[0.5], [1.5]]),
    )
    human = Measurement(
        [["a"], ["b"]], {"judge": np.array([[3.0], [3.0]])}, *(np.zeros(0) for _ in range(3))
    )
    metrics = compare(before, after, human, resamples=200, seed=0)
    judge = metrics["judge_score"]
    assert (judge["before"], judge["after"], judge["human"]) == (0.5, 1.5, 3.0)
    assert judge["difference"] == 1.0
    assert judge["ci95"] == [1.0, 1.0]  # both contexts rise by exactly one
    assert metrics["perplexity"]["before"] == pytest.approx(64 ** (1 / 3))
    assert metrics["perplexity"]["after"] == pytest.approx(2.0)
    assert metrics["distinct_1"]["before"] == 0.5 and metrics["distinct_1"]["after"] == 1.0
    assert metrics["distinct_2"]["before"] == 0.5 and metrics["distinct_2"]["after"] == 1.0
    assert metrics["reply_length"]["difference"] == 1.0
    assert metrics["kl"] == {
        "before": 0.0,
        "after": 1.0,
        "human": None,
        "difference": 1.0,
        "ci95": pytest.approx([0.5, 1.5]),
    }


def test_intervals_hold_a_known_difference_about_as_often_as_they_say():
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(200):
        before, after = _made_up(rng), _made_up(rng, shift=0.4)
        human = _made_up(rng)
        low, high = compare(before, after, human, resamples=400, seed=1)["judge_score"]["ci95"]
        held += low <= 0.4 <= high
    assert 0.89 <= held / 200 <= 0.99


def test_distinct_has_an_interval_around_zero_for_two_draws_of_one_speaker():
    rng = np.random.default_rng(3)
    inside = 0
    for _ in range(60):
        metrics = compare(_made_up(rng), _made_up(rng), _made_up(rng), resamples=10, seed=0)
        low, high = metrics["distinct_3"]["ci95"]
        inside += low <= 0 <= high
    assert inside >= 52


def test_humans_are_spelt_as_the_generator_spells(make_generator, examples):
    generator = make_generator("gpt2")
    human = measure_humans(examples, {"judge": length_scorer}, generator, 8)
    assert human.replies[0] == [generator.round_trip(examples[0].reply, 8)]
    assert human.scores["judge"].shape == (30, 1)


def test_samples_stand_side_by_side(make_generator, examples):
    generator = make_generator("gpt2")
    was = _measure(generator, None, examples[:4])
    human = measure_humans(examples[:4], {"judge": length_scorer}, generator, 8)
    row = side_by_side(was, was, human, examples[:4])[2]
    assert row["context"] == list(examples[2].context)
    assert row["before"] == row["after"] == was.replies[2][0]
    assert row["scores"]["judge"]["human"] == len(row["human"])


def test_the_monitor_names_what_metrics_jsonl_names():
    metrics = TextMonitor(length_scorer)([["hi"]] * 2, ["a b a b", "a b"])
    assert metrics == {
        "judge/score": 5.0,
        "text/distinct_2": pytest.approx(2 / 4),
        "text/reply_words": 3.0,
    }
