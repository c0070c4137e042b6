"""A reward model and a labelled file become the report of `recipes/evaluate_reward.py`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from rlhf_dialog.console import progress
from rlhf_dialog.dialogues.labelled import LabelledFile
from rlhf_dialog.discriminators.reward_model import RewardModel
from rlhf_dialog.evaluation import reward_quality as quality
from rlhf_dialog.evaluation.robustness import degenerate_replies, harmless_edits, some_reals

_CHUNK = 512  # replies scored between two moves of the progress bar


def evaluate_reward(
    reward: RewardModel,
    judge: RewardModel | None,
    file: LabelledFile,
    *,
    resamples: int,
    seed: int,
) -> dict[str, Any]:
    """Scores every reply of `file` and measures; the parts are described in `reward_quality` and
    `robustness`.

    Raises:
        UserError: a score that is not finite.
    """
    replies = file.replies
    scores = _scored(reward, file, "reward_model")
    judged = None if judge is None else _scored(judge, file, "judge")
    # A preference pair is resampled as one, a labelled reply alone.
    together = (
        [reply.line for reply in replies] if file.form == "preference" else range(len(replies))
    )
    labels = np.array([reply.is_real for reply in replies])
    data = quality.Labelled(scores, labels, np.array(together))
    lengths = np.array([len(reply.reply) for reply in replies])
    reals = some_reals(replies, seed)

    def score(contexts: Sequence[Sequence[str]], texts: Sequence[str]) -> np.ndarray:
        return reward(contexts, texts).double().numpy()

    draw = {"resamples": resamples, "seed": seed}
    kinds = [reply.kind for reply in replies]
    return {
        "metrics": quality.measure(data, **draw),
        "pairwise": quality.pairwise(replies, scores, form=file.form, **draw),
        "by_kind": quality.by_kind(data, kinds, **draw),
        "by_length": quality.by_length(data, lengths, **draw),
        "reliability": quality.reliability(data),
        "histogram": quality.histogram(data),
        "harmless_edits": harmless_edits(score, reals, spread=float(scores.std())),
        "degenerate": degenerate_replies(score, reals, **draw),
        "agreement": None if judged is None else quality.agreement(scores, judged, **draw),
        "replies": {"real": int(labels.sum()), "fake": int((~labels).sum())},
        "edited_replies": len(reals),
        "form": file.form,
        "data": file.path,
        **draw,
    }


def _scored(model: RewardModel, file: LabelledFile, what: str) -> np.ndarray:
    """(N,) float64 logits of all replies of the file."""
    parts = []
    starts = range(0, len(file.replies), _CHUNK)
    with progress(f"scoring, {what.replace('_', ' ')}", len(starts)) as advance:
        for start in starts:
            chunk = file.replies[start : start + _CHUNK]
            parts.append(
                model([r.context for r in chunk], [r.reply for r in chunk]).double().numpy()
            )
            quality.require_finite(np.concatenate(parts), file, what)
            advance()
    return np.concatenate(parts)
