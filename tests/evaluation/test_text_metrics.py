"""Metrics on text against reference implementations, slow definitions and their own laws."""

import math
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu
from scipy.stats import entropy as scipy_entropy

from rlhf_dialog.errors import UserError
from rlhf_dialog.evaluation.metrics.bleu.bleu import bleu
from rlhf_dialog.evaluation.metrics.chrf.chrf import chrf
from rlhf_dialog.evaluation.metrics.context_overlap.context_overlap import context_overlap
from rlhf_dialog.evaluation.metrics.copying.copying import copying, longest_copied
from rlhf_dialog.evaluation.metrics.discriminator_score.discriminator_score import (
    discriminator_score,
)
from rlhf_dialog.evaluation.metrics.distinct_n.distinct_n import distinct_n
from rlhf_dialog.evaluation.metrics.entropy_n.entropy_n import entropy_n
from rlhf_dialog.evaluation.metrics.hits_at_k.hits_at_k import (
    hits_at_k,
    rank_candidates,
    with_distractors,
)
from rlhf_dialog.evaluation.metrics.length.length import length
from rlhf_dialog.evaluation.metrics.repetition.repetition import repetition
from rlhf_dialog.evaluation.metrics.self_bleu.self_bleu import self_bleu
from rlhf_dialog.evaluation.metrics.text import parlai_normalized
from rlhf_dialog.evaluation.metrics.unigram_f1.unigram_f1 import f1_scores, unigram_f1

PLAIN = ["hello there", "hello you there", "i do not know", "i do not know"]
PUNCTUATED = ["I don't know.", "i don't know!", "The cat sat on the mat", "a cat sat on a mat"]
SHORT = ["yes", "", "no no no no", "yes i do like it"]
COLLAPSED = ["i do not know ."] * 5
LONG = [
    "the quick brown fox jumps over the lazy dog",
    "the quick brown fox sleeps under the lazy dog",
    "my dog jumps over the fox",
]
# DSTC7's calc_entropy for n = 1 to 4, its avg_len, and Texygen's self-BLEU for n = 2 to 4
REFERENCE = [
    (
        PLAIN,
        [1.925121190790818, 1.7351264569629223, 1.0549201679861442, 0.0],
        3.25,
        [0.5935940053441751, 0.5700133069009636, 0.5607445284632834],
    ),
    (
        PUNCTUATED,
        [2.4282736375228673, 2.4410152780267023, 2.1639556568820564, 1.7917594692280547],
        4.5,
        [0.3227486121839514, 0.2620216215939477, 0.1653702287288134],
    ),
    (
        SHORT,
        [1.6094379124341005, 1.4750763110546945, 1.3321790402101223, 1.0986122886681096],
        2.5,
        [0.0967346110338732, 0.06761889745452472, 0.05788910939876735],
    ),
    (
        COLLAPSED,
        [1.6094379124341005, 1.3862943611198906, 1.0986122886681096, 0.6931471805599456],
        5.0,
        [1.0, 1.0, 1.0],
    ),
    (
        LONG,
        [2.279289867857171, 2.5824243173501253, 2.582306344313966, 2.615630577027551],
        8.0,
        [0.6609372250429106, 0.5504809148422438, 0.36939972761566797],
    ),
]
TOKENS = st.lists(st.sampled_from("abc"), max_size=6)
TEXTS = st.lists(TOKENS.map(" ".join), max_size=7)


@pytest.mark.parametrize(("replies", "entropies", "words", "bleus"), REFERENCE)
def test_split_on_white_space(replies, entropies, words, bleus):
    found = [entropy_n(replies, n, "whitespace") for n in (1, 2, 3, 4)]
    assert found == pytest.approx(entropies, abs=1e-9)
    assert length(replies).mean == words
    found = [self_bleu(replies, n, "whitespace").self_bleu for n in (2, 3, 4)]
    assert found == pytest.approx(bleus, abs=1e-12)


@pytest.mark.parametrize(  # ParlAI's F1 and exact match
    ("reply", "references", "f1", "exact"),
    [
        ("the cat sat", ["a cat sat down"], 0.8, 0.0),
        ("I like dogs!", ["i like cats", "dogs i like"], 1.0, 0.0),
        ("no overlap here", ["something else"], 0.0, 0.0),
        ("", ["hi"], 0.0, 0.0),
        ("A dog.", ["the dog"], 1.0, 1.0),
    ],
)
def test_f1_as_parlai(reply, references, f1, exact):
    assert unigram_f1([reply], [references]) == (pytest.approx(f1, abs=1e-12), exact)
    assert f1_scores([reply], [references]) == [pytest.approx(f1, abs=1e-12)]


