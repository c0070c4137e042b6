"""Summaries that a model of the user's makes: those of plain `generate`, of what comes before the
turn that the generator sees, and of nothing else."""

import re
from types import SimpleNamespace

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from rlhf_dialog.dialogues.examples import make_examples
from rlhf_dialog.dialogues.schema import Dialogue, Turn
from rlhf_dialog.errors import UserError
from rlhf_dialog.generators.form_checks import require_what_is_read
from rlhf_dialog.generators.input_forms import use_input_form
from rlhf_dialog.generators.prompts import build_prompt
from rlhf_dialog.generators.summaries import load_summarizer, spoken, with_summaries
from rlhf_dialog.settings import GeneratorSettings
from tests.conftest import SENTENCES, attentive

TASK = {
    "prefix": "sum up : ",
    "num_beams": 2,
    "no_repeat_ngram_size": 2,
    "min_length": 56,  # of news, as models for it have it: more than `summary_tokens`
    "max_length": 200,
    "num_return_sequences": 2,
}
LINES = [f"{'ab'[n % 2]}: {SENTENCES[n % 6]}" for n in range(12)]
TEXTS = ["\n".join(LINES[first : first + 1 + first % 3]) for first in range(10)] + [LINES[2]]


@pytest.fixture
def generator(make_generator):
    made = make_generator("gpt2")
    use_input_form(made, "summary")
    return made


@pytest.fixture
def folder(make_generator, tmp_path):
    """A summarisation model as published: settings for the task in its configuration."""

    def save(family):
        made = attentive(make_generator(family, sharp=True))
        made.model.config.task_specific_params = {"summarization": TASK}
        made.save(tmp_path / family)
        return str(tmp_path / family)

    return save


def one_by_one(folder, texts):
    """The oracle: transformers alone, with the pipelines' prefix and settings, no batch."""
    model = AutoModelForSeq2SeqLM.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    for text in texts:
        ids = torch.tensor([tokenizer(TASK["prefix"] + text)["input_ids"]])
        given = {key: TASK[key] for key in ("num_beams", "no_repeat_ngram_size")}
        found = model.generate(ids, max_new_tokens=7, min_length=3, do_sample=False, **given)
        yield " ".join(tokenizer.decode(found[0], skip_special_tokens=True).split())


