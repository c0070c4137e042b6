"""Failures of a push end in a sentence, and the same command again goes on."""

import hashlib
import json
import runpy
import shutil
import sys

import pytest
from huggingface_hub import constants
from transformers import BertConfig

from rlhf_dialog.errors import UserError
from rlhf_dialog.publishing import PushSettings, hub, push_run
from rlhf_dialog.publishing.privacy import cleaned, refuse_private
from tests.publishing.loopback_hub import TOKEN, StoredRepository
from tests.publishing.runs import SECRET, with_adapters, write_run
from tests.recipes.helpers import ROOT


def settings(run, **values):
    return PushSettings(run=str(run), **{"name": "me/plume", **values})


def refused(run, **values):
    with pytest.raises(UserError) as refusal:
        push_run(settings(run, **values))
    assert "\n" not in str(refusal.value)
    return str(refusal.value)


def test_private_unless_said_otherwise(run, loopback):
    push_run(settings(run))
    assert [r.private for r in loopback.repositories.values()] == [True, True, True]
    push_run(settings(run, name="me/seen", private=False, parts=["judge"]))
    seen = loopback.repositories["model", "me/seen-judge"]
    assert not seen.private
    push_run(settings(run, name="me/seen", parts=["judge"]))  # its own: hidden again
    assert seen.private and not loopback.unknown


def test_nothing_private_goes_into_a_public_repository(run, loopback):
    stored = loopback.repositories["model", "me/plume-judge"] = StoredRepository(private=False)
    sentence = refused(run, parts=["judge"], exist_ok=True)
    assert "exists and is public; give --no_private" in sentence
    assert not stored.files and not stored.private
    push_run(settings(run, parts=["judge"], exist_ok=True, private=False))
    assert stored.files


def test_a_dry_run_lists_every_file_and_asks_nobody(run, loopback, capsys):
    assert push_run(settings(run, dry_run=True, name="plume")) == []
    shown = capsys.readouterr().out
    assert not loopback.seen and not (run / hub.RECORD).exists()
    for name in ("you/plume-judge (model, private)", "model.safetensors", "training_config.yaml"):
        assert name in shown
    assert "training_args.bin" not in shown
    push_run(settings(run))  # what was listed is what arrives
    for (_, repo), stored in loopback.repositories.items():
        listed = shown.split(f"you/{repo.split('/')[1]} (")[1].split("you/")[0]
        names = {line.split(" bytes  ")[1] for line in listed.splitlines() if " bytes  " in line}
        assert names == set(stored.files)


def test_a_push_that_was_cut_is_finished_by_the_same_command(run, loopback):
    loopback.fail(r"POST .*plume-discriminator/commit", "cut", times=100)
    sentence = refused(run)
    assert "me/plume-discriminator" in sentence and "same command again" in sentence
    assert ("model", "me/plume-judge") not in loopback.repositories
    loopback.faults.clear()
    assert len(push_run(settings(run))) == 3
    assert {repo.commits for repo in loopback.repositories.values()} == {1}  # nothing twice
    assert set(json.loads((run / hub.RECORD).read_text()).values()) == {"complete"}


def test_an_answer_that_got_lost_makes_no_stranger(run, loopback):
    """The repository was created and the answer never came: it is this run's all the same."""
    loopback.fail("POST /api/repos/create", "lost", times=1)
    loopback.fail("POST /api/repos/create", "cut", times=100)
    assert "cannot be reached" in refused(run, parts=["judge"])
    assert ("model", "me/plume-judge") in loopback.repositories
    loopback.faults.clear()
    assert push_run(settings(run, parts=["judge"]))


def test_a_lost_answer_is_followed_by_a_second_attempt(run, loopback):
    """The second attempt finds what the first one made; so do all later pushes."""
    loopback.fail("POST /api/repos/create", "lost", times=1)
    for _ in range(2):
        assert push_run(settings(run, parts=["judge"]))
    assert loopback.repositories["model", "me/plume-judge"].files


@pytest.mark.parametrize("noted", [False, True])
def test_what_was_asked_for_is_not_yet_made_by_this_run(run, loopback, noted):
    """The connection goes before any answer; the name belongs to an older repository."""
    if noted:  # as earlier versions noted it, before they knew
        key = f"{loopback.url} model me/plume-judge"
        (run / hub.RECORD).write_text(json.dumps({key: "asked for"}))
    older = loopback.repositories["model", "me/plume-judge"] = StoredRepository(private=False)
    loopback.fail("(POST /api/repos/create|GET /api/models/)", "cut", times=4)
    assert "cannot be reached" in refused(run, parts=["judge"])
    loopback.faults.clear()
    for _ in range(2):
        assert "was not made by this run" in refused(run, parts=["judge"])
    assert not older.files and not older.private


