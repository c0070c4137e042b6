"""The stages that recipes share."""

import json
import random
from types import SimpleNamespace

import pytest
import torch

from rlhf_dialog.dialogues.schema import Dialogue, Turn
from rlhf_dialog.discriminators.training import split_pools
from rlhf_dialog.errors import UserError
from rlhf_dialog.evaluation_stages import general_test
from rlhf_dialog.ppo.config import SeqGANPPOConfig
from rlhf_dialog.resuming import FAKES, PRETRAINED, kept_pretrained
from rlhf_dialog.settings import DialogueSettings, EvaluationSettings, GeneratorSettings
from rlhf_dialog.stages import (
    Script,
    describe_script,
    general_examples,
    human_pools,
    make_reward,
    save_generator,
)
from rlhf_dialog.stages import make_generator as make_generator_of

CONTEXT = ["tea or rain or tea"]
REPLIES = ["aye", "aye aye aye aye", "tea or rain or tea", "one two three four five six seven"]


def scores(contexts, replies):
    return torch.tensor([0.5, 1.0, 1.5, 2.0])


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, [0.5, 1.0, 1.5, 2.0]),
        ({"reward": "log_d"}, torch.log(torch.sigmoid(scores(0, 0))).tolist()),
        ({"reward": "constant"}, [0.0] * 4),
        # of its three 2-grams, "aye aye aye aye" has two that it said before
        ({"repetition_penalty_coef": 3.0}, [0.5, 1.0 - 2.0, 1.5, 2.0]),
        ({"copy_penalty_coef": 2.0}, [0.5, 1.0, 1.5 - 2.0, 2.0]),
    ],
)
def test_the_settings_make_the_reward(tmp_path, values, expected):
    config = SeqGANPPOConfig(output_dir=str(tmp_path), **values)
    reward = make_reward(config, scores, _nobody(), generator=None)
    assert reward([CONTEXT] * 4, REPLIES).tolist() == pytest.approx(expected)


@pytest.mark.parametrize(("band", "in_band"), [((1, 5), 1), ((2, 9), 3), ((1, 3), 0)])
def test_the_band_of_lengths_is_that_of_the_settings(tmp_path, band, in_band):
    least, most = band
    config = SeqGANPPOConfig(
        output_dir=str(tmp_path),
        reward="constant",
        length_penalty_coef=1.0,
        length_residual_window=0,
        length_penalty_least=least,
        length_penalty_most=most,
    )
    lost = make_reward(config, scores, _nobody(), generator=None)([CONTEXT] * 4, REPLIES)
    inside = [least <= len(reply.split()) <= most for reply in REPLIES]
    assert [value == 0 for value in lost.tolist()] == inside and inside[in_band]


def _nobody():
    return Script(DialogueSettings(), {"generator": [], "discriminator": []})


@pytest.mark.parametrize(
    ("episodes", "apart"), [(6, "episode"), (4, "episode"), (3, "scene"), (1, "scene")]
)
def test_discriminators_hold_out_whole_episodes_where_there_are_enough(episodes, apart):
    scenes = [
        Dialogue(
            f"scene {n}",
            (Turn("Bob", "Tea?"), Turn("Ann", f"Tea {n}."), Turn("Cy", "No.")),
            group=f"episode {n % episodes}",
        )
        for n in range(24)
    ]
    script = Script(DialogueSettings(character="Ann"), {"judge": scenes})
    as_it_is = SimpleNamespace(round_trip=lambda text, longest: text)
    pools = human_pools(script, "judge", as_it_is, response_length=8)
    assert {pair.kind for pool in pools.values() for pair in pool} == {"real"}  # all answer Ann
    sides = split_pools(pools, random.Random(0), lengths=True)
    units = [{pair.group.split()[0] for pair in side["real"]} for side in sides]
    assert units == [{apart}, {apart}]
    train, held_out = ({pair.group for pair in side["real"]} for side in sides)
    assert train and held_out and not train & held_out


def test_a_run_of_a_version_that_held_out_scenes_is_not_gone_on_with(tmp_path):
    (tmp_path / PRETRAINED).mkdir()
    row = {"context": ["Tea?"], "reply": "No.", "dialogue_id": "scene 1"}
    (tmp_path / PRETRAINED / FAKES).write_text(json.dumps(row) + "\n")
    with pytest.raises(UserError, match="written by an earlier version"):
        kept_pretrained(tmp_path, {"real": []})


def test_general_conversation_teaches_nothing_of_the_test(tmp_path):
    turns = [Turn("Ann", "Tea?"), Turn("Bob", "Yes.")], [Turn("Ann", "Rain?"), Turn("Bob", "No.")]
    lines = [
        json.dumps({"turns": [{"speaker": t.speaker, "text": t.text} for t in told]})
        for told in turns
    ]
    path = tmp_path / "general.jsonl"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    splits = {"generator": [], "discriminator": [], "judge": []}
    script = Script(DialogueSettings(), {**splits, "test": [Dialogue("x", tuple(turns[0]))]})
    examples = general_examples(script, GeneratorSettings(warm_start_dialogues=str(path)))
    assert [example.reply for example in examples] == ["No."]
    values = SimpleNamespace(
        dialogues=script.settings,
        generator=GeneratorSettings(warm_start_dialogues=str(path)),
        evaluation=EvaluationSettings(),
    )
    kept, source = general_test(script, values)
    assert [example.reply for example in kept] == ["No."]
    assert source == "general.jsonl, which the warm start has read"


def test_a_script_of_two_people_has_no_cast_to_learn_from_and_says_so(capsys):
    turns = tuple(Turn(name, "Tea?") for name in ("Ann", "PLUME", "Ann", "PLUME"))
    script = Script(
        DialogueSettings(),
        {name: [Dialogue("x", turns)] for name in ("generator", "discriminator", "judge", "test")},
    )
    values = SimpleNamespace(
        dialogues=script.settings, generator=GeneratorSettings(), evaluation=EvaluationSettings()
    )
    assert general_test(script, values)[0] == []
    describe_script(script)
    assert "nobody answers anybody but PLUME" in " ".join(capsys.readouterr().out.split())


def test_retention_reads_the_columns_that_the_warm_start_read(tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_text("id,text,reply\n7,Tea?,Yes.\n8,Rain?,No.\n", encoding="utf-8")
    script = Script(DialogueSettings(), {n: [] for n in ("discriminator", "judge", "test")})
    generator = GeneratorSettings(
        warm_start_dialogues=str(path), warm_start_dialogues_columns=["text", "reply"]
    )
    values = SimpleNamespace(
        dialogues=script.settings, generator=generator, evaluation=EvaluationSettings()
    )
    read, _ = general_test(script, values)
    assert [(*e.context, e.reply) for e in read] == [("Tea?", "Yes."), ("Rain?", "No.")]
    assert read == general_examples(script, generator)


def test_a_form_that_was_not_taught_is_refused(tmp_path, make_generator):
    folder = tmp_path / "warm"
    generator = make_generator("gpt2")
    save_generator(generator, folder, {})
    settings = GeneratorSettings(generator=str(folder), input_form="speakers")
    with pytest.raises(UserError, match="was warm-started on the form 'dialogpt'"):
        make_generator_of(_nobody(), settings, [], response_length=8, seed=0)
