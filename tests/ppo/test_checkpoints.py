"""Checkpoints are complete or absent; what cannot be gone on with is refused in one sentence."""

import dataclasses
import errno
import json
import os
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from peft import LoraConfig
from safetensors import safe_open

from rlhf_dialog.changes import accepted_changes
from rlhf_dialog.console import run_recipe
from rlhf_dialog.dialogues.schema import Context
from rlhf_dialog.errors import UserError
from rlhf_dialog.ppo import checkpoint_folders as folders
from rlhf_dialog.ppo import identity
from tests.ppo.resumable import build_run, rows, train
from tests.ppo.trainers import grade

STEP_2, STEP_4 = "checkpoints/step-000002", "checkpoints/step-000004"


@pytest.fixture
def make(make_generator, examples, tmp_path):
    """Builds a trainer of the run in `tmp_path / run`; a save every two of four updates."""

    def build(folder="run", reward=grade, **values):
        plan = {"max_steps": 4, "save_steps": 2, "save_total_limit": None, **values}
        return build_run(make_generator("gpt2"), examples, tmp_path / folder, reward=reward, **plan)

    return build


@pytest.fixture
def run(make, tmp_path):
    """The folder of a finished run with the checkpoints 2 and 4."""
    train(make())
    return tmp_path / "run"


def names(folder):
    return sorted(path.name for path in (folder / "checkpoints").iterdir())


# ---------------------------------------------------------------- when, and what


@pytest.mark.parametrize(
    ("values", "kept"),
    [
        ({"save_strategy": "no"}, []),
        ({}, [2, 4]),
        ({"save_total_limit": 1}, [4]),
        ({"save_steps": 0.75}, [3, 4]),
        ({"save_steps": 1, "save_total_limit": 2}, [3, 4]),
        ({"save_strategy": "best", "eval_strategy": "steps", "eval_steps": 4}, [2, 4]),
    ],
)
def test_when_checkpoints_are_written(make, examples, tmp_path, values, kept):
    people = {"eval_examples": examples[:5]} if "eval_strategy" in values else {}
    trainer = make(trainer=people, **values)
    train(trainer)
    found = folders.checkpoints_in(tmp_path / "run")
    assert [folders.update_of(path) for path in found] == kept
    assert not any(map(folders.flaw, found))
    assert (tmp_path / "run/best").is_dir() == (values.get("save_strategy") == "best")


def test_every_file_is_read_without_pickled_code(make, tmp_path):
    train(make(reward=None))  # with a discriminator that is refreshed
    files = list((tmp_path / "run" / STEP_4).iterdir())
    for path in files:
        if path.suffix == ".safetensors":
            with safe_open(path, "pt") as file:
                assert len(list(file.keys())) > 10
        elif path.suffix == ".json":
            json.loads(path.read_text())
        else:
            assert torch.load(path, weights_only=True)
    assert {path.suffix for path in files} == {".safetensors", ".json", ".bin", ".pt"}


def test_nothing_has_its_name_before_it_is_on_the_disk(make, tmp_path, monkeypatch):
    events = []
    fsync, rename = os.fsync, os.rename

    def watched_fsync(handle):
        events.append(("fsync", os.readlink(f"/proc/self/fd/{handle}")))
        fsync(handle)

    def watched_rename(old, new):
        inside = {str(path) for path in Path(old).rglob("*")} | {str(old)}
        assert inside <= {path for _, path in events}, "renamed before it was flushed"
        events.append(("rename", str(new)))
        rename(old, new)

    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(os, "rename", watched_rename)
    train(make())
    first = events.index(("rename", str(tmp_path / "run" / STEP_2)))
    assert events[first + 1] == ("fsync", str(tmp_path / "run/checkpoints"))


# ---------------------------------------------------------------- damaged, stale, in the way


def _truncate(path):
    path.write_bytes(path.read_bytes()[:-9])


