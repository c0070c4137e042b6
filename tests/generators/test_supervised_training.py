"""The supervised stage beside TRL's and transformers' trainers; its schedules and checkpoints."""

import math
import shutil

import pytest
import torch
from datasets import Dataset
from transformers import DataCollatorForSeq2Seq, Seq2SeqTrainer, Seq2SeqTrainingArguments
from trl import SFTConfig, SFTTrainer

from rlhf_dialog.dialogues.schema import Example
from rlhf_dialog.errors import UserError
from rlhf_dialog.generators.input_forms import use_input_form
from rlhf_dialog.generators.policy import disable_dropout
from rlhf_dialog.generators.prompts import encode_context, encode_reply
from rlhf_dialog.generators.warm_start import _arguments, warm_start
from rlhf_dialog.settings import GeneratorSettings

LENGTHS = {"response_length": 24, "seed": 3}


def settings(**changed):
    values = {
        "warm_start_epochs": 2,
        "warm_start_learning_rate": 3e-3,
        "warm_start_batch_size": 8,
        "context_length": 40,
    }
    return GeneratorSettings(**(values | changed))


def without_dropout(generator):
    disable_dropout(generator.model)
    return generator


def weights(generator):
    return [p.detach().clone() for p in generator.model.parameters()]


def assert_same(these, those, atol=0.0):
    for a, b in zip(these, those, strict=True):
        torch.testing.assert_close(a, b, atol=atol, rtol=0)


@pytest.mark.parametrize("family", ["gpt2", "t5"])
def test_the_weights_are_those_of_trl_and_transformers(make_generator, examples, family, tmp_path):
    """SFTTrainer on whole dialogues (DialoGPT's objective); Seq2SeqTrainer on replies."""
    own, stock = without_dropout(make_generator(family)), without_dropout(make_generator(family))
    warm_start(own, examples, settings(), **LENGTHS)
    rows = []
    for example in examples:
        prompt = encode_context(stock, example.context, 40)
        reply = encode_reply(stock, example.reply, 24)
        whole = {"input_ids": prompt + reply, "labels": prompt + reply}
        rows.append({"input_ids": prompt, "labels": reply} if family == "t5" else whole)
    arguments = _arguments(settings(), str(tmp_path), 3)
    arguments.pop("remove_unused_columns")
    data = {"train_dataset": Dataset.from_list(rows), "processing_class": stock.tokenizer}
    if family == "gpt2":
        config = SFTConfig(**arguments, gradient_checkpointing=False, max_length=None)
        trainer = SFTTrainer(stock.model, config, **data)
    else:
        config = Seq2SeqTrainingArguments(**arguments)
        collator = DataCollatorForSeq2Seq(stock.tokenizer, model=stock.model)
        trainer = Seq2SeqTrainer(stock.model, config, data_collator=collator, **data)
    trainer.train()
    assert_same(weights(own), weights(stock), 2e-4)  # Adam divides by small numbers
    start = weights(make_generator(family))
    assert max((a - b).abs().max() for a, b in zip(weights(own), start, strict=True)) > 5e-3


def test_what_has_no_weight_is_not_learnt(make_generator, examples):
    """Half of the replies weigh nothing: the gradient is that of the other half alone."""
    silent = [Example(e.context, "never !", "a", e.dialogue_id, weight=0.0) for e in examples]
    results = []
    for replies in (examples[:4], [*examples[:4], *silent[:4]]):
        generator = without_dropout(make_generator("gpt2"))
        use_input_form(generator, "speakers")  # the reply alone is learnt
        values = settings(warm_start_epochs=1, warm_start_warmup=0)
        results.append(warm_start(generator, replies, values, **LENGTHS).loss)
        results.append(weights(generator))
    assert results[0] == pytest.approx(results[2], rel=1e-5)
    assert_same(results[1], results[3], 2e-5)


def test_a_context_is_learnt_where_it_has_weight(make_generator, examples):
    losses = []
    for weight in (0.0, 1.0):
        generator = without_dropout(make_generator("gpt2"))
        values = settings(warm_start_epochs=1, warm_start_context_weight=weight)
        losses.append(warm_start(generator, examples, values, **LENGTHS).loss)
    assert abs(losses[0] - losses[1]) > 0.01


