"""The main job: a generator learns to reply like one character of a script.

    accelerate launch recipes/seqgan_ppo.py
    accelerate launch recipes/seqgan_ppo.py --config recipes/configs/dialogpt_small_himym.yaml

warm start -> discriminator -> judge -> PPO with refreshes -> before and after -> report
"""

from __future__ import annotations

import time
from pathlib import Path

from transformers import set_seed

from rlhf_dialog.console import console, is_main_process, run_recipe
from rlhf_dialog.discriminators.training import Refresher, pretrain
from rlhf_dialog.evaluation.judge import save_judge, train_judge
from rlhf_dialog.evaluation.report import print_report, write_report
from rlhf_dialog.evaluation.suite import TextMonitor, compare, measure_generator, measure_humans
from rlhf_dialog.parsing import parse
from rlhf_dialog.ppo.config import SeqGANPPOConfig
from rlhf_dialog.ppo.rewards import ShuffledReward, constant_reward
from rlhf_dialog.ppo.trainer import SeqGANPPOTrainer
from rlhf_dialog.runs import UpdateLog, changed_values, new_run, versions, write_config, write_jsonl
from rlhf_dialog.settings import (
    DialogueSettings,
    DiscriminatorSettings,
    EvaluationSettings,
    GeneratorSettings,
)
from rlhf_dialog.stages import (
    build_pools,
    check_models,
    describe_script,
    load_script,
    prepare_discriminator,
    prepare_generator,
    save_generator,
)

DEFAULT_CONFIG = Path(__file__).parent / "configs" / "demo.yaml"


def main() -> None:
    start = time.time()
    settings = parse(
        [
            DialogueSettings,
            GeneratorSettings,
            DiscriminatorSettings,
            EvaluationSettings,
            SeqGANPPOConfig,
        ],
        default_config=DEFAULT_CONFIG,
    )
    said, generating, discriminating, evaluating, ppo = settings
    seed = ppo.seed
    lengths = {
        "context_length": generating.context_length,
        "response_length": ppo.response_length,
    }

    # Everything that can be wrong with the input is found here, before anything is written.
    script = load_script(said, seed)
    check_models(generating, discriminating)
    run = new_run(ppo.output_dir)
    config = changed_values(*settings)
    write_config(run, config)
    describe_script(script)
    set_seed(seed)

    # Warm start: the whole cast's replies, so that the character's way of talking is within reach.
    generator = prepare_generator(
        script, generating, response_length=ppo.response_length, seed=seed
    )
    before = generator.frozen_copy()

    # The discriminator is the reward; the judge learns elsewhere and never is.
    pools = build_pools(script, "discriminator", before, seed=seed, **lengths)
    discriminator = prepare_discriminator(script, "discriminator", discriminating, seed=seed)
    report = pretrain(discriminator, pools, discriminating, seed=seed, description="discriminator")
    judge = prepare_discriminator(script, "judge", discriminating, seed=seed + 1)
    judge_pools = build_pools(script, "judge", before, seed=seed + 1, **lengths)
    judge_report = train_judge(judge, judge_pools, discriminating, seed=seed)
    for name, figures in (("discriminator", report), ("judge", judge_report)):
        console.print(
            f"{name}, held out: "
            + ", ".join(f"{k} {v:.3f}" for k, v in figures.items() if k.startswith("auc"))
        )

    # Reinforcement learning.
    reward = {
        "discriminator": discriminator,
        "constant": constant_reward,
        "shuffled": ShuffledReward(discriminator, seed),
    }[ppo.reward]
    log = UpdateLog(run)
    trainer = SeqGANPPOTrainer(
        ppo,
        generator,
        reward,
        script.character("generator"),
        context_length=generating.context_length,
        refresher=Refresher(discriminator, pools, discriminating, seed),
        refresh_every=discriminating.refresh_every,
        supervised_examples=script.everybody("generator"),
        monitors=[TextMonitor(judge)],
    )
    log.attach(trainer)
    trainer.train()
    save_generator(generator, run / "generator", {"stage": "ppo", "updates": len(log.history)})
    if not is_main_process():
        return
    discriminator.save(run / "discriminator")
    save_judge(judge, judge_report, run / "judge")

    # Before and after, on contexts nobody has trained on.
    examples = script.character("test")
    scorers = {"judge": judge, "discriminator": discriminator}
    common = {"samples": evaluating.samples_per_context, "seed": seed, **lengths}
    was = measure_generator(before, None, examples, scorers, description="test, before", **common)
    now = measure_generator(
        generator, before, examples, scorers, description="test, after", **common
    )
    human = measure_humans(examples, scorers, generator)
    result = {
        "metrics": compare(was, now, human, resamples=evaluating.bootstrap_resamples, seed=seed),
        "seed": seed,
        "updates": len(log.history),
        "versions": versions(),
        "config": config,
        "seconds": time.time() - start,
        "character": said.character,
        "generator_type": generator.kind,
        "test_contexts": len(examples),
    }
    samples = [
        {
            "context": list(example.context),
            "before": was.replies[i][0],
            "after": now.replies[i][0],
            "human": human.replies[i][0],
            "scores": {
                name: {
                    "before": float(was.scores[name][i, 0]),
                    "after": float(now.scores[name][i, 0]),
                    "human": float(human.scores[name][i, 0]),
                }
                for name in scorers
            },
        }
        for i, example in enumerate(examples)
    ]
    write_jsonl(run / "samples.jsonl", samples)
    html = write_report(run, result, log.history, samples)
    print_report(console, result, samples, html)


if __name__ == "__main__":
    run_recipe(main)
