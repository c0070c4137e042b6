"""What scoring costs: `Discriminator` against a plain batched transformers forward.

    OMP_NUM_THREADS=1 taskset -c 0 python benchmarks/scoring.py

Both score the same pairs of the shipped script with a model of bert-small's size (4 layers, 512
hidden, 8 heads; random weights), tokenisation included, in turns. The plain side tokenises all
pairs at once, sorts them by their number of tokens and pads each batch. Of each side's CPU seconds
(other work on the machine counts for nothing) the ratio of every turn is taken, and their median.
Exit status 1 where it is above the limit.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from rich.console import Console
from transformers import BertConfig, BertForSequenceClassification

from rlhf_dialog.console import quiet_libraries
from rlhf_dialog.dialogues.examples import make_examples
from rlhf_dialog.dialogues.readers import read_dialogues
from rlhf_dialog.discriminators.model import SCORING_BATCH, Discriminator, fresh_discriminator

SCRIPT = Path(__file__).parents[1] / "data" / "tidy_tide.jsonl"
MAX_TOKENS = 96
LIMIT = 1.2

Scorer = Callable[[Sequence[Sequence[str]], Sequence[str]], torch.Tensor]


def bert_small(texts: list[str]) -> Discriminator:
    small = fresh_discriminator(texts, hidden_size=32, layers=1, max_tokens=MAX_TOKENS, seed=0)
    config = BertConfig(
        vocab_size=len(small.tokenizer),
        hidden_size=512,
        num_hidden_layers=4,
        num_attention_heads=8,
        intermediate_size=2048,
        num_labels=1,
        pad_token_id=small.tokenizer.pad_token_id,
    )
    torch.manual_seed(0)
    return Discriminator(BertForSequenceClassification(config), small.tokenizer, MAX_TOKENS)


def plain_forward(discriminator: Discriminator) -> Scorer:
    """What anybody would write with transformers alone."""
    model, tokenizer = discriminator.model, discriminator.tokenizer

    @torch.no_grad()
    def score(contexts: Sequence[Sequence[str]], replies: Sequence[str]) -> torch.Tensor:
        first = [" [SEP] ".join(context) for context in contexts]
        rows = tokenizer(first, list(replies), truncation="only_first", max_length=MAX_TOKENS)
        order = sorted(range(len(replies)), key=lambda i: len(rows["input_ids"][i]))
        scores = torch.empty(len(replies))
        for start in range(0, len(order), SCORING_BATCH):
            chosen = order[start : start + SCORING_BATCH]
            batch = {name: [ids[i] for i in chosen] for name, ids in rows.items()}
            padded = tokenizer.pad(batch, return_tensors="pt", verbose=False)
            scores[chosen] = model(**padded).logits.squeeze(-1)
        return scores

    return score


def cpu_seconds(score: Scorer, contexts: list, replies: list) -> tuple[float, torch.Tensor]:
    start = time.process_time()
    scores = score(contexts, replies)
    return time.process_time() - start, scores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    quiet_libraries()
    torch.set_num_threads(1)
    dialogues = read_dialogues(SCRIPT)
    examples = make_examples(dialogues)[: options.pairs]
    discriminator = bert_small([turn.text for dialogue in dialogues for turn in dialogue.turns])
    contexts = [list(example.context) for example in examples]
    replies = [example.reply for example in examples]
    sides: dict[str, Scorer] = {"own": discriminator, "plain": plain_forward(discriminator)}
    for score in sides.values():  # once each, unmeasured
        score(contexts, replies)

    console, turns = Console(), []
    for repeat in range(options.repeats):
        # who goes first changes from turn to turn
        names = list(sides) if repeat % 2 else list(reversed(sides))
        measured = {name: cpu_seconds(sides[name], contexts, replies) for name in names}
        (own, scores), (reference, expected) = measured["own"], measured["plain"]
        torch.testing.assert_close(scores, expected, atol=1e-4, rtol=0)
        turns.append(own / reference)
        console.print(
            f"turn {repeat + 1}: Discriminator {own:.2f} s, plain {reference:.2f} s, "
            f"ratio {turns[-1]:.3f}"
        )
    median = statistics.median(turns)
    console.print(
        f"{len(replies)} pairs: median ratio {median:.3f} (least {min(turns):.3f}, most "
        f"{max(turns):.3f}) over {len(turns)} turns; the limit is {LIMIT}"
    )
    raise SystemExit(median > LIMIT)


if __name__ == "__main__":
    main()
