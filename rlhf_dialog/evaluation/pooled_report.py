"""Runs compared: comparison.json, .md, .html, and a table for the terminal."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
from markupsafe import Markup
from matplotlib.figure import Figure
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from .cautions import warnings as run_warnings
from .charts import MUTED, SERIES, STYLE, svg_for_page
from .definitions import HEADLINE, METRICS, metric_info
from .findings import number, reading
from .frontier import Mark, Plane, Track, draw_frontier, track_points
from .pages import refuse_non_finite, write_pages
from .pooled import Group, pooled_metrics
from .run_files import RunFiles

FEW_RUNS = 3
_JUDGE = "judge_score"


def comparison(groups: Sequence[Group]) -> dict[str, Any]:
    """comparison.json: per group its runs, and each metric pooled over them (`pooled.pool`)."""
    return {
        "groups": [
            {
                "label": group.label,
                "control": group.is_control,
                "metrics": pooled_metrics(group),
                "runs": [
                    {
                        "folder": run.folder.name,
                        "seed": run.report.get("seed"),
                        "updates": run.report.get("updates"),
                        "test_contexts": run.report.get("test_contexts"),
                        "metrics": run.report["metrics"],
                        "versions": run.report.get("versions", {}),
                    }
                    for run in group.runs
                ],
            }
            for group in groups
        ]
    }


def write_comparison(folder: Path, groups: Sequence[Group]) -> Path:
    """Writes the three files, each complete or absent; returns the path of comparison.html.

    Raises:
        ValueError: a number is not finite.
    """
    report = comparison(groups)
    refuse_non_finite(report, "comparison")
    folder.mkdir(parents=True, exist_ok=True)
    return write_pages(folder, "comparison", report, _view(report, groups))


def print_comparison(console: Console, groups: Sequence[Group], html: Path) -> None:
    """Verdict, warnings, and the judge's difference of every group with both spreads."""
    report = comparison(groups)
    console.print()
    console.print(Text(verdict(report), style="bold"))
    for warning in warnings(report, groups):
        console.print(Padding(Text(f"! {warning}", style="yellow"), (0, 0, 0, 2)))
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("group")
    for heading in ("runs", "judge", "difference (95 %)", "seeds ±", "contexts ±"):
        table.add_column(heading, justify="right")
    for row in _rows(report):
        cell = row["judge"]
        table.add_row(
            Text(row["label"]),
            str(row["runs"]),
            f"{cell['before']} → {cell['after']}",
            f"{cell['difference']} ({cell['interval'] or '–'})",
            cell["seeds"],
            cell["contexts"],
        )
    console.print()
    console.print(Padding(table, (0, 0, 0, 1)))
    console.print()
    path = Text(str(html), style=f"link {html.resolve().as_uri()}")
    console.print(Text("The comparison: ", style="bold") + path, soft_wrap=True)


def verdict(report: dict[str, Any]) -> str:
    """One sentence on the first group that is no control, with its interval and both spreads."""
    groups = [g for g in report["groups"] if _JUDGE in g["metrics"]]
    if not groups:
        return "These runs have no judge score, so they cannot say whether training helped."
    told = _statement(groups[0])[:-1]
    gaps = [(g["control"], g["label"], g["metrics"][_JUDGE]["difference"]) for g in groups[1:]]
    others = [f"{label} {_signed(gap)}" for control, label, gap in gaps if not control]
    controls = sorted(gap for control, _, gap in gaps if control)
    rest = [", ".join(others)] if others else []
    if controls:
        ends = dict.fromkeys(_signed(gap) for gap in (controls[0], controls[-1]))
        rest.append(f"controls {' to '.join(ends)}")
    return "; ".join([told, *rest]) + "."


def _signed(gap: float) -> str:
    return number(gap, ".2f", signed=True)


