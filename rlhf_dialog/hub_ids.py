"""Does a setting name something on the Hub, or a folder or file?"""

from __future__ import annotations

from pathlib import Path

from huggingface_hub.utils import validate_repo_id

_LOCAL = (".jsonl", ".json", ".txt", ".csv", ".tsv", ".safetensors", ".parquet", ".yaml", ".py")


def is_hub_id(source: str | None) -> bool:
    """Whether a setting names something on the Hub; what exists here is a folder or file."""
    if not source or Path(source).exists() or source.endswith(_LOCAL) or source[0] in "./~":
        return False
    try:
        validate_repo_id(source)
    except ValueError:
        return False
    return source.split("/")[0] not in ("runs", "data", "models", "checkpoints")
