"""Every measure of similarity, 13 layers x 15 people x 1,000 permutations of 180 words, against NumPy loops.

The null distribution of a study: the words of every person are drawn anew, and each person is compared with
each layer. The peer computes the measure from both sides' vectors, as one would write it, on a sample of the
permutations. `python -m benchmarks.run --jobs=similarity --output=out/similarity.json`.
"""

import functools
from collections.abc import Callable

import jax
import numpy as np

from benchmarks.measure import Job
from brainalign_jax.study.protocol import protocol
from brainalign_jax.study.score.measures import Measure, measure_of
from brainalign_jax.study.score.measures.rsa import RdmMeasure
from brainalign_jax.threads import one_blas_thread

N_PERMUTATIONS, PEOPLE, LAYERS = 1000, 15, 13
_WORDS, _FEATURES, _WIDTH = 180, 180, 384
_SAMPLE = 1  # permutations that the peer takes
_K, _AXES = 10, 10


def setup() -> dict:
    """brains [S, T, R], layers [L, T, E] with a weak relation, permutations [P, T], first the identity."""
    rng = np.random.default_rng(0)
    shared = rng.standard_normal((_WORDS, 20), np.float32)

    def side(count: int, width: int) -> np.ndarray:
        mixing = rng.standard_normal((count, 20, width), np.float32)
        return shared @ mixing + 6 * rng.standard_normal((count, _WORDS, width), np.float32)

    orders = np.stack([rng.permutation(_WORDS) for _ in range(N_PERMUTATIONS)]).astype(np.int32)
    orders[0] = np.arange(_WORDS)
    return dict(brains=side(PEOPLE, _FEATURES), layers=side(LAYERS, _WIDTH), orders=orders)


def ours(inputs: dict, *, name: str):
    """Values [P, S, L], both sides' representations included."""
    measure = _measure(name)

    @jax.jit
    def drawn(brains, layers, orders):
        brains, layers = (jax.lax.map(measure.represent, side) for side in (brains, layers))
        return measure.drawn(brains, layers, orders)

    arrays = jax.device_put(tuple(inputs.values()))

    def values() -> np.ndarray:
        with one_blas_thread():  # as in a study: small SVDs on several threads wait for one another
            return np.asarray(drawn(*arrays))

    return values


def numpy_loop(inputs: dict, *, name: str):
    """Values [_SAMPLE, S, L], float32 as ours."""
    return lambda: _loop(inputs, FUNCTIONS[name])


def errors(inputs: dict, values: np.ndarray, results: dict, *, name: str) -> dict[str, float]:
    """Ours against the loop in float64."""
    sides = {side: inputs[side].astype(float) for side in ("brains", "layers")}
    expected = _loop(inputs | sides, FUNCTIONS[name])
    return {"value": float(np.abs(values[:_SAMPLE] - expected).max())}


def jobs() -> list[Job]:
    size = f"{LAYERS} layers x {PEOPLE} people x {N_PERMUTATIONS:,} permutations of {_WORDS} words"
    return [
        Job(
            name=f"similarity: {name}, {size}",
            setup=setup,
            ours=functools.partial(ours, name=name),
            peers={"NumPy loop": functools.partial(numpy_loop, name=name)},
            errors=functools.partial(errors, name=name),
            flops=float(N_PERMUTATIONS * PEOPLE * LAYERS * 2 * _WORDS**2),
            targets={"NumPy loop": 20.0},
            peer_scale={"NumPy loop": N_PERMUTATIONS / _SAMPLE},
        )
        for name in FUNCTIONS
    ]


def _measure(name: str) -> Measure:
    choices = protocol("audited", timed=False)
    return RdmMeasure(choices.of_method(name)) if name == "rsa" else measure_of(name, choices)


def _loop(inputs: dict, function: Callable) -> np.ndarray:
    return np.array(
        [
            [
                [function(brain[order], layer) for layer in inputs["layers"]]
                for brain in inputs["brains"]
            ]
            for order in inputs["orders"][:_SAMPLE]
        ]
    )


def _centred(x: np.ndarray) -> np.ndarray:
    return x - x.mean(axis=0)


def _hsic(k: np.ndarray, m: np.ndarray) -> float:
    n = len(k)
    k, m = k - np.diag(np.diag(k)), m - np.diag(np.diag(m))
    sums = k.sum() * m.sum() / ((n - 1) * (n - 2))
    return (k * m).sum() + sums - 2 / (n - 2) * (k.sum(axis=0) @ m.sum(axis=0))


