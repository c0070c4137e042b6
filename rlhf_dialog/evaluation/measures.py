"""A speaker's replies become the named numbers of the suite.

Every definition is that of a module in `metrics/`; here it is only cut into contexts, so that an
interval can be put around it. Where people's replies are no fair reference (against themselves, or
a likelihood that nobody computed) the number is left out.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from rlhf_dialog.dialogues.schema import Example
from rlhf_dialog.evaluation.intervals import Corpus, Ratio, Single, Statistic, mean_of
from rlhf_dialog.evaluation.measurement import Measurement
from rlhf_dialog.evaluation.metrics.bleu.bleu import bleu
from rlhf_dialog.evaluation.metrics.chrf.chrf import chrf
from rlhf_dialog.evaluation.metrics.context_overlap.context_overlap import overlap_by_reply
from rlhf_dialog.evaluation.metrics.copying.copying import copied_by_reply
from rlhf_dialog.evaluation.metrics.length.length import lengths
from rlhf_dialog.evaluation.metrics.repetition.repetition import repeated_within, repetition
from rlhf_dialog.evaluation.metrics.self_bleu.self_bleu import self_bleu
from rlhf_dialog.evaluation.metrics.text import Gram, mean, ngrams, tokenized
from rlhf_dialog.evaluation.metrics.unigram_f1.unigram_f1 import f1_scores


@dataclass(frozen=True)
class Asked:
    """What the replies are held against.

    Args:
        examples: N contexts with people's replies.
        script: the turns that the generators were trained on, for copying; may be empty.
        self_bleu_sample: most replies that self-BLEU compares.
    """

    examples: Sequence[Example]
    script: Sequence[str] = ()
    self_bleu_sample: int = 200


def statistics(m: Measurement, asked: Asked) -> dict[str, Statistic]:
    """Every number of one speaker, by its name in `definitions.METRICS`; those that no float can
    hold (a perplexity per word, where a sentence is one word) are left out."""
    found = {
        **_scores(m),
        **_likelihood(m),
        **_variety(m, asked),
        **_by_reply(m, asked),
        **_against_people(m, asked),
    }
    return {name: number for name, number in found.items() if math.isfinite(number.value)}


def _scores(m: Measurement) -> dict[str, Statistic]:
    found: dict[str, Statistic] = {
        f"{name}_score": mean_of(logits) for name, logits in m.scores.items()
    }
    if "judge" in m.scores:
        found["judge_accepted"] = mean_of((m.scores["judge"] > 0).astype(float))
    if m.kl is not None:
        found["kl"] = mean_of(m.kl)
    return found


def _likelihood(m: Measurement) -> dict[str, Statistic]:
    """Perplexities of people's replies, and whether the generator prefers them to distractors."""
    found: dict[str, Statistic] = {}
    if m.human is not None:
        nats = np.array([sum(nlls) for nlls in m.human.token_nlls])
        for name, counts in (
            ("perplexity", [len(nlls) for nlls in m.human.token_nlls]),
            ("perplexity_per_word", m.human.words),
            ("perplexity_per_character", m.human.characters),
        ):
            found[name] = Ratio(nats, np.array(counts, dtype=float), exponential=True)
    if m.hits is not None:
        asked = np.zeros((2, len(m.replies)))  # contexts that were not asked count nothing
        asked[:, : len(m.hits)] = m.hits, np.ones(len(m.hits))
        found["hits_at_1"] = Ratio(*asked)
    return found


