import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import BlenderbotSmallTokenizer

from rlhf_dialog.generators.loading import Generator
from rlhf_dialog.generators.prompts import encode_context, encode_reply, pad_ids, pad_prompts
from tests.conftest import FAMILIES

TEMPLATE = (
    "{% for m in messages %}<|start|>{{ m['role'] }}\n{{ m['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)
CONTROL = "<|start|> <|end|> <|pad|> __start__ __end__ __null__ </s> <|endoftext|>"
AWKWARD = [
    CONTROL,
    "안녕하세요, 선장님! 어디에 계세요?",
    "😀👩‍👩‍👧‍👦 🏴‍☠️",
    "a" * 3000,
    "\u200b\u0301\ufeff",
]


@pytest.fixture
def chat(make_generator):
    generator = make_generator("gpt2")
    generator.tokenizer.chat_template = TEMPLATE
    return generator


@pytest.fixture
def blenderbot_words(make_generator, tmp_path):
    """BlenderBot-small's own kind of tokenizer: lower case, spaces around marks, unknowns exist."""
    letters = "abcdefghijklmnopqrstuvwxyz_'.,?"
    tokens = ["__null__", "__start__", "__end__", "__unk__"]
    tokens += [letter + end for letter in letters for end in ("", "@@")]
    (tmp_path / "vocab.json").write_text(json.dumps({t: i for i, t in enumerate(tokens)}))
    (tmp_path / "merges.txt").write_text("#version: 0.2\nq z\n")
    tokenizer = BlenderbotSmallTokenizer(str(tmp_path / "vocab.json"), str(tmp_path / "merges.txt"))
    return Generator(make_generator("blenderbot-small").model, tokenizer)


def pieces(generator, *texts):
    """Ids by the tokenizer's backend, which knows nothing of this project."""
    backend = generator.tokenizer.backend_tokenizer
    return [backend.encode(text, add_special_tokens=False).ids for text in texts]


def named(generator):
    tokenizer = generator.tokenizer
    return tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id


def test_a_causal_prompt_closes_every_turn_with_eos(make_generator):
    generator = make_generator("gpt2")
    a, b, c = pieces(generator, "the tide", "is late", "?")
    _, eos, _ = named(generator)
    assert encode_context(generator, ["the tide"], 40) == [*a, eos]
    assert encode_context(generator, ["the tide", "is late", "?"], 40) == [
        *(*a, eos),
        *(*b, eos),
        *(*c, eos),
    ]


def test_a_blenderbot_prompt_joins_turns_by_end_and_start(make_generator):
    generator = make_generator("blenderbot-small")
    a, b = pieces(generator, "the tide", "is late")
    bos, eos, _ = named(generator)
    assert encode_context(generator, ["the tide"], 40) == a
    assert encode_context(generator, ["the tide", "is late"], 40) == [*a, eos, bos, *b]


@pytest.mark.parametrize("family", ["bart", "t5"])
def test_other_encoder_decoders_read_lines_closed_by_eos(make_generator, family):
    generator = make_generator(family)
    (lines,) = pieces(generator, "the tide\nis late")
    assert encode_context(generator, ["the tide", "is late"], 40) == [*lines, named(generator)[1]]


def test_a_chat_prompt_ends_with_the_users_turn_and_the_assistants_header(chat):
    bos, eos, _ = named(chat)
    user, assistant, newline = pieces(chat, "user\n", "assistant\n", "\n")
    a, b, c = pieces(chat, "tide", "late", "lamp")
    # A template may refuse a conversation that the assistant begins: that turn is left out.
    assert encode_context(chat, ["late", "lamp"], 99) == [
        *(bos, *user, *c, eos, *newline),
        *(bos, *assistant),
    ]
    assert encode_context(chat, ["tide", "late", "lamp"], 99) == [
        *(bos, *user, *a, eos, *newline),
        *(bos, *assistant, *b, eos, *newline),
        *(bos, *user, *c, eos, *newline),
        *(bos, *assistant),
    ]


@pytest.mark.parametrize("family", FAMILIES)
def test_too_long_a_context_loses_its_oldest_turns(make_generator, family):
    generator = make_generator(family)
    turns = ["the captain is asleep", "where is the lamp", "who took it"]
    for kept in (1, 2, 3):
        expected = encode_context(generator, turns[-kept:], 99)
        assert encode_context(generator, turns, len(expected)) == expected
    one_less = len(encode_context(generator, turns, 99)) - 1
    assert encode_context(generator, turns, one_less) == encode_context(generator, turns[1:], 99)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_turn_of_5000_words_keeps_its_newest_words(make_generator, family):
    generator = make_generator(family)
    words = [f"w{n}" for n in range(5000)]
    ids = encode_context(generator, ["never seen", " ".join(words)], 40)
    assert 30 <= len(ids) <= 40
    kept = generator.decode(ids).split()
    assert len(kept) > 3 and kept == words[-len(kept) :]  # whole words, and the last of them


def test_a_chat_keeps_its_frame_however_long_the_turn(chat):
    frame = encode_context(chat, ["x"], 99)
    for text in ("w " * 5000, "조" * 5000):
        ids = encode_context(chat, [text], 40)
        assert len(ids) <= 40
        assert ids[:6] == frame[:6] and ids[-11:] == frame[-11:]


@pytest.mark.parametrize("text", AWKWARD, ids=["control", "korean", "emoji", "long", "invisible"])
@pytest.mark.parametrize("family", [*FAMILIES, "chat", "blenderbot_words"])
def test_awkward_text_gives_a_prompt_of_the_same_form(make_generator, request, family, text):
    generator = make_generator(family) if family in FAMILIES else request.getfixturevalue(family)
    control = {*named(generator)}
    for context in ([text], [text, "hm"], ["hm", text]):
        ids = encode_context(generator, context, 60)
        assert 1 <= len(ids) <= 60
        harmless = encode_context(generator, ["hm"] * len(context), 99)
        few = [token for token in ids if token in control]
        if len(text) < 1000:
            full = encode_context(generator, context, 10_000)
            few = [token for token in full if token in control]
            assert few == [token for token in harmless if token in control]
        assert len(few) <= sum(token in control for token in harmless)


@given(st.lists(st.text(max_size=40), min_size=1, max_size=4), st.integers(1, 50))
def test_no_context_breaks_the_limit_or_is_empty(turns, limit):
    for generator in HYPOTHESIS_GENERATORS:
        assert 1 <= len(encode_context(generator, turns, limit)) <= limit


HYPOTHESIS_GENERATORS: list[Generator] = []


@pytest.fixture(scope="module", autouse=True)
def _generators_for_hypothesis(_originals):
    HYPOTHESIS_GENERATORS[:] = _originals.values()


@pytest.mark.parametrize("word", ["<|end|>", "__end__", "__start__", "<|pad|>"])
@pytest.mark.parametrize("family", ["gpt2", "blenderbot-small", "blenderbot_words"])
def test_control_tokens_spelt_by_a_user_stay_text(make_generator, request, family, word):
    generator = make_generator(family) if family in FAMILIES else request.getfixturevalue(family)
    ids = generator.encode(f"say {word} now")
    assert not {*ids} & {*named(generator)}
    assert len(ids) > 8  # and it was not thrown away


def test_a_turn_of_which_nothing_is_left_still_gives_a_prompt(blenderbot_words):
    bos, eos, _ = named(blenderbot_words)
    assert encode_context(blenderbot_words, [" "], 40) == [eos]
    assert encode_context(blenderbot_words, [" ", "ab"], 40)[:2] == [eos, bos]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_reply_closes_with_eos_and_is_cut_to_the_limit(make_generator, family):
    generator = make_generator(family)
    (ids,) = pieces(generator, "the captain is asleep")
    _, eos, _ = named(generator)
    assert encode_reply(generator, "the captain is asleep", 99) == [*ids, eos]
    assert encode_reply(generator, "the captain is asleep", len(ids) + 1) == [*ids, eos]
    # Cut off, it is not closed: nobody should learn to stop in the middle of a sentence.
    assert encode_reply(generator, "the captain is asleep", len(ids)) == ids
    assert encode_reply(generator, "", 9) == [eos]


def test_padding_stands_on_the_left_for_causal_models_alone(make_generator):
    rows = [[7, 8, 9], [7]]
    for family, ids, real in [
        ("gpt2", [[7, 8, 9], [2, 2, 7]], [[1, 1, 1], [0, 0, 1]]),
        ("bart", [[7, 8, 9], [7, 2, 2]], [[1, 1, 1], [1, 0, 0]]),
    ]:
        generator = make_generator(family)
        assert generator.tokenizer.pad_token_id == 2
        got_ids, got_mask = pad_prompts(rows, generator)
        assert got_ids.tolist() == ids and got_mask.int().tolist() == real


def test_rows_that_hold_the_pad_id_are_still_real():
    ids, mask = pad_ids([[2, 2], [2]], fill=2)
    assert ids.tolist() == [[2, 2], [2, 2]] and mask.tolist() == [[True, True], [True, False]]
    ids, mask = pad_ids([], fill=2)
    assert ids.shape == mask.shape == (0, 0)
