"""Each mistake of a user's ends before training, in one sentence, and nothing is written over."""

import json
import runpy

import pytest

from tests.recipes.helpers import ROOT, launch

RECIPE = "seqgan_ppo.py"


def write(tmp_path, text, name="script.jsonl"):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def line(*turns, **other):
    return json.dumps({"turns": [{"speaker": s, "text": t} for s, t in turns], **other}) + "\n"


GOOD = line(("PLUME", "Aye."), ("NORA", "No."))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "empty"),
        ("\n\n", "empty"),
        (GOOD + '{"turns": [', "line 2"),
        (GOOD + line(("PLUME", "Aye."), ("", "No.")), "line 2"),
        (GOOD + '{"turns": [{"speaker": "NORA"}]}\n', '"text"'),
        (GOOD + '{"turns": [{"text": "Who?"}]}\n', '"speaker"'),
        (GOOD + '{"words": []}\n', '"turns"'),
        ('["a", "list"]\n', "line 1"),
    ],
)
def test_a_broken_file_is_named_with_its_line(refused, tmp_path, text, told):
    path = write(tmp_path, text)
    sentence = refused(RECIPE, dialogues=path, output_dir=tmp_path / "run")
    assert str(path) in sentence and told in sentence
    assert not (tmp_path / "run").exists()


def test_a_missing_file(refused, tmp_path):
    sentence = refused(RECIPE, dialogues=tmp_path / "no.jsonl", output_dir=tmp_path / "run")
    assert "no.jsonl" in sentence and "no such file" in sentence


def test_a_character_who_does_not_occur(refused, script, tmp_path):
    sentence = refused(RECIPE, dialogues=script, character="PLUM", output_dir=tmp_path / "run")
    assert '"PLUM"' in sentence and 'did you mean "PLUME"' in sentence


def test_a_character_with_too_few_replies(refused, tmp_path):
    path = write(tmp_path, "".join(line(("NORA", f"{n}?"), ("PLUME", f"{n}!")) for n in range(20)))
    sentence = refused(RECIPE, dialogues=path, output_dir=tmp_path / "run")
    assert "20 replies" in sentence and "100" in sentence


def test_one_scene_cannot_be_split(refused, tmp_path):
    turns = [(who, f"{who} {n}") for n in range(100) for who in ("NORA", "PLUME")]
    sentence = refused(RECIPE, dialogues=write(tmp_path, line(*turns)), output_dir=tmp_path / "r")
    assert "4" in sentence and "1" in sentence


@pytest.mark.parametrize("what", ["generator", "discriminator", "judge"])
def test_an_unknown_model_without_network(refused, script, tmp_path, what):
    sentence = refused(
        RECIPE, dialogues=script, output_dir=tmp_path / "run", **{what: "nobody/nothing"}
    )
    assert f"--{what} nobody/nothing" in sentence and "network" in sentence
    assert not (tmp_path / "run").exists()


def test_a_folder_that_holds_a_run_is_left_as_it_is(refused, script, tmp_path):
    kept = write(tmp_path, "precious", "report.json")
    sentence = refused(RECIPE, dialogues=script, output_dir=tmp_path)
    assert str(tmp_path) in sentence and "already holds" in sentence
    assert kept.read_text() == "precious" and list(tmp_path.iterdir()) == [kept]


def test_replies_that_do_not_fit_the_model(refused, script, tmp_path, make_generator):
    folder = tmp_path / "generator"
    make_generator("gpt2").save(folder)
    sentence = refused(
        RECIPE, dialogues=script, output_dir=tmp_path / "run", generator=folder, response_length=60
    )
    assert "response_length 60" in sentence and "64 positions" in sentence


@pytest.mark.parametrize(
    ("form", "told"),
    [
        ("persona", "'persona' reads a persona, and no dialogue of"),
        ("chat", "'chat' is for causal models with a chat template; this one is gpt2"),
    ],
)
def test_a_form_of_prompts_that_cannot_be_made(refused, script, tmp_path, form, told):
    sentence = refused(RECIPE, dialogues=script, output_dir=tmp_path / "run", input_form=form)
    assert f"input_form: {told}" in sentence


def test_more_episodes_than_contexts(refused, script, tmp_path):
    sentence = refused(
        "seqgan_ppo.py",
        dialogues=script,
        output_dir=tmp_path / "run",
        per_device_train_batch_size=4096,
    )
    assert "per_device_train_batch_size" in sentence and "contexts" in sentence


@pytest.mark.parametrize(
    ("yaml", "told"),
    [
        ("max_stepz: 3\n", "did you mean 'max_steps'"),
        ("- a\n- b\n", "mapping"),
        ("a: [\n", "YAML"),
        ("reward: praise\n", "reward: 'praise' is not one of"),
    ],
)
def test_a_configuration_file_with_a_mistake(refused, tmp_path, yaml, told):
    path = write(tmp_path, yaml, "config.yaml")
    assert told in refused(RECIPE, "--config", str(path))
    assert told in refused(RECIPE, f"--config={path}")


@pytest.mark.parametrize(
    ("argument", "told"),
    [
        (["--max_stepz", "3"], "--max_stepz: is not known; did you mean 'max_steps'"),
        (["--max_steps", "many"], "invalid int value: 'many'"),
        (["--no-such-thing"], "--no_such_thing: is not known"),
        (["--config"], "--config: give the path"),
    ],
)
def test_a_mistake_on_the_command_line(refused, argument, told):
    assert told in refused(RECIPE, *argument)


def test_help_names_every_field_with_its_default(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("sys.argv", ["seqgan_ppo.py", "--help"])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path("recipes/seqgan_ppo.py", run_name="__main__")
    text = " ".join(capsys.readouterr().out.split())
    assert stop.value.code == 0
    assert "--kl_target" in text and "nats per reply" in text and "95 % intervals" in text


def test_a_launched_recipe_says_one_sentence(tmp_path):
    process = launch("seqgan_ppo.py", dialogues=tmp_path / "no.jsonl")
    assert process.returncode != 0
    lines = process.stderr.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith(f"error: {tmp_path / 'no.jsonl'}"), lines
