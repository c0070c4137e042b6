"""A recipe's values: defaults, then the YAML file, then the command line."""

from __future__ import annotations

import dataclasses
import difflib
import math
import sys
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, get_type_hints

import yaml
from trl import TrlParser

from rlhf_dialog.errors import UserError
from rlhf_dialog.ppo.config import SeqGANPPOConfig
from rlhf_dialog.settings import (
    DialogueSettings,
    DiscriminatorSettings,
    EvaluationSettings,
    GeneratorSettings,
)
from rlhf_dialog.shipped import RECIPES, config_file


class RunSettings(NamedTuple):
    """Every value of a run. All recipes take all of them, so one file serves them all."""

    dialogues: DialogueSettings
    generator: GeneratorSettings
    discriminator: DiscriminatorSettings
    evaluation: EvaluationSettings
    ppo: SeqGANPPOConfig


def parse_run(default_config: Path, arguments: Sequence[str] | None = None) -> RunSettings:
    """The settings of a recipe; see `parse`."""
    kinds = (
        DialogueSettings,
        GeneratorSettings,
        DiscriminatorSettings,
        EvaluationSettings,
        SeqGANPPOConfig,
    )
    settings = RunSettings(*parse(kinds, default_config=default_config, arguments=arguments))
    for name, value in (("temperature", 1), ("top_k", 0), ("top_p", 1), ("stop_token_id", None)):
        # Fakes, judging and the test sample at these; a policy tuned under others would be
        # measured on a distribution it was not trained on.
        if getattr(settings.ppo, name) != value:
            raise UserError(
                f"{name}: {getattr(settings.ppo, name)}, but recipes sample with {value}."
            )
    return settings


def parse(
    dataclass_types: Sequence[type],
    *,
    default_config: Path | None,
    arguments: Sequence[str] | None = None,
) -> tuple[Any, ...]:
    """One filled dataclass per type, by TRL's parser.

    Args:
        dataclass_types: the settings of the recipe.
        default_config: the YAML file that is read when no ``--config`` is given.
        arguments: a command line; by default the process's own.

    Raises:
        UserError: a file that is missing or no YAML mapping, a key that no setting has, or a value
            of a wrong type.
    """
    arguments = [
        part
        for argument in (sys.argv[1:] if arguments is None else arguments)
        for part in (argument.split("=", 1) if argument.startswith("--config=") else [argument])
    ]
    # Not `field.type`, which the parser narrows in place when it has run once.
    hints: dict[str, Any] = {}
    for kind in dataclass_types:
        types = get_type_hints(kind)
        hints |= {f.name: types[f.name] for f in dataclasses.fields(kind) if f.init}
    _check_flags(arguments, set(hints))
    if arguments.count("--config") > 1:
        raise UserError("--config: is given twice; merge the two files into one.")
    if "--config" not in arguments and default_config is not None:
        arguments += ["--config", str(default_config)]
    if "--config" in arguments:
        _check_file(arguments, hints)
    parser = _TypedParser(
        list(dataclass_types),
        description="--config FILE: a YAML file of any of these values (one `name: value` a line); "
        "what is given on the command line wins.",
    )
    parser.error = _refuse  # its own prints the usage of some 200 flags before the one sentence
    try:
        settings = parser.parse_args_and_config(arguments)
        _refuse_infinite(settings)
        return settings
    except ValueError as error:
        if isinstance(error, UserError):
            raise
        raise UserError(str(error).strip().splitlines()[0]) from error


class _TypedParser(TrlParser):
    """TRL's parser takes values of a YAML file as they are; here they pass the same type checks as
    the command line's, which argparse applies to defaults that are strings, and its choices."""

    def set_defaults_with_config(self, **values: Any) -> list[str]:
        scalars = (int, float, bool, date)
        typed = {k: str(v) if isinstance(v, scalars) else v for k, v in values.items()}
        for action in self._actions:
            value = typed.get(action.dest)
            if action.choices and value is not None and value not in map(str, action.choices):
                known = ", ".join(map(str, action.choices))
                raise UserError(f"{action.dest}: {value!r} is not one of {known}.")
        return super().set_defaults_with_config(**typed)


class _UniqueKeys(yaml.SafeLoader):
    """YAML lets a later line overrule an earlier one in silence."""

    def construct_mapping(self, node, deep=False):
        seen = set()
        for key, _ in node.value:
            name = str(key.value)
            if name in seen:
                line = key.start_mark.line + 1
                raise yaml.YAMLError(f"line {line}: the key {name!r} stands there twice")
            seen.add(name)
        return super().construct_mapping(node, deep)


def _refuse_infinite(settings: Sequence[Any]) -> None:
    for group in settings:
        for f in dataclasses.fields(group):
            value = getattr(group, f.name)
            if isinstance(value, float) and not math.isfinite(value):
                raise UserError(f"{f.name}: {value} is no finite number.")


def _refuse(message: str) -> NoReturn:
    raise UserError(message)


def _check_flags(arguments: list[str], known: set[str]) -> None:
    for argument in arguments:
        if argument.startswith("--"):
            name = argument[2:].split("=", 1)[0].replace("-", "_")
            if name.removeprefix("no_") not in known | {"config", "help"} and name not in known:
                raise UserError(f"--{name}: is not known; {_closest(name, known)}")


def _check_file(arguments: list[str], hints: dict[str, Any]) -> None:
    known = set(hints)
    place = arguments.index("--config") + 1
    if place >= len(arguments):
        raise UserError("--config: give the path of a YAML file after it.")
    arguments[place] = config_file(arguments[place])
    path = Path(arguments[place])
    if not path.is_file():
        raise UserError(f"--config {path}: there is no such file; {_shipped()} are shipped.")
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), _UniqueKeys)
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"--config {path}: cannot be read as YAML ({reason}).") from error
    if not isinstance(values, dict):
        raise UserError(f"--config {path}: must hold a mapping, one `key: value` a line.")
    for key in values:
        if key not in known | {"env"}:
            close = _closest(str(key), known)
            raise UserError(f"--config {path}: field {key!r} is not known; {close}")
        hint = str(hints.get(key, "dict")).replace("Optional", "None")
        for value_type, word in ((type(None), "None"), (list, "list"), (dict, "dict")):
            if isinstance(values[key], value_type) and word not in hint:
                raise UserError(f"--config {path}: field {key!r} must not be {values[key]!r}.")
        if "list[str]" in hint and isinstance(values[key], list):
            for entry in values[key]:
                if not isinstance(entry, str):
                    raise UserError(
                        f"--config {path}: field {key!r} must hold texts, and {entry!r} is none."
                    )


def _shipped() -> str:
    return ", ".join(sorted(path.stem for path in (RECIPES / "configs").glob("*.yaml")))


def _closest(key: str, known: set[str]) -> str:
    match = difflib.get_close_matches(key, known, n=1)
    return f"did you mean {match[0]!r}?" if match else "see the recipe's --help for all fields."
