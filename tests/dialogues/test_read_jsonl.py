import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_dialog.dialogues.readers import read_dialogues, read_jsonl
from rlhf_dialog.dialogues.schema import Turn
from rlhf_dialog.errors import UserError

GOOD = '{"turns": [{"speaker": "Ann", "text": "hi"}]}'


def write(tmp_path, content, name="script.jsonl"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return path


def record(**fields):
    return json.dumps({"turns": [{"speaker": "Ann", "text": "hi"}], **fields})


def test_reads_ids_turns_and_unknown_fields(tmp_path):
    turns = [
        {"speaker": "Ann", "text": " hi\nyou ", "mood": 3},
        {"speaker": "봄", "text": "안녕 🌸"},
    ]
    line = json.dumps({"dialogue_id": "d1", "turns": turns, "emotion": [1]}, ensure_ascii=False)
    (dialogue,) = read_dialogues(write(tmp_path, f"\n{line}\n\n"))
    assert (dialogue.id, dialogue.group) == ("d1", "d1")
    assert dialogue.turns == (Turn("Ann", "hi you"), Turn("봄", "안녕 🌸"))


def test_a_dialogue_without_id_is_named_after_its_line(tmp_path):
    path = write(tmp_path, f"\n{GOOD}\n{GOOD}")
    assert [dialogue.id for dialogue in read_jsonl(path)] == ["line-000002", "line-000003"]


@pytest.mark.parametrize(
    ("fields", "group"),
    [
        ({"season": 1, "episode": 2}, "s01e02"),
        ({"season": 1, "episode": 2, "group": "pilot"}, "pilot"),
        ({"group": 7}, "7"),
        ({"parallel_id": 0, "style": "formal"}, "parallel-0"),
        ({"season": 1}, "d1"),
        ({"group": None, "season": None, "episode": None}, "d1"),
    ],
)
def test_the_group_comes_from_the_fields(tmp_path, fields, group):
    (dialogue,) = read_jsonl(write(tmp_path, record(dialogue_id="d1", **fields)))
    assert dialogue.group == group


def test_marked_duplicates_are_dropped(tmp_path):
    lines = [record(dialogue_id="a"), record(dialogue_id="b", duplicate_of="a")]
    path = write(tmp_path, "\n".join(lines))
    assert [dialogue.id for dialogue in read_jsonl(path)] == ["a"]
    with pytest.raises(UserError, match='every dialogue is marked "duplicate_of"'):
        read_dialogues(write(tmp_path, lines[1]))


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_a_mark_of_byte_order_and_any_line_end_are_accepted(tmp_path, line_end):
    path = write(tmp_path, b"\xef\xbb\xbf" + line_end.join([GOOD, GOOD, ""]).encode())
    assert len(read_dialogues(path)) == 2


@pytest.mark.parametrize(
    ("line", "parts"),
    [
        ("{broken", ["broken JSON at column 2", "one complete JSON object"]),
        ("[1, 2]", ["type list instead of an object"]),
        ("[" * 200_000, ["cannot be read"]),
        ('{"n": ' + "1" * 5000 + "}", ["cannot be read"]),
        ("{}", ['"turns" is missing', "add the list"]),
        ('{"turns": "hi"}', ['"turns" is of type str', "make it a list"]),
        ('{"turns": []}', ['"turns" is empty']),
        ('{"turns": ["hi"]}', ['turn 1 of field "turns" is of type str']),
        ('{"turns": [{"text": "hi"}]}', ['in turn 1, field "speaker" is missing']),
        ('{"turns": [{"speaker": "A"}]}', ['in turn 1, field "text" is missing']),
        ('{"turns": [{"speaker": 1, "text": "hi"}]}', ['"speaker" is of type int']),
        ('{"turns": [{"speaker": "A", "text": ["hi"]}]}', ['"text" is of type list']),
        ('{"turns": [{"speaker": "A", "text": "  "}]}', ['"text" is empty']),
        (record(dialogue_id=5), ['"dialogue_id" is of type int', "in quotes"]),
        (record(dialogue_id=""), ['"dialogue_id" is empty']),
        (record(group=["a"]), ['"group" is of type list']),
        (record(season="1", episode=2), ['"season" and "episode" are not both whole numbers']),
    ],
)
def test_a_wrong_line_is_told_with_file_line_and_field(tmp_path, line, parts):
    path = write(tmp_path, f"{GOOD}\n\n{line}\n")
    with pytest.raises(UserError) as caught:
        read_dialogues(path)
    message = str(caught.value)
    assert message.startswith(f"{path}, line 3: ")
    assert "\n" not in message
    for part in parts:
        assert part in message


def test_a_repeated_id_names_both_lines(tmp_path):
    path = write(tmp_path, record(dialogue_id="x") + "\n" + record(dialogue_id=" x "))
    with pytest.raises(UserError, match=r'line 2: .*"dialogue_id" is "x", as on line 1'):
        read_dialogues(path)


@pytest.mark.parametrize("suffix", [".jsonl", ".txt"])
def test_files_that_cannot_be_read(tmp_path, suffix):
    with pytest.raises(UserError, match="no such file"):
        read_dialogues(tmp_path / f"absent{suffix}")
    (tmp_path / f"folder{suffix}").mkdir()
    with pytest.raises(UserError, match="this is a folder"):
        read_dialogues(tmp_path / f"folder{suffix}")
    for empty in (b"", b" \n\n", b"\xef\xbb\xbf"):
        with pytest.raises(UserError, match="the file is empty"):
            read_dialogues(write(tmp_path, empty, f"empty{suffix}"))
    latin = f"{GOOD}\nAnn: caf".encode() + "é".encode("latin-1")
    with pytest.raises(UserError, match="line 2: byte 0xe9 is not UTF-8"):
        read_dialogues(write(tmp_path, latin, f"latin{suffix}"))


@pytest.mark.parametrize("name", ["script", "script.docx"])
def test_an_unknown_suffix_names_the_known_ones(tmp_path, name):
    with pytest.raises(UserError, match=r"is unknown; give a \.jsonl .* or a \.txt"):
        read_dialogues(write(tmp_path, GOOD, name))


@given(text=st.text(alphabet=st.characters(exclude_categories=["Cs"])), escaped=st.booleans())
def test_any_text_leaves_the_other_turns_alone(tmp_path_factory, text, escaped):
    turns = [{"speaker": "Ann", "text": t} for t in ("안녕 🌸", f"<{text}>", "last")]
    line = json.dumps({"turns": turns}, ensure_ascii=escaped)
    path = write(tmp_path_factory.getbasetemp(), f"{line}\n{GOOD}")
    first, second = read_dialogues(path)
    assert [first.turns[0].text, first.turns[2].text] == ["안녕 🌸", "last"]
    assert "".join(first.turns[1].text.split()) == "".join(f"<{text}>".split())
    assert second.turns == (Turn("Ann", "hi"),)


@given(
    content=st.binary(max_size=60)
    | st.text(max_size=60).map(lambda t: t.encode("utf-8", "replace"))
)
@pytest.mark.parametrize("suffix", [".jsonl", ".txt"])
def test_any_bytes_are_read_or_told(tmp_path_factory, suffix, content):
    path = write(tmp_path_factory.getbasetemp(), content, f"any{suffix}")
    try:
        assert read_dialogues(path)
    except UserError as error:
        assert str(path) in str(error)
