"""Run by `test_resume_two_ranks.py` under `accelerate launch`, with a folder.

For each family: `straight` trains six updates, `stopped` four and until a signal to the *second*
process alone, `parts` goes on from a copy of it. Then the second process has a reward that is nan.
"""

import shutil
import sys
from pathlib import Path

import torch
from accelerate import PartialState

from rlhf_dialog.devices import end_process
from rlhf_dialog.dialogues.schema import Example
from rlhf_dialog.errors import UserError
from rlhf_dialog.generators.loading import fresh_generator
from tests.conftest import SENTENCES
from tests.ppo.resumable import build_run, train

EXAMPLES = [
    Example((SENTENCES[n % 6],), SENTENCES[(n + 3) % 6], "mate", f"d{n}") for n in range(60)
]


def build(folder, family, **values):
    shape = {"vocab_size": 300, "hidden_size": 32, "layers": 1, "heads": 2, "positions": 64}
    generator = fresh_generator(family, SENTENCES, seed=7, **shape)
    people = {"supervised_examples": EXAMPLES}
    return build_run(generator, EXAMPLES, folder, trainer=people, **values)


def nan_on_the_second(contexts, replies):
    scores = torch.ones(len(replies))
    scores[1] = torch.nan if PartialState().process_index else 1.0
    return scores


def main() -> None:
    state, folder = PartialState(cpu=True), Path(sys.argv[1])
    for family in ("gpt2", "blenderbot-small"):
        run = folder / family
        assert train(build(run / "straight", family)) == 0
        second = state.process_index == 1
        assert train(build(run / "stopped", family, stop_after=4 if second else None)) == 143
        if state.is_main_process:
            shutil.copytree(run / "stopped", run / "parts")
        state.wait_for_everyone()
        assert train(build(run / "parts", family), resume_from_checkpoint="latest") == 0
    try:
        train(build(folder / "nan", "gpt2", reward=nan_on_the_second))
    except UserError as error:
        (folder / f"told-{state.process_index}").write_text(str(error))
    end_process()


if __name__ == "__main__":
    main()
