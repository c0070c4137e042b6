"""A small run with everything that has a state, stopped and gone on with."""

import json
import os
import signal
from pathlib import Path

import numpy as np
import torch
from transformers import PrinterCallback, TrainerCallback

from rlhf_dialog.discriminators.model import fresh_discriminator
from rlhf_dialog.discriminators.negatives import Pair
from rlhf_dialog.discriminators.refresh import Refresher
from rlhf_dialog.discriminators.rewards import as_reward
from rlhf_dialog.ppo.config import SeqGANPPOConfig
from rlhf_dialog.ppo.interruption import Interrupted
from rlhf_dialog.ppo.trainer import SeqGANPPOTrainer
from rlhf_dialog.runs import UpdateLog
from rlhf_dialog.settings import DiscriminatorSettings
from tests.ppo.trainers import make_ends_likely

DEFAULTS = {
    "max_steps": 6,
    "per_device_train_batch_size": 4,
    "gradient_accumulation_steps": 2,  # three batches a pass: a stop after four is inside one
    "num_mini_batches": 2,
    "num_ppo_epochs": 1,
    "response_length": 6,
    "learning_rate": 5e-3,
    "kl_target": 0.5,
    "save_steps": 3,
    "report_to": "none",
    "disable_tqdm": True,
    "use_cpu": True,
    "seed": 3,
}
REFRESHES = DiscriminatorSettings(
    refresh_steps=2, refresh_samples=12, discriminator_batch_size=8, refresh_ceiling=1.0
)


class SignalAfter(TrainerCallback):
    """Sends this process a signal in the course of one update."""

    def __init__(self, update, signum=signal.SIGTERM):
        self.update, self.signum = update, signum

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.update:
            os.kill(os.getpid(), self.signum)


def watch(contexts, replies):
    """A judge that gives every line of the log what it prints."""
    words = float(np.mean([len(reply.split()) for reply in replies]))
    letters = float(np.mean([len(reply) for reply in replies]))
    return {"judge/score": letters, "text/reply_words": words, "text/distinct_2": 0.5}


def build_run(
    generator,
    examples,
    folder,
    *,
    reward=None,
    stop_after=None,
    trainer=None,
    callbacks=(),
    **values,
):
    """A trainer as a script builds it; without a `reward`, the discriminator's, with refreshes."""
    make_ends_likely(generator.model, generator.tokenizer.eos_token_id)
    given = {"train_examples": examples, "context_length": 24, "monitors": [watch]}
    if reward is None:
        pools = {
            kind: [Pair(e.context, f"{e.reply}{end}", kind, e.dialogue_id) for e in examples]
            for kind, end in (("real", ""), ("cast", " aye"), ("generated", " lamp"))
        }
        texts = [pair.reply for pool in pools.values() for pair in pool]
        reward = fresh_discriminator(texts, hidden_size=32, layers=1, max_tokens=32, seed=0)
        given |= {"refresher": Refresher(reward, pools, REFRESHES, seed=0), "refresh_every": 2}
    stops = [SignalAfter(stop_after)] if stop_after else []
    built = SeqGANPPOTrainer(
        SeqGANPPOConfig(**{"output_dir": str(folder), **DEFAULTS, **values}),
        generator,
        as_reward(reward),
        callbacks=[*callbacks, *stops],
        **given,
        **(trainer or {}),
    )
    built.remove_callback(PrinterCallback)
    UpdateLog(Path(folder)).attach(built)
    return built


def train(built, **how):
    """Trains to the end or to a signal; returns the exit status that a script would have."""
    torch.manual_seed(built.local_seed + 7)  # what came before in the process must not matter
    np.random.seed(11)
    try:
        built.train(**how)
    except Interrupted as stop:
        return stop.code
    return 0


def rows(folder, name="metrics.jsonl"):
    """What a file of the run says, but for how long it took."""
    lines = (Path(folder) / name).read_text(encoding="utf-8").splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in lines]
