"""DeepSpeed compiles C++ operators at their first use; a run that died then must stop no other."""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path

import torch
from torch.utils.cpp_extension import get_default_build_root

BETWEEN_LOOKS = 0.5  # seconds


def prepare_extensions() -> None:
    """Chooses the folder of compiled operators and frees its abandoned locks.

    The folder is this machine's own: operators are compiled for its processor, and machines may
    share a home folder, where nobody can see what another one's processes hold. One that the user
    has chosen (TORCH_EXTENSIONS_DIR) is left as it is. To be called before the first operator is
    loaded.
    """
    if "TORCH_EXTENSIONS_DIR" in os.environ:
        return
    python = "".join(platform.python_version_tuple()[:2])
    name = f"{platform.node()}-py{python}-torch{torch.__version__}"
    folder = Path(get_default_build_root()) / name
    os.environ["TORCH_EXTENSIONS_DIR"] = str(folder)
    # By each process: one that waits for a lock takes its removal for a finished build.
    remove_abandoned_locks(folder)


def remove_abandoned_locks(folder: Path) -> list[Path]:
    """Removes the locks below `folder` that no living process holds; returns them.

    torch's `FileBaton` is a file that its holder keeps open. Of a process that was killed the file
    stays, and everyone after it would wait for ever. Each is looked at twice, a moment apart: one
    that was closed to be removed is gone by then, and one that was made anew is another file.
    """
    abandoned = []
    first = {lock: state for lock in folder.glob("*/lock") if (state := _abandoned(lock))}
    if first:
        time.sleep(BETWEEN_LOOKS)
    for lock, state in first.items():
        if _abandoned(lock) == state:
            lock.unlink(missing_ok=True)
            abandoned.append(lock)
    return abandoned


def _abandoned(lock: Path) -> tuple[int, int] | None:
    """(inode, time of its last change, ns) of a lock of this user's that nobody has open."""
    try:
        found = lock.stat()
    except OSError:  # released meanwhile
        return None
    if found.st_uid != os.getuid() or _is_open(lock):
        return None
    return found.st_ino, found.st_ctime_ns


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
