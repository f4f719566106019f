"""Null draws of ridge that choose the penalty anew: 180 words x 180 features -> 384 dimensions, 18 folds.

Words exchange their vectors; in each draw the penalty is chosen in 5 inner folds of each fold among 8, the
words are decoded and ranked with candidates scaled by their spread: the audited protocol of isolated words,
one person and one layer. The peer is the package's own long way, which fits every draw, on a sample of them;
both give the same draws.
"""

import functools
from unittest import mock

import numpy as np

from benchmarks.measure import Job
from brainalign_jax.language import Embeddings
from brainalign_jax.neural.responses import WordResponses
from brainalign_jax.stimulus import Stimulus
from brainalign_jax.study.evidence import exchanged_nulls
from brainalign_jax.study.evidence.nulls import NullPlan, score_nulls
from brainalign_jax.study.options import Scoring
from brainalign_jax.study.protocol import protocol

N_DRAWS = 96
_WORDS, _FEATURES, _WIDTH, _FOLDS, _INNER, _ALPHAS = 180, 180, 384, 18, 5, 8
_SAMPLE = 8  # draws that the long way takes
_K = 10


def jobs() -> list[Job]:
    return [
        Job(
            name=f"{N_DRAWS} nulls of ridge, penalty anew: 180 words x 180 features -> 384, 18 folds",
            setup=setup,
            ours=lambda inputs: functools.partial(values, inputs, N_DRAWS),
            peers={"long way": long_way},
            errors=compare,
            flops=flops(),
            targets={"long way": 2.0},
            peer_scale={"long way": N_DRAWS / _SAMPLE},
        )
    ]


def setup() -> dict:
    """One person's responses with a weak relation to one layer of a model, and how they are scored."""
    rng = np.random.default_rng(0)
    words = Stimulus.from_words([f"word{i}" for i in range(_WORDS)])
    vectors = rng.standard_normal((_WORDS, _WIDTH), np.float32)
    planted = vectors @ rng.standard_normal((_WIDTH, _FEATURES), np.float32) / _WIDTH**0.5
    noise = 3 * rng.standard_normal((_WORDS, _FEATURES), np.float32)
    known = np.ones(_WORDS, bool)
    about = {"family": "static", "n_params": 1, "n_layers": 0}
    return {
        "responses": [WordResponses("S1", planted + noise, words, known, {})],
        "embeddings": Embeddings("model", words.types()[0], vectors[None], None, about),
        "scoring": Scoring(
            ("ridge",),
            protocol("audited", timed=False, n_folds=_FOLDS, n_inner_folds=_INNER),
            (_K,),
        ),
    }


def values(inputs: dict, n_draws: int) -> np.ndarray:
    """P@10 and rank accuracy [P, 2] of each draw."""
    sides = inputs["responses"], inputs["embeddings"], inputs["scoring"]
    rows = score_nulls("simulated", *sides, NullPlan("items", n_draws), k=_K)
    return rows.sort_values(["draw", "metric"])["value"].to_numpy().reshape(n_draws, 2)


def long_way(inputs: dict):
    """The same of the first draws, each of which fits anew."""

    def call() -> np.ndarray:
        with mock.patch.object(exchanged_nulls, "serves", lambda *_, **__: False):
            return values(inputs, _SAMPLE)

    return call


def compare(inputs: dict, ours: np.ndarray, peers: dict) -> dict[str, float]:
    """Our draws against the same ones the long way."""
    differs = np.abs(ours[:_SAMPLE] - peers["long way"])
    return {
        "largest difference of P@10": differs[:, 0].max(),
        "of rank accuracy": differs[:, 1].max(),
    }


def flops() -> float:
    """Of the hat matrices' products with the Gram matrix: of the inner queries for each penalty, of the outer
    queries and training words for one.
    """
    known = _WORDS * (_FOLDS - 1) / _FOLDS
    inner = _ALPHAS * known * known * (_INNER - 1) / _INNER * _WORDS
    outer = (_WORDS + _WORDS / _FOLDS) * _WORDS**2
    return N_DRAWS * _FOLDS * 2 * (inner + outer)
