"""A generator and test examples become numbers with intervals.

Every generator answers the same contexts with the same seeds. Intervals are paired over test
contexts: what varies is which contexts were asked, not which run was made.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from rlhf_dialog.console import progress
from rlhf_dialog.dialogues.schema import Example
from rlhf_dialog.evaluation.metrics.distinct_n.distinct_n import distinct_n, ngrams, tokens
from rlhf_dialog.generators.decoding import decode_rows
from rlhf_dialog.generators.loading import Generator
from rlhf_dialog.generators.policy import Policy, disable_dropout, sample_responses
from rlhf_dialog.generators.prompts import encode_batch

# (contexts, replies) -> scores (B,): a frozen judge, a discriminator
Scorer = Callable[[Sequence[Sequence[str]], Sequence[str]], torch.Tensor]

BATCH = 64


@dataclass
class Measurement:
    """What one speaker (a generator, or the humans) did on N test contexts, k samples each."""

    replies: list[list[str]]  # (N, k)
    scores: dict[str, np.ndarray]  # per scorer (N, k)
    nll: np.ndarray  # (N,) of the human reply given its context, nats; empty for humans
    tokens: np.ndarray  # (N,) of the human reply with EOS; empty for humans
    kl: np.ndarray  # (N, k) log p - log p_reference of the sampled replies, nats


def measure_generator(
    generator: Generator,
    reference: Generator | None,
    examples: Sequence[Example],
    scorers: Mapping[str, Scorer],
    *,
    samples: int,
    context_length: int,
    response_length: int,
    seed: int,
    description: str,
) -> Measurement:
    """Samples `samples` replies per context and scores them; KL is 0 without a reference."""
    policy = _frozen(generator)
    anchor = _frozen(reference) if reference is not None else policy
    replies: list[list[str]] = []
    nll, tokens, kl = [], [], []
    starts = range(0, len(examples), BATCH)
    with (
        torch.random.fork_rng(),
        torch.no_grad(),
        progress(description, len(starts) * samples) as advance,
    ):
        torch.manual_seed(seed)
        for start in starts:
            chunk = examples[start : start + BATCH]
            *context, human_ids, human_mask = encode_batch(
                generator,
                [example.context for example in chunk],
                [example.reply for example in chunk],
                context_length=context_length,
                response_length=response_length,
            )
            human = policy(*context, human_ids, human_mask)
            nll.append(-human.logprobs.sum(1).cpu().numpy())
            tokens.append(human_mask.sum(1).cpu().numpy())
            columns, gaps = [], []
            for _ in range(samples):
                ids, mask = sample_responses(generator.model, *context, max_tokens=response_length)
                own, ref = policy(*context, ids, mask), anchor(*context, ids, mask)
                gaps.append((own.logprobs - ref.logprobs).sum(1).cpu().numpy())
                columns.append(decode_rows(generator, ids, mask))
                advance()
            replies += [list(row) for row in zip(*columns, strict=True)]
            kl.append(np.stack(gaps, axis=1))
    return Measurement(
        replies,
        _score(scorers, examples, replies),
        np.concatenate(nll),
        np.concatenate(tokens),
        np.concatenate(kl),
    )


def measure_humans(
    examples: Sequence[Example],
    scorers: Mapping[str, Scorer],
    generator: Generator,
    response_length: int,
) -> Measurement:
    """The human replies themselves, spelt and cut off as the generator's are."""
    replies = [[generator.round_trip(e.reply, response_length)] for e in examples]
    none = np.zeros(0)
    return Measurement(replies, _score(scorers, examples, replies), none, none, none)


def compare(
    before: Measurement, after: Measurement, human: Measurement, *, resamples: int, seed: int
) -> dict[str, dict]:
    """The `metrics` part of report.json: before, after, human, difference and its 95 % interval.

    Means and perplexity: percentile bootstrap over contexts. distinct-n, which resampling with
    repeated contexts would bias: leave-one-context-out jackknife, ± 1.96 standard errors.
    """
    rng = np.random.default_rng(seed)
    draws = rng.integers(len(before.replies), size=(resamples, len(before.replies)))

    def means(b: np.ndarray, a: np.ndarray, h: np.ndarray | None) -> dict:
        gap = a.mean(1) - b.mean(1)  # (N,)
        return _entry(b.mean(), a.mean(), None if h is None else h.mean(), gap[draws].mean(1))

    metrics = {
        f"{name}_score": means(before.scores[name], after.scores[name], human.scores[name])
        for name in before.scores
    }
    for n in (1, 2, 3):
        metrics[f"distinct_{n}"] = _distinct(before, after, human, n)

    def perplexity(m: Measurement, rows: np.ndarray) -> np.ndarray:
        return np.exp(m.nll[rows].sum(-1) / m.tokens[rows].sum(-1))

    everything = np.arange(len(before.replies))
    metrics["perplexity"] = _entry(
        float(perplexity(before, everything)),
        float(perplexity(after, everything)),
        None,
        perplexity(after, draws) - perplexity(before, draws),
    )
    metrics["reply_length"] = means(_words(before), _words(after), _words(human))
    metrics["kl"] = means(before.kl, after.kl, None)
    return metrics


