"""How long the text metrics take on 10,000 replies, one core, each through its `evaluate` module.

    OMP_NUM_THREADS=1 python benchmarks/metrics.py

The replies are halves of turns of the demo's script put together anew, so that there are long
copies, new n-grams and repetitions in them, as in a tuned generator's.
"""

from __future__ import annotations

import argparse
import random
import time
from pathlib import Path

import evaluate
from rich.console import Console
from rich.table import Table

from rlhf_dialog.dialogues.readers import read_dialogues
from rlhf_dialog.evaluation import metrics
from rlhf_dialog.evaluation.metrics.hits_at_k.hits_at_k import with_distractors

ROOT = Path(__file__).parents[1]
CONTEXT_TURNS = 3
DISTRACTORS = 19  # 20 candidates, as PersonaChat has
OF_REPLIES = {
    "distinct_n": {"n": 2},
    "entropy_n": {"n": 4},
    "repetition": {"n": 1},
    "length": {},
    "self_bleu": {},
}


def calls(replies: int, seed: int) -> dict[str, dict]:
    """What each module is asked."""
    draw = random.Random(seed)
    dialogues = read_dialogues(ROOT / "data" / "tidy_tide.jsonl")
    script = [turn.text for dialogue in dialogues for turn in dialogue.turns]

    def mixture() -> str:
        head, tail = draw.choice(script).split(), draw.choice(script).split()
        return " ".join(head[: len(head) // 2] + tail[len(tail) // 2 :])

    predictions = [mixture() for _ in range(replies)]
    references = [[draw.choice(script)] for _ in predictions]
    contexts = [draw.choices(script, k=CONTEXT_TURNS) for _ in predictions]
    candidates = with_distractors([texts[0] for texts in references], DISTRACTORS, seed)
    for row in candidates:
        draw.shuffle(row)
    alone = {name: {"predictions": predictions, **more} for name, more in OF_REPLIES.items()}
    return {
        **alone,
        "copying": {"predictions": predictions, "script": script},
        "context_overlap": {"predictions": predictions, "contexts": contexts},
        "unigram_f1": {"predictions": predictions, "references": references},
        "hits_at_k": {"predictions": candidates, "references": references},
        "bleu": {"predictions": predictions, "references": references},
        "chrf": {"predictions": predictions, "references": references},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--replies", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    grid = Table(title=f"{options.replies:,} replies, processor seconds")
    grid.add_column("metric")
    grid.add_column("seconds", justify="right")
    grid.add_column("result")
    total = 0.0
    for name, asked in calls(options.replies, options.seed).items():
        metric = evaluate.load(str(metrics.FOLDER / name))
        start = time.process_time()  # of this process alone: the machine may have other work
        result = metric.compute(**asked)
        seconds = time.process_time() - start
        total += 0.0 if name == "self_bleu" else seconds
        told = "  ".join(
            f"{key} {value:.5g}" for key, value in result.items() if key != "signature"
        )
        grid.add_row(name, f"{seconds:.1f}", told)
    grid.add_section()
    grid.add_row("all but self_bleu", f"{total:.1f}", "")
    Console(width=120).print(grid)


if __name__ == "__main__":
    main()