PEAK, WARM, STEPS = 3e-3, 4, 20


@pytest.mark.parametrize(
    ("schedule", "share"),
    [
        ("linear", lambda n: (STEPS - n) / (STEPS - WARM)),
        ("polynomial", lambda n: ((STEPS - n) / (STEPS - WARM)) ** 2),
        ("noam", lambda n: math.sqrt(WARM / n)),
    ],
)
def test_schedules_by_their_formulas(make_generator, examples, schedule, share):
    values = settings(warm_start_schedule=schedule, warm_start_warmup=WARM, warm_start_epochs=5)
    generator = make_generator("gpt2")
    history = warm_start(generator, examples, values, **LENGTHS).history
    rates = {row["step"]: row["learning_rate"] for row in history if "learning_rate" in row}
    # The rate logged at step n is that of the update before it, n - 1 of which came before.
    assert rates[10] == pytest.approx(PEAK * share(9), rel=1e-6)
    assert rates[20] == pytest.approx(PEAK * share(19), rel=1e-6)


@pytest.mark.parametrize("family", ["gpt2", "bart"])
def test_a_resumed_stage_ends_where_an_uninterrupted_one_does(
    make_generator, examples, family, tmp_path
):
    values = settings(warm_start_epochs=3, warm_start_distractors=1)
    whole = make_generator(family)
    once = warm_start(whole, examples, values, **LENGTHS)
    # Interrupted: the same three epochs, of which only the first two were done.
    kept = tmp_path / "kept"
    first = make_generator(family)
    shutil.rmtree(kept, ignore_errors=True)
    done = warm_start(first, examples, values, checkpoints=tmp_path / "all", **LENGTHS)
    (last,) = (tmp_path / "all").glob("checkpoint-*")
    assert last.name == "checkpoint-12" and (last / "choice_head.safetensors").is_file()
    assert_same(weights(first), weights(whole))
    with pytest.raises(_Interrupted):
        _interrupted_after(8, make_generator(family), examples, values, kept)
    assert [folder.name for folder in kept.glob("checkpoint-*")] == ["checkpoint-8"]
    resumed = make_generator(family)
    again = warm_start(resumed, examples, values, checkpoints=kept, **LENGTHS)
    assert_same(weights(resumed), weights(whole))
    for head in (done.choice_head, again.choice_head):
        assert torch.equal(head.weight, once.choice_head.weight)


class _Interrupted(Exception):
    pass


def _interrupted_after(step, generator, examples, values, folder):
    from rlhf_dialog.generators import warm_start as module

    class Stops(module.SupervisedTrainer):
        def training_step(self, *args, **kwargs):
            if self.state.global_step == step:
                raise _Interrupted
            return super().training_step(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "SupervisedTrainer", Stops)
        warm_start(generator, examples, values, checkpoints=folder, **LENGTHS)


def test_the_epoch_of_least_validation_loss_is_kept(make_generator, examples):
    """Learning replies by heart makes others unlikely: the last epoch is not the best."""
    train = [e for e in examples if e.reply != examples[0].reply]
    held_out = [e for e in examples if e.reply == examples[0].reply]
    values = settings(warm_start_epochs=6, warm_start_learning_rate=5e-2)
    best = make_generator("gpt2")
    history = warm_start(best, train, values, validation=held_out, **LENGTHS).history
    losses = [row["eval_loss"] for row in history if "eval_loss" in row]
    assert len(losses) == 6 and min(losses) < losses[-1] - 0.05
    again = settings(warm_start_epochs=1, warm_start_learning_rate=0)
    (measured, *_) = [
        row["eval_loss"]
        for row in warm_start(best, train, again, validation=held_out, **LENGTHS).history
        if "eval_loss" in row
    ]
    assert measured == pytest.approx(min(losses), rel=1e-4)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"warm_start_schedule": "cosine"}, "linear, polynomial, noam"),
        ({"warm_start_schedule": "noam", "warm_start_warmup": 0}, "above 0"),
        ({"warm_start_validation_share": 0.9}, "from 0 to 0.5"),
        ({"warm_start_distractors": -1}, "at least 0"),
    ],
)
def test_settings_that_cannot_be(changed, words):
    with pytest.raises(UserError, match=words):
        settings(**changed)
