"""Where this process computes, how it meets the others of its run, and what it shares with them."""

from __future__ import annotations

import atexit
import os
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import torch
from accelerate import PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import broadcast, broadcast_object_list, gather_object, patch_environment
from torch import nn
from transformers.integrations import unset_hf_deepspeed_config

from rlhf_dialog.errors import UserError
from rlhf_dialog.extensions import prepare_extensions

T = TypeVar("T")

# Words of gloo and NCCL about a process that is no longer there.
_LOST = (
    "Connection closed by peer",
    "Connection reset by peer",
    "Broken pipe",
    "Timed out waiting",
)


def end_process() -> NoReturn:
    """Ends one of several processes that has done its work, with status 0.

    After `atexit` has had its turn, and past C++'s destructors: threads of gloo may outlive their
    group, and would now and then end a finished process with SIGABRT.
    """
    PartialState().destroy_process_group()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def own_device() -> torch.device:
    """The accelerator that Accelerate gives to this process, or the CPU."""
    return join_processes().device


def under_deepspeed() -> bool:
    """Whether `accelerate launch` was told to use DeepSpeed."""
    return _says("ACCELERATE_USE_DEEPSPEED")


def join_processes(timeout: float | None = None) -> PartialState:
    """Meets the other processes of this run, where that has not been done yet.

    Args:
        timeout: of every exchange between processes, seconds; None: the backend's own. The first
            call decides.
    """
    if PartialState._shared_state:
        return PartialState()
    options: dict[str, Any] = {} if timeout is None else {"timeout": timedelta(seconds=timeout)}
    if not under_deepspeed():
        return PartialState(cpu=_says("ACCELERATE_USE_CPU"), **options)
    prepare_extensions()
    if not torch.accelerator.is_available() or _says("ACCELERATE_USE_CPU"):
        # Accelerate has either DeepSpeed or the CPU. Without its flag, and with a backend that it
        # would not choose by itself, it has both.
        os.environ.pop("ACCELERATE_USE_CPU", None)
        os.environ |= {"ACCELERATE_TORCH_DEVICE": "cpu", "DS_ACCELERATOR": "cpu"}
        options["backend"] = "gloo"
    return PartialState(**options)


def meet_for_training(timeout: float) -> bool:
    """Meets all processes, before TrainingArguments do it: those wait as long as the backend does
    and, on the CPU, leave DeepSpeed out.

    Returns:
        whether DeepSpeed computes on the CPU.

    Raises:
        UserError: more were launched than meet.
    """
    join_processes(timeout)
    require_all_processes()
    return under_deepspeed() and on_cpu()


def require_all_processes() -> None:
    """Raises UserError where more processes were launched than have met: each would believe that
    it is alone, and all would write and publish."""
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    if join_processes().num_processes != launched:
        raise UserError(
            f"{launched} processes were launched, but each sees only itself; on a machine "
            "without GPUs set ACCELERATE_USE_CPU=true."
        )


def require_shared(folder: Path) -> None:
    """Raises UserError, on all processes, where one does not see what the first writes there.

    The folder has to exist for the first process. All processes have to call it.
    """
    state = join_processes()
    if state.num_processes == 1:
        return
    name = f".seen-by-all-{os.getpid()}"
    if state.is_main_process:
        together(lambda: (folder / name).touch())
    else:
        together(lambda: None)
    name = broadcast_object_list([name])[0]
    seen = gather_object([((folder / name).is_file(), socket.gethostname(), str(folder))])
    if state.is_main_process:
        (folder / name).unlink()
    blind = [place for place in seen if not place[0]]
    if blind:
        raise UserError(
            f"--output_dir {blind[0][2]}: process {seen.index(blind[0])}, on {blind[0][1]}, does "
            f"not see what the first process writes to {seen[0][2]} on {seen[0][1]}; give all "
            "processes one folder on a disk that all machines share."
        )


def on_cpu() -> bool:
    """Whether this process computes on the CPU."""
    return own_device().type == "cpu"


@contextmanager
def without_deepspeed() -> Iterator[None]:
    """Within, processes share a model as under DDP: each holds all of it.

    For stages whose models have to be whole when they are over. DeepSpeed's sharding begins where
    the PPO trainer prepares its models.
    """
    if not under_deepspeed():
        yield
        return
    cpu = on_cpu()
    AcceleratorState._reset_state(reset_partial_state=True)
    with patch_environment(accelerate_use_deepspeed="false", accelerate_use_cpu=str(cpu).lower()):
        yield
    AcceleratorState._reset_state(reset_partial_state=True)
    join_processes()


def build_whole_models() -> None:
    """Models are built whole, even under stage 3, and sharded when the trainer prepares them.

    transformers would shard whatever it loads, discriminator and judge too, from the moment that
    `TrainingArguments` were made under a launch with stage 3.
    """
    unset_hf_deepspeed_config()


def own_share(items: Sequence[T]) -> tuple[list[T], int]:
    """This process's share of `items`, in their order, and how many of it are its own.

    The last processes may have fewer: theirs is filled up with others' items, because where weights
    are sharded all processes have to do equally much.
    """
    state = join_processes()
    size = -(-len(items) // state.num_processes)
    own = list(items[state.process_index * size :][:size])
    return [*own, *items[: size - len(own)]], len(own)


def first_process_says(value: float) -> float:
    """The first process's `value` on every process, so that all take the same decision."""
    if join_processes().num_processes == 1:
        return value
    return broadcast_object_list([value])[0]


def together(doing: Callable[[], T]) -> T:
    """What `doing` returns. Where it raises a `UserError` on one process it is raised on all: one
    that went on alone would wait for the others for ever."""
    told, result = None, None
    try:
        result = doing()
    except UserError as error:
        told = error
    if join_processes().num_processes > 1:
        tellings = gather_object([None if told is None else str(told)])
        first = next((telling for telling in tellings if telling is not None), None)
        told = told or (None if first is None else UserError(first))
    if told is not None:
        raise told
    return result  # type: ignore[return-value]


@torch.no_grad()
def copy_first_process(module: nn.Module) -> None:
    """Gives every process the first one's parameters and buffers, bit by bit, in place."""
    if join_processes().num_processes == 1:
        return
    for tensor in module.state_dict().values():
        tensor.copy_(broadcast(tensor.clone()))


def lost_another_process(error: BaseException) -> bool:
    """Whether an exchange failed because another process of the run has died or answers no more."""
    return isinstance(error, RuntimeError) and any(word in str(error) for word in _LOST)


@contextmanager
def telling_of_lost_processes() -> Iterator[None]:
    """Ends this process with a sentence, and exit status 3, when another one of the run is lost."""
    try:
        yield
    except RuntimeError as error:
        if not lost_another_process(error):
            raise
        sys.stderr.write(  # its newline with it: several processes may say so at one time
            f"error: process {os.environ.get('RANK', '0')} ends, because another process of this "
            "run has died or answers no more; what that one printed last, and the launcher's "
            "summary, say which and why.\n"
        )
        sys.stderr.flush()
        sys.stdout.flush()
        os._exit(3)  # not by way of finalizers, which would wait for the lost process


def _says(name: str) -> bool:
    return os.environ.get(name, "false").lower() in ("1", "true", "yes")
