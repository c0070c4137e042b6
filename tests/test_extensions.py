"""A run that is killed while DeepSpeed's operators are compiled or loaded stops no later one."""

import os
import subprocess
import sys

import pytest
from torch.utils.file_baton import FileBaton

from rlhf_dialog.extensions import prepare_extensions, remove_abandoned_locks

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="DeepSpeed is for Linux")
HOLD = """
import sys, time
from torch.utils.file_baton import FileBaton
assert FileBaton(sys.argv[1]).try_acquire()
print("held", flush=True)
time.sleep(600)
"""


@pytest.fixture
def held(tmp_path):
    """A lock, and the process that holds it as torch does."""
    lock = tmp_path / "an_operator" / "lock"
    lock.parent.mkdir()
    holder = subprocess.Popen([sys.executable, "-c", HOLD, lock], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    yield lock, holder
    holder.kill()
    holder.wait()
    holder.stdout.close()


def test_the_lock_of_a_living_process_stays(held, tmp_path):
    lock, _ = held
    assert remove_abandoned_locks(tmp_path) == [] and lock.exists()


def test_the_lock_of_a_killed_process_goes(held, tmp_path):
    lock, holder = held
    holder.kill()
    holder.wait()
    assert not FileBaton(lock).try_acquire()  # what later runs would wait for, for ever
    assert remove_abandoned_locks(tmp_path) == [lock]
    assert FileBaton(lock).try_acquire()


def test_a_lock_that_is_made_anew_meanwhile_stays(held, tmp_path, monkeypatch):
    """As where its holder ends between two looks, and another process takes its turn."""
    lock, holder = held
    holder.kill()
    holder.wait()

    def made_anew(seconds):
        lock.unlink()
        lock.touch()

    monkeypatch.setattr("rlhf_dialog.extensions.time.sleep", made_anew)
    assert remove_abandoned_locks(tmp_path) == [] and lock.exists()


def test_the_folder_is_the_users_or_this_machines(monkeypatch, tmp_path):
    lock = tmp_path / "an_operator" / "lock"
    lock.parent.mkdir()
    lock.touch()
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    prepare_extensions()
    assert os.environ["TORCH_EXTENSIONS_DIR"] == str(tmp_path) and lock.exists()
    monkeypatch.delenv("TORCH_EXTENSIONS_DIR")
    prepare_extensions()
    assert os.uname().nodename in os.environ["TORCH_EXTENSIONS_DIR"]
