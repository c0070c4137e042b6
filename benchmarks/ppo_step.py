"""One PPO update, by stock TRL 1.12 and by this project, in turns.

    python benchmarks/ppo_step.py --shape tiny --repeats 9
    python benchmarks/ppo_step.py --shape dialogpt-small --critic separate
    python benchmarks/ppo_step.py --shape dialogpt-small --dtype bf16
    python benchmarks/ppo_step.py --shape blenderbot-small

16 episodes a step, prompts of 24 to 48 tokens, replies of up to 32 that end early as a rule, two
PPO epochs of one minibatch, AdamW; random weights. Stock takes no encoder-decoder, so for
blenderbot-small the other side is the plain way (`plain_seq2seq.py`): `generate` with its scores
kept, logits of the whole vocabulary, a critic with a trunk of its own.

Each side is a process of its own, so that its peak memory is its own, and they take turns: one
update here, one there. Seconds are CPU seconds of the process on one thread (on a GPU: of the
clock). The first turn is not counted. Of each further turn the ratio is taken; the table has their
median and their least and largest.

`--dtype` is ours; stock's own default, fp32, is the baseline unless `--baseline_dtype` says bf16.
`--matmul medium` is our `float32_matmul_precision`: fp32 products by another library, which may
use bf16 inside where the CPU has matrix units for it; `--baseline_matmul` is the other side's.

Behind the first update both sides tell the log-probabilities of the same fixed tokens: parity.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

PHASES = ("sample", "score", "reference", "value", "update", "refresh", "other")


class Side:
    """A process that does one update whenever it is told to."""

    def __init__(self, name: str, options: argparse.Namespace, **changes: object) -> None:
        self.name = name
        values = {**vars(options), **changes, "side": name}
        command = [sys.executable, str(Path(__file__).resolve())]
        if options.ranks > 1:
            launch = ["-m", "torch.distributed.run", f"--nproc_per_node={options.ranks}"]
            command[1:1] = [*launch, "--standalone"]
        command += [f"--{key}={value}" for key, value in values.items() if value is not None]
        self.folder = tempfile.TemporaryDirectory()  # one for all ranks
        environment = os.environ | {"OMP_NUM_THREADS": str(options.threads)}
        environment["BENCHMARK_FOLDER"] = self.folder.name
        if options.ranks > 1 and options.device == "cpu":
            environment["ACCELERATE_USE_CPU"] = "true"
        if values["dtype"] == "bf16":
            environment["ACCELERATE_MIXED_PRECISION"] = "bf16"  # as a launch in bf16 does
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self.told = [self._read()]  # it is built

    def _read(self) -> dict:
        while line := self.process.stdout.readline():
            if line.startswith("{"):
                return json.loads(line)
        raise SystemExit(f"{self.name} ended: {self.process.wait()}")

    def update(self) -> dict:
        """What the update took: seconds, phases, tokens, peak_mib; the first one's also the
        log-probabilities of fixed tokens behind it."""
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        self.told.append(self._read())
        return self.told[-1]

    def stop(self) -> None:
        self.process.stdin.write("stop\n")
        self.process.stdin.flush()
        self.process.wait()
        self.folder.cleanup()


def measure(sides: list[Side], repeats: int) -> list[list[dict]]:
    """Updates by side; who begins changes from turn to turn. The first turn is left out."""
    turns: list[list[dict]] = [[] for _ in sides]
    for turn in range(repeats + 1):
        order = range(len(sides)) if turn % 2 else reversed(range(len(sides)))
        for index in order:
            turns[index].append(sides[index].update())
    return [updates[1:] for updates in turns]


def summary(updates: list[dict], episodes: int) -> dict:
    """Medians over the updates of one side."""
    median = {
        "seconds": statistics.median(u["seconds"] for u in updates),
        "tokens": statistics.median(u["tokens"] for u in updates),
        "tokens_per_second": statistics.median(u["tokens"] / u["seconds"] for u in updates),
        "episodes_per_second": episodes / statistics.median(u["seconds"] for u in updates),
        "peak_mib": max(u["peak_mib"] for u in updates),
    }
    for phase in PHASES:
        median[phase] = statistics.median(u["phases"][phase] for u in updates)
    return median


def show(theirs: dict, ours: dict, ratios: list[float], names: tuple[str, str]) -> None:
    console = Console(width=120)
    grid = Table(box=box.MARKDOWN)
    for column in ("median of a step", *names, "ratio"):
        grid.add_column(column, justify="right")
    spread = f"{statistics.median(ratios):.2f} [{min(ratios):.2f}, {max(ratios):.2f}]"
    a, b = theirs, ours
    grid.add_row("seconds", f"{a['seconds']:.3f}", f"{b['seconds']:.3f}", spread)
    for key in ("tokens_per_second", "episodes_per_second"):
        grid.add_row(key.replace("_", " "), f"{a[key]:.1f}", f"{b[key]:.1f}", "")
    grid.add_row("reply tokens", f"{a['tokens']:.0f}", f"{b['tokens']:.0f}", "")
    peaks = (f"{a['peak_mib']:.0f}", f"{b['peak_mib']:.0f}")
    grid.add_row("peak memory, MiB", *peaks, f"{a['peak_mib'] / b['peak_mib']:.2f}")
    for phase in PHASES:
        grid.add_row(phase, f"{a[phase]:.3f}", f"{b[phase]:.3f}", "")
    console.print(grid)


def parity(theirs: Side, ours: Side) -> str:
    """How far both sides are from each other behind the first update, in words."""
    begun, ended = (theirs.told[turn]["logprobs"] for turn in (0, 1))
    if max(abs(a - b) for a, b in zip(begun, ours.told[0]["logprobs"], strict=True)) > 1e-4:
        raise SystemExit("the two sides do not begin with the same weights")
    moved = statistics.fmean((b - a) ** 2 for a, b in zip(begun, ended, strict=True)) ** 0.5
    other = ours.told[1]["logprobs"]
    apart = max(abs(a - b) for a, b in zip(ended, other, strict=True))
    return (
        f"parity: the first update moved the log-probabilities of {len(ended)} fixed tokens by "
        f"{moved:.1e} nats (root mean square); the two sides are at most {apart:.1e} apart"
    )


def floor_of(options: argparse.Namespace, ours: dict) -> str:
    """The floor of our step, in words."""
    import torch
    from floor import matrix_rate, operations
    from ppo_shapes import SHAPES

    torch.set_num_threads(options.threads)
    shape = SHAPES[options.shape]
    shape = replace(shape, vocabulary=options.vocabulary or shape.vocabulary)
    prompt = options.episodes * options.context * 0.75  # they have from a half to the whole of it
    needed = operations(shape, prompt, ours["tokens"], separate_critic=options.critic == "separate")
    rate = matrix_rate(shape, options.dtype, options.device, options.matmul)
    return (
        f"floor: {needed / 1e9:.1f} G operations at {rate / 1e9:.0f} G/s = {needed / rate:.3f} s; "
        f"ours takes {ours['seconds'] * rate / needed:.2f} times that"
    )


def work(options: argparse.Namespace) -> None:
    """One side's own process."""
    import torch
    from plain_seq2seq import run_plain
    from ppo_shapes import RESPONSE, SHAPES
    from ppo_sides import Finished, Meter, Setting, run_ours, run_stock

    torch.set_num_threads(options.threads)
    torch.set_float32_matmul_precision(
        options.matmul if options.side == "ours" else options.baseline_matmul
    )
    shape = SHAPES[options.shape]
    shape = replace(
        shape,
        vocabulary=options.vocabulary or shape.vocabulary,
        ends=shape.ends * RESPONSE / options.response,  # replies are as long as they may be
    )
    sizes = (options.episodes, options.context, options.response)
    setting = Setting(shape, options.dtype, options.device, options.critic, *sizes)
    run = {"stock": run_stock, "plain": run_plain, "ours": run_ours}[options.side]
    with contextlib.suppress(Finished):
        run(setting, Meter(options.device))


