"""The supervised stage on its own: a generator learns to reply like the whole cast of a script.

    accelerate launch -q recipes/warm_start.py --output_dir runs/warm_start
    accelerate launch -q recipes/warm_start.py --resume runs/warm_start

Give the folder `generator` that it writes to seqgan_ppo.py as --generator, with the same
--dialogues and --seed, so that the splits are the same. report.json has its figures on the test
split. A run that was interrupted goes on from its last epoch with --resume, which takes all values
from its config.yaml. docs/supervised.md has the options.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path

from transformers import set_seed

from rlhf_dialog.console import console, is_main_process, run_recipe
from rlhf_dialog.errors import UserError
from rlhf_dialog.evaluation.supervised_report import supervised_report
from rlhf_dialog.generators.summaries import load_summarizer
from rlhf_dialog.generators.two_heads import save_choice_head
from rlhf_dialog.parsing import RunSettings, parse_run
from rlhf_dialog.runs import all_values, new_run, write_config
from rlhf_dialog.stages import (
    describe_script,
    general_examples,
    load_script,
    make_generator,
    save_generator,
    warm_start_generator,
)

DEFAULT_CONFIG = Path(__file__).parent / "configs" / "demo.yaml"


def main() -> None:
    settings, interrupted = _settings()
    seed = settings.ppo.seed
    script = load_script(settings.dialogues, seed)
    general = general_examples(script, settings.generator)
    reply = {"response_length": settings.ppo.response_length, "seed": seed}
    generator = make_generator(script, settings.generator, general, **reply)
    summarizer = load_summarizer(generator, settings.generator)
    run = interrupted or new_run(settings.ppo.output_dir)
    if not interrupted:
        write_config(run, all_values(*settings))
    describe_script(script)
    if summarizer is not None:
        script.summarise(summarizer.shared, "generator", "test")
        general = general_examples(script, settings.generator, summarizer.shared)
        del summarizer  # and its memory
    set_seed(seed)
    head = warm_start_generator(
        generator, script, settings.generator, general, checkpoints=run / "checkpoints", **reply
    )
    save_generator(generator, run / "generator", {"stage": "warm start", "seed": seed})
    if not is_main_process():
        return
    if head is not None:
        save_choice_head(head, run / "generator")
    shutil.rmtree(run / "checkpoints", ignore_errors=True)  # of no use to a stage that is finished
    console.print(f"The generator: {run / 'generator'}")
    if not settings.generator.warm_start_reverse:  # whose replies nobody reads
        report = supervised_report(
            generator,
            head,
            script.character("test"),
            context_length=settings.generator.context_length,
            **reply,
        )
        (run / "report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
        figures = ", ".join(f"{name} {value:.4g}" for name, value in report.items())
        console.print(f"On the test split: {figures}")


def _settings() -> tuple[RunSettings, Path | None]:
    """The values of this run, and its folder where it goes on with an interrupted one."""
    own = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    own.add_argument("--resume", help="Folder of an interrupted run; its values are taken.")
    known, rest = own.parse_known_args(sys.argv[1:])
    if known.resume is None:
        if {"-h", "--help"} & set(rest):
            own.print_help()  # the other flags follow
        return parse_run(DEFAULT_CONFIG, rest), None
    run = Path(known.resume)
    if rest:
        raise UserError(f"--resume {run}: takes the values of that run; leave out {rest[0]}.")
    if not (run / "checkpoints").is_dir() or (run / "generator").exists():
        state = "is finished" if (run / "generator").exists() else "has no checkpoints"
        raise UserError(f"--resume {run}: {state}; begin a new run with its config.yaml.")
    return parse_run(DEFAULT_CONFIG, ["--config", str(run / "config.yaml")]), run


if __name__ == "__main__":
    run_recipe(main)
