"""How fast, and in how much memory, a file of a million turns is read and inspected.

    python benchmarks/read_dialogues.py
    python benchmarks/read_dialogues.py --turns 100000

Writes a file of each form into a temporary folder, reads it in a process of its own, and prints a
table: turns per second of processor time, and by how much the process grew beyond what it held
before it opened the file.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

TURNS_PER_DIALOGUE = 8
TEXT = "the tide is late and the lamp is red, said number"  # ten words with a number behind it


def dialogues(turns: int) -> Iterator[list[str]]:
    for start in range(0, turns, TURNS_PER_DIALOGUE):
        yield [f"{TEXT} {n}" for n in range(start, start + TURNS_PER_DIALOGUE)]


def write(form: str, path: Path, turns: int) -> None:
    with path.open("w", encoding="utf-8") as file:
        for texts in dialogues(turns):
            if form == "jsonl":
                said = [{"speaker": "AB"[n % 2], "text": text} for n, text in enumerate(texts)]
                file.write(json.dumps({"turns": said}) + "\n")
            elif form == "daily-dialog":
                file.write("".join(f"{text} __eou__ " for text in texts) + "\n")
            elif form == "pairs":
                for one, two in zip(texts[::2], texts[1::2], strict=True):
                    file.write(f'"{one}",{two}\n')
            else:
                file.write("## Scene\n" + "".join(f"ANN: {text}\n" for text in texts))


def measure(what: str, form: str, path: Path) -> dict[str, float]:
    """In this process: turns, seconds of processor time, and growth in MiB."""
    from rlhf_dialog.dialogues.inspection import inspect_dialogues
    from rlhf_dialog.dialogues.readers import iter_dialogues

    before, start = peak(), time.process_time()
    if what == "inspect":
        turns = inspect_dialogues(path, form).turns
    else:
        turns = sum(len(dialogue.turns) for dialogue in iter_dialogues(path, form))
    return {"turns": turns, "seconds": time.process_time() - start, "mib": peak() - before}


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # MiB, on Linux


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=1_000_000)
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        what, form, path = given.measure
        print(json.dumps(measure(what, form, Path(path))))
        return
    print(f"{'':8} {'form':12} {'file, MiB':>9} {'turns':>9} {'turns/s':>9} {'growth, MiB':>11}")
    forms = ("jsonl", "pairs", "daily-dialog", "transcript")
    for what, form in (("read", "jsonl"), ("inspect", "jsonl"), *(("read", f) for f in forms[1:])):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / {"pairs": "a.csv", "jsonl": "a.jsonl"}.get(form, "a.txt")
            write(form, path, given.turns)
            command = [sys.executable, __file__, "--measure", what, form, str(path)]
            run = subprocess.run(command, check=True, capture_output=True, text=True)
            found, size = json.loads(run.stdout), path.stat().st_size / 2**20
        rate = found["turns"] / found["seconds"]
        print(
            f"{what:8} {form:12} {size:9.0f} {found['turns']:9,} {rate:9,.0f} {found['mib']:11.0f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
