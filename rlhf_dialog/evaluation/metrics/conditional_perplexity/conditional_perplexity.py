"""Conditional perplexity: how surprised a generator is by replies, given their contexts."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import datasets
import evaluate
import numpy as np
import torch

from rlhf_dialog.errors import UserError
from rlhf_dialog.evaluation.metrics.text import (
    characters,
    lists_of_texts,
    mean,
    one_for_each,
    tokens,
)
from rlhf_dialog.generators.loading import Generator, load_generator
from rlhf_dialog.generators.policy import response_logits
from rlhf_dialog.generators.prompts import encode_contexts, pad_ids, pad_prompts

BATCH = 16
RESPONSE_LENGTH = 128
UNBOUNDED = 512  # positions of a model that has no limit of its own (T5)

_CITATION = """\
@article{jelinek-etal-1977-perplexity,
    title = "Perplexity: a measure of the difficulty of speech recognition tasks",
    author = "Jelinek, Fred and Mercer, Robert L. and Bahl, Lalit R. and Baker, James K.",
    journal = "Journal of the Acoustical Society of America",
    volume = "62",
    number = "S1",
    year = "1977",
}
"""

_DESCRIPTION = """\
Conditional perplexity is exp(total negative log-likelihood of the replies given their contexts /
number of tokens, words or characters). Models with different tokenizers can be compared per word or
per character only.
"""

_INPUTS = """
Args:
    predictions (list[str]): the replies, usually the human ones.
    contexts (list[list[str]]): the turns before each, oldest first, at least one.
    generator (Generator or str): what is asked, or its folder or Hub id; causal or encoder-decoder.
    batch_size (int): replies a forward pass; changes no number. Default 16.
    context_length, response_length (int): longest prompt and response, in tokens; see the card for
        the defaults and for what happens to longer ones.
Returns:
    per_token, per_word, per_character (float): perplexities; None where nothing is to divide by.
    bits_per_token (float): log2 of the first.
    mean_of_replies, exp_of_reply_means (float): two other numbers that go by the name.
    nll (float): nats, of all replies. tokens, words, characters (int): what it was divided by.
    cut_contexts, cut_replies (int): how many were too long.
Examples:
    >>> from rlhf_dialog.generators.loading import fresh_generator
    >>> size = {"vocab_size": 260, "hidden_size": 8, "layers": 1, "heads": 1, "positions": 64}
    >>> generator = fresh_generator("gpt2", ["aye"], **size, seed=0)
    >>> for weight in generator.model.parameters(): _ = weight.data.zero_()  # knows nothing
    >>> metric = evaluate.load("rlhf_dialog/evaluation/metrics/conditional_perplexity")
    >>> asked = {"predictions": ["aye aye"], "contexts": [["who is there?"]]}
    >>> round(metric.compute(**asked, generator=generator)["per_token"], 3)  # its vocabulary
    260.0
