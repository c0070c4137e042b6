"""`report_to`: a tracker of transformers' own gets the names of metrics.jsonl."""

import json

import pytest
from transformers.integrations import integration_utils

from rlhf_dialog.evaluation.suite import TextMonitor
from rlhf_dialog.runs import UpdateLog
from tests.ppo.trainers import build_trainer, share_of_e


class Recorder:
    """Stands for TensorBoard's SummaryWriter, which need not be installed."""

    def __init__(self, log_dir=None):
        self.scalars = {}

    def add_scalar(self, name, value, step):
        self.scalars.setdefault(step, {})[name] = value

    def add_text(self, *_):
        pass

    flush = close = lambda self: None


class Board(integration_utils.TensorBoardCallback):
    """transformers' callback, whose `on_log` is its own, without the package behind it."""

    written = None

    def __init__(self):
        self._SummaryWriter, self.logging_dir = Recorder, None
        self.tb_writer = Board.written = Recorder()


@pytest.mark.parametrize("evaluates", [False, True])
def test_trackers_get_the_names_of_metrics_jsonl(
    make_generator, examples, tmp_path, monkeypatch, evaluates
):
    monkeypatch.setitem(integration_utils.INTEGRATION_TO_CALLBACK, "tensorboard", Board)
    trainer, _ = build_trainer(
        make_generator("gpt2"),
        examples,
        tmp_path,
        share_of_e,
        report_to="tensorboard",
        max_steps=2,
        trainer={"monitors": [TextMonitor(share_of_e)], "eval_examples": examples[:8]},
        **({"eval_strategy": "steps", "eval_steps": 2} if evaluates else {}),
    )
    log = UpdateLog(tmp_path)
    log.attach(trainer)
    trainer.train()
    rows = [json.loads(line) for line in log.path.read_text(encoding="utf-8").splitlines()]
    if evaluates:
        extra = json.loads(log.evaluations.read_text(encoding="utf-8"))
        rows[1] |= extra
    assert len(rows) == 2
    for row in rows:
        sent = Board.written.scalars[row.pop("update")]
        sent.pop("epoch", None)  # the trainer's own, which the log leaves out
        assert sent == row
    assert integration_utils.rewrite_logs({"loss": 1}) == {"train/loss": 1}  # others are as before
