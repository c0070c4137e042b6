from textwrap import dedent

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_dialog.dialogues.readers import read_dialogues
from rlhf_dialog.dialogues.transcript import (
    directions_removed,
    is_scene_heading,
    speaker_and_text,
)
from rlhf_dialog.errors import UserError


def read(tmp_path, content, name="play.txt"):
    path = tmp_path / name
    path.write_text(dedent(content), encoding="utf-8")
    return read_dialogues(path)


def spoken(dialogue):
    return [(turn.speaker, turn.text) for turn in dialogue.turns]


def test_scenes_become_dialogues(tmp_path):
    first, second = read(
        tmp_path,
        """
        A play in two scenes.

        ## Scene: the bar
        They sit.
        ANN: Hi! (waves)

        BOB (quietly): Oh, hello [sighs], Ann.
        How are
            you?
        ANN: (nods)
        ## Scene: nobody speaks
        ## Scene: the street
        Ann: Bye.
        """,
    )
    assert (first.id, first.group) == ("play-scene-0001", "play-scene-0001")
    assert spoken(first) == [("ANN", "Hi!"), ("BOB", "Oh, hello, Ann. How are you?")]
    assert second.id == "play-scene-0002"
    assert spoken(second) == [("Ann", "Bye.")]


SAME_LINES = [("Barney", "Suit up!"), ("Ted", "No. Not today.")]


@pytest.mark.parametrize(
    "style",
    [
        "Barney: Suit up!\nTed: No. Not today.",
        "Barney : Suit up!\r\n\r\nTed:No.\r\n  Not today.",
        "Barney:\nSuit up!\n\nTed:\nNo.\nNot today.",
        "**Barney:** Suit up!\n**Ted**: No. Not today.",
        "[Barney]: Suit up!\n[Ted]: No. Not today.",
        "[00:12:03] Barney: Suit up!\n[00:12:05] Ted: No. Not today.",
        "Barney：Suit up!\nTed： No. Not today.",
        "\ufeffBarney: Suit up!\nTed: No. (He leaves,\nslamming the door.) Not today.",
        "[Scene: all\nare here.]\nBarney: Suit up!\nTed (to (all) of us): No. Not today.",
        "INT. BAR\nBarney: Suit up! ((loud [very]))\nTed: No.\n[He drinks: slowly]\nNot today.",
    ],
)
def test_styles_of_writing_read_alike(tmp_path, style):
    path = tmp_path / "style.txt"
    path.write_bytes(style.encode("utf-8"))
    assert spoken(read_dialogues(path)[-1]) == SAME_LINES


@pytest.mark.parametrize(
    "line",
    [
        "## Scene: the bar",
        "# Episode 2",
        "[Scene: Central Perk, all are there.]",
        "[SCENE 4]",
        "(Scene: a flat)",
        "SCENE 3",
        "Scene 3: The bar",
        "**Scene 3**",
        "Scene: the bar",
        "ACT II",
        "Act One - the bar",
        "INT. BAR",
        "EXT. STREET - DAY",
        "INT./EXT. CAR",
        "12 INT. BAR",
        "S#3. 카페",
    ],
)
def test_scene_headings(line):
    assert is_scene_heading(f"  {line} ")


@pytest.mark.parametrize(
    "line",
    ["Ann: hi", "Scenes from a life", "Action!", "#winning", "[She laughs]", "Interesting. Go on.",
     "Actually: no", "External help", "(seen before)"],
)  # fmt: skip
def test_lines_that_are_no_headings(line):
    assert not is_scene_heading(line)


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("Dr. Smith: Hello", "Dr. Smith"),
        ("J.D.: Hello", "J.D."),
        ("Marshall and Lily: Hello", "Marshall and Lily"),
        ("Man #3: 3 beers", "Man #3"),
        ("ted: hello", "ted"),
        ("지은: 안녕", "지은"),
        ("Ann: see https://example.org", "Ann"),
    ],
)
def test_names(line, name):
    assert speaker_and_text(line) == (name, line.split(": ", 1)[1])


@pytest.mark.parametrize(
    "line",
    ["at 10:30", "12:30", "https://example.org", "no colon",
     "Wait! Listen: no", "one two three four five six: no", "a" * 41 + ": no", "(Ann: no)", ": no"],
)  # fmt: skip
def test_lines_that_begin_no_turn(line):
    assert speaker_and_text(line) is None


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("Hi (waves) there", "Hi there"),
        ("Hi (waves), there", "Hi, there"),
        ("그래(웃음)그렇지", "그래 그렇지"),
        ("so sad :( and now glad :)", "so sad :( and now glad :)"),
        ("1) this (2", "1) this (2"),
    ],
)
def test_directions(text, left):
    assert directions_removed(text) == left


def test_a_file_without_names_is_told(tmp_path):
    with pytest.raises(UserError, match=r'play\.txt: no line has the form "NAME: line"'):
        read(tmp_path, "BARNEY\nSuit up!\n\nTED\nNo.")


one_line = st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\r\n"))


@given(text=one_line)
def test_any_text_leaves_the_other_turns_alone(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "any.txt"
    path.write_text(f"지은: 안녕 🌸\nBOB: {text}\nAnn: last", encoding="utf-8")
    (dialogue,) = read_dialogues(path)
    turns = spoken(dialogue)
    assert (turns[0], turns[-1]) == (("지은", "안녕 🌸"), ("Ann", "last"))
    if not set("()[]") & set(text):
        said = " ".join(part for line in text.splitlines() if (part := line.strip()))
        assert turns[1:-1] == ([("BOB", said)] if said else [])
