"""Every source in its own form, and what is told when it is wrong."""

import json
import re

import datasets
import pytest

from rlhf_dialog.dialogues.examples import make_examples
from rlhf_dialog.dialogues.readers import ReadLog, iter_dialogues, read_dialogues
from rlhf_dialog.dialogues.schema import Context
from rlhf_dialog.errors import UserError
from tests.dialogues.sources import (
    BLENDED_JSON,
    BLENDED_ROW,
    EMPATHETIC,
    PERSONA_JSON,
    PERSONA_TEXT,
    lines,
)


def write(folder, name, content):
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def read(folder, name, content, **options):
    """(dialogues, log) of a file whose form is found by itself."""
    log = ReadLog()
    return list(iter_dialogues(write(folder, name, content), log=log, **options)), log


def said(dialogue):
    return [(turn.speaker, turn.text) for turn in dialogue.turns]


def test_korean_pairs(tmp_path):
    content = (
        'Q,A,label\n12시 땡!,하루가 또 가네요.,0\n"가, ""나""",네.,1\n ,네.,1\n"두\n줄",네.,2\n'
    )
    dialogues, log = read(tmp_path, "ChatbotData.csv", content)
    assert [said(d) for d in dialogues] == [
        [("user", "12시 땡!"), ("bot", "하루가 또 가네요.")],
        [("user", '가, "나"'), ("bot", "네.")],
        [("user", "두 줄"), ("bot", "네.")],
    ]
    assert [d.line for d in dialogues] == [2, 3, 5] and dialogues[0].id == "ChatbotData-000002"
    assert log.dropped == {"pairs with an empty side": 1}


def test_tab_separated_pairs_have_no_quotes_and_named_columns(tmp_path):
    ((first, second), _) = read(tmp_path, "a.tsv", 'She said "no\twhy?\n"quoted ""it"""\tbye\n')
    assert said(first)[0][1] == 'She said "no' and said(second)[0][1] == 'quoted "it"'
    content = "id,reply,text\n1,yes,ready?\n"
    ((pair,), _) = read(tmp_path, "b.csv", content, columns=["text", "reply"])
    assert said(pair) == [("user", "ready?"), ("bot", "yes")]


def test_outer_quotes_belong_to_a_text_that_has_a_lone_one_inside(tmp_path):
    ((pair,), _) = read(tmp_path, "a.tsv", '"Hi," she said, "bye"\t"say ""it"""\n')
    assert said(pair) == [("user", '"Hi," she said, "bye"'), ("bot", 'say "it"')]


@pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
def test_the_header_is_the_first_row_and_not_the_first_line(tmp_path, name):
    def rows(*cells):
        return "\n" + "".join(",\t"[name == "a.tsv"].join(row) + "\n" for row in cells)

    ((pair,), _) = read(tmp_path, name, rows(("Q", "A"), ("ready?", "yes")))
    assert said(pair) == [("user", "ready?"), ("bot", "yes")] and pair.line == 3
    named = rows(("id", "reply", "text"), ("1", "yes", "ready?"))
    ((pair,), _) = read(tmp_path, name, named, columns=["text", "reply"])
    assert said(pair) == [("user", "ready?"), ("bot", "yes")]


