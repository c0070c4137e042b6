"""The command `rlhf-dialog`: what it runs, what it refuses, how it completes."""

import json
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from rlhf_dialog import cli, shipped
from rlhf_dialog.errors import UserError

ROOT = Path(__file__).parents[1]


def run(*arguments, **more):
    command = [sys.executable, "-m", "rlhf_dialog.cli", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, **more)


def refused(*arguments, status=2):
    process = run(*arguments)
    lines = process.stderr.strip().splitlines()
    assert process.returncode == status and len(lines) == 1, process.stderr
    return lines[0]


def test_every_recipe_has_a_command():
    recipes = {path.name for path in (ROOT / "recipes").glob("*.py")}
    assert {command.recipe for command in cli.COMMANDS.values()} == recipes


def test_help_at_once():
    told = run("--help").stdout
    assert told == run().stdout
    for name, command in cli.COMMANDS.items():
        assert name in told and command.summary in told
    for path in (ROOT / "accelerate_configs").glob("*.yaml"):
        assert path.stem in told


def test_what_is_launched(capsys):
    recipe = str(ROOT / "recipes/seqgan_ppo.py")
    line = cli.command_line("seqgan-ppo", ["--max_steps", "3", "--accelerate_config", "multi_cpu"])
    assert line[1:] == [
        *("-m", "accelerate.commands.launch", "--quiet", "--config_file"),
        str(ROOT / "accelerate_configs/multi_cpu.yaml"),
        *(recipe, "--max_steps", "3"),
    ]
    assert str(ROOT / "accelerate_configs/single_process.yaml") in cli.command_line(
        "warm-start", []
    )
    assert cli.command_line("warm-start", ["--help"])[1:] == [
        str(ROOT / "recipes/warm_start.py"),
        "--help",
    ]
    assert capsys.readouterr().out == ""  # completion is made of what commands print
    assert cli.command_line("push", ["--run", "x"])[1:] == [
        str(ROOT / "recipes/push_to_hub.py"),
        *("--run", "x"),
    ]
    own = str(ROOT / "accelerate_configs/single_process.yaml")
    assert own in cli.command_line("seqgan-ppo", [f"--accelerate-config={own}"])


def test_processes_meet_on_a_machine_without_gpus(monkeypatch):
    monkeypatch.delenv("ACCELERATE_USE_CPU", raising=False)
    assert cli._environment(["--accelerate_config", "multi_cpu"])["ACCELERATE_USE_CPU"] == "true"
    assert "ACCELERATE_USE_CPU" not in cli._environment([])


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["seqgn-ppo"], "did you mean 'seqgan-ppo'"),
        (["seqgan-ppo", "--accelerate_config", "multi_cpus"], "did you mean 'multi_cpu'"),
        (["seqgan-ppo", "--accelerate_config"], "--accelerate_config: give one of"),
        (["push", "--accelerate_config", "multi_cpu"], "push runs in one process"),
        (["data"], "rlhf-dialog data inspect FILE"),
        (["completion", "tcsh"], "bash, zsh, fish"),
        (["data", "inspect", "no_such_file.jsonl"], "no_such_file.jsonl"),
    ],
)
def test_a_mistake_is_told_in_one_sentence(arguments, told):
    assert told in refused(*arguments)


def test_a_mistake_in_a_launched_recipe_comes_through_as_it_is():
    """Neither Accelerate, whose status is 1, nor the command adds to the sentence."""
    told = refused("warm-start", "--max_stepz", "3", status=1)
    assert "--max_stepz: is not known; did you mean" in told


def test_a_command_does_what_its_recipe_does(tmp_path):
    lines = (ROOT / "data/tidy_tide.jsonl").read_text().splitlines()[:2]
    file = tmp_path / "two.jsonl"
    file.write_text("\n".join(lines))
    told = run("data", "inspect", file)
    assert told.returncode == 0 and "dialogues" in told.stdout and "PLUME" in told.stdout
    file.write_text(json.dumps({"turns": []}))
    assert run("data", "inspect", file).returncode != 0


def test_flags_are_those_of_the_recipes_help():
    assert {"--form", "--columns", "--help"} <= set(cli.flags_of("data inspect"))


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash on this machine")
@pytest.mark.parametrize(
    ("words", "completed"),
    [
        (["wa"], {"warm-start"}),
        (["seqgan-ppo", "--kl"], {"--kl_coef", "--kl_target"}),
        (["seqgan-ppo", "--accelerate_config", "mul"], {"multi_cpu"}),
        (["data", "ins"], {"inspect"}),
        (["completion", ""], {"bash", "zsh", "fish"}),
    ],
)
def test_bash_completes(words, completed, monkeypatch):
    monkeypatch.setattr(cli, "_configs", lambda: {"multi_cpu": Path(), "single_process": Path()})
    flags = {name: ["--kl_coef", "--kl_target", "--seed"] for name in cli.COMMANDS}
    script = cli.completion("bash", flags)
    line = " ".join(f"'{word}'" for word in ("rlhf-dialog", *words))
    program = f"{script}\nCOMP_WORDS=({line}); COMP_CWORD={len(words)}; _rlhf_dialog"
    program += '\nprintf "%s\\n" "${COMPREPLY[@]}"'
    process = subprocess.run(["bash", "-c", program], capture_output=True, text=True)
    assert set(process.stdout.split()) == completed, process.stderr


def test_an_unknown_configuration_is_no_traceback():
    with pytest.raises(UserError, match="neither a file nor known"):
        cli.command_line("seqgan-ppo", ["--accelerate_config", "none"])


def test_a_wheel_holds_what_a_checkout_has_beside_the_package():
    """Where pyproject.toml puts things is where shipped.py looks; `make wheel` tries it out."""
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    included = build["targets"]["wheel"]["force-include"]
    assert all((ROOT / source).is_dir() for source in included)
    code = (ROOT / "rlhf_dialog/shipped.py").read_text()
    assert all(f'"{Path(place).name}"' in code for place in included.values())


def test_the_demos_script_is_found_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert Path(shipped.demo_script("data/tidy_tide.jsonl")) == ROOT / "data/tidy_tide.jsonl"
    assert shipped.demo_script("data/other.jsonl") == "data/other.jsonl"
    (tmp_path / "data").mkdir()
    (tmp_path / "data/tidy_tide.jsonl").write_text("own")
    assert shipped.demo_script("data/tidy_tide.jsonl") == "data/tidy_tide.jsonl"
