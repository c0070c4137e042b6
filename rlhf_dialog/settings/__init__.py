"""The values of a run that are not PPO's own, one dataclass a concern.

Every field is a key of a recipe's YAML file and a flag of its command line. PPO's values are in
`rlhf_dialog.ppo.config`.
"""

from rlhf_dialog.settings.evaluation import EvaluationSettings, RewardEvaluationSettings
from rlhf_dialog.settings.speaking import (
    DECODINGS,
    RERANKINGS,
    ChatSettings,
    DecodingSettings,
    GenerationFileSettings,
    SpeakerSettings,
)
from rlhf_dialog.settings.training import (
    DialogueSettings,
    DiscriminatorSettings,
    GeneratorSettings,
    StyleSettings,
)

__all__ = [
    "DECODINGS",
    "RERANKINGS",
    "ChatSettings",
    "DecodingSettings",
    "DialogueSettings",
    "DiscriminatorSettings",
    "EvaluationSettings",
    "GenerationFileSettings",
    "GeneratorSettings",
    "RewardEvaluationSettings",
    "SpeakerSettings",
    "StyleSettings",
]
