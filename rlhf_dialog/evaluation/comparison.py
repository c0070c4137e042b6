"""Before against after: two generators on the same test examples, down to the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from rlhf_dialog.console import console
from rlhf_dialog.dialogues.schema import Example
from rlhf_dialog.evaluation.report import print_report, write_report
from rlhf_dialog.evaluation.suite import (
    Scorer,
    compare,
    measure_generator,
    measure_humans,
    side_by_side,
)
from rlhf_dialog.generators.loading import Generator
from rlhf_dialog.runs import write_jsonl
from rlhf_dialog.settings import EvaluationSettings


def compare_generators(
    before: Generator,
    after: Generator,
    examples: Sequence[Example],
    scorers: Mapping[str, Scorer],
    settings: EvaluationSettings,
    *,
    context_length: int,
    response_length: int,
    seed: int,
) -> tuple[dict[str, dict], list[dict]]:
    """The metrics of report.json and the rows of samples.jsonl.

    Args:
        before: the warm start; the KL is measured from it.
        after: the tuned generator, with the same tokenizer.
        examples: test contexts with their human replies.
        scorers: `judge` and `discriminator`, by name.
    """

    def measure(generator: Generator, reference: Generator | None, when: str):
        return measure_generator(
            generator,
            reference,
            examples,
            scorers,
            samples=settings.samples_per_context,
            context_length=context_length,
            response_length=response_length,
            seed=seed,
            description=f"test, {when}",
        )

    was = measure(before, None, "before")
    now = measure(after, before, "after")
    human = measure_humans(examples, scorers, after, response_length)
    metrics = compare(was, now, human, resamples=settings.bootstrap_resamples, seed=seed)
    return metrics, side_by_side(was, now, human, examples)


def publish(folder: Path, report: dict, history: list[dict], samples: list[dict]) -> None:
    """Writes samples.jsonl and the three reports, and prints the ending on the terminal."""
    write_jsonl(folder / "samples.jsonl", samples)
    html = write_report(folder, report, history, samples)
    print_report(console, report, samples, html)
