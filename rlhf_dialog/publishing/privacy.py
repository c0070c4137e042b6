"""Nothing private leaves: values are cleaned as they are copied, and every file is searched."""

from __future__ import annotations

import getpass
import mmap
import re
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from huggingface_hub import get_token

from rlhf_dialog.errors import UserError
from rlhf_dialog.hub_ids import is_hub_id

SECRET = re.compile(
    r"\b(hf_[A-Za-z0-9]{16,}|sk-[A-Za-z0-9_-]{20,}|gh[pousr]_[A-Za-z0-9]{20,}|AKIA[0-9A-Z]{16})"
)
# At the start of a value or behind what may stand before a path; `</s>` and `1/2` are none.
_PATH = re.compile(
    r"(?:(?<=^)|(?<=[\s\"'=(:,]))"
    r"(?:file://\S+|~/\S*|/(?:[\w.@%+-]+/)+[\w.@%+-]*|[A-Za-z]:\\[^\s\"']+)"
)
# A value that is a path and nothing else may have spaces in it.
_WHOLE_PATH = re.compile(r"(?:~|/[^/\n]+|[A-Za-z]:)[/\\][^\n]+")
# Settings that name a folder, a file or something on the Hub; where it lies is nobody's business.
PATH_FIELDS = {
    "dialogues",
    "warm_start_dialogues",
    "general_dialogues",
    "generator",
    "reverse_generator",
    "summarizer",
    "discriminator",
    "judge",
    "reward_model",
    "value_path",
    "output_file",
    "deepspeed",
}
_HOMES = re.compile(r"(/home/|/Users/|[A-Za-z]:\\+Users\\+)[\w.-]+")
# Of transformers and peft, about the machine on which a folder was loaded or saved.
DROPPED = {
    "_name_or_path",
    "name_or_path",
    "is_local",
    "local_files_only",
    "hub_token",
    "push_to_hub_token",
    "hub_model_id",
    "output_dir",
    "logging_dir",
    "run_name",
}
_WORD_LISTS = ("tokenizer.json", "vocab.json", "merges.txt", "vocab.txt", "added_tokens.json")
_NO_SECRET = {"root", "user", "admin", "runner", "ubuntu", "jovyan"}


def cleaned(value: Any) -> Any:
    """`value` (of JSON or YAML) without machine paths, tokens and fields that tell of a machine.

    A path becomes its last part, in the settings of `PATH_FIELDS` a relative one too; a token
    becomes the word [token].
    """
    if isinstance(value, dict):
        return {
            key: cleaned(_place_left_out(inner) if key in PATH_FIELDS else inner)
            for key, inner in value.items()
            if key not in DROPPED
        }
    if isinstance(value, list):
        return [cleaned(inner) for inner in value]
    if isinstance(value, str):
        if _WHOLE_PATH.fullmatch(value):
            value = _last_part(value)
        return SECRET.sub("[token]", _PATH.sub(lambda match: _last_part(match[0]), value))
    return value


def _place_left_out(value: Any) -> Any:
    if not isinstance(value, str) or is_hub_id(value):
        return value
    return _last_part(value)


def _last_part(path: str) -> str:
    return re.split(r"[/\\]", path.rstrip("/\\"))[-1]


def refuse_private(files: Iterable[Path], *, owner: str | None, run: Path) -> None:
    """Searches whole files, weights included, for what tells about this machine or its user.

    Raises:
        UserError: something is found; names the file and what it is.
    """
    paths = {str(run.resolve()), str(Path.cwd()), f"{Path.home()}/"}
    exact = {"a path of this machine": paths, "your Hub token": {get_token() or ""}}
    user = _user()
    for file in files:
        if not file.stat().st_size:
            continue
        with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as m:
            for what, needles in exact.items():
                if any(len(needle) > 5 and m.find(needle.encode()) >= 0 for needle in needles):
                    raise _leak(file, what)
        if file.suffix in (".safetensors", ".jsonl", ".model") or file.name in _WORD_LISTS:
            continue  # numbers, and words of a vocabulary or of people
        text = file.read_text(encoding="utf-8", errors="replace")
        if SECRET.search(text):
            raise _leak(file, "an access token")
        if match := _HOMES.search(text):
            raise _leak(file, f"the path {match[0]}")
        if f"{tempfile.gettempdir()}/" in text:
            raise _leak(file, "a path of this machine")
        personal = user != owner and user not in _NO_SECRET and len(user) > 3
        if personal and re.search(rf"\b{re.escape(user)}\b", text):
            raise _leak(file, f"the user name {user}")


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # a container may run as nobody in particular
        return ""


def _leak(file: Path, what: str) -> UserError:
    return UserError(
        f"{file.name}: holds {what}, which must not be published; nothing was uploaded, take it "
        "out of the run's folder and push again."
    )
