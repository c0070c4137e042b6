"""Run by `test_launching.py` under `accelerate launch`: what goes wrong between two processes.

First the second process looks for the run's folder elsewhere; then it is killed in the course of
an update.
"""

import os
import signal
import sys
import time
from pathlib import Path

from transformers import TrainerCallback

from rlhf_dialog.console import run_recipe
from rlhf_dialog.devices import join_processes, require_shared
from rlhf_dialog.dialogues.schema import Example
from rlhf_dialog.errors import UserError
from rlhf_dialog.generators.loading import fresh_generator
from tests.ppo.trainers import build_trainer, grade


def tell(line: str) -> None:
    """One write with its newline: `print` writes it apart, and the other process comes between."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


class Killed(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == 2 and not state.is_world_process_zero:
            tell(f"killed at {time.time()}")
            os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    folder = Path(sys.argv[1])
    state = join_processes()
    try:
        require_shared(folder if state.is_main_process else folder / "elsewhere")
    except UserError as error:
        tell(f"refused: {error}")
    require_shared(folder)
    texts = [f"{word} is on the ship" for word in ("the captain", "nobody", "the lamp", "a mate")]
    examples = [Example((texts[n % 4],), texts[n % 3], "mate", f"d{n}") for n in range(32)]
    sizes = {"vocab_size": 300, "hidden_size": 32, "layers": 1, "heads": 2, "positions": 64}
    generator = fresh_generator("gpt2", texts, seed=0, **sizes)
    trainer, _ = build_trainer(generator, examples, folder / "run", grade, max_steps=1000)
    trainer.add_callback(Killed())
    trainer.train()


if __name__ == "__main__":
    run_recipe(main)