def _flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("name", "damage", "told"),
    [
        ("policy.safetensors", _truncate, r"has \d+ of the \d+ bytes of policy.safetensors"),
        ("optimizer.bin", _flip, "has other bytes in optimizer.bin than were written"),
        ("rank-00000.pt", Path.unlink, "lacks rank-00000.pt"),
        ("complete.json", Path.unlink, "has no complete.json: it was never finished"),
        ("complete.json", _truncate, "has a damaged complete.json"),
    ],
)
def test_a_damaged_checkpoint_is_named_and_an_older_one_is_used(
    make, run, capsys, name, damage, told
):
    before = rows(run)
    damage(run / STEP_4 / name)
    with pytest.raises(UserError, match=f"step-000004: {told}"):
        make().train(resume_from_checkpoint=run / STEP_4)
    trainer = make()
    train(trainer, resume_from_checkpoint="latest")
    assert "step-000004 is left out" in capsys.readouterr().out
    assert rows(run) == before and trainer.state.global_step == 4
    assert folders.flaw(run / STEP_4) is None  # written again


def test_what_a_cut_off_save_left_is_cleared_away(make, run):
    stale = run / "checkpoints/.step-000003.tmp"
    stale.mkdir()
    (stale / "policy.safetensors").write_bytes(b"half")
    train(make(max_steps=5, accept_changes=["max_steps"]), resume_from_checkpoint=True)
    assert names(run) == ["step-000002", "step-000004", "step-000005"]


def test_the_configuration_may_say_where_to_go_on(make, run):
    trainer = make(resume_from_checkpoint="latest")
    train(trainer)
    assert trainer.state.global_step == 4 and len(rows(run)) == 4


def test_checkpoints_of_another_run_are_not_written_over(make, run):
    with pytest.raises(UserError, match=r'holds the checkpoints of a run; go on with .*"latest"'):
        make().train()
    with pytest.raises(UserError, match=r"step-000004 is newer, and a run that went back"):
        make().train(resume_from_checkpoint=run / STEP_2)


def test_damaged_newer_checkpoints_hide_no_whole_one_and_cost_none(make, run):
    train(make(max_steps=6, accept_changes=["max_steps"]), resume_from_checkpoint=True)
    _truncate(run / "checkpoints/step-000006/policy.safetensors")
    with pytest.raises(UserError, match=r"step-000004 is newer, and a run that went back"):
        make(max_steps=6).train(resume_from_checkpoint=run / STEP_2)
    plan = {"max_steps": 5, "save_total_limit": 1, "accept_changes": ["max_steps"]}
    train(make(**plan), resume_from_checkpoint="latest")
    assert names(run) == ["damaged-step-000006", "step-000005"]


def test_a_run_may_branch_off_into_another_folder(make, run, tmp_path):
    branch = make("branch")
    train(branch, resume_from_checkpoint=run / STEP_2)
    assert rows(tmp_path / "branch") == rows(run)
    assert names(tmp_path / "branch") == ["step-000004"] and names(run)[0] == "step-000002"


def test_without_a_checkpoint_a_run_starts_again(make, tmp_path):
    with pytest.raises(UserError, match=r"holds no complete checkpoint; .* has to start again"):
        make().train(resume_from_checkpoint=True)
    with pytest.raises(UserError, match="nowhere: there is no such folder"):
        make().train(resume_from_checkpoint=tmp_path / "nowhere")


# ---------------------------------------------------------------- a full disk


@pytest.mark.parametrize("fails_at", range(0, 14, 2))
def test_a_full_disk_at_any_point_leaves_the_last_checkpoint(make, run, monkeypatch, fails_at):
    """The n-th flush or rename after the first checkpoint fails, as a full disk makes it."""
    shutil.rmtree(run / STEP_4)
    trainer = make()
    calls = iter(range(100))

    def failing(real):
        def call(*arguments):
            if next(calls) == fails_at:
                raise OSError(errno.ENOSPC, "No space left on device")
            return real(*arguments)

        return call

    monkeypatch.setattr(os, "fsync", failing(os.fsync))
    monkeypatch.setattr(os, "rename", failing(os.rename))
    try:
        with pytest.raises(UserError, match=r"No space left on device; .*step-000002") as caught:
            trainer.train(resume_from_checkpoint=True)
    finally:
        monkeypatch.undo()
    assert str(caught.value).count(". ") == 0  # one sentence
    left = names(run)
    assert left[0] == "step-000002" and not any(name.startswith(".") for name in left)
    train(make(), resume_from_checkpoint=True)
    assert len(rows(run)) == 4


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 600 KiB of its own, where this machine lets one be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("needs the right to mount a tmpfs")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_is_really_full(make, small_disk):
    trainer = make("disk/run")
    with pytest.raises(UserError, match=r"step-000004: could not be written .*step-000002"):
        trainer.train()
    assert names(small_disk / "run") == ["step-000002"]
    again = make("disk/run", save_strategy="no")
    again.train(resume_from_checkpoint="latest")
    assert again.state.global_step == 4


