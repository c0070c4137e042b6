"""Every piece of Python on a page runs, from the top of the page to its end."""

import json

import pytest
import torch

from rlhf_dialog.dialogues.examples import make_examples
from rlhf_dialog.dialogues.readers import read_dialogues
from rlhf_dialog.discriminators.model import fresh_discriminator
from rlhf_dialog.evaluation.metrics.distinct_n.distinct_n import distinct_n
from rlhf_dialog.generators.two_heads import fresh_choice_head, save_choice_head
from rlhf_dialog.ppo.config import SeqGANPPOConfig
from rlhf_dialog.ppo.interruption import Interrupted
from rlhf_dialog.ppo.trainer import SeqGANPPOTrainer
from tests.conftest import SENTENCES
from tests.evaluation.reports import sample
from tests.pages import PAGES, ROOT, blocks, name_of
from tests.ppo.resumable import SignalAfter
from tests.ppo.trainers import grade

# Pages whose code another test runs, with what it does besides.
ELSEWHERE = {"docs/algorithm.md": "tests/ppo/test_algorithm_page.py"}
WITH_PYTHON = [page for page in PAGES if blocks(page, "python") and name_of(page) not in ELSEWHERE]


@pytest.fixture
def place(tmp_path, monkeypatch, make_generator):
    """A folder with what the pages speak of."""
    turns = [{"speaker": ("Ann", "Bob")[n % 2], "text": SENTENCES[n % 6]} for n in range(200)]
    script = [json.dumps({"turns": turns[start : start + 10]}) for start in range(0, 200, 10)]
    (tmp_path / "my_script.jsonl").write_text("\n".join(script) + "\n")
    (tmp_path / "data").symlink_to(ROOT / "data")
    generator = make_generator("gpt2")
    for folder in ("runs/warm_start/generator", "runs/demo/generator", "OWNER/ann"):
        generator.save(tmp_path / folder)
    save_choice_head(fresh_choice_head(generator, 0), tmp_path / "runs/warm_start/generator")
    discriminator = fresh_discriminator(SENTENCES, hidden_size=32, layers=1, max_tokens=96, seed=0)
    discriminator.save(tmp_path / "runs/ann/discriminator")
    (tmp_path / "runs/demo/samples.jsonl").write_text(json.dumps(sample()) + "\n")
    monkeypatch.chdir(tmp_path)
    said = iter(["where is the captain ?"])
    monkeypatch.setattr("builtins.input", lambda prompt="": next(said, ""))
    return tmp_path


def given(generator):
    """The names that pages take from what their reader has written before."""
    return {
        "torch": torch,
        "SeqGANPPOTrainer": SeqGANPPOTrainer,
        "generator": generator,
        "examples": make_examples(read_dialogues("my_script.jsonl"), character="Ann"),
        "args": SeqGANPPOConfig(
            output_dir="runs/mine",
            max_steps=2,
            per_device_train_batch_size=2,
            use_cpu=True,
            disable_tqdm=True,
            report_to=[],
        ),
        "my_reward": grade,
        "scorer": lambda contexts, replies: torch.tensor([float(len(r)) for r in replies]),
        "distinct_n": distinct_n,
        "replies": SENTENCES,
        "replies_of_this_rank": SENTENCES,
    }


def small(code):
    return (
        code.replace("max_steps=30", "max_steps=1, use_cpu=True, disable_tqdm=True, report_to=[]")
        .replace("per_device_train_batch_size=64", "per_device_train_batch_size=2")
        .replace("context_length=64", "context_length=32")
        .replace("(candidates=8)", "(candidates=8, response_length=8)")
    )


@pytest.mark.parametrize("page", WITH_PYTHON, ids=name_of)
def test_the_python_of_a_page_runs(page, place, make_generator, capsys):
    names = given(make_generator("gpt2"))
    if page.name == "checkpoints.md":  # speaks of a run that was stopped
        arguments = (names["args"], make_generator("gpt2"), grade, names["examples"])
        stopped = SeqGANPPOTrainer(*arguments, context_length=32, callbacks=[SignalAfter(1)])
        with pytest.raises(Interrupted):
            stopped.train()
        assert len(list((place / "runs/mine/checkpoints").iterdir())) == 1
    for code in blocks(page, "python"):
        exec(small(code), names)
    check(name_of(page).removeprefix("docs/"), names, place, capsys.readouterr().out)


def check(page, names, place, printed):
    """What the page says of its code."""
    if page == "README.md":
        assert names["politeness"]([["a"]] * 2, ["Tea, Please.", "Tea."]).tolist() == [1, 0]
        assert printed.count("bot>") == 1
    elif page == "checkpoints.md":
        assert names["trainer"].state.global_step == 2
    elif page == "decoding_and_chat.md":
        ((best,),) = names["best"]
        assert isinstance(best.text, str)
    elif page == "evaluate_reward.md":
        rows = [json.loads(line) for line in (place / "replies.jsonl").read_text().splitlines()]
        assert [row["label"] for row in rows] == [True, False, False]
    elif page == "input_forms.md":
        assert len(names["ids"]) == len(names["token_types"]) > 0
    elif page == "metrics.md":
        assert names["value"] == distinct_n(SENTENCES, n=2)
    elif page == "supervised.md":
        scores = names["scorer"]([["Is there tea?"]] * 2, ["In the urn.", "The tide is late."])
        assert scores.shape == (2,) and scores.dtype == torch.float32
    elif page == "own_reward.md":
        assert (place / "runs/curious/value").is_dir()
        assert names["questions"]([["a"], ["b"]], ["Why?", "So."]).tolist() == [1, 0]
        assert names["scores"].shape == (1,)
    elif page in ("own_language.md", "publish.md"):
        assert printed.strip()
    else:
        assert page == "data/README.md" and names["scenes"]
