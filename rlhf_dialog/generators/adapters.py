"""Adapters (LoRA and its kind): saved beside the name of their base, opened again, merged.

An adapter folder holds a few small weights and the name of the model that they belong to. What the
name means may have changed since, and a base that was trained further in memory never had one: the
folder keeps a fingerprint of the base, and opening it on another one is refused.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

import torch
from huggingface_hub import _CACHED_NO_EXIST, snapshot_download, try_to_load_from_cache
from transformers import PreTrainedModel

from rlhf_dialog.errors import UserError, cannot_load

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
BASE = "adapter_base.json"  # the base's fingerprint, beside PEFT's own files
_SAMPLED = 64  # elements of each tensor that a fingerprint looks at


def is_adapter_folder(name_or_path: str) -> bool:
    """Whether a folder holds adapters, and no model of its own."""
    folder = Path(name_or_path)
    return (folder / CONFIG).is_file() and not (folder / "config.json").is_file()


def adapters_of_hub(name: str) -> str | None:
    """The folder of downloaded adapters, where a Hub id names adapters; None where it does not.

    To be asked once the id was refused as a model: the cache knows by then whether the repository
    has a model, so that a network that has just failed is not tried again for other files.

    Raises:
        UserError: the adapters are there and cannot be downloaded.
    """
    try:
        known, model = (try_to_load_from_cache(name, file) for file in (CONFIG, "config.json"))
    except ValueError:  # no Hub id
        return None
    no_model = model is _CACHED_NO_EXIST
    if Path(name).exists() or isinstance(model, str) or not (isinstance(known, str) or no_model):
        return None
    try:
        found = Path(snapshot_download(name, allow_patterns=[CONFIG, BASE, WEIGHTS]))
    except Exception as failure:  # the network went, no room on the disk, ...
        raise cannot_load("generator", name, failure) from failure
    if not (found / CONFIG).is_file():
        return None
    if not (found / WEIGHTS).is_file():  # adapters as a pickle, or half a cache
        raise cannot_load("generator", name, FileNotFoundError(f"it has no {WEIGHTS}"))
    return str(found)


def has_adapters(model: PreTrainedModel) -> bool:
    """Whether the model is a PEFT model."""
    return hasattr(model, "merge_and_unload")


def base_of(folder: str) -> str:
    """The Hub id or folder of the model that an adapter folder belongs to.

    Raises:
        UserError: it names none, or one whose folder is gone.
    """
    try:
        base = json.loads((Path(folder) / CONFIG).read_text(encoding="utf-8"))
        name = base.get("base_model_name_or_path") or ""
    except (ValueError, OSError, AttributeError) as error:
        raise cannot_load("generator", folder, error) from error
    if not name:
        raise UserError(
            f"--generator {folder}: holds adapters that name no base model; write its id or folder "
            f"as base_model_name_or_path into {CONFIG}, or save with merge_adapters: true."
        )
    if name.startswith(("/", ".")) and not Path(name).is_dir():
        raise UserError(
            f"--generator {folder}: holds adapters of {name}, which is not there; bring it back, "
            f"or write its new place as base_model_name_or_path into {CONFIG}."
        )
    return name


def with_adapters(base: PreTrainedModel, folder: str) -> PreTrainedModel:
    """The base model with the folder's adapters merged into its weights.

    Raises:
        UserError: PEFT is not installed, or the adapters belong to other weights.
    """
    try:
        from peft import PeftModel  # an optional dependency
    except ImportError as error:
        raise UserError(
            f"--generator {folder}: holds adapters, for which PEFT is needed; install it with "
            "pip install peft."
        ) from error
    told = Path(folder) / BASE
    known = json.loads(told.read_text(encoding="utf-8")) if told.is_file() else {}
    if known.get("fingerprint", own := weights_fingerprint(base_weights(base))) != own:
        raise UserError(
            f"--generator {folder}: its adapters were trained on other weights than those of "
            f"{base_of(folder)} (a base that was trained further, perhaps); give that base, or "
            "save with merge_adapters: true."
        )
    try:
        return PeftModel.from_pretrained(base, folder).merge_and_unload()
    except Exception as error:  # other shapes, a damaged file, ...
        raise cannot_load("generator", folder, error) from error


def save_adapters(model: PreTrainedModel, folder: Path, *, merge: bool) -> None:
    """Writes a PEFT model: its adapters and the name of their base, or one whole plain model."""
    if merge:
        copy.deepcopy(model).merge_and_unload().save_pretrained(folder)
        return
    model.save_pretrained(folder)
    text = json.dumps({"fingerprint": weights_fingerprint(base_weights(model))}, indent=2)
    (folder / BASE).write_text(text + "\n", encoding="utf-8")


def base_weights(model: PreTrainedModel) -> Iterable[tuple[str, torch.Tensor]]:
    """Names and weights of a model without its adapters, named as without them."""
    for name, parameter in model.named_parameters():
        if not has_adapters(model):
            yield name, parameter
        elif not any(f".{adapter}" in name for adapter in model.peft_config):
            name = name.removeprefix("base_model.model.")
            yield name.replace(".base_layer.", ".").replace(".original_module.", "."), parameter


def weights_fingerprint(weights: Iterable[tuple[str, torch.Tensor]]) -> str:
    """A digest of weights: names, shapes and some elements of each."""
    digest = hashlib.sha256()
    for name, parameter in weights:
        flat = parameter.detach().flatten()
        some = flat[:: max(1, flat.numel() // _SAMPLED)].float().cpu()
        digest.update(f"{name} {tuple(parameter.shape)}".encode())
        digest.update(some.contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:12]