def test_failures_that_pass_are_waited_for(run, loopback):
    loopback.fail("GET /api/whoami-v2", 503, times=2)
    loopback.fail("POST /api/repos/create", 500, times=1)
    loopback.fail("POST .*/preupload", "cut", times=3)
    assert len(push_run(settings(run))) == 3


def test_large_files_that_arrived_are_not_sent_again(run, loopback, monkeypatch):
    """Over git-lfs, which a client without xet speaks, cut in the middle of the second file."""
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    loopback.lfs = True
    (run / "value").mkdir()
    critic = run / "value" / "value_head.safetensors"
    critic.write_bytes(b"0" * 5000)
    second = hashlib.sha256(critic.read_bytes()).hexdigest()
    loopback.fail(f"PUT /blobs/{second}", "cut", times=100)
    sentence = refused(run, parts=["generator"])
    assert "me/plume:" in sentence and "same command again" in sentence
    (first,) = loopback.blobs
    loopback.faults.clear()
    push_run(settings(run, parts=["generator"]))
    assert loopback.seen[f"PUT /blobs/{first}"] == 1
    stored = loopback.repositories["model", "me/plume"]
    assert stored.large == {"model.safetensors", "value/value_head.safetensors"}
    assert not loopback.unknown


def test_what_the_hub_refuses_is_told(run, loopback, monkeypatch):
    push_run(settings(run, parts=["judge"]))
    (run / hub.RECORD).unlink()
    sentence = refused(run, parts=["judge"])
    assert "me/plume-judge: exists already" in sentence and "--exist_ok" in sentence
    assert refused(run, parts=["judge"]) == sentence  # and asking made it nobody's own
    assert push_run(settings(run, parts=["judge"], exist_ok=True))
    assert "may not write there" in refused(run, name="somebody/plume")
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    assert "does not accept the token" in refused(run)
    monkeypatch.delenv("HF_TOKEN")
    assert "There is no Hub token" in refused(run)


def test_no_network(run, loopback, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert "http://127.0.0.1:9 cannot be reached" in refused(run)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE is set" in refused(run)


def test_a_run_that_has_not_finished(run, tmp_path):
    with pytest.raises(UserError, match="--run: is needed"):
        push_run(PushSettings())
    (run / "report.json").unlink()
    assert "has not finished" in refused(run)
    assert "no such folder" in refused(tmp_path / "nowhere")
    assert "no config.yaml" in refused(tmp_path)


def test_a_warm_start_has_figures_of_its_own(run, loopback):
    (run / "report.json").write_text(json.dumps({"perplexity": 90.1, "token_accuracy": 0.2}))
    assert "has not finished" in refused(run)  # its generator is of PPO
    (run / "generator" / "warm_start.json").write_text('{"stage": "warm start", "seed": 0}')
    push_run(settings(run, parts=["generator"]))
    stored = loopback.repositories["model", "me/plume"].files
    card = stored["README.md"].decode()
    assert "warm-started on the show of" in card and "tuned with PPO" not in card
    assert "report.json" not in stored


@pytest.mark.parametrize(
    ("kind", "name", "paper"),
    [("deberta-v2", "a fresh DeBERTa-v2", "2006.03654"), ("bert", "a fresh BERT", "devlin2019")],
)
def test_the_discriminators_card_knows_its_encoder(run, loopback, kind, name, paper):
    config = run / "discriminator" / "config.json"
    assert json.loads(config.read_text())["model_type"] == "deberta-v2"  # of today
    if kind == "bert":  # of earlier versions
        BertConfig(hidden_size=32, num_attention_heads=2).save_pretrained(run / "discriminator")
    push_run(settings(run, parts=["discriminator"]))
    card = loopback.repositories["model", "me/plume-discriminator"].files["README.md"].decode()
    assert f"{name} |" in card and paper in card and ("devlin2019" in card) == (kind == "bert")
    assert "| cast | 0.770 |" in card and "were not written" not in card
    training = card.replace("\\_", "_")
    assert "| `word_order_steps` | 40 |" in training  # as set
    assert "| `discriminator_learning_rate` | 0.001 |" in training  # as training chose it


def test_a_folder_that_the_run_has_not(run, loopback):
    shutil.rmtree(run / "judge")
    assert "holds no folder 'judge'" in refused(run)
    assert not loopback.repositories


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"parts": ["generators"]}, "'generators' is not known"),
        ({"parts": []}, "name at least one"),
        ({"name": "a/b/c"}, "must be NAME or OWNER/NAME"),
        ({"name": "me/with space"}, "must be NAME or OWNER/NAME"),
        ({"parts": ["data"]}, "data_license: is needed"),
    ],
)
def test_settings_that_cannot_work(run, values, told):
    assert told in refused(run, **values)


