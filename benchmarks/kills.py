"""A run that is killed again and again, many times in the middle of a save.

    python benchmarks/kills.py                 # 100 kills, about 10 minutes on 2 cores
    python benchmarks/kills.py --kills 4       # what the tests run

One run of a tiny generator with a refreshed discriminator saves every few updates. Its process gets
SIGKILL at a random moment, every second time soon after the temporary folder of a save has
appeared, and is started again with `resume_from_checkpoint="latest"`. After each kill every file
of every folder that is called a checkpoint is read. In the end the run is compared with one that
nobody killed.

The processes are forked from one that has imported everything, since importing takes longer than
all that is tested.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from safetensors import safe_open
from transformers import PrinterCallback, TrainerCallback

from rlhf_dialog.console import console, quiet_libraries
from rlhf_dialog.dialogues.schema import Example
from rlhf_dialog.discriminators.model import fresh_discriminator
from rlhf_dialog.discriminators.negatives import Pair
from rlhf_dialog.discriminators.refresh import Refresher
from rlhf_dialog.evaluation.suite import TextMonitor
from rlhf_dialog.generators.loading import fresh_generator
from rlhf_dialog.ppo.config import SeqGANPPOConfig
from rlhf_dialog.ppo.trainer import SeqGANPPOTrainer
from rlhf_dialog.runs import UpdateLog
from rlhf_dialog.settings import DiscriminatorSettings

SENTENCES = (
    "where is the captain tonight ?",
    "the captain is on the ship , as always .",
    "who took the red lamp from the harbour ?",
    "not me , i was asleep .",
    "the tide is late and the lamp is red .",
    "we sail at night when the tide is high .",
)
SAVE_STEPS = 3
UPDATES_A_KILL = 5  # planned: between two kills the run comes three or four updates further


def build(folder: Path, updates: int, architecture: str) -> SeqGANPPOTrainer:
    """The run's trainer, the same each time; about 30 kB of weights and a refresh every 2."""
    examples = [
        Example((SENTENCES[n % 6],), SENTENCES[(n + 3) % 6], "mate", f"d{n}") for n in range(30)
    ]
    generator = fresh_generator(
        architecture,
        SENTENCES,
        vocab_size=300,
        hidden_size=16,
        layers=1,
        heads=2,
        positions=40,
        seed=7,
    )
    pools = {
        kind: [Pair(e.context, e.reply + end, kind, e.dialogue_id) for e in examples]
        for kind, end in (("real", ""), ("cast", " aye"), ("generated", " lamp"))
    }
    reward = fresh_discriminator(SENTENCES, hidden_size=32, layers=1, max_tokens=32, seed=0)
    judge = fresh_discriminator(SENTENCES, hidden_size=32, layers=1, max_tokens=32, seed=1)
    refreshes = DiscriminatorSettings(
        refresh_steps=1, refresh_samples=8, discriminator_batch_size=8, refresh_ceiling=1.0
    )
    args = SeqGANPPOConfig(
        output_dir=str(folder),
        max_steps=updates,
        per_device_train_batch_size=8,
        response_length=6,
        supervised_batch_size=4,
        learning_rate=1e-3,
        save_steps=SAVE_STEPS,
        save_total_limit=2,
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
    )
    trainer = SeqGANPPOTrainer(
        args,
        generator,
        reward,
        examples,
        context_length=24,
        refresher=Refresher(reward, pools, refreshes, seed=0),
        refresh_every=2,
        supervised_examples=examples,
        monitors=[TextMonitor(judge)],
    )
    trainer.remove_callback(PrinterCallback)
    UpdateLog(folder).attach(trainer)
    return trainer


class WentOn(TrainerCallback):
    """Writes from which update a process goes on, when it has taken up its checkpoint."""

    def __init__(self, told: Path) -> None:
        self.told = told

    def on_train_begin(self, args, state, control, **kwargs):
        part = Path(f"{self.told}.part")
        part.write_text(str(state.global_step))
        part.rename(self.told)


def work(folder: Path, updates: int, architecture: str, resume: bool, told: Path) -> None:
    """The process that is killed."""
    torch.set_num_threads(1)
    quiet_libraries()
    console.quiet = True
    trainer = build(folder, updates, architecture)
    trainer.add_callback(WentOn(told))
    trainer.train(resume_from_checkpoint=resume)


@dataclass
class Kill:
    """What was found after one kill, and from where the next process went on."""

    in_save: bool  # the temporary folder of a save was there
    logged: int  # the last update in metrics.jsonl
    newest: int  # the newest checkpoint, read whole; 0: none
    resumed: int = -1

    @property
    def lost(self) -> int:
        return self.logged - self.resumed

    def told(self) -> str:
        moment = "in a save" if self.in_save else "between saves"
        return (
            f"{moment}, after update {self.logged}; newest complete checkpoint {self.newest}, "
            f"gone on from {self.resumed}"
        )


def read_whole(checkpoint: Path) -> int:
    """Reads every tensor of a checkpoint with the libraries' own readers; returns its update."""
    for path in checkpoint.iterdir():
        if path.suffix == ".safetensors":
            with safe_open(path, "pt") as file:
                for name in file.keys():  # noqa: SIM118
                    file.get_tensor(name)
        elif path.suffix == ".json":
            json.loads(path.read_text(encoding="utf-8"))
        else:
            torch.load(path, weights_only=True)
    state = json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
    return state["global_step"]


