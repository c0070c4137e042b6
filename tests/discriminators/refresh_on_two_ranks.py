"""Run by `test_refresh_two_ranks.py` under `accelerate launch`: prints one JSON line per process.

The second process's discriminator is spoilt before each of two refreshes: alone, it would train
where the first one pauses, and would take three rounds of steps where the first one takes one.
"""

import json
import random
import sys
from dataclasses import replace

import torch
from accelerate import PartialState
from accelerate.utils import gather_object

from rlhf_dialog.devices import end_process
from rlhf_dialog.discriminators.model import fresh_discriminator
from rlhf_dialog.discriminators.refresh import Refresher
from rlhf_dialog.discriminators.training import pretrain
from tests.discriminators.toy import SETTINGS, sentence, toy_pools


def main() -> None:
    state = PartialState(cpu=True)
    pools = toy_pools(random.Random(1))
    texts = [pair.reply for pool in pools.values() for pair in pool] + ["what ever"]
    discriminator = fresh_discriminator(texts, hidden_size=64, layers=1, max_tokens=32, seed=0)
    pretrain(discriminator, pools, SETTINGS, seed=0, description="test")
    rng = random.Random(5 + state.process_index)

    def sample(contexts):
        """Each rank samples a share; all samples are gathered, as the trainer does it."""
        share = -(-len(contexts) // state.num_processes)
        own = contexts[state.process_index * share : (state.process_index + 1) * share]
        return gather_object([sentence(rng, ("aye", "hmm")[n % 2]) for n, _ in enumerate(own)])

    rows = []
    slight = {"refresh_learning_rate": 1e-6, "refresh_steps": 2}
    # The first process pauses, above the ceiling; it is content with one round, above the floor.
    for rails in (
        {"refresh_floor": 0.0, "refresh_ceiling": 0.6},
        {"refresh_floor": 0.6, "refresh_ceiling": 1.0},
    ):
        settings = replace(SETTINGS, **slight, **rails)
        if state.process_index == 1:  # says the opposite of what the first process says
            with torch.no_grad():
                discriminator.model.classifier.weight.neg_()
                discriminator.model.classifier.bias.neg_()
        metrics = Refresher(discriminator, pools, settings, seed=0)(sample)
        weights = torch.cat([p.flatten() for p in discriminator.model.state_dict().values()])
        rows.append([metrics, weights.double().sum().item(), weights[-9:].tolist()])
    sys.stdout.write(json.dumps(rows) + "\n")
    end_process()


if __name__ == "__main__":
    main()
