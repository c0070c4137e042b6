"""The whole training state: written atomically, taken up exactly.

What is kept, file by file, is told in docs/checkpoints.md. Policy, critic and optimizer go through
`Accelerator.save_state`, so that whatever shards them saves its own shards; everything else comes
out of `state_dict()`s, as tensors and plain values that load with `weights_only=True`.
"""

from __future__ import annotations

import dataclasses
import json
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from accelerate.utils import broadcast_object_list
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from transformers.trainer_callback import ExportableState

from rlhf_dialog.changes import accepted_changes
from rlhf_dialog.console import console
from rlhf_dialog.devices import together
from rlhf_dialog.discriminators.refresh import Refresher
from rlhf_dialog.discriminators.rewards import as_reward
from rlhf_dialog.errors import UserError
from rlhf_dialog.ppo import checkpoint_folders as folders
from rlhf_dialog.ppo.identity import run_values
from rlhf_dialog.ppo.selection import BEST, SAMPLES
from rlhf_dialog.runs import cut_back, versions

if TYPE_CHECKING:
    from rlhf_dialog.ppo.trainer import SeqGANPPOTrainer

POLICY = "policy.safetensors"
SHARED, STATE, VALUES = "shared.pt", "trainer_state.json", "settings.json"
# With one of these accepted as changed, the optimizer's own values stay those of the new settings.
_OPTIMIZER = (
    "learning_rate weight_decay adam_beta1 adam_beta2 adam_epsilon lr_scheduler_type "
    "lr_scheduler_kwargs warmup_steps max_steps num_train_epochs"
)
# With one of these, the place in the pass over the contexts means nothing: a new pass begins.
_BATCHES = "world_size per_device_train_batch_size gradient_accumulation_steps train_examples"
_RANKS = ("is_local_process_zero", "is_world_process_zero")  # in a TrainerState, but each rank's

# ---------------------------------------------------------------- writing


def save_checkpoint(trainer: SeqGANPPOTrainer) -> Path:
    """Writes the checkpoint of this update, all ranks together; then old ones give way.

    Raises:
        UserError: it could not be written. What was written of it is removed, and the checkpoints
            before it are as they were.
    """
    run, main = Path(str(trainer.args.output_dir)), trainer.is_world_process_zero()
    checkpoint = folders.folder_of(run, trainer.state.global_step)
    if trainer.last_checkpoint == checkpoint:
        return checkpoint
    written = folders.temporary(checkpoint)
    steps: list[tuple[bool, Callable[[], Any]]] = [
        (main, partial(folders.begin, checkpoint)),
        (True, partial(_write, trainer, written)),
        (trainer.accelerator.is_local_main_process, partial(folders.flush, written)),
        (main, partial(folders.seal, written, checkpoint)),
    ]
    try:
        for mine, doing in steps:  # each begins when all ranks have ended the one before
            together(partial(_on_disk, doing, checkpoint, trainer) if mine else _nothing)
    except UserError:
        if main:
            shutil.rmtree(written, ignore_errors=True)
        raise
    trainer.last_checkpoint = checkpoint
    if main:
        folders.remove_oldest(run, trainer.args.save_total_limit)
    trainer.control = trainer.callback_handler.on_save(trainer.args, trainer.state, trainer.control)
    return checkpoint


def last_good(trainer: SeqGANPPOTrainer) -> str:
    """The end of a sentence that says where a run can go on from."""
    if trainer.last_checkpoint is None:
        return "there is no checkpoint yet, so start the run again"
    return f"the last good checkpoint is {trainer.last_checkpoint}"


def _on_disk(doing: Callable[[], Any], checkpoint: Path, trainer: SeqGANPPOTrainer) -> None:
    try:
        doing()
    except (OSError, RuntimeError, SafetensorError) as error:  # torch and safetensors wrap ENOSPC
        reason = getattr(error, "strerror", None) or str(error).strip().splitlines()[0]
        free = shutil.disk_usage(checkpoint.parent).free if checkpoint.parent.is_dir() else 0
        raise UserError(
            f"{checkpoint}: could not be written ({reason.rstrip('.')}; {free / 2**20:.0f} MiB are "
            f"free); make room, and {last_good(trainer)}."
        ) from error


