"""push_to_hub in a recipe's configuration."""

import json

import pytest

from rlhf_dialog.errors import UserError
from rlhf_dialog.ppo.config import SeqGANPPOConfig
from rlhf_dialog.publishing import PushSettings, hub, push_after_training, push_finished
from tests.publishing.loopback_hub import StoredRepository


def config(run, **values):
    return SeqGANPPOConfig(output_dir=str(run), push_to_hub=True, use_cpu=True, **values)


def test_what_training_asks_of_the_hub(run, loopback, monkeypatch):
    assert push_after_training(SeqGANPPOConfig(output_dir=str(run))) is None
    for private, wanted in ((None, True), (True, True), (False, False)):
        ppo = config(run, hub_model_id="me/plume", hub_private_repo=private)
        asked = push_after_training(ppo)
        assert asked == PushSettings(run=str(run), name="me/plume", private=wanted)
        assert not ppo.push_to_hub  # the trainer is to know nothing of it
    loopback.repositories["model", "me/plume-judge"] = StoredRepository(private=True)
    with pytest.raises(UserError, match="me/plume-judge: exists already"):
        push_after_training(config(run, hub_model_id="plume"))
    key = f"{loopback.url} model me/plume-judge"  # a run that was resumed: the judge is its own
    (run / hub.RECORD).write_text(json.dumps({key: "complete"}))
    assert push_after_training(config(run, hub_model_id="plume"))
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(UserError, match="There is no Hub token"):
        push_after_training(config(run))
    assert not loopback.unknown


def test_a_trainer_on_its_own_does_not_push_by_halves(tmp_path):
    with pytest.raises(UserError, match=r"push a finished run with rlhf_dialog\.publishing"):
        config(tmp_path).check_push()


def test_a_push_that_fails_after_training_says_how_to_go_on(run, loopback):
    loopback.fail("POST /api/repos/create", 403, times=100)
    with pytest.raises(UserError) as failure:
        push_finished(PushSettings(run=str(run), name="me/plume", private=False))
    told = str(failure.value)
    assert "may not write there" in told and "\n" not in told
    assert f"`rlhf-dialog push --run {run} --name me/plume --no_private`" in told
