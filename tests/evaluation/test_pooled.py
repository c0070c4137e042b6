"""Which runs are pooled, and what is read of their folders."""

import json

import pytest
from rich.console import Console

from rlhf_dialog.errors import UserError
from rlhf_dialog.evaluation.pooled import group_runs, pooled_metrics
from rlhf_dialog.evaluation.pooled_report import (
    comparison,
    print_comparison,
    verdict,
    warnings,
    write_comparison,
)
from rlhf_dialog.evaluation.run_files import RunFiles, newest_generator, read_rows, read_run
from tests.evaluation.reports import metric, plain_report, updates


def run(folder, seed, judge, generator_type="causal", **config):
    report = plain_report() | {
        "seed": seed,
        "generator_type": generator_type,
        "config": {"reward": "logit", "output_dir": str(folder), "seed": seed, **config},
    }
    report["metrics"]["judge_score"] = metric(-1.0, -1.0 + judge, [judge - 0.1, judge + 0.1])
    return RunFiles(folder, report, [], [])


def test_runs_that_differ_in_more_than_the_seed_are_not_pooled(tmp_path):
    runs = [
        run(tmp_path / "c0", 0, 0.0, reward="constant", architecture="gpt2"),
        run(tmp_path / "a0", 0, 0.6, architecture="gpt2"),
        run(tmp_path / "a1", 1, 0.8, architecture="gpt2"),
        run(tmp_path / "b0", 0, 1.0, "encoder-decoder", architecture="t5"),
    ]
    groups = group_runs(runs)
    assert [(g.label, len(g.runs), g.is_control) for g in groups] == [
        ("causal, logit reward", 2, False),
        ("encoder-decoder, logit reward", 1, False),
        ("causal, constant reward", 1, True),
    ]
    assert pooled_metrics(groups[0])["judge_score"]["difference"] == pytest.approx(0.7)
    report = comparison(groups)
    assert verdict(report) == (
        "Over 2 seeds the frozen judge's score does not change clearly: +0.70 (causal, logit "
        "reward; 95 % interval −0.57 to 1.97, seeds ± 0.14, contexts ± 0.05); encoder-decoder, "
        "logit reward +1.00; controls 0.00."
    )
    (few, *_) = warnings(report, groups)
    assert few.startswith("Fewer than 3 seeds: causal, logit reward (2)")


def test_other_models_are_other_groups_and_other_places_are_not(tmp_path):
    """Where a run writes and shows itself, and a warm start of its own, come with the seed."""
    names = ("microsoft/DialoGPT-small", "gpt2", tmp_path / "a", tmp_path / "b")
    runs = [
        run(
            tmp_path / str(seed),
            seed,
            0.5,
            generator=str(name),
            hub_model_id=f"ann/{seed}",
            report_to=[["wandb"], []][seed % 2],
        )
        for name, seeds in zip(names, ([0, 1], [0, 1], [0], [1]), strict=True)
        for seed in seeds
    ]
    assert {g.label: len(g.runs) for g in group_runs(runs)} == {
        "generator microsoft/DialoGPT-small": 2,
        "generator gpt2": 2,
        "generator a folder": 2,
    }
    for model in ("judge", "discriminator"):
        runs = [run(tmp_path / str(seed), seed, 0.5) for seed in range(2)]
        for of in runs:
            of.report["config"][model] = f"bert-{of.report['seed']}"
        assert len(group_runs(runs)) == 2


def test_runs_without_a_headline_metric_are_compared_by_what_they_have(tmp_path, capsys):
    runs = [run(tmp_path / str(seed), seed, 0.5) for seed in range(2)]
    for of in runs:
        of.report["metrics"] = {"distinct_1": metric(0.5, 0.4, [-0.2, 0.0])}
    groups = group_runs(runs)
    page = write_comparison(tmp_path / "comparison", groups)
    assert "no judge score" in (table := page.with_suffix(".md").read_text(encoding="utf-8"))
    assert "| all runs | – | – | – | – |" in table
    assert "Distinct-1" in page.read_text(encoding="utf-8")
    print_comparison(Console(), groups, page)
    assert "no judge score" in capsys.readouterr().out


def test_one_run_twice_is_refused(tmp_path):
    with pytest.raises(UserError, match="has its seed, 0"):
        group_runs([run(tmp_path / "a", 0, 0.5), run(tmp_path / "copy", 0, 0.5)])


def test_no_control_is_told(tmp_path):
    groups = group_runs([run(tmp_path / str(seed), seed, 0.5) for seed in range(3)])
    assert warnings(comparison(groups), groups) == [
        "No control among these runs: add ones with a constant and a shuffled reward, under which "
        "the judge should not move."
    ]


def test_a_growing_log_is_read_up_to_its_last_whole_line(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"update": 1}\n{"update": 2}\n{"upda', encoding="utf-8")
    assert read_rows(path) == [{"update": 1}, {"update": 2}]
    assert read_rows(tmp_path / "none.jsonl") == []
    path.write_text('{"update": 1}\n[2]\n', encoding="utf-8")
    with pytest.raises(UserError, match=r"metrics\.jsonl, line 2"):
        read_rows(path)


def test_reading_a_run(tmp_path):
    with pytest.raises(UserError, match="holds no report"):
        read_run(tmp_path)
    (tmp_path / "report.json").write_text('{"metrics": {"kl": {"before": 0}}}', encoding="utf-8")
    with pytest.raises(UserError, match="lacks before, after or difference"):
        read_run(tmp_path)
    (tmp_path / "report.json").write_text("[]", encoding="utf-8")
    with pytest.raises(UserError, match="is no report"):
        read_run(tmp_path)
    (tmp_path / "report.json").write_text(json.dumps(plain_report()), encoding="utf-8")
    lines = "".join(json.dumps(row) + "\n" for row in updates())
    (tmp_path / "metrics.jsonl").write_text(lines, encoding="utf-8")
    (tmp_path / "judge").mkdir()
    (tmp_path / "judge" / "judge.json").write_text('{"held_out": {"auc/cast": 0.9}}')
    found = read_run(tmp_path)
    assert found.report["held_out"] == {"judge": {"auc/cast": 0.9}}
    assert found.history == updates() and found.samples == []


def test_the_newest_generator_of_a_run(tmp_path):
    with pytest.raises(UserError, match="no generator is saved yet"):
        newest_generator(tmp_path)
    for name in ("best", "generator"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "config.json").write_text("{}")
        assert newest_generator(tmp_path) == folder
