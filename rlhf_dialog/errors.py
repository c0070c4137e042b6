"""The one exception that means: the user can mend this, and the message says how."""

from pathlib import Path


class UserError(ValueError):
    """A mistake in what the user gave, told in one sentence.

    Recipes print the sentence without a traceback and exit with status 2.
    """


def cannot_load(what: str, name_or_path: str, error: Exception) -> UserError:
    """One sentence for every way in which `from_pretrained` fails."""
    first_line = (
        str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else repr(error)
    )
    if Path(name_or_path).exists():
        remedy = "give a folder written by save_pretrained (config.json, weights, tokenizer)"
    else:
        remedy = "check the spelling, and the network if it is a Hub id, or give a local folder"
    return UserError(f"--{what} {name_or_path}: cannot be loaded ({first_line}): {remedy}.")
