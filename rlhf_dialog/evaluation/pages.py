"""What every report page needs: safe templates, finite numbers, files that are whole or absent."""

import json
import os
import re
from math import isfinite
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape


def page_environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("rlhf_dialog.evaluation"),
        autoescape=select_autoescape(enabled_extensions=("html.jinja",)),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["md"] = markdown_escaped
    return environment


def markdown_escaped(text: str) -> str:
    """Text for one table cell of Markdown: on one line, every active character escaped."""
    return re.sub(r"([\\`*_{}\[\]<>|#~&$])", r"\\\1", " ".join(text.split()))


def refuse_non_finite(value: Any, where: str) -> None:
    if isinstance(value, float) and not isfinite(value):
        raise ValueError(
            f"{where} is {value}, which JSON cannot hold; find the evaluation step that made it, "
            "or leave the field out."
        )
    if isinstance(value, dict):
        for key, inner in value.items():
            refuse_non_finite(inner, f"{where}[{key!r}]")
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            refuse_non_finite(inner, f"{where}[{index}]")


def write_atomically(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_pages(folder: Path, name: str, report: dict[str, Any], view: dict[str, Any]) -> Path:
    """NAME.md and NAME.html of the templates of that name, then NAME.json, which is `report`; each
    is complete or absent. Returns the path of the page."""
    templates = page_environment()
    for kind in ("md", "html"):
        text = templates.get_template(f"{name}.{kind}.jinja").render(view)
        write_atomically(folder / f"{name}.{kind}", text)
    text = json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False)
    write_atomically(folder / f"{name}.json", text + "\n")
    return folder / f"{name}.html"