def test_a_missing_column_ends_the_reading_even_of_a_log_that_goes_on(tmp_path):
    path = write(tmp_path, "a.csv", "id,text\n1,ready?\n")
    told = re.escape(f'{path}, line 1: there is no column "reply"; the columns are id, text')
    with pytest.raises(UserError, match=told):
        list(iter_dialogues(path, columns=["text", "reply"], log=ReadLog(keep_going=True)))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("dialogues_text.txt", "Hi . __eou__ Oh , hello ! __eou__ Bye . __eou__\n"),
        ("dialogues_text.txt", "Hi . __eou__ Oh , hello ! __eou__ Bye .\n"),
        (
            "train.json",  # ParlAI's, JSON lines under this suffix
            lines(
                {
                    "fold": "train",
                    "topic": "ordinary_life",
                    "dialogue": [
                        {"emotion": "no_emotion", "act": "inform", "text": text}
                        for text in ("Hi .", "Oh , hello !", "Bye .")
                    ],
                }
            ),
        ),
        (
            "rows.jsonl",
            lines({"dialog": ["Hi .", "Oh , hello !", "Bye ."], "act": [2, 2, 1], "emotion": []}),
        ),
    ],
)
def test_daily_dialog(tmp_path, name, content):
    (dialogue,), _ = read(tmp_path, name, content)
    assert said(dialogue) == [("A", "Hi ."), ("B", "Oh , hello !"), ("A", "Bye .")]
    assert dialogue.split == ("train" if name == "train.json" else "")


def test_an_empty_utterance_keeps_the_speakers_in_step(tmp_path):
    (dialogue,), log = read(tmp_path, "d.txt", "a __eou__ __eou__ b __eou__\n")
    assert said(dialogue) == [("A", "a"), ("A", "b")] and log.dropped == {"empty turns": 1}


def test_empathetic_dialogues(tmp_path):
    (won, lost), log = read(tmp_path, "valid.csv", EMPATHETIC)
    assert said(won) == [
        ("speaker", "I won, at last!"),
        ("listener", "Well done."),
        ("speaker", "Thank you."),
    ]
    assert (won.id, won.split, won.line) == ("hit:0_conv:1", "valid", 2)
    assert won.turns[1].distractors == ("Oh no.", "Well done.|")
    assert said(lost) == [("speaker", "I lost.")]
    assert log.dropped == {"utterances that hold the id of a conversation": 1}


def test_persona_chat_as_text(tmp_path):
    (bees, song), log = read(tmp_path, "valid_self_original.txt", PERSONA_TEXT)
    assert said(bees) == [
        ("partner", "hi , how are you ?"),
        ("self", "fine , thank you ."),
        ("partner", "any hobbies ?"),
        ("self", "bees ."),
    ]
    assert bees.personas == {
        "self": ("i keep bees.", "i am 67."),
        "partner": ("i ride a bike.",),
    }
    assert bees.turns[1].distractors == ("no .", "me too") and bees.split == "valid"
    assert said(song) == [("self", "hello !"), ("partner", "hello to you")]
    assert log.dropped == {"marks of silence": 1} and song.line == 6


def test_persona_chat_as_json(tmp_path):
    (bees, song), log = read(tmp_path, "personachat_self_original.json", PERSONA_JSON)
    assert said(bees) == [
        ("partner", "hi , you"),
        ("self", "fine ."),
        ("partner", "hobbies ?"),
        ("self", "bees ."),
    ]
    assert [t.distractors for t in bees.turns] == [(), ("no .", "me too"), (), ("cars ?",)]
    assert said(song) == [("self", "hello !")] and (bees.split, song.split) == ("train", "valid")
    assert log.dropped == {"marks of silence": 1}
    example = make_examples([bees], character="self", max_turns=5)[1]
    assert example.context == ("hi , you", "fine .", "hobbies ?")
    assert isinstance(example.context, Context)
    assert example.context.persona == ("i keep bees .", "i am 67 .")
    assert (example.reply, example.distractors) == ("bees .", ("cars ?",))


@pytest.mark.parametrize(("name", "content"), [("b.json", BLENDED_JSON), ("b.jsonl", None)])
def test_blended_skill_talk(tmp_path, name, content):
    (dialogue,), log = read(tmp_path, name, content or lines(BLENDED_ROW))
    expected = [
        ("free", "Do you like honey?"),
        ("guided", "I make it."),
        ("free", "How?"),
        ("guided", "With bees."),
        ("free", "I see."),
    ]
    assert said(dialogue)[:5] == expected
    assert dialogue.persona_of("guided") == ("i keep bees.", "i am 67.")
    if content:
        assert said(dialogue)[5] == ("guided", "Come and look!")
        assert dialogue.turns[3].distractors == ("With cars.",)
        assert dialogue.turns[5].distractors == ("No.",)
    else:
        assert log.dropped == {"empty turns": 1}


