"""Any number of speakers on the same test contexts with the same seeds, down to numbers.

A speaker is a generator: the warm start (`before`), the tuned one (`after`), or a control, such as
one that was supervised on the character alone, or tuned with a constant or a shuffled reward. What
people replied to the same contexts is a row too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import numpy as np

from rlhf_dialog.dialogues.schema import Example
from rlhf_dialog.evaluation.beyond import (
    by_length,
    hits,
    over_temperatures,
    people_among_temperatures,
)
from rlhf_dialog.evaluation.intervals import Statistic, bootstrap_weights, difference, estimate
from rlhf_dialog.evaluation.measurement import (
    Lengths,
    Measurement,
    Scorer,
    measure_generator,
    measure_humans,
)
from rlhf_dialog.evaluation.measures import Asked, statistics
from rlhf_dialog.evaluation.metrics.distinct_n.distinct_n import distinct_n
from rlhf_dialog.evaluation.metrics.length.length import length
from rlhf_dialog.generators.loading import Generator
from rlhf_dialog.settings import EvaluationSettings

Role = Literal["before", "after", "control", "human"]
HUMAN = "human"  # the name of people's row
# What needs no judge and means something away from the character.
RETAINED = (
    "perplexity",
    "perplexity_per_word",
    "perplexity_per_character",
    "f1",
    "distinct_2",
    "repetition_within",
    "context_overlap",
    "reply_length",
)


@dataclass(frozen=True)
class Speaker:
    """A generator to be measured; `load` is called when its turn comes, so that of many large
    models two are in memory."""

    name: str
    role: Role
    load: Callable[[], Generator]


@dataclass(frozen=True)
class Measured:
    """What a speaker did, and its numbers."""

    role: Role
    replies: Measurement
    numbers: dict[str, Statistic]
    temperatures: list[dict] = field(default_factory=list)
    general: dict[str, Statistic] = field(default_factory=dict)


@dataclass(frozen=True)
class Suite:
    """What every speaker is asked.

    Args:
        examples: N test contexts with people's replies.
        scorers: `judge` and `discriminator`, by name.
        script: the turns that the generators were trained on, against which copying is counted.
        general: conversation that is not the character's, for retention; may be empty.
        general_source: what it is, for the report's reader.
    """

    examples: Sequence[Example]
    scorers: Mapping[str, Scorer]
    settings: EvaluationSettings
    lengths: Lengths
    seed: int
    script: Sequence[str] = ()
    general: Sequence[Example] = ()
    general_source: str = ""

    def run(self, speakers: Sequence[Speaker]) -> dict[str, Measured]:
        """Every speaker by name, and people last.

        Args:
            speakers: one `before`, from which the KL is taken, one `after`, and any controls.
        """
        before = next(speaker for speaker in speakers if speaker.role == "before")
        reference = before.load()
        measured = {
            speaker.name: self._measure(
                speaker, reference if speaker is before else speaker.load(), reference
            )
            for speaker in speakers
        }
        people = self._people(self.examples, self.scorers, reference)
        general: dict[str, Statistic] = {}
        if self.general:
            general = self._general_numbers(self._people(self.general, {}, reference))
        points = people_among_temperatures(people, self.examples, self.settings, self.weights)
        measured[HUMAN] = Measured(
            "human",
            people,
            statistics(people, self._asked(self.examples)),
            points if self.settings.temperatures else [],
            general,
        )
        return measured

    def weights(self, contexts: int) -> np.ndarray:
        """The resamples (R, N) of N contexts, the same for every number and speaker."""
        return bootstrap_weights(contexts, self.settings.bootstrap_resamples, self.seed)

    def _asked(self, examples: Sequence[Example]) -> Asked:
        own = self.script if examples is self.examples else ()
        return Asked(examples, own, self.settings.self_bleu_sample)

    def _general_numbers(self, m: Measurement) -> dict[str, Statistic]:
        found = statistics(m, self._asked(self.general))
        return {name: found[name] for name in RETAINED if name in found}

    def _people(
        self, examples: Sequence[Example], scorers: Mapping[str, Scorer], generator: Generator
    ) -> Measurement:
        return measure_humans(examples, scorers, generator, self.lengths.response_length)

    def _measure(self, speaker: Speaker, generator: Generator, reference: Generator) -> Measured:
        same_tokens = generator.tokenizer.get_vocab() == reference.tokenizer.get_vocab()
        ask = partial(
            measure_generator,
            generator,
            reference if same_tokens else None,
            lengths=self.lengths,
            seed=self.seed,
        )
        m = ask(
            self.examples,
            self.scorers,
            samples=self.settings.samples_per_context,
            description=f"test, {speaker.name}",
        )
        if not same_tokens:
            m.kl = None  # between different tokens it has no meaning
        m.hits = hits(generator, self.examples, self.lengths, self.settings, self.seed)
        points: list[dict] = []
        if self.settings.temperatures:
            points = over_temperatures(
                ask, m, self.examples, self.scorers, self.settings, self.weights
            )
        general: dict[str, Statistic] = {}
        if self.general:
            told = ask(self.general, {}, samples=1, description=f"general, {speaker.name}")
            general = self._general_numbers(told)
        numbers = statistics(m, self._asked(self.examples))
        return Measured(speaker.role, m, numbers, points, general)


def compare(
    before: Mapping[str, Statistic],
    after: Mapping[str, Statistic],
    human: Mapping[str, Statistic],
    weights: np.ndarray,
) -> dict[str, dict]:
    """Per number: before, after, human (or None), difference and its paired 95 % interval."""
    return {
        name: {
            "before": before[name].value,
            "after": after[name].value,
            "human": human[name].value if name in human else None,
            **difference(before[name], after[name], weights),
        }
        for name in before
        if name in after
    }


def summarize(suite: Suite, measured: Mapping[str, Measured]) -> dict:
    """The measured part of report.json.

    `metrics` compares before and after; `generators` has a row for every speaker, people included,
    with its own interval and that of its difference from the warm start; the rest is what stands
    beyond the reward, where it was asked for.
    """
    roles = {m.role: name for name, m in measured.items()}
    before, after = measured[roles["before"]], measured[roles["after"]]
    human, weights = measured[HUMAN], suite.weights(len(suite.examples))
    found: dict = {
        "metrics": compare(before.numbers, after.numbers, human.numbers, weights),
        "generators": {
            name: {"role": m.role, "metrics": _row(m, before, weights)}
            for name, m in measured.items()
        },
    }
    found["length_bins"] = by_length(
        {"before": before.replies, "after": after.replies, HUMAN: human.replies}, weights
    )
    found["temperatures"] = [
        {"generator": name, "role": m.role, **point}
        for name, m in measured.items()
        for point in m.temperatures
    ]
    if suite.general:
        found["retention"] = {
            "source": suite.general_source,
            "contexts": len(suite.general),
            "metrics": compare(
                before.general, after.general, human.general, suite.weights(len(suite.general))
            ),
        }
    return found


def _row(m: Measured, before: Measured, weights: np.ndarray) -> dict[str, dict]:
    row = {}
    for name, number in m.numbers.items():
        row[name] = estimate(number, weights)
        if m is not before and name in before.numbers:
            gap = difference(before.numbers[name], number, weights)
            row[name] |= {"difference": gap["difference"], "difference_ci95": gap["ci95"]}
    return row


def side_by_side(suite: Suite, measured: Mapping[str, Measured]) -> list[dict]:
    """The rows of samples.jsonl: each speaker's first sample for each context, and its scores.

    Warm start, tuned generator and people are called `before`, `after` and `human`; controls stand
    under `controls` by their names.
    """
    main: dict[str, Measurement] = {
        m.role: m.replies for m in measured.values() if m.role != "control"
    }
    controls = {name: m.replies for name, m in measured.items() if m.role == "control"}
    everybody = {**main, **controls}
    rows = []
    for i, example in enumerate(suite.examples):
        row: dict[str, Any] = {
            "context": list(example.context),
            **{who: main[who].replies[i][0] for who in ("before", "after", "human")},
            "scores": {
                name: {who: float(m.scores[name][i, 0]) for who, m in everybody.items()}
                for name in suite.scorers
            },
        }
        if controls:
            row["controls"] = {name: m.replies[i][0] for name, m in controls.items()}
        rows.append(row)
    return rows


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
            "text/reply_words": length(replies, "whitespace").mean,
        }
