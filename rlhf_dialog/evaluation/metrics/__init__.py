"""`evaluate` modules, one folder each, with a card; docs/metrics.md is their index.

evaluate.load(str(metrics.FOLDER / "distinct_n"))        # offline: a folder
from rlhf_dialog.evaluation.metrics.distinct_n.distinct_n import distinct_n
"""

from pathlib import Path

FOLDER = Path(__file__).parent
