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
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix, vstack
from sklearn.base import TransformerMixin
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline, make_union
from sklearn.preprocessing import FunctionTransformer, PolynomialFeatures, StandardScaler

from rlhf_dialog.dialogues.words import count_words
from rlhf_dialog.discriminators.negatives import Pair
from rlhf_dialog.discriminators.training import fake_shares, mixed_auc, split_pools
from rlhf_dialog.settings import DiscriminatorSettings

MOST_FEATURES = 50_000  # of each TF-IDF


def _lengths(replies: Sequence[str]) -> np.ndarray:
    """(N, 2) float64: log(1 + characters), log(1 + words)."""
    return np.log1p([[len(reply), count_words(reply)] for reply in replies])


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
    return make_pipeline(FunctionTransformer(_lengths), PolynomialFeatures(2), StandardScaler())


def _casing_and_punctuation() -> TfidfVectorizer:
    # The marks tell how a reply begins and ends, as in "^Aa" and "!$".
    return TfidfVectorizer(
        analyzer="char",
        ngram_range=(1, 3),
        lowercase=False,
        preprocessor=lambda reply: f"^{letter_shapes(reply)}$",
        sublinear_tf=True,
        max_features=MOST_FEATURES,
    )


def _bag_of_words() -> FeatureUnion:
    shared = {"sublinear_tf": True, "max_features": MOST_FEATURES}
    words = TfidfVectorizer(ngram_range=(1, 2), token_pattern=r"\w+|[^\w\s]", **shared)
    return make_union(words, TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 4), **shared))


# name -> (what it sees of a reply, inverse penalty of its logistic regression)
SHORTCUTS: dict[str, tuple[Callable[[], TransformerMixin], float]] = {
    "length": (_length, 1.0),
    "casing_punctuation": (_casing_and_punctuation, 10.0),
    "bag_of_words": (_bag_of_words, 10.0),
}


def shortcut_report(
    pools: Mapping[str, Sequence[Pair]], settings: DiscriminatorSettings, *, seed: int
) -> dict[str, dict[str, float]]:
    """Held-out AUC of each shortcut, on the split that `pretrain` makes of the same arguments.

    Each kind of fake has a regression of its own, so that a shortcut is as good as it can be; `all`
    is one on all kinds by their shares, as the discriminator is.

    Returns:
        shortcut -> kind of fake, or `all` -> area under the ROC curve.
    """
    train, held_out = split_pools(pools, random.Random(seed), lengths=settings.match_lengths)
    kinds = [k for k in held_out if k != "real" and train.get(k) and held_out[k]]
    shares = {kind: fake_shares(settings).get(kind, 0.0) for kind in kinds}
    replies = {
        side: {kind: [pair.reply for pair in pool[kind]] for kind in ("real", *kinds)}
        for side, pool in (("train", train), ("held_out", held_out))
    }
    report: dict[str, dict[str, float]] = {}
    for name, (make, inverse_penalty) in SHORTCUTS.items():
        features = make().fit([reply for pool in replies["train"].values() for reply in pool])
        seen = {
            side: {kind: features.transform(pool) for kind, pool in pools_of.items()}
            for side, pools_of in replies.items()
        }

        def fit(wanted: Mapping[str, float], seen=seen, penalty=inverse_penalty):
            return _held_out_aucs(seen["train"], wanted, seen["held_out"], penalty)

        report[name] = {kind: fit({kind: 1.0})[kind] for kind in kinds}
        report[name]["all"] = mixed_auc(fit(shares), shares)
    return report


def _held_out_aucs(
    train: Mapping[str, Any],
    shares: Mapping[str, float],
    held_out: Mapping[str, Any],
    inverse_penalty: float,
) -> dict[str, float]:
    """The AUC of each kind in `shares`, of a regression of reals on fakes weighted by them.

    Args:
        train, held_out: features (N, F) of "real" and of each kind, dense or sparse.
    """
    kinds = [kind for kind, share in shares.items() if share]
    counts = [train[kind].shape[0] for kind in ("real", *kinds)]
    total = sum(shares[kind] for kind in kinds)  # half of the weight is real, half fake
    weights = [1.0, *(shares[k] / total * counts[0] / train[k].shape[0] for k in kinds)]
    rows = vstack([csr_matrix(train[kind]) for kind in ("real", *kinds)])
    regression = LogisticRegression(C=inverse_penalty, solver="liblinear")
    regression.fit(rows, np.arange(sum(counts)) < counts[0], np.repeat(weights, counts))
    reals = regression.decision_function(held_out["real"])
    aucs = {}
    for kind in kinds:
        fakes = regression.decision_function(held_out[kind])
        truth = np.r_[np.ones(len(reals)), np.zeros(len(fakes))]
        aucs[kind] = float(roc_auc_score(truth, np.r_[reals, fakes]))
    return aucs
