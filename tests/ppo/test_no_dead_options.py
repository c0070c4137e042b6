"""Every field of the configuration does something, is refused, or is read by an inherited part."""

import dataclasses
import json
from itertools import count
from pathlib import Path

import pytest
from peft import LoraConfig
from transformers import PrinterCallback, ProgressCallback, TrainerCallback, training_args
from trl.experimental.ppo import PPOConfig

from rlhf_dialog.errors import UserError
from rlhf_dialog.ppo.config import SeqGANPPOConfig
from rlhf_dialog.ppo.inherited import ACTED_UPON, FOLLOWS
from tests.ppo.trainers import weights

FIELDS = {f.name: f for f in dataclasses.fields(SeqGANPPOConfig)}
INHERITED = {f.name for f in dataclasses.fields(PPOConfig)}
REFUSED = sorted(INHERITED - set(ACTED_UPON))

# A run in which every option has something to act upon.
BASE = {
    "max_steps": 2,
    "num_ppo_epochs": 2,
    "num_mini_batches": 2,
    "kl_target": 0.5,
    "lr_scheduler_type": "linear",
    "eval_strategy": "steps",
    "eval_steps": 2,
    "min_reply_tokens": 3,
    "save_strategy": "best",
    "metric_for_best_model": "objective/scores",
    "save_steps": 3,
}

# field -> (a value other than that of the run above, what else has to be set)
CHANGES = {
    # the trainer
    "num_train_epochs": (1, {"max_steps": -1}),
    "max_steps": (1, {}),
    "per_device_train_batch_size": (6, {}),
    "gradient_accumulation_steps": (1, {}),
    "per_device_eval_batch_size": (2, {}),
    "max_grad_norm": (1e-3, {}),
    "bf16": (True, {}),
    "logging_steps": (2, {}),
    "eval_strategy": ("no", {"save_strategy": "no"}),
    "eval_steps": (1, {}),
    "eval_delay": (3, {}),
    "eval_on_start": (True, {}),
    "seed": (4, {}),
    "num_mini_batches": (1, {}),
    "local_rollout_forward_batch_size": (5, {}),
    "response_length": (4, {}),
    "stop_token_id": (70, {}),
    "temperature": (0.5, {}),
    "top_k": (3, {}),
    "top_p": (0.5, {}),
    "missing_eos_penalty": (1.0, {}),
    "num_ppo_epochs": (1, {}),
    "whiten_rewards": (True, {}),
    "kl_coef": (0.5, {}),
    "kl_estimator": ("k3", {}),
    "cliprange": (0.01, {}),
    "vf_coef": (0.9, {}),
    "cliprange_value": (1e-3, {}),
    "gamma": (0.5, {}),
    "lam": (0.5, {}),
    "critic": ("separate", {}),
    "entropy_coef": (0.1, {}),
    "whiten_advantages": (False, {}),
    "update_kl_limit": (1e-3, {}),
    "normalize_scores": (False, {}),
    "reward_clip": (0.1, {}),
    "reward_granularity": ("prefix", {}),
    "reward_positions": (1, {"reward_granularity": "prefix"}),
    "rollouts_per_prefix": (1, {"reward_granularity": "rollout"}),
    "length_residual_window": (0, {}),
    "min_reply_tokens": (0, {}),
    "short_reply_penalty": (0.1, {}),
    "kl_target": (None, {}),
    "kl_horizon": (50, {}),
    "supervised_coef": (0.5, {}),
    "supervised_coef_final": (0.9, {}),
    "supervised_batch_size": (3, {}),
    "demonstration_share": (0.5, {}),
    # the optimizer or its schedule
    "learning_rate": (1e-3, {}),
    "lr_scheduler_type": ("constant", {}),
    "lr_scheduler_kwargs": ({"num_cycles": 0.9}, {"lr_scheduler_type": "cosine"}),
    "warmup_steps": (2, {}),
    "optim": ("sgd", {}),
    "optim_args": ("momentum=0.9", {"optim": "sgd"}),
    "weight_decay": (0.9, {}),
    "adam_beta1": (0.5, {}),
    "adam_beta2": (0.5, {}),
    "adam_epsilon": (0.1, {}),
    # callbacks
    "logging_first_step": (True, {"logging_steps": 2}),
}

