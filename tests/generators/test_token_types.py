"""Token types reach the model wherever ids do: a plain Hugging Face forward is the witness."""

import pytest
import torch

from rlhf_dialog.dialogues.schema import Context
from rlhf_dialog.generators.distributions import Sampling
from rlhf_dialog.generators.input_forms import use_input_form
from rlhf_dialog.generators.loading import load_generator
from rlhf_dialog.generators.policy import Policy, sample_responses
from rlhf_dialog.generators.prompts import build_prompt, encode_batch, encode_reply

CONTEXTS = [
    Context(["where is the captain ?"], ["i sail ."], "a storm ."),
    Context(["not me .", "who took the lamp ?"], ["i am old .", "i sail ."]),
]
REPLIES = ["on the ship .", "aye"]


@pytest.fixture(params=["speakers", "persona", "summary"])
def generator(request, make_generator):
    generator = make_generator("gpt2", sharp=True)
    use_input_form(generator, request.param)
    embeddings = generator.model.get_input_embeddings().weight
    with torch.no_grad():  # new tokens have one embedding, until they are trained
        embeddings[-2:] += torch.randn(2, embeddings.shape[1])
    generator.model.eval()
    return generator


def hugging_face_logits(model, prompt, reply, typed=True):
    """Logits (T, V) of one unpadded row, with types and positions as the original systems have."""
    ids = torch.tensor([[*prompt.ids, *reply]])
    types = torch.tensor([[*prompt.token_types, *[prompt.reply_type] * len(reply)]])
    output = model(
        input_ids=ids,
        token_type_ids=types if typed else None,
        position_ids=torch.arange(ids.shape[1])[None],
    )
    return output.logits[0, len(prompt.ids) - 1 :]


@torch.no_grad()
def test_a_padded_batch_is_scored_under_its_types(generator):
    batch = encode_batch(generator, CONTEXTS, REPLIES, context_length=40, response_length=20)
    logprobs = Policy(generator.model).eval()(*batch).logprobs
    for row, (context, reply) in enumerate(zip(CONTEXTS, REPLIES, strict=True)):
        prompt = build_prompt(generator, context, 40)
        ids = encode_reply(generator, reply, 20)
        for typed in (True, False):
            logits = hugging_face_logits(generator.model, prompt, ids, typed)[:-1]
            wanted = torch.log_softmax(logits, -1).gather(1, torch.tensor(ids)[:, None])[:, 0]
            same = torch.allclose(logprobs[row, : len(ids)], wanted, atol=1e-4)
            assert same == typed  # without types the model says something else


@torch.no_grad()
def test_generation_goes_on_with_the_type_of_who_replies(generator):
    context_ids, context_mask, *_ = encode_batch(
        generator, CONTEXTS, REPLIES, context_length=40, response_length=20
    )
    likeliest = Sampling(top_k=1)
    inputs = {"max_tokens": 6, "sampling": likeliest}
    responses, real = sample_responses(generator.model, context_ids, context_mask, **inputs)
    for context, response, own in zip(CONTEXTS, responses, real, strict=True):
        prompt, reply = build_prompt(generator, context, 40), []
        for _ in range(int(own.sum())):
            reply.append(hugging_face_logits(generator.model, prompt, reply)[-1].argmax().item())
        assert response[own].tolist() == reply
    # A response that has begun goes on as it would have.
    rest, _ = sample_responses(
        generator.model, context_ids, context_mask, prefix_ids=responses[:, :2], **inputs
    )
    assert rest[:, :4].tolist() == responses[:, 2:6].tolist()


def test_types_are_saved_with_the_model_and_end_with_the_form(generator, tmp_path):
    generator.save(tmp_path / "saved")
    loaded = load_generator(str(tmp_path / "saved"))
    wanted = build_prompt(generator, CONTEXTS[1], 40)
    assert build_prompt(loaded, CONTEXTS[1], 40) == wanted
    assert wanted.token_types is not None
    use_input_form(loaded, "dialogpt")
    assert build_prompt(loaded, CONTEXTS[1], 40).token_types is None
