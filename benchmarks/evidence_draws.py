"""Null draws beside the score that they are the null of: what evidence costs, method by method.

One person, 180 words x 180 features, 7 layers of 384 dimensions, 18 folds of isolated words, candidates
scaled by their spread: of pereira180 the 15th part. The peer is the score itself, once for every draw, as a
loop over draws around a scorer would pay it; 40 times cheaper is 20 draws for half a score. Errors: draws
against scores of vectors that were exchanged beforehand.

    python -m benchmarks.run --suite=evidence --output=out/evidence.json
"""

import dataclasses
import functools

import numpy as np

from benchmarks import core_nulls
from benchmarks.measure import Job
from brainalign_jax.language import Embeddings
from brainalign_jax.neural.responses import WordResponses
from brainalign_jax.stimulus import Stimulus
from brainalign_jax.study.evidence.draws import draw_nulls
from brainalign_jax.study.evidence.nulls import NullPlan, score_nulls
from brainalign_jax.study.options import Scoring
from brainalign_jax.study.protocol import protocol
from brainalign_jax.study.results import POOLED
from brainalign_jax.study.score import sweep

_WORDS, _FEATURES, _WIDTH, _LAYERS, _FOLDS, _K = 180, 180, 384, 7, 18, 10
_CHECKED = 2  # draws that are scored the other way
_DRAWS = {"ridge, penalty held": 96, "ridge, penalty anew": 48, "procrustes": 16, "rsa": 96}
_METRICS = ("precision_csls", "rank_accuracy")


def jobs() -> list[Job]:
    return [
        Job(
            name=f"{count} nulls of {name}: 180 words, {_LAYERS} layers, {_FOLDS} folds",
            setup=functools.partial(setup, name=name),
            ours=lambda inputs, count=count: functools.partial(draws, inputs, count),
            peers={"a score for each": lambda inputs: functools.partial(scores, inputs)},
            errors=functools.partial(errors, name=name),
            flops=_flops(name) * count,
            targets={"a score for each": 40.0},
            peer_scale={"a score for each": float(count)},
        )
        for name, count in _DRAWS.items()
    ]


def setup(*, name: str) -> dict:
    """One person's responses with a weak relation to the layers of a model, and how they are scored."""
    rng = np.random.default_rng(0)
    words = Stimulus.from_words([f"word{i}" for i in range(_WORDS)])
    shared = rng.standard_normal((_WORDS, 20), np.float32)

    def side(*shape: int) -> np.ndarray:
        mixing = rng.standard_normal((*shape[:-1], 20, shape[-1]), np.float32)
        return shared @ mixing + 6 * rng.standard_normal(
            (*shape[:-1], _WORDS, shape[-1]), np.float32
        )

    about = {"family": "bert", "n_params": 1, "n_layers": _LAYERS - 1}
    audited = protocol("audited", timed=False, n_folds=_FOLDS, layer_selection="test")
    return {
        "responses": [WordResponses("S1", side(_FEATURES), words, np.ones(_WORDS, bool), {})],
        "embeddings": Embeddings("model", words.types()[0], side(_LAYERS, _WIDTH), None, about),
        "scoring": Scoring((name.split(",")[0],), audited, (_K,)),
        "hold_alpha": name.endswith("held"),
    }


def draws(inputs: dict, count: int) -> np.ndarray:
    """P@10 and rank accuracy of each draw and layer, [P, 2, L]."""
    sides = inputs["responses"], inputs["embeddings"], inputs["scoring"]
    plan = NullPlan("items", count, hold_alpha=inputs["hold_alpha"])
    rows = score_nulls("simulated", *sides, plan, k=_K)
    return rows.sort_values(["draw", "metric", "layer"])["value"].to_numpy().reshape(count, 2, -1)


def scores(inputs: dict, types: np.ndarray | None = None) -> np.ndarray:
    """P@10 and rank accuracy of each layer, [2, L], of vectors whose words are exchanged, if any."""
    embeddings = inputs["embeddings"]
    if types is not None:
        embeddings = dataclasses.replace(embeddings, values=embeddings.values[:, types])
    rows = sweep.score_subjects("simulated", inputs["responses"], embeddings, inputs["scoring"])
    rows = rows[rows["metric"].isin(_METRICS) & (rows["fold"] == POOLED) & (rows["layer"] >= 0)]
    return rows.sort_values(["metric", "layer"])["value"].to_numpy().reshape(2, -1)


def errors(inputs: dict, ours: np.ndarray, peers: dict, *, name: str) -> dict[str, float]:
    """The first draws against scores of exchanged vectors; of a penalty that is held, the mean alone."""
    del peers
    said = {"mean rank accuracy beside chance": abs(ours[:, 1].mean() - 0.5)}
    if name.endswith("held"):
        return said
    words = inputs["responses"][0].stimulus
    eligible, token_to_type = np.ones(_WORDS, bool), words.types()[1]
    drawn = draw_nulls("items", words, eligible, token_to_type, _CHECKED, seed=0)
    by_hand = np.stack([scores(inputs, draw.types) for draw in drawn])
    differs = np.abs(ours[:_CHECKED] - by_hand)
    return {"P@10": differs[:, 0].max(), "rank accuracy": differs[:, 1].max(), **said}


def _flops(name: str) -> float:
    """Of one draw: products with hat matrices, or LAPACK's count of the folds' singular values."""
    known = _WORDS * (_FOLDS - 1) / _FOLDS
    if name == "procrustes":
        return _LAYERS * _FOLDS * (22 * known**3 + 4 * known**2 * _WORDS)
    if name == "rsa":
        return _LAYERS * 2.0 * _WORDS**2 * known
    anew = core_nulls.flops() / core_nulls.N_DRAWS
    held = _FOLDS * 2 * (_WORDS + _WORDS / _FOLDS) * _WORDS**2
    return _LAYERS * (held if name.endswith("held") else anew)