def message(role, content):
    return {"role": role, "content": content}


@pytest.mark.parametrize(
    "record",
    [
        {"messages": [message("user", "Hi!"), message("assistant", "Hello.")]},
        {"prompt": "Hi!", "completion": "Hello."},
        {"prompt": [message("user", "Hi!")], "completion": [message("assistant", "Hello.")]},
        {"conversations": [{"from": "human", "value": "Hi!"}, {"from": "gpt", "value": "Hello."}]},
        {"prompt": "Hi!", "messages": [message("user", "Hi!"), message("assistant", "Hello.")]},
        {
            "messages": [
                message("user", [{"type": "text", "text": "Hi!"}, {"type": "image"}]),
                message("assistant", None),
                message("assistant", "Hello."),
            ]
        },
    ],
)
def test_trl_forms(tmp_path, record):
    (dialogue,), log = read(tmp_path, "rows.jsonl", lines(record))
    assert said(dialogue) == [("user", "Hi!"), ("assistant", "Hello.")]
    dropped = "image" in json.dumps(record)
    expected = {"parts of messages that are no text": 1, "messages without text": 1}
    assert log.dropped == (expected if dropped else {})


def test_a_system_message_is_the_persona_of_the_assistant(tmp_path):
    record = {"messages": [message("system", "You keep bees."), message("user", "Hi!")]}
    (dialogue,), _ = read(tmp_path, "rows.jsonl", lines(record))
    assert dialogue.persona_of("assistant") == ("You keep bees.",)


def test_our_own_lines_keep_persona_candidates_summary_and_split(tmp_path):
    reply = {"speaker": "Bob", "text": "Yes.", "candidates": ["No.", "Yes."]}
    turns = [{"speaker": "Ann", "text": "Hi!"}, {**reply, "summary": "They met."}]
    record = {"turns": turns, "persona": {"Bob": ["I sail."]}, "split": "validation"}
    (dialogue,), _ = read(tmp_path, "own.jsonl", lines(record))
    (example,) = make_examples([dialogue])
    assert (example.context.persona, example.context.summary) == (("I sail.",), "They met.")
    assert example.distractors == ("No.",) and dialogue.split == "valid"


ROWS = [
    {"question": "Hi!", "answer": "Hello.", "who": "x", "about": "I sail.", "sum": "They met."},
    {"question": "Tea?", "answer": "  ", "who": "x", "about": "I sail.", "sum": ""},
]


def test_a_dataset_by_its_columns(tmp_path):
    folder = tmp_path / "rows"
    folder.mkdir()
    datasets.Dataset.from_list(ROWS).to_parquet(folder / "train-00000.parquet")
    datasets.Dataset.from_list(ROWS[:1]).to_parquet(folder / "test-00000.parquet")
    columns = ["context=question", "reply=answer", "persona=about", "summary=sum"]
    log = ReadLog()
    dialogues = list(iter_dialogues(folder, columns=columns, log=log))
    assert [(d.id, d.split) for d in dialogues] == [
        ("train-000001", "train"),
        ("train-000002", "train"),
        ("test-000001", "test"),
    ]
    assert said(dialogues[0]) == [("user", "Hi!"), ("bot", "Hello.")]
    assert dialogues[0].persona_of("bot") == ("I sail.",)
    assert dialogues[0].turns[1].summary == "They met." and log.dropped == {"empty turns": 1}
    for wrong, told in (
        (["context=ask"], 'no column "ask"; the columns are question'),
        (["contxt=question"], '"contxt" is no field'),
        (["question"], "write field=column"),
        (["text=question"], 'map "dialogue_id"'),
        (None, "map them, for example context=question"),
    ):
        with pytest.raises(UserError, match=re.escape(told)):
            read_dialogues(folder, columns=wrong)


