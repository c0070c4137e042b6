"""Two planes on which a reward is paid for: judge against KL, and quality against diversity.

A generator that pleases the judge at a small KL is better than one that has to go far (Gao et al.
2023, "Scaling Laws for Reward Model Overoptimization"); one that pleases it at the warm start's
variety is better than one that pays with variety (Caccia et al. 2020, "Language GANs Falling
Short": compare whole curves over the temperature, not single points).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

import matplotlib
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .charts import BEFORE, MUTED, SERIES, STYLE, svg_for_page
from .findings import running_means


@dataclass(frozen=True)
class Mark:
    """A measured point: (KL, judge) on the test contexts, with the judge's interval."""

    label: str
    x: float
    y: float
    y_interval: tuple[float, float] | None = None
    x_interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class Track:
    """One run: its updates as (KL, judge), and where it ended on the test contexts."""

    label: str
    points: list[tuple[float, float]]
    end: Mark | None = None


@dataclass(frozen=True)
class Plane:
    """What the frontier shows; tracks of one label share a colour."""

    tracks: list[Track] = field(default_factory=list)
    start: Mark | None = None  # the warm start
    controls: list[Mark] = field(default_factory=list)
    human: float | None = None  # the judge's score of people's replies


def track_points(history: Sequence[dict[str, Any]]) -> list[tuple[float, float]]:
    """(KL, judge) of each update that has both, in order."""
    pairs = ((row.get("objective/kl"), row.get("judge/score")) for row in history)
    return [(x, y) for x, y in pairs if x is not None and y is not None and isfinite(x + y)]


def draw_frontier(plane: Plane, prefix: str = "frontier") -> Markup | None:
    """Judge score (logit) against KL (nats per reply); None when there is nothing to draw.

    Faint dots: single updates. Lines: their running mean, which ends at a ring. Filled marks with
    bars: the test contexts, with 95 % intervals.
    """
    if not plane.tracks and not plane.controls:
        return None
    labels = list(dict.fromkeys(track.label for track in plane.tracks))
    colours = {label: SERIES[i % len(SERIES)] for i, label in enumerate(labels)}
    with matplotlib.rc_context(STYLE | {"axes.grid.axis": "both"}):
        figure = Figure(figsize=(4.7, 3.1), layout="constrained")
        axes = figure.subplots()
        for track in plane.tracks:
            _track(axes, track, colours[track.label])
        if plane.start:
            _mark(axes, plane.start, BEFORE, marker="o", hollow=True)
        for i, mark in enumerate(plane.controls):
            _mark(axes, mark, SERIES[(len(labels) + 1 + i) % len(SERIES)], marker="^")
        if plane.human is not None:
            axes.axhline(plane.human, color=SERIES[1], linewidth=1, linestyle=(0, (2, 3)))
            _words(axes, "human replies", (1, plane.human), axes.get_yaxis_transform(), "right")
        if len(labels) > 1:
            handles = [axes.plot([], [], color=colours[label], label=label)[0] for label in labels]
            figure.legend(
                handles=handles, loc="outside upper left", ncols=2, handlelength=1.4, borderpad=0
            )
        axes.set_xlabel("KL from the warm start, nats per reply", color=MUTED)
        axes.set_ylabel("judge score, logit", color=MUTED)
        axes.margins(0.06, 0.1)
        return svg_for_page(figure, prefix)


def _track(axes: Axes, track: Track, colour: str) -> None:
    if track.points:
        x, y = (list(column) for column in zip(*track.points, strict=True))
        axes.plot(x, y, "o", color=colour, markersize=2.6, alpha=0.35, markeredgewidth=0)
        axes.plot(running_means(x), running_means(y), color=colour, linewidth=1.5, alpha=0.85)
    if track.end:
        _mark(axes, track.end, colour, marker="o")


def _mark(axes: Axes, mark: Mark, colour: str, marker: str, hollow: bool = False) -> None:
    axes.errorbar(
        mark.x,
        mark.y,
        xerr=_bars(mark.x, mark.x_interval),
        yerr=_bars(mark.y, mark.y_interval),
        fmt=marker,
        color=colour,
        markersize=6,
        markerfacecolor="none" if hollow else colour,
        elinewidth=1.1,
        zorder=4,
    )
    if mark.label:
        _words(axes, mark.label, (mark.x, mark.y), axes.transData, "left")


def _words(axes: Axes, text: str, at: tuple[float, float], where: Any, side: str) -> None:
    axes.annotate(
        text,
        at,
        xycoords=where,
        xytext=(7 if side == "left" else -2, 4),
        textcoords="offset points",
        ha=side,
        color=MUTED,
        fontsize=8,
        zorder=5,
    )


def _bars(value: float, interval: tuple[float, float] | None) -> list[list[float]] | None:
    if interval is None:
        return None
    return [[max(0.0, value - interval[0])], [max(0.0, interval[1] - value)]]


def draw_quality_diversity(
    points: Sequence[dict[str, Any]], prefix: str = "temperatures"
) -> Markup | None:
    """Judge score against distinct-2, a line a generator over its temperatures.

    Args:
        points: rows of the report's `temperatures`; people's has no temperature.
    """
    points = [p for p in points if "judge_score" in p]
    speakers = list(dict.fromkeys(p["generator"] for p in points))
    if not any(p["temperature"] is not None for p in points):
        return None
    with matplotlib.rc_context(STYLE | {"axes.grid.axis": "both"}):
        figure = Figure(figsize=(4.7, 3.1), layout="constrained")
        axes = figure.subplots()
        spare = iter(SERIES[2:])
        for name in speakers:
            own = [p for p in points if p["generator"] == name]
            role = own[0]["role"]
            colour = {"before": BEFORE, "after": SERIES[0], "human": SERIES[1]}.get(role)
            _temperatures(axes, name, own, colour or next(spare, MUTED))
        figure.legend(loc="outside upper left", ncols=4, handlelength=1.4, borderpad=0)
        axes.set_xlabel("diversity: distinct-2 of one reply to each context", color=MUTED)
        axes.set_ylabel("quality: judge score, logit", color=MUTED)
        axes.margins(0.08, 0.12)
        return svg_for_page(figure, prefix)


def _temperatures(axes: Axes, name: str, own: list[dict[str, Any]], colour: str) -> None:
    x = [p["distinct_2"]["value"] for p in own]
    y = [p["judge_score"]["value"] for p in own]
    marker = "D" if own[0]["temperature"] is None else "o"
    axes.plot(x, y, marker=marker, color=colour, markersize=4.2, linewidth=1.4, label=name)
    for p, at in zip(own, zip(x, y, strict=True), strict=True):
        interval = p["judge_score"].get("ci95")
        if interval:
            axes.plot([at[0]] * 2, interval, color=colour, linewidth=1, alpha=0.4)
        if p["temperature"] is not None:
            _words(axes, f"{p['temperature']:g}", at, axes.transData, "left")
