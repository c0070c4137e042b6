"""Where fakes come from.

================  =========================================================================
generated         what the generator says under a real context, sampled afresh
cast              what another character of the same show really said: same domain, other voice
wrong_context     what the character really said, elsewhere
degenerate        broken replies: where a policy ends that optimises a naive reward
replayed          older generated fakes, so that the discriminator does not forget them
================  =========================================================================
"""

from __future__ import annotations

import random
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from rlhf_dialog.dialogues.schema import Example, speaker_key
from rlhf_dialog.dialogues.words import split_words
from rlhf_dialog.errors import UserError


@dataclass(frozen=True)
class Pair:
    """A labelled example of the discriminator."""

    context: tuple[str, ...]
    reply: str
    kind: str  # "real", or a row of the table above
    group: str  # what is held out as a whole: the dialogue of the context, or its episode
    answered: str = ""  # the turn that is answered, spelt as replies are; left empty: as it stands

    def __post_init__(self) -> None:
        if not self.answered:
            object.__setattr__(self, "answered", self.context[-1])

    @property
    def is_real(self) -> bool:
        return self.kind == "real"


def fakes(kind: str, reals: Sequence[Pair], replies: Sequence[str]) -> list[Pair]:
    """`replies` under the contexts of `reals`; what repeats the real reply is no fake: left out."""
    return [
        Pair(real.context, reply, kind, real.group)
        for real, reply in zip(reals, replies, strict=True)
        if reply != real.reply
    ]


def answers_somebody_else(example: Example, character: str) -> bool:
    """True for another speaker's reply to a turn that is not the character's.

    The character hardly ever answers themselves, so a fake under a context that ends with their
    own turn is given away by the context, whatever the reply.
    """
    key = speaker_key(character)
    return key not in (speaker_key(example.speaker), speaker_key(example.answers))


def wrong_context_fakes(reals: Sequence[Pair], rng: random.Random) -> list[Pair]:
    """Each real reply under the context of another: a random cyclic shift of a random order."""
    if len(reals) < 2:
        return []
    order = rng.sample(range(len(reals)), len(reals))
    shift = rng.randrange(1, len(reals))
    shifted = order[shift:] + order[:shift]
    return fakes("wrong_context", [reals[i] for i in order], [reals[j].reply for j in shifted])


def degenerate_fakes(reals: Sequence[Pair], rng: random.Random) -> list[Pair]:
    """One broken reply per real pair, made from its reply and context.

    Repeated and shuffled ones are drawn more often: their words are the character's own, so they
    take longest to be learnt.
    """
    makers = (_too_short, _repeated, _copied_word, _copied_turn, _shuffled)
    spoken = [real for real in reals if real.reply.split()]
    drawn = rng.choices(makers, weights=(1, 2, 1, 1, 2), k=len(spoken))
    made = [make(real, rng) for make, real in zip(drawn, spoken, strict=True)]
    return fakes("degenerate", spoken, made)


def disordered_fakes(pairs: Sequence[Pair], rng: random.Random) -> list[Pair]:
    """Each reply with its words shuffled, or (one in three) a piece of it said over and over."""
    makers = rng.choices((_shuffled, _repeated), weights=(2, 1), k=len(pairs))
    made = [make(pair, rng) for make, pair in zip(makers, pairs, strict=True)]
    return fakes("degenerate", pairs, made)


def _too_short(real: Pair, rng: random.Random) -> str:
    parts, between, mark = split_words(real.reply)
    start = rng.randrange(len(parts))
    return between.join(parts[start : start + rng.randint(1, 2)]) + mark


def _repeated(real: Pair, rng: random.Random) -> str:
    parts, between, mark = split_words(real.reply)
    width = rng.randint(1, min(3, len(parts)))
    start = rng.randrange(len(parts) - width + 1)
    return between.join(parts[start : start + width] * rng.randint(2, 5)) + mark


def _copied_word(real: Pair, rng: random.Random) -> str:
    """A word of the turn that is answered, a name if there is one, said once or several times."""
    words = real.answered.split()
    names = [word for word in words if word[:1].isupper()]
    return " ".join([rng.choice(names or words)] * rng.randint(1, 3))


def _copied_turn(real: Pair, rng: random.Random) -> str:
    """The turn that is answered: an earlier one may be the character's own words."""
    return real.answered


def _shuffled(real: Pair, rng: random.Random) -> str:
    parts, between, mark = split_words(real.reply)
    return between.join(rng.sample(parts, len(parts))) + mark


def match_lengths(
    pool: Sequence[Pair], reals: Sequence[Pair], rng: random.Random, neighbours: int = 8
) -> list[Pair]:
    """One fake per real, as long as it: drawn from the `neighbours` of nearest length, characters.

    Length then tells nothing (pitfall: a reward that counts words). A fake may be drawn twice.
    """
    by_length = sorted(pool, key=lambda pair: len(pair.reply))
    lengths = [len(pair.reply) for pair in by_length]
    matched = []
    for real in reals if by_length else ():
        place = bisect_left(lengths, len(real.reply)) - neighbours // 2
        start = max(0, min(place, len(by_length) - neighbours))
        matched.append(rng.choice(by_length[start : start + neighbours]))
    return matched


def mix(
    pools: Mapping[str, Sequence[Pair]],
    shares: Mapping[str, float],
    count: int,
    rng: random.Random,
) -> list[Pair]:
    """`count` fakes drawn from `pools` by `shares`, with replacement.

    Raises:
        UserError: no pool of a kind that has a share holds anything.
    """
    there = {kind: share for kind, share in shares.items() if share and pools.get(kind)}
    if not there:
        named = ", ".join(f"{kind}_share" for kind, share in shares.items() if share)
        raise UserError(
            f"{named}: there are no fakes of these kinds; raise wrong_context_share or "
            "degenerate_share."
        )
    kinds = rng.choices(list(there), list(there.values()), k=count)
    return [rng.choice(pools[kind]) for kind in kinds]


@dataclass
class ReplayBuffer:
    """Generated fakes of earlier refreshes, newest last, at most `size` of them."""

    size: int
    pairs: list[Pair] = field(default_factory=list)

    def add(self, pairs: Sequence[Pair]) -> None:
        replayed = [replace(pair, kind="replayed") for pair in pairs]
        self.pairs = (self.pairs + replayed)[-self.size :] if self.size else []

    def sample(self, count: int, rng: random.Random) -> list[Pair]:
        """At most `count` different pairs."""
        return rng.sample(self.pairs, min(count, len(self.pairs)))