@dataclass
class TextMonitor:
    """Watches a run: the judge's mean logit and two statistics of an update's replies."""

    judge: Scorer

    def __call__(
        self, contexts: Sequence[Sequence[str]], replies: Sequence[str]
    ) -> dict[str, float]:
        return {
            "judge/score": self.judge(contexts, replies).mean().item(),
            "text/distinct_2": distinct_n(replies, 2, normalization="words"),
            "text/reply_words": sum(len(reply.split()) for reply in replies) / len(replies),
        }


def _entry(before: float, after: float, human: float | None, gaps: np.ndarray) -> dict:
    low, high = np.percentile(gaps, [2.5, 97.5])
    return {
        "before": float(before),
        "after": float(after),
        "human": None if human is None else float(human),
        "difference": float(after - before),
        "ci95": [float(low), float(high)],
    }


def _distinct(before: Measurement, after: Measurement, human: Measurement, n: int) -> dict:
    """distinct-n of N replies, one per context (the mean over the k sets of samples), so that it
    can be compared with the humans' N replies: the number falls as a corpus grows."""
    b, b_out = _distinct_and_left_out(before, n)
    a, a_out = _distinct_and_left_out(after, n)
    gaps = a_out - b_out
    count = len(gaps)
    error = np.sqrt((count - 1) / count * ((gaps - gaps.mean()) ** 2).sum())
    difference = a - b
    return {
        "before": b,
        "after": a,
        "human": _distinct_and_left_out(human, n)[0],
        "difference": difference,
        "ci95": [float(difference - 1.96 * error), float(difference + 1.96 * error)],
    }


def _distinct_and_left_out(m: Measurement, n: int) -> tuple[float, np.ndarray]:
    """distinct-n of all contexts, and without each one of them (N,)."""
    values, left_out = [], []
    for column in zip(*m.replies, strict=True):
        own = [Counter(ngrams(tokens(reply, "words"), n)) for reply in column]
        total = sum(own, Counter())
        size = total.total()
        only_here = np.array([sum(total[gram] == c for gram, c in o.items()) for o in own])
        sizes = np.array([o.total() for o in own])
        values.append(len(total) / max(1, size))
        left_out.append((len(total) - only_here) / np.maximum(1, size - sizes))
    return float(np.mean(values)), np.mean(left_out, axis=0)


def _words(m: Measurement) -> np.ndarray:
    return np.array([[len(reply.split()) for reply in row] for row in m.replies], dtype=float)


def _score(
    scorers: Mapping[str, Scorer], examples: Sequence[Example], replies: list[list[str]]
) -> dict[str, np.ndarray]:
    contexts = [e.context for e, row in zip(examples, replies, strict=True) for _ in row]
    flat = [reply for row in replies for reply in row]
    shape = (len(replies), len(replies[0]))
    return {name: scorer(contexts, flat).numpy().reshape(shape) for name, scorer in scorers.items()}


def _frozen(generator: Generator) -> Policy:
    disable_dropout(generator.model)
    return Policy(generator.model).eval().to(generator.model.device)


def side_by_side(
    before: Measurement, after: Measurement, human: Measurement, examples: Sequence[Example]
) -> list[dict]:
    """The rows of samples.jsonl: the first sample of each context, and its scores."""
    speakers = {"before": before, "after": after, "human": human}
    return [
        {
            "context": list(example.context),
            **{who: m.replies[i][0] for who, m in speakers.items()},
            "scores": {
                name: {who: float(m.scores[name][i, 0]) for who, m in speakers.items()}
                for name in before.scores
            },
        }
        for i, example in enumerate(examples)
    ]
