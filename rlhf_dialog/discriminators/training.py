"""How a discriminator learns: pretraining with early stop on a held-out split."""

from __future__ import annotations

import copy
import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch.nn import functional as F
from transformers import get_linear_schedule_with_warmup

from rlhf_dialog.console import progress
from rlhf_dialog.discriminators.model import Discriminator
from rlhf_dialog.discriminators.negatives import (
    Pair,
    degenerate_fakes,
    match_lengths,
    mix,
    wrong_context_fakes,
)
from rlhf_dialog.discriminators.word_order import learn_word_order
from rlhf_dialog.settings import DiscriminatorSettings


def pretrain(
    discriminator: Discriminator,
    pools: Mapping[str, Sequence[Pair]],
    settings: DiscriminatorSettings,
    *,
    seed: int,
    description: str,
) -> dict[str, float]:
    """Trains in place on reals against the mixed fakes; returns the held-out report, and beside it
    `learning_rate` and `word_order_steps` as they were taken (`pace`).

    `learn_word_order` comes first.

    One real reply in five, by whole groups of dialogues, is held out: that part stops the training
    after two passes without a higher AUC, picks the pass that is kept, and gives the figures
    returned (`held_out_report`). The loss would stop too early: a discriminator that grows too sure
    of the easy fakes has a higher loss while it still learns the order of words. It decides a draw.
    """
    rng = random.Random(seed)
    train, held_out = split_pools(pools, rng, lengths=settings.match_lengths)
    shares = fake_shares(settings)
    rate, order_steps = pace(discriminator, settings)
    optimizer = torch.optim.AdamW(discriminator.model.parameters(), lr=rate, weight_decay=0.01)
    steps = max(1, 2 * len(train["real"]) // settings.discriminator_batch_size)
    total = settings.discriminator_epochs * steps
    scheduler = get_linear_schedule_with_warmup(optimizer, total // 20, total)
    report: dict[str, float] = {}
    best_state, patience = None, 2
    torch.manual_seed(seed)
    with progress(description, order_steps + total) as advance:
        if order_steps:
            learn_word_order(
                discriminator,
                _turns(pools, train),
                steps=order_steps,
                batch_size=settings.discriminator_batch_size,
                learning_rate=2 * rate,  # learnt better so than at the rate itself
                rng=rng,
                advance=advance,
            )
        for _ in range(settings.discriminator_epochs):
            for batch in batches(train, shares, settings.discriminator_batch_size, steps, rng):
                step(discriminator, optimizer, scheduler, batch, settings.label_smoothing)
                advance(f"held-out AUC {report['auc/all']:.3f}" if report else "")
            candidate = held_out_report(discriminator, held_out, shares)
            if not report or _merit(candidate) > _merit(report):
                report, patience = candidate, 2
                best_state = copy.deepcopy(discriminator.model.state_dict())
            else:
                patience -= 1
            if not patience:
                break
    if best_state is not None:
        discriminator.model.load_state_dict(best_state)
    return report | {"learning_rate": rate, "word_order_steps": order_steps}


def pace(discriminator: Discriminator, settings: DiscriminatorSettings) -> tuple[float, int]:
    """Peak learning rate of pretraining, and steps that learn the order of words before it: as set,
    or what suits a fresh encoder (1e-3, 500) or a pretrained one, which knows it (5e-5, 0)."""
    rate, steps = settings.discriminator_learning_rate, settings.word_order_steps
    if rate is None:
        rate = 1e-3 if discriminator.fresh else 5e-5
    if steps is None:
        steps = 500 if discriminator.fresh else 0
    return rate, steps


def _turns(pools: Mapping[str, Sequence[Pair]], train: Mapping[str, Sequence[Pair]]) -> list[str]:
    """What people said in the groups that are trained on, replies and turns that they answer."""
    groups = {pair.group for pair in (*train["real"], *train.get("cast", ()))}
    said = {
        text
        for kind in ("real", "cast")
        for pair in pools.get(kind, ())
        if pair.group in groups
        for text in (pair.reply, pair.answered)
    }
    return sorted(text for text in said if text.split())


def _merit(report: Mapping[str, float]) -> tuple[float, float]:
    return report["auc/all"], -report["loss"]


def fake_shares(settings: DiscriminatorSettings) -> dict[str, float]:
    return {
        "generated": settings.generated_share,
        "cast": settings.cast_share,
        "wrong_context": settings.wrong_context_share,
        "degenerate": settings.degenerate_share,
    }


def split_pools(
    pools: Mapping[str, Sequence[Pair]],
    rng: random.Random,
    *,
    lengths: bool,
    held_out: float = 0.2,
) -> tuple[dict[str, list[Pair]], dict[str, list[Pair]]]:
    """Pairs into train and held-out, by group: windows of one dialogue share their turns, and
    scenes of one episode their names and events.

    Wrong-context and degenerate fakes are made here, of each side's own reals: made before, a
    reply held out in one pair would be trained on in another. With `lengths`, the other fakes of
    each side are matched to the lengths of its reals.

    Raises:
        ValueError: the reals come from fewer than two groups.
    """
    aside = _aside(pools, rng, held_out)
    sides = []
    for wanted in (False, True):
        side = {
            kind: [pair for pair in pool if (pair.group in aside) is wanted]
            for kind, pool in pools.items()
        }
        reals = side["real"]
        if lengths:
            side |= {
                kind: match_lengths(pool, reals, rng)
                for kind, pool in side.items()
                if kind != "real"
            }
        side["wrong_context"] = wrong_context_fakes(reals, rng)
        side["degenerate"] = [p for _ in range(2) for p in degenerate_fakes(reals, rng)]
        sides.append(side)
    return sides[0], sides[1]


def _aside(pools: Mapping[str, Sequence[Pair]], rng: random.Random, share: float) -> set[str]:
    """Groups to hold out: with `share` of the reals, at least one group, never all."""
    reals = Counter(pair.group for pair in pools["real"])
    if len(reals) < 2:
        raise ValueError("real replies of at least two groups are needed, one to be held out")
    wanted, order = share * reals.total(), sorted(reals)
    rng.shuffle(order)
    aside: set[str] = set()
    held = 0
    for group in order:
        if held + reals[group] / 2 <= wanted:
            aside.add(group)
            held += reals[group]
    if not aside:
        aside = {min(order, key=lambda group: reals[group])}
    others = sorted({pair.group for pool in pools.values() for pair in pool} - set(reals))
    return aside | {group for group in others if rng.random() < share}


def held_out_report(
    discriminator: Discriminator,
    pools: Mapping[str, Sequence[Pair]],
    shares: Mapping[str, float],
) -> dict[str, float]:
    """What the discriminator makes of pairs it has not seen.

    Returns:
        `loss`: binary cross-entropy in nats, reals and fakes half each, fakes by `shares`.
        `auc/<kind>`: area under the ROC curve of reals against that kind of fake; `auc/all`:
        against all kinds by `shares`.
        `accuracy/<kind>`: share on the right side of logit zero; `accuracy/real` too.
        `below_real/degenerate`: share of degenerate replies that score below the real reply of
        their context.
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
    report["auc/all"] = mixed_auc({kind: report[f"auc/{kind}"] for kind in scores}, weights)
    if "degenerate" in scores:
        own = defaultdict(list)  # scenes of one group may open alike
        for pair, value in zip(pools["real"], reals, strict=True):
            own[pair.context, pair.group].append(value)
        twins = [np.mean(own[pair.context, pair.group]) for pair in pools["degenerate"]]
        report["below_real/degenerate"] = float((scores["degenerate"] < twins).mean())
    fake_loss = sum(losses.values()) / max(1e-9, sum(weights.values()))
    report["loss"] = float((np.logaddexp(0, -reals).mean() + fake_loss) / 2)
    return report


def mixed_auc(aucs: Mapping[str, float], shares: Mapping[str, float]) -> float:
    """The AUC of reals against fakes drawn by `shares`: the mean of each kind's, weighted so.

    Exact, since an AUC is the probability that a real scores above a fake (ties a half).
    """
    total = sum(shares[kind] for kind in aucs)
    return sum(aucs[kind] * shares[kind] for kind in aucs if shares[kind]) / max(1e-9, total)


def score(discriminator: Discriminator, pairs: Sequence[Pair]) -> np.ndarray:
    return discriminator([p.context for p in pairs], [p.reply for p in pairs]).numpy()


def step(
    discriminator: Discriminator,
    optimizer: torch.optim.Optimizer,
    scheduler: torch.optim.lr_scheduler.LRScheduler,
    batch: Sequence[Pair],
    label_smoothing: float,
) -> float:
    """One optimizer step of binary cross-entropy with smoothed labels; returns the loss, nats."""
    discriminator.model.train()
    encoded = discriminator.encode([p.context for p in batch], [p.reply for p in batch])
    logits = discriminator.logits(encoded)
    labels = torch.tensor([1.0 if p.is_real else 0.0 for p in batch], device=logits.device)
    labels = labels * (1 - 2 * label_smoothing) + label_smoothing
    loss = F.binary_cross_entropy_with_logits(logits, labels)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(discriminator.model.parameters(), 1.0)
    optimizer.step()
    scheduler.step()
    optimizer.zero_grad()
    discriminator.model.eval()
    return loss.item()


def batches(
    pools: Mapping[str, Sequence[Pair]],
    shares: Mapping[str, float],
    size: int,
    count: int,
    rng: random.Random,
) -> Iterator[list[Pair]]:
    """Balanced batches: half of each is real, half fake.

    Degenerate fakes are made of the batch's own reals, anew each time: the words are the same on
    both sides, and what is left to learn is that they are broken.
    """
    half = size // 2
    for _ in range(count):
        enough = len(pools["real"]) >= half
        reals = rng.sample(pools["real"], half) if enough else rng.choices(pools["real"], k=half)
        yield reals + mix({**pools, "degenerate": degenerate_fakes(reals, rng)}, shares, half, rng)
