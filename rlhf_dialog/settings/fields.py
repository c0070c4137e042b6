"""What the settings share: fields that explain themselves, and checks in one sentence."""

from __future__ import annotations

from dataclasses import field
from typing import Any

from rlhf_dialog.errors import UserError


def explained(default, text: str):
    """A field with a default and the text of `--help`."""
    return field(default=default, metadata={"help": text.replace("%", "%%")})  # argparse formats it


def at_least(settings: Any, least: float, *names: str) -> None:
    for name in names:
        if not getattr(settings, name) >= least:
            raise UserError(f"{name}: {getattr(settings, name)} must be at least {least}.")


def shares(settings: Any, *names: str, below: float = 1.0) -> None:
    for name in names:
        if not 0 <= getattr(settings, name) <= below:
            raise UserError(f"{name}: {getattr(settings, name)} must be from 0 to {below}.")
