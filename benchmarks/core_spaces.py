"""Variance of feature spaces by banded ridge, against himalaya on torch: same kernels, candidates and folds.

All spaces together, each alone and all but each, of which himalaya searches each by itself, with the
candidates that it allows. `python -m benchmarks.run --jobs=spaces --output=out/spaces.json`.
"""

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.measure import Job
from benchmarks.peers import _on_device, torch_device
from brainalign_jax.align.ridge import banded_search, banded_spaces
from brainalign_jax.align.ridge.residual_ridge import NuisanceFit

N_VOLUMES, WIDTHS, N_VOXELS, N_FOLDS = 1000, (768, 300, 5), 2000, 5
N_TEST = 200  # the last volumes, predicted by what is fitted to the others
ALPHAS = np.logspace(-1, 3, 9).astype(np.float32)
RATIOS = (0.1,)
SAMPLE = 20  # voxels searched in float64, too


def _fitted(grams, y, train, test, mask, rows, gammas, has, alphas):
    folds = banded_search.fold_rows(
        train, test, y.dtype, n_train=_largest(1 - 1 / N_FOLDS), n_test=_largest(1 / N_FOLDS)
    )
    # Nothing is taken off, as himalaya does: no intercept.
    none = jnp.zeros((N_FOLDS, N_VOLUMES, 1), y.dtype)
    folds = folds._replace(nuisances=NuisanceFit(none, none))
    chosen = banded_spaces.search(
        grams, y, folds, gammas, has, alphas, tolerance=3e-6, target_batch=512
    )
    split = banded_spaces.predictions(
        grams, y * mask[:, None], mask, rows, gammas, alphas, chosen, target_batch=512
    )
    return chosen, split


def _largest(share: float) -> int:
    return round(share * (N_VOLUMES - N_TEST))


_jitted = jax.jit(_fitted)


