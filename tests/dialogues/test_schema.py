import pytest

from rlhf_dialog.dialogues.schema import Dialogue, Example, Turn, speaker_key
from rlhf_dialog.errors import UserError


def test_a_turn_is_stripped_and_put_on_one_line():
    turn = Turn("  Ann\t", "\n one\r\ntwo \n\n three\u2028four  five ")
    assert turn == Turn("Ann", "one two three four  five")


@pytest.mark.parametrize(
    ("speaker", "text", "message"),
    [
        ("", "hi", '"speaker" is empty'),
        ("Ann", " \n\t ", '"text" is empty'),
        (None, "hi", '"speaker" is missing'),
        ("Ann", 5, '"text" is of type int'),
        ("Ann", "half \ud83d", r"\\ud83d, half of a surrogate pair"),
    ],
)
def test_an_invalid_turn_names_its_field(speaker, text, message):
    with pytest.raises(UserError, match=message):
        Turn(speaker, text)


def test_the_group_of_a_dialogue_is_its_id_unless_given():
    turns = (Turn("Ann", "hi"),)
    assert Dialogue("d1", turns).group == "d1"
    assert Dialogue("d1", turns, group=" e1 ").group == "e1"


def test_a_dialogue_needs_turns_and_an_id():
    with pytest.raises(UserError, match='"turns" is empty'):
        Dialogue("d1", ())
    with pytest.raises(UserError, match='"dialogue_id" is empty'):
        Dialogue(" ", (Turn("Ann", "hi"),))


def test_an_example_needs_a_context():
    with pytest.raises(UserError, match='"context" is empty'):
        Example((), "hi", "Ann", "d1")
    with pytest.raises(UserError, match='"context" is empty'):
        Example(("hello", " "), "hi", "Ann", "d1")


def test_speakers_compare_without_case_space_and_unicode_form():
    composed, decomposed = "바니", "\u1107\u1161\u1102\u1175"
    assert speaker_key(" BARNEY ") == speaker_key("Barney")
    assert speaker_key(composed) == speaker_key(decomposed)
    assert speaker_key("Ted") != speaker_key("Fred")
