"""The evaluation on its own: any number of generators on the same contexts with the same seeds.

    python recipes/evaluate_dialog.py --run runs/demo
    python recipes/evaluate_dialog.py --run runs/demo \\
        --generators constant=runs/control/generator other=microsoft/DialoGPT-small \\
        --output_dir runs/demo/evaluations/controls
    python recipes/evaluate_dialog.py --before runs/demo/warm_start \\
        --generator runs/demo/generator --judge runs/demo/judge \\
        --discriminator runs/demo/discriminator --output_dir runs/evaluation

`--run` takes everything from a run's folder: its configuration, warm start, judge, discriminator,
and the newest generator it has saved (while it trains: with save_strategy: best). Without it,
give the --dialogues and the --seed of the run, so that the test contexts are those that nobody has
trained on. Judge and discriminator are read as they are. Prints tables, writes report.json, .md and
.html.
"""

from __future__ import annotations

import argparse
import sys
import time
from functools import partial
from pathlib import Path

from rlhf_dialog.console import is_main_process, run_recipe
from rlhf_dialog.discriminators.model import load_discriminator
from rlhf_dialog.errors import UserError
from rlhf_dialog.evaluation.comparison import compare_generators, publish
from rlhf_dialog.evaluation.run_files import (
    judge_held_out,
    newest_discriminator,
    newest_generator,
    read_rows,
)
from rlhf_dialog.evaluation.suite import HUMAN, Speaker
from rlhf_dialog.evaluation_stages import SUPERVISED, evaluation_suite, general_test
from rlhf_dialog.generators.loading import check_lengths, load_generator
from rlhf_dialog.generators.summaries import load_summarizer
from rlhf_dialog.parsing import parse_run
from rlhf_dialog.runs import all_values, new_run, refuse_used, versions, write_config
from rlhf_dialog.stages import load_script

DEFAULT_CONFIG = Path(__file__).parent / "configs" / "demo.yaml"


def own_flags(arguments: list[str]) -> tuple[argparse.Namespace, list[str], Path]:
    """The flags that no other recipe has, the rest, and the YAML file to start from."""
    own = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    own.add_argument("--run", type=Path, help="A run's folder, which gives all that is not given.")
    own.add_argument("--before", help="Hub id or folder of the generator before tuning.")
    own.add_argument(
        "--generators", nargs="+", default=[], metavar="NAME=PATH", help="Further ones: controls."
    )
    known, rest = own.parse_known_args(arguments)
    if {"-h", "--help"} & set(rest):
        own.print_help()  # the other flags follow
    if known.run is None:
        return known, rest, DEFAULT_CONFIG
    run = known.run
    if not (run / "config.yaml").is_file():
        raise UserError(f"--run {run}: is no run's folder; it has no config.yaml.")
    history = read_rows(run / "metrics.jsonl")
    known.before = known.before or str(run / "warm_start")
    given = {part.split("=")[0].replace("-", "_") for part in rest}  # --output-dir is known too
    if "__generator" not in given:
        rest += ["--generator", str(newest_generator(run))]
    updates = history[-1]["update"] if history else 0
    for name, folder in (
        ("judge", run / "judge"),
        ("discriminator", newest_discriminator(run)),
        ("output_dir", run / "evaluations" / f"update-{updates:06}"),
    ):
        if f"__{name}" not in given:
            rest += [f"--{name}", str(folder)]
    if (run / SUPERVISED).is_dir() and not known.generators:
        known.generators = [f"{SUPERVISED}={run / SUPERVISED}"]
    return known, rest, run / "config.yaml"


def named_generators(given: list[str]) -> dict[str, str]:
    """NAME=PATH, as a mapping."""
    found: dict[str, str] = {}
    for text in given:
        name, _, path = text.partition("=")
        if not name or not path or name in {*found, "warm start", "tuned", HUMAN}:
            raise UserError(f"--generators {text}: write NAME=PATH, with a name of its own.")
        found[name] = path
    return found


def main() -> None:
    start = time.time()
    known, rest, config_file = own_flags(sys.argv[1:])
    others = named_generators(known.generators)
    settings = parse_run(config_file, rest)
    if not is_main_process():  # one process measures; the others have nothing to do
        return
    wanted = {
        "before": known.before,
        "generator": settings.generator.generator,
        "judge": settings.discriminator.judge,
        "discriminator": settings.discriminator.discriminator,
    }
    for name, value in wanted.items():
        if value is None:
            raise UserError(f"--{name}: is needed; give a Hub id or a folder, or --run.")
    refuse_used(settings.ppo.output_dir)

    script = load_script(settings.dialogues, settings.ppo.seed)
    general = general_test(script, settings)
    before, after = load_generator(wanted["before"]), load_generator(wanted["generator"])
    check_lengths(after, settings.generator.context_length, settings.ppo.response_length)
    summarizer = load_summarizer(after, settings.generator)
    if before.tokenizer.get_vocab() != after.tokenizer.get_vocab():
        raise UserError(
            f"--before {wanted['before']}: its tokenizer is not that of {wanted['generator']}; the "
            "KL between them has no meaning. Give the generator that the tuned one came from."
        )
    for path in others.values():  # one that cannot be loaded is told now, not after the first ones
        lengths = settings.generator.context_length, settings.ppo.response_length
        check_lengths(load_generator(path), *lengths)
    scorers = {
        name: load_discriminator(
            wanted[name],
            max_tokens=settings.discriminator.discriminator_max_tokens,
            what=name,
            trained=True,
        )
        for name in ("judge", "discriminator")
    }
    run = new_run(settings.ppo.output_dir)
    config = all_values(*settings) | {"before": known.before, "generators": others}
    write_config(run, config)
    if summarizer is not None:
        script.summarise(summarizer, "test")
        general = general_test(script, settings, summarizer)
        del summarizer  # and its memory
    suite = evaluation_suite(script, scorers, settings, general)
    speakers = [
        Speaker("warm start", "before", lambda: before),
        Speaker("tuned", "after", lambda: after),
        *(Speaker(name, "control", partial(load_generator, path)) for name, path in others.items()),
    ]
    measured, samples = compare_generators(suite, speakers)
    history = read_rows(known.run / "metrics.jsonl") if known.run else []
    report = {
        **measured,
        "held_out": {"judge": judge_held_out(wanted["judge"])},
        "seed": settings.ppo.seed,
        **({"updates": history[-1]["update"]} if history else {}),
        "versions": versions(),
        "config": config,
        "seconds": time.time() - start,
        "character": settings.dialogues.character,
        "generator_type": after.kind,
        "test_contexts": len(suite.examples),
    }
    publish(run, report, history, samples)


if __name__ == "__main__":
    run_recipe(main)
