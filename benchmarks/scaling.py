"""How the time and memory of one of our PPO updates grow with its size.

    OMP_NUM_THREADS=1 python benchmarks/scaling.py --shape tiny --figure docs/figures/scaling.svg

One size changes at a time, from the values of `ppo_step.py`; every point is a process of its own.
Replies grow with the limit on them. Prints, for each size, the exponent p of time ~ size^p between
the first and the last point. Ranks have the same number of episodes each; their seconds are one
rank's, and on a machine with fewer cores than ranks CPU seconds say what the exchange of gradients
costs, not what is won by the clock.
"""

from __future__ import annotations

import argparse
import math
import statistics
from pathlib import Path

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt
from ppo_step import Side, options_of_a_step, own_device
from rich import box
from rich.console import Console
from rich.table import Table

SIZES = {  # option -> label, values
    "context": ("longest prompt, tokens", (24, 48, 96, 192)),
    "response": ("longest reply, tokens", (16, 32, 64, 128)),
    "episodes": ("episodes", (8, 16, 32, 64)),
    "vocabulary": ("vocabulary", (400, 4000, 16000, 50257)),
    "ranks": ("ranks", (1, 2)),
}
Point = tuple[int, float, float]  # size, seconds, MiB


def measure(options: argparse.Namespace, name: str, size: int) -> Point:
    chosen = argparse.Namespace(**{**vars(options), name: size})
    side = Side("ours", chosen)
    side.update()  # not counted
    updates = [side.update() for _ in range(options.repeats)]
    side.stop()
    seconds = statistics.median(u["seconds"] for u in updates)
    return size, seconds, max(u["peak_mib"] for u in updates)


def exponent(points: list[Point]) -> float:
    """p of seconds ~ size^p between the first and the last point."""
    (first, fast, _), (last, slow, _) = points[0], points[-1]
    return math.log(slow / fast) / math.log(last / first)


def table(curves: dict[str, list[Point]]) -> Table:
    grid = Table(box=box.MARKDOWN)
    for column in ("size", "seconds of an update", "peak memory, MiB", "exponent of time"):
        grid.add_column(column)
    for name, points in curves.items():
        grid.add_row(
            f"{SIZES[name][0]}: {', '.join(str(size) for size, *_ in points)}",
            ", ".join(f"{seconds:.3f}" for _, seconds, _ in points),
            ", ".join(f"{mib:.0f}" for *_, mib in points),
            f"{exponent(points):.2f}",
        )
    return grid


def draw(curves: dict[str, list[Point]], path: Path) -> None:
    """Seconds above, memory below; a column for each size. Dotted: growth in proportion."""
    figure, axes = plt.subplots(2, len(curves), figsize=(2.9 * len(curves), 5), squeeze=False)
    for column, (name, points) in enumerate(curves.items()):
        sizes = [size for size, *_ in points]
        for row, label in enumerate(("seconds of an update", "peak memory, MiB")):
            values, axis = [point[1 + row] for point in points], axes[row, column]
            axis.plot(sizes, values, color="#0072b2", marker="o", markersize=3)
            line = [values[0] * size / sizes[0] for size in sizes]
            if row == 0:
                axis.plot(sizes, line, color="#999999", linestyle=":", linewidth=0.8)
            axis.set_ylim(0, 1.15 * max(values))
            axis.set_xlabel(SIZES[name][0])
            axis.spines[["top", "right"]].set_visible(False)
            if column == 0:
                axis.set_ylabel(label)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    parser = options_of_a_step()
    parser.description = __doc__.splitlines()[0]
    parser.add_argument("--figure", type=Path, help="where to draw the curves (.svg or .png)")
    parser.add_argument("--sizes", nargs="+", choices=list(SIZES), default=list(SIZES))
    options = parser.parse_args()
    options.device = options.device or own_device()
    figure, wanted = options.figure, options.sizes
    del options.figure, options.sizes
    curves = {name: [measure(options, name, size) for size in SIZES[name][1]] for name in wanted}
    Console(width=160).print(table(curves))
    if figure:
        draw(curves, figure)


if __name__ == "__main__":
    main()
