"""Where the recipes, launch configurations and the demo's script lie.

In a checkout they stand beside the package, in a wheel inside it (pyproject.toml puts them there).
"""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).parent
_checkout = (_PACKAGE.parent / "recipes" / "seqgan_ppo.py").is_file()

SOURCE_ROOT = _PACKAGE.parent if _checkout else None
RECIPES = _PACKAGE.parent / "recipes" if _checkout else _PACKAGE / "_recipes"
ACCELERATE_CONFIGS = RECIPES.parent / ("accelerate_configs" if _checkout else "_accelerate_configs")
DEMO_SCRIPT = "data/tidy_tide.jsonl"


def demo_script(path: str) -> str:
    """`path`; where it is the demo's and not in this directory, the shipped copy's."""
    shipped = RECIPES.parent / ("data" if _checkout else "_data") / "tidy_tide.jsonl"
    return str(shipped) if path == DEMO_SCRIPT and not Path(path).exists() else path


def config_file(name: str) -> str:
    """`name`; where there is no such file, the shipped configuration of that name, with or without
    the folder and suffix it has in a checkout."""
    path = Path(name)
    shipped = RECIPES / "configs" / f"{path.stem}.yaml"
    plain = path.parent in (Path("."), Path("recipes/configs")) and path.suffix in ("", ".yaml")
    return str(shipped) if plain and not path.exists() and shipped.is_file() else name
