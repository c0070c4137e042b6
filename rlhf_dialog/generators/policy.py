"""One face over both families: log-probabilities and values of responses given prompts."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn
from transformers import GenerationConfig, PreTrainedModel


class PolicyOutput(NamedTuple):
    """What PPO needs of a batch of responses, each (B, T) float32; padding holds zeros."""

    logprobs: torch.Tensor  # log p(token | prompt, tokens before), nats
    values: torch.Tensor  # V(prompt, tokens before the one at t)
    entropies: torch.Tensor  # of the next-token distribution, nats


class Policy(nn.Module):
    """A generator with a value head on its trunk.

    Everything happens in `forward`, so that the hooks of DDP and ZeRO see it. The logits are the
    model's own (`PreTrainedModel.forward`), asked for at response positions only.

    Args:
        lm: a causal or encoder-decoder language model.
        temperature: of the sampling distribution; log-probabilities are those of the distribution
            that was sampled; scored at another temperature the KL can be negative.
    """

    # TRL builds its own policy-and-value wrapper from a value model's `base_model_prefix`.
    base_model_prefix = "lm"

    def __init__(self, lm: PreTrainedModel, temperature: float = 1.0) -> None:
        super().__init__()
        self.lm = lm
        self.is_gradient_checkpointing = lm.is_gradient_checkpointing  # read by TRL
        self.temperature = temperature
        self.value_head = nn.Linear(hidden_size(lm), 1)
        # Zero: the first advantages are then the rewards themselves, not a random head's noise.
        nn.init.zeros_(self.value_head.weight)
        nn.init.zeros_(self.value_head.bias)

    def forward(
        self,
        context_ids: torch.Tensor,
        context_mask: torch.Tensor,
        reply_ids: torch.Tensor,
        reply_mask: torch.Tensor,
    ) -> PolicyOutput:
        """Scores responses.

        Args:
            context_ids: (B, P) int64 prompts; context_mask: (B, P) bool.
            reply_ids: (B, T) int64 responses, padded on the right; reply_mask: (B, T) bool.
        """
        logits, hidden = response_logits(
            self.lm, context_ids, context_mask, reply_ids, reply_mask
        )  # (B, T, V), (B, T, H)
        logits = logits.float() / self.temperature
        log_normalizer = torch.logsumexp(logits, dim=-1)  # (B, T)
        picked = logits.gather(-1, reply_ids.unsqueeze(-1)).squeeze(-1)
        with torch.no_grad():  # a diagnostic: no gradient is asked of it
            expected = (torch.softmax(logits, dim=-1) * logits).sum(-1)
        values = self.value_head(hidden.to(self.value_head.weight.dtype)).squeeze(-1).float()
        zero = torch.zeros((), device=logits.device)
        return PolicyOutput(
            logprobs=torch.where(reply_mask, picked - log_normalizer, zero),
            values=torch.where(reply_mask, values, zero),
            entropies=torch.where(reply_mask, log_normalizer.detach() - expected, zero),
        )


def response_logits(
    lm: PreTrainedModel,
    context_ids: torch.Tensor,
    context_mask: torch.Tensor,
    reply_ids: torch.Tensor,
    reply_mask: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (B, T, V) that predict each response token, and hidden states (B, T, H) under them."""
    if lm.config.is_encoder_decoder:
        start = torch.full_like(reply_ids[:, :1], lm.config.decoder_start_token_id)
        output = lm(
            input_ids=context_ids,
            attention_mask=context_mask.long(),
            decoder_input_ids=torch.cat([start, reply_ids[:, :-1]], dim=1),
            output_hidden_states=True,
            use_cache=False,
        )
        return output.logits, output.decoder_hidden_states[-1]
    # The last response token predicts nothing that is asked for, so it is not fed.
    ids = torch.cat([context_ids, reply_ids[:, :-1]], dim=1)
    mask = torch.cat([context_mask, reply_mask[:, :-1]], dim=1).long()
    length = reply_ids.shape[1]
    output = lm(
        input_ids=ids,
        attention_mask=mask,
        position_ids=(mask.cumsum(1) - 1).clamp(min=0),
        output_hidden_states=True,
        use_cache=False,
        logits_to_keep=length,
    )
    return output.logits, output.hidden_states[-1][:, -length:]


def hidden_size(lm: PreTrainedModel) -> int:
    """Width of the hidden states under the head: its name differs by family, its shape not."""
    return lm.get_output_embeddings().weight.shape[1]


def disable_dropout(module: nn.Module) -> None:
    """Takes dropout out for good: a policy must score what it sampled (TRL defect 16).

    BART-like layers keep their rates as plain numbers and call the functional form, so clearing
    `nn.Dropout` modules is not enough.
    """
    for child in module.modules():
        if isinstance(child, nn.Dropout):
            child.p = 0.0
        for name in ("dropout", "attention_dropout", "activation_dropout", "layerdrop"):
            if isinstance(getattr(child, name, None), float):
                setattr(child, name, 0.0)


@torch.no_grad()
def sample_responses(
    lm: PreTrainedModel,
    context_ids: torch.Tensor,
    context_mask: torch.Tensor,
    *,
    max_tokens: int,
    temperature: float = 1.0,
    prefix_ids: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Samples from the untruncated distribution.

    Args:
        prefix_ids: (B, t) first tokens of the responses, unpadded; what follows is sampled and
            returned.

    Returns:
        ids (B, T) int64 with T <= max_tokens, and mask (B, T) bool that holds up to and including
        the first EOS. Nothing is read off a pad id.
    """
    config = GenerationConfig(**lm.generation_config.to_dict())
    config.update(do_sample=True, top_k=0, top_p=1.0, temperature=temperature)
    config.update(max_new_tokens=max_tokens, min_length=0, num_beams=1)
    prefix = context_ids[:, :0] if prefix_ids is None else prefix_ids
    inputs = {"input_ids": context_ids, "attention_mask": context_mask.long()}
    if lm.config.is_encoder_decoder:
        start = torch.full_like(context_ids[:, :1], lm.config.decoder_start_token_id)
        inputs["decoder_input_ids"] = torch.cat([start, prefix], dim=1)
        given = 1 + prefix.shape[1]
    else:
        inputs["input_ids"] = torch.cat([context_ids, prefix], dim=1)
        mask = torch.cat([context_mask, torch.ones_like(prefix, dtype=torch.bool)], dim=1)
        inputs["attention_mask"] = mask.long()
        given = inputs["input_ids"].shape[1]
    ids = lm.generate(**inputs, generation_config=config)[:, given:]
    return ids, mask_after_eos(ids, config.eos_token_id)


def mask_after_eos(ids: torch.Tensor, eos_token_id: int) -> torch.Tensor:
    """(B, T) bool: true up to and including the first EOS of each row."""
    ended_before = (ids == eos_token_id).long().cumsum(1) - (ids == eos_token_id).long()
    return ended_before == 0
