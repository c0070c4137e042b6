"""`push_to_hub: true` in a recipe's configuration: asked before the run, done after it."""

from __future__ import annotations

from pathlib import Path

from rlhf_dialog.console import is_main_process
from rlhf_dialog.errors import UserError
from rlhf_dialog.ppo.config import SeqGANPPOConfig
from rlhf_dialog.publishing.hub import Hub
from rlhf_dialog.publishing.plan import repository_ids
from rlhf_dialog.publishing.push import push_run
from rlhf_dialog.publishing.settings import PushSettings


def push_after_training(ppo: SeqGANPPOConfig) -> PushSettings | None:
    """The push that `push_to_hub`, `hub_model_id` and `hub_private_repo` ask for, or None.

    The Hub is asked now whether it would let us. From here on the trainer knows nothing of it.
    Repositories are private unless `hub_private_repo` is false.

    Raises:
        UserError: no token, no network, or repositories of these names exist that an earlier
            push of this run did not make.
    """
    if not ppo.push_to_hub:
        return None
    ppo.push_to_hub = False
    private = ppo.hub_private_repo is None or bool(ppo.hub_private_repo)
    settings = PushSettings(run=str(ppo.output_dir), name=ppo.hub_model_id, private=private)
    if is_main_process():
        hub = Hub(Path(str(ppo.output_dir)))
        if settings.base_name:
            owner = settings.owner or hub.user
            for repo in repository_ids(settings, owner, settings.base_name).values():
                hub.refuse_existing(repo)
    return settings


def push_finished(settings: PushSettings) -> None:
    """Pushes the run that has just finished; a failure says how to push it later."""
    try:
        push_run(settings)
    except UserError as error:
        name = f" --name {settings.name}" if settings.name else ""
        public = "" if settings.private else " --no_private"
        raise UserError(
            f"The run is complete, but its push is not ({str(error).rstrip('.')}): finish it with "
            f"`rlhf-dialog push --run {settings.run}{name}{public}`."
        ) from error
