"""What the pages of the documentation hold: their commands, their code, and what recipes take."""

import re
import shlex
from pathlib import Path

from rlhf_dialog.ppo.config import SeqGANPPOConfig
from rlhf_dialog.publishing import PushSettings
from rlhf_dialog.settings import (
    ChatSettings,
    DecodingSettings,
    DialogueSettings,
    DiscriminatorSettings,
    EvaluationSettings,
    GenerationFileSettings,
    GeneratorSettings,
    RewardEvaluationSettings,
    SpeakerSettings,
    StyleSettings,
)

ROOT = Path(__file__).parents[1]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "data/README.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]
RUN = (
    DialogueSettings,
    GeneratorSettings,
    DiscriminatorSettings,
    EvaluationSettings,
    SeqGANPPOConfig,
)
SETTINGS = {
    "seqgan_ppo.py": RUN,
    "warm_start.py": RUN,
    "train_discriminator.py": RUN,
    "evaluate_dialog.py": RUN,
    "evaluate_reward.py": (RewardEvaluationSettings,),
    "push_to_hub.py": (PushSettings,),
    "chat.py": (ChatSettings, SpeakerSettings, DecodingSettings),
    "generate.py": (GenerationFileSettings, SpeakerSettings, DecodingSettings),
    "train_style.py": (StyleSettings, DiscriminatorSettings),
}


def name_of(page):
    return page.relative_to(ROOT).as_posix()


def blocks(page, language):
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


def commands(page):
    """Command lines of a page, continued lines joined."""
    for block in blocks(page, "bash"):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words:
                yield words
