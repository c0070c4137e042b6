"""The supervised stage: a generator learns to reply before reinforcement learning moves it.

Causal models train on every turn of an example (DialoGPT's objective, Zhang et al. 2020, eq. 1),
encoder-decoders on the reply given its context.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from datasets import Dataset
from transformers import (
    DataCollatorForSeq2Seq,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    Trainer,
)
from trl import SFTConfig, SFTTrainer

from rlhf_dialog.console import TrainerProgress
from rlhf_dialog.devices import without_deepspeed
from rlhf_dialog.dialogues.schema import Example
from rlhf_dialog.generators.loading import Generator, rebuilt
from rlhf_dialog.generators.prompts import encode_context, encode_reply
from rlhf_dialog.settings import GeneratorSettings

MARKER = "warm_start.json"  # written beside a generator that needs no further supervised stage


def warm_start(
    generator: Generator,
    examples: Sequence[Example],
    settings: GeneratorSettings,
    *,
    response_length: int,
    seed: int,
    description: str = "warm start",
) -> float:
    """Trains `generator` in place on `examples`; returns the mean training loss, nats per token."""
    rows = [
        _row(generator, example, settings.context_length, response_length) for example in examples
    ]
    with tempfile.TemporaryDirectory() as scratch, without_deepspeed():
        build = _seq2seq_trainer if generator.is_encoder_decoder else _causal_trainer
        trainer = build(generator, Dataset.from_list(rows), _arguments(settings, scratch, seed))
        TrainerProgress.attach(trainer, description)
        output = trainer.train()
    generator.model = rebuilt(trainer.accelerator.unwrap_model(trainer.model))
    return output.training_loss


def is_warm_started(name_or_path: str | None) -> bool:
    return name_or_path is not None and (Path(name_or_path) / MARKER).is_file()


def _arguments(settings: GeneratorSettings, scratch: str, seed: int) -> dict:
    return {
        "output_dir": scratch,
        "num_train_epochs": settings.warm_start_epochs,
        "learning_rate": settings.warm_start_learning_rate,
        "per_device_train_batch_size": settings.warm_start_batch_size,
        "lr_scheduler_type": "linear",
        "warmup_steps": 0.05,
        "weight_decay": 0.01,
        "train_sampling_strategy": "group_by_length",
        "logging_steps": 10,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "bf16": False,
        "seed": seed,
        "dataloader_pin_memory": False,
        "ddp_find_unused_parameters": False,
    }


def _row(generator: Generator, example: Example, context_length: int, response_length: int) -> dict:
    prompt = encode_context(generator, example.context, context_length)
    reply = encode_reply(generator, example.reply, response_length)
    if generator.is_encoder_decoder:
        return {"input_ids": prompt, "labels": reply}
    return {"input_ids": prompt + reply, "labels": prompt + reply}


def _causal_trainer(generator: Generator, data: Dataset, arguments: dict) -> Trainer:
    config = SFTConfig(**arguments, gradient_checkpointing=False, max_length=None)
    return SFTTrainer(
        generator.model, config, train_dataset=data, processing_class=generator.tokenizer
    )


def _seq2seq_trainer(generator: Generator, data: Dataset, arguments: dict) -> Trainer:
    return Seq2SeqTrainer(
        generator.model,
        Seq2SeqTrainingArguments(**arguments),
        train_dataset=data,
        processing_class=generator.tokenizer,
        data_collator=DataCollatorForSeq2Seq(generator.tokenizer, model=generator.model),
    )
