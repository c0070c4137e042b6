"""Checkpoint folders: complete or absent, never half.

    checkpoints/.step-000040.tmp/    while it is written
    checkpoints/step-000040/         afterwards, with complete.json: every file, its size and hash

Everything is on the disk (fsync) before the folder gets its name, and a folder is taken for a
checkpoint only as far as `complete.json` vouches for it. Only the standard library is used.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from pathlib import Path

CHECKPOINTS = "checkpoints"  # inside the run's folder
MANIFEST = "complete.json"
_NAME = re.compile(r"step-(\d{6,})")
_TEMPORARY = ".step-*.tmp"


def folder_of(run: Path, update: int) -> Path:
    return run / CHECKPOINTS / f"step-{update:06d}"


def update_of(checkpoint: Path) -> int:
    """The update after which it was written."""
    found = _NAME.fullmatch(checkpoint.name)
    return int(found[1]) if found else -1


def checkpoints_in(run: Path) -> list[Path]:
    """Folders that are named like checkpoints, complete or damaged, oldest first."""
    folders = (run / CHECKPOINTS).glob("step-*")
    return sorted((f for f in folders if update_of(f) >= 0 and f.is_dir()), key=update_of)


def begin(checkpoint: Path) -> Path:
    """The empty temporary folder in which `checkpoint` is to be written."""
    sweep(checkpoint.parent)
    folder = temporary(checkpoint)
    folder.mkdir(parents=True)
    return folder


def seal(written: Path, checkpoint: Path) -> None:
    """Vouches for what was written and gives it its name, in one step that cannot be halved."""
    manifest = {"files": {name: _size_and_hash(written / name) for name in _files(written)}}
    write_json(written / MANIFEST, manifest)
    flush(written)
    if checkpoint.exists():  # a damaged one: a rename cannot put a folder in its place
        shutil.rmtree(_set_aside(checkpoint))
    os.rename(written, checkpoint)
    _flush_one(checkpoint.parent)


def flush(folder: Path) -> None:
    """Files and folders in `folder`, and itself, onto the disk."""
    for name in _files(folder):
        _flush_one(folder / name)
    for inner in sorted((f for f in folder.rglob("*") if f.is_dir()), reverse=True):
        _flush_one(inner)
    _flush_one(folder)


def flaw(checkpoint: Path) -> str | None:
    """What is wrong with a checkpoint, with the file's name; None where it is as it was written."""
    try:
        files = json.loads((checkpoint / MANIFEST).read_text(encoding="utf-8"))["files"]
    except FileNotFoundError:
        return f"has no {MANIFEST}: it was never finished"
    except (OSError, ValueError, KeyError, TypeError):
        return f"has a damaged {MANIFEST}"
    for name, (size, digest) in files.items():
        path = checkpoint / name
        if not path.is_file():
            return f"lacks {name}"
        if path.stat().st_size != size:
            return f"has {path.stat().st_size} of the {size} bytes of {name}"
        if _size_and_hash(path)[1] != digest:
            return f"has other bytes in {name} than were written"
    return None


def set_newer_aside(checkpoint: Path) -> None:
    """Damaged checkpoints after the one that is gone on from: they lose the name, not the bytes."""
    for newer in checkpoints_in(checkpoint.parent.parent):
        if update_of(newer) > update_of(checkpoint):
            place = newer.with_name(f"damaged-{newer.name}")
            shutil.rmtree(place, ignore_errors=True)
            os.rename(newer, place)


def remove_oldest(run: Path, limit: int | None) -> None:
    """Leaves the newest `limit` checkpoints; none is ever half removed under its own name."""
    if limit is not None:
        for checkpoint in checkpoints_in(run)[:-limit]:
            shutil.rmtree(_set_aside(checkpoint), ignore_errors=True)  # `sweep` comes again


def sweep(folder: Path) -> None:
    """Removes what a save or a removal left behind that was cut off."""
    for stale in folder.glob(_TEMPORARY):
        shutil.rmtree(stale)


def write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


def temporary(checkpoint: Path) -> Path:
    """Where it is while it is written."""
    return checkpoint.with_name(f".{checkpoint.name}.tmp")


def _set_aside(checkpoint: Path) -> Path:
    aside = checkpoint.with_name(f".{checkpoint.name}.old.tmp")
    os.rename(checkpoint, aside)
    return aside


def _files(folder: Path) -> list[str]:
    return sorted(str(f.relative_to(folder)) for f in folder.rglob("*") if f.is_file())


def _size_and_hash(path: Path) -> tuple[int, str]:
    with path.open("rb") as file:
        return path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest()


def _flush_one(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
