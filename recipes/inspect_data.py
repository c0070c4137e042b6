"""What is in a file of dialogues, before anything is trained on it.

    python recipes/inspect_data.py data/tidy_tide.jsonl
    python recipes/inspect_data.py chat.csv --columns text reply

The file may have any of the forms of docs/data_forms.md, or be the Hub id or folder of a dataset.
Mistakes are shown with their lines; the exit status is 1 when there are any.
"""

from __future__ import annotations

import argparse
import sys

from rich.console import Console

from rlhf_dialog.dialogues.inspection import as_tables, inspect_dialogues
from rlhf_dialog.dialogues.readers import READERS
from rlhf_dialog.errors import UserError


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", help="A file, or the Hub id or folder of a dataset.")
    parser.add_argument("--form", choices=READERS, help="Without it the file itself tells.")
    parser.add_argument("--columns", nargs="+", help="Two of pairs, or field=column of a dataset.")
    given = parser.parse_args()
    try:  # not `run_recipe`, which loads torch, and this recipe shall answer at once
        found = inspect_dialogues(given.file, given.form, given.columns)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    Console(highlight=False).print(as_tables(found))
    if found.log.wrong:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