@pytest.mark.parametrize(  # ParlAI's hits@1, 5, 10 and 100
    ("ranked", "label", "hits"),
    [
        (["b", "a", "c"], "a", [0, 1, 1, 1]),
        (["A!", "b"], "a", [1, 1, 1, 1]),
        (["the dog", "x"], "dog", [1, 1, 1, 1]),
        (["x", "y", "z", "w", "v", "a"], "a", [0, 0, 1, 1]),
    ],
)
def test_hits_as_parlai(ranked, label, hits):
    assert [hits_at_k([ranked], [[label]], k) for k in (1, 5, 10, 100)] == hits


def test_bleu_and_chrf_are_sacrebleus():
    replies = ["the cat sat on the mat", "hello there friend of mine"]
    references = [["the cat sat on a mat"], ["hello there friend"]]
    assert bleu(replies, references).bleu == pytest.approx(43.13894320445206, abs=1e-9)
    assert chrf(replies, references).chrf == pytest.approx(82.61213248600441, abs=1e-9)
    # A second reference for one of them, which the other has not.
    more = [references[0], ["hello there friend", "hello there friend of mine"]]
    assert bleu(replies, more).bleu > 70 and chrf(replies, more).chrf > 85
    assert "tok:char" in bleu(["知らない"], [["知らない"]], "char").signature


@given(TEXTS, st.integers(1, 4))
@settings(deadline=None, max_examples=60)
def test_self_bleu_is_each_against_all_others(replies, n):
    rows, smooth = [reply.split() for reply in replies], SmoothingFunction().method1
    scores = [
        sentence_bleu(rows[:i] + rows[i + 1 :], row, [1 / n] * n, smooth)
        for i, row in enumerate(rows)
        if len(rows) > 1
    ]
    found = self_bleu(replies, n).self_bleu
    assert found == pytest.approx(np.mean(scores) if scores else 0.0, abs=1e-12)


def test_self_bleu_samples_by_its_rule():
    replies = [" ".join("abcdefgh"[i % 5 : i % 5 + i % 3 + 1]) for i in range(40)]
    found = self_bleu(replies, sample=10, seed=3)
    assert found[1:] == (10, 40)
    places = np.random.default_rng(3).choice(40, 10, replace=False)
    assert found.self_bleu == self_bleu([sorted(replies)[i] for i in places]).self_bleu
    assert self_bleu(replies[::-1], sample=10, seed=3) == found
    assert self_bleu(replies, sample=10, seed=4).self_bleu != found.self_bleu


@given(st.lists(TOKENS, max_size=4), st.lists(TOKENS, min_size=1, max_size=4))
def test_longest_copied_by_trying_all(replies, script):
    turns = ["".join(turn) for turn in script]

    def longest(reply):
        pieces = [reply[i:j] for i in range(len(reply)) for j in range(i + 1, len(reply) + 1)]
        return max((len(p) for p in pieces if any("".join(p) in t for t in turns)), default=0)

    assert longest_copied(replies, script) == list(map(longest, replies))


def test_copying_within_turns_only():
    script = ["one two three four", "five six"]
    found = copying(["four five six", "Five SIX", "", "one two two three"], script, n=2)
    assert found == (2.0 * 3 / 4, 2, 4 / 6, 1 / 4)
    assert copying([], script) == (0, 0, 0, 0)


def test_context_overlap_by_hand():
    replies = ["no no yes", "", "Aye aye!", "well"]
    contexts = [["yes", "no"], ["hello"], ["aye", "aye aye !"], []]
    assert context_overlap(replies, contexts) == ((1 + 1 + 0) / 3, 1 / 4)
    # no no, no yes / aye aye, aye ! / nothing: pairs do not run from turn to turn
    assert context_overlap(replies, contexts, n=2) == ((0 + 1) / 2, 1 / 4)
    assert context_overlap(replies, contexts, turns="last") == ((2 / 3 + 1 + 0) / 3, 1 / 4)


def test_repetition_and_length_by_hand():
    replies = ["no no no no", "yes", "Yes", ""]
    assert repetition(replies) == (0.25, 0.25, 0.5)
    assert repetition(replies, n=2) == (pytest.approx(2 / 3), 0.25, 0.5)
    counts = [4, 1, 1, 0]
    assert length(replies) == (1.5, pytest.approx(np.std(counts)), 1.0, 0.0, 4.0, 0.25)
    assert length(["知りません。"], "characters").mean == 6


def test_distractors_are_other_replies():
    replies = [f"reply {word}" for word in "abcdefgh"] + ["Reply, a!", "reply b"]
    rows = with_distractors(replies, 6, seed=1)
    assert [row[-1] for row in rows] == replies
    for row in rows:
        assert len({parlai_normalized(candidate) for candidate in row}) == 7
    assert rows == with_distractors(replies, 6, seed=1) != with_distractors(replies, 6, seed=2)
    assert (
        hits_at_k(
            rank_candidates([["?"]] * 10, rows, lambda c, r: torch.zeros(len(r))),
            [[reply] for reply in replies],
        )
        == 0.0
    )  # ties count against the right one
    with pytest.raises(UserError, match="8 cannot be drawn from 8 different"):
        with_distractors(replies, 8)


