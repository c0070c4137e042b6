import pytest
import torch

from rlhf_dialog.dialogues.schema import Example
from rlhf_dialog.generators.policy import Policy
from rlhf_dialog.generators.prompts import encode_context, encode_reply, pad_ids, pad_prompts
from rlhf_dialog.generators.warm_start import MARKER, is_warm_started, warm_start
from rlhf_dialog.settings import GeneratorSettings
from tests.conftest import FAMILIES

SETTINGS = GeneratorSettings(
    warm_start_epochs=4, warm_start_learning_rate=1e-2, warm_start_batch_size=8, context_length=40
)


@torch.no_grad()
def reply_logprobs(generator, examples):
    """(N, T) log-probabilities of the real replies, and their mask."""
    prompts = [encode_context(generator, example.context, 40) for example in examples]
    replies = [encode_reply(generator, example.reply, 24) for example in examples]
    inputs = (
        *pad_prompts(prompts, generator),
        *pad_ids(replies, generator.tokenizer.pad_token_id),
    )
    return Policy(generator.model).eval()(*inputs).logprobs, inputs[-1]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_few_steps_teach_the_replies_and_their_end(make_generator, examples, family):
    generator = make_generator(family)
    before, mask = reply_logprobs(generator, examples)
    loss = warm_start(generator, examples, SETTINGS, response_length=24, seed=0).loss
    after, _ = reply_logprobs(generator, examples)
    assert after[mask].mean() > before[mask].mean() + 1
    assert 0 < loss < -before[mask].mean().item()
    # EOS is learnt as well: it is the last real token of each reply.
    last = mask.sum(1) - 1
    rows = torch.arange(len(examples))
    assert after[rows, last].mean() > before[rows, last].mean() + 1


def test_causal_models_learn_the_context_too(make_generator, examples):
    """DialoGPT's objective: every turn of an example is a target."""
    generator = make_generator("gpt2")
    examples = [Example(e.context, "aye", e.speaker, e.dialogue_id) for e in examples]

    def first_turn_nll():
        rows = [encode_context(generator, example.context[:1], 40) for example in examples]
        ids, mask = pad_ids(rows, generator.tokenizer.pad_token_id)
        with torch.no_grad():
            output = Policy(generator.model).eval()(
                ids[:, :1], mask[:, :1], ids[:, 1:], mask[:, 1:]
            )
        return -output.logprobs.sum() / mask[:, 1:].sum()

    before = first_turn_nll()
    warm_start(generator, examples, SETTINGS, response_length=24, seed=0)
    assert first_turn_nll() < before - 1


@pytest.mark.parametrize("family", ["gpt2", "blenderbot-small"])
def test_the_same_seed_gives_the_same_weights(make_generator, examples, family):
    results = []
    for _ in range(2):
        generator = make_generator(family)
        torch.rand(3)  # whatever was drawn before
        settings = GeneratorSettings(warm_start_epochs=1, warm_start_batch_size=8)
        loss = warm_start(generator, examples, settings, response_length=24, seed=5).loss
        results.append((loss, [p.detach() for p in generator.model.parameters()]))
    assert results[0][0] == results[1][0]
    assert all(torch.equal(a, b) for a, b in zip(results[0][1], results[1][1], strict=True))


def test_a_warm_started_generator_still_saves_and_keeps_its_settings(
    make_generator, examples, tmp_path
):
    generator = make_generator("gpt2")
    ids = generator.tokenizer.pad_token_id, generator.tokenizer.eos_token_id
    settings = GeneratorSettings(warm_start_epochs=1)
    warm_start(generator, examples, settings, response_length=24, seed=0)
    config = generator.model.generation_config
    assert (config.pad_token_id, config.eos_token_id) == ids
    assert (generator.tokenizer.pad_token_id, generator.tokenizer.eos_token_id) == ids
    generator.save(tmp_path)
    assert (tmp_path / "model.safetensors").is_file()


def test_the_marker_tells_a_warm_started_folder(tmp_path):
    assert not is_warm_started(None)
    assert not is_warm_started("microsoft/DialoGPT-small")
    assert not is_warm_started(str(tmp_path))
    (tmp_path / MARKER).write_text("{}")
    assert is_warm_started(str(tmp_path))


@pytest.mark.parametrize("family", ["gpt2", "blenderbot-small"])
def test_a_frozen_copy_stays_behind_when_the_warm_started_generator_moves(
    make_generator, examples, family
):
    """TRL's SFTTrainer leaves a `forward` on the model that holds on to its weights."""
    generator = make_generator(family)
    settings = GeneratorSettings(warm_start_epochs=1, context_length=24)
    warm_start(generator, examples, settings, response_length=12, seed=0)
    before = generator.frozen_copy()
    ids = torch.ones((1, 4), dtype=torch.long)
    inputs = {"decoder_input_ids": ids} if generator.is_encoder_decoder else {}
    was = before.model(input_ids=ids, **inputs).logits
    with torch.no_grad():
        for parameter in generator.model.parameters():
            parameter.add_(0.1)
    torch.testing.assert_close(before.model(input_ids=ids, **inputs).logits, was)
    assert not torch.allclose(generator.model(input_ids=ids, **inputs).logits, was)
