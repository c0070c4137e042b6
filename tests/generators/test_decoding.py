"""Every way of decoding is that of `model.generate`; ranking is checked by hand."""

import math

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GPT2Config, PreTrainedTokenizerFast
from transformers.modeling_outputs import CausalLMOutput

from rlhf_dialog.dialogues.schema import Context
from rlhf_dialog.errors import UserError
from rlhf_dialog.generators.decoding import generate_replies
from rlhf_dialog.generators.input_forms import use_input_form
from rlhf_dialog.generators.loading import Generator
from rlhf_dialog.generators.prompts import build_prompt
from rlhf_dialog.generators.reranking import Candidate, LikelihoodScorer, MMIScorer, rank
from rlhf_dialog.settings import DecodingSettings

CONTEXTS = [
    Context(["where is the captain ?"], ["i sail ."]),
    Context(["not me .", "who took the lamp ?"], ["i am old ."]),
]
# how the settings say it, how transformers does
WAYS = [
    ({"decoding": "greedy"}, {"do_sample": False}),
    (
        {"decoding": "beam", "num_beams": 3, "returns": 2},
        {"do_sample": False, "num_beams": 3, "num_return_sequences": 2},
    ),
    ({"temperature": 0.6, "seed": 3}, {"do_sample": True, "temperature": 0.6, "top_k": 0}),
    ({"top_k": 3}, {"do_sample": True, "top_k": 3}),
    ({"top_p": 0.4, "returns": 3}, {"do_sample": True, "top_p": 0.4, "num_return_sequences": 3}),
    ({"repetition_penalty": 1.5}, {"do_sample": True, "repetition_penalty": 1.5}),
    (
        {"decoding": "greedy", "no_repeat_ngram": 2},
        {"do_sample": False, "no_repeat_ngram_size": 2},
    ),
]


@pytest.mark.parametrize("family", ["gpt2", "blenderbot-small", "t5"])
@pytest.mark.parametrize(("own", "theirs"), WAYS)
def test_options_agree_with_generate(make_generator, family, own, theirs):
    generator = make_generator(family, sharp=True)
    tokenizer = generator.tokenizer
    if family == "gpt2":
        use_input_form(generator, "persona")  # whose token types generation needs too
    generator.model.eval()
    settings = DecodingSettings(**own, response_length=10)
    before = torch.random.get_rng_state()
    got = generate_replies(generator, CONTEXTS, settings, context_length=40)
    assert torch.equal(before, torch.random.get_rng_state())

    prompts = [build_prompt(generator, context, 40) for context in CONTEXTS]
    side = "left" if family == "gpt2" else "right"
    names = ["input_ids", "token_type_ids"] if family == "gpt2" else ["input_ids"]
    width = max(len(prompt.ids) for prompt in prompts)
    inputs = {}
    for name, field in zip(names, ("ids", "token_types"), strict=False):
        rows = [torch.tensor(getattr(prompt, field)) for prompt in prompts]
        gaps = [(width - len(r), 0) if side == "left" else (0, width - len(r)) for r in rows]
        inputs[name] = torch.stack(
            [
                torch.nn.functional.pad(row, gap, value=tokenizer.pad_token_id)
                for row, gap in zip(rows, gaps, strict=True)
            ]
        )
    inputs["attention_mask"] = (inputs["input_ids"] != tokenizer.pad_token_id).long()
    torch.manual_seed(settings.seed)
    output = generator.model.generate(**inputs, **theirs, max_new_tokens=10)
    given = 1 if family != "gpt2" else width
    texts = [tokenizer.decode(row[given:], skip_special_tokens=True).strip() for row in output]
    assert [candidate.text for row in got for candidate in row] == texts
    assert all(candidate.score is None for row in got for candidate in row)


def test_the_seed_decides(make_generator):
    generator = make_generator("gpt2", sharp=True)
    replies = [
        generate_replies(
            generator, CONTEXTS, DecodingSettings(seed=seed, response_length=10), context_length=40
        )
        for seed in (1, 1, 2)
    ]
    assert replies[0] == replies[1] != replies[2]


def test_the_best_of_the_candidates_are_returned(make_generator):
    generator = make_generator("gpt2", sharp=True)
    settings = DecodingSettings(returns=2, candidates=5, response_length=10)
    everything = DecodingSettings(returns=5, response_length=10)
    longest = lambda contexts, replies: torch.tensor([float(len(r)) for r in replies])  # noqa: E731
    got = generate_replies(generator, CONTEXTS, settings, context_length=40, scorer=longest)
    all_five = generate_replies(generator, CONTEXTS, everything, context_length=40)
    for best, row in zip(got, all_five, strict=True):
        texts = sorted((candidate.text for candidate in row), key=len, reverse=True)
        assert [candidate.text for candidate in best] == texts[:2]
        assert [candidate.score for candidate in best] == [len(text) for text in texts[:2]]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"decoding": "magic"}, "sample, greedy, beam"),
        ({"temperature": 0.0}, "above 0"),
        ({"top_p": 1.5}, "from 0 to 1"),
        ({"rerank": "mmi", "returns": 3, "candidates": 2}, "raise candidates"),
    ],
)
def test_settings_that_cannot_be(values, words):
    with pytest.raises(UserError, match=words):
        DecodingSettings(**values)