def _debiased(k: np.ndarray, m: np.ndarray) -> float:
    return _hsic(k, m) / np.sqrt(_hsic(k, k) * _hsic(m, m))


def _cka(x: np.ndarray, y: np.ndarray) -> float:
    return _debiased(x @ x.T, y @ y.T)


def _gaussian(x: np.ndarray) -> np.ndarray:
    products = _centred(x) @ _centred(x).T
    squares = np.diag(products)[:, None] + np.diag(products) - 2 * products
    return np.exp(-2 * squares / np.median(squares[np.triu_indices(len(x), 1)]))


def _rv(x: np.ndarray, y: np.ndarray) -> float:
    x, y = _centred(x), _centred(y)
    k, m = x @ x.T, y @ y.T
    return (k * m).sum() / np.linalg.norm(k) / np.linalg.norm(m)


def _rsa(x: np.ndarray, y: np.ndarray) -> float:
    from scipy.stats import spearmanr

    upper = np.triu_indices(len(x), 1)
    return spearmanr(np.corrcoef(x)[upper], np.corrcoef(y)[upper]).statistic


def _nearest(x: np.ndarray) -> np.ndarray:
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    similar = x @ x.T
    np.fill_diagonal(similar, -2)
    return np.argsort(-similar, axis=1)[:, :_K]


def _shared(x: np.ndarray, y: np.ndarray, *depths: int) -> np.ndarray:
    """[T, depths] how many of so many nearest words are shared."""
    near = zip(_nearest(x), _nearest(y), strict=True)
    return np.array([[len(np.intersect1d(a[:d], b[:d])) for d in depths] for a, b in near])


def _jaccard(x: np.ndarray, y: np.ndarray) -> float:
    shared = _shared(x, y, _K)
    return (shared / (2 * _K - shared)).mean()


def _overlap(x: np.ndarray, y: np.ndarray) -> float:
    depths = range(1, _K + 1)
    return (_shared(x, y, *depths) / np.array(depths)).mean()


def _axes(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    basis, sizes, _ = np.linalg.svd(_centred(x), full_matrices=False)
    kept = sizes > 1e-5 * sizes[0]
    return basis[:, kept], sizes[kept]


def _svcca(x: np.ndarray, y: np.ndarray) -> float:
    first, second = (_axes(side)[0][:, :_AXES] for side in (x, y))
    return np.linalg.svd(first.T @ second, compute_uv=False).mean()


def _pwcca(x: np.ndarray, y: np.ndarray) -> float:
    (first, sizes), (second, _) = (_axes(side) for side in (x, y))
    left, common, _ = np.linalg.svd(first[:, :_AXES].T @ second[:, :_AXES])
    weights = sizes[:_AXES] @ np.abs(left)
    return (weights * common).sum() / weights.sum()


def _cca(x: np.ndarray, y: np.ndarray) -> float:
    sides = []
    for side in (x, y):
        basis, sizes = _axes(side)
        sides.append(basis * sizes / np.sqrt(sizes**2 + (sizes**2).sum() / len(side)))
    common = np.linalg.svd(sides[0].T @ sides[1], compute_uv=False)
    return common.sum() / len(common)


def _shape(x: np.ndarray, y: np.ndarray, *, alpha: float) -> float:
    sides = []
    for side in (x, y):
        basis, sizes = _axes(side)
        unit = sizes / np.sqrt((sizes**2).sum() / len(side))
        whitened = basis * (alpha * unit + 1 - alpha)
        sides.append(whitened / np.linalg.norm(whitened))
    return np.linalg.svd(sides[0].T @ sides[1], compute_uv=False).sum()


FUNCTIONS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "rsa": _rsa,
    "cka": _cka,
    "rbf_cka": lambda x, y: _debiased(_gaussian(x), _gaussian(y)),
    "rv": _rv,
    "mutual_knn": lambda x, y: _shared(x, y, _K).mean() / _K,
    "jaccard_knn": _jaccard,
    "rank_overlap": _overlap,
    "svcca": _svcca,
    "pwcca": _pwcca,
    "cca": _cca,
    "shape": functools.partial(_shape, alpha=1.0),
    "shape_half": functools.partial(_shape, alpha=0.5),
}
