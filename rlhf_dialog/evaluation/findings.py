"""What the numbers of a report say: how one is read, and the verdict in a sentence."""

from math import isfinite
from typing import Any, Literal

from .definitions import metric_info

SMOOTH = 5  # updates of a running mean


def number(value: float | None, spec: str, signed: bool = False) -> str:
    """A number as text with a true minus sign; an en dash for a missing or non-finite one."""
    if value is None or not isfinite(value):
        return "–"
    text = format(value, ("+" if signed else "") + spec)
    if float(text) == 0:
        text = text.lstrip("+-")
    return text.replace("-", "−")


def interval(entry: dict[str, Any]) -> tuple[float, float] | None:
    """The 95 % interval of a metric's difference, or None when the report has none."""
    ci95 = entry.get("ci95")
    return (ci95[0], ci95[1]) if ci95 else None


def reading(name: str, entry: dict[str, Any]) -> Literal["better", "worse", "moved", "unclear"]:
    """What a difference means: "unclear" when its interval holds zero or is missing."""
    bounds = interval(entry)
    if bounds is None or bounds[0] <= 0 <= bounds[1]:
        return "unclear"
    better = metric_info(name).better
    if better == "none":
        return "moved"
    return "better" if (better == "up") == (bounds[0] > 0) else "worse"


def running_means(values: list[float]) -> list[float]:
    """Means over `SMOOTH` updates around each one, over fewer at both ends."""
    half = SMOOTH // 2
    windows = [values[max(0, i - half) : i + half + 1] for i in range(len(values))]
    return [sum(window) / len(window) for window in windows]


def verdict(report: dict[str, Any]) -> str:
    """One sentence: what the frozen judge says about the training, with its interval."""
    entry = report["metrics"].get("judge_score")
    if entry is None:
        return "This report has no judge score, so it cannot say whether training helped."
    updates = report.get("updates")
    after = "After training" if updates is None else f"After {updates} update{'s' * (updates != 1)}"
    quality = f"{report['character']}-ness" if report.get("character") else "the replies"
    contexts = report.get("test_contexts")
    n = "" if contexts is None else f", n = {contexts} test contexts"
    difference = entry["difference"]
    bounds = interval(entry)
    if bounds is None:
        change = number(difference, ".2f", signed=True)
        return f"{after} the frozen judge's score changed by {change} (no interval given{n})."
    evidence = f"95 % interval {number(bounds[0], '.2f')} to {number(bounds[1], '.2f')}{n}"
    if bounds[0] <= 0 <= bounds[1]:
        change = number(difference, ".2f", signed=True)
        return f"{after} the frozen judge sees no clear change in {quality}: {change} ({evidence})."
    direction = "higher" if difference > 0 else "lower"
    size = number(abs(difference), ".2f")
    return f"{after} the frozen judge scores {quality} {size} {direction} ({evidence})."
