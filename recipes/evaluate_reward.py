"""How good is a reward model? Any sequence classifier with one logit, on labelled replies.

    python recipes/evaluate_reward.py --reward_model runs/demo/discriminator \\
        --data replies.jsonl --judge runs/demo/judge --output_dir runs/reward

The file holds labelled replies, or chosen and rejected ones in TRL's forms
(docs/evaluate_reward.md). Writes reward_report.json, .md and .html.
"""

from __future__ import annotations

import time

from rlhf_dialog.console import console, is_main_process, run_recipe
from rlhf_dialog.dialogues.labelled import read_labelled
from rlhf_dialog.discriminators.reward_model import load_reward_model
from rlhf_dialog.errors import UserError
from rlhf_dialog.evaluation.reward_evaluation import evaluate_reward
from rlhf_dialog.evaluation.reward_report import print_reward_report, write_reward_report
from rlhf_dialog.parsing import parse
from rlhf_dialog.runs import all_values, new_run, refuse_used, versions, write_config
from rlhf_dialog.settings import RewardEvaluationSettings


def main() -> None:
    start = time.time()
    (settings,) = parse((RewardEvaluationSettings,), default_config=None)
    if not is_main_process():  # one process measures; the others have nothing to do
        return
    for name in ("reward_model", "data"):
        if getattr(settings, name) is None:
            raise UserError(f"--{name}: is needed; see --help.")
    refuse_used(settings.output_dir)
    file = read_labelled(settings.data)

    # Models last: everything that can be wrong with the rest has been found.
    limit = settings.max_tokens
    reward = load_reward_model(settings.reward_model, max_tokens=limit, what="reward_model")
    judge = None
    if settings.judge is not None:
        judge = load_reward_model(settings.judge, max_tokens=limit, what="judge")

    measured = evaluate_reward(
        reward, judge, file, resamples=settings.bootstrap_resamples, seed=settings.seed
    )
    run = new_run(settings.output_dir)
    write_config(run, all_values(settings))
    report = {
        "reward_model": settings.reward_model,
        "judge": settings.judge,
        "max_tokens": reward.max_tokens,
        **measured,
        "versions": versions(),
        "seconds": time.time() - start,
    }
    print_reward_report(console, report, write_reward_report(run, report))


if __name__ == "__main__":
    run_recipe(main)
