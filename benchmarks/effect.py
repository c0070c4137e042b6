"""Does the reward do the work? Collects finished runs into a table and a figure.

    for seed in 0 1 2; do for reward in logit constant shuffled; do
      accelerate launch -q recipes/seqgan_ppo.py --seed $seed --reward $reward \\
          --output_dir runs/effect/causal-$reward-$seed
    done; done
    python benchmarks/effect.py runs/effect/* --figure docs/figures/effect.svg

A row a run: what changed from warm start to tuned generator on the test contexts, with paired 95 %
intervals, and whether it stayed within the limits of a change that is worth having.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt
from rich import box
from rich.console import Console
from rich.table import Table

COLOURS = {
    "logit": "#0072b2",
    "probability": "#56b4e9",
    "log_d": "#009e73",
    "minus_log_1_minus_d": "#e69f00",
    "relative": "#cc79a7",
    "constant": "#999999",
    "random": "#f0e442",
    "shuffled": "#d55e00",
}


def read(folder: Path) -> tuple[dict, list[dict]]:
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return report, [json.loads(line) for line in lines]


def within_limits(ratio: dict[str, float]) -> bool:
    """distinct-2 at least 0.9, perplexity at most 1.15, length within 0.3 of the warm start's."""
    return (
        ratio["distinct_2"] >= 0.9
        and ratio["perplexity"] <= 1.15
        and abs(ratio["reply_length"] - 1) <= 0.3
    )


def table(runs: list[tuple[dict, list[dict]]]) -> Table:
    """Judge with its paired 95 % interval; distinct-2, perplexity, length as ratios. Markdown."""
    grid = Table(box=box.MARKDOWN)
    for name in ("generator", "reward", "seed", "judge, before → after", "change [95 %]"):
        grid.add_column(name, no_wrap=True)
    for name in ("distinct-2", "perplexity", "length", "KL, nats", "limits", "seconds"):
        grid.add_column(name)
    for report, _ in runs:
        metrics = report["metrics"]
        judge = metrics["judge_score"]
        low, high = judge["ci95"]
        ratio = {
            name: metrics[name]["after"] / metrics[name]["before"]
            for name in ("distinct_2", "perplexity", "reply_length")
        }
        grid.add_row(
            report["generator_type"],
            report["config"]["reward"],
            str(report["seed"]),
            f"{judge['before']:.2f} → {judge['after']:.2f}",
            f"{judge['difference']:+.2f} [{low:.2f}, {high:.2f}]",
            *(f"{value:.2f}" for value in ratio.values()),
            f"{metrics['kl']['after']:.2f}",
            "held" if within_limits(ratio) else "broken",
            f"{report['seconds']:.0f}",
        )
    return grid


def draw(runs: list[tuple[dict, list[dict]]], path: Path) -> None:
    """Judge score of each update's replies; a panel per kind of generator."""
    kinds = sorted({report["generator_type"] for report, _ in runs})
    figure, axes = plt.subplots(1, len(kinds), figsize=(4.6 * len(kinds), 3.2), sharey=True)
    for axis, kind in zip(axes if len(kinds) > 1 else [axes], kinds, strict=True):
        for report, history in runs:
            if report["generator_type"] != kind:
                continue
            reward = report["config"]["reward"]
            axis.plot(
                [row["update"] for row in history],
                [row["judge/score"] for row in history],
                color=COLOURS[reward],
                linewidth=1.4,
                alpha=0.85,
                label=f"{reward} reward",
            )
        axis.axhline(
            next(
                r["metrics"]["judge_score"]["human"] for r, _ in runs if r["generator_type"] == kind
            ),
            color="#444444",
            linewidth=0.8,
            linestyle=":",
            label="human replies",
        )
        axis.set_title(f"{kind} generator", fontsize=10)
        axis.set_xlabel("PPO update")
        axis.spines[["top", "right"]].set_visible(False)
    first = axes[0] if len(kinds) > 1 else axes
    first.set_ylabel("frozen judge, mean logit")
    handles = dict(zip(*reversed(first.get_legend_handles_labels()), strict=True))
    figure.legend(
        handles.values(), handles.keys(), fontsize=8, frameon=False, ncol=4, loc="lower center"
    )
    figure.tight_layout(rect=(0, 0.07, 1, 1))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path, help="folders of finished runs")
    parser.add_argument("--figure", type=Path, help="where to draw the curves (.svg or .png)")
    options = parser.parse_args()
    runs = [read(folder) for folder in options.runs if (folder / "report.json").is_file()]
    runs.sort(
        key=lambda run: (run[0]["generator_type"], run[0]["config"]["reward"], run[0]["seed"])
    )
    Console(width=200).print(table(runs))
    if options.figure:
        draw(runs, options.figure)


if __name__ == "__main__":
    main()