def _nothing() -> None:
    return None


def _write(trainer: SeqGANPPOTrainer, folder: Path) -> None:
    """This rank's part of a checkpoint, and with the first rank what is the same on all."""
    accelerator = trainer.accelerator
    with _policy_by_its_own_names(trainer):
        accelerator.save_state(str(folder))
    # Accelerate loads these with all errors silenced; the rank's own file has them.
    (folder / f"random_states_{accelerator.process_index}.pkl").unlink()
    torch.save(_own_state(trainer), folder / _rank_file(trainer))
    if trainer.is_world_process_zero():
        torch.save(_shared_state(trainer), folder / SHARED)
        folders.write_json(folder / STATE, _trainer_state(trainer))
        values = {"values": run_values(trainer), "versions": versions()}
        folders.write_json(folder / VALUES, values)


def _shared_state(trainer: SeqGANPPOTrainer) -> dict[str, Any]:
    state: dict[str, Any] = {
        "scheduler": trainer.lr_scheduler.state_dict(),
        "kl_controller": trainer.kl_controller.state_dict(),
        "shape_scores": trainer.shape_scores.state_dict(),
    }
    if isinstance(trainer.refresher, Refresher):
        state["refresher"] = trainer.refresher.state_dict()
    return state


def _own_state(trainer: SeqGANPPOTrainer) -> dict[str, Any]:
    return {
        "random": _random_states(trainer.accelerator.device),
        "order": trainer.order.get_state(),
        "reward": dict(as_reward(trainer.reward).state_dict()),
        "batches": trainer.batches.state_dict(),
    }


def _rank_file(trainer: SeqGANPPOTrainer) -> str:
    return f"rank-{trainer.accelerator.process_index:05d}.pt"


def _trainer_state(trainer: SeqGANPPOTrainer) -> dict[str, Any]:
    """TrainerState and the callbacks that export a state, as transformers' own JSON has them."""
    state = dataclasses.asdict(trainer.state)
    exported: dict[str, list[dict]] = {}
    for part in _exporting(trainer):
        exported.setdefault(type(part).__name__, []).append(part.state())
    state["stateful_callbacks"] = {
        name: found[0] if len(found) == 1 else found for name, found in exported.items()
    }
    return state


def _exporting(trainer: SeqGANPPOTrainer) -> list[ExportableState]:
    parts = [*trainer.callback_handler.callbacks, trainer.control]
    return [part for part in parts if isinstance(part, ExportableState)]


# ---------------------------------------------------------------- reading


def begin_or_resume(trainer: SeqGANPPOTrainer, which: bool | str | Path | None) -> None:
    """Puts the trainer where the checkpoint was written; without one, sees that none is in the way.

    Args:
        which: True or "latest" for the newest complete checkpoint in `output_dir`, or a
            checkpoint's path; None for what the configuration says; False for a new run.

    Raises:
        UserError: no such checkpoint, a damaged one, one of another run, or settings that have
            changed and are not in `accept_changes`.
    """
    args, main = trainer.args, trainer.is_world_process_zero()
    wanted = args.resume_from_checkpoint if which is None else which
    run = Path(str(args.output_dir))
    if not wanted:
        together(partial(_refuse_checkpoints, run) if main else _nothing)
        return
    found = together(partial(choose, run, wanted) if main else _nothing)
    checkpoint = Path(broadcast_object_list([str(found)])[0])
    saved = json.loads((checkpoint / VALUES).read_text(encoding="utf-8"))
    known = {f.name for f in dataclasses.fields(args)}
    now, accepted = run_values(trainer), args.accept_changes or ()
    changed = together(
        partial(accepted_changes, saved["values"], now, accepted, known, str(checkpoint))
    )
    if saved["versions"] != versions():
        _note(f"{checkpoint}: was written by other versions of the stack, see {VALUES}")
    _load(trainer, checkpoint, changed)
    in_run = checkpoint.resolve().parent == (run / folders.CHECKPOINTS).resolve()
    if main:
        folders.sweep(run / folders.CHECKPOINTS)
        cut_back(run / SAMPLES, trainer.state.global_step)
    if main and in_run:
        folders.set_newer_aside(checkpoint)
    trainer.last_checkpoint = checkpoint if in_run else None


