"""How a reward is spread over a reply: one score at its end, or differences along it.

==========  ==================================================================================
final       the shaped score of the whole reply, on its last token
prefix      V(p) = the score of the prefix p as if it were the whole reply
rollout     V(p) = the mean score of N completions of p sampled from the current policy: the
            Monte-Carlo search of SeqGAN (Yu et al. 2017, arXiv:1609.05473, eq. 4)
==========  ==================================================================================

With the prefixes p₁ ⊂ … ⊂ p_K of a reply, V(p₀) = 0, and S the shaped score of the whole:

    reward of p_k's last token = V(p_k) - V(p_(k-1))      of the reply's last token = S - V(p_K)

so a row sums to S, whatever V says: what is learnt in the end is the same, and who earned it is
told earlier. V is shaped as S is (length residual, running mean and deviation, clip), with the
statistics that the whole replies gave.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from rlhf_dialog.discriminators.rewards import TextScorer
from rlhf_dialog.generators.distributions import Sampling
from rlhf_dialog.generators.loading import Generator
from rlhf_dialog.generators.policy import Policy
from rlhf_dialog.ppo import objectives
from rlhf_dialog.ppo.config import SeqGANPPOConfig
from rlhf_dialog.ppo.rewards import ScoreShaper, score_texts
from rlhf_dialog.ppo.rollouts import Rollout, respond


@dataclass(frozen=True)
class Cuts:
    """M prefixes of a batch of responses, in the order of rows and, within a row, of lengths."""

    rows: torch.Tensor  # (M,) int64
    lengths: torch.Tensor  # (M,) int64, tokens; at least 1, and fewer than the response has


def cut(mask: torch.Tensor, positions: int) -> Cuts:
    """At most `positions` prefixes of each response, evenly spaced.

    Of T tokens, EOS included, the k-th prefix has ⌊k·T / (positions + 1)⌋; one without a token is
    left out. With `positions` of T - 1 or more, every proper prefix is there.

    Args:
        mask: (B, T) bool, true at real response tokens.
    """
    found = [
        (row, length)
        for row, total in enumerate(mask.sum(1).tolist())
        for length in sorted({k * total // (positions + 1) for k in range(1, positions + 1)} - {0})
    ]
    rows, lengths = torch.tensor(found, dtype=torch.long, device=mask.device).view(-1, 2).T
    return Cuts(rows, lengths)


def spread(
    final: torch.Tensor, mask: torch.Tensor, cuts: Cuts, values: torch.Tensor
) -> torch.Tensor:
    """Rewards (B, T) of prefix values (M,) and final scores (B,): each row sums to its score."""
    same_row = cuts.rows[1:] == cuts.rows[:-1]
    before = torch.zeros_like(values)
    before[1:] = torch.where(same_row, values[:-1], before[1:])
    rewards = torch.zeros(mask.shape, dtype=final.dtype, device=final.device)
    rewards[cuts.rows, cuts.lengths - 1] = values - before
    return rewards + objectives.terminal_reward(final - rewards.sum(1), mask)


def prefixes(rollout: Rollout, cuts: Cuts) -> list[list[int]]:
    """The token ids of each prefix."""
    pairs = zip(cuts.rows.tolist(), cuts.lengths.tolist(), strict=True)
    return [rollout.reply_ids[row, :length].tolist() for row, length in pairs]


@torch.no_grad()
def completions(
    lm: PreTrainedModel,
    rollout: Rollout,
    cuts: Cuts,
    count: int,
    *,
    chunk: int,
    max_tokens: int,
    sampling: Sampling,
) -> list[list[int]]:
    """`count` responses that begin with each prefix, sampled from `lm`.

    Args:
        chunk: rows generated at a time.
        max_tokens: of a whole response, prefix included.

    Returns:
        M · `count` lists of token ids, EOS included where it was sampled; those of one prefix stand
        together.
    """
    found: list[list[int]] = [[] for _ in range(len(cuts.rows) * count)]
    # Prefixes of one length at a time: a decoder with absolute positions takes no padding between
    # its start and the first new token.
    for length in sorted(set(cuts.lengths.tolist())):
        places = (cuts.lengths == length).nonzero().squeeze(1).repeat_interleave(count)
        rows = cuts.rows[places]
        prefix_ids = rollout.reply_ids[rows, :length]
        ids, mask, *_ = respond(
            lm,
            rollout.context_ids[rows],
            rollout.context_mask[rows],
            prefix_ids=prefix_ids,
            chunk=chunk,
            max_tokens=max_tokens - length,
            sampling=sampling,
        )
        own = (places * count + torch.arange(len(places), device=places.device) % count).tolist()
        for place, prefix, tokens, real in zip(own, prefix_ids, ids, mask, strict=True):
            found[place] = prefix.tolist() + tokens[real].tolist()
    return found


@dataclass
class RewardSpreader:
    """Per-token rewards of a rollout, by `reward_granularity`.

    `shape_scores` is what shaped the final scores of this update.
    """

    args: SeqGANPPOConfig
    generator: Generator
    reward: TextScorer
    shape_scores: ScoreShaper

    def __call__(
        self,
        rollout: Rollout,
        final: torch.Tensor,
        unwrapped: Callable[[], AbstractContextManager[Policy]],
    ) -> torch.Tensor:
        """Rewards (B, T) whose rows sum to the shaped scores `final` (B,).

        `unwrapped()` gives the current policy for generation; it is entered for `rollout` alone,
        by every process equally often.
        """
        args, mask = self.args, rollout.reply_mask
        if args.reward_granularity == "final":
            return objectives.terminal_reward(final, mask)
        cuts = cut(mask, args.reward_positions)
        if args.reward_granularity == "prefix":
            responses = prefixes(rollout, cuts)
            lengths = cuts.lengths + 1  # with EOS, were it whole
        else:
            with unwrapped() as policy:
                responses = completions(
                    policy.lm,
                    rollout,
                    cuts,
                    args.rollouts_per_prefix,
                    chunk=args.local_rollout_forward_batch_size,
                    max_tokens=args.response_length,
                    sampling=policy.sampling,
                )
            lengths = torch.tensor([len(response) for response in responses], device=mask.device)
        if not responses:  # every reply is a single token
            return objectives.terminal_reward(final, mask)
        return spread(final, mask, cuts, self._values(rollout, cuts, responses, lengths))

    def _values(
        self, rollout: Rollout, cuts: Cuts, responses: list[list[int]], lengths: torch.Tensor
    ) -> torch.Tensor:
        """Mean shaped score (M,) of the responses that belong to each prefix."""
        count = len(responses) // len(cuts.rows)
        contexts = [rollout.contexts[row] for row in cuts.rows.tolist() for _ in range(count)]
        replies = [self.generator.decode(response) for response in responses]
        scores = score_texts(self.reward, contexts, replies).to(lengths.device)
        return self.shape_scores.further(scores, lengths).view(-1, count).mean(1)
