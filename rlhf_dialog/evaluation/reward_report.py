"""The report on a reward model: what each number means, and JSON, Markdown, HTML, terminal."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib
from markupsafe import Markup
from matplotlib.figure import Figure
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from .charts import MUTED, SERIES, STYLE, svg_for_page
from .findings import number
from .pages import refuse_non_finite, write_pages

# name -> (title, definition, better)
DEFINITIONS: dict[str, tuple[str, str, str]] = {
    "accuracy": ("Accuracy", "share of replies on the right side of logit 0", "up"),
    "auc": (
        "AUC",
        "area under the ROC curve: how often a real reply scores above a fake one",
        "up",
    ),
    "average_precision": (
        "Average precision",
        "area under the precision-recall steps of the real replies; chance is their share",
        "up",
    ),
    "pairwise_accuracy": (
        "Pairwise accuracy",
        "share of (real, fake) pairs of one context in which the real reply scores strictly "
        "higher; a tie counts 0",
        "up",
    ),
    "brier": ("Brier score", "mean squared error of the probability sigmoid(logit)", "down"),
    "ece_positive": (
        "ECE, positive class",
        "expected calibration error of the probability of being real: 10 equal bins, L1",
        "down",
    ),
    "ece_top_label": (
        "ECE, top label",
        "the same of the more probable label's probability against whether it is right",
        "down",
    ),
    "spearman": ("Spearman, judge", "rank correlation with the judge's scores", "up"),
    "pearson": ("Pearson, judge", "linear correlation with the judge's scores", "up"),
    "same_sign": (
        "Same sign as the judge",
        "share of replies that both put on the same side of logit 0",
        "up",
    ),
}
EDITS = {
    "casing": "lower case (a capital, where it is lower already)",
    "final_punctuation": "final full stop removed, or added where no mark ends the reply",
    "whitespace": "inner spaces doubled, a space at each end",
}
DEGENERATE = {
    "empty": "nothing",
    "repeated": "its first two words, four times",
    "copied_context": "the turn it answers",
    "shuffled_words": "its own words in another order",
}
BELOW_ENOUGH = 0.95  # share of degenerate replies that should score below the real one
FLIPS_ENOUGH = 0.05  # share of replies that an edit may move across logit 0


def write_reward_report(folder: Path, report: dict[str, Any]) -> Path:
    """Writes reward_report.json, .md and .html; returns the path of the page.

    Each file is complete or absent, and the JSON, which is exactly `report`, comes last.

    Raises:
        ValueError: `report` holds a number that is not finite.
    """
    refuse_non_finite(report, "report")
    return write_pages(folder, "reward_report", report, _view(report))


def print_reward_report(console: Console, report: dict[str, Any], html: Path) -> None:
    """Verdict, warnings, and a table in which every number stands beside its definition."""
    console.print()
    console.print(Text(verdict(report), style="bold"))
    for warning in warnings(report):
        console.print(Padding(Text(f"! {warning}", style="yellow"), (0, 0, 0, 2)))
    console.print()
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("metric")
    table.add_column("value", justify="right", no_wrap=True)
    table.add_column("95 % interval", no_wrap=True)
    table.add_column("definition", style="dim")
    for row in _all_rows(report):
        table.add_row(Text(row["title"]), row["value"], row["interval"], Text(row["definition"]))
    console.print(Padding(table, (0, 0, 0, 1)))
    console.print()
    path = Text(str(html), style=f"link {html.resolve().as_uri()}")
    console.print(Text("The whole report: ", style="bold") + path, soft_wrap=True)


def verdict(report: dict[str, Any]) -> str:
    """One sentence: how well real replies are told from fakes, with the interval."""
    auc = report["metrics"]["auc"]
    low, high = auc["ci95"]
    count = sum(report["replies"].values())
    evidence = f"AUC {_figure(auc)}, 95 % interval {_interval(auc)}, n = {count} replies"
    if low <= 0.5 <= high:
        return f"The reward model cannot be shown to tell real replies from fakes ({evidence})."
    if high < 0.5:
        return f"The reward model scores fakes above real replies ({evidence})."
    often = f"{auc['value']:.0%} of the time"
    return f"The reward model ranks a real reply above a fake {often} ({evidence})."


def warnings(report: dict[str, Any]) -> list[str]:
    """What makes the model a poor reward, a sentence each; often empty."""
    found = []
    for kind, part in report["by_kind"].items():
        auc = part["metrics"]["auc"]
        if auc["ci95"] and auc["ci95"][0] <= 0.5:
            found.append(
                f"Fakes of the kind {kind} are not told from real replies (AUC {_figure(auc)}, "
                f"95 % interval {_interval(auc)})."
            )
    for name, entry in report["degenerate"].items():
        share = entry["below"]["value"]
        if share < BELOW_ENOUGH:
            found.append(
                f"Degenerate replies pay: {_words(name)} ({DEGENERATE[name]}) scores below the "
                f"real reply in only {share:.0%} of contexts."
            )
    for name, entry in report["harmless_edits"].items():
        if entry["flips"] > FLIPS_ENOUGH:
            found.append(
                f"A harmless edit matters: {_words(name)} ({EDITS[name]}) moves "
                f"{entry['flips']:.0%} of real replies across logit 0."
            )
    pairs = report["pairwise"]
    if pairs and pairs["ties"]:
        found.append(f"{pairs['ties']} of {pairs['pairs']} pairs are ties and count as wrong.")
    return found


def _view(report: dict[str, Any]) -> dict[str, Any]:
    """What the templates see."""
    return {
        "verdict": verdict(report),
        "warnings": warnings(report),
        "facts": _facts(report),
        "rows": list(_rows(report)),
        "parts": [_part(*part) for part in _parts(report)],
        "degenerate": list(_degenerate_rows(report)),
        "edits": list(_edit_rows(report)),
        "edited": report["edited_replies"],
        "resampling": _resampling(report),
        "reliability": _draw_reliability(report["reliability"]),
        "histogram": _draw_histogram(report["histogram"]),
        "versions": report.get("versions", {}),
    }


def _facts(report: dict[str, Any]) -> list[tuple[str, str]]:
    names = ("reward_model", "data", "form", "judge", "max_tokens", "resamples", "seed")
    facts = [(_words(name), str(report[name])) for name in names if report.get(name) is not None]
    counts = report["replies"]
    return [*facts, ("replies", f"{counts['real']} real, {counts['fake']} fake")]


def _resampling(report: dict[str, Any]) -> str:
    how = (
        "pairs, chosen and rejected together"
        if report["form"] == "preference"
        else "replies, real and fake ones each among themselves (stratified)"
    )
    return (
        f"95 % percentile bootstrap of {report['resamples']} resamples of {how}. Pairwise accuracy "
        "and degenerate replies: of contexts."
    )


def _rows(report: dict[str, Any]) -> Iterator[dict[str, str]]:
    entries = dict(report["metrics"])
    if report["pairwise"]:
        entries["pairwise_accuracy"] = report["pairwise"]["accuracy"]
    entries |= report["agreement"] or {}
    for name, (title, definition, better) in DEFINITIONS.items():
        if name in entries:
            if name == "pairwise_accuracy":
                pairs = report["pairwise"]
                definition += f" ({pairs['ties']} ties in {pairs['pairs']} pairs)"
            yield _row(name, title, definition, better, entries[name])


def _row(name: str, title: str, definition: str, better: str, entry: dict) -> dict[str, str]:
    return {
        "name": name,
        "title": title,
        "definition": definition,
        "better": {"up": "higher is better", "down": "lower is better"}[better],
        "value": _figure(entry),
        "interval": _interval(entry),
    }


def _degenerate_rows(report: dict[str, Any]) -> Iterator[dict[str, str]]:
    for name, entry in report["degenerate"].items():
        yield {
            "title": _words(name),
            "definition": DEGENERATE[name],
            "count": str(entry["count"]),
            "value": _figure(entry["below"]),
            "interval": _interval(entry["below"]),
        }


def _edit_rows(report: dict[str, Any]) -> Iterator[dict[str, str]]:
    for name, entry in report["harmless_edits"].items():
        yield {
            "title": _words(name),
            "definition": EDITS[name],
            "count": str(entry["count"]),
            "mean": number(entry["mean_change"], ".3f", signed=True),
            "absolute": number(entry["mean_absolute_change"], ".3f"),
            "relative": number(entry["relative"], ".3f"),
            "flips": number(entry["flips"], ".3f"),
        }


def _all_rows(report: dict[str, Any]) -> Iterator[dict[str, str]]:
    """The terminal's one table: overall, by kind, robustness."""
    yield from _rows(report)
    for label, part in _parts(report):
        auc = part["metrics"]["auc"]
        meaning = "AUC among the replies of this length"
        if label.startswith("kind "):
            meaning = "AUC of the real replies against these alone"
        yield {
            "title": f"AUC, {label}",
            "value": _figure(auc),
            "interval": _interval(auc),
            "definition": meaning,
        }
    for row in _degenerate_rows(report):
        meaning = f"how often this scores below the real reply: {row['definition']}"
        yield row | {"title": f"{row['title']} below real", "definition": meaning}
    for row in _edit_rows(report):
        meaning = f"mean |change of the logit| of a real reply: {row['definition']}"
        yield {
            "title": f"edit: {row['title']}",
            "value": row["absolute"],
            "interval": "",
            "definition": meaning,
        }


