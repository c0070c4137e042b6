"""Metrics as Spaces: `evaluate.load("OWNER/distinct_n")` works without this package.

A module of `evaluation/metrics` is copied with the few modules it imports, side by side, and its
imports are made relative, which is what `evaluate` can download.
"""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

from rlhf_dialog.evaluation.metrics import FOLDER

# These run models, for which they need the package itself.
WITH_MODELS = ("conditional_perplexity", "discriminator_score")
NAMES = tuple(
    sorted(
        path.name
        for path in FOLDER.iterdir()
        if (path / f"{path.name}.py").is_file() and path.name not in WITH_MODELS
    )
)
_OWN = re.compile(r"^from rlhf_dialog((?:\.\w+)+) import (\w+|\()", re.MULTILINE)
_LIBRARIES = ("sacrebleu", "nltk", "regex", "numpy", "scikit-learn", "scipy")

_APP = """import evaluate
from evaluate.utils import launch_gradio_widget

launch_gradio_widget(evaluate.load("{repo}"))
"""


def write_space(name: str, repo: str, folder: Path) -> None:
    """The files of metric `name` as a Space."""
    modules = _closure(name)
    for module, source in modules.items():
        (folder / f"{module}.py").write_text(_relative(source, repo), encoding="utf-8")
    main = folder / f"{name}.py"
    # `evaluate` downloads what this file imports, and not what those files import in turn.
    others = "".join(
        f"from .{module} import __name__ as _\n" for module in modules if module != name
    )
    main.write_text(_after_imports(main.read_text(encoding="utf-8"), others), encoding="utf-8")
    card = (FOLDER / name / "README.md").read_text(encoding="utf-8")
    card = card.replace("---\n", "---\nsdk: gradio\napp_file: app.py\npinned: false\n", 1)
    (folder / "README.md").write_text(_renamed(card, repo), encoding="utf-8")
    (folder / "app.py").write_text(_APP.format(repo=repo), encoding="utf-8")
    used = [
        library
        for library in _LIBRARIES
        if any(
            re.search(
                rf"^(?:from|import) {library.replace('scikit-learn', 'sklearn')}\b", text, re.M
            )
            for text in modules.values()
        )
    ]
    requirements = ["evaluate>=0.4.6", "datasets>=4.0", *used]
    (folder / "requirements.txt").write_text("\n".join(requirements) + "\n", encoding="utf-8")


def _closure(name: str) -> dict[str, str]:
    """Sources by last part of their names: the metric's, and those of this package it needs."""
    found: dict[str, str] = {}
    waiting = [f"rlhf_dialog.evaluation.metrics.{name}.{name}"]
    while waiting:
        module = waiting.pop()
        short = module.rsplit(".", 1)[-1]
        if short in found:
            continue
        found[short] = _source(module)
        waiting += [_module(match) for match in _OWN.finditer(found[short])]
    return found


def _module(match: re.Match) -> str:
    """The module an import names; `from package import module` names a module too."""
    package = f"rlhf_dialog{match[1]}"
    spec = find_spec(package)
    inner = (
        spec is not None and spec.submodule_search_locations and find_spec(f"{package}.{match[2]}")
    )
    return f"{package}.{match[2]}" if inner else package


def _source(module: str) -> str:
    spec = find_spec(module)
    assert spec is not None and spec.origin is not None, module
    return Path(spec.origin).read_text(encoding="utf-8")


def _relative(source: str, repo: str) -> str:
    def one(match: re.Match) -> str:
        module = _module(match)
        short = module.rsplit(".", 1)[-1]
        whole = module == f"rlhf_dialog{match[1]}"
        return f"from .{short} import {match[2]}" if whole else f"from . import {match[2]}"

    return _renamed(_OWN.sub(one, source), repo)


def _renamed(text: str, repo: str) -> str:
    return text.replace(f"rlhf_dialog/evaluation/metrics/{repo.split('/')[-1]}", repo)


def _after_imports(source: str, lines: str) -> str:
    """`lines` behind the last import of `source` that begins a line."""
    *_, last = re.finditer(r"^from \.\w* import (?:\([^)]*\)|[^\n]*)\n", source, re.MULTILINE)
    return source[: last.end()] + lines + source[last.end() :]
