"""Numbers → report.json, report.md, report.html, and the table that ends a run in the terminal."""

import json
from math import isfinite
from pathlib import Path
from typing import Any

import yaml
from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from . import charts
from .findings import (
    METRICS,
    MetricInfo,
    interval,
    metric_info,
    number,
    reading,
    verdict,
    warnings,
)
from .pages import page_environment, refuse_non_finite, write_atomically

__all__ = ["METRICS", "MetricInfo", "print_report", "write_report"]

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
    page = page_environment()
    view = _view(report, history, samples)
    texts = {
        "report.md": page.get_template("report.md.jinja").render(view),
        "report.html": page.get_template("report.html.jinja").render(view),
        "report.json": json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False) + "\n",
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        write_atomically(folder / name, text)
    return folder / "report.html"


def print_report(
    console: Console, report: dict[str, Any], samples: list[dict[str, Any]], html: Path
) -> None:
    """Print how a run ends: verdict, warnings, numbers, four sample replies, and where the page is.

    Meant for consoles of 80 columns and more.
    """
    console.print()
    console.print(Text(verdict(report), style="bold"))
    for warning in warnings(report):
        console.print(Padding(Text(f"! {warning}", style="yellow"), (0, 0, 0, 2)))
    console.print()
    console.print(Padding(_numbers_table(report["metrics"]), (0, 0, 0, 1)))
    if samples:
        console.print()
        console.print(_samples_table(_spread(samples, 4), len(samples)))
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
    for row in _rows(metrics):
        difference = Text(row["difference"], style=_STYLES[row["reading"]])
        if row["interval"]:
            difference.append(f"  ({row['interval']})", style="dim")
        table.add_row(
            Text(row["info"].title), row["before"], row["after"], difference, row["human"]
        )
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


def _view(
    report: dict[str, Any], history: list[dict[str, Any]], samples: list[dict[str, Any]]
) -> dict[str, Any]:
    """What the templates see."""
    rows = _rows(report["metrics"])
    config = json.loads(json.dumps(report.get("config", {})))  # tuples → lists, for safe_dump
    return {
        "character": report.get("character"),
        "verdict": verdict(report),
        "warnings": warnings(report),
        "rows": rows,
        "facts": _facts(report),
        "charts": charts.draw_curves(history),
        "samples": [_sample_view(sample) for sample in samples],
        "few_samples": _spread(samples, 4),
        "config": yaml.safe_dump(config, sort_keys=False, allow_unicode=True) if config else "",
        "versions": report.get("versions", {}),
    }


def _rows(metrics: dict[str, Any]) -> list[dict[str, Any]]:
    """The result table: known metrics in the order of METRICS, then the others."""
    names = [name for name in METRICS if name in metrics]
    names += [name for name in metrics if name not in METRICS]
    return [_row(name, metrics[name]) for name in names]


def _row(name: str, entry: dict[str, Any]) -> dict[str, Any]:
    info = metric_info(name)
    bounds = interval(entry)
    limits = [number(bound, info.format) for bound in bounds] if bounds else []
    return {
        "name": name,
        "info": info,
        "before": number(entry["before"], info.format),
        "after": number(entry["after"], info.format),
        "human": number(entry.get("human"), info.format),
        "difference": number(entry["difference"], info.format, signed=True),
        "interval": " to ".join(limits),
        "reading": reading(name, entry),
        "strip": charts.strip(entry),
    }


def _facts(report: dict[str, Any]) -> list[tuple[str, str]]:
    """The lines under the title: label and value, missing ones left out."""
    labels = {
        "character": "character",
        "generator_type": "generator",
        "updates": "updates",
        "test_contexts": "test contexts",
        "seed": "seed",
    }
    facts = [(label, str(report[key])) for key, label in labels.items() if key in report]
    if "seconds" in report:
        minutes, seconds = divmod(round(report["seconds"]), 60)
        hours, minutes = divmod(minutes, 60)
        facts.append(
            ("time", f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s")
        )
    return facts


def _sample_view(sample: dict[str, Any]) -> dict[str, Any]:
    scores = sample.get("scores", {})
    replies = [
        {
            "kind": kind,
            "text": sample[kind],
            "scores": [(who, number(of.get(kind), ".2f")) for who, of in scores.items()],
        }
        for kind in ("before", "after", "human")
    ]
    judge = scores.get("judge", {})
    before, after = judge.get("before"), judge.get("after")
    gain = None if before is None or after is None else round(after - before, 4)
    return {
        "context": sample["context"],
        "replies": replies,
        "gain": gain if gain is not None and isfinite(gain) else None,
    }


def _spread(samples: list[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """At most `count` samples at even distances, so that nobody picked the nicest."""
    count = min(count, len(samples))
    return [samples[i * len(samples) // count] for i in range(count)]


def _shortened(text: str, most: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"
