"""Rewards on text, for this project's trainer and for TRL's.

With s the score (logit) of a discriminator, or of any other model that scores (context, reply):

====================  ==================  ======================================================
logit                 s                   log D/(1-D) (AIRL, Fu et al. 2018, arXiv:1710.11248)
probability           σ(s)                D: SeqGAN (Yu et al. 2017, arXiv:1609.05473)
log_d                 log σ(s)            log D: Li et al. 2017, arXiv:1701.06547, section 3.1
minus_log_1_minus_d   -log(1-σ(s))        GAIL (Ho and Ermon 2016, arXiv:1606.03476)
relative              σ(s_fake - s_real)  TextGAIL (Wu et al. 2021, arXiv:2004.13796)
constant              c                   control: what a generator becomes that is told nothing
random                N(0, 1)             control: noise
shuffled              s of another reply  control: the distribution of s without its meaning
====================  ==================  ======================================================

The penalties of `penalties.py` look at words alone and join one of these in a `WeightedSum`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, overload

import torch
from torch import Tensor
from torch.nn import functional as F

from rlhf_dialog.errors import UserError

Contexts = Sequence[Sequence[str]]  # each a list of turns, oldest first
Texts = Sequence[str]

# (contexts, replies) -> FloatTensor (B,): a discriminator, a reward model, a reward of this module
TextScorer = Callable[[Contexts, Texts], Tensor]


class TextReward(ABC):
    """A reward on text, with two ways to be called.

    `reward(contexts, replies) -> FloatTensor (B,)`: contexts are lists of turns, oldest first.

    `reward(prompts=..., completions=..., **columns) -> list[float]`: an entry of `reward_funcs` of
    TRL's `GRPOTrainer` and `RLOOTrainer` (1.12). A string prompt is a context of one turn, a
    conversational one is the list of its contents; a column `context` (one string or a list of
    turns a row) wins over both. A column `reference` holds the real replies. Other columns are
    not read.

    Raises:
        ValueError: as many contexts as replies are needed.
    """

    name: ClassVar[str]

    @abstractmethod
    def score(self, contexts: Contexts, replies: Texts, references: Texts | None = None) -> Tensor:
        """Rewards (B,); `references` are the real replies to the contexts, where they are given."""

    @overload
    def __call__(self, contexts: Contexts, replies: Texts) -> Tensor: ...

    @overload
    def __call__(
        self, *, prompts: Sequence[Any], completions: Sequence[Any], **columns: Any
    ) -> list[float]: ...

    def __call__(
        self,
        contexts: Contexts | None = None,
        replies: Texts | None = None,
        *,
        prompts: Sequence[Any] | None = None,
        completions: Sequence[Any] | None = None,
        **columns: Any,
    ) -> Tensor | list[float]:
        if completions is not None:
            return self._score_columns(prompts or (), completions, columns)
        if contexts is None or replies is None or len(contexts) != len(replies):
            raise ValueError("a reward takes as many contexts as replies")
        return self.score(contexts, replies)

    @property
    def __name__(self) -> str:
        """How TRL's logs call the reward."""
        return self.name

    def state_dict(self) -> dict[str, Tensor]:
        """What a resumed run needs: the state of random generators; most rewards have none."""
        return {}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Takes up a `state_dict`.

        Raises:
            ValueError: it is another kind of reward's.
        """
        if set(state) != set(self.state_dict()):
            raise ValueError(
                f"the state of reward {self.name!r} holds {sorted(self.state_dict())}, "
                f"not {sorted(state)}"
            )

    def _score_columns(
        self, prompts: Sequence[Any], completions: Sequence[Any], columns: Mapping[str, Any]
    ) -> list[float]:
        given = columns.get("context")
        contexts = [_turns(row) for row in (prompts if given is None else given)]
        replies = [" ".join(_turns(completion)) for completion in completions]
        references = columns.get("reference")
        if references is not None:
            references = [" ".join(_turns(reference)) for reference in references]
        if len(contexts) != len(replies):
            raise ValueError("a reward takes as many prompts as completions")
        return self.score(contexts, replies, references).tolist()


def _turns(row: Any) -> list[str]:
    """A text, a list of texts or a list of messages as a list of texts."""
    if isinstance(row, str):
        return [row]
    return [part if isinstance(part, str) else _content(part["content"]) for part in row]


def _content(content: Any) -> str:
    """The text of a message whose content is a string, or a list of typed parts."""
    if isinstance(content, str):
        return content
    return "".join(part.get("text", "") for part in content or ())


# ---------------------------------------------------------------- from a model's score


class LogitReward(TextReward):
    """The score as it is: log D/(1-D) of a discriminator, any number of another model."""

    name = "logit"

    def __init__(self, scorer: TextScorer) -> None:
        self.scorer = scorer

    def score(self, contexts: Contexts, replies: Texts, references: Texts | None = None) -> Tensor:
        return self.scorer(contexts, replies)


class ProbabilityReward(LogitReward):
    """σ(s), the probability that the reply is real: flat where the discriminator is sure."""

    name = "probability"

    def score(self, contexts: Contexts, replies: Texts, references: Texts | None = None) -> Tensor:
        return torch.sigmoid(self.scorer(contexts, replies))


class LogDReward(LogitReward):
    """log σ(s), at most 0: steep for bad replies, flat for good ones."""

    name = "log_d"

    def score(self, contexts: Contexts, replies: Texts, references: Texts | None = None) -> Tensor:
        return F.logsigmoid(self.scorer(contexts, replies))


class MinusLogOneMinusDReward(LogitReward):
    """-log(1 - σ(s)) = softplus(s), at least 0: flat for bad replies, steep for good ones."""

    name = "minus_log_1_minus_d"

    def score(self, contexts: Contexts, replies: Texts, references: Texts | None = None) -> Tensor:
        return F.softplus(self.scorer(contexts, replies))


class RelativeReward(TextReward):
    """σ(s_fake - s_real): the probability that the reply beats the real one of its context.

    Real replies come from TRL's column `reference`, or by context from what is given here. Where
    a context has several, the mean over them is taken.

    Args:
        scorer: gives s; asked for the real replies each time, as it may have been refreshed.
        real_pairs: (context, real reply) pairs.

    Raises:
        UserError: on a call, for a context without a real reply.
    """

    name = "relative"

    def __init__(
        self, scorer: TextScorer, real_pairs: Iterable[tuple[Sequence[str], str]] = ()
    ) -> None:
        self.scorer = scorer
        self.real: dict[tuple[str, ...], list[str]] = defaultdict(list)
        for context, reply in real_pairs:
            self.real[tuple(context)].append(reply)

    def score(self, contexts: Contexts, replies: Texts, references: Texts | None = None) -> Tensor:
        if references is not None:
            real = [[reference] for reference in references]
        else:
            real = [self._real_replies(context) for context in contexts]
        owners = [row for row, own in enumerate(real) for _ in own]
        scores = self.scorer(
            [*contexts, *(contexts[row] for row in owners)],
            [*replies, *(reply for own in real for reply in own)],
        )
        fake, true = scores[: len(replies)], scores[len(replies) :]
        index = torch.tensor(owners, dtype=torch.long, device=scores.device)
        wins = torch.sigmoid(fake[index] - true)
        totals = torch.zeros_like(fake).index_add(0, index, wins)
        return totals / torch.bincount(index, minlength=len(replies)).to(fake.dtype)

    def _real_replies(self, context: Sequence[str]) -> list[str]:
        found = self.real.get(tuple(context))
        if not found:
            raise UserError(
                f"reward relative: the context that ends with {(context or [''])[-1]!r} has no "
                "real reply; give it with the examples or in a column 'reference'."
            )
        return found


# ---------------------------------------------------------------- controls


class ConstantReward(TextReward):
    """The same number for every reply (float32)."""

    name = "constant"

    def __init__(self, value: float = 0.0) -> None:
        self.value = value

    def score(self, contexts: Contexts, replies: Texts, references: Texts | None = None) -> Tensor:
        return torch.full((len(replies),), self.value)


class _SeededReward(TextReward):
    """A reward with a random generator of its own: the global one is neither read nor moved."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def state_dict(self) -> dict[str, Tensor]:
        return {"generator": self.generator.get_state()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        super().load_state_dict(state)
        self.generator.set_state(state["generator"])


class RandomReward(_SeededReward):
    """Standard normal noise (float32)."""

    name = "random"

    def score(self, contexts: Contexts, replies: Texts, references: Texts | None = None) -> Tensor:
        return torch.randn(len(replies), generator=self.generator)


class ShuffledReward(_SeededReward):
    """Another reward's numbers, dealt out to the replies of a call at random."""

    name = "shuffled"

    def __init__(self, reward: TextScorer, seed: int) -> None:
        super().__init__(seed)
        self.reward = as_reward(reward)

    def score(self, contexts: Contexts, replies: Texts, references: Texts | None = None) -> Tensor:
        scores = self.reward.score(contexts, replies, references)
        order = torch.randperm(len(scores), generator=self.generator)
        return scores[order.to(scores.device)]

    def state_dict(self) -> dict[str, Tensor]:
        return super().state_dict() | _prefixed("reward", self.reward)

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        super().load_state_dict(state)
        self.reward.load_state_dict(_part("reward", state))


# ---------------------------------------------------------------- sums


class WeightedSum(TextReward):
    """Σ weight · reward. A part may be any callable on (contexts, replies)."""

    name = "weighted_sum"

    def __init__(self, parts: Sequence[tuple[float, TextScorer]]) -> None:
        if not parts:
            raise UserError("a weighted sum of rewards needs at least one (weight, reward) pair.")
        self.parts = [(float(weight), as_reward(reward)) for weight, reward in parts]

    def score(self, contexts: Contexts, replies: Texts, references: Texts | None = None) -> Tensor:
        parts = [w * reward.score(contexts, replies, references) for w, reward in self.parts]
        return torch.stack([part.to(parts[0].device) for part in parts]).sum(0)

    def state_dict(self) -> dict[str, Tensor]:
        state: dict[str, Tensor] = {}
        for index, (_, reward) in enumerate(self.parts):
            state |= _prefixed(str(index), reward)
        return state

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        super().load_state_dict(state)
        for index, (_, reward) in enumerate(self.parts):
            reward.load_state_dict(_part(str(index), state))


def named_reward(
    name: str,
    scorer: TextScorer,
    *,
    seed: int,
    real_pairs: Iterable[tuple[Sequence[str], str]] = (),
) -> TextReward:
    """The reward of that name in the table above.

    Args:
        scorer: a discriminator, or any other model's scores of (contexts, replies).
        seed: of the rewards that are random.
        real_pairs: (context, real reply) pairs, for `relative`.

    Raises:
        UserError: no reward has that name.
    """
    of_score = (LogitReward, ProbabilityReward, LogDReward, MinusLogOneMinusDReward)
    makers: dict[str, Callable[[], TextReward]] = {
        **{kind.name: partial(kind, scorer) for kind in of_score},
        "relative": lambda: RelativeReward(scorer, real_pairs),
        "constant": ConstantReward,
        "random": lambda: RandomReward(seed),
        "shuffled": lambda: ShuffledReward(scorer, seed),
    }
    if name not in makers:
        raise UserError(f"reward: {name!r} is not one of {', '.join(makers)}.")
    return makers[name]()


def as_reward(scorer: TextScorer) -> TextReward:
    """A reward as it is; the scores of any other callable as a reward."""
    return scorer if isinstance(scorer, TextReward) else LogitReward(scorer)


def _prefixed(prefix: str, reward: TextReward) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": value for name, value in reward.state_dict().items()}


def _part(prefix: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    start = f"{prefix}."
    return {k.removeprefix(start): v for k, v in state.items() if k.startswith(start)}
