"""The main job: a generator learns to reply like one character of a script.

    accelerate launch -q recipes/seqgan_ppo.py
    accelerate launch -q recipes/seqgan_ppo.py --config recipes/configs/dialogpt_small_himym.yaml

warm start -> discriminator -> judge -> PPO with refreshes -> before and after -> report

A run that was stopped goes on with `--config RUN/config.yaml --resume_from_checkpoint latest`.
"""

from __future__ import annotations

import time
from pathlib import Path

from transformers import set_seed

from rlhf_dialog.console import is_main_process, run_recipe, world_size
from rlhf_dialog.discriminators.refresh import Refresher
from rlhf_dialog.discriminators.shortcuts import shortcut_report
from rlhf_dialog.discriminators.training import pretrain
from rlhf_dialog.evaluation.comparison import compare_generators, publish
from rlhf_dialog.evaluation.judge import save_judge, train_judge
from rlhf_dialog.evaluation.suite import Speaker, TextMonitor
from rlhf_dialog.evaluation_stages import evaluation_suite, general_test, supervised_control
from rlhf_dialog.generators.summaries import load_summarizer
from rlhf_dialog.parsing import parse_run
from rlhf_dialog.ppo.trainer import SeqGANPPOTrainer
from rlhf_dialog.publishing import push_after_training, push_finished
from rlhf_dialog.resuming import (
    command_to_go_on,
    keep_pretrained,
    kept_pretrained,
    run_to_resume,
    with_models_of,
)
from rlhf_dialog.runs import UpdateLog, all_values, new_run, versions, write_config
from rlhf_dialog.stages import (
    describe_script,
    discriminator_pools,
    general_examples,
    human_pools,
    load_script,
    make_discriminator,
    make_generator,
    make_reward,
    print_held_out,
    save_generator,
    warm_start_generator,
)

DEFAULT_CONFIG = Path(__file__).parent / "configs" / "demo.yaml"


def main() -> None:
    start = time.time()
    settings = parse_run(DEFAULT_CONFIG)
    ppo, seed = settings.ppo, settings.ppo.seed
    lengths = {
        "context_length": settings.generator.context_length,
        "response_length": ppo.response_length,
    }

    # Everything that can be wrong with the input is found here, before anything is written.
    config = all_values(*settings)
    resumed = run_to_resume(ppo, config)
    models = settings if resumed is None else with_models_of(resumed, settings)
    script = load_script(settings.dialogues, seed)
    ppo.check_contexts(len(script.character("generator")), world_size())
    general = general_examples(script, settings.generator)
    retention = general_test(script, settings)
    reply = {"response_length": ppo.response_length, "seed": seed}
    generator = make_generator(script, models.generator, general, **reply)
    discriminator = make_discriminator(script, "discriminator", models.discriminator, seed=seed)
    judge = make_discriminator(script, "judge", models.discriminator, seed=seed + 1)
    summarizer = load_summarizer(generator, models.generator)
    people = {
        split: human_pools(script, split, generator, ppo.response_length)
        for split in ("discriminator", "judge")
    }
    push = push_after_training(ppo)
    run = resumed or new_run(ppo.output_dir)
    describe_script(script)
    if summarizer is not None:
        script.summarise(summarizer.shared, "generator", "discriminator", "test")
        general = general_examples(script, models.generator, summarizer.shared)
        retention = general_test(script, settings, summarizer.shared)
        split = "discriminator"
        people[split] = human_pools(script, split, generator, ppo.response_length)
        del summarizer  # and its memory
    set_seed(seed)

    if resumed is None:
        write_config(run, config)
        # Warm start: the whole cast's replies, so that the character's way of talking is in reach.
        warm_start_generator(generator, script, settings.generator, general, **reply)
        save_generator(generator, run / "warm_start", {"stage": "warm start", "seed": seed})
    before = generator.frozen_copy()

    # The discriminator is the reward. The judge never is: it learns elsewhere, from people alone.
    if resumed is None:
        pools = discriminator_pools(people["discriminator"], before, seed=seed, **lengths)
        held_out = {
            "discriminator": pretrain(
                discriminator, pools, settings.discriminator, seed=seed, description="discriminator"
            ),
            "judge": train_judge(judge, people["judge"], settings.discriminator, seed=seed),
            "shortcuts": shortcut_report(pools, settings.discriminator, seed=seed),
        }
        save_judge(judge, held_out["judge"], run / "judge")
        keep_pretrained(run, discriminator, pools, held_out)
        print_held_out("discriminator", held_out["discriminator"], held_out["shortcuts"])
        print_held_out("judge", held_out["judge"])
    else:
        pools, held_out = kept_pretrained(run, people["discriminator"])

    # Reinforcement learning.
    trainer = SeqGANPPOTrainer(
        ppo,
        generator,
        make_reward(ppo, discriminator, script, generator),
        script.character("generator"),
        context_length=settings.generator.context_length,
        refresher=Refresher(discriminator, pools, settings.discriminator, seed),
        refresh_every=settings.discriminator.refresh_every,
        supervised_examples=script.everybody("generator"),
        monitors=[TextMonitor(judge)],
        eval_examples=script.character("discriminator"),  # of eval_strategy; not the test's
    )
    log = UpdateLog(run, config if ppo.accept_changes else None)
    log.attach(trainer)
    trainer.how_to_go_on = command_to_go_on(run)
    trainer.train()
    updates = trainer.state.global_step
    save_generator(generator, run / "generator", {"stage": "ppo", "updates": updates})
    controls = supervised_control(before, script, settings, run)
    if not is_main_process():
        return
    trainer.policy.save_value(run / "value")
    discriminator.save(run / "discriminator")

    # Before and after, on contexts nobody has trained on.
    scorers = {"judge": judge, "discriminator": discriminator}
    suite = evaluation_suite(script, scorers, settings, retention)
    speakers = [
        Speaker("warm start", "before", lambda: before),
        Speaker("tuned", "after", lambda: generator),
        *controls,
    ]
    measured, samples = compare_generators(suite, speakers)
    report = {
        **measured,
        "held_out": held_out,
        "seed": seed,
        "updates": updates,
        "versions": versions(),
        "config": config,
        "seconds": time.time() - start,
        "character": settings.dialogues.character,
        "generator_type": generator.kind,
        "test_contexts": len(suite.examples),
    }
    publish(run, report, log.history, samples)
    if push:
        push_finished(push)


if __name__ == "__main__":
    run_recipe(main)
