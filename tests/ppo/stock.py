"""TRL 1.12's own PPOTrainer on the tests' tiny models, with what it does recorded."""

import copy
from dataclasses import dataclass, field

import torch
from datasets import Dataset
from transformers import GPT2ForSequenceClassification, PrinterCallback, TrainerCallback
from trl.experimental.ppo import PPOConfig, PPOTrainer, ppo_trainer

from rlhf_dialog.generators.prompts import encode_context


class Reseed(TrainerCallback):
    """The same random numbers at the start of every update, whatever was drawn before."""

    def on_train_begin(self, args, state, control, **kwargs):
        torch.manual_seed(1000)

    def on_step_end(self, args, state, control, **kwargs):
        torch.manual_seed(1000 + state.global_step)


@dataclass
class Record:
    """What a stock run did; tensors by update or by optimizer step."""

    trainer: PPOTrainer
    responses: list = field(default_factory=list)  # (B, T) ids
    contexts: list = field(default_factory=list)  # (B, P) ids
    logits: list = field(default_factory=list)  # what it keeps of the vocabulary
    advantages: list = field(default_factory=list)  # (B, T) before whitening
    masks: list = field(default_factory=list)  # (B, T) where it sees tokens
    gradients: list = field(default_factory=list)  # at each optimizer step
    parameters: list = field(default_factory=list)  # after each update

    @property
    def logs(self):
        return self.trainer.state.log_history


def classifier(generator, seed):
    """A GPT-2 with a `score` head and the generator's token ids, as stock asks for."""
    config = copy.deepcopy(generator.model.config)
    config.num_labels = 1
    torch.manual_seed(seed)
    return GPT2ForSequenceClassification(config).eval()


def build_stock(generator, examples, folder, *, reward=None, value=None, callbacks=(), **values):
    """A stock trainer on contexts of at most 24 tokens."""
    tokenizer = copy.deepcopy(generator.tokenizer)
    tokenizer.padding_side = "left"
    defaults = {
        "output_dir": str(folder),
        "total_episodes": 4,
        "per_device_train_batch_size": 4,
        "num_ppo_epochs": 1,
        "response_length": 6,
        "stop_token": None if "stop_token_id" in values else "eos",
        "temperature": 1.0,
        "learning_rate": 5e-3,
        "lr_scheduler_type": "constant",
        "num_sample_generations": 0,
        "save_strategy": "no",
        "bf16": False,
        "gradient_checkpointing": False,
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": True,
        "seed": 3,
    }
    trainer = PPOTrainer(
        PPOConfig(**{**defaults, **values}),
        processing_class=tokenizer,
        model=copy.deepcopy(generator.model),
        ref_model=copy.deepcopy(generator.model),
        reward_model=reward or classifier(generator, 1),
        value_model=value or classifier(generator, 2),
        train_dataset=Dataset.from_list(
            [{"input_ids": encode_context(generator, e.context, 24)} for e in examples]
        ),
        callbacks=[Reseed(), *callbacks],
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def run_stock(trainer, monkeypatch):
    """Trains it; returns the record."""
    record = Record(trainer)
    generate, whiten = ppo_trainer.batch_generation, ppo_trainer.masked_whiten

    def watched_generation(model, queries, *arguments):
        ids, logits = generate(model, queries, *arguments)
        record.contexts.append(queries)
        record.responses.append(ids[:, queries.shape[1] :])
        record.logits.append(logits)
        return ids, logits

    def watched_whiten(values, mask, shift_mean=True):
        if shift_mean:  # the advantages; rewards keep their mean
            record.advantages.append(values.clone())
            record.masks.append(mask.clone())
        return whiten(values, mask, shift_mean)

    class Parameters(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            record.parameters.append(
                {k: v.detach().clone() for k, v in trainer.model.named_parameters()}
            )

    step = trainer.optimizer.optimizer.step

    def watched_step(*arguments, **options):
        record.gradients.append(
            {k: p.grad.clone() for k, p in trainer.model.named_parameters() if p.grad is not None}
        )
        return step(*arguments, **options)

    trainer.add_callback(Parameters())
    with monkeypatch.context() as patch:
        patch.setattr(ppo_trainer, "batch_generation", watched_generation)
        patch.setattr(ppo_trainer, "masked_whiten", watched_whiten)
        patch.setattr(trainer.optimizer.optimizer, "step", watched_step)
        trainer.train()
    return record
