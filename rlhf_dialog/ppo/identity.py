"""What makes a run the run it is: the values and the data that a resumed one must have again."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from trl.experimental.ppo import PPOConfig

from rlhf_dialog.changes import HARMLESS, fingerprint
from rlhf_dialog.dialogues.schema import Example
from rlhf_dialog.discriminators.refresh import Refresher
from rlhf_dialog.ppo.inherited import ACTED_UPON

if TYPE_CHECKING:
    from rlhf_dialog.ppo.trainer import SeqGANPPOTrainer


def run_values(trainer: SeqGANPPOTrainer) -> dict[str, Any]:
    """By name, as JSON holds them: options that are acted upon, the processes, the data."""
    args, refresher = trainer.args, trainer.refresher
    inherited = {f.name for f in dataclasses.fields(PPOConfig)}
    named = {f.name for f in dataclasses.fields(args)}
    compared = (named - inherited | set(ACTED_UPON)) - HARMLESS
    values = {name: getattr(args, name) for name in sorted(compared)}
    values |= {
        "world_size": trainer.accelerator.num_processes,
        "sharding": _sharding(trainer),
        "context_length": trainer.context_length,
        "refresh_every": trainer.refresh_every,
        "generator_weights": trainer.began_from,
        "adapters": _adapters(trainer),
        "train_examples": _examples(trainer.train_dataset),
        "supervised_examples": _examples(trainer.anchor.examples),
        "eval_examples": _examples(trainer.eval_examples),
    }
    if isinstance(refresher, Refresher):
        values |= dataclasses.asdict(refresher.settings)
        values["discriminator_pools"] = fingerprint(
            [kind, pair.context, pair.reply, pair.group]
            for kind, pool in sorted(refresher.pools.items())
            for pair in pool
        )
    plain = {name: getattr(value, "value", value) for name, value in values.items()}
    return json.loads(json.dumps(plain))


def _examples(examples: Iterable[Example]) -> str:
    return fingerprint(
        [
            *(list(e.context), e.reply, e.weight),
            *(getattr(e.context, "persona", ()), getattr(e.context, "summary", "")),
        ]
        for e in examples
    )


def _adapters(trainer: SeqGANPPOTrainer) -> str:
    """The values of adapters, which their tensors do not tell."""
    kinds = getattr(trainer.generator.model, "peft_config", {})
    values = {
        f"{adapter}.{name}": sorted(value) if isinstance(value, set) else value
        for adapter, config in kinds.items()
        for name, value in config.to_dict().items()
        if name != "base_model_name_or_path"  # the base's weights are compared
    }
    return json.dumps(values, sort_keys=True, default=str) if values else "none"


def _sharding(trainer: SeqGANPPOTrainer) -> str:
    """Who cuts the state into how many pieces: others cannot put them together."""
    if not trainer.is_deepspeed_enabled:
        return "none"
    stage = trainer.accelerator.state.deepspeed_plugin.zero_stage
    return f"ZeRO-{stage} of {trainer.accelerator.num_processes} processes"
