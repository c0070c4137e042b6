"""PPO for an encoder-decoder the plain way, which TRL 0.11 had: the baseline of `ppo_step.py`.

`generate` with its scores kept, full-vocabulary logits of every position in each pass, padding to
the longest row, a critic with a trunk of its own. The mathematics is the trainer's own
(`rlhf_dialog.ppo.objectives`), so that both sides do the same steps.
"""

from __future__ import annotations

import copy
from itertools import chain, count, repeat

import torch
from accelerate import Accelerator
from ppo_shapes import build_published, build_reward_on_text
from ppo_sides import Meter, Setting
from torch import nn
from torch.utils.data import DataLoader
from transformers import BlenderbotSmallModel, GenerationConfig

from rlhf_dialog.generators.decoding import decode_rows
from rlhf_dialog.generators.policy import disable_dropout
from rlhf_dialog.generators.sampling import mask_after_eos
from rlhf_dialog.ppo import objectives
from rlhf_dialog.ppo.rollouts import collate


class Critic(nn.Module):
    """A trunk of the generator's size under a head of one number."""

    def __init__(self, config) -> None:
        super().__init__()
        self.trunk = BlenderbotSmallModel(config)
        self.head = nn.Linear(config.d_model, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, **inputs) -> torch.Tensor:
        return self.head(self.trunk(**inputs).last_hidden_state).squeeze(-1)  # (B, T)


def decoder_inputs(ids, context, context_mask, start: int) -> dict:
    first = torch.full_like(ids[:, :1], start)
    return {
        "input_ids": context,
        "attention_mask": context_mask.long(),
        "decoder_input_ids": torch.cat([first, ids[:, :-1]], dim=1),
        "use_cache": False,
    }


def logprobs_of(logits: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """(B, T, V) logits at ids (B, T), by a softmax over all of them."""
    return torch.log_softmax(logits.float(), -1).gather(-1, ids.unsqueeze(-1)).squeeze(-1)


class PlainPPO:
    """One update after the other: rollout, advantages, two epochs of one minibatch."""

    def __init__(self, setting: Setting, meter: Meter) -> None:
        generator = build_published(setting.shape)
        self.setting, self.meter, self.generator = setting, meter, generator
        self.model, self.reference = generator.model, copy.deepcopy(generator.model)
        torch.manual_seed(2)
        self.critic = Critic(generator.model.config).eval()
        self.reward = build_reward_on_text(setting.shape)
        meter.policy = self.model
        for module in (self.model, self.reference, self.critic, self.reward.model):
            disable_dropout(module)
            module.to(setting.device)
        parameters = [*self.model.parameters(), *self.critic.parameters()]
        self.optimizer = torch.optim.AdamW(parameters, lr=1e-5, weight_decay=0.0, fused=True)
        self.config = GenerationConfig(
            do_sample=True,
            top_k=0,
            top_p=1.0,
            max_new_tokens=setting.response,
            eos_token_id=generator.tokenizer.eos_token_id,
            pad_token_id=generator.tokenizer.pad_token_id,
            decoder_start_token_id=self.model.config.decoder_start_token_id,
        )
        # The measured methods; `meter` counts each as a phase.
        for name, phase in (
            ("sample", "sample"),
            ("refer", "reference"),
            ("value", "value"),
            ("reward", "score"),
            ("update", "update"),
        ):
            meter.wrap(self, name, phase)

    @torch.no_grad()
    def sample(self, context, context_mask):
        """Responses (B, T), their mask, and log-probabilities out of the scores of all steps."""
        output = self.model.generate(
            input_ids=context,
            attention_mask=context_mask.long(),
            generation_config=self.config,
            return_dict_in_generate=True,
            output_scores=True,
        )
        ids = output.sequences[:, 1:]
        scores = torch.stack(output.scores, dim=1)  # (B, T, V)
        return ids, mask_after_eos(ids, self.config.eos_token_id), logprobs_of(scores, ids)

    @torch.no_grad()
    def refer(self, ids, inputs):
        return logprobs_of(self.reference(**inputs).logits, ids)

    @torch.no_grad()
    def value(self, inputs):
        return self.critic(**inputs).float()

    def update(self, ids, mask, inputs, old, values, advantages, returns):
        for _ in range(2):
            logits = self.model(**inputs).logits.float()
            logprobs, new_values = logprobs_of(logits, ids), self.critic(**inputs).float()
            policy, _ = objectives.clipped_policy_loss(logprobs, old, advantages, mask, 0.2)
            value = objectives.clipped_value_loss(new_values, values, returns, mask, 0.2)
            ((policy.sum() + 0.1 * value.sum()) / mask.sum()).backward()
            self.optimizer.step()
            self.optimizer.zero_grad()
            with torch.no_grad():  # what is logged
                probabilities = torch.softmax(logits, -1)
                entropy = torch.logsumexp(logits, -1) - (probabilities * logits).sum(-1)
                objectives.masked_mean(entropy, mask).item()

    def step(self, batch) -> None:
        device = self.setting.device
        context, context_mask = batch["input_ids"].to(device), batch["attention_mask"].to(device)
        cast = torch.autocast(device, torch.bfloat16, enabled=self.setting.dtype == "bf16")
        with cast:
            ids, mask, old = self.sample(context, context_mask)
            inputs = decoder_inputs(ids, context, context_mask, self.config.decoder_start_token_id)
            reference, values = self.refer(ids, inputs), self.value(inputs)
        with torch.no_grad():
            replies = decode_rows(self.generator, ids, mask)
            scores = self.reward(batch["contexts"], replies).to(device)
            rewards = objectives.terminal_reward(scores, mask)
            rewards = rewards - 0.1 * objectives.kl_per_token(old, reference, mask, "k1")
            advantages, returns = objectives.generalized_advantages(
                rewards, values, mask, 1.0, 0.95
            )
            advantages = objectives.masked_whiten(advantages, mask)
        with cast:
            self.update(ids, mask, inputs, old, values, advantages, returns)
        self.meter.tokens += int(mask.sum())


def run_plain(setting: Setting, meter: Meter) -> None:
    trainer = PlainPPO(setting, meter)

    def together(examples):
        return collate(examples, trainer.generator, setting.context)

    loader = DataLoader(
        setting.examples(), setting.episodes, shuffle=True, collate_fn=together, drop_last=True
    )
    torch.manual_seed(3)  # as TRL does, for the same prompts
    accelerator = Accelerator(cpu=setting.device == "cpu")
    batches = chain.from_iterable(repeat(accelerator.prepare(loader)))
    for update in count():
        meter.turn(1000 + update)
        trainer.step(next(batches))