# Fields whose change does not show in metrics or weights, and the test that shows it.
SHOWN_ELSEWHERE = {
    "gradient_checkpointing": "test_gradient_checkpointing_changes_memory_and_not_the_gradient",
    "activation_checkpointing": "test_checkpointing_has_two_names",
    "gradient_checkpointing_kwargs": "test_checkpointing_has_two_names",
    "activation_checkpointing_kwargs": "test_checkpointing_has_two_names",
    "save_strategy": "test_when_checkpoints_are_written",
    "save_steps": "test_when_checkpoints_are_written",
    "save_total_limit": "test_when_checkpoints_are_written",
    "resume_from_checkpoint": "test_the_configuration_may_say_where_to_go_on",
    "accept_changes": "test_a_change_is_refused_unless_it_is_named",
    "load_best_model_at_end": "test_the_best_generator_by_the_judge_is_loaded_at_the_end",
    "metric_for_best_model": "test_a_metric_that_nobody_measures_is_named",
    "greater_is_better": "test_the_best_may_be_the_least",
    "value_path": "test_a_critic_is_saved_and_comes_back",
    "stop_token": "test_a_custom_stop_token_ends_replies_and_demonstrations",
    "output_dir": "test_where_a_run_writes",
    "merge_adapters": "test_adapters_are_merged_where_that_is_asked_for",
    "length_groups": "test_length_groups_compute_the_same_in_more_passes_with_less_padding",
    "float32_matmul_precision": "test_the_precision_of_products_is_that_of_the_configuration",
    "eval_samples_shown": "test_the_table_has_as_many_rows_as_asked_for",
    "reward": "test_stages.py::test_the_settings_make_the_reward",
    "repetition_penalty_coef": "test_stages.py::test_the_settings_make_the_reward",
    "copy_penalty_coef": "test_stages.py::test_the_settings_make_the_reward",
    "length_penalty_coef": "test_stages.py::test_the_settings_make_the_reward",
    "length_penalty_least": "test_stages.py::test_the_settings_make_the_reward",
    "length_penalty_most": "test_stages.py::test_the_settings_make_the_reward",
    "ds3_gather_for_generation": "test_zero_3_gathering_is_handed_on",
    "disable_tqdm": "test_progress_is_shown_or_printed",
    "report_to": "test_what_reporting_reads",
    "run_name": "test_what_reporting_reads",
    "project": "test_what_reporting_reads",
    "trackio_space_id": "test_what_reporting_reads",
    "trackio_bucket_id": "test_what_reporting_reads",
    "trackio_static_space_id": "test_what_reporting_reads",
    "save_on_each_node": "test_who_saves",
    "use_cpu": "test_what_the_devices_are_told",
    "ddp_backend": "test_what_the_devices_are_told",
    "ddp_timeout": "test_what_the_devices_are_told",
    "tf32": "test_what_the_devices_are_told",
    "push_to_hub": "test_the_main_job_pushes_what_it_made",
    "hub_model_id": "test_what_training_asks_of_the_hub",
    "hub_private_repo": "test_what_training_asks_of_the_hub",
}


def test_every_field_is_in_one_of_the_lists():
    lists = (set(CHANGES), set(SHOWN_ELSEWHERE), set(REFUSED))
    assert set().union(*lists) == set(FIELDS)
    assert sum(map(len, lists)) == len(FIELDS)  # in one only
    tests = "".join(path.read_text() for path in Path(__file__).parents[1].rglob("test_*.py"))
    assert all(f"def {shown.split('::')[-1]}(" in tests for shown in SHOWN_ELSEWHERE.values())
    assert set(ACTED_UPON) <= INHERITED and set(FOLLOWS) <= set(REFUSED)


