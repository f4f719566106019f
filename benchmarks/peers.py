"""The libraries that we are timed against, each at its best use, on the CPU or on a CUDA device.

Every function makes what may be made once (tensors on the device) and returns a function without
arguments to time: as `Job.peers` wants it. The batch sizes are those that were fastest on 2 cores.

    peers={"himalaya": lambda inputs: peers.himalaya_kernel_ridge(inputs["x"], inputs["y"], ALPHAS, 5)}

Raises: ImportError, before anything is timed, where the library is not installed.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import scipy.linalg
import scipy.spatial.distance
import scipy.stats


class RidgeFit(NamedTuple):
    """alphas [T], the chosen one of each target; weights [N, T], dual, or [V, T], primal."""

    alphas: np.ndarray
    weights: np.ndarray


def torch_device() -> str:
    """The device that torch calls run on: "cuda" where there is one."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _on_device(*arrays: np.ndarray) -> list:
    import torch

    return [torch.from_numpy(np.ascontiguousarray(a)).to(torch_device()) for a in arrays]


def himalaya_kernel_ridge(
    x, y, alphas, n_folds: int, *, targets_batch: int = 1000, fit_intercept: bool = False
) -> Callable[[], RidgeFit]:
    """KernelRidgeCV on torch, all targets in one call: x [N, V], y [N, T], an alpha per target."""
    return _himalaya(x, y, alphas, n_folds, targets_batch, fit_intercept, dual=True)


def himalaya_ridge(
    x, y, alphas, n_folds: int, *, targets_batch: int = 1000, fit_intercept: bool = False
) -> Callable[[], RidgeFit]:
    """RidgeCV on torch, for fewer features than rows. As `himalaya_kernel_ridge`; primal weights."""
    return _himalaya(x, y, alphas, n_folds, targets_batch, fit_intercept, dual=False)


def _himalaya(x, y, alphas, n_folds, targets_batch, fit_intercept, *, dual: bool):
    from himalaya.backend import set_backend
    from himalaya.kernel_ridge import KernelRidgeCV
    from himalaya.ridge import RidgeCV

    set_backend("torch_cuda" if torch_device() == "cuda" else "torch")
    x, y = _on_device(x, y)
    batches = {"n_targets_batch": targets_batch, "n_targets_batch_refit": targets_batch}
    make = KernelRidgeCV if dual else RidgeCV
    model = make(
        alphas=np.asarray(alphas, np.float32),
        cv=n_folds,  # blocks in order, as scikit-learn's KFold
        fit_intercept=fit_intercept,
        solver_params=batches,
    )

    def call() -> RidgeFit:
        model.fit(x, y)
        weights = model.dual_coef_ if dual else model.coef_
        best_alphas = model.best_alphas_.cpu().numpy()  # rounded: himalaya keeps their logarithms
        nearest = np.abs(best_alphas - np.asarray(alphas)[:, None]).argmin(axis=0)
        return RidgeFit(np.asarray(alphas)[nearest], weights.cpu().numpy())

    return call


def sklearn_ridge(x, ys, alphas, n_folds: int) -> Callable[[], RidgeFit]:
    """A Ridge of scikit-learn for each alpha, inner fold (blocks of rows) and layer of ys [L, N, D]."""
    import sklearn.linear_model
    import sklearn.model_selection

    splits = list(sklearn.model_selection.KFold(n_folds).split(x))

    def fit(x, y, alpha):
        return sklearn.linear_model.Ridge(alpha, fit_intercept=False).fit(x, y)

    def one_layer(y) -> RidgeFit:
        errors = np.zeros((len(alphas), y.shape[1]))
        for train, test in splits:
            for i, alpha in enumerate(alphas):
                predicted = fit(x[train], y[train], alpha).predict(x[test])
                errors[i] += ((y[test] - predicted) ** 2).mean(axis=0) / n_folds
        best = np.asarray(alphas)[errors.argmin(axis=0)]
        return RidgeFit(best, fit(x, y, best).coef_.T)

    def call() -> RidgeFit:
        fits = [one_layer(y) for y in ys]
        return RidgeFit(*(np.concatenate(parts, axis=-1) for parts in zip(*fits, strict=True)))

    return call


def scipy_procrustes(sources, targets, train, rows) -> Callable[[], np.ndarray]:
    """SciPy's rotation for every layer, subject and fold, and what it predicts for some rows.

    Args: sources [S, N, D]; targets [L, N, D]; train [F, N] masks; rows [F, n] what is predicted.
    The call returns [L, S, F, n, D]. Both sides are centred by their training means. Where the
    training rank is below D the rotation is arbitrary on the rest: predict training rows then.
    """

    def predicted_rows(x, y, mask, wanted):
        mean_x, mean_y = x[mask].mean(axis=0), y[mask].mean(axis=0)
        rotation, _ = scipy.linalg.orthogonal_procrustes(x[mask] - mean_x, y[mask] - mean_y)
        return (x[wanted] - mean_x) @ rotation + mean_y

    def call() -> np.ndarray:
        return np.stack(
            [
                [
                    [
                        predicted_rows(x, y, m > 0, wanted)
                        for m, wanted in zip(train, rows, strict=True)
                    ]
                    for x in sources
                ]
                for y in targets
            ]
        )

    return call


