"""The known defects of TRL 1.12's PPOTrainer, continued: models, and the course of a run."""

import gc
import signal

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from accelerate.utils import patch_environment
from transformers import TrainerCallback
from trl.experimental.ppo import PPOConfig, ppo_trainer
from trl.trainer.utils import disable_dropout_in_model

from rlhf_dialog.discriminators.model import fresh_discriminator
from rlhf_dialog.errors import UserError
from rlhf_dialog.generators.policy import disable_dropout
from rlhf_dialog.ppo.config import SeqGANPPOConfig
from tests.conftest import SENTENCES
from tests.ppo.stock import build_stock, classifier, run_stock
from tests.ppo.trainers import rollout_of

# ---------------------------------------------------------------- models


def test_defect_14_a_bert_cannot_be_the_reward(stock, ours):
    bert = fresh_discriminator(SENTENCES, hidden_size=32, layers=1, max_tokens=48, seed=0)
    with pytest.raises((AttributeError, IndexError)):  # no `score`; ids that it does not know
        stock(reward=bert.model)
    trainer, history = ours(reward=bert)
    trainer.train()
    assert np.isfinite(history.logs[0]["objective/scores"])


def test_defect_15_encoder_decoders_fail(make_generator, examples, tmp_path, ours, monkeypatch):
    generator, other = make_generator("blenderbot-small"), make_generator("gpt2")
    with pytest.raises((TypeError, ValueError, AttributeError, RuntimeError, IndexError)):
        run_stock(
            build_stock(
                generator,
                examples[:8],
                tmp_path / "stock",
                reward=classifier(other, 1),
                value=classifier(other, 2),
            ),
            monkeypatch,
        )
    trainer, history = ours("blenderbot-small")
    trainer.train()
    assert np.isfinite(list(history.logs[0].values())).all()


def test_defect_16_dropout_stays_on_in_blenderbot_small(make_generator):
    model = make_generator("blenderbot-small", sharp=True).model.train()
    ids = torch.tensor([[5, 6, 7]])

    def still():
        first, second = (model(ids, decoder_input_ids=ids).logits for _ in range(2))
        return torch.equal(first, second)

    disable_dropout_in_model(model)
    assert not still()
    disable_dropout(model)
    assert still()


def test_defect_17_the_first_ratio_is_not_one_in_bf16(stock, make_generator, ours):
    """Stock samples outside the autocast of training. Sharp logits show it at once."""
    AcceleratorState._reset_state()
    with patch_environment(accelerate_mixed_precision="bf16"):
        record = stock(bf16=True)
    AcceleratorState._reset_state()
    assert abs(record.logs[0]["val/ratio"] - 1) > 1e-5
    trainer, history = ours(bf16=True)
    trainer.train()
    assert history.logs[0]["val/ratio"] == 1


# ---------------------------------------------------------------- the run


class StopAtOnce(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        control.should_training_stop = True
        return control


def test_defects_18_and_19_no_evaluation_no_stop_no_interval(stock, ours, examples):
    record = stock(total_episodes=12, max_steps=1, logging_steps=3, callbacks=[StopAtOnce()])
    assert record.trainer.state.global_step == len(record.logs) == 3  # all three were ignored
    with pytest.raises(AttributeError):
        record.trainer.evaluate()
    trainer, history = ours(max_steps=4, logging_steps=3, trainer={"eval_examples": examples[:4]})
    trainer.train()
    assert trainer.state.global_step == 4 and len(history.logs) == 1
    assert "eval_objective/scores" in trainer.evaluate()
    trainer, _ = ours(max_steps=4)
    trainer.add_callback(StopAtOnce())
    trainer.train()
    assert trainer.state.global_step == 1


def test_defect_20_the_order_of_minibatches_hangs_on_numpy(stock, ours, monkeypatch):
    orders = []
    permutation = np.random.permutation
    monkeypatch.setattr(
        np.random, "permutation", lambda n: orders.append(permutation(n)) or orders[-1]
    )
    for seed in (1, 2):
        np.random.seed(seed)  # somebody else's
        stock(size=16, total_episodes=8, per_device_train_batch_size=8)
    assert orders[0].tolist() != orders[1].tolist()
    trainer, _ = ours()
    trainer.train()
    assert len(orders) == 2  # ours: see test_the_same_seed_gives_the_same_run


def test_defect_21_a_data_set_below_a_batch_spins_for_ever(stock, ours):
    def stop(signum, frame):
        raise TimeoutError

    signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, 5)
    with pytest.raises(TimeoutError):
        stock(size=3)
    signal.setitimer(signal.ITIMER_REAL, 0)
    with pytest.raises(UserError, match="an update needs 4 contexts"):
        ours(size=3, per_device_train_batch_size=4, gradient_accumulation_steps=1)


def test_defect_25_the_loop_empties_caches(stock, ours, monkeypatch):
    calls = []
    monkeypatch.setattr(ppo_trainer, "empty_cache", lambda: calls.append("empty"))
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: calls.append("empty"))
    monkeypatch.setattr(gc, "collect", lambda *a: calls.append("collect") or 0)
    stock()
    assert calls.count("empty") >= 5 and calls.count("collect") >= 2
    calls.clear()
    trainer, _ = ours()
    calls.clear()
    trainer.train()
    assert not calls


def test_defect_26_logits_of_the_whole_vocabulary_are_kept(stock, generator, ours):
    record = stock()
    vocabulary = generator.model.config.vocab_size
    assert record.logits[0].shape == (*record.responses[0].shape, vocabulary)
    trainer, _ = ours()
    rollout = rollout_of(trainer)
    tensors = [v for v in vars(rollout).values() if isinstance(v, torch.Tensor)]
    assert len(tensors) == 7 and all(t.dim() == 2 and t.shape[1] < 30 for t in tensors)


def test_defect_27_sampling_is_hard_coded(stock, generator, ours, monkeypatch):
    seen = []
    generate = type(generator.model).generate

    def watched(self, *arguments, **options):
        seen.append(options["generation_config"])
        return generate(self, *arguments, **options)

    monkeypatch.setattr(type(generator.model), "generate", watched)
    generator.model.generation_config.update(top_k=5, top_p=0.5)
    stock()
    assert (seen[-1].top_k, seen[-1].top_p) == (0, 1)
    assert not {"top_k", "top_p"} & set(PPOConfig.__dataclass_fields__)
    trainer, _ = ours(top_k=5, top_p=0.5)
    rollout_of(trainer)
    assert (seen[-1].top_k, seen[-1].top_p) == (5, 0.5)


def test_defect_29_adaptive_kl_and_score_scaling_were_lost(ours):
    lost = {"kl_target", "kl_horizon", "normalize_scores", "reward_clip", "update_kl_limit"}
    assert not lost & set(PPOConfig.__dataclass_fields__)
    assert lost <= set(SeqGANPPOConfig.__dataclass_fields__)
    trainer, history = ours(max_steps=2, kl_target=0.5)
    trainer.train()
    assert history.logs[1]["objective/kl_coef"] < history.logs[0]["objective/kl_coef"]
