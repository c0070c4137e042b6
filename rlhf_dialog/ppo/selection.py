"""Evaluation in the course of a run: what it prints, and the best generator so far."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from accelerate.utils import broadcast_object_list
from rich.table import Table
from rich.text import Text
from transformers import PreTrainedModel

from rlhf_dialog.console import console
from rlhf_dialog.dialogues.schema import Example
from rlhf_dialog.discriminators.rewards import as_reward
from rlhf_dialog.errors import UserError
from rlhf_dialog.ppo.monitoring import watch
from rlhf_dialog.ppo.rewards import score_texts

if TYPE_CHECKING:
    from rlhf_dialog.ppo.trainer import SeqGANPPOTrainer

BEST = "best"  # folder of the best generator so far, inside the run's
SAMPLES = "eval_samples.jsonl"


@torch.no_grad()
def measure(trainer: SeqGANPPOTrainer, examples: Sequence[Example]) -> dict[str, float]:
    """Reward and monitors on one reply to each example's context, always drawn with one seed."""
    args = trainer.args
    contexts = [example.context for example in examples]
    with torch.random.fork_rng():
        torch.manual_seed(trainer.local_seed)
        replies = trainer.sample_replies(contexts, args.per_device_eval_batch_size)
    reward = as_reward(trainer.reward)
    state = reward.state_dict()
    scores = score_texts(reward, contexts, replies)
    reward.load_state_dict(state)  # a look must not change what a random reward draws next
    if trainer.is_world_process_zero():
        show_samples(
            contexts,
            replies,
            scores.tolist(),
            update=trainer.state.global_step,
            shown=args.eval_samples_shown,
            folder=Path(str(args.output_dir)),
        )
    metrics = {"objective/scores": scores.mean().item()} | watch(
        trainer.monitors, contexts, replies
    )
    # The first process's figures for all: callbacks that stop a run must agree.
    return broadcast_object_list([metrics])[0]


def evaluate_and_keep(trainer: SeqGANPPOTrainer) -> None:
    """Evaluates, and saves the generator where it is the best so far (`save_strategy: best`).

    Raises:
        UserError: an evaluation does not measure `metric_for_best_model`.
    """
    args, metrics = trainer.args, trainer.evaluate()
    wanted = args.metric_for_best_model
    if wanted is None:
        return
    if f"eval_{wanted.removeprefix('eval_')}" not in metrics:
        known = ", ".join(sorted(name.removeprefix("eval_") for name in metrics))
        raise UserError(
            f"metric_for_best_model: an evaluation does not measure {wanted!r}; choose from "
            f"{known}."
        )
    if trainer._determine_best_metric(metrics, trial=None) and args.save_strategy == "best":
        folder = Path(str(args.output_dir)) / BEST
        written = folder.with_name(f".{BEST}.tmp")
        trainer.save_model(str(written))
        if trainer.is_world_process_zero():  # all of it at once, never half an old and a new one
            shutil.rmtree(folder, ignore_errors=True)
            written.rename(folder)
        trainer.state.best_model_checkpoint = str(folder)
        trainer.control = trainer.callback_handler.on_save(args, trainer.state, trainer.control)


def load_best(trainer: SeqGANPPOTrainer) -> None:
    """Puts generator and critic back to where an evaluation found them best."""
    trainer.accelerator.wait_for_everyone()
    folder = Path(str(trainer.state.best_model_checkpoint))
    restore_weights(trainer.generator.model, folder)
    trainer.policy.load_value(folder / "value")


def restore_weights(model: PreTrainedModel, folder: Path) -> None:
    """Puts the weights of a folder that `save_pretrained` wrote into `model`, adapters or all."""
    if (folder / "adapter_config.json").is_file():
        from peft import load_peft_weights, set_peft_model_state_dict  # an optional dependency

        set_peft_model_state_dict(model, load_peft_weights(str(folder), device="cpu"))
        return
    saved = type(model).from_pretrained(folder, dtype=model.dtype)
    with torch.no_grad():
        model.load_state_dict(saved.state_dict())


def show_samples(
    contexts: Sequence[Sequence[str]],
    replies: Sequence[str],
    scores: Sequence[float],
    *,
    update: int,
    shown: int,
    folder: Path,
) -> None:
    """Appends every reply of an evaluation to `eval_samples.jsonl` and prints the first few."""
    rows = list(zip(contexts, replies, scores, strict=True))
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / SAMPLES).open("a", encoding="utf-8") as file:
        for context, reply, score in rows:
            row = {"update": update, "context": list(context), "reply": reply, "score": score}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    if not shown:
        return
    table = Table("context", "reply", "score", title=f"update {update}", show_lines=True)
    for context, reply, score in rows[:shown]:
        table.add_row(Text(" / ".join(context)), Text(reply), f"{score:+.2f}")
    console.print(table)