def _parts(report: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for kind, part in report["by_kind"].items():
        yield f"kind {kind}", part | {"real": report["replies"]["real"], "fake": part["count"]}
    for part in report["by_length"]:
        least, most = part["least"], part["most"]
        yield f"{least} characters" if least == most else f"{least} to {most} characters", part


def _part(label: str, part: dict[str, Any]) -> dict[str, Any]:
    shown = ("accuracy", "auc", "average_precision", "ece_positive")
    cells = [
        (DEFINITIONS[name][0], _figure(part["metrics"][name]), _interval(part["metrics"][name]))
        for name in shown
    ]
    return {"label": label, "real": part["real"], "fake": part["fake"], "cells": cells}


def _figure(entry: dict) -> str:
    return number(entry["value"], ".3f")


def _interval(entry: dict) -> str:
    return " to ".join(number(bound, ".3f") for bound in entry["ci95"]) if entry["ci95"] else "–"


def _words(name: str) -> str:
    return name.replace("_", " ")


def _draw_reliability(bins: list[dict[str, Any]]) -> Markup:
    """Share of real replies against the mean probability, a dot a bin, its area the replies'."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.7, 3.4), layout="constrained")
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=0.9, linestyle=(0, (2, 3)))
        x, y = zip(*((b["mean_probability"], b["share_real"]) for b in bins), strict=True)
        most = max(b["count"] for b in bins)
        axes.plot(x, y, color=SERIES[0], linewidth=1.3)
        axes.scatter(x, y, s=[8 + 70 * b["count"] / most for b in bins], color=SERIES[0])
        axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
        axes.set_xlabel("probability of being real", color=MUTED)
        axes.set_ylabel("share that is real", color=MUTED)
        return svg_for_page(figure, "reliability")


def _draw_histogram(histogram: dict[str, list]) -> Markup:
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.7, 3.4), layout="constrained")
        axes = figure.subplots()
        axes.axvline(0, color=MUTED, linewidth=0.9, linestyle=(0, (2, 3)))
        for colour, name in zip(SERIES, ("real", "fake"), strict=False):
            share = [count / max(1, sum(histogram[name])) for count in histogram[name]]
            axes.stairs(share, histogram["edges"], color=colour, fill=True, alpha=0.18)
            axes.stairs(share, histogram["edges"], color=colour, linewidth=1.5, label=name)
        figure.legend(loc="outside upper left", ncols=2, handlelength=1.4, borderpad=0)
        axes.set_xlabel("score (logit)", color=MUTED)
        axes.set_ylabel("share of its class", color=MUTED)
        return svg_for_page(figure, "histogram")
