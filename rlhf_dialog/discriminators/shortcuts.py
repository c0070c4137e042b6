"""Shortcut baselines: what can be told of a reply without understanding it.

A discriminator is worth optimising against as far as it is above these. Each is a logistic
regression on the reply alone (never the context), fitted on the train side of the discriminator's
own split and measured on its held-out side:

=====================  =======================================================================
length                 the logarithms of the numbers of characters and of words, and their squares
casing, punctuation    the reply with every word replaced by its case ("Oh, NORA!" → "Aa, A!"),
                       TF-IDF of 1- to 3-grams of these characters
bag of words           TF-IDF of words and word pairs, and of 1- to 4-grams of characters within
                       words, which also serve scripts without spaces
=====================  =======================================================================

No shortcut can tell a wrong-context fake, as it is a real reply elsewhere: its AUC there is .5.
"""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import Pipeline, make_pipeline, make_union
from sklearn.preprocessing import FunctionTransformer, PolynomialFeatures, StandardScaler

from rlhf_dialog.discriminators.negatives import Pair
from rlhf_dialog.discriminators.training import fake_shares, mixed_auc, split_pools
from rlhf_dialog.settings import DiscriminatorSettings

MOST_FEATURES = 50_000  # of each TF-IDF


def _lengths(replies: Sequence[str]) -> np.ndarray:
    """(N, 2) float64: log(1 + characters), log(1 + words)."""
    return np.log1p([[len(reply), len(reply.split())] for reply in replies])


def letter_shapes(reply: str) -> str:
    """Each run of letters as its case, digits as 9; punctuation and spaces as they are.

    "A" upper-case, "Aa" capitalised, "a" lower-case, "o" letters without case (한, 日).
    """
    shapes = {"Lu": "A", "Lt": "A", "Ll": "a", "Lo": "o", "Lm": "o", "Nd": "9"}
    symbols = (shapes.get(unicodedata.category(character), character) for character in reply)
    return "".join(
        symbol if symbol in "Aao9" else symbol * len(list(run)) for symbol, run in groupby(symbols)
    )


def _length() -> Pipeline:
    return make_pipeline(
        FunctionTransformer(_lengths), PolynomialFeatures(2), StandardScaler(), _regression(1.0)
    )


def _casing_and_punctuation() -> Pipeline:
    # The marks tell how a reply begins and ends, as in "^Aa" and "!$".
    grams = TfidfVectorizer(
        analyzer="char",
        ngram_range=(1, 3),
        lowercase=False,
        preprocessor=lambda reply: f"^{letter_shapes(reply)}$",
        sublinear_tf=True,
        max_features=MOST_FEATURES,
    )
    return make_pipeline(grams, _regression(10.0))


def _bag_of_words() -> Pipeline:
    shared = {"sublinear_tf": True, "max_features": MOST_FEATURES}
    words = TfidfVectorizer(ngram_range=(1, 2), token_pattern=r"\w+|[^\w\s]", **shared)
    characters = TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 4), **shared)
    return make_pipeline(make_union(words, characters), _regression(10.0))


def _regression(inverse_penalty: float) -> LogisticRegression:
    return LogisticRegression(C=inverse_penalty, solver="liblinear", class_weight="balanced")


SHORTCUTS: dict[str, Callable[[], Pipeline]] = {
    "length": _length,
    "casing_punctuation": _casing_and_punctuation,
    "bag_of_words": _bag_of_words,
}


def shortcut_report(
    pools: Mapping[str, Sequence[Pair]], settings: DiscriminatorSettings, *, seed: int
) -> dict[str, dict[str, float]]:
    """Held-out AUC of each shortcut, on the split that `pretrain` makes of the same arguments.

    Each kind of fake has a fit of its own, so that a shortcut is as good as it can be; `all` is one
    fit to all kinds by their shares, as the discriminator's is.

    Returns:
        shortcut -> kind of fake, or `all` -> area under the ROC curve.
    """
    train, held_out = split_pools(pools, random.Random(seed), lengths=settings.match_lengths)
    shares = fake_shares(settings)
    kinds = [k for k in held_out if k != "real" and train.get(k) and held_out[k]]
    report: dict[str, dict[str, float]] = {}
    for name, make in SHORTCUTS.items():
        report[name] = {kind: _fit(make(), train, {kind: 1.0}, held_out)[kind] for kind in kinds}
        wanted = {kind: shares.get(kind, 0.0) for kind in kinds}
        report[name]["all"] = mixed_auc(_fit(make(), train, wanted, held_out), wanted)
    return report


def _fit(
    shortcut: Pipeline,
    train: Mapping[str, Sequence[Pair]],
    shares: Mapping[str, float],
    held_out: Mapping[str, Sequence[Pair]],
) -> dict[str, float]:
    """Fits reals against fakes weighted by `shares`; the held-out AUC of each of these kinds."""
    kinds = [kind for kind, share in shares.items() if share]
    replies = [pair.reply for kind in ("real", *kinds) for pair in train[kind]]
    labels = [pair.is_real for kind in ("real", *kinds) for pair in train[kind]]
    weights = [1.0] * len(train["real"])
    for kind in kinds:
        weights += [shares[kind] * len(train["real"]) / len(train[kind])] * len(train[kind])
    shortcut.fit(replies, labels, logisticregression__sample_weight=np.array(weights))
    reals = shortcut.decision_function([pair.reply for pair in held_out["real"]])
    aucs = {}
    for kind in kinds:
        scores = shortcut.decision_function([pair.reply for pair in held_out[kind]])
        truth = np.r_[np.ones(len(reals)), np.zeros(len(scores))]
        aucs[kind] = float(roc_auc_score(truth, np.r_[reals, scores]))
    return aucs
