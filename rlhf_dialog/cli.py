"""`rlhf-dialog COMMAND`: the recipes by name, those that train through Accelerate.

    rlhf-dialog seqgan-ppo --accelerate_config multi_cpu --config my.yaml
    rlhf-dialog push --run runs/barney --dry_run

A command hands everything else to its recipe, so a recipe's flags, defaults and refusals are the
command's. This file imports nothing heavy: what can be told at once is told at once.
"""

from __future__ import annotations

import difflib
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn

from rlhf_dialog.errors import UserError
from rlhf_dialog.shipped import ACCELERATE_CONFIGS, RECIPES, SOURCE_ROOT

FLAG = "--accelerate_config"
DEFAULT_LAUNCH = "single_process"
SHELLS = ("bash", "zsh", "fish")


class Command(NamedTuple):
    recipe: str
    summary: str
    trains: bool = False  # launched by Accelerate


COMMANDS = {
    "seqgan-ppo": Command("seqgan_ppo.py", "the main job, from a script to a tuned model", True),
    "warm-start": Command("warm_start.py", "the supervised stage on its own", True),
    "train-discriminator": Command("train_discriminator.py", "the reward model on its own", True),
    "train-style": Command("train_style.py", "a discriminator of one style of several", True),
    "evaluate-reward": Command("evaluate_reward.py", "a reward model on labelled replies"),
    "evaluate-dialog": Command("evaluate_dialog.py", "a generator before and after tuning"),
    "chat": Command("chat.py", "talk to a generator"),
    "generate": Command("generate.py", "replies to a file of contexts"),
    "push": Command("push_to_hub.py", "a finished run to the Hugging Face Hub"),
    "report": Command("report.py", "the report of one or more runs"),
    "data inspect": Command("inspect_data.py", "what is in a file of dialogues, and what is wrong"),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """The entry point of the command line; exits with the status of what it ran, 2 on a mistake."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if not given or given[0] in ("-h", "--help"):
            print(overview())
        elif given[0] == "--version":
            from importlib.metadata import version

            print(f"rlhf_dialog {version('rlhf_dialog')}")
        elif given[0] == "completion":
            shell = _shell(given[1:])
            print("Asking every command for its flags takes half a minute.", file=sys.stderr)
            print(completion(shell, {name: flags_of(name) for name in COMMANDS}))
        else:
            name, rest = _command(given)
            if COMMANDS[name].trains and {"-h", "--help"} & set(rest):
                print(f"{FLAG} NAME: how to launch, default {DEFAULT_LAUNCH}\n")
            _become(command_line(name, rest), _environment(rest))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None


def overview() -> str:
    """The text of `--help`."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {command.summary}" for name, command in COMMANDS.items()]
    configs = ", ".join(sorted(_configs()))
    return "\n".join(
        [
            "usage: rlhf-dialog COMMAND [--accelerate_config NAME] [flags of the command]",
            "",
            *lines,
            f"  {'completion':<{width}}  completion for a shell: {', '.join(SHELLS)}",
            "",
            "`rlhf-dialog COMMAND --help` lists its flags, with units and defaults.",
            f"{FLAG} (for commands that train; default {DEFAULT_LAUNCH}): {configs},",
            "or the path of a file that `accelerate config` wrote.",
        ]
    )


def command_line(name: str, rest: Sequence[str]) -> list[str]:
    """The process that runs a command.

    Raises:
        UserError: an accelerate configuration that is not there, or for a command without one.
    """
    command = COMMANDS[name]
    config, flags = _accelerate_config(rest)
    recipe = str(RECIPES / command.recipe)
    if config is not None and not command.trains:
        raise UserError(f"{FLAG}: {name} runs in one process; leave it out.")
    if not command.trains or {"-h", "--help"} & set(flags):
        return [sys.executable, recipe, *flags]
    launch = ["-m", "accelerate.commands.launch", "--quiet", "--config_file"]
    return [sys.executable, *launch, str(_config_file(config or DEFAULT_LAUNCH)), recipe, *flags]


def _command(given: list[str]) -> tuple[str, list[str]]:
    for words in (2, 1):
        name = " ".join(given[:words])
        if name in COMMANDS:
            return name, given[words:]
    if given[0] == "data":
        raise UserError(
            "data: is followed by what to do; there is `rlhf-dialog data inspect FILE`."
        )
    raise UserError(f"{given[0]!r} is no command; {_closest(given[0], COMMANDS)}")


