"""What the numbers of a report say: their names, the verdict in a sentence, and the warnings."""

from dataclasses import dataclass
from math import isfinite
from typing import Any, Literal


@dataclass(frozen=True)
class MetricInfo:
    """How a metric is named, defined and printed. `format` is a format specification, as ".2f"."""

    title: str
    definition: str
    unit: str
    better: Literal["up", "down", "none"]
    format: str


def _distinct(n: int, gram: str) -> MetricInfo:
    return MetricInfo(
        title=f"Distinct-{n}",
        definition=f"Different {gram} divided by all {gram} over all replies together (corpus "
        "level, lower-cased words and punctuation marks). It falls when a model repeats itself.",
        unit="ratio",
        better="up",
        format=".3f",
    )


METRICS: dict[str, MetricInfo] = {
    "judge_score": MetricInfo(
        title="Judge score",
        definition="Mean logit of the frozen judge on (context, reply): above 0 it takes the reply "
        "for the character's own. The judge was trained on dialogues that neither the generator "
        "nor the discriminator saw, on what people wrote alone (it has read no generator), and was "
        "never a reward.",
        unit="logit",
        better="up",
        format=".2f",
    ),
    "discriminator_score": MetricInfo(
        title="Discriminator score",
        definition="Mean logit of the reward model, which the generator was trained to raise. A "
        "rise here proves nothing unless the judge's score rises with it.",
        unit="logit",
        better="up",
        format=".2f",
    ),
    "distinct_1": _distinct(1, "words"),
    "distinct_2": _distinct(2, "word pairs"),
    "distinct_3": _distinct(3, "word triples"),
    "perplexity": MetricInfo(
        title="Perplexity of human replies",
        definition="exp(total negative log-likelihood / total tokens) of held-out human replies "
        "given their contexts. It rises when training makes the model forget how people talk.",
        unit="per token",
        better="down",
        format=".1f",
    ),
    "reply_length": MetricInfo(
        title="Reply length",
        definition="Mean number of words in a reply. Neither direction is better; a large drift "
        "suggests that the reward is paid for length.",
        unit="words",
        better="none",
        format=".1f",
    ),
    "kl": MetricInfo(
        title="KL from the warm start",
        definition="Monte-Carlo estimate of KL(tuned ‖ warm start) over whole replies: how far the "
        "tuned generator has moved from where it started, which is 0 by definition.",
        unit="nats per reply",
        better="none",
        format=".2f",
    ),
}


def metric_info(name: str) -> MetricInfo:
    """The entry of METRICS, or a plain one for a metric that has none."""
    plain = MetricInfo(name, "This report gives no definition.", "", "none", ".3f")
    return METRICS.get(name, plain)


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


def warnings(report: dict[str, Any]) -> list[str]:
    """What a careful reader should doubt, one or two sentences each; often empty."""
    metrics = report["metrics"]
    checks = (
        _reward_hacking(metrics),
        _above_human(metrics),
        _drift(metrics, "reply_length", 0.7, 1.3, "the reward may be paid for length"),
        _drift(metrics, "distinct_2", 0.9, None, "the generator repeats itself more"),
        _drift(metrics, "perplexity", None, 1.15, "the generator is forgetting how people talk"),
        _few_contexts(report.get("test_contexts")),
    )
    return [message for message in checks if message]


def _reward_hacking(metrics: dict[str, Any]) -> str | None:
    if "judge_score" not in metrics or "discriminator_score" not in metrics:
        return None
    fooled = reading("discriminator_score", metrics["discriminator_score"]) == "better"
    if fooled and reading("judge_score", metrics["judge_score"]) != "better":
        return (
            "Reward hacking suspected: the discriminator's score rose and the frozen judge's did "
            "not. The generator may have learnt what the discriminator overlooks."
        )
    return None


def _above_human(metrics: dict[str, Any]) -> str | None:
    entry = metrics.get("judge_score", {})
    human = entry.get("human")
    if human is None or entry["after"] <= human:
        return None
    return (
        f"The judge scores the tuned generator ({number(entry['after'], '.2f')}) above the human "
        f"replies ({number(human, '.2f')}). More likely the judge has a blind spot than the "
        "generator a gift; read the samples."
    )


def _drift(
    metrics: dict[str, Any], name: str, least: float | None, most: float | None, meaning: str
) -> str | None:
    """A warning when after / before lies below `least` or above `most`."""
    entry = metrics.get(name)
    if entry is None or entry["before"] <= 0:
        return None
    ratio = entry["after"] / entry["before"]
    if (least is None or ratio >= least) and (most is None or ratio <= most):
        return None
    info = metric_info(name)
    before, after = (number(entry[moment], info.format) for moment in ("before", "after"))
    return f"{info.title} went from {before} to {after} ({number(ratio, '.2f')} times): {meaning}."


def _few_contexts(contexts: int | None) -> str | None:
    if contexts is None or contexts >= 50:
        return None
    return f"Only {contexts} test contexts: the intervals are wide and rough below 50."
