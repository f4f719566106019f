"""Studies of two conditions with a planted answer, and their ridge in plain NumPy."""

import numpy as np
from recordings import make_embeddings, make_responses

from brainalign_jax.neural.readers import Dataset
from brainalign_jax.stimulus import Stimulus
from brainalign_jax.studies.generalisation.scores import cell_protocol
from brainalign_jax.studies.options import Generalisation

N, WIDTH, V = 64, 10, 24
CONDITIONS = "concreteness<3;concreteness>=3"
QUICK = Generalisation(n_folds=4, n_splits=2, n_nulls=20, n_bootstraps=400)


def made(kind, *, n=N, width=WIDTH, n_voxels=V, noise=1.5, n_subjects=3, seed=0):
    """(data set, embeddings, responses [S, N, V]): the first half of the words is abstract.

    kind: "shared", one map for all words; "own", a map a condition; "concrete", these words alone are
    carried; "shifted", one map for all words, whose vectors lie elsewhere in the two halves; "noise".
    """
    rng = np.random.default_rng(seed)
    concreteness = np.where(np.arange(n) < n // 2, 1.5, 4.5)
    words = Stimulus(
        tuple(f"word{i}" for i in range(n)),
        attributes={
            "concreteness": concreteness,
            "kind": ["a"] * (n // 2) + ["b"] * (n - n // 2),
            "same": np.ones(n),
        },
    )
    vectors = rng.standard_normal((2, n, width))
    concrete = concreteness > 3
    if kind == "shifted":
        vectors[1, concrete] += 2 * rng.standard_normal(width)
    values = []
    for _ in range(n_subjects):
        maps = rng.standard_normal((2, width, n_voxels))
        signal = vectors[1] @ maps[0]
        if kind == "own":
            signal = np.where(concrete[:, None], vectors[1] @ maps[1], signal)
        if kind == "concrete":
            signal = np.where(concrete[:, None], signal, rng.permutation(signal))
        if kind == "noise":
            signal = np.zeros_like(signal)
        values.append(signal + noise * np.sqrt(width) * rng.standard_normal((n, n_voxels)))
    loaded = {f"S{i}": make_responses(words, x, subject=f"S{i}") for i, x in enumerate(values)}
    dataset = Dataset("made", tuple(loaded), words, loaded.__getitem__)
    return dataset, make_embeddings(words, vectors), np.stack(values)


def plain_ridge(source, target, train, test, alpha):
    """Predictions [Q, D] less the training mean, of NumPy alone."""
    x, y = source - source[train].mean(axis=0), target - target[train].mean(axis=0)
    kernel = x[train] @ x[train].T
    scale = alpha * np.trace(kernel) / len(train)
    dual = np.linalg.solve(kernel + scale * np.eye(len(train)), y[train])
    return x[test] @ x[train].T @ dual


def cosine_ranks(predicted, target, train, candidates, gold):
    """Rank of each true word among the candidates, by cosine about the training mean."""
    unit = target[candidates] - target[train].mean(axis=0)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    similarity = predicted @ unit.T
    true = similarity[np.arange(len(gold)), [list(candidates).index(word) for word in gold]]
    return 1 + (similarity > true[:, None]).sum(axis=1)


def plain_alpha(source, target, train):
    """The penalty with the best mean rank in five contiguous inner folds, candidates held out."""
    alphas = cell_protocol().alphas
    losses = np.zeros(len(alphas))
    for held in np.array_split(train, 5):
        rest = np.setdiff1d(train, held)
        x, y = source - source[rest].mean(axis=0), target - target[rest].mean(axis=0)
        values, axes = np.linalg.eigh(x[rest] @ x[rest].T)
        left, right = x[held] @ x[rest].T @ axes, axes.T @ y[rest]
        for index, alpha in enumerate(alphas):
            predicted = left / (values + alpha * values.mean()) @ right
            losses[index] += cosine_ranks(predicted, target, rest, held, held).sum()
    return alphas[losses.argmin()]