# ---------------------------------------------------------------- it changes something


@pytest.fixture
def outcome(build, examples, tmp_path):
    """configuration -> what a run logs and ends with, as one JSON text."""
    folders = (str(tmp_path / f"run-{n}") for n in count())

    def run(**values):
        people = {"supervised_examples": examples, "eval_examples": examples[:5]}
        own = {"output_dir": next(folders)}
        trainer, history = build(**{**BASE, **own, **values}, trainer=people)
        trainer.train()
        logs = [{k: v for k, v in row.items() if k != "seconds"} for row in history.logs]
        total = sum(w.double().abs().sum().item() for w in weights(trainer.model))
        return json.dumps([logs, total])

    return run


def test_a_change_of_any_option_changes_the_run(outcome):
    runs = {}
    idle = []
    for name, (value, others) in CHANGES.items():
        key = json.dumps(others)
        if key not in runs:
            runs[key] = outcome(**others)
        if outcome(**{**others, name: value}) == runs[key]:
            idle.append(name)
    assert not idle
    assert runs["{}"] == outcome()  # the same run again is the same to the last digit


# ---------------------------------------------------------------- it is refused


@pytest.mark.parametrize("name", REFUSED)
def test_an_inherited_option_that_nobody_reads_is_refused(tmp_path, name):
    default = FIELDS[name].default
    other = {False: True, True: False}.get(default, 7 if isinstance(default, int) else "other")
    told = r"\(hidden\)" if "token" in name else other
    with pytest.raises(UserError, match=f"{name}: {told} is not supported by this trainer"):
        SeqGANPPOConfig(output_dir=str(tmp_path), **{name: other})


def test_a_configuration_can_be_built_from_one(tmp_path):
    first = SeqGANPPOConfig(
        output_dir=str(tmp_path), use_cpu=True, eval_strategy="steps", eval_steps=2, bf16=True
    )
    again = dataclasses.replace(first, accelerator_config=None)
    assert {n: getattr(again, n) for n in FIELDS if n != "accelerator_config"} == {
        n: getattr(first, n) for n in FIELDS if n != "accelerator_config"
    }


# ---------------------------------------------------------------- it is read by an inherited part


def test_checkpointing_has_two_names(build):
    reentrant = {"use_reentrant": True}
    for prefix in ("gradient", "activation"):
        options = {f"{prefix}_checkpointing": True, f"{prefix}_checkpointing_kwargs": reentrant}
        trainer, _ = build(**options)
        assert trainer.policy.is_gradient_checkpointing
        layer = trainer.policy.lm.transformer.h[0]
        assert layer._gradient_checkpointing_func.keywords == reentrant


def test_the_best_may_be_the_least(build, examples, tmp_path):
    bests = []
    for greater in (True, False):
        values = iter([3.0, 1.0, 2.0])
        look = [lambda c, r, v=values: {"judge/score": next(v) if len(r) == 5 else 0.0}]
        trainer, _ = build(
            max_steps=3,
            output_dir=str(tmp_path / str(greater)),
            eval_strategy="steps",
            eval_steps=1,
            save_strategy="best",
            metric_for_best_model="judge/score",
            greater_is_better=greater,
            trainer={"eval_examples": examples[:5], "monitors": look},
        )
        trainer.train()
        bests.append(trainer.state.best_metric)
    assert bests == [3, 1]


def test_where_a_run_writes(build, examples, tmp_path):
    trainer, _ = build(
        eval_strategy="steps",
        eval_steps=1,
        output_dir=str(tmp_path / "elsewhere"),
        trainer={"eval_examples": examples[:5]},
    )
    trainer.train()
    assert (tmp_path / "elsewhere" / "eval_samples.jsonl").is_file()


@pytest.mark.parametrize("shown", [0, 2])
def test_the_table_has_as_many_rows_as_asked_for(build, examples, shown, capsys):
    trainer, _ = build(eval_samples_shown=shown, trainer={"eval_examples": examples[:5]})
    trainer.evaluate()
    assert capsys.readouterr().out.count("+0.") == shown


