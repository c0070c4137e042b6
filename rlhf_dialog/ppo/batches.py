"""The order of the training contexts, and where in it a run is."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any

import torch
from accelerate.data_loader import DataLoaderShard, skip_first_batches


class Batches:
    """A data loader's batches without end, pass after pass, with a position that can be saved.

    A pass is shuffled by what the random generators gave when it began. A resumed run draws the
    same pass again from their states then, and leaves out unread what has been trained on.
    """

    def __init__(self, loader: DataLoaderShard) -> None:
        self.loader = loader
        self.taken = 0  # batches of the present pass
        self.began: dict[str, torch.Tensor] = {}  # random states at its beginning
        self.rest: Iterator[Any] = iter(())

    def __next__(self) -> Any:
        batch = next(self.rest, None)
        if batch is None:
            self.taken, self.began, self.rest = 0, self._states(), iter(self.loader)
            batch = next(self.rest)
        self.taken += 1
        return batch

    def state_dict(self) -> dict[str, Any]:
        return {"taken": self.taken, **self.began}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes to a saved position; moves torch's global generator, which is restored later."""
        if not state["taken"]:
            return
        self.taken = state["taken"]
        self.began = {name: state[name] for name in state if name != "taken"}
        torch.set_rng_state(self.began["torch"])
        if "shared" in self.began:
            self.loader.synchronized_generator.set_state(self.began["shared"])
        rest = iter(skip_first_batches(self.loader, self.taken))
        following = next(rest, None)  # now, not later: a pass draws when its first batch is asked
        self.rest = iter(()) if following is None else chain([following], rest)

    def _states(self) -> dict[str, torch.Tensor]:
        """What shuffles a pass: torch's generator alone, or one that all processes share."""
        shared = self.loader.synchronized_generator
        states = {"torch": torch.get_rng_state()}
        return states if shared is None else states | {"shared": shared.get_state()}
