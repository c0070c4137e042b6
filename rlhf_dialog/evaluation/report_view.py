"""What the templates of a report see: numbers as text, drawings, rows of tables."""

from __future__ import annotations

import json
from collections.abc import Sequence
from math import isfinite
from typing import Any, NamedTuple

import yaml
from markupsafe import Markup

from . import charts
from .cautions import warnings
from .definitions import GROUPS, HEADLINE, METRICS, MetricInfo, metric_info
from .findings import interval, number, reading, verdict
from .frontier import Mark, Plane, Track, draw_frontier, draw_quality_diversity, track_points

SPEAKER_COLUMNS = (
    "judge_score",
    "discriminator_score",
    "distinct_2",
    "self_bleu",
    "perplexity",
    "copied_seen_4",
    "reply_length",
    "kl",
)
_SHORT = {
    "judge_score": "judge",
    "discriminator_score": "discriminator",
    "distinct_2": "distinct-2",
    "self_bleu": "self-BLEU",
    "perplexity": "perplexity",
    "copied_seen_4": "4-grams copied",
    "reply_length": "words",
    "kl": "KL, nats",
}
_INTERVALS = (
    "Of the difference after − before: the paired bootstrap over test contexts (percentiles); for "
    "distinct-n, entropy-n and duplicates the jackknife. It says how far the number would move "
    "with other contexts, not with another training run: recipes/report.py pools several runs. "
    "An interval that holds zero is no evidence of a change."
)


def report_view(
    report: dict[str, Any], history: list[dict[str, Any]], samples: list[dict[str, Any]]
) -> dict[str, Any]:
    """Everything a template may name; parts that a report lacks are empty."""
    config = json.loads(json.dumps(report.get("config", {})))  # tuples → lists, for safe_dump
    retention = report.get("retention") or {}
    rows = metric_rows(report["metrics"])
    headline = [row for row in rows if row["name"] in HEADLINE]
    kept = metric_rows(retention.get("metrics", {}))
    return {
        "character": report.get("character"),
        "verdict": verdict(report),
        "warnings": warnings(report, history),
        "facts": _facts(report),
        "headline": headline or rows,
        "groups": _groups([row for row in rows if row not in headline]) if headline else [],
        "speakers": speaker_rows(report, SPEAKER_COLUMNS),
        "charts": charts.draw_curves(history),
        "refreshed": any("discriminator/loss" in row for row in history),
        "frontier": _frontier(report, history),
        "temperatures": draw_quality_diversity(report.get("temperatures") or []),
        "bins": _bins(report),
        "retention": {"rows": kept, **{k: retention.get(k) for k in ("source", "contexts")}},
        "health": charts.draw_curves(history, charts.HEALTH),
        "held_out": _held_out(report.get("held_out") or {}),
        "samples": [_sample(sample) for sample in samples],
        "few_samples": spread(samples, 4),
        "config": yaml.safe_dump(config, sort_keys=False, allow_unicode=True) if config else "",
        "versions": report.get("versions", {}),
        "intervals": _INTERVALS,
        "rows": rows,
        "definitions": [(row["name"], row["info"]) for row in rows],
    }


def metric_rows(metrics: dict[str, Any]) -> list[dict[str, Any]]:
    """Before, after, difference and people's number, as text: headline, the known, the others."""
    order = [*HEADLINE, *(name for name in METRICS if name not in HEADLINE)]
    names = [name for name in order if name in metrics]
    names += [name for name in metrics if name not in METRICS]
    return [_row(name, metrics[name]) for name in names]


def _row(name: str, entry: dict[str, Any]) -> dict[str, Any]:
    info = metric_info(name)
    return {
        "name": name,
        "info": info,
        "before": number(entry["before"], info.format),
        "after": number(entry["after"], info.format),
        "human": number(entry.get("human"), info.format),
        "difference": number(entry["difference"], info.format, signed=True),
        "interval": _range(interval(entry), info),
        "reading": reading(name, entry),
        "strip": charts.strip(entry),
    }


def _range(bounds: Sequence[float] | None, info: MetricInfo) -> str:
    return " to ".join(number(bound, info.format) for bound in bounds) if bounds else ""


def _groups(rows: list[dict[str, Any]]) -> list[tuple[str, list[dict[str, Any]]]]:
    """(title, rows) of every group that has rows, in the order of GROUPS."""
    grouped = [
        (title, [r for r in rows if r["info"].group == key]) for key, title in GROUPS.items()
    ]
    return [(title, own) for title, own in grouped if own]


class Cell(NamedTuple):
    title: str
    value: str
    difference: str
    interval: str
    reading: str


class SpeakerRow(NamedTuple):
    name: str
    role: str
    cells: list[Cell]


class Speakers(NamedTuple):
    columns: list[tuple[str, str]]  # name and title of each metric
    rows: list[SpeakerRow]


def speaker_rows(report: dict[str, Any], wanted: Sequence[str]) -> Speakers:
    """Every generator and people, one row each, in the columns that somebody has a number for."""
    generators = report.get("generators") or {}
    names = [n for n in wanted if any(n in row["metrics"] for row in generators.values())]
    rows = [
        SpeakerRow(
            name, row["role"], [_cell(metric, row["metrics"].get(metric)) for metric in names]
        )
        for name, row in generators.items()
    ]
    return Speakers([(name, _SHORT[name]) for name in names], rows)


