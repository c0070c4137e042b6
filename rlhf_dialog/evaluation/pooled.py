"""Several runs become one statement, with both sources of spread.

Runs that differ in nothing but their seed form a group. The differences after − before of its runs
scatter for two reasons: other seeds (initial weights, splits, what was sampled) and other test
contexts. The first contains the second, as each run is measured on finitely many contexts:

    between seeds     s = standard deviation of the runs' differences
    between contexts  e = root mean square of the standard errors over contexts
    pooled interval   mean ± t(R − 1) · s / √R, over seeds and contexts together

With a single run there is no s, and the interval is that over contexts alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import t as student

from rlhf_dialog.changes import HARMLESS
from rlhf_dialog.errors import UserError
from rlhf_dialog.evaluation.intervals import Z95
from rlhf_dialog.evaluation.run_files import RunFiles
from rlhf_dialog.hub_ids import is_hub_id

# Of a configuration: what may differ between runs of one group.
_HUB = {"push_to_hub", "hub_model_id", "hub_private_repo"}
_FREE = {"seed", "before", "generators", *_HUB, *HARMLESS}
# Models by name. Folders are often one a seed (its own warm start), so their names tell nothing.
_MODELS = ("generator", "judge", "discriminator")
_FIRST = ("generator_type", "reward")  # in a group's label, when runs differ in them
CONTROL_REWARDS = ("constant", "random", "shuffled")


@dataclass(frozen=True)
class Group:
    """Runs that differ in their seed alone."""

    label: str
    runs: list[RunFiles]

    @property
    def is_control(self) -> bool:
        return self.runs[0].report.get("config", {}).get("reward") in CONTROL_REWARDS


def group_runs(runs: Sequence[RunFiles]) -> list[Group]:
    """Groups in the order of their first run, controls last, labelled by what tells them apart.

    A value that one of the runs did not write down (an older version's) tells nothing apart.

    Raises:
        UserError: two runs of a group have the same seed: the same run twice, or copies of it.
    """
    configs = [_described(run.report) for run in runs]
    shared = set(configs[0]).intersection(*configs[1:]) - _FREE
    telling = _telling([key for key in configs[0] if key in shared], configs)
    grouped: dict[tuple[str, ...], list[RunFiles]] = {}
    for run, config in zip(runs, configs, strict=True):
        grouped.setdefault(tuple(str(config[key]) for key in telling), []).append(run)
    groups = []
    for values, own in grouped.items():
        _refuse_same_seeds(own)
        told = [_words(key, value) for key, value in zip(telling, values, strict=True)]
        groups.append(Group(", ".join(told) or "all runs", own))
    return sorted(groups, key=lambda group: group.is_control)


def pool(entries: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One metric over R runs.

    Returns:
        before, after, human: means over runs; difference and its ci95; runs: R; between_seeds: s,
        None for one run; between_contexts: e, None where a run gives no interval.
    """
    gaps = np.array([entry["difference"] for entry in entries])
    errors = [(e["ci95"][1] - e["ci95"][0]) / (2 * Z95) for e in entries if e.get("ci95")]
    humans = [entry["human"] for entry in entries if entry.get("human") is not None]
    several, told = len(gaps) > 1, len(errors) == len(gaps)
    spread = float(gaps.std(ddof=1)) if several else None
    if spread is not None:
        ci95: list[float] | None = pooled_interval(gaps[:, None])[:, 0].tolist()
    else:
        ci95 = entries[0].get("ci95")
    return {
        "before": float(np.mean([entry["before"] for entry in entries])),
        "after": float(np.mean([entry["after"] for entry in entries])),
        "human": float(np.mean(humans)) if humans else None,
        "difference": float(gaps.mean()),
        "ci95": ci95,
        "runs": len(gaps),
        "between_seeds": spread,
        "between_contexts": float(np.sqrt(np.mean(np.square(errors)))) if told else None,
    }


def pooled_interval(gaps: np.ndarray) -> np.ndarray:
    """mean ± t · s / √R of gaps (R, M), R ≥ 2 runs of M numbers: (2, M)."""
    count = len(gaps)
    reach = student.ppf(0.975, count - 1) * gaps.std(axis=0, ddof=1) / np.sqrt(count)
    return np.stack([gaps.mean(0) - reach, gaps.mean(0) + reach])


def pooled_metrics(group: Group) -> dict[str, dict[str, Any]]:
    """`pool` of every metric that all of the group's runs have."""
    metrics = [run.report["metrics"] for run in group.runs]
    return {
        name: pool([of[name] for of in metrics])
        for name in metrics[0]
        if all(name in of for of in metrics)
    }


def _telling(keys: list[str], configs: list[dict[str, Any]]) -> list[str]:
    """Keys that tell runs apart which the keys before them do not."""
    chosen: list[str] = []
    parts = 1
    for key in sorted(keys, key=lambda key: (key not in _FIRST, key not in ("character",))):
        finer = len({tuple(str(c[k]) for k in (*chosen, key)) for c in configs})
        if finer > parts:
            chosen, parts = [*chosen, key], finer
    return chosen


def _described(report: dict[str, Any]) -> dict[str, Any]:
    config = report.get("config", {})
    folders = {name for name in _MODELS if config.get(name) and not is_hub_id(config[name])}
    return {
        "generator_type": report.get("generator_type", "?"),
        "character": report.get("character", "?"),
        **config,
        **dict.fromkeys(folders, "a folder"),
    }


def _words(key: str, value: str) -> str:
    if key in ("generator_type", "character"):
        return value
    return f"{value} reward" if key == "reward" else f"{key} {value}"


def _refuse_same_seeds(runs: list[RunFiles]) -> None:
    seen: dict[Any, RunFiles] = {}
    for run in runs:
        seed = run.report.get("seed")
        if seed in seen:
            raise UserError(
                f"{run.folder}: is a run like {seen[seed].folder} and has its seed, {seed}; two "
                "copies of one run would pass for two, so give one of them."
            )
        seen[seed] = run
