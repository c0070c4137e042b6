"""Evaluation in the course of a run, the best generator, early stopping."""

import json

import numpy as np
import pytest
import torch
from peft import LoraConfig
from transformers import AutoModelForCausalLM, EarlyStoppingCallback

from rlhf_dialog.errors import UserError
from tests.ppo.trainers import column, grade, weights

# ---------------------------------------------------------------- evaluation in the course of a run


def test_evaluations_come_in_their_turn_and_leave_no_trace(build, examples, capsys, tmp_path):
    def run(**values):
        trainer, history = build(max_steps=4, **values)
        trainer.train()
        rows = [log for log in history.logs if "objective/scores" in log]
        return trainer, history, [{k: v for k, v in r.items() if k != "seconds"} for r in rows]

    _, _, plain = run()
    monitor = {"monitors": [lambda c, r: {"judge/score": float(np.mean([len(x) for x in r]))}]}
    trainer, history, watched = run(
        eval_strategy="steps",
        eval_steps=2,
        eval_on_start=True,
        trainer={"eval_examples": examples[:5], **monitor},
    )
    assert [{k: v for k, v in r.items() if k != "judge/score"} for r in watched] == plain
    evaluations = [log for log in history.logs if "eval_judge/score" in log]
    assert len(evaluations) == 3
    rows = [json.loads(line) for line in (tmp_path / "eval_samples.jsonl").open()]
    assert [row["update"] for row in rows] == [0] * 5 + [2] * 5 + [4] * 5
    assert rows[5]["context"] == list(examples[0].context)
    for log, start in zip(evaluations, (0, 5, 10), strict=True):
        replies = [row["reply"] for row in rows[start : start + 5]]
        assert log["eval_objective/scores"] == pytest.approx(grade(None, replies).mean().item())
        assert log["eval_judge/score"] == np.mean([len(reply) for reply in replies])
    assert trainer.evaluate() == trainer.evaluate()


def scripted(values):
    """A monitor whose judge says `values`, one an evaluation (five replies), 0 in training."""
    said = iter(values)
    return [lambda c, r: {"judge/score": next(said) if len(r) == 5 else 0.0}]


BEST = {
    "eval_strategy": "steps",
    "eval_steps": 1,
    "save_strategy": "best",
    "load_best_model_at_end": True,
}


@pytest.mark.parametrize("lora", [None, LoraConfig(r=4, target_modules=["c_attn"])])
def test_the_best_generator_by_the_judge_is_loaded_at_the_end(build, examples, tmp_path, lora):
    trainer, _ = build(
        max_steps=4,
        **BEST,
        trainer={
            "eval_examples": examples[:5],
            "monitors": scripted([1.0, 3.0, 2.0, 0.0]),
            "peft_config": lora,
        },
    )
    kept = []
    trainer.add_callback(Keep(trainer, kept))
    trainer.train()
    assert trainer.state.best_metric == 3 and trainer.state.best_global_step == 2
    assert not all(torch.equal(a, b) for a, b in zip(kept[1], kept[3], strict=True))
    assert all(torch.equal(a, b) for a, b in zip(kept[1], weights(trainer.policy), strict=True))
    if lora is None:
        AutoModelForCausalLM.from_pretrained(tmp_path / "best")


class Keep(EarlyStoppingCallback):
    """Keeps the weights after every update; stops nothing."""

    def __init__(self, trainer, kept):
        super().__init__(early_stopping_patience=99)
        self.trainer, self.kept = trainer, kept

    def on_step_end(self, args, state, control, **kwargs):
        self.kept.append(weights(self.trainer.policy))


def test_a_run_stops_early_when_the_judge_no_longer_rises(build, examples):
    trainer, _ = build(
        max_steps=9,
        **BEST,
        trainer={"eval_examples": examples[:5], "monitors": scripted([1.0, 2.0, 1.5, 1.0, 9.0])},
    )
    trainer.add_callback(EarlyStoppingCallback(early_stopping_patience=2))
    trainer.train()
    assert trainer.state.global_step == 4 and trainer.state.best_metric == 2


def test_a_metric_that_nobody_measures_is_named(build, examples):
    trainer, _ = build(**BEST, trainer={"eval_examples": examples[:5]})
    with pytest.raises(UserError, match=r"does not measure 'judge/score'; choose from objective"):
        trainer.train()


def test_an_evaluation_needs_examples(build):
    with pytest.raises(UserError, match="eval_strategy: there is nothing to evaluate on"):
        build(eval_strategy="steps", eval_steps=1)


def test_updates_are_logged_at_their_interval(build):
    trainer, history = build(max_steps=5, logging_steps=2)
    trainer.train()
    assert column(history, "episode") == [32, 64]