def found(folder: Path) -> tuple[bool, int, int]:
    """After a kill: was it in a save, the last update logged, the newest checkpoint's update."""
    checkpoints = sorted((folder / "checkpoints").glob("step-*"))
    read = [read_whole(path) for path in checkpoints]  # raises where one is not whole
    log = folder / "metrics.jsonl"
    lines = log.read_text(encoding="utf-8").splitlines() if log.is_file() else []
    logged = len([line for line in lines if line.endswith("}")])
    return any((folder / "checkpoints").glob(".*.tmp")), logged, max(read, default=0)


def kill_again_and_again(folder: Path, kills: int, architecture: str, seed: int) -> list[Kill]:
    """The run under fire, and then left alone to its end."""
    context = multiprocessing.get_context("forkserver")
    # By its own name: Python 3.11's fork server does not import `__main__`. And TRL imports
    # deepspeed in the first update.
    this = Path(__file__).stem if __name__ == "__main__" else __name__
    context.set_forkserver_preload([this, "deepspeed"])
    rng, record = random.Random(seed), []
    updates = max(4 * SAVE_STEPS, kills * UPDATES_A_KILL)
    told = folder.parent / "went_on"
    while True:
        told.unlink(missing_ok=True)
        resume = any((folder / "checkpoints").glob("step-*"))
        if not resume:  # killed before its first checkpoint: it starts again
            shutil.rmtree(folder, ignore_errors=True)
        process = context.Process(
            target=work, args=(folder, updates, architecture, resume, told), daemon=True
        )
        process.start()
        if len(record) < kills:
            _wait_for_the_moment(folder, process, told, rng, in_save=len(record) % 2 == 0)
            process.kill()
        process.join()
        if record and told.is_file():
            record[-1].resumed = int(told.read_text())
            print(f"kill {len(record)}: {record[-1].told()}", flush=True)
        if process.exitcode == 0:
            return record
        if process.exitcode != -9:
            raise SystemExit(f"the run ended by itself with status {process.exitcode}")
        record.append(Kill(*found(folder)))


def _wait_for_the_moment(
    folder: Path, process: BaseProcess, told: Path, rng: random.Random, in_save: bool
) -> None:
    """Returns when it is time to kill: in a save, or anywhere in a few updates.

    Moments are counted in what the run does, so that they are as many on a slow machine.
    """

    def until(happened: Callable[[], object]) -> None:
        while process.is_alive() and not happened():
            time.sleep(0.0005)

    def saving() -> bool:
        return any((folder / "checkpoints").glob(".*.tmp"))

    def written() -> int:
        return log.read_bytes().count(b"\n") if log.is_file() else 0

    log = folder / "metrics.jsonl"
    until(told.is_file)  # it has taken up its checkpoint
    if in_save:
        until(saving)
        if rng.random() < 0.5:  # the second save of this process
            until(lambda: not saving())
            until(saving)
        time.sleep(rng.uniform(0, 0.03))
        return
    wanted = written() + rng.randint(0, 2 * SAVE_STEPS)
    until(lambda: written() >= wanted)
    time.sleep(rng.uniform(0, 0.1))


def rows(folder: Path) -> list[dict]:
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in lines]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--architecture", default="gpt2", help="gpt2 or blenderbot-small")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    options = parser.parse_args(arguments)
    quiet_libraries()
    start = time.monotonic()
    scratch = Path(tempfile.mkdtemp(prefix="kills-"))
    try:
        record = kill_again_and_again(
            scratch / "killed", options.kills, options.architecture, options.seed
        )
        updates = len(rows(scratch / "killed"))
        context = multiprocessing.get_context("forkserver")
        straight = context.Process(
            target=work,
            args=(scratch / "straight", updates, options.architecture, False, scratch / "told"),
        )
        straight.start()
        straight.join()
        same = rows(scratch / "killed") == rows(scratch / "straight")
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return report(record, options.kills, updates, same, time.monotonic() - start)


def report(record: Sequence[Kill], kills: int, updates: int, same: bool, seconds: float) -> int:
    """Prints the table; 0 where everything held."""
    from_newest = [kill.resumed == kill.newest for kill in record]
    lost = [kill.lost for kill in record]
    table = Table("what", "figure")
    for what, figure in (
        ("kills", f"{len(record)} of {kills}"),
        ("of them in the middle of a save", sum(kill.in_save for kill in record)),
        ("gone on with from the newest complete checkpoint", sum(from_newest)),
        ("half checkpoints found under a checkpoint's name", 0),  # `found` raises at the first
        (f"most updates lost by a kill (a save every {SAVE_STEPS})", max(lost)),
        ("mean updates lost by a kill", f"{sum(lost) / len(lost):.2f}"),
        (f"metrics.jsonl of {updates} updates as of a run without kills", same),
        ("seconds", f"{seconds:.0f}"),
    ):
        table.add_row(what, str(figure))
    Console().print(table)
    held = all(from_newest) and max(lost) <= SAVE_STEPS and same
    return 0 if held and len(record) == kills else 1


if __name__ == "__main__":
    raise SystemExit(main())
