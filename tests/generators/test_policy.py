import copy
import itertools

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from torch import nn

from rlhf_dialog.generators.decoding import sample_replies
from rlhf_dialog.generators.distributions import Sampling
from rlhf_dialog.generators.loading import load_generator
from rlhf_dialog.generators.policy import (
    Policy,
    disable_dropout,
    sample_responses,
)
from rlhf_dialog.generators.prompts import encode_context, encode_reply, pad_ids, pad_prompts
from rlhf_dialog.generators.sampling import mask_after_eos
from tests.conftest import FAMILIES

CONTEXTS = [
    ["where is the captain tonight ?"],
    ["who took the red lamp ?", "not me , i was asleep .", "then who ?"],
    ["no"],
]
REPLIES = ["the captain is on the ship", "me", "we sail at night , when the tide is high ."]


def policy_of(generator, temperature=1.0):
    policy = Policy(generator.model, Sampling(temperature)).eval()
    torch.manual_seed(3)
    nn.init.normal_(policy.value_head.weight)  # a zero head would hide what it is given
    nn.init.normal_(policy.value_head.bias)
    return policy


def token_rows(generator):
    prompts = [encode_context(generator, context, 40) for context in CONTEXTS]
    return prompts, [encode_reply(generator, reply, 20) for reply in REPLIES]


def batch(generator, prompts, replies, more_prompt=0, more_reply=0):
    """The four inputs of a policy, with further columns of padding (filled with token 5)."""
    ids, mask = pad_prompts(prompts, generator)
    reply_ids, reply_mask = pad_ids(replies, generator.tokenizer.pad_token_id)
    side = (0, more_prompt) if generator.is_encoder_decoder else (more_prompt, 0)
    pad = nn.functional.pad
    return (
        pad(ids, side, value=5),
        pad(mask, side),
        pad(reply_ids, (0, more_reply), value=5),
        pad(reply_mask, (0, more_reply)),
    )


