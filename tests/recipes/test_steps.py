"""The steps of the main job as recipes of their own, one feeding the next."""

import json

import pytest

from tests.recipes.helpers import launch, read_jsonl


@pytest.fixture(scope="module")
def steps(script, tmp_path_factory):
    """A folder with warm/, disc/ and the run/ that used them."""
    folder = tmp_path_factory.mktemp("steps")
    for recipe, name, given in (
        ("warm_start.py", "warm", {}),
        ("train_discriminator.py", "disc", {"generator": folder / "warm/generator"}),
        (
            "seqgan_ppo.py",
            "run",
            {
                "generator": folder / "warm/generator",
                "discriminator": folder / "disc/discriminator",
                "max_steps": 1,
            },
        ),
    ):
        process = launch(recipe, dialogues=script, output_dir=folder / name, seed=0, **given)
        assert process.returncode == 0, process.stderr
    return folder


def test_a_warm_started_generator_is_not_trained_again(steps):
    assert (steps / "warm/generator/warm_start.json").is_file()
    # The first update's KL is taken from the generator the run began with.
    assert abs(read_jsonl(steps / "run/metrics.jsonl")[0]["objective/kl"]) < 1e-4


def test_the_discriminator_reports_each_kind_of_fake(steps):
    held_out = json.loads((steps / "disc/held_out.json").read_text())
    kinds = ("generated", "cast", "wrong_context", "degenerate")
    assert all(0 <= held_out[f"auc/{kind}"] <= 1 for kind in (*kinds, "all"))
    assert set(held_out["shortcuts"]) == {"length", "casing_punctuation", "bag_of_words"}
    for aucs in held_out["shortcuts"].values():
        assert set(aucs) == {*kinds, "all"} and all(0 <= auc <= 1 for auc in aucs.values())


def test_evaluation_on_its_own_agrees_with_the_run(steps, script, tmp_path):
    process = launch(
        "evaluate_dialog.py",
        dialogues=script,
        output_dir=tmp_path / "evaluation",
        seed=0,
        before=steps / "run/warm_start",
        generator=steps / "run/generator",
        judge=steps / "run/judge",
        discriminator=steps / "run/discriminator",
    )
    assert process.returncode == 0, process.stderr
    own, again = (
        json.loads((folder / "report.json").read_text())["metrics"]
        for folder in (steps / "run", tmp_path / "evaluation")
    )
    for name in ("judge_score", "perplexity", "distinct_2", "kl"):
        assert again[name]["after"] == pytest.approx(own[name]["after"], rel=1e-3), name