def setup() -> dict:
    """Three spaces that explain each voxel to a different degree; kernels have a mean diagonal of one."""
    rng = np.random.default_rng(0)
    spaces = [rng.standard_normal((N_VOLUMES, d), np.float32) for d in WIDTHS]
    spaces = [x * np.arange(1, x.shape[1] + 1, dtype=np.float32) ** -0.4 for x in spaces]
    y = rng.standard_normal((N_VOLUMES, N_VOXELS), np.float32)
    for x in spaces:
        signal = x @ rng.standard_normal((x.shape[1], N_VOXELS), np.float32)
        y += signal / signal.std(axis=0) * rng.uniform(0, 1, N_VOXELS).astype(np.float32)
    n_train = N_VOLUMES - N_TEST
    fold = np.r_[np.arange(n_train) * N_FOLDS // n_train, np.full(N_TEST, -1)]
    test = (fold == np.arange(N_FOLDS)[:, None]).astype(np.float32)
    grams = np.stack([x @ x.T for x in spaces])
    grams /= np.trace(grams, axis1=1, axis2=2)[:, None, None] / N_VOLUMES
    return dict(
        grams=grams,
        y=y,
        train=(fold >= 0) - test,
        test=test,
        mask=(fold >= 0).astype(np.float32),
        rows=np.flatnonzero(fold < 0),
        gammas=banded_spaces.simplex_grid(len(WIDTHS), RATIOS),
        has=banded_spaces.submodels(len(WIDTHS)).has,
        alphas=ALPHAS,
    )


def ours(inputs: dict):
    arrays = jax.device_put(tuple(inputs.values()))
    return lambda: jax.tree.map(np.asarray, _jitted(*arrays))


def himalaya(inputs: dict):
    from himalaya.backend import set_backend
    from himalaya.kernel_ridge import (
        predict_weighted_kernel_ridge,
        solve_multiple_kernel_ridge_random_search,
    )

    set_backend("torch_cuda" if torch_device() == "cuda" else "torch")
    n_train = N_VOLUMES - N_TEST
    grams, y, alphas = _on_device(
        inputs["grams"][:, :n_train, :n_train], inputs["y"][:n_train], ALPHAS
    )
    (cross,) = _on_device(inputs["grams"][:, n_train:, :n_train])
    searches = []
    for has in inputs["has"]:
        own = inputs["gammas"][~(inputs["gammas"][:, ~has] > 0).any(axis=1)][:, has]
        searches.append((np.flatnonzero(has), _on_device(own)[0]))

    def call():
        predicted = []
        for spaces, gammas in searches:
            deltas, dual, _ = solve_multiple_kernel_ridge_random_search(
                grams[spaces],
                y,
                n_iter=gammas,
                alphas=alphas,
                cv=N_FOLDS,  # blocks in order
                return_weights="dual",
                fit_intercept=False,
                n_targets_batch=2000,
                n_targets_batch_refit=500,
                progress_bar=False,
            )
            own = predict_weighted_kernel_ridge(cross[spaces], dual, deltas)
            predicted.append(own.cpu().numpy())
        return np.stack(predicted)

    return call


def errors(inputs: dict, fitted, results: dict) -> dict[str, float]:
    """Against float64 for some voxels: errors of the search, and predictions of held-out volumes."""
    chosen, split = fitted
    grams, y = inputs["grams"].astype(float), inputs["y"][:, :SAMPLE].astype(float)
    table = np.zeros((len(inputs["gammas"]), len(ALPHAS), SAMPLE))
    for s, gamma in enumerate(inputs["gammas"].astype(float)):
        kernel = np.tensordot(gamma, grams, 1)
        for own, held in zip(inputs["train"] > 0, inputs["test"] > 0, strict=True):
            w, v = np.linalg.eigh(kernel[np.ix_(own, own)])
            scores, projected = kernel[np.ix_(held, own)] @ v, v.T @ y[own]
            for a, alpha in enumerate(ALPHAS.astype(float)):
                predicted = (scores / (w + alpha)) @ projected
                table[s, a] += ((y[held] - predicted) ** 2).mean(axis=0) / N_FOLDS
    s, a = (np.asarray(index)[:, :SAMPLE] for index in chosen[:2])
    nothing = np.mean([(y[held] ** 2).mean(axis=0) for held in inputs["test"] > 0], axis=0)
    picked = np.where(s < 0, nothing, table[s, a, np.arange(SAMPLE)])
    worst, own, rows = 0.0, inputs["mask"] > 0, inputs["rows"]
    for model, voxel in np.argwhere(s >= 0):
        gamma = inputs["gammas"][s[model, voxel]].astype(float)
        kernel = np.tensordot(gamma, grams, 1)
        system = kernel[np.ix_(own, own)] + float(ALPHAS[a[model, voxel]]) * np.eye(own.sum())
        exact = kernel[np.ix_(rows, own)] @ np.linalg.solve(system, y[own, voxel])
        worst = max(worst, np.abs(split.each[model, :, voxel] - exact).max() / np.abs(exact).max())
    differences = {
        "prediction": worst,
        "CV error": float(np.abs(chosen.errors[:, :SAMPLE] / picked - 1).max()),
    }
    if "himalaya" in results:
        known = chosen.gamma_index >= 0  # "no features" is no candidate of himalaya's
        gap = np.abs(results["himalaya"] - split.each).max(axis=1)[known]
        size = np.abs(split.each).max(axis=1)[known]
        differences["share of predictions as himalaya's"] = float((gap < 1e-3 * size).mean())
    return differences


def jobs() -> list[Job]:
    """Search, refit and predictions of the joint model and its parts, from the kernels on."""
    gammas = len(banded_spaces.simplex_grid(len(WIDTHS), RATIOS))
    n_train, n_test = _largest(1 - 1 / N_FOLDS), _largest(1 / N_FOLDS)
    search = gammas * N_FOLDS * 2 * n_test * n_train * len(ALPHAS) * (n_train + N_VOXELS)
    return [
        Job(
            name=f"spaces: variance of 3 in {N_VOXELS} voxels of {N_VOLUMES} volumes, {gammas} gammas, "
            f"{len(ALPHAS)} alphas, {N_FOLDS} folds, 7 models",
            setup=setup,
            ours=ours,
            peers={"himalaya": himalaya},
            errors=errors,
            flops=float(search),
            targets={"himalaya": 3.0},
        )
    ]
