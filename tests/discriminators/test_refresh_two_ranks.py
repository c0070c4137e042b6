import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_ranks_that_disagree_follow_the_first_one_and_end_with_its_weights():
    process = subprocess.run(
        [
            *(sys.executable, "-m", "accelerate.commands.launch", "--quiet"),
            *("--config_file", "accelerate_configs/multi_cpu.yaml", "--main_process_port", "0"),
            *("-m", "tests.discriminators.refresh_on_two_ranks"),
        ],
        cwd=ROOT,
        env=os.environ | {"ACCELERATE_USE_CPU": "true", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,  # processes that disagree would wait for each other
    )
    assert process.returncode == 0, process.stderr
    (first, second) = sorted(
        (json.loads(line) for line in process.stdout.splitlines() if line.startswith("[[")),
        key=lambda rounds: rounds[0][0]["discriminator/accuracy"],
        reverse=True,
    )
    paused, repeated = zip(first, second, strict=True)
    for (own, *weights), (other, *other_weights) in (paused, repeated):
        assert own["discriminator/accuracy"] > 0.65  # the first process's
        assert other["discriminator/accuracy"] < 0.35  # spoilt indeed
        assert weights == other_weights  # bit by bit
    assert [rank["discriminator/steps"] for rank, *_ in paused] == [0, 0]
    assert [rank["discriminator/steps"] for rank, *_ in repeated] == [2, 2]
