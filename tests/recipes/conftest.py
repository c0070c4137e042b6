import random
import runpy
import sys

import pytest

from tests.recipes.helpers import ROOT, arguments


@pytest.fixture(scope="session")
def script(tmp_path_factory):
    """Every tenth scene of the script that the repository ships."""
    lines = (ROOT / "data" / "tidy_tide.jsonl").read_text(encoding="utf-8").splitlines()
    path = tmp_path_factory.mktemp("data") / "script.jsonl"
    path.write_text("\n".join(random.Random(0).sample(lines, 40)) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def refused(monkeypatch, capsys):
    """Runs a recipe in this process, expects that it refuses, and returns its sentence."""

    def run(recipe, *extra, **changed):
        monkeypatch.chdir(ROOT)
        monkeypatch.setattr(sys, "argv", [recipe, *arguments(**changed), *extra])
        with pytest.raises(SystemExit) as stop:
            runpy.run_path(f"recipes/{recipe}", run_name="__main__")
        assert stop.value.code == 2
        output = capsys.readouterr()
        assert "Traceback" not in output.err
        lines = output.err.strip().splitlines()
        assert len(lines) == 1, lines
        assert "warm start" not in output.out  # nothing expensive had begun
        return lines[0]

    return run
