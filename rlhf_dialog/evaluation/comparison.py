"""The end of a run: speakers are measured, and the report is written and printed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rlhf_dialog.console import console
from rlhf_dialog.evaluation.report import print_report, write_report
from rlhf_dialog.evaluation.suite import Speaker, Suite, side_by_side, summarize
from rlhf_dialog.runs import write_jsonl


def compare_generators(suite: Suite, speakers: Sequence[Speaker]) -> tuple[dict, list[dict]]:
    """The measured part of report.json and the rows of samples.jsonl."""
    measured = suite.run(speakers)
    return summarize(suite, measured), side_by_side(suite, measured)


def publish(folder: Path, report: dict, history: list[dict], samples: list[dict]) -> None:
    """Writes samples.jsonl and the three reports, and prints the ending on the terminal."""
    write_jsonl(folder / "samples.jsonl", samples)
    html = write_report(folder, report, history, samples)
    print_report(console, report, samples, html, history)
