"""1,000 permutations of the ridge P@k of one layer: 180 words x 180 features -> 384 dimensions, 18 folds.

The null distribution of a decoding score: which word's vector belongs to which response is drawn anew,
the model is fitted in every fold with a fixed alpha, and the true word is ranked by cosine among all
words. The peer fits scikit-learn's Ridge in every fold of every permutation, on a sample of these.
"""

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.measure import Job
from brainalign_jax.align import linalg, ridge
from brainalign_jax.align.stats import inference

N_PERMUTATIONS = 1000
_WORDS, _FEATURES, _WIDTH, _FOLDS = 180, 180, 384, 18
_ALPHA = 100.0
_SAMPLE = 10  # permutations that the peer takes
_KS = (1, 5, 10)


def jobs() -> list[Job]:
    return [
        Job(
            name="1,000 permutations of ridge P@k: 180 words x 180 features -> 384, 18 folds",
            setup=setup,
            ours=ours,
            peers={"scikit-learn loop": sklearn_loop},
            errors=compare,
            flops=flops(),
            targets={"scikit-learn loop": 100.0},
            peer_scale={"scikit-learn loop": N_PERMUTATIONS / _SAMPLE},
        )
    ]


def ours(inputs: dict):
    """Ranks by cosine [P, N] of every permutation, factors and hat matrices included, as the loop's: the
    compiler leaves out what CSLS ranks alone need."""
    queries = np.stack([np.flatnonzero(test) for test in inputs["test"]])

    @jax.jit
    def ranks(source, target, train, permutations):
        gram = linalg.gram(source)

        def hats(train, queries):
            factor = ridge.factor(gram, train)
            return inference.hat_matrix(factor, inputs["alpha"])[queries]

        of_folds = jax.lax.map(lambda fold: hats(*fold), (train, queries))
        similar = linalg.gram(target - target.mean(axis=0))
        mask = jnp.ones(queries.shape, source.dtype)
        return jax.lax.map(
            lambda permutation: (
                inference.permuted_ranks(of_folds, train, similar, queries, mask, permutation).nn
            ),
            permutations,
        )

    arrays = inputs["source"], inputs["target"], inputs["train"], inputs["permutations"]

    def call() -> np.ndarray:
        by_fold = np.asarray(ranks(*arrays))  # [P, F, Q]
        by_word = np.empty((len(by_fold), _WORDS), by_fold.dtype)
        by_word[:, queries] = by_fold
        return by_word

    return call


def setup() -> dict:
    """source [N, V], target [N, D] with a weak relation, masks train and test [F, N], permutations [P, N].

    The first permutation is the identity.
    """
    rng = np.random.default_rng(0)
    source = rng.standard_normal((_WORDS, _FEATURES), np.float32)
    mixing = rng.standard_normal((_FEATURES, _WIDTH), np.float32) / np.float32(_FEATURES**0.5)
    target = source @ mixing + 3 * rng.standard_normal((_WORDS, _WIDTH), np.float32)
    test = np.zeros((_FOLDS, _WORDS), bool)
    for fold, words in enumerate(np.array_split(rng.permutation(_WORDS), _FOLDS)):
        test[fold, words] = True
    permutations = np.stack([rng.permutation(_WORDS) for _ in range(N_PERMUTATIONS)])
    permutations[0] = np.arange(_WORDS)
    return {
        "source": source,
        "target": target,
        "train": ~test,
        "test": test,
        "permutations": permutations,
        "alpha": _ALPHA,
    }


def sklearn_loop(inputs: dict):
    """Ranks [_SAMPLE, N], float32 as ours; the sample is the first permutations."""
    import sklearn.linear_model

    return lambda: loop(inputs, sklearn.linear_model.Ridge(alpha=inputs["alpha"]))


def loop(inputs: dict, model) -> np.ndarray:
    ranks = np.zeros((_SAMPLE, _WORDS))
    for i, permutation in enumerate(inputs["permutations"][:_SAMPLE]):
        target = inputs["target"][permutation]
        for train, test in zip(inputs["train"], inputs["test"], strict=True):
            model.fit(inputs["source"][train], target[train])
            mean = target[train].mean(axis=0)
            queries, candidates = model.predict(inputs["source"][test]) - mean, target - mean
            queries /= np.linalg.norm(queries, axis=1, keepdims=True)
            candidates /= np.linalg.norm(candidates, axis=1, keepdims=True)
            cosines = queries @ candidates.T
            own = cosines[np.arange(len(cosines)), np.flatnonzero(test)]
            ranks[i, test] = 1 + (cosines > own[:, None]).sum(axis=1)
    return ranks


def compare(inputs: dict, ours: np.ndarray, peers: dict) -> dict[str, float]:
    """Our ranks of the sample against the loop in float64, and the precision that follows from them."""
    import sklearn.linear_model

    exact = inputs | {name: inputs[name].astype(np.float64) for name in ("source", "target")}
    expected = loop(exact, sklearn.linear_model.Ridge(alpha=inputs["alpha"]))
    our_ranks = np.asarray(ours)[:_SAMPLE]
    precision = [abs((our_ranks <= k).mean(1) - (expected <= k).mean(1)).max() for k in _KS]
    return {
        "ranks that differ": float((our_ranks != expected).mean()),
        "largest difference of ranks": float(np.abs(our_ranks - expected).max()),
        "P@k": float(max(precision)),
    }


def flops() -> float:
    """Of the hat matrices' product with the permuted Gram matrix of the vectors, for each permutation."""
    return N_PERMUTATIONS * 2 * _WORDS**3
