"""The supervised stage on real corpora, each in the form that suits it: minutes of one core.

    python benchmarks/supervised.py DATA_FOLDER --output_dir runs/supervised

DATA_FOLDER holds dailydialog.jsonl, himym.jsonl, personachat.jsonl and korean_chat.jsonl in the
form `jsonl` of docs/data_forms.md; what is missing is left out. Runs that are finished are not run
again. Models are small and fresh, but for one run, which begins with a pretrained one.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

ALL = {
    "fresh_hidden_size": 128,
    "fresh_layers": 2,
    "fresh_vocab_size": 2048,
    "warm_start_learning_rate": 2e-3,
    "max_turns": 2,
    "response_length": 24,
    "generator_share": 0.2,
    "discriminator_share": 0.03,
    "judge_share": 0.03,
    "test_share": 0.74,
}
RUNS = {
    "PersonaChat, persona, two heads": {
        "data": "personachat",
        "character": "self",
        "input_form": "persona",
        "max_turns": 1,
        "context_length": 96,
        "warm_start_epochs": 3,
        "warm_start_distractors": 1,
        "warm_start_batch_size": 16,
        "warm_start_validation_share": 0.05,
    },
    "PersonaChat, persona, two heads, FLAN-T5-small": {
        "data": "personachat",
        "character": "self",
        "generator": "google/flan-t5-small",
        "input_form": "persona",
        "max_turns": 1,
        "context_length": 112,
        "generator_share": 0.16,
        "discriminator_share": 0.02,
        "judge_share": 0.02,
        "test_share": 0.8,
        "warm_start_epochs": 1,
        "warm_start_learning_rate": 5e-4,
        "warm_start_distractors": 1,
        "warm_start_batch_size": 8,
    },
    "Korean pairs, separator": {
        "data": "korean_chat",
        "character": "bot",
        "input_form": "separator",
        "context_length": 32,
        "generator_share": 0.5,
        "test_share": 0.44,
        "warm_start_epochs": 2,
        "warm_start_schedule": "noam",
    },
    "HIMYM, speakers": {
        "data": "himym",
        "character": "Barney",
        "input_form": "speakers",
        "max_turns": 4,
        "context_length": 72,
        "warm_start_epochs": 6,
        "warm_start_schedule": "polynomial",
    },
    "DailyDialog, causal": {"data": "dailydialog", "character": "B", "warm_start_epochs": 0.3},
    "DailyDialog, encoder-decoder": {
        "data": "dailydialog",
        "character": "B",
        "warm_start_epochs": 0.3,
        "fresh_architecture": "blenderbot-small",
    },
}
FIGURES = ("perplexity", "f1", "distinct_2", "hits_at_1", "hits_at_1_by_likelihood")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--output_dir", type=Path, default=Path("runs/supervised"))
    parser.add_argument("--only", default="", help="Part of the name of the runs wanted.")
    parser.add_argument("--passes", type=float, default=1.0, help="Epochs are multiplied by it.")
    parser.add_argument("--generator", help="Folder or id of the pretrained model, if another.")
    given = parser.parse_args()
    print("| run | seconds |", " | ".join(FIGURES), "|")
    for name, values in RUNS.items():
        file = given.data / f"{values['data']}.jsonl"
        if file.is_file() and given.only.lower() in name.lower():
            folder = given.output_dir / name.replace(", ", "-")
            own = {"warm_start_epochs": values["warm_start_epochs"] * given.passes}
            if given.generator and "generator" in values:
                own["generator"] = given.generator
            print(row(name, folder, file, values | own), flush=True)


def row(name: str, folder: Path, file: Path, values: dict) -> str:
    report, start = folder / "report.json", time.time()
    if not report.is_file():
        own = {key: value for key, value in values.items() if key != "data"}
        flags = {"dialogues": file, "output_dir": folder, **ALL, **own}
        command = [sys.executable, "recipes/warm_start.py"]
        command += [part for key, value in flags.items() for part in (f"--{key}", str(value))]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    seconds = f"{time.time() - start:.0f}"
    figures = json.loads(report.read_text(encoding="utf-8"))
    cells = [f"{figures[key]:.3g}" if key in figures else "" for key in FIGURES]
    return f"| {name} | {seconds} | {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
