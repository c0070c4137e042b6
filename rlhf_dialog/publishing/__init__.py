"""From a finished run's folder to repositories on the Hugging Face Hub.

    run folder ─► plan: staged copies, cards ─► nothing private? ─► listed ─► uploaded

Nothing is uploaded from the run's folder itself. Each repository is staged in a folder of its own:
known files only, values that tell about this machine taken out, a card written; then every file is
searched once more, and the list is shown before anything leaves.
"""

from rlhf_dialog.publishing.push import push_run
from rlhf_dialog.publishing.settings import PARTS, PushSettings
from rlhf_dialog.publishing.training import push_after_training, push_finished

__all__ = ["PARTS", "PushSettings", "push_after_training", "push_finished", "push_run"]
