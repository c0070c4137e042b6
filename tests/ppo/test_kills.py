"""The benchmark of killed runs, with few kills."""

from benchmarks import kills


def test_a_run_survives_being_killed(capsys):
    assert kills.main(["--kills", "4"]) == 0, capsys.readouterr().out
    assert "of them in the middle of a save" in capsys.readouterr().out
