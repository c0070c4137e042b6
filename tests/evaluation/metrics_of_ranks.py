"""Computes metrics on the replies of all ranks; `accelerate launch` runs it in two processes.

python metrics_of_ranks.py FOLDER writes FOLDER/rank-<n>.json: the results for each way of dealing
the replies out, and what mistakes are told as.
"""

import json
import sys
from functools import partial
from pathlib import Path

import evaluate
from accelerate import PartialState

from rlhf_dialog.devices import end_process
from rlhf_dialog.errors import UserError
from rlhf_dialog.evaluation import metrics
from rlhf_dialog.evaluation.metrics.conditional_perplexity.conditional_perplexity import (
    conditional_perplexity,
)
from rlhf_dialog.evaluation.metrics.distinct_n.distinct_n import distinct_n
from rlhf_dialog.evaluation.metrics.ranks import compute_over_ranks
from rlhf_dialog.evaluation.metrics.self_bleu.self_bleu import self_bleu
from rlhf_dialog.evaluation.metrics.unigram_f1.unigram_f1 import unigram_f1
from rlhf_dialog.generators.loading import fresh_generator

REPLIES = [
    "the tide is late",
    "네, 알아요",
    "",
    "the lamp is red",
    "the tide is late",
    "👩‍👩‍👧 aye",
]
CONTEXTS = [
    ["when do we sail ?"],
    ["알아요?"],
    ["hm"],
    ["which lamp ?", "that one"],
    ["so ?"],
    ["?"],
]
# how rank 0 and rank 1 share the rows
DEALS = {
    "all on rank 0": [slice(None), slice(0)],
    "all on rank 1": [slice(0), slice(None)],
    "in turns": [slice(0, None, 2), slice(1, None, 2)],
    "nobody has any": [slice(0), slice(0)],
}


def results(rows, cache_dir):
    generator = fresh_generator(
        "gpt2", REPLIES, vocab_size=300, hidden_size=16, layers=1, heads=1, positions=64, seed=1
    )
    replies, contexts = REPLIES[rows], CONTEXTS[rows]
    perplexity = partial(conditional_perplexity, generator, batch_size=2)
    module = evaluate.load(str(metrics.FOLDER / "entropy_n"), cache_dir=cache_dir)
    return {
        "distinct": compute_over_ranks(partial(distinct_n, n=2), replies=replies),
        "self_bleu": compute_over_ranks(self_bleu, replies=replies),
        "f1": compute_over_ranks(unigram_f1, replies=replies, references=contexts),
        "perplexity": compute_over_ranks(perplexity, replies=replies, contexts=contexts),
        "entropy": compute_over_ranks(module.compute, predictions=replies),
    }


def main():
    folder = Path(sys.argv[1])
    state = PartialState(cpu=True)
    assert state.num_processes == 2
    found = {
        name: results(rows[state.process_index], folder / f"cache-{state.process_index}")
        for name, rows in DEALS.items()
    }
    mine = CONTEXTS[:1] if state.process_index else []  # rank 1 has one too many
    for name, call in {
        "mistake": partial(compute_over_ranks, unigram_f1, replies=[], references=mine),
        "crash": partial(compute_over_ranks, lambda replies: 1 / len(replies), replies=[]),
    }.items():
        try:
            call()
        except (UserError, ZeroDivisionError) as error:
            found[name] = f"{type(error).__name__}: {error}"
    (folder / f"rank-{state.process_index}.json").write_text(json.dumps(found))
    end_process()


if __name__ == "__main__":
    main()
