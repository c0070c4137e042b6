"""Every way to launch a run: does it train, save, reload and resume, and is it the same run?

    python benchmarks/modes.py runs/modes                 # all of them, about 15 minutes on 2 cores
    python benchmarks/modes.py runs/modes multi_cpu deepspeed_zero2

Launches `benchmarks/modes_worker.py` on the CPU under each configuration of `accelerate_configs/`
with 2 processes (one of single_process): 4 updates with refreshes, a save, a reload and a resume,
for a small GPT-2 and a small BlenderBot-small. `two_machines` is multi_node.yaml, as two launchers
in two network namespaces where they may be made (root on Linux), else on loopback. Prints Markdown.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parents[1]
FAMILIES = ("gpt2", "blenderbot-small")
MODES = (
    "single_process",
    "multi_cpu",
    "deepspeed_zero1",
    "deepspeed_zero2",
    "deepspeed_zero3",
    "deepspeed_zero2_offload",
    "deepspeed_zero3_offload",
    "two_machines",
)
NAMESPACES = ("rlhf-a", "rlhf-b")
ADDRESSES = ("10.77.0.1", "10.77.0.2")


def commands(mode: str, folder: Path, *options: str) -> list[list[str]]:
    """What to start, one command a machine."""
    worker = ["-m", "benchmarks.modes_worker", str(folder), *FAMILIES, *options]
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--quiet"]
    if mode != "two_machines":
        config = ["--config_file", f"accelerate_configs/{mode}.yaml", "--main_process_port", "0"]
        return [[*launch, *config, *worker]]
    config = ["--config_file", "accelerate_configs/multi_node.yaml", "--num_machines", "2"]
    spaces = network_namespaces()
    address = ADDRESSES[0] if spaces else "127.0.0.1"
    place = ["--main_process_ip", address, "--main_process_port", "29511", "--machine_rank"]
    prefixes = [["ip", "netns", "exec", name] for name in spaces] or [[], []]
    return [
        [*prefix, *launch, *config, *place, str(rank), *worker]
        for rank, prefix in enumerate(prefixes)
    ]


def network_namespaces() -> tuple[str, ...]:
    """Two, with a cable between them; none where they may not be made."""
    made = [f"ip netns add {name}" for name in NAMESPACES]
    made.append(
        f"ip link add veth0 netns {NAMESPACES[0]} type veth peer veth0 netns {NAMESPACES[1]}"
    )
    for name, address in zip(NAMESPACES, ADDRESSES, strict=True):
        made += [f"ip -n {name} addr add {address}/24 dev veth0"]
        made += [f"ip -n {name} link set {device} up" for device in ("lo", "veth0")]
    try:
        for command in made:
            subprocess.run(command.split(), check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        remove_namespaces()
        return ()
    return NAMESPACES


def remove_namespaces() -> None:
    for name in NAMESPACES:
        try:
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)
        except OSError:
            return


def run_mode(mode: str, folder: Path, *options: str, timeout: float = 400) -> dict[str, list[dict]]:
    """Launches one mode and waits for it.

    Returns:
        family -> what each process says, the first process first.

    Raises:
        RuntimeError: a process failed, or took longer than `timeout`, seconds; the message is what
            it printed last.
    """
    folder.mkdir(parents=True)
    environment = os.environ | {
        "ACCELERATE_USE_CPU": "true",
        "PYTHONPATH": str(ROOT),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
    }
    started = []
    for number, command in enumerate(commands(mode, folder, *options)):
        if "netns" in command:
            environment |= {"GLOO_SOCKET_IFNAME": "veth0"}
        with (folder / f"machine-{number}.log").open("w") as log:
            started.append(
                subprocess.Popen(
                    command,
                    cwd=ROOT,
                    env=environment,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,  # to be ended with all it has launched
                )
            )
    try:
        deadline = time.monotonic() + timeout
        codes: list[int | str] = []
        for process in started:
            codes.append(process.wait(deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        codes.append(f"none after {timeout:.0f} s")
    finally:
        for process in started:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        if mode == "two_machines":
            remove_namespaces()
    if any(codes):
        logs = [path.read_text()[-6000:] for path in sorted(folder.glob("machine-*.log"))]
        raise RuntimeError(f"{mode}: exit codes {codes}\n" + "\n".join(logs))
    told = [
        json.loads(line)
        for path in sorted(folder.glob("rank-*.jsonl"))
        for line in path.read_text().splitlines()
    ]
    return {family: [one for one in told if one["family"] == family] for family in FAMILIES}


def largest_difference(first: list[dict], second: list[dict]) -> float:
    """Between the metrics of the same updates."""
    pairs = list(zip(first, second, strict=True))
    if any(a.keys() != b.keys() for a, b in pairs):
        raise ValueError("the two runs did not measure the same")
    return max(abs(a[name] - b[name]) for a, b in pairs for name in a)


def row(mode: str, family: str, ranks: list[dict], base: list[dict] | None) -> list[str]:
    one, history = ranks[0], ranks[0]["history"]
    resumed = largest_difference(history[-len(one["resumed"]) :], one["resumed"])
    reload = max(rank["reload_difference"] for rank in ranks)
    apart = "–" if base is None else f"{largest_difference(base[0]['history'], history):.0e}"
    return [
        mode,
        family,
        f"{len(history)} updates",
        "yes",
        f"±{reload:.0e}",
        f"±{resumed:.0e}",
        f"{one['seconds_to_first_step']:.0f}",
        f"{one['seconds_per_update']:.1f}",
        " / ".join(f"{rank['held_mb']:.0f}" for rank in ranks),
        " / ".join(f"{rank['peak_mb']:.0f}" for rank in ranks),
        apart,
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("modes", nargs="*", default=MODES)
    parser.add_argument("--hidden_size", default="256")
    parser.add_argument("--layers", default="4")
    options = parser.parse_args()
    table = Table(box=box.MARKDOWN)
    for column in (
        *("mode", "family", "trains", "saves", "reloads", "resumes", "s to first step"),
        *("s an update", "MB held per process", "peak MB per process", "from one process"),
    ):
        table.add_column(column, no_wrap=True)
    base: dict[str, list[dict]] = {}
    failed: list[str] = []
    size = ["--fixed", "--hidden_size", options.hidden_size, "--layers", options.layers]
    for mode in options.modes:
        try:
            told = run_mode(mode, options.folder / mode, *size, timeout=1200)
        except RuntimeError as error:
            failed.append(str(error))
            continue
        base = base or told
        for family in FAMILIES:
            table.add_row(*row(mode, family, told[family], base[family]))
        print(f"{mode}: done", file=sys.stderr, flush=True)
    Console(width=200).print(table)
    print(*failed, sep="\n\n")


if __name__ == "__main__":
    main()
