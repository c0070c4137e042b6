"""Each form's token ids are those of the system it comes from; nobody spells a control token."""

import copy
import os
import re
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers
from transformers import AutoTokenizer, BlenderbotSmallTokenizer, PreTrainedTokenizerFast

from rlhf_dialog.dialogues.examples import make_examples
from rlhf_dialog.dialogues.schema import Context, Dialogue, Turn
from rlhf_dialog.errors import UserError
from rlhf_dialog.generators.input_forms import FORMS, input_form, use_input_form
from rlhf_dialog.generators.loading import Generator, load_generator
from rlhf_dialog.generators.prompts import build_prompt, build_prompts, encode_context, encode_reply

ROOT = Path(__file__).parents[2]
TOKENIZERS = Path(os.environ.get("RLHF_DIALOG_TOKENIZERS", "nowhere"))
PAGE = (ROOT / "docs" / "input_forms.md").read_text(encoding="utf-8")
CONTEXT = Context(
    ["Where is the tea?", "In the urn.", "Is it hot?"],
    persona=["i am a captain.", "i like biscuits."],
    summary="Nora looks for tea.",
)
SYSTEM_TEMPLATE = (
    "{% for m in messages %}<|start|>{{ m['role'] }}: {{ m['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant: {% endif %}"
)


def real_tokenizer(name, kind=AutoTokenizer):
    if not (TOKENIZERS / name).is_dir():
        pytest.skip(f"no tokenizer in {TOKENIZERS / name}; set RLHF_DIALOG_TOKENIZERS")
    return kind.from_pretrained(TOKENIZERS / name)


@pytest.fixture
def in_form(make_generator):
    def make(family, form):
        generator = make_generator("gpt2" if family == "chat" else family)
        if family == "chat":
            generator.tokenizer.chat_template = SYSTEM_TEMPLATE
        use_input_form(generator, form)
        return generator

    return make


def test_persona_gives_the_words_and_segments_of_the_transfer_transfo_article(make_generator):
    """The example that the article prints, with its own words as tokens."""
    printed = [
        ["<bos>", *["i", "like", "playing", "football", ".", "i", "am", "from", "NYC", "."]],
        ["<speaker1>", *["hello", "how", "are", "you", "?"]],
        ["<speaker2>", *["i", "am", "fine", "thanks", "."]],
        ["<speaker1>", *["great", "to", "hear"], "<eos>"],
    ]
    words = sorted({word for segment in printed for word in segment if not word.startswith("<")})
    special = ["<bos>", "<eos>", "<pad>", "<speaker1>", "<speaker2>"]
    vocabulary = {word: n for n, word in enumerate([*special, "<unk>", *words])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<bos>", eos_token="<eos>", pad_token="<pad>"
    )
    generator = Generator(make_generator("gpt2").model, tokenizer)
    use_input_form(generator, "persona")
    assert len(tokenizer) == len(vocabulary)  # the speakers are those that were there
    context = Context(
        ["hello how are you ?", "i am fine thanks ."],
        persona=["i like playing football .", "i am from NYC ."],
    )
    prompt = build_prompt(generator, context, 99)
    reply = encode_reply(generator, "great to hear", 99)
    ids = [*prompt.ids, *reply]
    types = [*prompt.token_types, *[prompt.reply_type] * len(reply)]
    assert tokenizer.convert_ids_to_tokens(ids) == [w for segment in printed for w in segment]
    # Segments by the parity of their place: persona, then the turns, then the reply.
    lengths = [len(segment) for segment in printed]
    expected = [f"<speaker{1 + n % 2}>" for n, length in enumerate(lengths) for _ in range(length)]
    assert tokenizer.convert_ids_to_tokens(types) == expected


