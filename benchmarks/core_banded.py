"""Banded ridge by random search, against himalaya on torch: same Gram matrices, gammas, alphas, folds."""

import jax
import numpy as np

from benchmarks.measure import Job
from benchmarks.peers import _on_device, torch_device
from brainalign_jax.align.ridge import banded_ridge, banded_search

N_WORDS, WIDTHS, N_TARGETS, N_GAMMAS, N_FOLDS = 1000, (300, 768, 2000), 5000, 5, 5
ALPHAS = np.logspace(-1, 5, 16).astype(np.float32)
SAMPLE = 50  # targets searched in float64, too
NODES = 12  # filters computed of the 16, for the count of operations

_search = jax.jit(
    banded_search.random_search,
    static_argnames=("n_train", "n_test", "fit_intercept", "tolerance", "target_batch"),
)


def setup() -> dict:
    """Three groups that explain each target to a different degree; columns are centred."""
    rng = np.random.default_rng(0)
    groups = [rng.standard_normal((N_WORDS, d), np.float32) for d in WIDTHS]
    # As features do, they vary along a few axes most.
    groups = [x * np.arange(1, x.shape[1] + 1, dtype=np.float32) ** -0.4 for x in groups]
    groups = [x - x.mean(axis=0) for x in groups]
    y = rng.standard_normal((N_WORDS, N_TARGETS), np.float32)
    for x in groups:
        signal = x @ rng.standard_normal((x.shape[1], N_TARGETS), np.float32)
        y += signal / signal.std(axis=0) * rng.uniform(0, 1, N_TARGETS).astype(np.float32)
    fold = np.arange(N_WORDS) * N_FOLDS // N_WORDS
    test = (fold == np.arange(N_FOLDS)[:, None]).astype(np.float32)
    gammas = rng.dirichlet(np.ones(len(WIDTHS)), N_GAMMAS).astype(np.float32)
    gammas[0] = 1 / len(WIDTHS)
    grams = np.stack([x @ x.T for x in groups])
    return dict(grams=grams, y=y - y.mean(axis=0), test=test, gammas=gammas)


def ours(inputs: dict):
    n_test = N_WORDS // N_FOLDS
    arrays = jax.device_put(
        (inputs["grams"], inputs["y"], 1 - inputs["test"], inputs["test"], inputs["gammas"], ALPHAS)
    )

    def call():
        fitted = _search(
            *arrays,
            n_train=N_WORDS - n_test,
            n_test=n_test,
            fit_intercept=False,
            tolerance=3e-6,
            target_batch=1024,
        )
        return jax.tree.map(np.asarray, fitted)

    return call


def himalaya(inputs: dict):
    from himalaya.backend import set_backend
    from himalaya.kernel_ridge import solve_multiple_kernel_ridge_random_search

    set_backend("torch_cuda" if torch_device() == "cuda" else "torch")
    grams, y, gammas, alphas = _on_device(inputs["grams"], inputs["y"], inputs["gammas"], ALPHAS)

    def call():
        deltas, dual, scores = solve_multiple_kernel_ridge_random_search(
            grams,
            y,
            n_iter=gammas,
            alphas=alphas,
            cv=N_FOLDS,  # blocks in order
            return_weights="dual",
            n_targets_batch=2000,
            n_targets_batch_refit=500,
            progress_bar=False,
        )
        return deltas.cpu().numpy(), dual.cpu().numpy(), scores.cpu().numpy()

    return call


def errors(inputs: dict, fitted, results: dict) -> dict[str, float]:
    """Against float64 for some targets: the search's errors and choices, and the predictions of the refit."""
    grams, y = inputs["grams"].astype(float), inputs["y"][:, :SAMPLE].astype(float)
    table = np.zeros((N_GAMMAS, len(ALPHAS), SAMPLE))
    for s, gamma in enumerate(inputs["gammas"].astype(float)):
        kernel = np.tensordot(gamma, grams, 1)
        for held_out in inputs["test"] > 0:
            kept = ~held_out
            w, v = np.linalg.eigh(kernel[np.ix_(kept, kept)])
            scores, projected = kernel[np.ix_(held_out, kept)] @ v, v.T @ y[kept]
            for a, alpha in enumerate(ALPHAS.astype(float)):
                predicted = (scores / (w + alpha)) @ projected
                table[s, a] += ((y[held_out] - predicted) ** 2).mean(axis=0) / N_FOLDS
    least = table.min(axis=(0, 1))

    def chosen(gammas, alphas):
        s = np.abs(gammas.T[:, None] - inputs["gammas"]).sum(axis=2).argmin(axis=1)
        a = np.abs(np.log(alphas)[:, None] - np.log(ALPHAS)).argmin(axis=1)
        return s[:SAMPLE], a[:SAMPLE]

    s, a = chosen(fitted.gammas, fitted.alphas)
    picked = table[s, a, np.arange(SAMPLE)]
    predicted = np.asarray(banded_ridge.predict(fitted, inputs["grams"]))[:, :SAMPLE]
    worst = 0.0
    for t in range(SAMPLE):
        kernel = np.tensordot(inputs["gammas"][s[t]].astype(float), grams, 1)
        system = kernel + float(ALPHAS[a[t]]) * np.eye(N_WORDS)
        exact = kernel @ np.linalg.solve(system, y[:, t])
        worst = max(worst, np.abs(predicted[:, t] - exact).max() / np.abs(exact).max())
    differences = {
        "prediction": worst,
        "CV error": np.abs(fitted.errors[:SAMPLE] / picked - 1).max(),
        "candidates differing, not ties": float((picked > least * (1 + 1e-5)).sum()),
    }
    if "himalaya" in results:
        deltas = results["himalaya"][0]
        same = np.isclose(fitted.log_deltas, deltas, atol=1e-3).all(axis=0)
        differences["share of candidates as himalaya"] = same.mean()
    return differences


def jobs() -> list[Job]:
    """Random search and refit, from the Gram matrices on."""
    n_test = N_WORDS // N_FOLDS
    n_train = N_WORDS - n_test
    search = N_GAMMAS * N_FOLDS * 2 * n_test * n_train * NODES * (n_train + N_TARGETS)
    refit = N_GAMMAS * 4 * N_WORDS**2 * N_TARGETS / N_GAMMAS
    return [
        Job(
            name=f"banded ridge: {N_WORDS} words, 3 groups → {N_TARGETS} targets, {N_GAMMAS} gammas, "
            f"{len(ALPHAS)} alphas, {N_FOLDS} folds",
            setup=setup,
            ours=ours,
            peers={"himalaya": himalaya},
            errors=errors,
            flops=float(search + refit),
            targets={"himalaya": 3.0},
        )
    ]