def _statement(group: dict[str, Any]) -> str:
    entry = group["metrics"][_JUDGE]
    runs = entry["runs"]
    over = f"Over {runs} seeds" if runs > 1 else "In one run"
    change = _signed(entry["difference"])
    bounds = entry["ci95"]
    if bounds is None:
        return f"{over} the frozen judge's score changes by {change} ({group['label']})."
    low, high = (number(bound, ".2f") for bound in bounds)
    word = {"better": "rises", "worse": "falls"}.get(reading(_JUDGE, entry))
    moves = (
        f"{word} by {number(abs(entry['difference']), '.2f')}"
        if word
        else f"does not change clearly: {change}"
    )
    spread = "" if entry["between_seeds"] is None else f", seeds ± {_spread(entry, 'seeds')}"
    if entry["between_contexts"] is not None:
        spread += f", contexts ± {_spread(entry, 'contexts')}"
    return (
        f"{over} the frozen judge's score {moves} ({group['label']}; 95 % interval {low} to "
        f"{high}{spread})."
    )


def _spread(entry: dict[str, Any], source: str, spec: str = ".2f") -> str:
    return number(entry[f"between_{source}"], spec)


def warnings(report: dict[str, Any], groups: Sequence[Group]) -> list[str]:
    """What to doubt in the comparison, and what its runs' own reports warn of."""
    found = []
    tested = [g for g in report["groups"] if not g["control"] and _JUDGE in g["metrics"]]
    for group in report["groups"]:
        entry = group["metrics"].get(_JUDGE)
        if group["control"] and entry and reading(_JUDGE, entry) == "better":
            found.append(
                f"A control moves the judge: {group['label']}, "
                f"{number(entry['difference'], '.2f', signed=True)}. What rises without a "
                "meaningful reward is not the reward's doing."
            )
    if tested and not any(g["control"] for g in report["groups"]):
        found.append(
            "No control among these runs: add ones with a constant and a shuffled reward, under "
            "which the judge should not move."
        )
    few = [f"{g['label']} ({len(g['runs'])})" for g in tested if len(g["runs"]) < FEW_RUNS]
    if few:
        found.append(f"Fewer than {FEW_RUNS} seeds: {', '.join(few)}. Another seed may differ.")
    stacks = {
        json.dumps(r["versions"], sort_keys=True) for g in report["groups"] for r in g["runs"]
    }
    if len(stacks) > 1:
        found.append("The runs were made with different versions of the packages.")
    for group in groups:
        for run in group.runs:
            for told in run_warnings(run.report, run.history):
                found.append(f"{run.folder.name}: {told}")
    return found


def _view(report: dict[str, Any], groups: Sequence[Group]) -> dict[str, Any]:
    names = [n for n in METRICS if any(n in g["metrics"] for g in report["groups"])]
    return {
        "verdict": verdict(report),
        "warnings": warnings(report, groups),
        "facts": [
            ("runs", str(sum(len(g["runs"]) for g in report["groups"]))),
            ("groups", str(len(report["groups"]))),
        ],
        "columns": _columns(report),
        "rows": _rows(report),
        "runs": _run_rows(report),
        "forest": _draw_forest(report),
        "frontier": _draw_frontier(groups),
        "details": [(g["label"], _detail_rows(g["metrics"])) for g in report["groups"]],
        "versions": report["groups"][0]["runs"][0]["versions"],
        "definitions": [(name, METRICS[name]) for name in names],
    }


def _columns(report: dict[str, Any]) -> list[tuple[str, str]]:
    names = [n for n in HEADLINE if any(n in g["metrics"] for g in report["groups"])]
    return [(name, metric_info(name).title) for name in names]


def _rows(report: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "label": group["label"],
            "control": group["control"],
            "runs": len(group["runs"]),
            "judge": _cell(_JUDGE, group["metrics"].get(_JUDGE)),
            "cells": [_cell(name, group["metrics"].get(name)) for name, _ in _columns(report)],
        }
        for group in report["groups"]
    ]


def _detail_rows(metrics: dict[str, Any]) -> list[dict[str, str]]:
    return [_cell(name, metrics[name]) for name in METRICS if name in metrics]


