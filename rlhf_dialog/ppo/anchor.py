"""What people said, beside the reward: a supervised loss, and demonstrations in the rollout.

Li et al. (2017) alternate each policy step with teacher forcing; TextGAIL (Wu et al. 2021) mixes
human replies into PPO's batches, with a share that falls from 0.3 to 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from rlhf_dialog.dialogues.schema import Example
from rlhf_dialog.generators.loading import Generator
from rlhf_dialog.generators.prompts import encode_batch, encode_reply, pad_ids
from rlhf_dialog.ppo.config import SeqGANPPOConfig


def linear_schedule(first: float, final: float, update: int, updates: int) -> float:
    """The value at `update` of 0 .. updates - 1: `first` at the first, `final` at the last one."""
    return first + (final - first) * min(1.0, update / max(1, updates - 1))


class SupervisedAnchor:
    """Random batches of real replies for the interleaved language-model loss, and its weight.

    Args:
        end: the token that closes a reply.
    """

    def __init__(
        self,
        args: SeqGANPPOConfig,
        generator: Generator,
        examples: Sequence[Example],
        context_length: int,
        end: int,
    ) -> None:
        self.args, self.generator, self.examples = args, generator, list(examples)
        self.context_length, self.end = context_length, end

    def coefficient(self, update: int, updates: int) -> float:
        """Weight of the loss at `update` of 0 .. updates - 1; 0 where there are no examples."""
        first, final = self.args.supervised_coef, self.args.supervised_coef_final
        if not self.examples:
            return 0.0
        return linear_schedule(first, first if final is None else final, update, updates)

    def draw(self, order: torch.Generator) -> tuple[torch.Tensor, ...]:
        """Contexts and replies as a policy takes them, the reply mask last."""
        picked = torch.randperm(len(self.examples), generator=order)
        examples = [self.examples[i] for i in picked[: self.args.supervised_batch_size].tolist()]
        return encode_batch(
            self.generator,
            [example.context for example in examples],
            [example.reply for example in examples],
            context_length=self.context_length,
            response_length=self.args.response_length,
            end=self.end,
        )


def demonstrate(
    args: SeqGANPPOConfig,
    generator: Generator,
    batch: dict[str, Any],
    reply_ids: torch.Tensor,
    reply_mask: torch.Tensor,
    share: float,
    end: int,
) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Puts what people said in place of the first `share` of the responses (B, T).

    Returns:
        the responses, their mask, and how many are people's (less than B).
    """
    count = int(share * len(reply_ids))
    if not count:
        return reply_ids, reply_mask, 0
    said = batch["replies"][:count]
    rows = [encode_reply(generator, reply, args.response_length, end) for reply in said]
    sampled = zip(reply_ids[count:], reply_mask[count:], strict=True)
    rows += [ids[mask].tolist() for ids, mask in sampled]
    ids, mask = pad_ids(rows, generator.tokenizer.pad_token_id)
    return ids.to(reply_ids.device), mask.to(reply_mask.device), count