def test_a_recipe_on_a_full_disk_says_so_in_one_sentence(capsys):
    def main():
        raise OSError(errno.ENOSPC, "No space left on device", "runs/one/metrics.jsonl")

    with pytest.raises(SystemExit) as stop:
        run_recipe(main)
    assert stop.value.code == 2
    told = capsys.readouterr().err
    assert told.startswith("error: runs/one/metrics.jsonl: No space left on device; make room")
    assert told.count("\n") == 1


# ---------------------------------------------------------------- another configuration


def test_a_change_is_refused_unless_it_is_named(make, run):
    shutil.rmtree(run / STEP_4)
    changed = {"learning_rate": 1e-3, "max_steps": 5, "lr_scheduler_type": "constant"}
    with pytest.raises(UserError) as caught:
        make(**changed).train(resume_from_checkpoint=True)
    for told in (
        "learning_rate was 0.005 and is 0.001",
        "max_steps was 4 and is 5",
        "lr_scheduler_type was linear and is constant",
        "--accept_changes learning_rate lr_scheduler_type max_steps",
    ):
        assert told in str(caught.value)
    with pytest.raises(UserError, match="accept_changes: 'learning_rat' is not known; did you"):
        make(accept_changes=["learning_rat"], **changed).train(resume_from_checkpoint=True)
    train(make(accept_changes=list(changed), **changed), resume_from_checkpoint=True)
    assert [row["lr"] for row in rows(run)[2:]] == [1e-3] * 3  # it is acted upon


def test_what_cannot_be_changed_is_not_offered(make, run):
    with pytest.raises(UserError, match=r"critic was value_head and is separate; put it back\.$"):
        make(critic="separate", accept_changes=["critic"]).train(resume_from_checkpoint=True)


def test_other_data_and_other_weights_are_changes(make, run, examples, make_generator, tmp_path):
    other = make_generator("gpt2")
    other.model.transformer.wte.weight.data.mul_(1.01)
    plan = {"max_steps": 4, "save_steps": 2, "reward": grade}
    trainer = build_run(other, examples[:29], tmp_path / "run", **plan)
    with pytest.raises(UserError, match=r"generator_weights was \w+ and .*train_examples was 30"):
        trainer.train(resume_from_checkpoint=True)


def test_the_people_behind_contexts_and_the_values_of_adapters_are_compared(examples):
    def of(context):
        return identity._examples([dataclasses.replace(examples[0], context=context)])

    plain, first, second = (
        of(Context(examples[0].context, *more)) for more in ((), (["i sail"],), (["i bake"],))
    )
    assert len({plain, first, second, of(Context(examples[0].context, (), "a trip"))}) == 4
    configs = [LoraConfig(lora_alpha=alpha, target_modules=["b", "a"]) for alpha in (4, 64, 4)]
    values = [
        identity._adapters(
            SimpleNamespace(generator=SimpleNamespace(model=SimpleNamespace(peft_config={"x": c})))
        )
        for c in configs
    ]
    assert values[0] == values[2] != values[1]


def test_what_is_the_trainers_own_may_be_named_by_a_recipe():
    """Its settings hold no number of processes, which the trainer compares later."""
    assert accepted_changes({}, {}, ["world_size", "train_examples"], (), "config.yaml") == set()


def test_a_prefix_without_a_score_stops_the_run_with_its_samples(make, tmp_path):
    seen = []

    def reward(contexts, replies):
        seen.append(len(replies))
        return torch.full((len(replies),), 1.0 if len(seen) % 2 else torch.nan)

    with pytest.raises(UserError, match=r"update 1: .*stopped-000001.jsonl"):
        make(reward=reward, reward_granularity="prefix").train()
    assert (tmp_path / "run/stopped-000001.jsonl").read_text()


def test_where_it_writes_and_what_it_shows_may_differ(make, run, tmp_path):
    run.rename(tmp_path / "moved")
    trainer = make("moved", save_steps=1, logging_first_step=True, run_name="again")
    train(trainer, resume_from_checkpoint="latest")
    assert trainer.state.global_step == 4
