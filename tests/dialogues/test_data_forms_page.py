"""What docs/data_forms.md shows is what the readers read."""

import re
from pathlib import Path

from rlhf_dialog.dialogues.readers import READERS, form_of, read_dialogues
from rlhf_dialog.dialogues.readers.hub import FIELDS

PAGE = (Path(__file__).parents[2] / "docs" / "data_forms.md").read_text(encoding="utf-8")


def test_every_shown_file_reads_as_the_page_says(tmp_path):
    shown = re.findall(r"\n`([\w.]+)`:\n\n```\w+\n([^`]*)```\n\n([^\n]*)\n", PAGE)
    forms = set()
    for name, content, turns in shown:
        (tmp_path / name).write_text(content, encoding="utf-8")
        forms.add(form_of(tmp_path / name))
        for dialogue in read_dialogues(tmp_path / name):
            assert " · ".join(f"{t.speaker}: {t.text}" for t in dialogue.turns) == turns
    assert forms == set(READERS) - {"transcript", "dataset"}


def test_every_form_and_every_field_is_in_the_page():
    for name in (*READERS, *FIELDS):
        assert f"`{name}`" in PAGE, name
