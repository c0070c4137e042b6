import json

import pytest

from rlhf_dialog.dialogues.styles import StyledReply, read_styled_replies
from rlhf_dialog.errors import UserError


def told(parallel, style, *texts):
    turns = [{"speaker": "AB"[n % 2], "text": text} for n, text in enumerate(texts)]
    return {"parallel_id": parallel, "style": style, "turns": turns}


def write(folder, *records):
    path = folder / "styles.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def test_replies_of_all_styles_stand_under_the_contexts_of_the_wanted_one(tmp_path):
    path = write(
        tmp_path,
        told(7, "formal", "Good day.", "I greet you.", "Tea?"),
        told(7, "pirate", "Ahoy!", "Arr!"),  # one turn short: its last one stands for it
        told(7, "plain", "Hi.", "Hello.", "Tea?"),  # the same words: nothing to tell apart
        told(8, "pirate", "Ahoy!", "Avast!"),  # never told formally
    )
    assert read_styled_replies(path, "Formal", max_turns=1) == [
        StyledReply(("Good day.",), "I greet you.", "Formal", True, "parallel-7"),
        StyledReply(("Good day.",), "Arr!", "pirate", False, "parallel-7"),
        StyledReply(("Good day.",), "Hello.", "plain", False, "parallel-7"),
        StyledReply(("I greet you.",), "Tea?", "Formal", True, "parallel-7"),
        StyledReply(("I greet you.",), "Arr!", "pirate", False, "parallel-7"),
    ]


@pytest.mark.parametrize(
    ("records", "said"),
    [
        ([told(7, "pirate", "Ahoy!")], r'no dialogue has the style "formal" .*pirate \(1 dial'),
        ([told(7, "formal", "Good day.", "Yes.")], r'"formal" is the only style .*add the same'),
        ([told(None, "formal", "Good day.")], r'line 1: field "parallel_id" is missing; give'),
        ([told(7, None, "Good day.")], r'line 1: field "style" is missing; add it'),
        ([{"parallel_id": 7, "style": "formal"}], r'line 1: field "turns" is missing; add'),
    ],
)
def test_what_is_wrong_is_said_with_its_line(tmp_path, records, said):
    with pytest.raises(UserError, match=said):
        read_styled_replies(write(tmp_path, *records), "formal")