def test_speakers_in_a_window_of_five_turns(in_form):
    """By hand, from the construction of gpt2-dialogue-generation: the window counts the reply, the
    reply is <sp2>'s, <bos> has the type of the first turn and <eos> that of the reply."""
    texts = ["one", "two", "three", "four", "five", "six"]
    turns = tuple(Turn("AB"[n % 2], text) for n, text in enumerate(texts))
    *_, example = make_examples([Dialogue("d", turns)], max_turns=4)
    generator = in_form("gpt2", "speakers")
    tokenizer = generator.tokenizer
    prompt = build_prompt(generator, example.context, 99)
    bos = tokenizer.bos_token_id
    sp1, sp2 = tokenizer.convert_tokens_to_ids(["<sp1>", "<sp2>"])
    two, three, four, five = (tokenizer.backend_tokenizer.encode(text).ids for text in texts[1:5])
    spoken = [(sp2, two), (sp1, three), (sp2, four), (sp1, five)]
    assert prompt.ids == [bos, *(t for sp, ids in spoken for t in (sp, *ids)), sp2]
    assert prompt.token_types == [
        sp2,
        *(sp for sp, ids in spoken for _ in (sp, *ids)),
        sp2,
    ]
    assert prompt.reply_type == sp2


def test_summary_and_the_last_utterance(in_form):
    generator = in_form("gpt2", "summary")
    sp1, sp2 = generator.tokenizer.convert_tokens_to_ids(["<sp1>", "<sp2>"])
    summary, last = (generator.encode(text) for text in (CONTEXT.summary, CONTEXT[-1]))
    bos = generator.tokenizer.bos_token_id
    prompt = build_prompt(generator, CONTEXT, 99)
    assert prompt.ids == [bos, sp1, *summary, sp2, *last, sp1]
    types = [sp1] * (2 + len(summary)) + [sp2] * (1 + len(last)) + [sp1]
    assert (prompt.token_types, prompt.reply_type) == (types, sp1)


def test_a_separator_after_every_utterance(in_form):
    for family, ends in (("gpt2", False), ("bart", True), ("t5", True)):
        generator = in_form(family, "separator")
        tokenizer = generator.tokenizer
        assert tokenizer.sep_token_id != tokenizer.eos_token_id
        turns = [t for text in CONTEXT for t in (*generator.encode(text), tokenizer.sep_token_id)]
        bos = tokenizer.bos_token_id
        expected = [*turns, bos] if ends else [bos, *turns]  # Meena's encoder has it last
        assert encode_context(generator, CONTEXT, 99) == expected


def test_real_dialogpt_ids(make_generator):
    """The model card's recipe: each turn encoded with EOS behind it, one after the other."""
    tokenizer = real_tokenizer("dialogpt")
    generator = Generator(make_generator("gpt2").model, tokenizer)
    generator.tokenizer.add_special_tokens({"pad_token": "<|pad|>"})
    turns = ["Does money buy happiness?", "Depends how much money you spend on it .", "안녕 🌸"]
    eos = tokenizer.eos_token
    expected = [token for turn in turns for token in tokenizer.encode(turn + eos)]
    assert encode_context(generator, turns, 128) == expected
    assert expected[:6] == [13921, 1637, 2822, 12157, 30, 50256]
    assert encode_reply(generator, "Money !", 9) == tokenizer.encode("Money !" + eos)


def test_real_blenderbot_small_ids(make_generator):
    """The second prompt of its documentation, whose control tokens are spelt in the text, and
    persona lines, whose line ends its tokenizer makes __newln__."""
    tokenizer = real_tokenizer("blenderbot_small", BlenderbotSmallTokenizer)
    generator = Generator(make_generator("blenderbot-small").model, tokenizer)
    turns = [
        "My friends are cool but they eat too many carbs.",
        "what kind of carbs do they eat? i don't know much about carbs",
        "I'm not sure.",
    ]
    expected = tokenizer("__end__ __start__".join(turns), add_special_tokens=False)["input_ids"]
    assert expected.count(tokenizer.eos_token_id) == 2
    assert encode_context(generator, turns, 128) == expected
    generator.model.config.input_form = "persona"
    lines = "your persona: i keep bees.\nyour persona: i am 67.\nhello!"
    spelt = tokenizer(lines, add_special_tokens=False)["input_ids"]
    context = Context(["hello!"], persona=["i keep bees.", "i am 67."])
    assert encode_context(generator, context, 128) == spelt
    assert spelt.count(tokenizer.convert_tokens_to_ids("__newln__")) == 2
    hostile = Context(["hello __newln__ __end__"], persona=["i __newln__ am"])
    ids = encode_context(generator, hostile, 128)
    assert ids.count(tokenizer.convert_tokens_to_ids("__newln__")) == 1
    assert tokenizer.eos_token_id not in ids


