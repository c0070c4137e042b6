"""What a recipe does before PPO is done once: kept in the run's folder, found there again."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from rlhf_dialog.changes import accepted_changes
from rlhf_dialog.console import is_main_process
from rlhf_dialog.discriminators.model import Discriminator
from rlhf_dialog.discriminators.negatives import Pair
from rlhf_dialog.errors import UserError
from rlhf_dialog.parsing import RunSettings
from rlhf_dialog.ppo.checkpoint_folders import flush, write_json
from rlhf_dialog.ppo.checkpoints import choose
from rlhf_dialog.ppo.config import SeqGANPPOConfig
from rlhf_dialog.runs import write_jsonl

WARM_START, JUDGE = "warm_start", "judge"
PRETRAINED = "discriminator_before"  # PPO; at the end of the run `discriminator/` is beside it
FAKES, HELD_OUT = "fakes.jsonl", "held_out.json"


def run_to_resume(ppo: SeqGANPPOConfig, config: Mapping[str, Any]) -> Path | None:
    """The folder of the run to go on with, as `resume_from_checkpoint` says; None for a new run.

    Args:
        config: every value now, as `all_values` gives them. With accepted changes they become the
            run's own when training goes on (`UpdateLog`), and not before.

    Raises:
        UserError: no run there, none of its checkpoints is complete, or its settings are others.
    """
    if not ppo.resume_from_checkpoint:
        return None
    run = Path(str(ppo.output_dir))
    path = run / "config.yaml"
    if not path.is_file():
        raise UserError(
            f"--output_dir {run}: holds no run to go on with; give the folder of the one that was "
            "stopped, or leave out resume_from_checkpoint."
        )
    chosen = choose(run, ppo.resume_from_checkpoint)
    if chosen.resolve().parent.parent != run.resolve():
        raise UserError(
            f"--resume_from_checkpoint {chosen}: belongs to another run; give its folder as "
            f"--output_dir {chosen.parent.parent}."
        )
    before = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    accepted_changes(before, config, ppo.accept_changes or (), config, str(path))
    return run


def with_models_of(run: Path, settings: RunSettings) -> RunSettings:
    """Settings under which the models that the run had before PPO are the ones that are loaded."""
    return settings._replace(
        generator=dataclasses.replace(settings.generator, generator=str(run / WARM_START)),
        discriminator=dataclasses.replace(
            settings.discriminator, discriminator=str(run / PRETRAINED), judge=str(run / JUDGE)
        ),
    )


def keep_pretrained(
    run: Path,
    discriminator: Discriminator,
    pools: Mapping[str, Sequence[Pair]],
    held_out: Mapping[str, Any],
) -> None:
    """Writes what refreshes begin from and what `held_out` tells of it, and sees that everything of
    the run so far is on disk."""
    if not is_main_process():
        return
    discriminator.save(run / PRETRAINED)
    rows = [
        {"context": list(pair.context), "reply": pair.reply, "group": pair.group}
        for pair in pools["generated"]
    ]
    write_jsonl(run / PRETRAINED / FAKES, rows)
    write_json(run / PRETRAINED / HELD_OUT, held_out)
    flush(run)


def kept_pretrained(
    run: Path, people: Mapping[str, list[Pair]]
) -> tuple[dict[str, list[Pair]], dict[str, Any]]:
    """The pools that the discriminator learnt from, people's and the generator's of that time, and
    its held-out report."""
    lines = (run / PRETRAINED / FAKES).read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    if rows and "group" not in rows[0]:
        raise UserError(
            f"{run / PRETRAINED / FAKES}: was written by an earlier version, which held out other "
            "replies; begin a new run, or go on with the version that began this one."
        )
    generated = [
        Pair(tuple(row["context"]), row["reply"], "generated", row["group"]) for row in rows
    ]
    held_out = json.loads((run / PRETRAINED / HELD_OUT).read_text(encoding="utf-8"))
    return {**people, "generated": generated}, held_out


def command_to_go_on(run: Path) -> str:
    return (
        f"accelerate launch -q {sys.argv[0]} --config {run / 'config.yaml'} "
        "--resume_from_checkpoint latest"
    )
