import random
from collections import Counter

import pytest
from sklearn.metrics import roc_auc_score

from rlhf_dialog.dialogues.schema import Example
from rlhf_dialog.discriminators.negatives import (
    Pair,
    ReplayBuffer,
    answers_somebody_else,
    degenerate_fakes,
    fakes,
    match_lengths,
    mix,
    wrong_context_fakes,
)
from rlhf_dialog.errors import UserError

REALS = [
    Pair(
        ("Well then.", f"Anna asks about tea {n}"),
        f"I like the tea number {n} very much",
        "real",
        f"scene {n}",
    )
    for n in range(12)
]


def test_a_wrong_context_is_never_the_right_one():
    wrong = wrong_context_fakes(REALS, random.Random(0))
    right = {pair.reply: pair.context for pair in REALS}
    assert sorted(pair.reply for pair in wrong) == sorted(right)
    assert sorted(pair.context for pair in wrong) == sorted(right.values())
    assert all(right[pair.reply] != pair.context for pair in wrong)
    assert {pair.kind for pair in wrong} == {"wrong_context"}
    assert not any(pair.is_real for pair in wrong)


def test_what_repeats_the_real_reply_is_no_fake():
    one_word = [Pair(("Tea?",), "Yes.", "real", "d"), Pair(("Now?",), "Yes.", "real", "e")]
    assert fakes("generated", one_word, ["Yes.", "No."]) == [
        Pair(("Now?",), "No.", "generated", "e")
    ]
    assert wrong_context_fakes(one_word, random.Random(0)) == []
    for seed in range(30):
        assert all(p.reply != "Yes." for p in degenerate_fakes(one_word, random.Random(seed)))


def test_matched_fakes_are_as_long_as_the_reals():
    rng = random.Random(1)
    reals = [Pair(("c",), "r" * rng.randint(20, 40), "real", "d") for _ in range(300)]
    pool = [Pair(("c",), "f" * rng.randint(1, 80), "cast", "d") for _ in range(600)]
    matched = match_lengths(pool, reals, rng)
    gaps = [len(fake.reply) - len(real.reply) for fake, real in zip(matched, reals, strict=True)]
    assert max(map(abs, gaps)) <= 3
    labels = [1] * len(reals) + [0] * len(matched)

    def auc(fakes):
        lengths = [len(pair.reply) for pair in [*reals, *fakes]]
        return roc_auc_score(labels[: len(lengths)], lengths)

    assert abs(auc(matched) - 0.5) < 0.03
    assert auc([p for p in pool if len(p.reply) < 20][: len(reals)]) > 0.9  # without matching


def test_a_pool_smaller_than_the_neighbourhood_is_drawn_from_all_the_same():
    pool = fakes("cast", REALS[:2], ["a", "b"])
    assert len(match_lengths(pool, REALS, random.Random(0))) == len(REALS)
    assert match_lengths([], REALS, random.Random(0)) == []


def test_one_real_pair_has_no_wrong_context():
    assert wrong_context_fakes(REALS[:1], random.Random(0)) == []


def test_degenerate_replies_are_broken_versions_of_real_ones():
    broken = [p for seed in range(20) for p in degenerate_fakes(REALS, random.Random(seed))]
    words = {n: REALS[n].reply.split() for n in range(12)}
    lengths = Counter(len(pair.reply.split()) for pair in broken)
    assert lengths[1] and lengths[2]  # where a naive policy ends: one or two words
    assert any(pair.reply == pair.context[-1] for pair in broken)  # a copied turn
    assert not any(pair.reply == pair.context[0] for pair in broken)  # maybe the character's own
    assert any(pair.reply.split() == ["Anna"] * 3 for pair in broken)  # a name, again and again
    assert any(
        sorted(pair.reply.split()) == sorted(words[n]) and pair.reply != REALS[n].reply
        for n in range(12)
        for pair in broken
        if pair.context == REALS[n].context
    )  # shuffled
    assert not {pair.reply for pair in broken} & {pair.reply for pair in REALS}


@pytest.mark.parametrize(
    ("speaker", "answers", "kept"),
    [
        ("Bob", "Cid", True),
        ("Bob", "ANN ", False),  # the context gives it away: Ann does not answer herself
        ("ann", "Bob", False),  # her own reply is no fake
        ("Bob", "", True),
    ],
)
def test_which_replies_of_the_cast_are_fakes(speaker, answers, kept):
    example = Example(("hi",), "ho", speaker, "d", answers)
    assert answers_somebody_else(example, "Ann") is kept


def test_mix_keeps_the_shares_and_leaves_out_what_is_not_there():
    pools = {
        "generated": fakes("generated", REALS[:3], ["x", "y", "z"]),
        "cast": fakes("cast", REALS[:3], ["u", "v", "w"]),
        "degenerate": [],
    }
    shares = {"generated": 0.6, "cast": 0.2, "degenerate": 0.2}
    kinds = Counter(pair.kind for pair in mix(pools, shares, 400, random.Random(0)))
    assert set(kinds) == {"generated", "cast"} and kinds.total() == 400
    assert kinds["generated"] == pytest.approx(300, abs=35)
    assert len(mix(pools, shares, 1, random.Random(0))) == 1


def test_no_fakes_of_any_kind_that_has_a_share_is_told_in_a_sentence():
    with pytest.raises(UserError, match="cast_share: there are no fakes of these kinds"):
        mix({"generated": REALS, "cast": []}, {"generated": 0.0, "cast": 0.5}, 4, random.Random(0))


def test_a_copied_turn_is_spelt_as_the_generator_spells():
    shouted = [Pair(("NO WAY!",), "well, I never", "real", "d", answered="no way !")]
    broken = {p.reply for seed in range(40) for p in degenerate_fakes(shouted, random.Random(seed))}
    assert "no way !" in broken and not any("NO" in reply for reply in broken)


@pytest.mark.parametrize("mark", ["!", " !"])
def test_the_mark_that_closes_a_reply_does_not_tell_that_it_is_broken(mark):
    reply = f"Aye, the tide is late{mark}"
    closed = [Pair(("Tea",), reply, "real", "d")]
    for seed in range(40):
        for pair in degenerate_fakes(closed, random.Random(seed)):
            copied = set(pair.reply.split()) == {"Tea"}
            assert copied or pair.reply.removesuffix(mark).count("!") == 0, pair.reply
            assert copied or pair.reply.endswith(mark), pair.reply


def test_a_reply_without_spaces_is_broken_too():
    japanese = [Pair(("お茶は?",), "私はお茶が好きです", "real", "d")]
    broken = {
        p.reply for seed in range(40) for p in degenerate_fakes(japanese, random.Random(seed))
    }
    assert any(sorted(reply) == sorted("私はお茶が好きです") for reply in broken)
    assert any(len(reply) <= 2 for reply in broken)


def test_the_replay_buffer_forgets_the_oldest():
    buffer = ReplayBuffer(size=5)
    buffer.add(fakes("generated", REALS[:4], ["1", "2", "3", "4"]))
    buffer.add(fakes("generated", REALS[:3], ["5", "6", "7"]))
    assert [pair.reply for pair in buffer.pairs] == ["3", "4", "5", "6", "7"]
    assert {pair.kind for pair in buffer.pairs} == {"replayed"}
    drawn = buffer.sample(99, random.Random(0))
    assert sorted(pair.reply for pair in drawn) == ["3", "4", "5", "6", "7"]


def test_a_replay_buffer_of_size_zero_stays_empty():
    buffer = ReplayBuffer(size=0)
    buffer.add(fakes("generated", REALS[:1], ["1"]))
    assert buffer.pairs == []
