"""Is a resumed run the run that was stopped? Its settings, compared value by value."""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rlhf_dialog import settings
from rlhf_dialog.errors import UserError

# Where a run writes, what it shows and how often it saves: no number of a run hangs on these.
_HARMLESS = (
    "output_dir run_name project report_to trackio_space_id trackio_bucket_id "
    "trackio_static_space_id logging_steps logging_first_step disable_tqdm eval_samples_shown "
    "save_strategy save_steps save_total_limit save_on_each_node ddp_timeout "
    "resume_from_checkpoint accept_changes"
)
HARMLESS = frozenset(_HARMLESS.split())
# What a checkpoint holds cannot be taken up under another value of these.
FIXED = frozenset({"optim", "optim_args", "critic", "sharding", "adapters"})
# Of a trainer, besides its configuration; see `rlhf_dialog.ppo.identity`.
OF_A_TRAINER = (
    "world_size sharding context_length refresh_every generator_weights adapters train_examples "
    "supervised_examples eval_examples discriminator_pools"
)
ABSENT = "not set"
_RECIPES = {
    f.name
    for kind in (
        settings.DialogueSettings,
        settings.GeneratorSettings,
        settings.DiscriminatorSettings,
        settings.EvaluationSettings,
    )
    for f in dataclasses.fields(kind)
}


def accepted_changes(
    before: Mapping[str, Any],
    now: Mapping[str, Any],
    accepted: Sequence[str],
    known: Iterable[str],
    what: str,
) -> set[str]:
    """Names of the values that changed since `what` was written, all of them accepted.

    Args:
        before, now: values by name; harmless ones (`HARMLESS`) are left out of account.
        accepted: names that the user allows to have changed.
        known: names that may be accepted, besides those of a recipe's settings.
        what: the checkpoint or run that `before` belongs to, for errors.

    Raises:
        UserError: a change that was not accepted, or that cannot be; a name that nothing has.
    """
    names = {*known, *before, *now, *_RECIPES, *OF_A_TRAINER.split()}
    for name in accepted:
        if name not in names:
            close = difflib.get_close_matches(name, names, n=1)
            hint = f"did you mean {close[0]!r}?" if close else "name the fields that may differ."
            raise UserError(f"accept_changes: {name!r} is not known; {hint}")
    changed = {
        name: (before.get(name, ABSENT), now.get(name, ABSENT))
        for name in sorted({*before, *now} - HARMLESS)
        if before.get(name, ABSENT) != now.get(name, ABSENT)
    }
    refused = [name for name in changed if name in FIXED or name not in accepted]
    if not refused:
        return set(changed)
    listed = "; ".join(f"{n} was {changed[n][0]} and is {changed[n][1]}" for n in refused)
    remedy = "put them back" if len(refused) > 1 else "put it back"
    allowed = [name for name in refused if name not in FIXED]
    if allowed:
        more = " ".join(dict.fromkeys([*accepted, *allowed]))
        remedy += f", or go on all the same with --accept_changes {more}"
    raise UserError(f"{what}: was written under other settings: {listed}; {remedy}.")


def fingerprint(rows: Iterable[Any]) -> str:
    """Number and digest of what JSON can hold, so that another list of it is noticed."""
    digest, count = hashlib.sha256(), 0
    for row in rows:
        digest.update(json.dumps(row, ensure_ascii=False).encode())
        count += 1
    return f"{count} rows, {digest.hexdigest()[:12]}"
