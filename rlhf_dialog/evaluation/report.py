"""Numbers → report.json, report.md, report.html, and the table that ends a run in the terminal."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from .cautions import warnings
from .definitions import METRICS, MetricInfo
from .findings import verdict
from .pages import refuse_non_finite, write_pages
from .report_view import metric_rows, report_view, speaker_rows, spread

__all__ = ["METRICS", "MetricInfo", "print_report", "write_report"]

# What the terminal shows of a long report; the page has everything.
_TERMINAL = (
    "judge_score",
    "judge_accepted",
    "discriminator_score",
    "perplexity",
    "hits_at_1",
    "distinct_2",
    "self_bleu",
    "copied_seen_4",
    "reply_length",
    "kl",
)
_STYLES = {"better": "green", "worse": "red", "moved": "yellow", "unclear": "dim"}


def write_report(
    folder: Path,
    report: dict[str, Any],
    history: list[dict[str, Any]],
    samples: list[dict[str, Any]],
) -> Path:
    """Write report.json, report.md and report.html into `folder`; return the path of report.html.

    `report` holds at least "metrics": name → before, after, difference and, where known, human and
    ci95 (two numbers); the other keys may be missing. `history` holds the rows of metrics.jsonl,
    `samples` those of samples.jsonl, and both may be empty. Each file is complete or absent, and
    report.json, which is exactly `report`, comes last.

    Raises ValueError, naming the field, when `report` holds a number that is not finite.
    """
    refuse_non_finite(report, "report")
    folder.mkdir(parents=True, exist_ok=True)
    return write_pages(folder, "report", report, report_view(report, history, samples))


def print_report(
    console: Console,
    report: dict[str, Any],
    samples: list[dict[str, Any]],
    html: Path,
    history: Sequence[dict[str, Any]] = (),
) -> None:
    """Print how a run ends: verdict, warnings, numbers, four sample replies, and where the page is.

    Every speaker has a line where there are more than warm start, tuned generator and people.

    Meant for consoles of 80 columns and more.
    """
    console.print()
    console.print(Text(verdict(report), style="bold"))
    for warning in warnings(report, history):
        console.print(Padding(Text(f"! {warning}", style="yellow"), (0, 0, 0, 2)))
    console.print()
    metrics = report["metrics"]
    short = {name: metrics[name] for name in _TERMINAL if name in metrics}
    shown = short if len(metrics) > len(_TERMINAL) else metrics
    console.print(Padding(_numbers_table(shown), (0, 0, 0, 1)))
    if len(report.get("generators", {})) > 3:
        console.print()
        console.print(Padding(_speakers_table(report), (0, 0, 0, 1)))
    if samples:
        console.print()
        console.print(_samples_table(spread(samples, 4), len(samples)))
    console.print()
    path = Text(str(html), style=f"link {html.resolve().as_uri()}")
    console.print(Text("The whole report: ", style="bold") + path, soft_wrap=True)


def _numbers_table(metrics: dict[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("metric")
    for heading in ("before", "after"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("difference (95 % interval)", no_wrap=True)
    table.add_column("human", justify="right", no_wrap=True)
    for row in metric_rows(metrics):
        difference = Text(row["difference"], style=_STYLES[row["reading"]])
        if row["interval"]:
            difference.append(f"  ({row['interval']})", style="dim")
        table.add_row(
            Text(row["info"].title), row["before"], row["after"], difference, row["human"]
        )
    return table


def _speakers_table(report: dict[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    rows = speaker_rows(report, ("judge_score", "distinct_2", "perplexity", "reply_length", "kl"))
    table.add_column("generator")
    for _, title in rows.columns:
        table.add_column(title, justify="right")
    for row in rows.rows:
        table.add_row(Text(row.name), *(cell.value for cell in row.cells))
    return table


def _samples_table(samples: list[dict[str, Any]], total: int) -> Table:
    table = Table(
        title=f"{len(samples)} of {total} samples, evenly spaced, not chosen",
        title_style="dim",
        title_justify="left",
        box=box.HORIZONTALS,
        expand=True,
        show_lines=True,
        pad_edge=False,
        border_style="dim",
        header_style="dim",
    )
    for heading in ("context", "before", "after", "human"):
        # fold, because rich's default cuts wide (CJK) characters at the end of a line
        table.add_column(heading, ratio=1, overflow="fold")
    for sample in samples:
        texts = [sample["context"][-1], sample["before"], sample["after"], sample["human"]]
        # Text, not str: rich would take a reply's [brackets] for markup
        table.add_row(*(Text(_shortened(text, 160) or "(empty)") for text in texts))
    return table


def _shortened(text: str, most: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"
