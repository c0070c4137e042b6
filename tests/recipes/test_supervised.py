"""The supervised stage and what talks with its result, as recipes, in this process."""

import json
import runpy
import sys

import pytest
from safetensors.torch import load_file

from rlhf_dialog.discriminators.model import fresh_discriminator
from rlhf_dialog.evaluation.metrics.distinct_n.distinct_n import distinct_n
from rlhf_dialog.generators import warm_start
from rlhf_dialog.generators.loading import load_generator
from tests.recipes.helpers import ROOT, TINY, read_jsonl

TWO_HEADS = {
    "warm_start_epochs": 2,
    "warm_start_distractors": 2,
    "warm_start_validation_share": 0.2,
    "warm_start_schedule": "noam",
    "input_form": "speakers",
    "seed": 0,
}
VALUES = {
    name: TINY[name]
    for name in TINY
    if name.startswith(("fresh_", "warm_", "context_")) or name in ("response_length", "max_turns")
}


@pytest.fixture
def recipe(monkeypatch):
    def run(name, **values):
        flags = [part for key, value in values.items() for part in (f"--{key}", str(value))]
        monkeypatch.chdir(ROOT)
        monkeypatch.setattr(sys, "argv", [name, *flags])
        runpy.run_path(f"recipes/{name}", run_name="__main__")

    return run


class _Interrupted(Exception):
    pass


def test_two_heads_interrupted_and_resumed(recipe, script, tmp_path, monkeypatch):
    values = {"character": "PLUME", "dialogues": script, **VALUES, **TWO_HEADS}
    recipe("warm_start.py", output_dir=tmp_path / "whole", **values)
    report = json.loads((tmp_path / "whole/report.json").read_text())
    assert report["hits_at_1_by_chance"] == 1 / 20 and 0 <= report["hits_at_1"] <= 1
    assert report["perplexity"] > 1 and 0 <= report["f1"] <= 1
    assert not (tmp_path / "whole/checkpoints").exists()

    step = warm_start.SupervisedTrainer.training_step

    def stops(self, *args, **kwargs):
        if self.state.epoch > 1.3:
            raise _Interrupted
        return step(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(warm_start.SupervisedTrainer, "training_step", stops)
        with pytest.raises(_Interrupted):
            recipe("warm_start.py", output_dir=tmp_path / "parts", **values)
    assert not (tmp_path / "parts/generator").exists()
    recipe("warm_start.py", resume=tmp_path / "parts")
    for file in ("model.safetensors", "choice_head.safetensors"):
        whole, parts = (
            load_file(tmp_path / run / "generator" / file) for run in ("whole", "parts")
        )
        assert all(whole[name].equal(parts[name]) for name in whole)
    again = json.loads((tmp_path / "parts/report.json").read_text())
    assert again == report


def test_what_cannot_be_resumed_is_told(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(ROOT)
    for flags, words in ((["--seed", "3"], "leave out --seed"), ([], "has no checkpoints")):
        monkeypatch.setattr(sys, "argv", ["warm_start.py", "--resume", str(tmp_path), *flags])
        with pytest.raises(SystemExit) as stop:
            runpy.run_path("recipes/warm_start.py", run_name="__main__")
        assert stop.value.code == 2
        assert words in capsys.readouterr().err


KOREAN = [
    ("배고파 죽겠어", "뭐 좀 챙겨드세요."),
    ("오늘 날씨 어때?", "맑고 따뜻해요."),
    ("주말에 뭐 해?", "친구랑 영화를 볼 거예요."),
    ("너무 졸려", "일찍 주무세요."),
]
JAPANESE = [
    ("花子", "今日は寒いですね。"),
    ("太郎", "はい、雪が降りそうです。"),
    ("花子", "「温かいお茶」はいかが?"),
    ("太郎", "ありがとう、いただきます。"),
]


def _korean(folder):
    file = folder / "ChatbotData.csv"
    rows = [f"{q} {n % 37},{a} {n % 29},0" for n in range(60) for q, a in KOREAN]
    file.write_text("\n".join(["Q,A,label", *rows]) + "\n", encoding="utf-8")
    return file, "bot", "separator", [KOREAN[0][0]]


def _japanese(folder):
    file = folder / "脚本.txt"
    scenes = [
        "\n".join([f"# 第{n}場", *(f"{name}: {n}、{text}" for name, text in JAPANESE)])
        for n in range(60)
    ]
    file.write_text("\n\n".join(scenes) + "\n", encoding="utf-8")
    return file, "太郎", "speakers", [JAPANESE[0][1], JAPANESE[1][1], JAPANESE[2][1]]


@pytest.mark.parametrize("language", [_korean, _japanese])
def test_korean_and_japanese_from_file_to_replies(recipe, tmp_path, language):
    file, character, form, context = language(tmp_path)
    values = VALUES | {"fresh_vocab_size": 600, "warm_start_epochs": 3}
    recipe(
        "warm_start.py",
        **values,
        dialogues=file,
        character=character,
        input_form=form,
        output_dir=tmp_path / "run",
    )
    generator = load_generator(str(tmp_path / "run/generator"))
    for text in (*context, "ㅋㅋ 🌸 「漢字」"):
        assert generator.round_trip(text) == text
    texts = [text for row in (KOREAN, JAPANESE) for pair in row for text in pair]
    fresh_discriminator(texts, hidden_size=32, layers=1, max_tokens=48, seed=0).save(
        tmp_path / "discriminator"
    )
    asked = [{"speaker": "ab"[n % 2], "text": text} for n, text in enumerate(context)]
    contexts = tmp_path / "contexts.jsonl"
    contexts.write_text(json.dumps({"turns": asked}, ensure_ascii=False) + "\n", encoding="utf-8")
    recipe(
        "generate.py",
        generator=tmp_path / "run/generator",
        dialogues=contexts,
        output_file=tmp_path / "replies.jsonl",
        discriminator=tmp_path / "discriminator",
        rerank="likelihood",
        candidates=8,
        returns=3,
        response_length=12,
        max_turns=2,
    )
    (row,) = read_jsonl(tmp_path / "replies.jsonl")
    assert row["context"] == context and len(row["replies"]) == 3
    assert row["rank"] == sorted(row["rank"], reverse=True) and None not in row["discriminator"]
    # What was learnt is written in its own script, and counted in its own units.
    letters = {ch for reply in row["replies"] for ch in reply if ch.isalpha() and ord(ch) > 127}
    known = {ch for text in texts for ch in text}
    assert letters and letters & known
    assert 0 < distinct_n(row["replies"], 1, normalization="characters") <= 1


def test_generate_refuses_before_it_loads_a_model(refused_generate, tmp_path):
    (tmp_path / "there.jsonl").write_text("")
    told = refused_generate("--output_file", str(tmp_path / "there.jsonl"), "--dialogues", "x")
    assert "is there already" in told
    assert "--dialogues: is needed" in refused_generate("--generator", "nowhere")
    assert "sample, greedy, beam" in refused_generate("--decoding", "magic")


@pytest.fixture
def refused_generate(monkeypatch, capsys):
    def run(*flags):
        monkeypatch.chdir(ROOT)
        monkeypatch.setattr(sys, "argv", ["generate.py", *flags])
        with pytest.raises(SystemExit):
            runpy.run_path("recipes/generate.py", run_name="__main__")
        (line,) = capsys.readouterr().err.strip().splitlines()
        return line

    return run