def named(dtype: str, matmul: str) -> str:
    return dtype if matmul == "highest" else f"{dtype} {matmul}"


def own_device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def options_of_a_step() -> argparse.ArgumentParser:
    """What `ppo_step.py` and `scaling.py` both take."""
    parser = argparse.ArgumentParser()
    shapes = ("tiny", "tiny-seq2seq", "dialogpt-small", "blenderbot-small")
    parser.add_argument("--shape", choices=shapes, default="tiny")
    parser.add_argument("--repeats", type=int, default=5, help="turns that are counted")
    parser.add_argument("--dtype", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--baseline_dtype", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--matmul", choices=("highest", "medium"), default="highest")
    parser.add_argument("--baseline_matmul", choices=("highest", "medium"), default="highest")
    parser.add_argument("--device", choices=("cpu", "cuda"), help="default: a GPU if there is one")
    parser.add_argument("--critic", choices=("value_head", "separate"), default="value_head")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--episodes", type=int, default=16, help="of an update and process")
    parser.add_argument("--context", type=int, default=48, help="tokens of the longest prompt")
    parser.add_argument("--response", type=int, default=32, help="tokens of the longest reply")
    parser.add_argument("--vocabulary", type=int, help="default: the shape's own")
    parser.add_argument("--ranks", type=int, default=1, help="processes (not for stock)")
    return parser


def main() -> None:
    parser = options_of_a_step()
    parser.description = __doc__.splitlines()[0]
    parser.add_argument("--json", type=Path, help="where to write every turn")
    parser.add_argument("--side", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        work(options)
        return
    options.device = options.device or own_device()
    other = "stock" if options.shape in ("tiny", "dialogpt-small") else "plain"
    sides = [Side(other, options, dtype=options.baseline_dtype), Side("ours", options)]
    theirs, ours = measure(sides, options.repeats)
    for side in sides:
        side.stop()
    ratios = [a["seconds"] / b["seconds"] for a, b in zip(theirs, ours, strict=True)]
    names = (
        f"{other}, {named(options.baseline_dtype, options.baseline_matmul)}",
        f"ours, {named(options.dtype, options.matmul)}, {options.critic}",
    )
    episodes = options.episodes
    told = summary(ours, episodes)
    show(summary(theirs, episodes), told, ratios, names)
    print(parity(*sides))
    print(floor_of(options, told))
    if options.json:
        turns = {"options": vars(options) | {"json": None}, other: theirs, "ours": ours}
        options.json.write_text(json.dumps(turns, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
