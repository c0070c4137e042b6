"""What docs/own_script.md shows is what the code does."""

import re
from pathlib import Path

from rlhf_dialog.dialogues.examples import make_examples
from rlhf_dialog.dialogues.readers import read_dialogues

PAGE = (Path(__file__).parents[2] / "docs" / "own_script.md").read_text(encoding="utf-8")


def test_the_shown_scripts_read_as_the_page_says(tmp_path):
    transcript = re.search(r"```text\n(## Scene.*?)```", PAGE, re.DOTALL)
    lines = re.search(r"```json\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "my_script.txt").write_text(transcript[1], encoding="utf-8")
    (tmp_path / "my_script.jsonl").write_text(lines[1], encoding="utf-8")
    from_transcript = read_dialogues(tmp_path / "my_script.txt")
    from_lines = read_dialogues(tmp_path / "my_script.jsonl")

    for dialogue in from_transcript:
        turns = " · ".join(f"{turn.speaker}: {turn.text}" for turn in dialogue.turns)
        assert f"| `{dialogue.id}` | {turns} |" in PAGE
    assert [d.group for d in from_lines] == ["e1", "e1"]
    for dialogues in (from_transcript, from_lines):
        (example,) = make_examples(dialogues, character="Ann")
        assert f"| {' / '.join(example.context)} | {example.reply} |" in PAGE