def test_a_template_that_knows_no_system_gets_the_persona_with_the_first_turn(in_form):
    generator = in_form("chat", "chat")
    refuses = (
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    )
    with_system = generator.decode(encode_context(generator, CONTEXT, 999))
    generator.tokenizer.chat_template = refuses + SYSTEM_TEMPLATE
    without = generator.decode(encode_context(generator, CONTEXT, 999))
    persona = "i am a captain. i like biscuits."
    assert with_system.startswith(f"system: {persona}user: Where")
    assert without.startswith(f"user: {persona} Where is the tea?assistant: In")


def test_a_chat_has_no_thought_that_somebody_typed(in_form):
    generator = in_form("chat", "chat")
    generator.tokenizer.add_tokens(["<think>"])  # not special, as in Qwen3 and DeepSeek-R1
    ids = encode_context(generator, Context(["a <think> b"], persona=["<think>"]), 999)
    assert generator.tokenizer.convert_tokens_to_ids("<think>") not in ids
    assert "think" not in generator.decode(ids)


@pytest.mark.parametrize("form", ["lines", "persona", "summary"])
def test_turns_are_parted_by_eos_where_the_tokenizer_loses_line_ends(in_form, form):
    """As T5's does: its normalizer makes a space of all white space."""
    generator = in_form("t5", form)
    backend = generator.tokenizer.backend_tokenizer
    backend.normalizer = normalizers.Replace(Regex(r"\s+"), " ")
    assert generator.encode("a\nb") == generator.encode("a b")
    parts = {
        "lines": [*CONTEXT],
        "persona": [*(f"your persona: {sentence}" for sentence in CONTEXT.persona), *CONTEXT],
        "summary": [CONTEXT.summary, CONTEXT[-1]],
    }[form]
    eos = generator.tokenizer.eos_token_id
    expected = [token for text in parts for token in (*backend.encode(text).ids, eos)]
    assert encode_context(generator, CONTEXT, 999) == expected
    one = Context([" ".join(CONTEXT)], CONTEXT.persona, CONTEXT.summary)
    assert encode_context(generator, one, 999) != expected


def test_the_page_shows_what_is_made(in_form):
    shown = re.findall(r"\| `([\w-]+)` \| (\w[\w-]*) \| `(.*)` \|\n", PAGE)
    families = {"causal": "gpt2", "T5": "t5", "BlenderBot-small": "blenderbot-small"}
    for form, whom, text in shown:
        generator = in_form(families.get(whom, whom), form)
        ids = build_prompt(generator, CONTEXT, 999).ids
        assert generator.tokenizer.decode(ids) == text.replace("⏎", "\n"), (form, whom)
    assert {form for form, _, _ in shown} == set(FORMS)


def test_a_form_is_saved_with_the_model_and_new_tokens_have_embeddings(in_form, tmp_path):
    generator = in_form("gpt2", "speakers")
    generator.save(tmp_path / "saved")
    loaded = load_generator(str(tmp_path / "saved"))
    assert input_form(loaded) == "speakers"
    prompt = build_prompt(loaded, CONTEXT, 99)
    assert prompt == build_prompt(generator, CONTEXT, 99)
    assert torch.isfinite(loaded.model(torch.tensor([prompt.ids])).logits).all()
    assert loaded.decode(prompt.ids) == "Where is the tea?In the urn.Is it hot?"


@pytest.mark.parametrize(
    ("family", "form", "told"),
    [
        ("gpt2", "speaker", "'speaker' is not known; choose one of dialogpt, speakers"),
        ("t5", "speakers", "'speakers' is for causal models; this one is t5"),
        ("gpt2", "chat", "'chat' is for causal models with a chat template; this one is gpt2"),
        (
            "bart",
            "blenderbot-small",
            "'blenderbot-small' is for BlenderBot-small; this one is bart",
        ),
    ],
)
def test_a_form_that_a_model_cannot_read_is_refused(make_generator, family, form, told):
    with pytest.raises(UserError, match=re.escape(f"input_form: {told}")):
        use_input_form(make_generator(family), form)


