import pytest

from rlhf_dialog.errors import UserError
from rlhf_dialog.ppo.config import SeqGANPPOConfig


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"reward": "praise"}, "reward: 'praise' is not one of logit, .*, random, shuffled"),
        ({"reward_granularity": "word"}, "reward_granularity: 'word' is not one of final, prefix"),
        ({"copy_penalty_coef": -1.0}, r"copy_penalty_coef: -1\.0 must not be below 0"),
        ({"reward_positions": 0}, "reward_positions: 0 must be at least 1"),
        ({"rollouts_per_prefix": 0}, "rollouts_per_prefix: 0 must be at least 1"),
        ({"length_penalty_least": 9, "length_penalty_most": 8}, "length_penalty_least: 9 must be"),
        ({"response_length": 1}, "response_length: a reply needs at least 2 tokens"),
        ({"temperature": 0.0}, r"temperature: 0\.0 must be above 0"),
        ({"kl_target": 0.0}, r"kl_target: 0\.0 must be above 0"),
        ({"kl_horizon": 0}, "kl_horizon: 0 must be above 0"),
        ({"reward_clip": -1.0}, r"reward_clip: -1\.0 must be above 0"),
        ({"supervised_batch_size": 0}, "supervised_batch_size: 0 must be above 0"),
        ({"stop_token": None}, "stop_token: none would never let a reply end"),
        ({"stop_token": "dot"}, "stop_token: .dot. is not one of"),
        ({"top_p": 0.0}, r"top_p: 0\.0 must be above 0 and at most 1"),
        ({"top_k": -1}, "top_k: -1 must not be below 0"),
        ({"cliprange_value": 0.0}, r"cliprange_value: 0\.0 must be above 0"),
        ({"gamma": 1.5}, r"gamma: 1\.5 must be from 0 to 1"),
        ({"kl_coef": float("nan")}, "kl_coef: nan must not be below 0"),
        ({"missing_eos_penalty": -1.0}, r"missing_eos_penalty: -1\.0 must be above 0"),
        ({"demonstration_share": 1.0}, r"demonstration_share: 1\.0 must be from 0 to below 1"),
        ({"critic": "none"}, "critic: .none. is not one of"),
        ({"kl_estimator": "k2"}, "kl_estimator: .k2. is not one of"),
        ({"fp16": True}, "fp16: True is not supported"),
        ({"save_strategy": "epoch"}, "save_strategy: .epoch. is not one of"),
        ({"save_steps": 0}, "save_steps: 0 must be above 0"),
        ({"save_total_limit": 0}, "save_total_limit: 0 must be at least 1"),
        ({"save_strategy": "best"}, "save_strategy: best needs eval_strategy: steps"),
        ({"load_best_model_at_end": True}, "load_best_model_at_end: needs save_strategy: best"),
        ({"eval_strategy": "epoch"}, "eval_strategy: .epoch. is not one of"),
        ({"lr_scheduler_type": "reduce_lr_on_plateau"}, "lr_scheduler_type: reduce_lr_on_plateau"),
        (
            {"per_device_train_batch_size": 5, "gradient_accumulation_steps": 2},
            "num_mini_batches: 10 episodes .* do not divide into 4",
        ),
    ],
)
def test_a_value_that_cannot_work_is_named(tmp_path, values, message):
    with pytest.raises(UserError, match=message):
        SeqGANPPOConfig(output_dir=str(tmp_path), **{"num_mini_batches": 4, **values})


def test_no_kl_target_means_a_fixed_coefficient(tmp_path):
    assert SeqGANPPOConfig(output_dir=str(tmp_path), kl_target=None).kl_target is None