def torch_procrustes(sources, targets, train, rows, *, batch: int = 1) -> Callable[[], np.ndarray]:
    """The same by `torch.linalg.svd` of `batch` cross-covariances at a time. As `scipy_procrustes`."""
    import torch

    sources, targets, weights = _on_device(sources, targets, np.asarray(train, np.float32))
    (rows,) = _on_device(np.asarray(rows, np.int64))
    count = weights.sum(1)
    means_x = torch.einsum("fn,snd->sfd", weights, sources) / count[:, None]
    means_y = torch.einsum("fn,lnd->lfd", weights, targets) / count[:, None]

    def call() -> np.ndarray:
        predicted = []
        for layer in range(len(targets)):
            y = (targets[layer] - means_y[layer][:, None]) * weights[:, :, None]  # [F, N, D]
            for source, mean_x in zip(sources, means_x, strict=True):
                x = source - mean_x[:, None]
                for fold in range(0, len(weights), batch):
                    part = slice(fold, fold + batch)
                    left, _, right = torch.linalg.svd(x[part].mT @ y[part], full_matrices=False)
                    asked = torch.take_along_dim(x[part], rows[part][:, :, None], 1)
                    predicted.append(asked @ (left @ right) + means_y[layer][part][:, None])
        shape = (len(targets), len(sources), *rows.shape, targets.shape[-1])
        return torch.cat(predicted).reshape(shape).cpu().numpy()

    return call


def scipy_rsa(brains, layers) -> Callable[[], np.ndarray]:
    """[S, L] Spearman correlations of Spearman RDMs: pdist of ranks, then `spearmanr` of all RDMs at once.

    Args: brains, S arrays [N, V]; layers, L arrays [N, D].
    """

    def distances(x):
        return scipy.spatial.distance.pdist(scipy.stats.rankdata(x, axis=1), "correlation")

    def call() -> np.ndarray:
        rdms = np.stack([distances(x) for x in (*brains, *layers)], axis=1)
        return scipy.stats.spearmanr(rdms).statistic[: len(brains), len(brains) :]

    return call


def scipy_rsa_loop(brains, layers) -> Callable[[], np.ndarray]:
    """The same with a `spearmanr` for each subject and layer, as a loop over a study is written."""

    def distances(x):
        return scipy.spatial.distance.pdist(scipy.stats.rankdata(x, axis=1), "correlation")

    def call() -> np.ndarray:
        model = [distances(y) for y in layers]
        return np.array(
            [
                [scipy.stats.spearmanr(brain, y).statistic for y in model]
                for brain in map(distances, brains)
            ]
        )

    return call


def rsatoolbox_rsa(brains, layers, *, ranked: bool = False) -> Callable[[], np.ndarray]:
    """[S, L] Spearman correlations of correlation RDMs, which rsatoolbox has; of Spearman's if ranked."""
    import rsatoolbox

    def rdms(arrays):
        if ranked:
            arrays = [scipy.stats.rankdata(x, axis=1) for x in arrays]
        datasets = [rsatoolbox.data.Dataset(x) for x in arrays]
        return rsatoolbox.rdm.calc_rdm(datasets, method="correlation")

    def call() -> np.ndarray:
        return rsatoolbox.rdm.compare(rdms(brains), rdms(layers), method="spearman")

    return call


def torch_csls(source, target, k: int, gold=None, *, batch: int = 1024) -> Callable[[], np.ndarray]:
    """MUSE's CSLS in torch: ranks [Q] of the true target of each query; ties count for nothing.

    As `get_nn_avg_dist` and `get_word_translation_accuracy` of MUSE (evaluation/word_translation.py),
    with its batches of 1024 and top-k, and a count in the place of its list of the best 100.

    Args: source [Q, D] queries; target [C, D]; k neighbours on both sides, or all there are; gold [Q],
    by default the same index.
    """
    import torch

    source, target = _on_device(source, target)
    (gold,) = _on_device(np.arange(len(source)) if gold is None else np.asarray(gold, np.int64))

    def neighbour_mean(queries, others):
        most = min(k, len(others))
        parts = [(part @ others.T).topk(most, dim=1)[0].mean(1) for part in queries.split(batch)]
        return torch.cat(parts)

    def call() -> np.ndarray:
        a, b = (x / x.norm(2, 1, keepdim=True) for x in (source, target))
        mean_a, mean_b = neighbour_mean(a, b), neighbour_mean(b, a)
        scores = a @ b.T
        scores.mul_(2).sub_(mean_a[:, None]).sub_(mean_b[None, :])
        own = scores.gather(1, gold[:, None])
        return ((scores > own).sum(1) + 1).cpu().numpy()

    return call


def faiss_csls(source, target, k: int, gold=None) -> Callable[[], np.ndarray]:
    """The same as `torch_csls` with faiss's exact inner-product index, as MUSE does where it is installed."""
    import faiss

    source, target = (np.ascontiguousarray(x, np.float32) for x in (source, target))
    gold = np.arange(len(source)) if gold is None else gold

    def neighbour_mean(queries, others):
        index = faiss.IndexFlatIP(others.shape[1])
        index.add(others)
        return index.search(queries, min(k, len(others)))[0].mean(axis=1)

    def call() -> np.ndarray:
        a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (source, target))
        mean_a, mean_b = neighbour_mean(a, b), neighbour_mean(b, a)
        scores = a @ b.T
        scores *= 2
        scores -= mean_a[:, None]
        scores -= mean_b[None, :]
        return (scores > scores[np.arange(len(gold)), gold][:, None]).sum(axis=1) + 1

    return call
