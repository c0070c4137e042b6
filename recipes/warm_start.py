"""The supervised stage on its own: a generator learns to reply like the whole cast of a script.

    accelerate launch -q recipes/warm_start.py --output_dir runs/warm_start

Give the folder `generator` that it writes to seqgan_ppo.py as --generator, with the same
--dialogues and --seed, so that the splits are the same.
"""

from __future__ import annotations

from pathlib import Path

from transformers import set_seed

from rlhf_dialog.console import console, run_recipe
from rlhf_dialog.parsing import parse_run
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
    settings = parse_run(DEFAULT_CONFIG)
    seed = settings.ppo.seed
    script = load_script(settings.dialogues, seed)
    general = general_examples(script, settings.generator)
    reply = {"response_length": settings.ppo.response_length, "seed": seed}
    generator = make_generator(script, settings.generator, general, **reply)
    run = new_run(settings.ppo.output_dir)
    write_config(run, all_values(*settings))
    describe_script(script)
    set_seed(seed)
    warm_start_generator(generator, script, settings.generator, general, **reply)
    save_generator(generator, run / "generator", {"stage": "warm start", "seed": seed})
    console.print(f"The generator: {run / 'generator'}")


if __name__ == "__main__":
    run_recipe(main)
