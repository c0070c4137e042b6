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
        ({"stop_token": None}, "stop_token: None is not supported"),
        ({"stop_token_id": 5}, "stop_token_id: 5 is not supported"),
        ({"whiten_rewards": True}, "whiten_rewards: True is not supported"),
        ({"missing_eos_penalty": 1.0}, r"missing_eos_penalty: 1\.0 is not supported"),
        ({"gradient_checkpointing": True}, "gradient_checkpointing: True is not supported"),
        ({"bf16": True}, "bf16: True is not supported"),
        ({"save_strategy": "steps"}, "save_strategy: .* is not supported"),
        ({"eval_strategy": "steps"}, "eval_strategy: .* is not supported"),
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
