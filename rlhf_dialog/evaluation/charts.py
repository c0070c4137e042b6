"""Drawings of the HTML report: curves over training as inline SVG, and before/after strips.

Matplotlib knows no CSS, so lines are drawn in sentinel colours that are then replaced by CSS
variables; the page decides what they look like in light and dark.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from io import StringIO
from math import isfinite
from typing import Any

import matplotlib
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from .findings import interval, number

# sentinel → CSS; the same colours are the matplotlib colours below
_CSS_COLOURS = {
    "#010101": "var(--muted)",
    "#010102": "var(--rule)",
    "#010103": "var(--after)",
    "#010104": "var(--human)",
    "#010105": "var(--third)",
    "#010106": "var(--fourth)",
    "#010107": "var(--fifth)",
    "#010108": "var(--before)",
}
MUTED, RULE, *SERIES, BEFORE = _CSS_COLOURS
_MARKERS = ("o", "D", "^")

STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text: it can be searched, and takes the page's font
    "svg.hashsalt": "rlhf_dialog",  # ids would be random otherwise
    "font.size": 8.5,
    "axes.edgecolor": RULE,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "xtick.color": RULE,
    "ytick.color": RULE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.major.size": 3,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "legend.labelcolor": MUTED,
    "lines.solid_capstyle": "round",
}
_RUNNING_MEAN = 5  # updates


@dataclass(frozen=True)
class Curve:
    """One small chart. `series` maps a label to a key of metrics.jsonl."""

    title: str
    meaning: str
    format: str
    series: dict[str, str]
    chance: float | None = None  # drawn as a dotted line


CURVES = (
    Curve(
        "Reward",
        "Mean score of the sampled replies by the discriminator, the reward.",
        ".2f",
        {"reward": "objective/scores"},
    ),
    Curve(
        "Judge",
        "Mean logit of the frozen judge on the replies sampled in an update; it rewards nothing.",
        ".2f",
        {"judge": "judge/score"},
    ),
    Curve(
        "KL from the warm start",
        "How far the policy is from the reference, in nats per reply.",
        ".2f",
        {"KL": "objective/kl"},
    ),
    Curve(
        "Variety",
        "Distinct-2 of the replies sampled in an update.",
        ".2f",
        {"distinct-2": "text/distinct_2"},
    ),
    Curve(
        "Reply length",
        "Mean number of words in a sampled reply.",
        ".1f",
        {"words": "text/reply_words"},
    ),
    Curve(
        "Entropy",
        "Monte-Carlo entropy of the policy, in nats per reply; towards 0 it says one thing only.",
        ".1f",
        {"entropy": "objective/entropy"},
    ),
    Curve(
        "Critic",
        "Share of the returns' variance that the value estimates explain; 0 is a constant guess.",
        ".2f",
        {"explained": "value/explained_variance"},
    ),
    Curve(
        "Clipped",
        "Share of the tokens whose probability ratio the clip of PPO held back.",
        ".3f",
        {"clipped": "policy/clipfrac_avg"},
    ),
)
HEALTH = (
    Curve(
        "Accuracy",
        "Before a refresh, on fresh fakes, replayed older fakes and human replies; dotted: chance.",
        ".2f",
        {
            "fresh": "discriminator/accuracy_fresh",
            "replayed": "discriminator/accuracy_replayed",
            "human": "discriminator/accuracy_human",
        },
        chance=0.5,
    ),
    Curve(
        "Loss",
        "Binary cross-entropy of a refresh, mean over its steps, in nats.",
        ".2f",
        {"loss": "discriminator/loss"},
    ),
)


@dataclass(frozen=True)
class Chart:
    """A drawn curve: `svg` is safe to put into a page; `summary` is its first → last value."""

    title: str
    meaning: str
    keys: tuple[str, ...]
    summary: str
    svg: Markup


def draw_curves(history: list[dict[str, Any]], curves: Sequence[Curve] = CURVES) -> list[Chart]:
    """Draw every curve for which `history` (rows of metrics.jsonl) has a finite value.

    Ticks at the bottom mark the updates after which the discriminator was refreshed.
    """
    refreshes = [row["update"] for row in history if "discriminator/loss" in row]
    updates = [row["update"] for row in history]
    charts = []
    for curve in curves:
        drawn = {label: _points(history, key) for label, key in curve.series.items()}
        drawn = {label: points for label, points in drawn.items() if points}
        if not drawn:
            continue
        prefix = f"curve-{curve.title.lower().replace(' ', '-')}"
        svg = _svg(curve, drawn, refreshes, (min(updates), max(updates)), prefix)
        charts.append(
            Chart(
                title=curve.title,
                meaning=curve.meaning,
                keys=tuple(curve.series.values()),
                summary=_summary(curve, drawn),
                svg=svg,
            )
        )
    return charts


def _points(history: list[dict[str, Any]], key: str) -> list[tuple[int, float]]:
    """(update, value) wherever the row has a finite value."""
    rows = ((row["update"], row.get(key)) for row in history)
    return [(update, value) for update, value in rows if value is not None and isfinite(value)]


def _summary(curve: Curve, drawn: dict[str, list[tuple[int, float]]]) -> str:
    """First and last value of a chart with one line; several lines have a legend instead."""
    if len(drawn) > 1:
        return ""
    points = next(iter(drawn.values()))
    return " → ".join(number(points[end][1], curve.format) for end in (0, -1))


def _svg(
    curve: Curve,
    drawn: dict[str, list[tuple[int, float]]],
    refreshes: list[int],
    span: tuple[int, int],
    prefix: str,
) -> Markup:
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.7, 2.3), layout="constrained")
        axes = figure.subplots()
        if curve.chance is not None:
            axes.axhline(curve.chance, color=MUTED, linewidth=0.9, linestyle=(0, (2, 3)))
        for colour, marker, (label, points) in zip(SERIES, _MARKERS, drawn.items(), strict=False):
            _line(axes, points, colour, marker, label, sparse=len(points) < span[1] - span[0])
        if refreshes:
            axes.vlines(
                refreshes, 0, 0.07, transform=axes.get_xaxis_transform(), color=MUTED, linewidth=1.4
            )
        if len(drawn) > 1:
            figure.legend(loc="outside upper left", ncols=3, handlelength=1.4, borderpad=0)
        axes.set_xlim(span[0] - 0.5, span[1] + 0.5)
        axes.xaxis.set_major_locator(MaxNLocator(7, integer=True, steps=[1, 2, 5, 10]))
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
        axes.set_xlabel("update", color=MUTED)
        return svg_for_page(figure, prefix)


def _line(
    axes: Axes,
    points: list[tuple[int, float]],
    colour: str,
    marker: str,
    label: str,
    sparse: bool,
) -> None:
    """Few values: a line with markers. One for every update: faint, under its running mean."""
    x, y = zip(*points, strict=True)
    if sparse or len(points) <= 2 * _RUNNING_MEAN:
        axes.plot(x, y, color=colour, marker=marker, markersize=3.6, linewidth=1.3, label=label)
        return
    half = _RUNNING_MEAN // 2
    windows = [y[max(0, i - half) : i + half + 1] for i in range(len(y))]
    axes.plot(x, y, color=colour, linewidth=0.8, alpha=0.4)
    means = [sum(window) / len(window) for window in windows]
    axes.plot(x, means, color=colour, linewidth=1.9, label=label)


def svg_for_page(figure: Figure, prefix: str) -> Markup:
    """A figure as SVG that can stand in a page beside others; call it within `STYLE`."""
    buffer = StringIO()
    no_metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(buffer, format="svg", transparent=True, metadata=no_metadata)
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    for sentinel, css in _CSS_COLOURS.items():
        svg = svg.replace(sentinel, css)
    # every chart has a figure_1: without a prefix they would point at each other's parts
    svg = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{prefix}-", svg)
    svg = re.sub(r' (width|height)="[\d.]+pt"', "", svg, count=2)
    return Markup(svg.replace("<svg ", '<svg aria-hidden="true" focusable="false" ', 1))


@dataclass(frozen=True)
class Strip:
    """Where before, after, its interval and human lie on a line from 0 to 100 (per cent)."""

    before: float
    after: float
    human: float | None
    interval: tuple[float, float] | None


def strip(entry: dict[str, Any]) -> Strip:
    """Place one metric's values on its own scale.

    The interval is that of the difference, so it stands at before + ci95, around after.
    """
    bounds = interval(entry)
    low, high = (entry["before"] + bound for bound in bounds or (0.0, 0.0))
    values = [entry["before"], entry["after"], low, high]
    if entry.get("human") is not None:
        values.append(entry["human"])
    least, span = min(values), max(values) - min(values)
    margin = 5.0  # per cent, so that no mark is cut off

    def place(value: float) -> float:
        share = (value - least) / span if span else 0.5
        return round(margin + share * (100 - 2 * margin), 2)

    return Strip(
        before=place(entry["before"]),
        after=place(entry["after"]),
        human=None if entry.get("human") is None else place(entry["human"]),
        interval=None if bounds is None else (place(low), place(high)),
    )
