"""Speakers on the same contexts: what is measured of each, and how they are set side by side."""

import numpy as np
import pytest
import torch

from rlhf_dialog.evaluation.beyond import by_length, evenly, hits
from rlhf_dialog.evaluation.intervals import bootstrap_weights
from rlhf_dialog.evaluation.measurement import (
    Lengths,
    Measurement,
    measure_generator,
    measure_humans,
)
from rlhf_dialog.evaluation.suite import (
    RETAINED,
    Speaker,
    Suite,
    TextMonitor,
    side_by_side,
    summarize,
)
from rlhf_dialog.generators.prompts import encode_context, encode_reply
from rlhf_dialog.settings import EvaluationSettings

LENGTHS = Lengths(context_length=24, response_length=8)


def length_scorer(contexts, replies):
    return torch.tensor([float(len(reply)) for reply in replies])


def _measure(generator, reference, examples, **changed):
    return measure_generator(
        generator,
        reference,
        examples,
        {"judge": length_scorer},
        **({"samples": 3, "seed": 1, "description": "test", "lengths": LENGTHS} | changed),
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
    nlls = measured.human.token_nlls
    mean = sum(map(sum, nlls)) / sum(map(len, nlls))
    assert np.exp(mean) == pytest.approx(np.exp(total / count), rel=1e-5)


@pytest.mark.parametrize("family", ["gpt2", "blenderbot-small"])
def test_kl_to_itself_is_zero_and_to_another_positive(make_generator, examples, family):
    generator = make_generator(family)
    assert np.abs(_measure(generator, generator.frozen_copy(), examples).kl).max() < 1e-5
    assert np.all(_measure(generator, generator, examples[:3]).kl == 0)
    other = make_generator(family, sharp=True)
    assert _measure(other, generator, examples).kl.mean() > 0.1


def test_the_same_seed_gives_the_same_replies(make_generator, examples):
    generator = make_generator("gpt2", sharp=True)
    torch.manual_seed(1)
    first = _measure(generator, None, examples)
    torch.manual_seed(2)
    assert _measure(generator, None, examples).replies == first.replies
    assert len({reply for row in first.replies for reply in row}) > 10


def test_a_low_temperature_says_the_likeliest(make_generator, examples):
    generator = make_generator("gpt2", sharp=True)
    cold = _measure(generator, None, examples, temperature=0.01)
    assert all(len(set(row)) == 1 for row in cold.replies) and cold.kl is None
    assert any(len(set(row)) > 1 for row in _measure(generator, None, examples).replies)


def test_humans_are_spelt_as_the_generator_spells(make_generator, examples):
    generator = make_generator("gpt2")
    human = measure_humans(examples, {"judge": length_scorer}, generator, 8)
    assert human.replies[0] == [generator.round_trip(examples[0].reply, 8)]
    assert human.scores["judge"].shape == (30, 1)


def test_hits_need_distractors(make_generator, examples):
    settings = EvaluationSettings(hits_contexts=7, distractors=3)
    found = hits(make_generator("gpt2", sharp=True), examples, LENGTHS, settings, seed=0)
    assert found.shape == (7,) and set(found) <= {0.0, 1.0}
    alike = [examples[0]] * 5
    assert hits(make_generator("gpt2"), alike, LENGTHS, settings, seed=0) is None
    assert evenly(examples, 3) == [0, 10, 20] and evenly(examples, 99) == list(range(30))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Filled by the first test that needs it: the suite is slow to run twice."""
    return {}


@pytest.fixture
def suite(make_generator, examples, finished):
    """A suite of four rows, run once: its settings, what it measured, and the report's part."""
    if not finished:
        settings = EvaluationSettings(
            samples_per_context=2, bootstrap_resamples=200, temperatures=[0.5], distractors=2
        )
        suite = Suite(
            examples[:20],
            {"judge": length_scorer, "discriminator": length_scorer},
            settings,
            LENGTHS,
            seed=0,
            script=["the tide is late and the lamp is red ."],
            general=examples[20:],
            general_source="the others",
        )
        warm, tuned = make_generator("gpt2"), make_generator("gpt2", sharp=True)
        other = make_generator("blenderbot-small")
        other.tokenizer.add_tokens(["anewtoken"])
        speakers = [
            Speaker("warm start", "before", lambda: warm),
            Speaker("tuned", "after", lambda: tuned),
            Speaker("same", "control", lambda: warm),
            Speaker("stranger", "control", lambda: other),
        ]
        measured = suite.run(speakers)
        finished |= {"suite": suite, "measured": measured, "report": summarize(suite, measured)}
    return finished


def test_where_nobody_talks_to_anybody_else_nothing_is_said_of_retention(make_generator, examples):
    """A script of two people has no dialogue that is not the character's."""
    settings = EvaluationSettings(samples_per_context=1, bootstrap_resamples=50, temperatures=[])
    scorers = {"judge": length_scorer, "discriminator": length_scorer}
    suite = Suite(examples[:6], scorers, settings, LENGTHS, seed=0)
    generator = make_generator("gpt2")
    roles = ("before", "after")
    report = summarize(suite, suite.run([Speaker(r, r, lambda: generator) for r in roles]))
    assert report["metrics"]["judge_score"]["difference"] == 0
    assert "the others" not in str(report) and not report.get("retention")


def test_every_speaker_has_a_row(suite):
    rows = suite["report"]["generators"]
    assert [row["role"] for row in rows.values()] == [
        *("before", "after", "control", "control", "human")
    ]
    for name, row in rows.items():
        assert row["metrics"]["judge_score"]["ci95"][0] <= row["metrics"]["judge_score"]["value"]
        assert ("difference" in row["metrics"]["judge_score"]) == (name != "warm start")
    gap = suite["report"]["metrics"]["judge_score"]
    assert rows["tuned"]["metrics"]["judge_score"]["difference"] == gap["difference"]
    assert gap["after"] == rows["tuned"]["metrics"]["judge_score"]["value"]
    assert gap["human"] == rows["human"]["metrics"]["judge_score"]["value"]


def test_the_same_generator_has_the_same_numbers_whatever_its_name(suite):
    same = suite["report"]["generators"]["same"]["metrics"]
    for name, entry in same.items():
        assert entry["difference"] == 0, name
        assert entry["difference_ci95"] in (None, [0.0, 0.0]), name
    measured = suite["measured"]
    assert measured["same"].replies.replies == measured["warm start"].replies.replies


def test_no_kl_between_different_tokenizers(suite):
    rows = suite["report"]["generators"]
    assert "kl" not in rows["stranger"]["metrics"] and "kl" in rows["same"]["metrics"]
    assert "perplexity_per_character" in rows["stranger"]["metrics"]


def test_quality_against_diversity_has_a_point_a_temperature(suite):
    points = suite["report"]["temperatures"]
    assert [(p["generator"], p["temperature"]) for p in points][:2] == [
        ("warm start", 0.5),
        ("warm start", 1.0),
    ]
    assert points[-1]["generator"] == "human" and points[-1]["temperature"] is None
    assert len(points) == 4 * 2 + 1
    assert all({"judge_score", "distinct_2", "self_bleu"} <= set(p) for p in points)


def test_retention_is_measured_elsewhere(suite):
    kept = suite["report"]["retention"]
    assert (kept["source"], kept["contexts"]) == ("the others", 10)
    assert set(kept["metrics"]) == set(RETAINED)
    own = suite["report"]["metrics"]["perplexity"]
    assert kept["metrics"]["perplexity"]["before"] != own["before"]


def test_samples_stand_side_by_side(suite):
    rows = side_by_side(suite["suite"], suite["measured"])
    row, measured = rows[2], suite["measured"]
    assert row["context"] == list(suite["suite"].examples[2].context)
    assert row["before"] == row["controls"]["same"] == measured["warm start"].replies.replies[2][0]
    assert row["scores"]["judge"]["human"] == len(row["human"])
    assert row["scores"]["discriminator"]["stranger"] == len(row["controls"]["stranger"])


def test_length_bins_by_hand():
    """The tuned one only writes longer, and the judge pays for length: nothing is left of it."""

    def speaks(replies):
        words = np.array([[len(r.split()) for r in row] for row in replies])
        return Measurement(replies, {"judge": words.astype(float)})

    short, long = "a b", "a b c d"
    measured = {
        "before": speaks([[short, short], [short, long]]),
        "after": speaks([[long, long], [short, long]]),
        "human": speaks([[long], [short]]),
    }
    found = by_length(measured, bootstrap_weights(2, 100, seed=0))
    assert [(b["least"], b["most"]) for b in found["bins"]] == [(2, 2), (3, 4)]
    first = found["bins"][0]["speakers"]
    assert first["before"] == {"replies": 3, "judge_score": 2.0}
    assert first["after"] == {"replies": 1, "judge_score": 2.0}
    assert found["matched"]["difference"] == 0
    alike = {name: speaks([[short], [short]]) for name in measured}
    assert len(by_length(alike, bootstrap_weights(2, 10, seed=0))["bins"]) == 1
    few = found["bins"][1]  # one long reply before, three after
    assert few["difference"] == 0 and few["ci95"] is None
    assert by_length({"before": Measurement([["a"]], {})}, bootstrap_weights(1, 10, 0)) is None


def test_a_resample_without_replies_in_a_bin_scores_nothing_there():
    """One of 12 contexts has all the long replies before, another one all the short ones after."""

    def speaks(long, score):
        replies = [["a b c d" if context in long else "a"] * 12 for context in range(12)]
        return Measurement(replies, {"judge": np.full((12, 12), score)})

    measured = {"before": speaks({0}, -5.0), "after": speaks(range(11), -4.0)}
    weights = bootstrap_weights(12, 400, seed=0)
    assert (weights[:, 0] == 0).mean() > 0.2  # once a score of 0 each
    found = by_length(measured, weights)
    assert len(found["bins"]) == 2
    for gap in (*found["bins"], found["matched"]):
        assert gap["difference"] == pytest.approx(1) and gap["ci95"] == pytest.approx([1, 1])


def test_the_monitor_names_what_metrics_jsonl_names():
    metrics = TextMonitor(length_scorer)([["hi"]] * 2, ["a b a b", "a b"])
    assert metrics == {
        "judge/score": 5.0,
        "text/distinct_2": pytest.approx(2 / 4),
        "text/reply_words": 3.0,
    }