def test_the_recipe_says_one_sentence(run, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", ["push_to_hub.py", "--run", str(run), "--nmae", "x"])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path("recipes/push_to_hub.py", run_name="__main__")
    assert stop.value.code == 2 and "did you mean 'name'" in capsys.readouterr().err


def test_adapters_of_a_local_model_need_a_name_for_it_or_are_merged(
    tmp_path, make_generator, loopback
):
    adapters = with_adapters(make_generator("gpt2"), tmp_path / "base")
    run = write_run(tmp_path / "lora", adapters, base=str(tmp_path / "base"))
    only = {"parts": ["generator"]}
    assert "--merge" in refused(run, **only)
    push_run(settings(run, base_model="org/base", **only))
    stored = loopback.repositories["model", "me/plume"].files
    assert json.loads(stored["adapter_config.json"])["base_model_name_or_path"] == "org/base"
    assert b"base_model: org/base" in stored["README.md"]
    assert "fingerprint" in json.loads(stored["adapter_base.json"])
    push_run(settings(run, name="me/merged", merge=True, **only))
    stored = loopback.repositories["model", "me/merged"].files
    assert (
        "adapter_config.json" not in stored and b"library_name: transformers" in stored["README.md"]
    )
    folder = tmp_path / "back"
    folder.mkdir()
    for name, content in stored.items():
        (folder / name).write_bytes(content)
    from tests.publishing.round_trip import logits

    # Merging adds the product of two matrices to a third: equal to the last digits.
    assert (logits(folder) - logits(run / "generator")).abs().max() < 1e-5


def test_adapters_stand_on_the_runs_own_warm_start(tmp_path, make_generator, loopback):
    """They name the model of the Hub that the warm start began from, and do not fit it."""
    adapters = with_adapters(make_generator("gpt2"), tmp_path / "base")
    run = write_run(tmp_path / "lora", adapters, base="org/base")
    (tmp_path / "base").rename(run / "warm_start")
    config = run / "generator" / "adapter_config.json"
    config.write_text(config.read_text().replace(str(tmp_path / "base"), "org/base"))
    assert "adapters to warm_start" in refused(run, parts=["generator"])
    push_run(settings(run, parts=["generator"], merge=True))
    card = loopback.repositories["model", "me/plume"].files["README.md"]
    assert b"base_model: org/base" in card and b"library_name: transformers" in card


def test_what_a_value_loses_and_keeps():
    assert cleaned({"a": "/home/x/y.jsonl", "hub_token": "t", "b": ["~/z", 1, None]}) == {
        "a": "y.jsonl",
        "b": ["z", 1, None],
    }
    for kept in ("</s>", "1/2", "org/model", "data/tidy_tide.jsonl", "and/or", "a / b"):
        assert cleaned(kept) == kept
    assert SECRET not in cleaned(f"token={SECRET}")
    assert cleaned("C:\\Users\\x\\model") == "model"
    spaced = "/home/ann lee/acme corp/chat log.txt"
    assert cleaned(spaced) == "chat log.txt"
    places = {"dialogues": spaced, "generator": "clients/acme/anna.txt", "judge": "org/model"}
    nested = {"config": {"warm_start_dialogues": "acme corp/a.txt", "general_dialogues": None}}
    assert cleaned(places | nested) == {
        "dialogues": "chat log.txt",
        "generator": "anna.txt",
        "judge": "org/model",
        "config": {"warm_start_dialogues": "a.txt", "general_dialogues": None},
    }


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (f"key: {SECRET}", "an access token"),
        ("see /home/somebody/x", "the path /home/somebody"),
        ("see /Users/somebody/x", "the path /Users/somebody"),
        (str(ROOT), "a path of this machine"),
    ],
)
def test_a_file_that_tells_too_much_is_named(tmp_path, monkeypatch, content, told):
    monkeypatch.chdir(ROOT)
    file = tmp_path / "README.md"
    file.write_text(f"# A card\n{content}\n")
    with pytest.raises(UserError, match=r"README\.md: holds") as refusal:
        refuse_private([file], owner="me", run=tmp_path)
    assert told in str(refusal.value) and "ssss" not in str(refusal.value)


def test_a_token_hidden_in_weights_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"\0" * 100 + TOKEN.encode())
    with pytest.raises(UserError, match="your Hub token"):
        refuse_private([file], owner="me", run=tmp_path)