def _accelerate_config(rest: Sequence[str]) -> tuple[str | None, list[str]]:
    """The value of the flag, in either spelling of a flag's value, and the other arguments."""
    flags, value = [], None
    waiting = iter(rest)
    for argument in waiting:
        if argument.replace("-", "_").lstrip("_").split("=")[0] != FLAG.lstrip("-"):
            flags.append(argument)
            continue
        value = argument.partition("=")[2] or next(waiting, "")
        if not value or value.startswith("--"):
            raise UserError(f"{FLAG}: give one of {', '.join(sorted(_configs()))}, or a path.")
    return value, flags


def _configs() -> dict[str, Path]:
    return {path.stem: path for path in ACCELERATE_CONFIGS.glob("*.yaml")}


def _config_file(name: str) -> Path:
    known = _configs()
    if name in known:
        return known[name]
    if Path(name).is_file():
        return Path(name)
    raise UserError(f"{FLAG} {name}: is neither a file nor known; {_closest(name, known)}")


def _closest(word: str, known: Mapping[str, object]) -> str:
    match = difflib.get_close_matches(word, known, n=1)
    hint = f"did you mean {match[0]!r}? " if match else ""
    return f"{hint}choose one of {', '.join(sorted(known))}."


def _environment(rest: Sequence[str]) -> dict[str, str]:
    environment = dict(os.environ)
    config = _accelerate_config(rest)[0]
    if config is not None and "cpu" in Path(config).stem:  # see accelerate_configs/multi_cpu.yaml
        environment.setdefault("ACCELERATE_USE_CPU", "true")
    if SOURCE_ROOT is not None:  # a checkout that may not be installed
        paths = [str(SOURCE_ROOT), *filter(None, [environment.get("PYTHONPATH")])]
        environment["PYTHONPATH"] = os.pathsep.join(paths)
    return environment


def _become(command: list[str], environment: dict[str, str]) -> NoReturn:
    """Runs the command in this process's place, so that signals and the exit status are its own."""
    sys.stdout.flush()
    if os.name == "posix":
        os.execve(command[0], command, environment)
    raise SystemExit(subprocess.call(command, env=environment))


# ---------------------------------------------------------------- completion


def _shell(rest: Sequence[str]) -> str:
    if len(rest) != 1 or rest[0] not in SHELLS:
        raise UserError(f"completion: give one of {', '.join(SHELLS)}.")
    return rest[0]


def flags_of(name: str) -> list[str]:
    """The flags that a command's own --help names; asked for once, when completion is set up."""
    command = command_line(name, ["--help"])
    told = subprocess.run(command, env=_environment([]), capture_output=True, text=True).stdout
    flags = set(re.findall(r"(?<![\w-])--[A-Za-z][\w-]*", told)) | {"--help"}
    return sorted(flags | ({FLAG} if COMMANDS[name].trains else set()))


def completion(shell: str, flags: Mapping[str, Sequence[str]]) -> str:
    """A script for `source`: commands, their flags, names of configurations, else files."""
    words = sorted({name.split()[0] for name in COMMANDS} | {"completion"})
    if shell == "fish":
        lines = ["complete -c rlhf-dialog -n __fish_use_subcommand -f -a '" + " ".join(words) + "'"]
        for name, known in flags.items():
            seen = f"__fish_seen_subcommand_from {name.split()[0]}"
            long = " ".join(f"-l {flag[2:]}" for flag in known)
            lines += [
                f"complete -c rlhf-dialog -n '{seen}' {part}"
                for part in re.findall(r"-l \S+", long)
            ]
        return "\n".join(lines)
    cases = "\n".join(
        f'    "{name.split()[0]}") known="{" ".join(known)}" ;;' for name, known in flags.items()
    )
    load = "autoload -U +X bashcompinit && bashcompinit\n" if shell == "zsh" else ""
    return f"""{load}_rlhf_dialog() {{
  local word="${{COMP_WORDS[COMP_CWORD]}}" before="${{COMP_WORDS[COMP_CWORD-1]}}" known=""
  case "${{COMP_WORDS[1]}}" in
{cases}
    completion) known="{" ".join(SHELLS)}" ;;
  esac
  if [ "$COMP_CWORD" -eq 1 ]; then known="{" ".join(words)}"; fi
  if [ "$before" = data ]; then known="inspect"; fi
  if [ "$before" = {FLAG} ]; then known="{" ".join(sorted(_configs()))}"; fi
  COMPREPLY=($(compgen -W "$known" -- "$word"))
}}
complete -o default -F _rlhf_dialog rlhf-dialog"""


if __name__ == "__main__":
    main()
