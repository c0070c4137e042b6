"""The recipe for real, on made-up dialogues told in two ways."""

import json
import random
import runpy
import sys

import pytest

from rlhf_dialog.discriminators.model import load_discriminator
from tests.recipes.helpers import ROOT

WORDS = ["tea", "ship", "lamp", "tide", "rain", "soup", "bread", "door"]
SMALL = {
    "fresh_discriminator_hidden_size": 32,
    "fresh_discriminator_layers": 1,
    "discriminator_max_tokens": 32,
    "discriminator_learning_rate": 2e-3,
    "word_order_steps": 0,
}


@pytest.fixture
def train(monkeypatch, tmp_path):
    def run(**options):
        flags = [part for name, value in (SMALL | options).items() for part in (f"--{name}", value)]
        monkeypatch.chdir(ROOT)
        monkeypatch.setattr(sys, "argv", ["train_style.py", *map(str, flags)])
        runpy.run_path("recipes/train_style.py", run_name="__main__")

    return run


def styles(path, dialogues):
    rng = random.Random(0)
    with path.open("w", encoding="utf-8") as file:
        for parallel in range(dialogues):
            texts = [" ".join(rng.sample(WORDS, 4)) for _ in range(5)]
            for style, mark in (("plain", ""), ("pirate", " arr")):
                turns = [{"speaker": "AB"[n % 2], "text": t + mark} for n, t in enumerate(texts)]
                record = {"parallel_id": parallel, "style": style, "turns": turns}
                file.write(json.dumps(record) + "\n")
    return path


def test_a_style_is_told_from_the_same_lines_in_another(train, tmp_path):
    path = styles(tmp_path / "styles.jsonl", 60)
    train(dialogues=path, style="pirate", output_dir=tmp_path / "run")
    held_out = json.loads((tmp_path / "run/held_out.json").read_text(encoding="utf-8"))
    assert held_out["auc/cast"] > 0.95
    assert held_out["shortcuts"]["bag_of_words"]["cast"] > 0.95
    model = load_discriminator(str(tmp_path / "run/discriminator"), max_tokens=32, what="x")
    arr, plain = model([["rain soup arr"]] * 2, ["tea ship lamp arr", "tea ship lamp tide"])
    assert arr > plain


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"style": "pirate"}, "--dialogues: is needed"),
        ({"dialogues": "FILE", "style": "knight"}, 'no dialogue has the style "knight"'),
        ({"dialogues": "FILE", "style": "pirate"}, "one dialogue in the style 'pirate' has"),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_nothing(train, tmp_path, capsys, options, said):
    path = str(styles(tmp_path / "one.jsonl", 1))
    given = {name: path if value == "FILE" else value for name, value in options.items()}
    with pytest.raises(SystemExit):
        train(output_dir=tmp_path / "run", **given)
    printed = capsys.readouterr()
    assert said in " ".join((printed.out + printed.err).split())
    assert not (tmp_path / "run").exists()
