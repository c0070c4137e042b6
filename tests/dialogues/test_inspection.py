import json
import runpy
from collections import Counter
from pathlib import Path

import pytest
from rich.console import Console

from rlhf_dialog.dialogues.examples import make_examples
from rlhf_dialog.dialogues.inspection import as_tables, inspect_dialogues
from rlhf_dialog.dialogues.languages import language_of
from rlhf_dialog.dialogues.readers import read_dialogues

ROOT = Path(__file__).parents[2]


def line(*turns, **other):
    return json.dumps({"turns": [{"speaker": s, "text": t} for s, t in turns], **other}) + "\n"


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "script.jsonl"
    scenes = [
        line(("NORA", f"{n}?"), ("PLUME", f"Aye, {n} [bold]it is[/bold].")) for n in range(120)
    ]
    odd = [
        line(("NORA", "Hi."), ("Nora", "You there?"), ("DEV", "Yes \x07."), split="train"),
        line(("X", "hi."), ("Y", "you there?"), ("X", "yes \x07."), split="test"),
        '{"turns": 1}\n',
        line(("NORA", "w " * 201), persona={"Nora": ["She keeps the shop."]}),
        line(("NORA", "gone"), ("DEV", "Ã©"), duplicate_of="line-000001"),
        "{oops\n",
    ]
    path.write_text("".join(scenes + odd), encoding="utf-8")
    return path


def test_what_is_counted(script):
    found = inspect_dialogues(script)
    assert (found.form, found.dialogues, found.turns) == ("jsonl", 123, 247)
    assert found.turns_per_dialogue == {2: 120, 3: 2, 1: 1}
    assert max(found.words_per_turn) == 201
    assert found.duplicates == {"across splits": 1}
    assert found.log.dropped == {'marked "duplicate_of"': 1} and found.log.wrong == 2
    assert [problem.split(": ")[0] for problem in found.log.problems] == [
        f"{script}, line 123",
        f"{script}, line 126",
    ]
    assert found.oddities.total() == 5 and found.first_seen == {
        "neighbouring turns of one speaker (they are joined)": ["line 121"],
        "control characters": ["line 121", "line 122"],
        "one speaker alone: nobody replies": ["line 124"],
        "a turn of more than 200 words": ["line 124"],
    }
    nora = found.speakers["nora"]
    assert (nora.turns, nora.replies, nora.dialogues, nora.persona) == (123, 0, 122, True)
    assert [c.name for c in found.trainable] == ["PLUME"]


def test_replies_are_those_that_examples_are_made_of():
    path = ROOT / "data" / "tidy_tide.jsonl"
    dialogues = read_dialogues(path)
    found = inspect_dialogues(path)
    replies = Counter(example.speaker for example in make_examples(dialogues))
    assert {c.name: c.replies for c in found.speakers.values()} == replies
    assert found.dialogues == 480 and not found.duplicates and not found.oddities
    assert found.languages.most_common(1)[0][0] == "English"


def test_the_recipe_prints_it_and_says_by_its_status_whether_there_are_mistakes(
    script, monkeypatch, capsys
):
    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["inspect_data.py", *map(str, arguments)])
        monkeypatch.setenv("COLUMNS", "200")
        with pytest.raises(SystemExit) as stop:
            runpy.run_path(str(ROOT / "recipes" / "inspect_data.py"), run_name="__main__")
        return stop.value.code, capsys.readouterr()

    code, output = run(script)
    assert code == 1 and "1 of 5 speakers have at least 100 replies" in output.out
    assert "line 126: broken JSON" in output.out and "1 across splits" in output.out
    code, output = run(script.parent / "absent.jsonl")
    assert code == 2 and output.err.startswith("error: ") and output.err.count("\n") == 1


def test_names_that_look_like_markup_are_printed_as_they_are(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(line(("[red]x", "[/nothing]"), ("[link]", "b")), encoding="utf-8")
    console = Console(width=150, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(as_tables(inspect_dialogues(path)))
    assert "[red]x" in (text := console.export_text()) and "[link]" in text


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("What are you doing? The tide is late.", "English"),
        ("Ich weiß nicht, was du meinst.", "German"),
        ("안녕하세요 OK", "Korean"),
        ("今日は天気がいいね。", "Japanese"),
        ("今天天气很好。", "Chinese"),
        ("Привет!", "Cyrillic script"),
        ("... 123 😀", "no letters"),
        ("Hmm.", "Latin script"),
    ],
)
def test_the_language_is_guessed(text, language):
    assert language_of(text) == language
