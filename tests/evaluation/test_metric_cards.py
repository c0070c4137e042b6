"""Every metric loads from its folder, offline, and its card says what it does."""

import doctest
import re
from pathlib import Path

import evaluate
import pytest

from rlhf_dialog.evaluation import metrics

ROOT = Path(__file__).parents[2]
NAMES = sorted(card.parent.name for card in metrics.FOLDER.glob("*/README.md"))
RUNNER = doctest.DocTestRunner(verbose=False)


@pytest.fixture(autouse=True)
def offline(monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(evaluate.config, "HF_EVALUATE_OFFLINE", True)
    monkeypatch.setattr(evaluate.config, "HF_METRICS_CACHE", tmp_path)


def run(text, name, **names):
    example = doctest.DocTestParser().get_doctest(text, names, name, None, 0)
    assert example.examples
    told: list[str] = []
    assert RUNNER.run(example, out=told.append).failed == 0, "".join(told)


def test_every_folder_has_a_card_and_a_line_in_the_index():
    folders = {path.parent.name for path in metrics.FOLDER.glob("*/__init__.py")}
    assert folders == set(NAMES)
    index = (ROOT / "docs/metrics.md").read_text(encoding="utf-8")
    for name in NAMES:
        assert f"(../rlhf_dialog/evaluation/metrics/{name}/README.md)" in index


@pytest.mark.parametrize("name", NAMES)
def test_the_example_of_the_card(name):
    text = (metrics.FOLDER / name / "README.md").read_text(encoding="utf-8")
    assert all(f"\n## {part}\n" in text for part in ("Formula", "Usage", "Origin"))
    run("\n".join(re.findall(r"```python\n(.+?)```", text, re.DOTALL)), name)


@pytest.mark.parametrize("name", NAMES)
def test_the_example_of_the_module(name):
    """`load` needs no name but the folder's, and what `help` of `compute` shows is true."""
    metric = evaluate.load(str(metrics.FOLDER / name))
    assert metric.description and metric.citation
    run(metric.inputs_description, name, evaluate=evaluate)