def test_adapters_are_merged_where_that_is_asked_for(build, tmp_path):
    lora = LoraConfig(r=2, target_modules=["c_attn"], fan_in_fan_out=True)
    for merge, file in ((False, "adapter_model.safetensors"), (True, "model.safetensors")):
        trainer, _ = build(merge_adapters=merge, trainer={"peft_config": lora})
        trainer.save_model(str(tmp_path / file))
        assert [path.name for path in (tmp_path / file).glob("*model.safetensors")] == [file]


def test_zero_3_gathering_is_handed_on(build, monkeypatch):
    from rlhf_dialog.ppo import zero as module

    unwrap, seen = module.unwrap_model_for_generation, []
    monkeypatch.setattr(
        module,
        "unwrap_model_for_generation",
        lambda *a, **k: seen.append(k["gather_deepspeed3_params"]) or unwrap(*a, **k),
    )
    for gather in (True, False):
        # Checkpointed layers, as sharded weights, are what TRL has to make ready.
        options = {"ds3_gather_for_generation": gather, "gradient_checkpointing": True}
        build(**options)[0].sample_replies([["who ?"]])
    assert seen == [True, False]


def test_progress_is_shown_or_printed(build):
    for quiet in (True, False):
        trainer, _ = build(disable_tqdm=quiet)
        kinds = {type(callback) for callback in trainer.callback_handler.callbacks}
        assert (ProgressCallback in kinds) is not quiet
        assert PrinterCallback not in kinds  # the tests' own builder takes it out


def test_what_reporting_reads(build, monkeypatch):
    """A reporting callback is one of transformers' own and is given the arguments whole."""
    from transformers.integrations import integration_utils

    told = []

    class Board(TrainerCallback):
        def on_train_begin(self, args, state, control, **kwargs):
            told.append((args.run_name, args.project, args.trackio_space_id))
            told.append((args.trackio_bucket_id, args.trackio_static_space_id))

        def on_log(self, args, state, control, logs=None, **kwargs):
            told.append(logs["objective/scores"])

    monkeypatch.setitem(integration_utils.INTEGRATION_TO_CALLBACK, "trackio", Board)
    trainer, history = build(
        report_to="trackio",
        run_name="one",
        project="two",
        trackio_space_id="three",
        trackio_bucket_id="four",
        trackio_static_space_id="five",
    )
    trainer.train()
    scores = history.logs[0]["objective/scores"]
    assert told == [("one", "two", "three"), ("four", "five"), scores]


def test_who_saves(tmp_path, monkeypatch):
    from transformers import TrainingArguments

    monkeypatch.setattr(TrainingArguments, "process_index", 1)
    monkeypatch.setattr(TrainingArguments, "local_process_index", 0)
    saves = [
        SeqGANPPOConfig(output_dir=str(tmp_path), save_on_each_node=each).should_save
        for each in (False, True)
    ]
    assert saves == [False, True]


def test_what_the_devices_are_told(tmp_path, monkeypatch):
    told = []
    partial = training_args.PartialState
    monkeypatch.setattr(
        training_args, "PartialState", lambda **k: told.append(dict(k)) or partial(cpu=True)
    )
    SeqGANPPOConfig(output_dir=str(tmp_path), use_cpu=True, ddp_backend="gloo")
    assert told[-1]["cpu"] and told[-1]["backend"] == "gloo"
    monkeypatch.delenv("ACCELERATE_USE_CPU", raising=False)
    SeqGANPPOConfig(output_dir=str(tmp_path), ddp_timeout=60)
    assert told[-1]["timeout"].total_seconds() == 60
    with monkeypatch.context() as patch:
        patch.setattr(training_args, "is_torch_tf32_available", lambda: True)
        set_to = []
        patch.setattr(training_args, "enable_tf32", set_to.append)
        SeqGANPPOConfig(output_dir=str(tmp_path), use_cpu=True, tf32=True)
    assert set_to == [True]
