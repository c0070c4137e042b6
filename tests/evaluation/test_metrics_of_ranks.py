"""Two processes give the numbers of one, however the replies are dealt out to them."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.evaluation.metrics_of_ranks import DEALS, results

ROOT = Path(__file__).parents[2]


def two_processes(folder):
    """Started as `accelerate launch` starts them, without waiting for the launcher itself."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    environment = os.environ | meeting | {"PYTHONPATH": str(ROOT)}
    processes = [
        subprocess.Popen(
            [sys.executable, "tests/evaluation/metrics_of_ranks.py", str(folder)],
            cwd=ROOT,
            env=environment | {"RANK": rank, "LOCAL_RANK": rank},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in ("0", "1")
    ]
    try:
        for process in processes:
            _, told = process.communicate(timeout=300)
            assert process.returncode == 0, told
    finally:
        for process in processes:
            process.kill()


def test_two_ranks_give_the_numbers_of_one(tmp_path):
    two_processes(tmp_path)
    ranks = [json.loads((tmp_path / f"rank-{rank}.json").read_text()) for rank in (0, 1)]
    assert [rank.pop("crash") for rank in ranks] == [
        "ZeroDivisionError: division by zero",
        "UserError: division by zero",  # and rank 1 does not wait for ever
    ]
    assert ranks[0] == ranks[1]
    assert (
        "UserError: The columns differ in length (replies 0, references 1)" in ranks[0]["mistake"]
    )
    alone = json.loads(json.dumps(results(slice(None), tmp_path / "alone")))
    nobody = json.loads(json.dumps(results(slice(0), tmp_path / "alone")))
    for deal in DEALS:
        found = ranks[0][deal]
        if deal == "nobody has any":
            assert found == nobody
            continue
        # Other rows share a batch then, so the float32 forwards may differ in their last digit.
        perplexity = pytest.approx(alone["perplexity"], rel=1e-6)
        assert found.pop("perplexity") == perplexity, deal
        assert found == {name: v for name, v in alone.items() if name != "perplexity"}, deal
