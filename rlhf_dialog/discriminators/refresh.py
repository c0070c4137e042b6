"""Refreshes: the discriminator keeps abreast of a generator that moves (Li et al. 2017; SeqGAN)."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import get_constant_schedule_with_warmup

from rlhf_dialog.devices import copy_first_process, first_process_says
from rlhf_dialog.discriminators.model import Discriminator
from rlhf_dialog.discriminators.negatives import Pair, ReplayBuffer, fakes, match_lengths
from rlhf_dialog.discriminators.training import batches, fake_shares, score, split_pools, step
from rlhf_dialog.settings import DiscriminatorSettings

# (contexts) -> one freshly sampled reply each
SampleReplies = Callable[[Sequence[Sequence[str]]], list[str]]

MOST_ROUNDS = 3  # of `refresh_steps` in one refresh, while the accuracy stays below the floor


@dataclass
class Refresher:
    """Trains a discriminator in place, each time it is called with a sampler.

    Every fresh fake answers a context whose real reply the discriminator also sees, so contexts
    tell it nothing.
    """

    discriminator: Discriminator
    pools: Mapping[str, Sequence[Pair]]  # "real" and the fakes that do not change
    settings: DiscriminatorSettings
    seed: int

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        lengths = self.settings.match_lengths
        self.train, self.held_out = split_pools(self.pools, self.rng, lengths=lengths)
        self.replay = ReplayBuffer(self.settings.replay_size)
        self.replay.add(list(self.train.get("generated", ())))
        self.optimizer = torch.optim.AdamW(
            self.discriminator.model.parameters(),
            lr=self.settings.refresh_learning_rate,
            weight_decay=0.01,
        )
        # Adam knows nothing of the gradients yet: its first steps are small ones.
        self.scheduler = get_constant_schedule_with_warmup(
            self.optimizer, self.settings.refresh_steps
        )

    def __call__(self, sample_replies: SampleReplies) -> dict[str, float]:
        """One refresh.

        Returns:
            Shares on the right side of logit zero, on contexts that no step trains on:
            `accuracy_fresh` (fresh fakes), `accuracy_replayed` (older ones), `accuracy_human`, and
            `accuracy`, the mean of fresh and human, all before the refresh; `accuracy_after`, the
            same mean after it; `steps` taken, and their mean `loss` (nats). All begin with
            `discriminator/`.

        Guard rails: above `refresh_ceiling` no step is taken, as a discriminator that is always
        right gives no gradient worth having; below `refresh_floor` the steps are repeated, at most
        `MOST_ROUNDS` times in all. On several processes the first one's accuracy decides, and its
        weights are everybody's afterwards: processes that disagree would wait for each other.
        """
        fresh = self._sample(self.train["real"], self.settings.refresh_samples, sample_replies)
        unseen = self._sample(
            self.held_out["real"], self.settings.refresh_samples // 2, sample_replies
        )
        metrics = self._accuracies(unseen)
        after = first_process_says(metrics["accuracy"])
        losses: list[float] = []
        if after < self.settings.refresh_ceiling:
            for _ in range(MOST_ROUNDS):
                losses += self._round(fresh)
                after = first_process_says(self._accuracies(unseen)["accuracy"])
                if after >= self.settings.refresh_floor:
                    break
            metrics["loss"] = float(np.mean(losses))
        # All processes took the same steps on the same pairs; this makes sure of the outcome.
        copy_first_process(self.discriminator.model)
        metrics |= {"accuracy_after": after, "steps": len(losses)}
        self.replay.add(fresh)
        return {f"discriminator/{name}": value for name, value in metrics.items()}

    def state_dict(self) -> dict[str, Any]:
        """What refreshes have changed. The pools are not in it: they are given again."""
        return {
            "discriminator": self.discriminator.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "rng": self.rng.getstate(),
            "replay": [
                [list(p.context), p.reply, p.kind, p.group, p.answered] for p in self.replay.pairs
            ],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes up a `state_dict`, of a refresher that was made with the same pools."""
        self.discriminator.model.load_state_dict(state["discriminator"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        self.rng.setstate(state["rng"])
        self.replay.pairs = [Pair(tuple(context), *rest) for context, *rest in state["replay"]]

    def _sample(
        self, reals: Sequence[Pair], count: int, sample_replies: SampleReplies
    ) -> list[Pair]:
        chosen = self.rng.sample(reals, min(count, len(reals)))
        return fakes("generated", chosen, sample_replies([real.context for real in chosen]))

    def _round(self, fresh: Sequence[Pair]) -> list[float]:
        """`refresh_steps` optimizer steps; their losses, nats."""
        settings = self.settings
        share = settings.replay_share
        old = self.replay.sample(round(len(fresh) * share / (1 - share)), self.rng)
        # Matched apart: of a generator that has become wordy, the older fakes alone would be left.
        generated = [*self._as_long_as_reals(fresh), *self._as_long_as_reals(old)]
        mixed = batches(
            {**self.train, "generated": generated},
            refresh_shares(settings),
            settings.refresh_batch_size,
            settings.refresh_steps,
            self.rng,
        )
        with torch.random.fork_rng():  # the same dropout on every rank: the same weights after
            torch.manual_seed(self.rng.randrange(2**31))
            return [
                step(
                    self.discriminator,
                    self.optimizer,
                    self.scheduler,
                    batch,
                    settings.label_smoothing,
                )
                for batch in mixed
            ]

    def _as_long_as_reals(self, pool: Sequence[Pair]) -> Sequence[Pair]:
        if not self.settings.match_lengths:
            return pool
        return match_lengths(pool, self.rng.choices(self.train["real"], k=len(pool)), self.rng)

    def _accuracies(self, unseen: Sequence[Pair]) -> dict[str, float]:
        # A generator that only repeats the real replies leaves nothing to tell apart: chance.
        fresh = float((score(self.discriminator, unseen) <= 0).mean()) if unseen else 0.5
        human = float((score(self.discriminator, self.held_out["real"]) > 0).mean())
        metrics = {"accuracy_fresh": fresh, "accuracy_human": human}
        metrics["accuracy"] = (fresh + human) / 2
        old = self.replay.sample(64, self.rng)
        if old:
            metrics["accuracy_replayed"] = float((score(self.discriminator, old) <= 0).mean())
        return metrics


def refresh_shares(settings: DiscriminatorSettings) -> dict[str, float]:
    """The shares of pretraining, with the generator's samples raised to `refresh_generated_share`.

    What has changed since is the generator; the other fakes keep what was learnt of them.
    """
    shares = fake_shares(settings)
    others = sum(shares.values()) - shares["generated"]
    scale = (1 - settings.refresh_generated_share) / others if others else 1.0
    return {kind: share * scale for kind, share in shares.items()} | {
        "generated": settings.refresh_generated_share
    }