def _run_rows(report: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "label": group["label"],
            "folder": run["folder"],
            "seed": str(run["seed"]),
            "updates": str(run["updates"]),
            "contexts": str(run["test_contexts"]),
            "cells": [_cell(name, run["metrics"].get(name)) for name, _ in _columns(report)],
        }
        for group in report["groups"]
        for run in group["runs"]
    ]


def _cell(name: str, entry: dict[str, Any] | None) -> dict[str, str]:
    """One metric of a group or of a run, as text."""
    info = metric_info(name)
    if entry is None:
        keys = ("before", "after", "human", "difference", "seeds", "contexts")
        return {
            "name": name,
            "title": info.title,
            "interval": "",
            "reading": "unclear",
        } | dict.fromkeys(keys, "–")
    bounds = entry.get("ci95")
    limits = [number(bound, info.format) for bound in bounds] if bounds else []
    return {
        "name": name,
        "title": info.title,
        "before": number(entry["before"], info.format),
        "after": number(entry["after"], info.format),
        "human": number(entry.get("human"), info.format),
        "difference": number(entry["difference"], info.format, signed=True),
        "interval": " to ".join(limits),
        "reading": reading(name, entry),
        "seeds": number(entry.get("between_seeds"), info.format),
        "contexts": number(entry.get("between_contexts"), info.format),
    }


def _draw_forest(report: dict[str, Any]) -> Markup | None:
    """The judge's difference: a thin bar a run (contexts), a thick one a group (pooled)."""
    groups = [g for g in report["groups"] if _JUDGE in g["metrics"]]
    if not groups:
        return None
    lines = sum(len(g["runs"]) + 1.6 for g in groups)
    with matplotlib.rc_context(STYLE | {"axes.grid.axis": "x"}):
        figure = Figure(figsize=(4.7, 0.5 + 0.19 * lines), layout="constrained")
        axes = figure.subplots()
        axes.axvline(0, color=MUTED, linewidth=0.9, linestyle=(0, (2, 3)))
        y, ticks = 0.0, []
        for index, group in enumerate(groups):
            colour = SERIES[index % len(SERIES)]
            entry = group["metrics"][_JUDGE]
            ticks.append((y, group["label"]))
            axes.plot(entry["difference"], y, "D", color=colour, markersize=5.5)
            if entry["ci95"]:
                axes.plot(entry["ci95"], [y, y], color=colour, linewidth=3.2, alpha=0.55)
            for run in group["runs"]:
                y += 1
                own = run["metrics"].get(_JUDGE)
                if own is None:
                    continue
                ticks.append((y, f"seed {run['seed']}"))
                axes.plot(own["difference"], y, "o", color=colour, markersize=3)
                if own.get("ci95"):
                    axes.plot(own["ci95"], [y, y], color=colour, linewidth=1.1)
            y += 1.6
        axes.set_yticks([at for at, _ in ticks], [_wrapped(label) for _, label in ticks])
        axes.set_ylim(y - 0.8, -0.9)
        axes.set_xlabel("judge score, after − before, logit", color=MUTED)
        return svg_for_page(figure, "forest")


def _wrapped(label: str) -> str:
    return label if len(label) <= 34 else label[:33] + "…"


def _draw_frontier(groups: Sequence[Group]) -> Markup | None:
    tracks = [
        Track(group.label, track_points(run.history), _end(run))
        for group in groups
        for run in group.runs
    ]
    humans = [
        run.report["metrics"][_JUDGE].get("human")
        for group in groups
        for run in group.runs
        if _JUDGE in run.report["metrics"]
    ]
    known = [human for human in humans if human is not None]
    human = sum(known) / len(known) if known else None
    return draw_frontier(Plane([t for t in tracks if t.points or t.end], human=human))


def _end(run: RunFiles) -> Mark | None:
    metrics = run.report["metrics"]
    if _JUDGE not in metrics or "kl" not in metrics:
        return None
    return Mark("", metrics["kl"]["after"], metrics[_JUDGE]["after"])
