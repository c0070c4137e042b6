"""How the discriminator learns: pretraining with early stop, then refreshes on fresh fakes."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch.nn import functional as F

from rlhf_dialog.console import progress
from rlhf_dialog.discriminators.model import Discriminator
from rlhf_dialog.discriminators.negatives import (
    Pair,
    ReplayBuffer,
    degenerate_fakes,
    fakes,
    mix,
    wrong_context_fakes,
)
from rlhf_dialog.settings import DiscriminatorSettings

# (contexts) -> one freshly sampled reply each
SampleReplies = Callable[[Sequence[Sequence[str]]], list[str]]


def pretrain(
    discriminator: Discriminator,
    pools: Mapping[str, Sequence[Pair]],
    settings: DiscriminatorSettings,
    *,
    seed: int,
    description: str,
) -> dict[str, float]:
    """Trains in place on reals against the mixed fakes; returns the held-out report.

    One example in five, by context, is held out: it stops the training after two passes without
    a lower loss, picks the pass that is kept, and gives the figures returned (`held_out_report`).
    """
    rng = random.Random(seed)
    train, held_out = split_pools(pools, rng)
    shares = fake_shares(settings)
    optimizer = torch.optim.AdamW(
        discriminator.model.parameters(), lr=settings.discriminator_learning_rate, weight_decay=0.01
    )
    steps = max(1, 2 * len(train["real"]) // settings.discriminator_batch_size)
    report = {"loss": float("inf")}
    best_state, patience = None, 2
    torch.manual_seed(seed)
    with progress(description, settings.discriminator_epochs * steps) as advance:
        for epoch in range(settings.discriminator_epochs):
            rate = settings.discriminator_learning_rate * (
                1 - epoch / settings.discriminator_epochs
            )
            for batch in _batches(train, shares, settings.discriminator_batch_size, steps, rng):
                step(discriminator, optimizer, batch, settings.label_smoothing, rate)
                advance(f"held-out loss {report['loss']:.3f}" if best_state else "")
            candidate = held_out_report(discriminator, held_out, shares)
            if candidate["loss"] < report["loss"]:
                report, patience = candidate, 2
                best_state = copy.deepcopy(discriminator.model.state_dict())
            else:
                patience -= 1
            if not patience:
                break
    if best_state is not None:
        discriminator.model.load_state_dict(best_state)
    return report


def fake_shares(settings: DiscriminatorSettings) -> dict[str, float]:
    return {
        "generated": settings.generated_share,
        "cast": settings.cast_share,
        "wrong_context": settings.wrong_context_share,
        "degenerate": settings.degenerate_share,
    }


def split_pools(
    pools: Mapping[str, Sequence[Pair]], rng: random.Random, held_out: float = 0.2
) -> tuple[dict[str, list[Pair]], dict[str, list[Pair]]]:
    """Pairs into train and held-out, by context: one context never stands on both sides.

    Wrong-context and degenerate fakes are made here, of each side's own reals: made before, a
    reply held out in one pair would be trained on in another.
    """
    contexts = sorted({pair.context for pool in pools.values() for pair in pool})
    rng.shuffle(contexts)
    aside = set(contexts[: int(len(contexts) * held_out)])
    aside |= {pair.context for pair in pools["real"][:2]}  # without a real pair nothing is told
    sides = []
    for wanted in (False, True):
        side = {k: [p for p in pool if (p.context in aside) is wanted] for k, pool in pools.items()}
        side["wrong_context"] = wrong_context_fakes(side["real"], rng)
        side["degenerate"] = [p for _ in range(4) for p in degenerate_fakes(side["real"], rng)]
        sides.append(side)
    return sides[0], sides[1]


def held_out_report(
    discriminator: Discriminator,
    pools: Mapping[str, Sequence[Pair]],
    shares: Mapping[str, float],
) -> dict[str, float]:
    """What the discriminator makes of pairs it has not seen.

    Returns:
        `loss`: binary cross-entropy in nats, reals and fakes half each, fakes by `shares`.
        `auc/<kind>`: area under the ROC curve of reals against that kind of fake.
        `accuracy/<kind>`: share on the right side of logit zero; `accuracy/real` too.
    """
    scores = {kind: score(discriminator, pool) for kind, pool in pools.items() if pool}
    reals = scores.pop("real")
    weights = {kind: shares.get(kind, 0.0) for kind in scores}
    report = {"accuracy/real": float((reals > 0).mean())}
    losses = {}
    for kind, values in scores.items():
        labels = np.r_[np.ones(len(reals)), np.zeros(len(values))]
        report[f"auc/{kind}"] = float(roc_auc_score(labels, np.r_[reals, values]))
        report[f"accuracy/{kind}"] = float((values <= 0).mean())
        losses[kind] = weights[kind] * np.logaddexp(0, values).mean()
    fake_loss = sum(losses.values()) / max(1e-9, sum(weights.values()))
    report["loss"] = float((np.logaddexp(0, -reals).mean() + fake_loss) / 2)
    return report


def score(discriminator: Discriminator, pairs: Sequence[Pair]) -> np.ndarray:
    return discriminator([p.context for p in pairs], [p.reply for p in pairs]).numpy()


def step(
    discriminator: Discriminator,
    optimizer: torch.optim.Optimizer,
    batch: Sequence[Pair],
    label_smoothing: float,
    learning_rate: float,
) -> float:
    """One optimizer step of binary cross-entropy with smoothed labels; returns the loss, nats."""
    discriminator.model.train()
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
    encoded = discriminator.encode([p.context for p in batch], [p.reply for p in batch])
    logits = discriminator.logits(encoded)
    labels = torch.tensor([1.0 if p.is_real else 0.0 for p in batch], device=logits.device)
    labels = labels * (1 - 2 * label_smoothing) + label_smoothing
    loss = F.binary_cross_entropy_with_logits(logits, labels)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(discriminator.model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    discriminator.model.eval()
    return loss.item()


def _batches(
    pools: Mapping[str, Sequence[Pair]],
    shares: Mapping[str, float],
    size: int,
    count: int,
    rng: random.Random,
) -> Iterator[list[Pair]]:
    """Balanced batches: half of each is real, half fake."""
    half = size // 2
    for _ in range(count):
        yield rng.sample(pools["real"], min(half, len(pools["real"]))) + mix(
            pools, shares, half, rng
        )


@dataclass
class Refresher:
    """Keeps a discriminator abreast of a generator that moves (Li et al. 2017; SeqGAN).

    Every fresh fake answers a context whose real reply the discriminator also sees, so contexts
    tell it nothing. Call it with a sampler; it trains the discriminator in place.
    """

    discriminator: Discriminator
    pools: Mapping[str, Sequence[Pair]]  # "real" and the fakes that do not change
    settings: DiscriminatorSettings
    seed: int

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self.train, self.held_out = split_pools(self.pools, self.rng)
        self.replay = ReplayBuffer(self.settings.replay_size)
        self.replay.add(list(self.train.get("generated", ())))
        self.optimizer = torch.optim.AdamW(
            self.discriminator.model.parameters(),
            lr=self.settings.refresh_learning_rate,
            weight_decay=0.01,
        )

    def __call__(self, sample_replies: SampleReplies) -> dict[str, float]:
        """One refresh. Returns held-out accuracies before it, and its mean loss (nats).

        The accuracies on fresh fakes and on human replies are taken on contexts that no step
        trains on. Where their mean is above the ceiling no step is taken: a discriminator that is
        always right gives no gradient worth having.
        """
        fresh = self._sample("train", self.settings.refresh_samples, sample_replies)
        unseen = self._sample("held_out", self.settings.refresh_samples // 2, sample_replies)
        metrics = self._accuracies(unseen)
        kinds = ("fresh", "human")
        right = np.mean([metrics[f"discriminator/accuracy_{kind}"] for kind in kinds])
        if right < self.settings.refresh_ceiling:
            old = self.replay.sample(
                round(len(fresh) * self.settings.replay_share / (1 - self.settings.replay_share)),
                self.rng,
            )
            pools = {**self.train, "generated": fresh + old}
            batches = _batches(
                pools,
                fake_shares(self.settings),
                self.settings.discriminator_batch_size,
                self.settings.refresh_steps,
                self.rng,
            )
            with torch.random.fork_rng():  # the same dropout on every rank: the same weights after
                torch.manual_seed(self.rng.randrange(2**31))
                losses = [self._step(batch) for batch in batches]
            metrics["discriminator/loss"] = float(np.mean(losses))
        self.replay.add(fresh)
        return metrics

    def _step(self, batch: Sequence[Pair]) -> float:
        rate, smoothing = self.settings.refresh_learning_rate, self.settings.label_smoothing
        return step(self.discriminator, self.optimizer, batch, smoothing, rate)

    def _sample(self, part: str, count: int, sample_replies: SampleReplies) -> list[Pair]:
        reals = (self.train if part == "train" else self.held_out)["real"]
        contexts = [p.context for p in self.rng.sample(reals, min(count, len(reals)))]
        return fakes("generated", contexts, sample_replies(contexts))

    def _accuracies(self, unseen: Sequence[Pair]) -> dict[str, float]:
        metrics = {
            "discriminator/accuracy_fresh": float((score(self.discriminator, unseen) <= 0).mean()),
            "discriminator/accuracy_human": float(
                (score(self.discriminator, self.held_out["real"]) > 0).mean()
            ),
        }
        old = self.replay.sample(64, self.rng)
        if old:
            metrics["discriminator/accuracy_replayed"] = float(
                (score(self.discriminator, old) <= 0).mean()
            )
        return metrics
