"""The judge: a discriminator that is never a reward.

It learns from dialogues that neither the generator nor the discriminator has seen, with a seed of
its own, and from what people wrote alone: the character against the cast, wrong contexts and broken
replies. It has seen no generator's samples, so moving away from the warm start earns nothing in
itself. Then it is frozen, and only `evaluation` and the log read it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from rlhf_dialog.console import is_main_process
from rlhf_dialog.discriminators.model import Discriminator
from rlhf_dialog.discriminators.negatives import Pair
from rlhf_dialog.discriminators.training import pretrain
from rlhf_dialog.settings import DiscriminatorSettings

JUDGE_SEED = 7919  # added to the run's seed


def train_judge(
    judge: Discriminator,
    pools: Mapping[str, Sequence[Pair]],
    settings: DiscriminatorSettings,
    *,
    seed: int,
) -> dict[str, float]:
    """Trains and freezes `judge` in place; returns its held-out report."""
    report = pretrain(judge, pools, settings, seed=seed + JUDGE_SEED, description="judge")
    judge.model.requires_grad_(False)
    return report


def save_judge(judge: Discriminator, report: Mapping[str, float], folder: Path) -> None:
    """A plain transformers folder, and a file that says what it may be used for."""
    if not is_main_process():
        return
    judge.save(folder)
    statement = {
        "role": "frozen judge: evaluates replies and was never a reward",
        "held_out": dict(report),
    }
    (folder / "judge.json").write_text(json.dumps(statement, indent=2) + "\n", encoding="utf-8")
