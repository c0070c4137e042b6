import json

import pytest

from rlhf_dialog.dialogues.labelled import LabelledReply, read_labelled
from rlhf_dialog.errors import UserError


def write(tmp_path, *records):
    path = tmp_path / "replies.jsonl"
    lines = [r if isinstance(r, str) else json.dumps(r, ensure_ascii=False) for r in records]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def labelled(label=1, **fields):
    return {"context": ["Who?", "Where?"], "reply": "Aye.", "label": label} | fields


def messages(*contents, roles=("user", "assistant")):
    return [{"role": roles[i % 2], "content": text} for i, text in enumerate(contents)]


FAKE = labelled(0)


def test_labelled_replies_in_every_spelling_of_the_label(tmp_path):
    given = [1, True, "real", 0, False, "fake"]
    file = read_labelled(write(tmp_path, *(labelled(label) for label in given)))
    assert file.form == "labelled"
    assert [r.is_real for r in file.replies] == [True] * 3 + [False] * 3
    assert [r.kind for r in file.replies] == ["real"] * 3 + ["fake"] * 3
    assert [r.line for r in file.replies] == [1, 2, 3, 4, 5, 6]


def test_texts_are_kept_as_written_and_a_context_may_be_one_string(tmp_path):
    fake = labelled(0, context=" 어디야?\n", reply="  집 !", kind="cast", mood=3)
    file = read_labelled(write(tmp_path, labelled(), "", fake))
    assert file.replies[0].context == ("Who?", "Where?")
    assert file.replies[1] == LabelledReply((" 어디야?\n",), "  집 !", False, "cast", 3)


def test_an_empty_fake_is_kept_and_an_empty_real_reply_refused(tmp_path):
    file = read_labelled(write(tmp_path, labelled(), labelled(0, reply="")))
    assert file.replies[1].reply == ""
    with pytest.raises(UserError, match=r'line 1: field "reply" is empty'):
        read_labelled(write(tmp_path, labelled(reply=" "), FAKE))


CHOSEN = LabelledReply(("Hi.",), "Aye.", True, "real", 1)
REJECTED = LabelledReply(("Hi.",), "Hello.", False, "rejected", 1)
SYSTEM = {"role": "system", "content": "Be brief."}


@pytest.mark.parametrize(
    "record",
    [
        {"prompt": "Hi.", "chosen": "Aye.", "rejected": "Hello."},
        {"context": ["Hi."], "chosen": "Aye.", "rejected": "Hello."},
        {"chosen": messages("Hi.", "Aye."), "rejected": messages("Hi.", "Hello.")},
        {"prompt": messages("Hi."), "chosen": "Aye.", "rejected": "Hello."},
        {
            "prompt": [SYSTEM, *messages("Hi.")],
            "chosen": messages("", "Aye.")[1:],
            "rejected": messages("", "Hello.")[1:],
        },
        {
            "prompt": [SYSTEM, *messages("Hi.")],  # repeated by both conversations
            "chosen": messages("Hi.", "Aye."),
            "rejected": messages("Hi.", "Hello."),
        },
        {"prompt": "Hi.", "chosen": messages("Hi.", "Aye."), "rejected": messages("Hi.", "Hello.")},
        {
            "prompt": "Hi.",
            "chosen": messages("", "Aye.")[1:],
            "rejected": messages("", "Hello.")[1:],
        },
    ],
)
def test_every_preference_form_of_trl(tmp_path, record):
    file = read_labelled(write(tmp_path, record))
    assert file.form == "preference" and file.replies == (CHOSEN, REJECTED)


def test_messages_of_one_role_are_one_turn_and_those_before_the_reply_are_context(tmp_path):
    shared = [*messages("Hi.", "Who?", "Me."), *messages("Still me.")]
    record = {
        "chosen": [*shared, *messages("", "Aye.")[1:]],
        "rejected": [*shared, *messages("", "")[1:]],
    }
    chosen, rejected = read_labelled(write(tmp_path, record)).replies
    assert chosen.context == rejected.context == ("Hi.", "Who?", "Me. Still me.")
    assert (chosen.reply, rejected.reply) == ("Aye.", "")


@pytest.mark.parametrize(
    ("records", "told"),
    [
        ([""], "the file is empty; give one that holds labelled replies"),
        ([{"context": "a", "reply": "b"}], 'line 1: field "label" is missing, and an unlabelled'),
        ([labelled(), labelled(2)], 'line 2: field "label" is 2; make it 0 or 1'),
        ([labelled(), labelled(1.5)], 'line 2: field "label" is 1.5'),
        ([labelled(), labelled()], r"all 2 replies are real .* add fake replies"),
        ([FAKE], r"all 1 replies are fake .* add real replies"),
        ([labelled(), '{"context": ['], "line 2: broken JSON at column"),
        ([labelled(), "[1]"], r'line 2: a JSON value of type list .*"label": 0 or 1'),
        ([labelled(), {"prompt": "a", "chosen": "b", "rejected": "c"}], "line 2: a preference"),
        ([labelled(chosen="x")], 'line 1: fields "label" and "chosen" stand in one object'),
        ([labelled(context=[])], 'line 1: field "context" is empty'),
        ([labelled(context=["a", ""])], 'line 1: field "context" is empty'),
        ([labelled(context=3)], 'line 1: field "context" is of type int'),
        ([{"reply": "a", "label": 1}], 'line 1: field "context" is missing'),
        ([{"context": "a", "label": 1}], 'line 1: field "reply" is missing'),
        ([labelled(kind="cast")], 'line 1: field "kind" is "cast" on a real reply'),
        ([labelled(), labelled(0, kind="real")], 'line 2: field "kind" is "real" on a fake reply'),
        ([{"chosen": "a", "rejected": "b"}], 'line 1: field "context" is missing'),
        ([{"prompt": "a", "chosen": "b"}], 'line 1: field "rejected" is missing'),
        ([{"prompt": "a", "chosen": "b", "rejected": "b"}], "are the same"),
        ([{"prompt": 1, "chosen": messages("b"), "rejected": "c"}], '"prompt" is of type int'),
        ([{"chosen": messages("a"), "rejected": messages("b")}], 'end with .* "assistant"'),
        (
            [{"chosen": messages("a", "b"), "rejected": messages("c", roles=["assistant"])}],
            'field "rejected" holds no message before the reply',
        ),
        ([{"chosen": [{"role": "tool", "content": "a"}], "rejected": []}], "role 'tool'"),
        ([{"chosen": [{"role": "user", "content": 1}], "rejected": []}], "is no string"),
    ],
)
def test_each_mistake_is_told_with_file_line_field_and_remedy(tmp_path, records, told):
    path = write(tmp_path, *records)
    with pytest.raises(UserError, match=told) as caught:
        read_labelled(path)
    assert str(caught.value).startswith(str(path))