"""


class Perplexity(NamedTuple):
    """None where there is nothing to divide by; infinity beyond what a float64 can hold."""

    per_token: float | None  # exp(total nats / tokens), EOS is one of them
    per_word: float | None  # exp(total nats / words)
    per_character: float | None  # exp(total nats / characters)
    bits_per_token: float | None
    mean_of_replies: float | None  # mean over replies of exp(nats / tokens) (`evaluate`)
    exp_of_reply_means: float | None  # exp(mean over replies of nats / tokens) (DialoGPT)
    nll: float  # nats
    tokens: int
    words: int
    characters: int


class ReplyLikelihoods(NamedTuple):
    """Per reply (N of each)."""

    token_nlls: list[list[float]]  # −log p(token | context, tokens before), nats; EOS is the last
    words: list[int]  # that were scored, between white space
    characters: list[int]  # that were scored, spaces among them
    context_was_cut: list[bool]
    reply_was_cut: list[bool]


def perplexity(token_nlls: Sequence[Sequence[float]], words: int, characters: int) -> Perplexity:
    """The perplexities of replies from the NLL of each of their tokens, in nats."""
    replies = [nlls for nlls in token_nlls if nlls]
    size = sum(map(len, replies))
    nll = math.fsum(nat for nlls in replies for nat in nlls)
    means = [mean(nlls) for nlls in replies]
    return Perplexity(
        per_token=_exp(nll / size) if size else None,
        per_word=_exp(nll / words) if words else None,
        per_character=_exp(nll / characters) if characters else None,
        bits_per_token=nll / size / math.log(2) if size else None,
        mean_of_replies=mean([_exp(value) for value in means]) if replies else None,
        exp_of_reply_means=_exp(mean(means)) if replies else None,
        nll=nll,
        tokens=size,
        words=words,
        characters=characters,
    )


def _exp(nats: float) -> float:
    with np.errstate(over="ignore"):  # a sentence of Japanese is one "word" of hundreds of nats
        return float(np.exp(nats))


def conditional_perplexity(
    generator: Generator,
    contexts: Sequence[Sequence[str]],
    replies: Sequence[str],
    *,
    batch_size: int = BATCH,
    context_length: int | None = None,
    response_length: int | None = None,
) -> dict[str, float | None]:
    """Perplexity of N replies given their contexts: the fields of `Perplexity`, and how many
    contexts and replies were too long. Arguments and errors are those of `reply_likelihoods`."""
    found = reply_likelihoods(
        generator,
        contexts,
        replies,
        batch_size=batch_size,
        context_length=context_length,
        response_length=response_length,
    )
    result = perplexity(found.token_nlls, sum(found.words), sum(found.characters))
    return {
        **result._asdict(),
        "cut_contexts": sum(found.context_was_cut),
        "cut_replies": sum(found.reply_was_cut),
    }


def mean_log_likelihoods(
    generator: Generator,
    contexts: Sequence[Sequence[str]],
    replies: Sequence[str],
    **lengths: Any,
) -> torch.Tensor:
    """Mean log-probability of each reply's tokens, (N,) float64, nats: what ParlAI's generators
    rank candidates by (`hits_at_k.rank_candidates`, with the generator bound). `lengths` are those
    of `reply_likelihoods`."""
    found = reply_likelihoods(generator, contexts, replies, **lengths).token_nlls
    return torch.tensor([-mean(nlls) for nlls in found], dtype=torch.float64)


@torch.no_grad()
def reply_likelihoods(
    generator: Generator,
    contexts: Sequence[Sequence[str]],
    replies: Sequence[str],
    *,
    batch_size: int = BATCH,
    context_length: int | None = None,
    response_length: int | None = None,
) -> ReplyLikelihoods:
    """NLL of every token of N replies, by teacher forcing, dropout off.

    The prompt is the generator's own (`generators.prompts`), and EOS belongs to the reply: an empty
    reply is EOS alone. Prompts are padded on the left for causal models and on the right for
    encoder-decoders, whatever the tokenizer's `padding_side` says.

    Args:
        batch_size: replies a forward pass.
        context_length: longest prompt, in tokens; a longer context loses its oldest turns, a longer
            single turn its beginning. None: what the positions leave beside the response.
        response_length: longest response, in tokens with EOS; a longer reply loses its end and is
            not closed by EOS, and its words and characters are those that were scored, as the
            tokenizer spells them. None: 128, or half of the positions if that is less.

    Raises:
        UserError: as many contexts as replies are not there; a context is a bare string or has no
            turn; batch_size < 1; lengths beyond the model's positions.
    """
    context_length, response_length = _lengths(generator, context_length, response_length)
    _check(contexts, replies, batch_size)
    eos = generator.tokenizer.eos_token_id
    prompts = encode_contexts(generator, contexts, context_length)
    whole = [[*generator.encode(reply), eos] for reply in replies]
    responses = [ids[:response_length] for ids in whole]
    was_cut = [len(ids) > response_length for ids in whole]
    scored = [
        generator.decode(ids) if cut else reply
        for ids, cut, reply in zip(responses, was_cut, replies, strict=True)
    ]
    return ReplyLikelihoods(
        _token_nlls(generator, prompts, responses, batch_size),
        [len(tokens(text, "whitespace")) for text in scored],
        [characters(text) for text in scored],
        [
            uncut != prompt
            for uncut, prompt in zip(
                encode_contexts(generator, contexts, sys.maxsize), prompts, strict=True
            )
        ],
        was_cut,
    )


def _token_nlls(
    generator: Generator,
    prompts: Sequence[list[int]],
    responses: Sequence[list[int]],
    batch_size: int,
) -> list[list[float]]:
    """In the order given; batches hold neighbours in length, so that little is padded."""
    found: list[list[float]] = [[] for _ in responses]
    order = sorted(range(len(responses)), key=lambda i: (len(responses[i]), len(prompts[i])))
    model, pad = generator.model, generator.tokenizer.pad_token_id
    was_training = model.training
    model.eval()
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        ids, mask = pad_ids([responses[i] for i in rows], pad)  # (B, T)
        batch = (*pad_prompts([prompts[i] for i in rows], generator), ids, mask)
        logits, _ = response_logits(model, *(part.to(model.device) for part in batch))
        if logits.dtype != torch.float64:
            logits = logits.float()
        chosen = ids.to(logits.device).unsqueeze(-1)
        nlls = logits.logsumexp(-1) - logits.gather(-1, chosen).squeeze(-1)  # (B, T)
        for row, values, real in zip(rows, nlls.double().cpu(), mask, strict=True):
            found[row] = values[real].tolist()
    model.train(was_training)
    return found


def _lengths(
    generator: Generator, context_length: int | None, response_length: int | None
) -> tuple[int, int]:
    """Both, with what was left open filled in from the model's positions."""
    positions = generator.max_positions or UNBOUNDED
    response = min(RESPONSE_LENGTH, positions // 2) if response_length is None else response_length
    together = not generator.is_encoder_decoder  # prompt and response share the positions
    context = (positions - response * together) if context_length is None else context_length
    needed = context + response if together else max(context, response)
    if min(context, response) < 1 or (generator.max_positions and needed > positions):
        raise UserError(
            f"context_length {context} and response_length {response} do not fit into the "
            f"{positions} positions of this {generator.kind} generator; give less, at least 1 each."
        )
    return context, response


def _check(contexts: Sequence[Sequence[str]], replies: Sequence[str], batch_size: int) -> None:
    if batch_size < 1:
        raise UserError(f"batch_size: {batch_size} is too small; give at least 1.")
    one_for_each(replies=replies, contexts=contexts)
    lists_of_texts("contexts", contexts)
    for row, turns in enumerate(contexts):
        if not turns:
            raise UserError(f"contexts[{row}] is empty; give the turn that was replied to.")


class ConditionalPerplexity(evaluate.Metric):
    """`conditional_perplexity` behind the `evaluate` interface; see the card beside this file."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=datasets.Features(
                {
                    "predictions": datasets.Value("string"),
                    "contexts": datasets.List(datasets.Value("string")),
                }
            ),
        )

    def _compute(
        self,
        predictions: list[str],
        contexts: list[list[str]],
        generator: Generator | str,
        batch_size: int = BATCH,
        context_length: int | None = None,
        response_length: int | None = None,
        **_: Any,
    ) -> dict[str, float | None]:
        if isinstance(generator, str):
            generator = load_generator(generator)
        return conditional_perplexity(
            generator,
            contexts,
            predictions,
            batch_size=batch_size,
            context_length=context_length,
            response_length=response_length,
        )
