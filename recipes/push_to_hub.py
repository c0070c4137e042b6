"""A finished run goes to the Hugging Face Hub: models with their cards, the data, the metrics.

    python recipes/push_to_hub.py --run runs/barney --name OWNER/barney --dry_run
    python recipes/push_to_hub.py --run runs/barney --name OWNER/barney

Lists every file before anything leaves; repositories are private unless you say --no_private. When
a push is interrupted, the same command again finishes it.
"""

from __future__ import annotations

from rlhf_dialog.console import is_main_process, run_recipe
from rlhf_dialog.parsing import parse
from rlhf_dialog.publishing import PushSettings, push_run


def main() -> None:
    (settings,) = parse((PushSettings,), default_config=None)
    if is_main_process():  # one process pushes; the others have nothing to do
        push_run(settings)


if __name__ == "__main__":
    run_recipe(main)