def _variety(m: Measurement, asked: Asked) -> dict[str, Statistic]:
    """Numbers of N replies, one to each context: the mean over the k sets of samples, so that they
    can be compared with people's N replies. (distinct-n falls as a corpus grows.)"""
    columns = [tokenized(column, "words") for column in zip(*m.replies, strict=True)]

    def grams(n: int) -> list[list[list[Gram]]]:
        return [[list(ngrams(row, n)) for row in rows] for rows in columns]

    whole = [[[tuple(row)] for row in rows] for rows in columns]
    found: dict[str, Statistic] = {
        f"distinct_{n}": _mean_corpus(grams(n), _distinct) for n in (1, 2, 3)
    }
    found["entropy_4"] = _mean_corpus(grams(4), _entropy)
    different = _mean_corpus(whole, _distinct)
    found["duplicate_replies"] = Corpus(1 - different.value, 1 - different.left_out)
    sets = list(zip(*m.replies, strict=True))
    found["most_frequent_reply"] = Single(mean([repetition(s).most_frequent for s in sets]))
    first = [row[0] for row in m.replies]
    found["self_bleu"] = Single(self_bleu(first, sample=asked.self_bleu_sample).self_bleu)
    return found


def _by_reply(m: Measurement, asked: Asked) -> dict[str, Statistic]:
    """Means over all N·k replies."""
    flat = [reply for row in m.replies for reply in row]
    contexts = [e.context for e, row in zip(asked.examples, m.replies, strict=True) for _ in row]

    def over(values: Sequence[float | bool | None]) -> Ratio:
        table = np.array([np.nan if v is None else float(v) for v in values])
        table = table.reshape(len(m.replies), -1)
        return Ratio(np.nansum(table, axis=1), np.isfinite(table).sum(1))

    words = lengths(flat, "whitespace")
    overlap, parroted = overlap_by_reply(flat, contexts)
    found: dict[str, Statistic] = {
        "reply_length": over(words),
        "empty_replies": over([count == 0 for count in words]),
        "repetition_within": over(repeated_within(tokenized(flat, "words"))),
        "context_overlap": over(overlap),
        "parroted": over(parroted),
    }
    if asked.script:
        copied = copied_by_reply(flat, asked.script)
        seen, grams = over([c.seen for c in copied]), over([c.grams for c in copied])
        found["copied_longest"] = over([c.longest for c in copied])
        found["copied_seen_4"] = Ratio(seen.sums, grams.sums)
        found["copied_turns"] = over([c.whole_turn for c in copied])
    return found


def _against_people(m: Measurement, asked: Asked) -> dict[str, Statistic]:
    """Likeness to what people replied; people have no number against themselves."""
    if m.human is None:
        return {}
    flat = [reply for row in m.replies for reply in row]
    people = [[e.reply] for e, row in zip(asked.examples, m.replies, strict=True) for _ in row]
    f1 = np.array(f1_scores(flat, people)).reshape(len(m.replies), -1)
    return {
        "f1": mean_of(f1),
        "bleu": Single(bleu(flat, people).bleu),
        "chrf": Single(chrf(flat, people).chrf),
    }


Items = Sequence[Sequence[Hashable]]  # what each context brings to the corpus: n-grams


def _mean_corpus(sets: Sequence[Items], number: Callable[[Items], Corpus]) -> Corpus:
    parts = [number(rows) for rows in sets]
    return Corpus(
        float(np.mean([part.value for part in parts])),
        np.mean([part.left_out for part in parts], axis=0),
    )


def _distinct(rows: Items) -> Corpus:
    """Different items / items, of all rows and without each one of them."""
    total = Counter(item for row in rows for item in row)
    size, sizes = total.total(), np.array([len(row) for row in rows])
    own = np.array([sum(total[i] == c for i, c in Counter(row).items()) for row in rows])
    return Corpus(len(total) / max(1, size), (len(total) - own) / np.maximum(1, size - sizes))


def _entropy(rows: Items) -> Corpus:
    """−Σ p ln p = ln C − Σ c ln c / C over the counts c of items, and without each row."""
    total = Counter(item for row in rows for item in row)
    everything = sum(map(_c_ln_c, total.values()))
    values = []
    for row in ((), *rows):
        own = Counter(row)
        change = sum(_c_ln_c(total[i] - c) - _c_ln_c(total[i]) for i, c in own.items())
        size = total.total() - own.total()
        values.append(math.log(size) - (everything + change) / size if size else 0.0)
    return Corpus(values[0], np.array(values[1:]))


def _c_ln_c(count: int) -> float:
    return count * math.log(count) if count else 0.0
