"""How generators and rewards are measured."""

from __future__ import annotations

from dataclasses import dataclass, field

from rlhf_dialog.errors import UserError
from rlhf_dialog.settings.fields import at_least, explained


@dataclass
class EvaluationSettings:
    """Warm start, tuned generator, controls and people on the test contexts (docs/evaluation.md).

    Every number of contexts and samples costs time and buys narrower intervals.
    """

    samples_per_context: int = explained(4, "Replies sampled per test context.")
    bootstrap_resamples: int = explained(
        2000, "Resamples of the test contexts for the 95 % intervals."
    )
    supervised_control_epochs: float = explained(
        0.0,
        "Passes of a control, supervised on the character's replies alone; 0: none.",
    )
    distractors: int = explained(9, "Human replies that hits@1 sets beside the right one; 0: none.")
    hits_contexts: int = explained(
        100, "Test contexts, the first ones, on which hits@1 is measured."
    )
    self_bleu_sample: int = explained(200, "Most replies that self-BLEU compares with each other.")
    temperatures: list[float] | None = field(
        default=None,
        metadata={"help": "Further temperatures at which quality is set against diversity."},
    )
    temperature_contexts: int = explained(100, "Test contexts for each temperature, evenly spaced.")
    general_dialogues: str | None = explained(
        None,
        "Dialogue file for retention; without it warm_start_dialogues, or else the rest of the "
        "cast in the test's dialogues.",
    )
    general_contexts: int = explained(100, "Contexts of general dialogue, evenly spaced; 0: none.")

    def __post_init__(self) -> None:
        at_least(self, 1, "samples_per_context", "bootstrap_resamples", "temperature_contexts")
        at_least(self, 0, "supervised_control_epochs", "distractors", "hits_contexts")
        at_least(self, 0, "general_contexts")
        at_least(self, 2, "self_bleu_sample")
        for temperature in self.temperatures or []:
            if not isinstance(temperature, int | float) or not temperature > 0:
                raise UserError(f"temperatures: {temperature!r} must be a number above 0.")


@dataclass
class RewardEvaluationSettings:
    """A reward model on labelled replies."""

    reward_model: str | None = explained(
        None, "Hub id or folder of any sequence classifier with one logit."
    )
    data: str | None = explained(
        None, "JSON lines of labelled replies or preference pairs (docs/evaluate_reward.md)."
    )
    judge: str | None = explained(
        None, "Hub id or folder of a second model to compare the scores with."
    )
    output_dir: str = explained("runs/reward", "A new folder for the report.")
    seed: int = explained(
        0, "Of the bootstrap, the shuffled words and the replies that are edited."
    )
    bootstrap_resamples: int = explained(1000, "Resamples for the 95 % intervals.")
    max_tokens: int | None = explained(
        None, "Longest pair or conversation, in tokens; default: what the model takes, at most 512."
    )

    def __post_init__(self) -> None:
        at_least(self, 100, "bootstrap_resamples")
        at_least(self, 0, "seed")
        if self.max_tokens is not None:
            at_least(self, 16, "max_tokens")