@pytest.mark.parametrize("family", ["bart", "t5"])
def test_the_summaries_are_those_of_generate(generator, folder, family, monkeypatch):
    path = folder(family)
    summarizer = load_summarizer(generator, GeneratorSettings(summarizer=path, summary_tokens=7))
    monkeypatch.setattr("rlhf_dialog.generators.summaries.BATCH", 4)
    asked = []
    generate = summarizer.model.generate
    monkeypatch.setattr(
        summarizer.model,
        "generate",
        lambda **given: (asked.append(given["attention_mask"].sum(1).tolist()), generate(**given))[
            1
        ],
    )
    fitting = TEXTS if family == "t5" else [t for t in TEXTS if len(summarizer._ids([t])) <= 64]
    assert len(fitting) > 4
    made = summarizer.shared(fitting)
    assert made == list(one_by_one(path, fitting)) and len(set(made)) > 1
    lengths = [n for batch in asked for n in batch]
    assert lengths == sorted(lengths, reverse=True) and len(lengths) == len(set(fitting))
    assert summarizer(fitting[::-1]) == made[::-1] and len(asked) == -(-len(set(fitting)) // 4)


def test_a_long_text_loses_its_oldest_lines_and_keeps_the_prefix(generator, folder):
    summarizer = load_summarizer(generator, GeneratorSettings(summarizer=folder("bart")))
    tokenizer = summarizer.tokenizer

    def ids(lines):
        return tokenizer(TASK["prefix"] + "\n".join(lines))["input_ids"]

    fits = next(n for n in range(len(LINES)) if len(ids(LINES[n:])) <= 64)
    assert 0 < fits < len(LINES)
    assert summarizer._encode("\n".join(LINES)) == ids(LINES[fits:])
    word = "tide " * 100
    assert summarizer._encode(f"{LINES[0]}\n{word}") == ids([word])[:64]


def told(*lines):
    return Dialogue("d", tuple(Turn(*line.split(": ", 1)) for line in lines))


def test_only_what_the_generator_does_not_see_is_summarised(generator):
    dialogue = told("Ann: a1", "Bob: b1", "bob: b2", "Ann: a2", "Cid: c1", "Ann: a3", "Ann: a4")
    turns = list(dialogue.turns)
    turns[4] = Turn("Cid", "c1", summary="of the data")
    texts = []

    def summarise(asked):
        texts.extend(asked)
        return [f"sum{n}" for n, _ in enumerate(asked)]

    (filled,) = with_summaries([Dialogue("d", tuple(turns))], summarise)
    assert texts == ["Ann: a1", "Ann: a1\nBob: b1 b2\nAnn: a2"]
    examples = make_examples([filled])
    got = [(e.context[-1], e.context.summary, e.reply) for e in examples]
    assert got == [
        ("a1", "", "b1 b2"),
        ("b1 b2", "sum0", "a2"),
        ("a2", "of the data", "c1"),
        ("c1", "sum1", "a3 a4"),
    ]
    encode = generator.encode
    vocabulary = generator.tokenizer.get_vocab()
    bos, sp1, sp2 = generator.tokenizer.bos_token_id, vocabulary["<sp1>"], vocabulary["<sp2>"]
    prompt = build_prompt(generator, examples[3].context, 99)
    assert prompt.ids == [bos, sp1, *encode("sum1"), sp2, *encode("c1"), sp1]
    assert with_summaries([dialogue]) == [dialogue]


def test_what_lies_far_back_is_left_out():
    turns = [("Ann", f"{n} {'x' * 1000}") for n in range(10_000)]
    text = spoken(turns)
    assert 16_384 < len(text) < 18_000 and text.endswith(turns[-1][1])
    assert text.startswith("Ann: 99")


@pytest.mark.parametrize(
    ("what", "sentence"),
    [
        ("gpt2", "is a gpt2, no encoder-decoder; give a sequence-to-sequence"),
        ("nobody/nothing", "--summarizer nobody/nothing: cannot be loaded"),
        ("no weights", "cannot be loaded"),
        ("too short", "summary_tokens: 65 is more than the 64 tokens that"),
    ],
)
def test_what_is_no_summarizer_is_told(generator, make_generator, folder, tmp_path, what, sentence):
    name, tokens = what, 7
    if what == "gpt2":
        make_generator("gpt2").save(tmp_path / "gpt2")
        name = str(tmp_path / "gpt2")
    elif what == "no weights":
        name = folder("bart")
        (tmp_path / "bart/model.safetensors").unlink()
    elif what == "too short":
        name, tokens = folder("bart"), 65
    settings = GeneratorSettings(summarizer=name, summary_tokens=tokens)
    with pytest.raises(UserError, match=re.escape(sentence)) as raised:
        load_summarizer(generator, settings)
    assert "\n" not in str(raised.value)


def test_a_summarizer_that_nobody_would_read_is_told(make_generator):
    with pytest.raises(UserError, match="reads the form 'dialogpt', which has no summary"):
        load_summarizer(make_generator("gpt2"), GeneratorSettings(summarizer="any"))
    with pytest.raises(UserError, match="a reverse model reads no summaries"):
        GeneratorSettings(summarizer="any", warm_start_reverse=True)


def test_dialogues_too_short_for_a_summary_are_told():
    pairs, longer = [told("A: a", "B: b")], [told("A: a", "B: b", "A: c")]
    named = SimpleNamespace(input_form="summary", summarizer="any")
    require_what_is_read(longer, named, "file")
    with pytest.raises(UserError, match="no dialogue of file has three turns"):
        require_what_is_read(pairs, named, "file")
    with pytest.raises(UserError, match=r"has one; add it .*, name a summarizer, or choose"):
        require_what_is_read(longer, SimpleNamespace(input_form="summary", summarizer=None), "file")
