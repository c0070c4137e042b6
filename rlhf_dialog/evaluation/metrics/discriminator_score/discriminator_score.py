"""Discriminator score: what a classifier of (context, reply) pairs thinks of replies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import datasets
import evaluate
import torch

from rlhf_dialog.discriminators.model import load_discriminator
from rlhf_dialog.evaluation.metrics.text import lists_of_texts, mean, one_for_each

# (contexts, replies) -> logits (N,): a `Discriminator`, a frozen judge, or any such function
Scorer = Callable[[Sequence[Sequence[str]], Sequence[str]], torch.Tensor]

_CITATION = """\
@inproceedings{li-etal-2017-adversarial,
    title = "Adversarial Learning for Neural Dialogue Generation",
    author = "Li, Jiwei and Monroe, Will and Shi, Tianlin and Jean, Sébastien and Ritter, Alan and
        Jurafsky, Dan",
    booktitle = "Proceedings of EMNLP 2017",
    year = "2017",
    pages = "2157--2169",
}
"""

_DESCRIPTION = """\
The mean logit that a discriminator gives to replies in their contexts, the mean probability of
"this is the character", and the share of replies that it accepts. Of a discriminator that was the
reward, this is no evidence of quality: ask a judge that was not.
"""

_INPUTS = """
Args:
    predictions (list[str]): the replies.
    contexts (list[list[str]]): the turns before each, oldest first.
    discriminator (callable or str): (contexts, replies) -> logits, such as a `Discriminator`; or
        the folder or Hub id of one.
    max_tokens (int): longest pair, where a folder is given, in its tokens. Default 128.
Returns:
    logit (float): mean; std (float): of the logits, divided by the number of replies.
    probability (float): mean of 1 / (1 + exp(-logit)).
    accepted (float): share of logits above 0. All are 0.0 without replies.
Examples:
    >>> import torch
    >>> def likes_long_ones(contexts, replies):
    ...     return torch.tensor([len(reply) - 4.0 for reply in replies])
    >>> metric = evaluate.load("rlhf_dialog/evaluation/metrics/discriminator_score")
    >>> asked = {"predictions": ["aye", "aye aye"], "contexts": [["who?"], ["who?"]]}
    >>> result = metric.compute(**asked, discriminator=likes_long_ones)
    >>> result["logit"], result["accepted"]
    (1.0, 0.5)
"""


class DiscriminatorScore(NamedTuple):
    logit: float  # mean
    std: float  # of the logits
    probability: float  # mean
    accepted: float  # share of logits above 0


def discriminator_score(
    discriminator: Scorer, contexts: Sequence[Sequence[str]], replies: Sequence[str]
) -> DiscriminatorScore:
    """Summary of the logits (N,) of N pairs; all 0.0 without pairs.

    Raises:
        UserError: as many contexts as replies are not there, or one is a bare string.
    """
    one_for_each(replies=replies, contexts=contexts)
    lists_of_texts("contexts", contexts)
    if not replies:
        return DiscriminatorScore(0.0, 0.0, 0.0, 0.0)
    logits = discriminator(contexts, replies).double()  # (N,)
    centre = mean(logits.tolist())
    return DiscriminatorScore(
        centre,
        mean((logits - centre).square().tolist()) ** 0.5,
        mean(torch.sigmoid(logits).tolist()),
        mean((logits > 0).tolist()),
    )


class DiscriminatorScoreMetric(evaluate.Metric):
    """`discriminator_score` behind the `evaluate` interface; see the card beside this file."""

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
            reference_urls=["https://aclanthology.org/D17-1230"],
        )

    def _compute(
        self,
        predictions: list[str],
        contexts: list[list[str]],
        discriminator: Scorer | str,
        max_tokens: int = 128,
        **_: Any,
    ) -> dict[str, float]:
        if isinstance(discriminator, str):
            discriminator = load_discriminator(
                discriminator, max_tokens=max_tokens, what="discriminator", trained=True
            )
        return discriminator_score(discriminator, contexts, predictions)._asdict()
