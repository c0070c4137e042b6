"""What the tests of the trainer share: a small run and what it leaves behind."""

import torch
from transformers import PrinterCallback, TrainerCallback

from rlhf_dialog.ppo.config import SeqGANPPOConfig
from rlhf_dialog.ppo.trainer import SeqGANPPOTrainer


class History(TrainerCallback):
    """Keeps what was logged; stops the run after `stop_after` updates."""

    def __init__(self, stop_after=None):
        self.logs, self.stop_after = [], stop_after

    def on_log(self, args, state, control, logs=None, **kwargs):
        self.logs.append(dict(logs))

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.stop_after:
            control.should_training_stop = True


def share_of_e(contexts, replies):
    return torch.tensor([reply.count("e") / max(1, len(reply)) for reply in replies])


def grade(contexts, replies):
    """A reward without meaning under which hardly two replies are equal."""
    return torch.tensor([sum(map(ord, reply)) % 97 / 97 for reply in replies])


@torch.no_grad()
def make_ends_likely(model, eos):
    """Raises the probability of EOS to several percent, so that replies differ in length."""
    if model.config.is_encoder_decoder:
        norm = model.model.decoder.layers[-1].final_layer_norm
    else:
        norm = model.transformer.ln_f
    direction = torch.randn(norm.bias.shape, generator=torch.Generator().manual_seed(1))
    norm.bias += direction
    model.get_output_embeddings().weight[eos] += 0.07 * direction


def build_trainer(generator, examples, folder, reward, *, stop_after=None, trainer=None, **values):
    """A trainer on one process and its history; `values` are the configuration's."""
    defaults = {
        "output_dir": str(folder),
        "max_steps": 1,
        "per_device_train_batch_size": 8,
        "gradient_accumulation_steps": 2,
        "num_mini_batches": 1,
        "num_ppo_epochs": 1,
        "response_length": 6,
        "learning_rate": 5e-3,
        "lr_scheduler_type": "constant",
        "report_to": "none",
        "save_strategy": "no",
        "disable_tqdm": True,
        "use_cpu": True,
        "seed": 3,
    }
    make_ends_likely(generator.model, generator.tokenizer.eos_token_id)
    history = History(stop_after)
    arguments = {"train_examples": examples, "context_length": 24, **(trainer or {})}
    built = SeqGANPPOTrainer(
        SeqGANPPOConfig(**{**defaults, **values}),
        generator,
        reward,
        callbacks=[history],
        **arguments,
    )
    built.remove_callback(PrinterCallback)
    return built, history


def rollout_of(trainer):
    return trainer.sample(next(iter(trainer.dataloader)))


def column(history, name):
    return [logs[name] for logs in history.logs]


def weights(module):
    return [parameter.detach().clone() for parameter in module.parameters()]