def choose(run: Path, wanted: bool | str | Path) -> Path:
    """The checkpoint that is meant, checked byte by byte; see `begin_or_resume`."""
    latest = wanted is True or str(wanted).lower() in ("latest", "true")
    found = folders.checkpoints_in(run)
    if not latest:
        checkpoint = Path(str(wanted))
        if not checkpoint.is_dir():
            raise UserError(f"resume_from_checkpoint {checkpoint}: there is no such folder.")
        if (told := folders.flaw(checkpoint)) is not None:
            raise UserError(
                f"resume_from_checkpoint {checkpoint}: {told}; give another one, or 'latest' for "
                "the newest that is complete."
            )
        newer = [f for f in found if folders.update_of(f) > folders.update_of(checkpoint)]
        whole = next((f for f in reversed(newer) if folders.flaw(f) is None), None)
        if whole is not None:
            raise UserError(
                f"resume_from_checkpoint {checkpoint}: {whole} is newer, and a run that went "
                "back would write over what led to it; remove what is newer first, or give "
                "another output_dir."
            )
        return checkpoint
    for checkpoint in reversed(found):
        if (told := folders.flaw(checkpoint)) is None:
            return checkpoint
        _note(f"{checkpoint} is left out: it {told}")
    raise UserError(
        f"resume_from_checkpoint: {run} holds no complete checkpoint; a run that was stopped before"
        " its first one has to start again, in a new folder or after this one is removed."
    )


def _note(text: str) -> None:
    console.print(text, style="bold", markup=False, soft_wrap=True)


def _refuse_checkpoints(run: Path) -> None:
    if folders.checkpoints_in(run):
        raise UserError(
            f"output_dir {run}: holds the checkpoints of a run; go on with "
            'resume_from_checkpoint="latest", or give another folder.'
        )


def _load(trainer: SeqGANPPOTrainer, checkpoint: Path, changed: set[str]) -> None:
    """Takes up everything; the random generators last, since the rest draws from them."""
    optimizer = trainer.optimizer
    own = [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups]
    with _policy_by_its_own_names(trainer):
        trainer.accelerator.load_state(str(checkpoint))
    shared = _read(checkpoint / SHARED)
    if changed & set(_OPTIMIZER.split()):
        for group, values in zip(optimizer.param_groups, own, strict=True):
            group.update(values)
        shared["scheduler"] |= {"base_lrs": trainer.lr_scheduler.base_lrs}
    trainer.lr_scheduler.load_state_dict(shared["scheduler"])
    if changed & set(_OPTIMIZER.split()):  # the rate of this update by the new schedule
        trainer.lr_scheduler.last_epoch -= 1
        trainer.lr_scheduler.step()
    trainer.kl_controller.load_state_dict(shared["kl_controller"])
    trainer.shape_scores.load_state_dict(shared["shape_scores"])
    if isinstance(trainer.refresher, Refresher) and "refresher" in shared:
        trainer.refresher.load_state_dict(shared["refresher"])
    _load_trainer_state(trainer, checkpoint, changed)
    if not (checkpoint / _rank_file(trainer)).is_file():
        return  # one process more than before, which was accepted: it begins with its own seed
    mine = _read(checkpoint / _rank_file(trainer))
    trainer.order.set_state(mine["order"])
    if "reward" not in changed:
        as_reward(trainer.reward).load_state_dict(mine["reward"])
    if not changed & set(_BATCHES.split()):
        trainer.batches.load_state_dict(mine["batches"])
    _set_random_states(mine["random"], trainer.accelerator.device)


