"""What a fresh encoder learns before it meets the character: which words follow which."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import torch
from torch import nn
from torch.nn import functional as F
from transformers import get_linear_schedule_with_warmup

from rlhf_dialog.discriminators.model import Discriminator
from rlhf_dialog.discriminators.negatives import Pair, disordered_fakes
from rlhf_dialog.errors import UserError

MASKED = 0.15  # of the tokens


def learn_word_order(
    discriminator: Discriminator,
    texts: Sequence[str],
    *,
    steps: int,
    batch_size: int,
    learning_rate: float,
    rng: random.Random,
    advance: Callable[[], None],
) -> None:
    """Order from disorder, and masked words, on everybody's turns; in place, without contexts.

    A fresh encoder that begins with the character may stay a bag of words, which takes the
    character's words in any order; whether it does hangs on the seed. Here each turn stands beside
    its own words in disorder, and nothing but order tells the two apart. Masked words are guessed
    at the same time: a few thousand turns are soon known by heart, and what has to guess words
    learns more of how they go together than what only judges them (masks as in Devlin et al. 2019,
    but always the mask token). The head is kept: it begins pretraining as one that knows order.

    Args:
        batch_size: turns a step; as many in disorder join them.
        rng: draws turns and disorder. What is masked comes from torch's global generator.
        advance: called after each step.

    Raises:
        UserError: an encoder that has no token to mask words with, or a decoder behind it.
    """
    model = discriminator.model
    if discriminator.tokenizer.mask_token_id is None or model.config.is_encoder_decoder:
        raise UserError("word_order_steps: takes an encoder that has a mask token; give 0.")
    width = model.get_input_embeddings().weight.shape[1]
    guess = nn.Linear(model.config.hidden_size, width, device=model.device)
    parameters = [*model.parameters(), *guess.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=0.01)
    scheduler = get_linear_schedule_with_warmup(optimizer, steps // 10, steps)
    said = [Pair(("",), text, "real", "") for text in texts]
    model.train()
    for _ in range(steps):
        intact = rng.sample(said, min(batch_size, len(said)))
        _loss(discriminator, guess, [*intact, *disordered_fakes(intact, rng)]).backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
        advance()
    model.eval()


def _loss(discriminator: Discriminator, guess: nn.Linear, batch: Sequence[Pair]) -> torch.Tensor:
    """Cross-entropy of intact or not, and of the masked words of what is intact, nats."""
    model, tokenizer = discriminator.model, discriminator.tokenizer
    encoded = discriminator.encode([p.context for p in batch], [p.reply for p in batch])
    intact = torch.tensor([float(p.is_real) for p in batch], device=model.device)
    ids = encoded["input_ids"]  # (B, T)
    masked = (torch.rand(ids.shape) < MASKED).to(ids.device)
    masked &= ~torch.isin(ids, ids.new_tensor(tokenizer.all_special_ids))
    encoded["input_ids"] = ids.masked_fill(masked, tokenizer.mask_token_id)
    output = model(**encoded, output_hidden_states=True)
    loss = F.binary_cross_entropy_with_logits(output.logits.squeeze(-1), intact)
    wanted = masked & (intact > 0).unsqueeze(1)
    if not wanted.any():
        return loss
    guesses = guess(output.hidden_states[-1][wanted]) @ model.get_input_embeddings().weight.T
    return loss + F.cross_entropy(guesses, ids[wanted])  # guesses: (N, V)
