"""A value that cannot work is refused when it is read, whether from a file or the command line."""

from pathlib import Path

import pytest

from rlhf_dialog.errors import UserError
from rlhf_dialog.parsing import parse_run

CONFIGS = sorted((Path(__file__).parents[1] / "recipes" / "configs").glob("*.yaml"))


def read(tmp_path, text, *arguments):
    path = tmp_path / "config.yaml"
    path.write_text(text, encoding="utf-8")
    return parse_run(path, list(arguments))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_configuration_that_is_shipped_can_be_read(path):
    assert parse_run(path, []).ppo.max_steps > 0


def test_the_command_line_wins_over_the_file(tmp_path):
    settings = read(tmp_path, "max_steps: 5\ncharacter: Ann\n", "--max_steps", "7")
    assert (settings.ppo.max_steps, settings.dialogues.character) == (7, "Ann")


@pytest.mark.parametrize(
    "text",
    [
        "max_steps: 30.5",
        "max_steps: [3]",
        "per_device_train_batch_size: 8.0",
        "per_device_train_batch_size: 0",
        "learning_rate: [1]",
        "learning_rate: fast",
        "seed: null",
        "temperature: null",
        "temperature: 0.7",
        "response_length: null",
        "num_mini_batches: 0",
        "kl_estimator: k2",
        "kl_coef: -1",
        "character: null",
        "context_length: 0",
        "fresh_heads: 5",
        "fresh_discriminator_hidden_size: 100",
        "discriminator_batch_size: 1",
        "discriminator_epochs: 0",
        "refresh_steps: 0",
        "refresh_samples: 1",
        "replay_share: 1",
        "cast_share: -0.1",
        "{cast_share: 0, wrong_context_share: 0, degenerate_share: 0}",
        "refresh_floor: 0.95",
        "refresh_generated_share: 1.5",
        "label_smoothing: 0.5",
        "bootstrap_resamples: 0",
        "samples_per_context: 0",
        "fp16: true",
        "top_p: 0.5",
        "save_strategy: epoch",
        "batch_size: 8",
        "lr_scheduler_type: lineer",
        "kl_coef: .inf",
        "vf_coef: .nan",
        "dialogues_columns: [1, 2]",
        "push_to_hub: perhaps",
        "fresh_architecture: [gpt2]",
        "fresh_layers: {a: 1}",
        "max_steps: 3\nmax_steps: 5",
        "reward: praise",
        "critic: none_such",
    ],
)
def test_a_value_that_cannot_work_is_named(tmp_path, text):
    field = text.lstrip("{").split(":")[0]
    with pytest.raises((UserError, SystemExit)) as refusal:
        read(tmp_path, text + "\n")
    assert isinstance(refusal.value, UserError)
    assert field in str(refusal.value) and "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--max_step", "3"], "--max_step: is not known; did you mean 'max_steps'"),
        (["--max-stepz=3"], "--max_stepz: is not known"),
        (["--config={path}", "--config", "{path}"], "--config: is given twice"),
        (["--config="], "there is no such file"),
        (["--lr_scheduler_type", "lineer"], "invalid choice: 'lineer'"),
        (["--kl_coef", "inf"], "kl_coef: inf is no finite number"),
        (["--no_max_steps"], "no_max_steps"),
        (["loose"], "loose"),
    ],
)
def test_what_trls_parser_lets_through(tmp_path, arguments, told):
    path = tmp_path / "config.yaml"
    path.write_text("max_steps: 5\n", encoding="utf-8")
    with pytest.raises(UserError) as refusal:
        parse_run(path, [argument.format(path=path) for argument in arguments])
    assert told in str(refusal.value) and "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "name", ["demo_seq2seq", "demo_seq2seq.yaml", "recipes/configs/demo_seq2seq.yaml"]
)
def test_a_shipped_configuration_is_known_by_name_anywhere(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    settings = parse_run(CONFIGS[0], ["--config", name])
    assert settings.generator.fresh_architecture == "blenderbot-small"
    with pytest.raises(UserError, match="demo_seq2seq, dialogpt_medium_himym"):
        parse_run(CONFIGS[0], ["--config", "elsewhere/demo_seq2seq.yaml"])


def test_a_text_that_yaml_takes_for_something_else(tmp_path):
    settings = read(tmp_path, "character: 2026-01-02\nrun_name: 7\nlearning_rate: '1e-5'\n")
    assert settings.dialogues.character == "2026-01-02" and settings.ppo.run_name == "7"
    assert settings.ppo.learning_rate == 1e-5


def test_mixed_precision_of_the_launcher_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "fp16")
    with pytest.raises(UserError, match="mixed_precision"):
        read(tmp_path, "seed: 1\n")


def test_processes_that_do_not_see_each_other_are_refused(tmp_path, monkeypatch):
    """A launcher for GPUs on a machine without them starts two that each believe they are alone."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="2 processes were launched"):
        read(tmp_path, "seed: 1\n")