def plain_forward(generator, prompt, reply):
    """Logits (T, V) and hidden states (T, H) of one unpadded example, by the model's forward."""
    model = generator.model
    if generator.is_encoder_decoder:
        decoder = [model.config.decoder_start_token_id, *reply[:-1]]
        output = model(
            input_ids=torch.tensor([prompt]),
            decoder_input_ids=torch.tensor([decoder]),
            output_hidden_states=True,
        )
        return output.logits[0], output.decoder_hidden_states[-1][0]
    output = model(input_ids=torch.tensor([prompt + reply]), output_hidden_states=True)
    place = slice(len(prompt) - 1, len(prompt) + len(reply) - 1)
    return output.logits[0, place], output.hidden_states[-1][0, place]


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_scores_equal_a_plain_forward_of_each_example(make_generator, family, temperature):
    generator = make_generator(family, sharp=True)
    policy = policy_of(generator, temperature)
    prompts, replies = token_rows(generator)
    output = policy(*batch(generator, prompts, replies), entropies=True)
    for row, (prompt, reply) in enumerate(zip(prompts, replies, strict=True)):
        logits, hidden = plain_forward(generator, prompt, reply)
        logprobs = torch.log_softmax(logits.double() / temperature, dim=-1)  # (T, V)
        picked = logprobs[range(len(reply)), reply]
        entropies = -(logprobs.exp() * logprobs).sum(-1)
        values = policy.value_head(hidden)[:, 0]
        length = len(reply)
        assert picked.std() > 0.1 and values.std() > 0.01  # else equality would say little
        assert torch.allclose(output.logprobs[row, :length].double(), picked, atol=1e-5)
        assert torch.allclose(output.entropies[row, :length].double(), entropies, atol=1e-5)
        assert torch.allclose(output.values[row, :length], values, atol=1e-5)
        assert not any(part[row, length:].any() for part in output)


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_padding_order_and_batch_size_change_nothing(make_generator, family):
    generator = make_generator(family, sharp=True)
    policy = policy_of(generator)
    prompts, replies = token_rows(generator)
    plain = policy(*batch(generator, prompts, replies), entropies=True)
    padded = policy(*batch(generator, prompts, replies, 3, 2), entropies=True)
    turned = policy(*batch(generator, prompts[::-1], replies[::-1]), entropies=True)
    width = plain.logprobs.shape[1]
    for a, b, c in zip(plain, padded, turned, strict=True):
        assert torch.allclose(b[:, :width], a, atol=1e-5)
        assert torch.allclose(c.flip(0), a, atol=1e-5)
    for row in range(len(prompts)):
        one = slice(row, row + 1)
        alone = policy(*batch(generator, prompts[one], replies[one]), entropies=True)
        for a, b in zip(plain, alone, strict=True):
            assert torch.allclose(b[0], a[row, : b.shape[1]], atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_the_probabilities_of_all_next_tokens_sum_to_one(make_generator, family):
    generator = make_generator(family, sharp=True)
    size = generator.model.get_input_embeddings().num_embeddings
    prompt = encode_context(generator, CONTEXTS[1], 40)
    output = policy_of(generator)(*batch(generator, [prompt] * size, [[i] for i in range(size)]))
    assert torch.allclose(output.logprobs.exp().sum(), torch.tensor(1.0), atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_gradient_reaches_every_parameter(make_generator, family):
    generator = make_generator(family, sharp=True)
    policy = policy_of(generator)
    output = policy(*batch(generator, *token_rows(generator)))
    assert output.entropies is None  # they were not asked for
    (output.logprobs.sum() + output.values.sum()).backward()
    missing = [
        name
        for name, parameter in policy.named_parameters()
        # Keys' biases shift all attention scores alike: softmax gives them no gradient.
        if (parameter.grad is None or not parameter.grad.any()) and "k_proj.bias" not in name
    ]
    assert not missing


def test_a_fresh_value_head_says_zero(make_generator):
    generator = make_generator("gpt2")
    output = Policy(generator.model)(*batch(generator, *token_rows(generator)))
    assert not output.values.any()


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_disable_dropout_reaches_the_functional_kind(make_generator, family):
    generator = make_generator(family, sharp=True)
    policy = policy_of(generator).train()
    inputs = batch(generator, *token_rows(generator))
    assert not torch.equal(policy(*inputs).logprobs, policy(*inputs).logprobs)
    disable_dropout(policy)
    assert torch.equal(policy(*inputs).logprobs, policy(*inputs).logprobs)
    assert torch.equal(policy(*inputs).logprobs, policy.eval()(*inputs).logprobs)


def test_mask_after_eos_holds_the_first_eos_and_nothing_after_it():
    ids = torch.tensor([[4, 9, 9, 4], [9, 4, 4, 4], [4, 4, 4, 4], [4, 4, 4, 9]])
    assert mask_after_eos(ids, 9).int().tolist() == [
        [1, 1, 0, 0],
        [1, 0, 0, 0],
        [1, 1, 1, 1],
        [1, 1, 1, 1],
    ]


@pytest.mark.parametrize("temperature", [1.0, 0.6])
@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_one_sampled_step_follows_the_softmax(make_generator, family, temperature):
    generator = make_generator(family, sharp=True)
    prompt = encode_context(generator, CONTEXTS[0], 40)
    draws = 4000
    torch.manual_seed(11)
    ids, mask = sample_responses(
        generator.model,
        *pad_prompts([prompt] * draws, generator),
        max_tokens=1,
        sampling=Sampling(temperature),
    )
    assert ids.shape == (draws, 1) and mask.all()
    logits = plain_forward(generator, prompt, [0])[0][0].double()
    expected = draws * torch.softmax(logits / temperature, dim=-1).numpy()
    counts = np.bincount(ids[:, 0], minlength=len(expected))
    often = expected >= 5  # the rest is one class
    classes = [np.append(x[often], x[~often].sum()) for x in (counts, expected)]
    assert len(classes[0]) > 10
    assert chisquare(*classes).pvalue > 1e-3


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_sampled_tokens_score_as_the_model_scores_them_alone(make_generator, family):
    generator = make_generator(family, sharp=True)
    prompts = [encode_context(generator, context, 40) for context in CONTEXTS * 4]
    torch.manual_seed(2)
    inputs = pad_prompts(prompts, generator)
    ids, mask = sample_responses(generator.model, *inputs, max_tokens=6)
    output = policy_of(generator)(*inputs, ids, mask)
    for row, prompt in enumerate(prompts):
        reply = ids[row][mask[row]].tolist()
        total = 0.0
        for t, token in enumerate(reply):  # one token at a time
            logits = plain_forward(generator, prompt, reply[: t + 1])[0][-1]
            total += torch.log_softmax(logits.double(), dim=-1)[token].item()
        assert output.logprobs[row].sum().item() == pytest.approx(total, abs=1e-4)


@pytest.mark.parametrize("family", ["gpt2", "blenderbot-small", "bart"])
@torch.no_grad()
def test_published_generation_settings_are_ignored(make_generator, family, tmp_path):
    """BlenderBot-small comes with at least 20 tokens and a forced end, among others."""
    generator = make_generator(family)
    generator.model.generation_config.update(
        min_length=20,
        min_new_tokens=20,
        num_beams=1,
        top_k=1,
        repetition_penalty=3.0,
        no_repeat_ngram_size=1,
        forced_eos_token_id=generator.tokenizer.eos_token_id,
        bad_words_ids=[[generator.tokenizer.eos_token_id]],
    )
    generator.save(tmp_path)
    loaded = load_generator(str(tmp_path))
    size, eos = loaded.model.get_input_embeddings().num_embeddings, loaded.tokenizer.eos_token_id
    prompt = encode_context(loaded, CONTEXTS[0], 40)
    inputs = pad_prompts([prompt] * 3000, loaded)
    torch.manual_seed(5)
    ids, mask = sample_responses(loaded.model, *inputs, max_tokens=2)
    assert (ids[:, 0] == eos).float().mean().item() == pytest.approx(1 / size, abs=4 / size)
    assert len(ids[:, 0].unique()) > size / 2
    assert (ids[:, 1][mask[:, 1]] == eos).float().mean() < 0.1  # the end is not forced


def test_sampled_replies_are_a_function_of_the_seed_alone(make_generator):
    generator = make_generator("gpt2")
    state = torch.random.get_rng_state()
    arguments = {"context_length": 32, "response_length": 6}
    one = sample_replies(generator, CONTEXTS, seed=1, **arguments)
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.rand(7)
    assert sample_replies(generator, CONTEXTS, seed=1, **arguments) == one
    others = [sample_replies(generator, CONTEXTS, seed=s, **arguments) for s in (2, 3)]
    assert all(a != b for a, b in itertools.combinations([one, *others], 2))
    assert sample_replies(generator, [], seed=1, **arguments) == []


def test_scoring_leaves_the_model_as_it_was(make_generator):
    generator = make_generator("gpt2")
    before = copy.deepcopy(generator.model.state_dict())
    policy_of(generator)(*batch(generator, *token_rows(generator)))
    after = generator.model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
