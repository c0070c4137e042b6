"""The supervised stage: a generator learns to reply before reinforcement learning moves it.

The loss is on the reply given its context; in the form `dialogpt` on every turn, which is that
system's objective (Zhang et al. 2020, eq. 1). With distractors a second head learns to tell the
reply from them (`two_heads`). Checkpoints, resuming and the choice of the best one are
transformers' own.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from transformers import Trainer, TrainingArguments
from transformers.trainer_utils import get_last_checkpoint

from rlhf_dialog.console import TrainerProgress
from rlhf_dialog.devices import without_deepspeed
from rlhf_dialog.dialogues.distractors import draw_distractors
from rlhf_dialog.dialogues.examples import backwards, make_examples
from rlhf_dialog.dialogues.schema import Dialogue, Example
from rlhf_dialog.dialogues.splits import split_dialogues
from rlhf_dialog.generators.input_forms import input_form
from rlhf_dialog.generators.loading import Generator, rebuilt
from rlhf_dialog.generators.supervised_rows import Row, collate, encode_row
from rlhf_dialog.generators.two_heads import (
    CHOICE_HEAD,
    ChoiceHead,
    TwoHeads,
    fresh_choice_head,
    load_choice_head,
    save_choice_head,
)
from rlhf_dialog.settings import GeneratorSettings

MARKER = "warm_start.json"  # written beside a generator that needs no further supervised stage


class WarmStart(NamedTuple):
    """What a supervised stage leaves besides the generator, which it trains in place."""

    loss: float  # mean over the training steps, nats
    history: list[dict[str, Any]]  # the Trainer's log: losses, validation losses, learning rates
    choice_head: ChoiceHead | None  # where there were distractors


def warm_start(
    generator: Generator,
    examples: Sequence[Example],
    settings: GeneratorSettings,
    *,
    response_length: int,
    seed: int,
    description: str = "warm start",
    validation: Sequence[Example] = (),
    checkpoints: Path | None = None,
    choice_head: ChoiceHead | None = None,
) -> WarmStart:
    """Trains `generator` in place on `examples`.

    Args:
        validation: examples whose loss is measured after each epoch; the generator ends with the
            weights of the epoch where it was least.
        checkpoints: a folder for one checkpoint an epoch; training goes on from the last one in it.
        choice_head: one to go on with, of an earlier stage.

    Raises:
        UserError: fewer different replies than distractors are wanted.
    """
    rows = _rows(generator, examples, settings, response_length, seed)
    held_out = _rows(generator, validation, settings, response_length, seed) if validation else None
    head = choice_head
    if settings.warm_start_distractors and head is None:
        head = fresh_choice_head(generator, seed)
    model = TwoHeads(generator.model, head, settings.warm_start_choice_coef)
    with tempfile.TemporaryDirectory() as scratch, without_deepspeed():
        folder = Path(_of_first_process(scratch)) if checkpoints is None else checkpoints
        arguments = _arguments(settings, str(folder), seed)
        if held_out or checkpoints is not None:
            arguments |= {"save_strategy": "epoch", "save_total_limit": 1}
        if held_out:
            arguments |= {"eval_strategy": "epoch", "load_best_model_at_end": True}
        trainer = SupervisedTrainer(
            model,
            TrainingArguments(**arguments),
            train_dataset=rows,
            eval_dataset=held_out,
            processing_class=generator.tokenizer,
            data_collator=partial(collate, generator),
        )
        TrainerProgress.attach(trainer, description)
        last = get_last_checkpoint(str(folder)) if folder.is_dir() else None
        output = trainer.train(resume_from_checkpoint=last)
        trainer.accelerator.wait_for_everyone()  # the best is read before its folder goes
    generator.model = rebuilt(model.lm)
    return WarmStart(output.training_loss, trainer.state.log_history, model.choice_head)


def supervised_examples(
    dialogues: Sequence[Dialogue], settings: GeneratorSettings, *, max_turns: int
) -> list[Example]:
    """What the stage learns of dialogues: everybody's replies, or what came before them."""
    dialogues = backwards(dialogues) if settings.warm_start_reverse else dialogues
    return make_examples(dialogues, max_turns=max_turns)


