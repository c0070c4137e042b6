"""The evaluation on its own: a tuned generator against the one it came from.

    python recipes/evaluate_dialog.py --before runs/demo/warm_start \\
        --generator runs/demo/generator --judge runs/demo/judge \\
        --discriminator runs/demo/discriminator --output_dir runs/evaluation

Give the --dialogues and the --seed of the run, so that the test contexts are those that nobody
has trained on. Judge and discriminator are read as they are.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from rlhf_dialog.console import is_main_process, run_recipe
from rlhf_dialog.discriminators.model import load_discriminator
from rlhf_dialog.errors import UserError
from rlhf_dialog.evaluation.comparison import compare_generators, publish
from rlhf_dialog.generators.loading import check_lengths, load_generator
from rlhf_dialog.parsing import parse_run
from rlhf_dialog.runs import all_values, new_run, versions, write_config
from rlhf_dialog.stages import load_script

DEFAULT_CONFIG = Path(__file__).parent / "configs" / "demo.yaml"


def main() -> None:
    start = time.time()
    own = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    own.add_argument("--before", help="Hub id or folder of the generator before tuning.")
    known, rest = own.parse_known_args(sys.argv[1:])
    if {"-h", "--help"} & set(rest):
        own.print_help()  # the other flags follow
    settings = parse_run(DEFAULT_CONFIG, rest)
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
            raise UserError(f"--{name}: is needed; give a Hub id or a folder.")

    lengths = {
        "context_length": settings.generator.context_length,
        "response_length": settings.ppo.response_length,
    }
    script = load_script(settings.dialogues, settings.ppo.seed)
    before, after = load_generator(wanted["before"]), load_generator(wanted["generator"])
    check_lengths(after, **lengths)
    if before.tokenizer.get_vocab() != after.tokenizer.get_vocab():
        raise UserError(
            f"--before {wanted['before']}: its tokenizer is not that of {wanted['generator']}; the "
            "KL between them has no meaning. Give the generator that the tuned one came from."
        )
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
    config = all_values(*settings) | {"before": known.before}
    write_config(run, config)
    examples = script.character("test")
    metrics, samples = compare_generators(
        before, after, examples, scorers, settings.evaluation, seed=settings.ppo.seed, **lengths
    )
    report = {
        "metrics": metrics,
        "seed": settings.ppo.seed,
        "updates": 0,
        "versions": versions(),
        "config": config,
        "seconds": time.time() - start,
        "character": settings.dialogues.character,
        "generator_type": after.kind,
        "test_contexts": len(examples),
    }
    publish(run, report, [], samples)


if __name__ == "__main__":
    run_recipe(main)
