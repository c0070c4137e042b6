import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_dialog.dialogues.examples import make_examples, require_character
from rlhf_dialog.dialogues.schema import Dialogue, Example, Turn, speaker_key
from rlhf_dialog.errors import UserError


def dialogue(*lines, id="d1"):
    return Dialogue(id, tuple(Turn(*line.split(": ", 1)) for line in lines))


BAR = dialogue("Ann: a1", "Bob: b1", "bob: b2", "Ann: a2", "Cid: c1", "Ann: a3")


def test_neighbours_are_merged_and_windows_cut():
    assert make_examples([BAR], max_turns=2) == [
        Example(("a1",), "b1 b2", "Bob", "d1"),
        Example(("a1", "b1 b2"), "a2", "Ann", "d1"),
        Example(("b1 b2", "a2"), "c1", "Cid", "d1"),
        Example(("a2", "c1"), "a3", "Ann", "d1"),
    ]


def test_a_character_keeps_only_its_replies():
    assert make_examples([BAR], character=" ANN ") == [
        Example(("a1", "b1 b2"), "a2", "Ann", "d1"),
        Example(("b1 b2", "a2", "c1"), "a3", "Ann", "d1"),
    ]


def test_one_voice_makes_no_examples():
    assert make_examples([dialogue("Ann: a1", "Ann: a2")]) == []


def test_max_turns_below_one_is_told():
    with pytest.raises(UserError, match="max_turns is 0"):
        make_examples([BAR], max_turns=0)


def test_an_absent_character_is_told_with_frequent_and_close_names():
    crowd = [dialogue(*[f"P{n}: x"] * (7 - n), id=f"p{n}") for n in range(7)]
    with pytest.raises(UserError) as caught:
        require_character([BAR, *crowd], "Anne", minimum=1)
    message = str(caught.value)
    assert 'did you mean "Ann"?' in message
    assert "P0 (7 turns), P1 (6 turns), P2 (5 turns), P3 (4 turns), Ann (3 turns)" in message
    assert "P4" not in message


def test_too_few_replies_are_told_with_both_numbers():
    require_character([BAR], "ann", minimum=2)
    with pytest.raises(UserError, match=r'"ann" has 2 replies .* at least 3 are needed'):
        require_character([BAR], "ann", minimum=3)


def test_no_dialogues_are_told():
    with pytest.raises(UserError, match="frequent speakers are: none"):
        require_character([], "Ann", minimum=1)


words = st.text(st.characters(exclude_categories=["Cs"]), max_size=8).map(lambda t: f"x{t}x")
turns = st.builds(Turn, st.sampled_from(["Ann", "ANN", "Bob", "지은"]), words)
dialogues = st.lists(st.lists(turns, min_size=1, max_size=8), max_size=4).map(
    lambda many: [Dialogue(f"d{n}", tuple(some)) for n, some in enumerate(many)]
)


@given(dialogues, st.integers(1, 5))
def test_examples_are_windows_of_the_dialogue(some, max_turns):
    examples = make_examples(some, max_turns=max_turns)
    for one in some:
        whole = " ".join(turn.text for turn in one.turns)
        own = [example for example in examples if example.dialogue_id == one.id]
        changes = sum(
            speaker_key(a.speaker) != speaker_key(b.speaker)
            for a, b in zip(one.turns, one.turns[1:], strict=False)
        )
        assert len(own) == changes
        for example in own:
            assert 1 <= len(example.context) <= max_turns
            assert " ".join([*example.context, example.reply]) in whole


@given(dialogues)
def test_characters_part_the_examples(some):
    apart = [e for name in ("ann", "bob", "지은") for e in make_examples(some, character=name)]
    together = make_examples(some)
    assert len(apart) == len(together)
    assert all(example in together for example in apart)
