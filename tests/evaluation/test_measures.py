"""The suite's numbers are those of the modules, and an interval's parts are what they claim."""

import numpy as np
import pytest
import torch

from rlhf_dialog.dialogues.schema import Example
from rlhf_dialog.evaluation.definitions import GROUPS, HEADLINE, METRICS
from rlhf_dialog.evaluation.measurement import Measurement
from rlhf_dialog.evaluation.measures import Asked, statistics
from rlhf_dialog.evaluation.metrics import FOLDER
from rlhf_dialog.evaluation.metrics.bleu.bleu import bleu
from rlhf_dialog.evaluation.metrics.chrf.chrf import chrf
from rlhf_dialog.evaluation.metrics.conditional_perplexity.conditional_perplexity import (
    ReplyLikelihoods,
    perplexity,
)
from rlhf_dialog.evaluation.metrics.context_overlap.context_overlap import context_overlap
from rlhf_dialog.evaluation.metrics.copying.copying import copying
from rlhf_dialog.evaluation.metrics.discriminator_score.discriminator_score import (
    discriminator_score,
)
from rlhf_dialog.evaluation.metrics.distinct_n.distinct_n import distinct_n
from rlhf_dialog.evaluation.metrics.entropy_n.entropy_n import entropy_n
from rlhf_dialog.evaluation.metrics.length.length import length
from rlhf_dialog.evaluation.metrics.repetition.repetition import repetition
from rlhf_dialog.evaluation.metrics.self_bleu.self_bleu import self_bleu
from rlhf_dialog.evaluation.metrics.unigram_f1.unigram_f1 import unigram_f1

WORDS = ["aye", "the", "tide", "is", "late", "and", "red", ",", "I", "do", "not", "know", "it"]
SCRIPT = ["The tide is late and red.", "I do not know it, captain.", "aye"]


@pytest.fixture
def told():
    """A measurement of 12 contexts with 2 samples, some empty or alike, and what was asked."""
    rng = np.random.default_rng(5)

    def reply():
        return " ".join(rng.choice(WORDS, rng.integers(1, 9)))

    replies = [[reply(), reply()] for _ in range(12)]
    replies[1], replies[4], replies[7] = (
        ["", "aye"],
        ["aye", "The tide is late and red."],
        ["aye", ""],
    )
    examples = [Example((reply(), reply()), reply(), "mate", f"d{n}") for n in range(12)]
    nlls = [rng.uniform(0.5, 4, rng.integers(1, 6)).tolist() for _ in range(12)]
    human = ReplyLikelihoods(nlls, [3] * 12, [15] * 12, [False] * 12, [False] * 12)
    scores = {"judge": rng.normal(0, 1, (12, 2)), "discriminator": rng.normal(1, 1, (12, 2))}
    hits = np.array([1.0, 0.0, 1.0, 1.0])
    return Measurement(replies, scores, human, rng.normal(1, 1, (12, 2)), hits), Asked(
        examples, SCRIPT
    )


def values(m, asked):
    return {name: number.value for name, number in statistics(m, asked).items()}


def test_every_number_is_its_modules(told):
    m, asked = told
    flat = [reply for row in m.replies for reply in row]
    columns = [list(column) for column in zip(*m.replies, strict=True)]
    contexts = [e.context for e in asked.examples for _ in range(2)]
    people = [[e.reply] for e in asked.examples for _ in range(2)]
    told_by = {f"distinct_{n}": np.mean([distinct_n(c, n) for c in columns]) for n in (1, 2, 3)}
    told_by["entropy_4"] = np.mean([entropy_n(c, 4) for c in columns])
    told_by["self_bleu"] = self_bleu(columns[0], sample=200).self_bleu
    told_by["repetition_within"] = repetition(flat).within
    told_by["duplicate_replies"] = np.mean([repetition(c).duplicates for c in columns])
    told_by["most_frequent_reply"] = np.mean([repetition(c).most_frequent for c in columns])
    copied = copying(flat, SCRIPT)
    told_by["copied_longest"], told_by["copied_seen_4"] = copied.longest_mean, copied.seen
    told_by["copied_turns"] = copied.whole_turns
    told_by["context_overlap"], told_by["parroted"] = context_overlap(flat, contexts)
    told_by["reply_length"] = length(flat).mean
    told_by["empty_replies"] = length(flat).empty
    told_by["f1"] = unigram_f1(flat, people).f1
    told_by["bleu"], told_by["chrf"] = bleu(flat, people).bleu, chrf(flat, people).chrf
    likelihood = perplexity(m.human.token_nlls, 36, 180)
    told_by["perplexity"] = likelihood.per_token
    told_by["perplexity_per_word"] = likelihood.per_word
    told_by["perplexity_per_character"] = likelihood.per_character
    for name in ("judge", "discriminator"):
        logits = torch.tensor(m.scores[name].ravel())
        score = discriminator_score(lambda *_, logits=logits: logits, contexts, flat)
        told_by[f"{name}_score"] = score.logit
        if name == "judge":
            told_by["judge_accepted"] = score.accepted
    told_by["kl"], told_by["hits_at_1"] = m.kl.mean(), 0.75
    found = values(m, asked)
    assert set(found) == set(told_by) == set(METRICS)
    for name, value in told_by.items():
        assert found[name] == pytest.approx(value, abs=1e-12), name


def test_what_is_left_out_is_the_number_without_that_context(told):
    m, asked = told
    whole = statistics(m, asked)
    for place in (0, 1, 4, 11):
        kept = [i for i in range(12) if i != place]
        less = Measurement([m.replies[i] for i in kept], {})
        without = values(less, Asked([asked.examples[i] for i in kept], SCRIPT))
        for name in ("distinct_1", "distinct_2", "distinct_3", "entropy_4", "duplicate_replies"):
            assert whole[name].left_out[place] == pytest.approx(without[name], abs=1e-12), name


def test_people_have_no_number_against_themselves(told):
    m, asked = told
    found = values(Measurement(m.replies, m.scores), asked)
    assert not {"f1", "bleu", "chrf", "perplexity", "hits_at_1", "kl"} & set(found)


def test_no_words_at_all_is_no_crash(told):
    _, asked = told
    silent = Measurement([["", ""]] * 12, {"judge": np.zeros((12, 2))})
    found = values(silent, Asked(asked.examples, SCRIPT))
    assert found["empty_replies"] == 1 and found["entropy_4"] == 0 and found["distinct_2"] == 0
    assert all(np.isfinite(v) for v in found.values())


def test_a_perplexity_that_no_float_holds_is_left_out(told):
    m, asked = told
    m.human = ReplyLikelihoods([[900.0]] * 12, [1] * 12, [30] * 12, [False] * 12, [False] * 12)
    found = values(m, asked)
    assert "perplexity_per_word" not in found
    assert found["perplexity_per_character"] == pytest.approx(np.exp(30))


def test_every_metric_is_defined_once_and_has_its_card():
    assert set(HEADLINE) <= set(METRICS)
    for name, info in METRICS.items():
        assert info.group in GROUPS, name
        if info.module is not None:
            assert (FOLDER / info.module / "README.md").is_file(), name
    assert {info.module for info in METRICS.values() if info.module} == {
        folder.name for folder in FOLDER.iterdir() if (folder / "README.md").is_file()
    }
