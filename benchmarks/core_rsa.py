"""RSA of every subject with every layer: SciPy and rsatoolbox against `rsa_tiles.scores`.

rsatoolbox has correlation RDMs, not Spearman's: beside the job of the suite, which ranks the rows too,
there is one in which both sides do the same.
"""

import numpy as np

from benchmarks import peers
from benchmarks.measure import Job
from brainalign_jax.align.rsa import rsa_tiles

N_SUBJECTS, N_LAYERS, N_WORDS, WIDTH = 8, 13, 1000, 768

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
            targets={LOOP: 15, "rsatoolbox, correlation RDMs": 4},
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
