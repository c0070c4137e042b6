"""What refreshing the discriminator does: two runs that differ in nothing else, drawn together.

    for every in 5 0; do
      accelerate launch -q recipes/seqgan_ppo.py --max_steps 60 --refresh_every $every \\
          --output_dir runs/refresh/every-$every
    done
    python benchmarks/refresh.py runs/refresh/every-5 runs/refresh/every-0 \\
        --figure docs/figures/refresh.svg

Prints, for each run, how many refreshes found the held-out accuracy between floor and ceiling.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt
from effect import read
from rich import box
from rich.console import Console
from rich.table import Table

CURVES = {  # key of metrics.jsonl -> label, colour
    "objective/scores": ("discriminator, the reward", "#0072b2"),
    "judge/score": ("frozen judge", "#d55e00"),
}


def name(report: dict) -> str:
    every = report["config"]["refresh_every"]
    return f"refresh every {every} updates" if every else "no refresh"


def table(runs: list[tuple[dict, list[dict]]]) -> Table:
    """The change on test contexts, and the accuracy that the refreshes met. Markdown."""
    grid = Table(box=box.MARKDOWN)
    for column in ("run", "judge, change [95 %]", "discriminator, change", "distinct-2 ratio"):
        grid.add_column(column, no_wrap=True)
    for column in ("refreshes", "accuracy before them", "between floor and ceiling"):
        grid.add_column(column)
    for report, history in runs:
        metrics, config = report["metrics"], report["config"]
        low, high = metrics["judge_score"]["ci95"]
        met = [row["discriminator/accuracy"] for row in history if "discriminator/accuracy" in row]
        inside = sum(config["refresh_floor"] <= a <= config["refresh_ceiling"] for a in met)
        grid.add_row(
            name(report),
            f"{metrics['judge_score']['difference']:+.2f} [{low:.2f}, {high:.2f}]",
            f"{metrics['discriminator_score']['difference']:+.2f}",
            f"{metrics['distinct_2']['after'] / metrics['distinct_2']['before']:.2f}",
            str(len(met)),
            f"{min(met):.2f} to {max(met):.2f}" if met else "–",
            f"{inside} of {len(met)}" if met else "–",
        )
    return grid


def draw(runs: list[tuple[dict, list[dict]]], path: Path) -> None:
    """A panel per run: mean score of each update's replies by the reward and by the judge."""
    figure, axes = plt.subplots(
        1, len(runs), figsize=(4.6 * len(runs), 3.2), sharey=True, squeeze=False
    )
    for axis, (report, history) in zip(axes[0], runs, strict=True):
        for key, (label, colour) in CURVES.items():
            updates = [row["update"] for row in history]
            axis.plot(updates, [row[key] for row in history], color=colour, label=label)
        for row in history:
            if "discriminator/accuracy" in row:
                axis.axvline(row["update"], color="#bbbbbb", linewidth=0.6, zorder=0)
        axis.set_title(name(report), fontsize=10)
        axis.set_xlabel("PPO update (grey: a refresh)")
        axis.spines[["top", "right"]].set_visible(False)
    axes[0, 0].set_ylabel("mean logit")
    axes[0, 0].legend(fontsize=8, frameon=False)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path, help="folders of finished runs")
    parser.add_argument("--figure", type=Path, help="where to draw the curves (.svg or .png)")
    options = parser.parse_args()
    runs = [read(folder) for folder in options.runs]
    Console(width=200).print(table(runs))
    if options.figure:
        draw(runs, options.figure)


if __name__ == "__main__":
    main()
