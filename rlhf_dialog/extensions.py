"""DeepSpeed compiles C++ operators at their first use; a run that died then must stop no other."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import torch
from torch.utils.cpp_extension import get_default_build_root


def prepare_extensions() -> None:
    """Chooses the folder of compiled operators, where the user has not, and frees abandoned locks.

    The folder is this machine's own: operators are compiled for its processor, and machines may
    share a home folder. To be called before the first operator is loaded.
    """
    if "TORCH_EXTENSIONS_DIR" not in os.environ:
        python = "".join(platform.python_version_tuple()[:2])
        name = f"{platform.node()}-py{python}-torch{torch.__version__}"
        os.environ["TORCH_EXTENSIONS_DIR"] = str(Path(get_default_build_root()) / name)
    if os.environ.get("LOCAL_RANK", "0") == "0":
        remove_abandoned_locks(Path(os.environ["TORCH_EXTENSIONS_DIR"]))


def remove_abandoned_locks(folder: Path) -> list[Path]:
    """Removes the locks below `folder` that no living process holds; returns them.

    torch's `FileBaton` is a file that its holder keeps open. Of a process that was killed the file
    stays, and everyone after it would wait for ever.
    """
    abandoned = []
    for lock in folder.glob("*/lock"):
        try:
            found = lock.stat()
            if not _is_open(lock) and lock.stat().st_ino == found.st_ino:
                lock.unlink()
                abandoned.append(lock)
        except FileNotFoundError:  # released meanwhile
            continue
    return abandoned


def _is_open(path: Path) -> bool:
    """Whether a process of this machine has the file open, as /proc tells its owner."""
    target = str(path.resolve())
    for descriptor in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if os.readlink(descriptor) == target:
                return True
        except OSError:  # the process has ended, or is somebody else's
            continue
    return False