FAMILIES_OF_FORMS = [
    (family, form)
    for form, families in {
        "dialogpt": ["gpt2"],
        "speakers": ["gpt2"],
        "persona": ["gpt2", "blenderbot-small", "t5"],
        "separator": ["gpt2", "bart"],
        "summary": ["gpt2", "t5"],
        "blenderbot-small": ["blenderbot-small"],
        "chat": ["chat"],
        "lines": ["bart"],
    }.items()
    for family in families
]
SPELT = ["<|start|>", "<|end|>", "<|pad|>", "<sp1>", "<sp2>", "<speaker1>", "<speaker2>", "[SEPT]"]
ANY_TEXT = st.text(max_size=60) | st.lists(
    st.sampled_from([*SPELT, "__newln__", "your persona:", "\n", "\x00", "\ud800", "조", " a"])
).map("".join)


@pytest.fixture(scope="module")
def generators_in_form(_originals):
    """Every family in every form it has, made once."""
    made = {}
    for family, form in FAMILIES_OF_FORMS:
        original = _originals["gpt2" if family == "chat" else family]
        generator = Generator(copy.deepcopy(original.model), copy.deepcopy(original.tokenizer))
        if family == "chat":
            generator.tokenizer.chat_template = SYSTEM_TEMPLATE
        use_input_form(generator, form)
        made[family, form] = generator
    return made


@settings(max_examples=20, deadline=None)
@given(text=ANY_TEXT, limit=st.integers(12, 60))
def test_no_text_becomes_a_control_token_or_changes_another_turn(generators_in_form, text, limit):
    last = "where is the lamp"
    for (family, form), generator in generators_in_form.items():
        special = {t for t, a in generator.tokenizer.added_tokens_decoder.items() if a.special}

        def skeleton(*texts, persona=("i sail",), g=generator, special=special):
            ids = build_prompt(g, Context(texts, persona, "they met"), 10_000).ids
            return [token for token in ids if token in special]

        quiet = skeleton("hm", "hm", last)
        assert skeleton(text, "hm", last) == skeleton("hm", text, last) == quiet, (family, form)
        assert skeleton("hm", "hm", text) == quiet, (family, form)
        assert skeleton("hm", "hm", last, persona=(text,)) in (quiet, skeleton(*"aaa", persona=()))
        tail = generator.encode(last)
        ids = build_prompt(generator, Context([text, last], (text,), text), 10_000).ids
        places = [n for n in range(len(ids)) if ids[n : n + len(tail)] == tail]
        if form != "chat" and family not in ("t5", "bart"):  # whose turns are encoded together
            assert places and len(ids) - places[-1] - len(tail) <= 2, (family, form)
        short = build_prompt(generator, Context([text, text], (text,), text), limit)
        assert 1 <= len(short.ids) <= limit
        assert short.token_types is None or len(short.token_types) == len(short.ids)


@pytest.mark.parametrize("unknown", [None, "<|pad|>"])
def test_a_form_without_its_tokens_says_what_to_do(make_generator, unknown):
    generator = make_generator("gpt2")
    generator.model.config.input_form = "speakers"  # without `use_input_form`
    generator.tokenizer.unk_token = unknown
    with pytest.raises(UserError, match="no <sp1>; give the model this form with use_input_form"):
        encode_context(generator, CONTEXT, 99)


@pytest.mark.parametrize(("family", "form"), FAMILIES_OF_FORMS)
def test_contexts_together_are_what_each_is_alone(in_form, family, form):
    generator = in_form(family, form)
    contexts = [
        Context(["where is the lamp"], ("i sail", "i drink"), "they met"),
        Context(["a", "", "b c"]),
        Context([f"w{n}" for n in range(50)], ["i sail"]),  # too long
        Context(["no", "who ?"], summary="they met"),
    ]
    alone = [build_prompt(generator, context, 30) for context in contexts]
    assert build_prompts(generator, contexts, 30) == alone
    assert len({tuple(prompt.ids) for prompt in alone}) == len(contexts)
    assert build_prompts(generator, [], 30) == []


@pytest.mark.parametrize(("family", "form"), FAMILIES_OF_FORMS)
def test_ten_thousand_words_anywhere(in_form, family, form):
    generator = in_form(family, form)
    long = " ".join(f"w{n}" for n in range(10_000))
    ids = encode_context(generator, Context([long, "hm", long], [long], long), 40)
    assert 20 <= len(ids) <= 40 and "9999" in generator.decode(ids)
