"""Builds the report of a finished run anew, and compares runs.

    python recipes/report.py runs/demo
    python recipes/report.py runs/effect/* --output_dir runs/comparison

Every RUN's report.md and report.html are written again from its report.json, metrics.jsonl and
samples.jsonl; nothing is measured. With more than one RUN, those that differ in their seed alone
are pooled, and comparison.json, .md and .html go to --output_dir (default: `comparison` beside the
first run; a RUN that is such a folder is left out).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rlhf_dialog.console import console, is_main_process, run_recipe
from rlhf_dialog.errors import UserError
from rlhf_dialog.evaluation.pooled import group_runs
from rlhf_dialog.evaluation.pooled_report import print_comparison, write_comparison
from rlhf_dialog.evaluation.report import print_report, write_report
from rlhf_dialog.evaluation.run_files import read_run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folder of a run")
    parser.add_argument("--output_dir", type=Path, help="folder of the comparison of several runs")
    options = parser.parse_args(sys.argv[1:])
    if not is_main_process():
        return
    # A comparison lies beside its runs, where `runs/effect/*` finds it the next time.
    folders = [f for f in options.runs if not (f / "comparison.json").is_file()]
    if not folders:
        raise UserError(f"{options.runs[0]}: holds a comparison and no run; give folders of runs.")
    if options.output_dir and len(folders) == 1:
        raise UserError("--output_dir: is for comparing runs; one run's report goes to its folder.")
    runs = [read_run(folder) for folder in folders]
    groups = group_runs(runs)  # everything that can be wrong, before anything is written
    for run in runs:
        html = write_report(run.folder, run.report, run.history, run.samples)
        if len(runs) == 1:
            print_report(console, run.report, run.samples, html, run.history)
    if len(runs) > 1:
        folder = options.output_dir or runs[0].folder.parent / "comparison"
        print_comparison(console, groups, write_comparison(folder, groups))


if __name__ == "__main__":
    run_recipe(main)
