"""The reward model on its own: a discriminator learns a character's replies from all others.

    accelerate launch -q recipes/train_discriminator.py --generator runs/warm_start/generator \\
        --output_dir runs/discriminator

Its fakes are samples of the generator, other characters' replies, real replies under wrong
contexts and broken replies. Writes the folder `discriminator`, and in held_out.json the held-out
figures beside those of shortcuts that see only length, casing and punctuation, or a bag of words.
Without --generator one is made and warm-started first.
"""

from __future__ import annotations

from pathlib import Path

from transformers import set_seed

from rlhf_dialog.console import run_recipe
from rlhf_dialog.discriminators.shortcuts import shortcut_report
from rlhf_dialog.discriminators.training import pretrain
from rlhf_dialog.generators.summaries import load_summarizer
from rlhf_dialog.parsing import parse_run
from rlhf_dialog.runs import all_values, new_run, write_config
from rlhf_dialog.stages import (
    describe_script,
    discriminator_pools,
    general_examples,
    human_pools,
    keep_discriminator,
    load_script,
    make_discriminator,
    make_generator,
    warm_start_generator,
)

DEFAULT_CONFIG = Path(__file__).parent / "configs" / "demo.yaml"


def main() -> None:
    settings = parse_run(DEFAULT_CONFIG)
    seed = settings.ppo.seed
    reply = {"response_length": settings.ppo.response_length, "seed": seed}
    script = load_script(settings.dialogues, seed)
    general = general_examples(script, settings.generator)
    generator = make_generator(script, settings.generator, general, **reply)
    discriminator = make_discriminator(script, "discriminator", settings.discriminator, seed=seed)
    summarizer = load_summarizer(generator, settings.generator)
    people = human_pools(script, "discriminator", generator, settings.ppo.response_length)
    run = new_run(settings.ppo.output_dir)
    write_config(run, all_values(*settings))
    describe_script(script)
    if summarizer is not None:
        script.summarise(summarizer.shared, "generator", "discriminator")
        general = general_examples(script, settings.generator, summarizer.shared)
        people = human_pools(script, "discriminator", generator, settings.ppo.response_length)
        del summarizer  # and its memory
    set_seed(seed)
    warm_start_generator(generator, script, settings.generator, general, **reply)
    pools = discriminator_pools(
        people,
        generator,
        context_length=settings.generator.context_length,
        **reply,
    )
    held_out = pretrain(
        discriminator, pools, settings.discriminator, seed=seed, description="discriminator"
    )
    shortcuts = shortcut_report(pools, settings.discriminator, seed=seed)
    keep_discriminator(run, discriminator, held_out, shortcuts)


if __name__ == "__main__":
    run_recipe(main)