def test_candidates_are_ranked_within_their_context():
    asked = []

    def scorer(contexts, candidates):
        asked.extend(zip(contexts, candidates, strict=True))
        return torch.tensor([float(len(text)) for text in candidates])

    ranked = rank_candidates([["x"], ["y"]], [["a", "bbb", "cc"], ["dd"]], scorer)
    assert ranked == [["bbb", "cc", "a"], ["dd"]]
    assert asked == [(["x"], "a"), (["x"], "bbb"), (["x"], "cc"), (["y"], "dd")]


def test_discriminator_score_by_hand():
    logits = torch.tensor([-1.0, 0.0, 4.0])
    found = discriminator_score(lambda contexts, replies: logits, [["?"]] * 3, ["a", "b", "c"])
    chances = [1 / (1 + math.exp(-x)) for x in logits.tolist()]
    expected = (1.0, np.std(logits.numpy()), np.mean(chances), 1 / 3)
    assert found == pytest.approx(expected)


def everything(replies, contexts):
    """Every text metric, as (value, most it can be)."""
    references = [context or ["ok"] for context in contexts]
    script = [turn for context in contexts for turn in context] or ["aye"]
    room = 1 + sum(map(len, replies))
    values = {"entropy": (entropy_n(replies, 2), math.log(room))}
    for level in ("corpus", "reply", "reply_short_as_0", "li2016"):
        for unit in ("words", "parlai", "whitespace", "characters"):
            values[level, unit] = (distinct_n(replies, 2, level, unit), 1)
    for name, found, most in [
        ("self_bleu", self_bleu(replies, 3)[:1], 1 + 1e-9),
        ("repetition", repetition(replies), 1),
        ("length", length(replies, "characters"), room),
        ("copying", copying(replies, script, 2), room),
        ("context_overlap", context_overlap(replies, contexts), 1),
        ("f1", unigram_f1(replies, references), 1),
        ("bleu", bleu(replies, references)[:1], 100 + 1e-9),
        ("chrf", chrf(replies, references)[:1], 100 + 1e-9),
    ]:
        values |= {(name, place): (value, most) for place, value in enumerate(found)}
    return values


PAIRS = st.tuples(st.text(max_size=12), st.lists(st.text(max_size=8), max_size=2))
KNOWN = st.sampled_from(
    [("aye aye", ["aye"]), ("", []), ("네 네", ["알아요?", "네 네"]), ("👩‍👩‍👧👩‍👩‍👧", ["知る"])]
)


@given(st.lists(PAIRS | KNOWN, max_size=6), st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=60)
def test_any_text_in_any_order(pairs, random):
    found = everything([reply for reply, _ in pairs], [context for _, context in pairs])
    for name, (value, most) in found.items():
        assert 0 <= value <= most, name
    random.shuffle(pairs)
    again = everything([reply for reply, _ in pairs], [context for _, context in pairs])
    assert again == found  # to the last digit


@given(TEXTS)
def test_laws(replies):
    counts = Counter(reply for reply in replies)
    assert repetition(replies, 1).within == pytest.approx(
        1 - distinct_n(replies, 1, "reply") if any(counts) else 0.0
    )
    assert distinct_n(replies * 2, 2) == pytest.approx(distinct_n(replies, 2) / 2)
    assert entropy_n(replies * 2, 2) == pytest.approx(entropy_n(replies, 2))
    words = Counter(word for reply in replies for word in reply.split())
    expected = scipy_entropy(list(words.values())) if words else 0.0
    assert entropy_n(replies, 1) == pytest.approx(expected, abs=1e-12)
    if any(replies):
        assert copying(replies, replies, 1).seen == 1.0


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: entropy_n(["a"], 0), "n: 0"),
        (lambda: self_bleu(["a"], sample=1), "sample: 1"),
        (lambda: copying(["a"], []), "script: is empty"),
        (lambda: context_overlap(["a"], []), r"replies 1, contexts 0"),
        (lambda: context_overlap(["a"], ["b"]), r"contexts\[0\] is a string .* \['b'\]"),
        (lambda: context_overlap(["a"], [["b"]], turns="first"), "turns: 'first'"),
        (lambda: unigram_f1(["a"], [[]]), r"references\[0\] is empty"),
        (lambda: hits_at_k([["a"]], [["a"]], 0), "k: 0"),
        (lambda: bleu(["a"], ["a"]), r"references\[0\] is a string"),
        (lambda: bleu(["a"], [["a"]], "flores200"), "tokenize: 'flores200'"),
        (lambda: chrf(["a"], [["a"]], -1), "word_order: -1"),
        (lambda: discriminator_score(len, [], ["a"]), "replies 1, contexts 0"),
    ],
)
def test_mistakes_are_told_in_one_sentence(call, told):
    with pytest.raises(UserError, match=told):
        call()