def hold_out(
    dialogues: Sequence[Dialogue], share: float, seed: int
) -> tuple[Sequence[Dialogue], Sequence[Dialogue]]:
    """Dialogues to train on, and a share of them for validation."""
    if not share:
        return dialogues, ()
    parts = split_dialogues(dialogues, {"train": 1 - share, "validation": share}, seed)
    return parts["train"], parts["validation"]


def is_warm_started(name_or_path: str | None) -> bool:
    return name_or_path is not None and (Path(name_or_path) / MARKER).is_file()


class SupervisedTrainer(Trainer):
    """transformers' Trainer, whose checkpoints are folders that `from_pretrained` loads, with the
    choice head beside the model."""

    model: TwoHeads

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        if self.args.should_save:
            folder = Path(output_dir or self.args.output_dir)
            self.model.lm.save_pretrained(folder)
            self.processing_class.save_pretrained(folder)
            if self.model.choice_head is not None:
                save_choice_head(self.model.choice_head, folder)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        saved = type(self.model.lm).from_pretrained(resume_from_checkpoint)
        self.model.lm.load_state_dict(saved.state_dict())
        if (Path(resume_from_checkpoint) / CHOICE_HEAD).is_file() and self.model.choice_head:
            head = load_choice_head(resume_from_checkpoint)
            self.model.choice_head.load_state_dict(head.state_dict())

    def _load_best_model(self) -> None:
        self._load_from_checkpoint(self.state.best_model_checkpoint)


def _of_first_process(folder: str) -> str:
    """One folder for all: the first process writes checkpoints there, and all read the best."""
    if PartialState().num_processes == 1:
        return folder
    return broadcast_object_list([folder])[0]


def _arguments(settings: GeneratorSettings, folder: str, seed: int) -> dict[str, Any]:
    kinds: dict[str, dict[str, Any]] = {
        "linear": {"lr_scheduler_type": "linear"},
        "polynomial": {
            "lr_scheduler_type": "polynomial",
            "lr_scheduler_kwargs": {"power": 2.0, "lr_end": 0.0},
        },
        # Vaswani et al. 2017, section 5.3, scaled to the peak: min(step / w, √(w / step)).
        "noam": {"lr_scheduler_type": "inverse_sqrt"},
    }
    return {
        "output_dir": folder,
        "num_train_epochs": settings.warm_start_epochs,
        "learning_rate": settings.warm_start_learning_rate,
        "per_device_train_batch_size": settings.warm_start_batch_size,
        "per_device_eval_batch_size": settings.warm_start_batch_size,
        **kinds[settings.warm_start_schedule],
        "warmup_steps": settings.warm_start_warmup,
        "weight_decay": 0.01,
        "train_sampling_strategy": "group_by_length",
        "remove_unused_columns": False,
        "prediction_loss_only": True,
        "logging_steps": 10,
        "save_strategy": "no",
        "metric_for_best_model": "eval_loss",
        "greater_is_better": False,
        "report_to": "none",
        "disable_tqdm": True,
        "bf16": False,
        "seed": seed,
        "dataloader_pin_memory": False,
        "ddp_find_unused_parameters": False,
    }


def _rows(
    generator: Generator,
    examples: Sequence[Example],
    settings: GeneratorSettings,
    response_length: int,
    seed: int,
) -> list[Row]:
    wrong: Sequence[Sequence[str]] = [()] * len(examples)
    if settings.warm_start_distractors:
        wrong = draw_distractors(examples, settings.warm_start_distractors, seed)
    return [
        encode_row(
            generator,
            example.context,
            [*distractors, example.reply],
            settings.context_length,
            response_length,
            weight=example.weight,
            context_weight=_context_weight(generator, settings),
        )
        for example, distractors in zip(examples, wrong, strict=True)
    ]


def _context_weight(generator: Generator, settings: GeneratorSettings) -> float:
    if settings.warm_start_context_weight is not None:
        return settings.warm_start_context_weight
    return 1.0 if input_form(generator) == "dialogpt" else 0.0
