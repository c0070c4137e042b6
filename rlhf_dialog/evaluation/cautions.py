"""What a careful reader of a report should doubt, told by its numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .definitions import metric_info
from .findings import SMOOTH, interval, number, reading, running_means

# A change beyond these, as a ratio of after to before, is worth a warning.
LEAST_LENGTH, MOST_LENGTH = 0.7, 1.3
LEAST_DISTINCT, MOST_PERPLEXITY = 0.9, 1.15
FEW_CONTEXTS = 50
WEAK_JUDGE = 0.7  # held-out AUC


def warnings(report: dict[str, Any], history: Sequence[dict[str, Any]] = ()) -> list[str]:
    """What to doubt, one or two sentences each; often empty.

    Args:
        report: report.json; parts that a report lacks call for nothing.
        history: the rows of metrics.jsonl.
    """
    metrics = report["metrics"]
    checks = (
        _reward_hacking(metrics),
        _above_human(metrics),
        _controls(report.get("generators", {})),
        _length_explains(report),
        _drift(
            metrics, "reply_length", LEAST_LENGTH, MOST_LENGTH, "the reward may be paid for length"
        ),
        _drift(metrics, "distinct_2", LEAST_DISTINCT, None, "the generator repeats itself more"),
        _collapse(metrics),
        _drift(
            metrics,
            "perplexity",
            None,
            MOST_PERPLEXITY,
            "the generator is forgetting how people talk",
        ),
        _forgetting(report.get("retention")),
        _copying(metrics),
        _past_the_peak(history),
        _discriminator(history),
        _weak_judge(report.get("held_out", {})),
        _blunt(metrics),
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
    if contexts is None or contexts >= FEW_CONTEXTS:
        return None
    return f"Only {contexts} test contexts: the intervals are wide and rough below {FEW_CONTEXTS}."


def _controls(generators: dict[str, Any]) -> str | None:
    """Generators that no reward pushed should not please the judge as much."""
    judged = {
        name: (row["role"], row["metrics"]["judge_score"]["value"])
        for name, row in generators.items()
        if "judge_score" in row["metrics"]
    }
    tuned = [value for role, value in judged.values() if role == "after"]
    rivals = [
        f"{name} ({number(value, '.2f')})"
        for name, (role, value) in judged.items()
        if role == "control" and tuned and value >= tuned[0]
    ]
    if not rivals:
        return None
    return (
        f"The judge scores the tuned generator ({number(tuned[0], '.2f')}) no higher than a "
        f"control: {', '.join(rivals)}. What the training reached can be had without it."
    )


def _length_explains(report: dict[str, Any]) -> str | None:
    """The judge's gain is mostly gone among replies of equal length."""
    bins, entry = report.get("length_bins"), report["metrics"].get("judge_score")
    if not bins or entry is None or reading("judge_score", entry) != "better":
        return None
    matched = bins["matched"]["difference"]
    if matched is None or matched > 0.5 * entry["difference"]:
        return None
    return (
        f"Length explains most of the gain: among replies of equal length the judge's score rises "
        f"by {number(matched, '.2f')}, over all replies by {number(entry['difference'], '.2f')}."
    )


def _collapse(metrics: dict[str, Any]) -> str | None:
    """One reply for everything, or none at all."""
    found = []
    for name, least in (("most_frequent_reply", 0.1), ("empty_replies", 0.05)):
        entry = metrics.get(name)
        if entry and entry["after"] > max(least, 2 * entry["before"]):
            found.append(
                f"{metric_info(name).title.lower()} {entry['before']:.0%} to {entry['after']:.0%}"
            )
    return f"The generator collapses: {', '.join(found)} of the replies." if found else None


def _forgetting(retention: dict[str, Any] | None) -> str | None:
    if not retention or "perplexity" not in retention["metrics"]:
        return None
    told = _drift(
        retention["metrics"], "perplexity", None, MOST_PERPLEXITY, "it forgets what it could do"
    )
    return f"On general dialogue ({retention['source']}): {told}" if told else None


def _copying(metrics: dict[str, Any]) -> str | None:
    """Whole turns of the script, more than before and more than people repeat themselves."""
    entry = metrics.get("copied_turns")
    if not entry or entry["after"] <= max(2 * entry["before"], entry["before"] + 0.05):
        return None
    if entry.get("human") is not None and entry["after"] <= entry["human"]:
        return None
    return (
        f"{entry['after']:.0%} of the replies are turns of the training script word for word "
        f"({entry['before']:.0%} before): the generator learns it by heart."
    )


def _past_the_peak(history: Sequence[dict[str, Any]]) -> str | None:
    """The reward still rose while the judge's score, at its peak long before, was falling."""
    rows = [row for row in history if "judge/score" in row and "objective/scores" in row]
    if len(rows) < 3 * SMOOTH:
        return None
    judge = running_means([row["judge/score"] for row in rows])
    reward = running_means([row["objective/scores"] for row in rows])
    top = max(range(len(judge)), key=judge.__getitem__)
    rise, fall = judge[top] - judge[0], judge[top] - judge[-1]
    late = top > 2 * len(judge) / 3
    if late or rise < 0.1 or fall < max(0.1, 0.3 * rise) or reward[-1] <= reward[top]:
        return None
    return (
        f"Over-optimised: the judge's score was highest around update {rows[top]['update']} "
        f"({number(judge[top], '.2f')}) and fell to {number(judge[-1], '.2f')}, while the reward "
        "went on rising. Stop earlier, or tighten the KL."
    )


def _discriminator(history: Sequence[dict[str, Any]]) -> str | None:
    """A discriminator that finds all fakes, or none, teaches nothing."""
    found = [
        row["discriminator/accuracy_fresh"]
        for row in history
        if "discriminator/accuracy_fresh" in row
    ][-3:]
    if len(found) < 3:
        return None
    share = sum(found) / 3
    if share > 0.97:
        return (
            f"The discriminator finds {share:.0%} of fresh fakes in its last three refreshes: its "
            "reward is flat, and there is little to learn from."
        )
    if share < 0.1:
        return (
            f"The discriminator finds only {share:.0%} of fresh fakes in its last three refreshes: "
            "its reward tells nothing any more."
        )
    return None


def _weak_judge(held_out: dict[str, Any]) -> str | None:
    auc = held_out.get("judge", {}).get("auc/cast")
    if auc is None or auc >= WEAK_JUDGE:
        return None
    return (
        f"The judge hardly tells the character from the rest of the cast (held-out AUC "
        f"{number(auc, '.2f')}, chance 0.5): its score says little about the character."
    )


def _blunt(metrics: dict[str, Any]) -> str | None:
    """An interval so wide that half the way to people could hide in it."""
    entry = metrics.get("judge_score", {})
    bounds, human = interval(entry), entry.get("human")
    if bounds is None or human is None:
        return None
    half = (bounds[1] - bounds[0]) / 2
    distance = abs(human - entry["before"])
    if half <= 0.5 * distance:
        return None
    return (
        f"The judge's interval is wide (± {number(half, '.2f')}) beside the distance from the warm "
        f"start to people ({number(distance, '.2f')}): give more test contexts or samples."
    )
