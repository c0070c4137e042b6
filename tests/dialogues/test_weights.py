"""Weights of turns in the supervised loss, and dialogues read backwards."""

import json

import pytest

from rlhf_dialog.dialogues.examples import backwards, make_examples
from rlhf_dialog.dialogues.readers import read_dialogues
from rlhf_dialog.dialogues.schema import Dialogue, Turn
from rlhf_dialog.errors import UserError


def written(folder, *weights):
    turns = [{"speaker": "AB"[n % 2], "text": f"t{n}"} for n in range(len(weights))]
    for turn, weight in zip(turns, weights, strict=True):
        turn |= {} if weight is None else {"weight": weight}
    path = folder / "own.jsonl"
    path.write_text(json.dumps({"turns": turns}) + "\n")
    return path


def test_a_weight_goes_with_its_reply(tmp_path):
    (dialogue,) = read_dialogues(written(tmp_path, 5, None, 0, 2.5))
    assert [example.weight for example in make_examples([dialogue])] == [1.0, 0, 2.5]


@pytest.mark.parametrize("weight", [-1, "much", True, float("nan")])
def test_a_weight_that_is_none_is_told(tmp_path, weight):
    with pytest.raises(UserError, match=r'own.jsonl, line 1.*turn 2.*"weight".*from 0 up'):
        read_dialogues(written(tmp_path, 1, weight))


def test_a_joined_turn_weighs_as_its_least_part():
    turns = (Turn("a", "x"), Turn("b", "y", weight=2.0), Turn("B", "z", weight=0.0))
    (example,) = make_examples([Dialogue("d", turns)])
    assert (example.reply, example.weight) == ("y z", 0.0)


def test_backwards_a_reply_is_followed_by_what_it_answered():
    turns = (Turn("a", "x"), Turn("b", "y", ("no",), "s", 0.5), Turn("a", "z"))
    dialogue = Dialogue("d", turns, personas={"b": ("i am b",)})
    examples = make_examples(backwards([dialogue]))
    assert [(e.context, e.reply, e.weight) for e in examples] == [
        (("z",), "y", 0.5),
        (("z", "y"), "x", 1.0),
    ]
    assert examples[0].distractors == () and examples[0].context.persona == ("i am b",)