def test_a_saved_dataset_of_one_turn_a_row_and_of_known_columns(tmp_path):
    rows = [
        {"conv": c, "utterance": t, "by": b}
        for c, t, b in [(1, "Hi!", 5), (1, "Hello.", 6), (2, "Tea?", 5)]
    ]
    datasets.Dataset.from_list(rows).save_to_disk(tmp_path / "saved")
    columns = ["text=utterance", "dialogue_id=conv", "speaker=by"]
    first, second = read_dialogues(tmp_path / "saved", columns=columns)
    assert said(first) == [("5", "Hi!"), ("6", "Hello.")] and (first.id, second.id) == ("1", "2")
    splits = datasets.DatasetDict({"test": datasets.Dataset.from_list([{"dialog": ["a", "b"]}])})
    splits.save_to_disk(tmp_path / "daily")
    (daily,) = read_dialogues(tmp_path / "daily")
    assert said(daily) == [("A", "a"), ("B", "b")] and daily.split == "test"


def test_candidates_and_summaries_of_one_turn_a_row_are_those_of_their_turns(tmp_path):
    rows = [
        {"conv": "a", "said": "Hi!", "others": [], "sum": ""},
        {"conv": "a", "said": "Hello.", "others": ["No.", "Hello."], "sum": "They met."},
        {"conv": "a", "said": "Tea?", "others": ["Sea?"], "sum": None},
    ]
    datasets.Dataset.from_list(rows).save_to_disk(tmp_path / "saved")
    columns = ["text=said", "dialogue_id=conv", "candidates=others", "summary=sum"]
    (dialogue,) = read_dialogues(tmp_path / "saved", columns=columns)
    assert [t.distractors for t in dialogue.turns] == [(), ("No.",), ("Sea?",)]
    assert [t.summary for t in dialogue.turns] == ["", "They met.", ""]


