"""Any text in any turn of any source, and any bytes in a file, for every reader."""

import csv
import io
import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlhf_dialog.dialogues.readers import READERS, form_of, read_dialogues
from rlhf_dialog.errors import UserError
from tests.dialogues.sources import EMPATHETIC, lines


def message(role, content):
    return {"role": role, "content": content}


def persona_chat(texts):
    utterance = {"history": texts[:2], "candidates": texts[2:]}
    return json.dumps({"train": [{"personality": [], "utterances": [utterance]}]})


def flat(text):
    """What a form without line ends and tabs can hold of `text`."""
    return " ".join(text.split())


def as_csv(texts):
    file = io.StringIO()
    csv.writer(file).writerows([["Q", "A"], texts[:2], [texts[2], "end"]])
    return file.getvalue()


# Form to (file name, how three texts are written in it), by what its authors would do.
WRITERS = {
    "jsonl": ("a.jsonl", lambda t: lines({"turns": [{"speaker": "A", "text": x} for x in t]})),
    "transcript": ("a.txt", lambda t: "".join(f"ANN: {flat(x)}\n" for x in t)),
    "pairs": ("a.csv", as_csv),
    "daily-dialog": ("a.txt", lambda t: "".join(f"{flat(x)} __eou__ " for x in t) + "\n"),
    "empathetic-dialogues": (
        "a.csv",
        lambda t: EMPATHETIC.splitlines()[0]
        + "".join(
            f"\nc,{n},sad,x,{n % 2},{flat(x).replace(',', '_comma_')},5,"
            for n, x in enumerate(t)
        ),
    ),
    "persona-chat": (
        "a.json",
        persona_chat,
    ),
    "blended-skill-talk": (
        "a.json",
        lambda t: json.dumps(
            [{"personas": [[], []], "free_turker_utterance": t[0],
              "guided_turker_utterance": t[1], "dialog": [[0, t[2]]]}]
        ),
    ),
    "messages": ("a.jsonl", lambda t: lines({"messages": [message("user", x) for x in t]})),
    "prompt-completion": (
        "a.jsonl",
        lambda t: lines({"prompt": [message("user", x) for x in t[:2]], "completion": t[2]}),
    ),
}  # fmt: skip
ANY_BYTES = st.binary(max_size=80) | st.text(max_size=80).map(
    lambda text: text.encode("utf-8", "replace")
)
MARKUP = re.compile(r"__eou__|_comma_|hit:\d+_conv:\d+|__ ?SILENCE ?__|[()\[\]]")


def back(folder, form, texts):
    name, writer = WRITERS[form]
    path = folder / name
    path.write_bytes(writer(texts).encode("utf-8"))
    assert form_of(path) == form
    return [turn.text for d in read_dialogues(path) for turn in d.turns]


@pytest.mark.parametrize("form", sorted(WRITERS))
@settings(max_examples=40)
@given(text=st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_any_text_leaves_the_other_turns_alone(tmp_path_factory, form, text):
    if MARKUP.search(text):
        text = MARKUP.sub("", text)
    first, middle, last, *_ = back(
        tmp_path_factory.getbasetemp(), form, ["안녕 🌸", f"<{text}>", "last"]
    )
    assert (first, last) == ("안녕 🌸", "last")
    assert "".join(middle.split()) == "".join(f"<{text}>".split())


@pytest.mark.parametrize("form", sorted(WRITERS))
def test_ten_thousand_words_in_a_turn(tmp_path, form):
    long = " ".join(f"word{n} 조{n}" for n in range(10_000))
    assert back(tmp_path, form, ["a", long, "b"])[:3] == ["a", long, "b"]


@pytest.mark.parametrize("form", sorted(set(READERS) - {"dataset"}))
@settings(max_examples=40)
@given(content=ANY_BYTES)
def test_any_bytes_are_read_or_told_by_every_reader(tmp_path_factory, form, content):
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_bytes(content)
    try:
        assert read_dialogues(path, form=form)
    except UserError as error:
        assert str(path) in str(error)