def test_greedy_has_one_reply_to_give(make_generator):
    settings = DecodingSettings(decoding="greedy", returns=2, response_length=10)
    with pytest.raises(UserError, match="at most 1"):
        generate_replies(make_generator("gpt2"), CONTEXTS, settings, context_length=40)


# ---------------------------------------------------------------- by hand

WORDS = {"<pad>": 0, "<eos>": 1, "a": 2, "b": 3, "c": 4}


class Table(torch.nn.Module):
    """A language model that is a table: p(next | the last two tokens), given as fractions."""

    def __init__(self, probabilities):
        super().__init__()
        self.config = GPT2Config()
        self.device = torch.device("cpu")
        self.head = torch.nn.Identity()
        self.table = torch.full((5, 5, 5), 1e-9)
        for (before, last, token), value in probabilities.items():
            self.table[WORDS[before], WORDS[last], WORDS[token]] = value

    def get_output_embeddings(self):
        return self.head

    def forward(self, input_ids, **others):
        before = torch.cat([input_ids[:, :1], input_ids[:, :-1]], dim=1)
        logits = self.table[before, input_ids].log()
        # The rest of the mass is somewhere else in the vocabulary.
        rest = (1 - logits.exp().sum(-1, keepdim=True)).clamp(min=1e-9).log()
        everything = torch.cat([logits, rest], -1)
        return CausalLMOutput(logits=self.head(everything), hidden_states=(everything,))


def table_generator(probabilities):
    backend = Tokenizer(models.WordLevel(WORDS, unk_token="<pad>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="<eos>", pad_token="<pad>"
    )
    return Generator(Table(probabilities), tokenizer)


FORWARD = table_generator(
    {
        ("a", "<eos>", "b"): 0.5,  # "b": .5 · .5 = .25, the square of .5
        ("<eos>", "b", "<eos>"): 0.5,
        ("a", "<eos>", "c"): 0.3,  # "c c": .3 · .8 · .9 = .216, the cube of .6
        ("<eos>", "c", "c"): 0.8,
        ("c", "c", "<eos>"): 0.9,
    }
)
REVERSE = table_generator(
    {
        ("b", "<eos>", "a"): 0.1,  # "a" from "b": .1 · .5
        ("c", "<eos>", "a"): 0.6,  # "a" from "c c": .6 · .5
        ("<eos>", "a", "<eos>"): 0.5,
        ("a", "<eos>", "b"): 0.2,  # an older "b", from the reply and "a": .2 · .25
        ("<eos>", "b", "<eos>"): 0.25,
    }
)
LENGTHS = {"context_length": 9, "response_length": 9}


def test_sample_and_rank_by_hand():
    """Meena's rank is by log p / tokens; by log p alone "b" would win."""
    scorer = LikelihoodScorer(FORWARD, **LENGTHS)
    (ranked,) = rank([("a",)], [["b", "c c"]], scorer)
    assert [candidate.text for candidate in ranked] == ["c c", "b"]
    assert [candidate.score for candidate in ranked] == pytest.approx(
        [math.log(0.6), math.log(0.5)], abs=1e-5
    )


@pytest.mark.parametrize(
    ("context", "weight", "scores"),
    [
        (("a",), 1.0, [math.log(0.05), math.log(0.3)]),
        (("a",), 0.0, [math.log(0.25), math.log(0.216)]),
        (
            ("a",),
            0.25,
            [
                0.75 * math.log(0.25) + 0.25 * math.log(0.05),
                0.75 * math.log(0.216) + 0.25 * math.log(0.3),
            ],
        ),
        (("b", "a"), 1.0, [math.log(0.05 * 0.05), math.log(0.3 * 0.05)]),
    ],
)
def test_mmi_by_hand(context, weight, scores):
    scorer = MMIScorer(FORWARD, REVERSE, weight=weight, **LENGTHS)
    got = scorer([context] * 2, ["b", "c c"])
    assert got.tolist() == pytest.approx(scores, abs=1e-5)


def test_equal_scores_keep_their_order_and_nothing_is_ranked():
    nothing = lambda contexts, replies: torch.zeros(len(replies))  # noqa: E731
    assert rank([("a",), ("b",)], [["x", "y"], []], nothing) == [
        [Candidate("x", 0.0), Candidate("y", 0.0)],
        [],
    ]
