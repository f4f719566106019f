"""RSA of every subject with every layer: SciPy and rsatoolbox against `rsa_tiles.scores`; weights of layers.

rsatoolbox has correlation RDMs, not Spearman's: beside the job of the suite, which ranks the rows too,
there is one in which both sides do the same.
"""

import jax
import numpy as np
from scipy.optimize import nnls
from sklearn.preprocessing import normalize

from benchmarks import peers
from benchmarks.measure import Job
from brainalign_jax.align.rsa import rsa_tiles, weighted
from brainalign_jax.align.rsa.pairs import square_form

N_SUBJECTS, N_LAYERS, N_WORDS, WIDTH = 8, 13, 1000, 768

FITTED_WORDS, N_TARGETS = 180, 300  # people times draws, to which the layers' weights are fitted
SAMPLE = 15  # of these, that the peers take
NNLS = "SciPy, nnls in a loop"
SCIPY, LOOP = "SciPy, each RDM ranked once", "SciPy, spearmanr in a loop"


def jobs() -> list[Job]:
    sizes = f"{N_LAYERS} layers x {N_SUBJECTS} subjects, {N_WORDS:,} words"
    return [
        Job(
            name=f"RSA grid: {sizes}, Spearman RDMs and Spearman comparison",
            setup=_setup,
            ours=lambda inputs: _ours(inputs, "spearman"),
            peers={
                LOOP: lambda inputs: peers.scipy_rsa_loop(inputs["brains"], inputs["layers"]),
                SCIPY: lambda inputs: peers.scipy_rsa(inputs["brains"], inputs["layers"]),
                "rsatoolbox, correlation RDMs": _rsatoolbox,
            },
            errors=lambda inputs, ours, peer_scores: {
                "scores": _error(ours, peer_scores.get(SCIPY))
            },
            flops=_flops(),
            targets={LOOP: 25, "rsatoolbox, correlation RDMs": 6},
        ),
        Job(
            name=f"RSA grid: {sizes}, correlation RDMs and Spearman comparison",
            setup=_setup,
            ours=lambda inputs: _ours(inputs, "correlation"),
            peers={"rsatoolbox": _rsatoolbox},
            errors=lambda inputs, ours, peer_scores: {
                "scores": _error(ours, peer_scores.get("rsatoolbox"))
            },
            flops=_flops(),
            targets={"rsatoolbox": 4},
        ),
        Job(
            name=f"weighted RSA: {N_LAYERS} layers, {N_TARGETS} RDMs of {FITTED_WORDS} words, Pearson",
            setup=_components,
            ours=_fits,
            peers={NNLS: _nnls_loop, "rsatoolbox, fit_regress_nn": _rsatoolbox_fits},
            errors=lambda inputs, ours, _: {"weights": _weight_error(inputs, ours)},
            flops=2.0 * FITTED_WORDS**2 * N_LAYERS * (N_LAYERS + N_TARGETS),
            targets={NNLS: 4, "rsatoolbox, fit_regress_nn": 4},
            peer_scale=dict.fromkeys((NNLS, "rsatoolbox, fit_regress_nn"), N_TARGETS / SAMPLE),
        ),
    ]


def _setup() -> dict:
    """Subjects and layers that share a geometry: brains [S, N, D], layers [L, N, D]."""
    rng = np.random.default_rng(0)
    shared = rng.standard_normal((N_WORDS, WIDTH), np.float32)

    def noisy(count):
        return shared + 2 * rng.standard_normal((count, N_WORDS, WIDTH), np.float32)

    return {"brains": noisy(N_SUBJECTS), "layers": noisy(N_LAYERS)}


def _ours(inputs: dict, metric: str):
    return lambda: rsa_tiles.scores(inputs["brains"], inputs["layers"], metric=metric)


def _rsatoolbox(inputs: dict):
    return peers.rsatoolbox_rsa(inputs["brains"], inputs["layers"])


def _error(ours: np.ndarray, reference: np.ndarray | None) -> float:
    """Largest error relative to the largest score of a peer, which works in float64."""
    if reference is None:
        return float("nan")
    return np.abs(ours - reference).max() / np.abs(reference).max()


def _flops() -> float:
    """Half of a Gram matrix for each RDM, and the products of all RDMs."""
    n_pairs = N_WORDS * (N_WORDS - 1) / 2
    grams = 2 * n_pairs * WIDTH * (N_SUBJECTS + N_LAYERS)
    return grams + 2 * n_pairs * N_SUBJECTS * N_LAYERS


def _components() -> dict:
    """RDMs of layers [L, P], and targets [B, P] that are some of them and noise."""
    rng = np.random.default_rng(0)
    n_pairs = FITTED_WORDS * (FITTED_WORDS - 1) // 2
    shared = rng.random(n_pairs, np.float32)
    layers = shared + 0.5 * rng.random((N_LAYERS, n_pairs), np.float32)
    shares = rng.random((N_TARGETS, N_LAYERS), np.float32) ** 4
    return {
        "layers": layers,
        "targets": shares @ layers + 3 * rng.random((N_TARGETS, n_pairs), np.float32),
    }


def _fits(inputs: dict):
    """Weights [B, L], the layers' own products once for all targets."""
    words = np.ones((1, FITTED_WORDS), np.float32)

    @jax.jit
    def weights(layers, targets):
        components = weighted.factor(jax.vmap(square_form)(layers), words, words, method="pearson")

        def of_target(target):
            return weighted.apply(
                components, square_form(target), words, words, method="pearson"
            ).weights[0]

        return jax.lax.map(of_target, targets)

    arrays = jax.device_put((inputs["layers"], inputs["targets"]))
    return lambda: np.asarray(weights(*arrays))


def _nnls_loop(inputs: dict):
    return lambda: _nnls(inputs["layers"], inputs["targets"][:SAMPLE])


def _nnls(layers: np.ndarray, targets: np.ndarray) -> np.ndarray:
    columns = (layers - layers.mean(axis=1, keepdims=True)).T
    return np.array([nnls(columns, target - target.mean())[0] for target in targets])


def _rsatoolbox_fits(inputs: dict):
    import rsatoolbox

    # Of unit length, float64: it stops at an absolute tolerance, and on larger RDMs never.
    layers, targets = (normalize(inputs[side].astype(float)) for side in ("layers", "targets"))
    model = rsatoolbox.model.ModelWeighted("layers", rsatoolbox.rdm.RDMs(layers))
    data = [rsatoolbox.rdm.RDMs(target[None]) for target in targets[:SAMPLE]]
    fit = rsatoolbox.model.fitter.fit_regress_nn
    return lambda: np.array([fit(model, target, method="corr") for target in data])


def _weight_error(inputs: dict, weights: np.ndarray) -> float:
    """Largest error relative to the largest weight, against SciPy's in float64."""
    expected = _nnls(inputs["layers"].astype(float), inputs["targets"][:SAMPLE].astype(float))
    return np.abs(weights[:SAMPLE] - expected).max() / expected.max()
