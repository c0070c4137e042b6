"""The push of a finished run, top to bottom."""

from __future__ import annotations

import tempfile
from pathlib import Path

from huggingface_hub.utils import disable_progress_bars
from rich.markup import escape

from rlhf_dialog.console import console
from rlhf_dialog.publishing.hub import Hub
from rlhf_dialog.publishing.plan import Repository, make_plan
from rlhf_dialog.publishing.runs import read_run
from rlhf_dialog.publishing.settings import PushSettings

NOBODY = "you"  # owner of names in a list that is made without a token


def push_run(settings: PushSettings) -> list[str]:
    """Pushes what `settings.parts` names; returns the addresses, none in a dry run.

    Raises:
        UserError: a run that has not finished, something private in a file, a repository that
            exists, no token, no permission, no network. Pushing again goes on where it stopped.
    """
    run = read_run(settings.run)
    disable_progress_bars()
    hub = None if settings.dry_run else Hub(run.folder)
    owner = settings.owner or (hub.user if hub else NOBODY)
    with tempfile.TemporaryDirectory(prefix="push-") as scratch:
        repositories = make_plan(run, settings, owner, Path(scratch))
        show(repositories, private=settings.private)
        if hub is None:
            console.print("A dry run: nothing was uploaded.")
            return []
        addresses = []
        for repository in repositories:
            hub.create(repository, private=settings.private, exist_ok=settings.exist_ok)
            addresses.append(hub.upload(repository))
            console.print(f"complete: {addresses[-1]}", soft_wrap=True)
        if settings.collection:
            address = hub.collect(
                settings.collection, repositories, owner=owner, private=settings.private
            )
            console.print(f"collection: {address}", soft_wrap=True)
            addresses.append(address)
    return addresses


def show(repositories: list[Repository], *, private: bool) -> None:
    """Every repository and every file with its size, before anything leaves."""
    for repository in repositories:
        seen = "private" if private else "public"
        console.print(f"[bold]{escape(repository.id)}[/bold] ({repository.kind}, {seen})")
        for path in repository.files:
            name = path.relative_to(repository.folder).as_posix()
            console.print(f"  {path.stat().st_size:>12,} bytes  {escape(name)}", soft_wrap=True)
