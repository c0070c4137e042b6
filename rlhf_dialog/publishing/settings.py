"""What is pushed, and where to."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from rlhf_dialog.errors import UserError
from rlhf_dialog.settings.fields import explained

PARTS = ("generator", "discriminator", "judge", "data", "metrics")
_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,90}")


@dataclass
class PushSettings:
    """A push of a finished run; every field is a flag of `recipes/push_to_hub.py`."""

    run: str | None = explained(
        None, "Folder of a finished run (seqgan_ppo.py, warm_start.py, train_discriminator.py)."
    )
    name: str | None = explained(
        None,
        "NAME or OWNER/NAME of the repositories; the generator's is NAME, the others' NAME-PART. "
        "Default: the character and the architecture, and the owner of the token.",
    )
    parts: list[str] = field(
        default_factory=lambda: ["generator", "discriminator", "judge"],
        metadata={"help": f"What to push, any of: {', '.join(PARTS)}."},
    )
    private: bool = explained(True, "Only you see the repositories; --no_private publishes them.")
    exist_ok: bool = explained(
        False, "Write into repositories that exist and were not made by this."
    )
    dry_run: bool = explained(False, "List the repositories and files, and upload nothing.")
    collection: str | None = explained(None, "Title of a collection that gathers the repositories.")
    merge: bool = explained(False, "Merge the generator's adapters into its base model first.")
    base_model: str | None = explained(
        None, "Hub id of the model the generator began as, where the run names a local folder."
    )
    language: str = explained("en", "Language of the replies, ISO 639-1 code.")
    license: str | None = explained(None, "Licence id of the weights, such as apache-2.0.")
    data_license: str | None = explained(None, "Licence id of the dialogues, such as cc0-1.0.")

    def __post_init__(self) -> None:
        for part in self.parts:
            if part not in PARTS:
                raise UserError(f"parts: {part!r} is not known; choose of {', '.join(PARTS)}.")
        if not self.parts:
            raise UserError(f"parts: name at least one of {', '.join(PARTS)}.")
        pieces = self.name.split("/") if self.name else []
        if len(pieces) > 2 or not all(_NAME.fullmatch(piece) for piece in pieces):
            raise UserError(
                f"name: {self.name!r} must be NAME or OWNER/NAME, of letters, digits, '-', '_' "
                "and '.'."
            )
        if "data" in self.parts and not self.data_license:
            raise UserError(
                "data_license: is needed to publish the dialogues; give the licence that lets you, "
                "such as cc0-1.0."
            )

    @property
    def owner(self) -> str | None:
        return self.name.split("/")[0] if self.name and "/" in self.name else None

    @property
    def base_name(self) -> str | None:
        return self.name.split("/")[-1] if self.name else None