def test_a_folder_may_have_an_at_sign_in_its_name(tmp_path):
    folder = tmp_path / "rows@home"
    folder.mkdir()
    datasets.Dataset.from_list([{"dialog": ["a", "b"]}]).to_parquet(folder / "train.parquet")
    (dialogue,) = read_dialogues(folder)
    assert said(dialogue) == [("A", "a"), ("B", "b")]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("train.jsonl", b'{"question": "Hi!", "answer": "Hello."}\n{"question": oops\n'),
        ("train.csv", "question,answer\nHi!,Hello.\nTea?,Grüße\n".encode("latin-1")),
    ],
)
def test_a_broken_file_of_a_streamed_folder_is_told_in_one_sentence(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_dialogues(tmp_path, columns=["context=question", "reply=answer"])
    told = str(caught.value)
    assert (
        told.startswith(f'{tmp_path}: the files of "train" cannot be read (') and "\n" not in told
    )


@pytest.mark.parametrize("field", ["persona", "candidates", "summary"])
def test_a_mapped_column_of_numbers_is_told_in_one_sentence(tmp_path, field):
    datasets.Dataset.from_list([{"q": "Hi!", "a": "Hello.", "n": 3}]).save_to_disk(tmp_path / "d")
    with pytest.raises(UserError, match=rf'row 1 of "train": field "{field}" is of type int; make'):
        read_dialogues(tmp_path / "d", columns=["context=q", "reply=a", f"{field}=n"])


def test_blank_lines_before_the_json_mean_nothing(tmp_path):
    (dialogue,), _ = read(tmp_path, "x.json", "\n" * 150 + lines({"dialog": ["a", "b"]}))
    assert said(dialogue) == [("A", "a"), ("B", "b")]


def test_an_id_that_cannot_be_loaded_names_one_that_can():
    with pytest.raises(UserError, match=r"give li2017dailydialog/daily_dialog@refs/convert"):
        read_dialogues("nobody/daily_dialog")


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.csv", "Q,A\nonly one\n", "line 2: 1 column instead of at least 2; write"),
        ("a.csv", 'Q,A\nfine,yes\n"open,yes\nmore\n', "line 3: the quotes of this row"),
        ("a.csv", "Q,A\n", "no row holds two texts; write"),
        ("d.txt", "a __eou__ b __eou__\nno mark\n", "line 2: there is no __eou__; write"),
        ("d.jsonl", '{"dialog": "a"}\n', 'line 1: field "dialog" is missing or no list; make'),
        ("d.jsonl", '{"dialog": [1]}\n', 'line 1: field "dialog" holds something'),
        ("e.csv", EMPATHETIC + "x,1,sad,a,b\n", "line 7: 5 columns instead of 8 or 9; write a"),
        ("p.txt", PERSONA_TEXT + "no number\n", 'line 9: "no number" does not begin with a number'),
        ("p.json", {"train": {"personality": 1}}, 'field "train" is of type dict; make it a list'),
        (
            "p.json",
            {"train": [{"personality": [], "utterances": [{"history": ["a"]}]}]},
            'dialogue 1 of "train": in utterance 1, field "candidates" is missing',
        ),
        ("p.json", '{"train":\n[{"personality": oops}]}', "line 2: broken JSON at column 18"),
        ("b.json", [{"dialog": [[0, "a"]]}], 'episode 1: field "personas" is missing'),
        ("b.json", [{"dialog": ["a"]}], 'episode 1: field "dialog" is missing or not the list'),
        (
            "b.jsonl",
            lines(BLENDED_ROW | {"label_candidates": 3}),
            'line 1: field "label_candidates" is missing or not the list',
        ),
        ("m.jsonl", '{"messages": []}\n', 'line 1: field "messages" is missing, empty or no list'),
        ("m.jsonl", '{"messages": ["hi"]}\n', 'in message 1 of field "messages", a value of type'),
        ("m.jsonl", lines({"messages": [{"content": "a"}]}), 'field "role" is missing or no str'),
        ("m.jsonl", lines({"prompt": "a", "completion": 5}), 'line 1: field "completion" is miss'),
        (
            "j.jsonl",
            lines({"turns": [{"speaker": "A", "text": "a"}], "persona": ["I sail."]}),
            'line 1: field "persona" is of type list; make it an object',
        ),
        ("x.json", '{"what": 1}', "the JSON has none of the known forms; give"),
    ],
)
def test_what_is_wrong_is_told_with_file_place_field_and_remedy(tmp_path, name, content, told):
    path = write(tmp_path, name, content)
    with pytest.raises(UserError) as caught:
        read_dialogues(path)
    message = str(caught.value)
    assert message.startswith(str(path)) and told in message and "\n" not in message


def test_a_form_can_be_named(tmp_path):
    path = write(tmp_path, "play.dat", "ANN: Hi!\n")
    (dialogue,) = read_dialogues(path, form="transcript")
    assert said(dialogue) == [("ANN", "Hi!")]
    with pytest.raises(UserError, match='the form "play" is unknown; give one of jsonl'):
        read_dialogues(path, form="play")
    with pytest.raises(UserError, match='the form "transcript" has no columns'):
        read_dialogues(path, form="transcript", columns=["a", "b"])


def test_a_log_that_goes_on_notes_every_mistake(tmp_path):
    content = lines({"turns": [{"speaker": "A", "text": "a"}]}) + "{oops\n" + lines({}) + "\n"
    log = ReadLog(keep_going=True)
    path = write(tmp_path, "j.jsonl", content)
    assert len(list(iter_dialogues(path, log=log))) == 1 and log.wrong == 2
    assert [p.split(":")[0] for p in log.problems] == [f"{path}, line {n}" for n in (2, 3)]