def _cell(name: str, entry: dict[str, Any] | None) -> Cell:
    if entry is None:
        return Cell(_SHORT[name], "–", "", "", "unclear")
    info = metric_info(name)
    bounds = entry.get("difference_ci95")
    gap = number(entry["difference"], info.format, signed=True) if "difference" in entry else ""
    read = reading(name, {"ci95": bounds})
    value = number(entry["value"], info.format)
    return Cell(_SHORT[name], value, gap if bounds else "", _range(bounds, info), read)


def _frontier(report: dict[str, Any], history: list[dict[str, Any]]) -> Markup | None:
    """Judge against KL: the updates, and where everybody ended on the test contexts."""
    generators = report.get("generators") or _generators_of(report["metrics"])
    marks = {"before": [], "after": [], "control": []}  # type: dict[str, list[Mark]]
    for name, row in generators.items():
        judge, kl = row["metrics"].get("judge_score"), row["metrics"].get("kl")
        if judge and kl and row["role"] in marks:
            bars = [tuple(e["ci95"]) if e.get("ci95") else None for e in (judge, kl)]
            marks[row["role"]].append(Mark(name, kl["value"], judge["value"], bars[0], bars[1]))
    human = report["metrics"].get("judge_score", {}).get("human")
    points = track_points(history)
    end = next(iter(marks["after"]), None)
    tracks = [Track("updates", points, end)] if points or end else []
    return draw_frontier(Plane(tracks, next(iter(marks["before"]), None), marks["control"], human))


def _generators_of(metrics: dict[str, Any]) -> dict[str, Any]:
    """Rows of a report that was written before every speaker had one."""
    return {
        title: {
            "role": role,
            "metrics": {name: {"value": entry[role]} for name, entry in metrics.items()},
        }
        for role, title in (("before", "warm start"), ("after", "tuned"))
    }


def _bins(report: dict[str, Any]) -> dict[str, Any] | None:
    """The judge's score within bins of the reply's length."""
    found, info = report.get("length_bins"), METRICS["judge_score"]
    if not found:
        return None
    rows = []
    for of in found["bins"]:
        speakers = [of["speakers"][who] for who in ("before", "after", "human")]
        least, most = of["least"], of["most"]
        words = f"{least}" if least == most else f"{least} to {most}"
        rows.append(
            {
                "words": words + (" word" if words == "1" else " words"),
                "counts": [str(s["replies"]) for s in speakers],
                "scores": [number(s["judge_score"], info.format) for s in speakers],
                "difference": number(of.get("difference"), info.format, signed=True),
                "interval": _range(of.get("ci95"), info),
                "reading": reading("judge_score", of),
            }
        )
    matched = found["matched"]
    return {
        "rows": rows,
        "matched": number(matched["difference"], info.format, signed=True),
        "matched_interval": _range(matched["ci95"], info),
        "matched_reading": reading("judge_score", matched),
    }


def _held_out(held_out: dict[str, Any]) -> dict[str, Any] | None:
    """AUC on held-out pairs by kind of fake: discriminator, judge, and what shortcuts reach."""
    models = {
        name: {k.removeprefix("auc/"): v for k, v in held_out[name].items() if k[:4] == "auc/"}
        for name in ("discriminator", "judge")
        if held_out.get(name)
    }
    models |= {
        f"{name.replace('_', ' ')} alone": aucs
        for name, aucs in (held_out.get("shortcuts") or {}).items()
    }
    kinds = list(dict.fromkeys(kind for aucs in models.values() for kind in aucs))
    if not kinds:
        return None
    return {
        "columns": list(models),
        "rows": [
            (
                "all, by their shares" if kind == "all" else kind.replace("_", " "),
                [(name, number(aucs.get(kind), ".2f")) for name, aucs in models.items()],
            )
            for kind in kinds
        ],
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
    config = report.get("config", {})
    if "reward" in config:
        facts.insert(2, ("reward", str(config["reward"])))
    if "samples_per_context" in config:
        facts.append(("samples a context", str(config["samples_per_context"])))
    if "seconds" in report:
        minutes, seconds = divmod(round(report["seconds"]), 60)
        hours, minutes = divmod(minutes, 60)
        facts.append(
            ("time", f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s")
        )
    return facts


def _sample(sample: dict[str, Any]) -> dict[str, Any]:
    scores = sample.get("scores", {})
    texts = {kind: sample[kind] for kind in ("before", "after", "human")}
    controls = sample.get("controls", {})
    replies = [
        {
            "kind": kind if kind in texts else "control",
            "name": kind,
            "text": text,
            "scores": [(who, number(of[kind], ".2f")) for who, of in scores.items() if kind in of],
        }
        for kind, text in {**texts, **controls}.items()
    ]
    judge = scores.get("judge", {})
    before, after = judge.get("before"), judge.get("after")
    gain = None if before is None or after is None else round(after - before, 4)
    return {
        "context": sample["context"],
        "replies": replies,
        "gain": gain if gain is not None and isfinite(gain) else None,
    }


def spread(samples: list[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """At most `count` samples at even distances, so that nobody picked the nicest."""
    count = min(count, len(samples))
    return [samples[i * len(samples) // count] for i in range(count)]