def _read(path: Path) -> dict[str, Any]:
    return torch.load(path, map_location="cpu", weights_only=True)


def _load_trainer_state(trainer: SeqGANPPOTrainer, checkpoint: Path, changed: set[str]) -> None:
    saved = json.loads((checkpoint / STATE).read_text(encoding="utf-8"))
    exported = saved.pop("stateful_callbacks")
    now = trainer.state  # what this session's configuration says of steps stays
    kept = {*_RANKS, "max_steps", "num_train_epochs", "logging_steps", "eval_steps", "save_steps"}
    for name in saved.keys() - kept:
        setattr(now, name, saved[name])
    own_best = Path(str(trainer.args.output_dir)) / BEST
    if now.best_model_checkpoint is not None and own_best.is_dir():  # the run may have been moved
        now.best_model_checkpoint = str(own_best)
    for name, states in exported.items():
        mine = [part for part in _exporting(trainer) if type(part).__name__ == name]
        for part, state in zip(mine, states if isinstance(states, list) else [states], strict=True):
            # Of a callback its course, not its arguments, which the script gives; of the control
            # flags, which are all arguments, whether a callback had ended the run.
            for key, value in state["attributes"].items():
                setattr(part, key, value)
    ended = exported["TrainerControl"]["args"]["should_training_stop"]
    longer = changed & {*_OPTIMIZER.split(), *_BATCHES.split()}
    trainer.control.should_training_stop = ended and not longer


# ---------------------------------------------------------------- policy and random generators


@contextmanager
def _policy_by_its_own_names(trainer: SeqGANPPOTrainer) -> Iterator[None]:
    """Inside, `save_state` and `load_state` keep the unwrapped policy's trained tensors alone.

    So a checkpoint does not tell DDP from one process, and of adapters it holds no base model.
    Where DeepSpeed or FSDP shard the policy they do all themselves: the lists are empty.
    """

    def save(models: list[nn.Module], weights: list[dict], folder: str) -> None:
        if weights and trainer.is_world_process_zero():
            save_file(_trained(trainer.policy), Path(folder) / POLICY)
        weights.clear()

    def load(models: list[nn.Module], folder: str) -> None:
        if models:
            own, saved = _trained(trainer.policy), load_file(Path(folder) / POLICY)
            if own.keys() != saved.keys():
                raise UserError(f"{folder}: holds another kind of model than this run trains.")
            with torch.no_grad():
                for name, tensor in own.items():
                    tensor.copy_(saved[name])
        models.clear()

    accelerator = trainer.accelerator
    hooks = (
        accelerator.register_save_state_pre_hook(save),
        accelerator.register_load_state_pre_hook(load),
    )
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _trained(policy: nn.Module) -> dict[str, torch.Tensor]:
    """Parameters that take gradients, tied ones once, and buffers that belong to the state."""
    tensors = {name: p.data for name, p in policy.named_parameters() if p.requires_grad}
    persistent = policy.state_dict().keys()
    return tensors | {name: b for name, b in policy.named_buffers() if name in persistent}


def _random_states(device: torch.device) -> dict[str, Any]:
    """Of every generator that is global to this process."""
    kind, keys, *position = np.random.get_state(legacy=True)
    states: dict[str, Any] = {
        "python": random.getstate(),
        "numpy": [kind, torch.from_numpy(np.asarray(keys, dtype=np.int64)), *position],
        "torch": torch.get_rng_state(),
    }
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def _set_random_states(states: dict[str, Any], device: torch.device) -> None:
    random.setstate(states["python"])
    kind, keys, *position = states["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *position))
    torch.set_rng_state(states["torch"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)
