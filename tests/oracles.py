"""Slow references for the kernels of brainalign_jax.align: NumPy and SciPy loops in float64.

Written from the mathematical definitions, without looking at the kernels, and meant to be obviously
right rather than fast. A mask is honoured by dropping the rows, never by multiplying with it, so that
a test against these functions also tests that masked equals dropped.
"""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import scipy.linalg
from scipy.stats import rankdata

# --- linalg ---------------------------------------------------------------------------------------


def rows(x, weights):
    """The rows of x whose weight is one: the data set that a masked kernel has to behave as."""
    return np.asarray(x, np.float64)[np.asarray(weights).astype(bool)]


def weighted_mean(x, weights):
    total, mass = np.zeros(np.shape(x)[1]), 0.0
    for row, weight in zip(np.asarray(x, np.float64), np.asarray(weights, np.float64), strict=True):
        total += weight * row
        mass += weight
    return total / mass


def centred_gram(x, weights):
    """Gram matrix of all rows of x after subtraction of the mean of the weighted rows."""
    centred = np.asarray(x, np.float64) - weighted_mean(x, weights)
    n = len(centred)
    return np.array([[centred[i] @ centred[j] for j in range(n)] for i in range(n)])


# --- procrustes -----------------------------------------------------------------------------------


def procrustes_objective(source, target, weights, rotation, source_mean, target_mean):
    """sum_i w_i |(x_i - mx) R - (y_i - my)|^2."""
    total = 0.0
    for x, y, w in zip(source, target, np.asarray(weights, np.float64), strict=True):
        residual = (x - source_mean) @ rotation - (y - target_mean)
        total += w * float(residual @ residual)
    return total


def procrustes(source, target, weights, *, center=True):
    """scipy.linalg.orthogonal_procrustes of the kept rows; widths are made equal with zero columns.

    Returns (rotation [V, D], source_mean [V], target_mean [D]). Where the cross-covariance is singular,
    the rotation is one of many: only compare predictions inside the span of the kept rows.
    """
    x, y = rows(source, weights), rows(target, weights)
    v, d = x.shape[1], y.shape[1]
    mx = x.mean(0) if center else np.zeros(v)
    my = y.mean(0) if center else np.zeros(d)
    width = max(v, d)
    padded_x = np.pad(x - mx, ((0, 0), (0, width - v)))
    padded_y = np.pad(y - my, ((0, 0), (0, width - d)))
    rotation, _ = scipy.linalg.orthogonal_procrustes(padded_x, padded_y)
    return rotation[:v, :d], mx, my


# --- ridge ----------------------------------------------------------------------------------------


def ridge(features, targets, weights, alpha, *, fit_intercept=True):
    """Predictions [N, T] for all rows of the ridge fitted to the kept rows; one target at a time.

    The penalised problem is written as ordinary least squares with sqrt(alpha) I appended below the
    features: no normal equations, no Gram matrix, no centring identity.
    """
    features, targets = np.asarray(features, np.float64), np.asarray(targets, np.float64)
    x = rows(features, weights)
    n, v = x.shape
    alphas = np.broadcast_to(np.asarray(alpha, np.float64), (targets.shape[1],))
    predictions = np.empty((len(features), targets.shape[1]))
    for t in range(targets.shape[1]):
        y = rows(targets[:, t], weights)
        design = np.vstack([x, np.sqrt(alphas[t]) * np.eye(v)])
        every_row = features
        if fit_intercept:  # a column of ones that is not penalised
            design = np.hstack([design, np.r_[np.ones(n), np.zeros(v)][:, None]])
            every_row = np.hstack([features, np.ones((len(features), 1))])
        coefficients = np.linalg.lstsq(design, np.r_[y, np.zeros(v)], rcond=None)[0]
        predictions[:, t] = every_row @ coefficients
    return predictions


def ridge_loo_errors(features, targets, weights, alphas, *, fit_intercept=True):
    """[A, T] mean squared error of each kept row predicted by a refit without it, intercept included."""
    kept = np.flatnonzero(np.asarray(weights).astype(bool))
    errors = np.zeros((len(alphas), np.shape(targets)[1]))
    for a, alpha in enumerate(alphas):
        for i in kept:
            without = np.asarray(weights, np.float64).copy()
            without[i] = 0
            predicted = ridge(features, targets, without, alpha, fit_intercept=fit_intercept)[i]
            errors[a] += (predicted - np.asarray(targets, np.float64)[i]) ** 2
    return errors / len(kept)


# --- rsa ------------------------------------------------------------------------------------------


def average_rank(x):
    """1-based ranks of a vector; equal values share the mean of their positions."""
    x = np.asarray(x)
    return np.array([1 + np.sum(x < value) + (np.sum(x == value) - 1) / 2 for value in x])


def correlation(a, b):
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    a, b = a - a.mean(), b - b.mean()
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


def rdm(x, metric):
    """Condensed dissimilarities, pair by pair, in the order (0,1), (0,2), ..., (1,2), ..."""
    x = np.asarray(x, np.float64)
    distance = {
        "correlation": lambda a, b: 1 - correlation(a, b),
        "cosine": lambda a, b: 1 - a @ b / np.sqrt((a @ a) * (b @ b)),
        "euclidean": lambda a, b: np.sqrt(np.sum((a - b) ** 2)),
        "spearman": lambda a, b: 1 - correlation(average_rank(a), average_rank(b)),
    }[metric]
    return np.array([distance(x[i], x[j]) for i in range(len(x)) for j in range(i + 1, len(x))])


def kendall_tau_a(a, b):
    """(concordant - discordant) / all pairs; a tie in either vector counts as neither."""
    concordant = discordant = 0
    for i in range(len(a)):
        for j in range(i + 1, len(a)):
            agreement = np.sign(float(a[i]) - float(a[j])) * np.sign(float(b[i]) - float(b[j]))
            concordant += agreement > 0
            discordant += agreement < 0
    return (concordant - discordant) / (len(a) * (len(a) - 1) / 2)


# --- retrieval ------------------------------------------------------------------------------------


def cosine(source, target):
    source, target = np.asarray(source, np.float64), np.asarray(target, np.float64)
    scores = np.zeros((len(source), len(target)))
    source_lengths = [np.linalg.norm(x) for x in source]
    target_lengths = [np.linalg.norm(y) for y in target]
    for i, x in enumerate(source):
        for j, y in enumerate(target):
            length = source_lengths[i] * target_lengths[j]
            scores[i, j] = x @ y / length if length > 0 else 0.0
    return scores


def csls(source, target, k, source_weights=None):
    """2 cos(x, y) - r_T(x) - r_S(y), Conneau et al. 2018, eq. 3."""
    similarity = cosine(source, target)
    valid = (
        np.ones(len(similarity), bool) if source_weights is None else np.asarray(source_weights) > 0
    )
    scores = np.zeros_like(similarity)
    for i in range(similarity.shape[0]):
        for j in range(similarity.shape[1]):
            nearest_targets = sorted(similarity[i, :], reverse=True)[:k]
            nearest_sources = sorted(similarity[valid, j], reverse=True)[:k]
            scores[i, j] = (
                2 * similarity[i, j] - np.mean(nearest_targets) - np.mean(nearest_sources)
            )
    return scores


def ranks(scores, gold):
    """1 + number strictly greater + half of the other candidates with the same score."""
    result = []
    for row, answer in zip(np.asarray(scores), np.asarray(gold), strict=True):
        rank = 1.0
        for candidate, score in enumerate(row):
            if score > row[answer]:
                rank += 1
            elif score == row[answer] and candidate != answer:
                rank += 0.5
        result.append(rank)
    return np.array(result)


def precision_at(rank, ks, weights=None):
    weights = np.ones(len(rank)) if weights is None else np.asarray(weights, np.float64)
    return np.array(
        [sum(w for r, w in zip(rank, weights, strict=True) if r <= k) / weights.sum() for k in ks]
    )


# --- scoring --------------------------------------------------------------------------------------


def pearson(target, prediction, weights):
    """[T] correlation of each column over the kept rows; 0 where either column is constant there."""
    y, p = rows(target, weights), rows(prediction, weights)
    return np.array(
        [
            0.0 if np.ptp(y[:, t]) == 0 or np.ptp(p[:, t]) == 0 else correlation(y[:, t], p[:, t])
            for t in range(y.shape[1])
        ]
    )


def r2(target, prediction, weights):
    y, p = rows(target, weights), rows(prediction, weights)
    return np.array(
        [
            1 - np.sum((y[:, t] - p[:, t]) ** 2) / np.sum((y[:, t] - y[:, t].mean()) ** 2)
            for t in range(y.shape[1])
        ]
    )


def exact_spearman(rows) -> list[Fraction]:
    """Spearman's correlation of each pair of rows, squared with its sign, as fractions."""
    ranks = [(2 * rankdata(row)).astype(int).tolist() for row in np.asarray(rows)]
    centred = [[rank - len(row) - 1 for rank in row] for row in ranks]
    correlations = []
    for first, second in itertools.combinations(centred, 2):
        product = sum(a * b for a, b in zip(first, second, strict=True))
        size = sum(a * a for a in first) * sum(b * b for b in second)
        correlations.append(Fraction(product * abs(product), size) if size else Fraction(0))
    return correlations


# --- what the code of Li et al. 2023 does ---------------------------------------------------------


def minmax(x):
    """Each column to 0..1; one that is constant to 0."""
    x = np.array(x, np.float64)
    for column in x.T:
        size = column.max() - column.min()
        column[:] = (column - column.min()) / (size if size > 0 else 1)
    return x


def principal_scores(x, n):
    """Scores on the n axes of largest variance; the largest loading of each is positive."""
    centred = np.asarray(x, np.float64) - np.mean(x, axis=0, dtype=np.float64)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    for axis in axes:
        axis *= np.sign(axis[np.abs(axis).argmax()])
    return centred @ axes[:n].T


def paper_matrices(brain, vectors, *, method):
    """(brain, vectors) in 0..1: both first on as many principal axes as either has, but not for ridge."""
    if method != "ridge":
        n = min(*np.shape(brain), np.shape(vectors)[1])
        brain = principal_scores(brain, n)
        if n < np.shape(vectors)[1]:
            vectors = principal_scores(vectors, n)
    return minmax(brain), minmax(vectors)


def paper_ridge(x, y, train, test, alphas, n_inner):
    """Predictions [N, T] for the rows of `test` [F, N], each from its fold; the rest stays NaN.

    Without an intercept; each target's alpha has the least sum over inner blocks of 1 - R2.
    """
    predictions = np.full(np.shape(y), np.nan)
    for fit, asked in zip(train, test, strict=True):
        cost = np.zeros((len(alphas), y.shape[1]))
        for block in np.array_split(np.flatnonzero(fit), n_inner):
            inner = np.setdiff1d(np.flatnonzero(fit), block)
            for a, alpha in enumerate(alphas):
                residual = y[block] - x[block] @ _ridge_weights(x[inner], y[inner], alpha)
                cost[a] += (residual**2).mean(axis=0) / y[block].var(axis=0)
        for target, chosen in enumerate(cost.argmin(axis=0)):
            weights = _ridge_weights(x[fit], y[fit][:, [target]], alphas[chosen])
            predictions[asked, target] = (x[asked] @ weights)[:, 0]
    return predictions


def _ridge_weights(x, y, alpha):
    left, singular, right = np.linalg.svd(x, full_matrices=False)
    return right.T @ ((singular / (singular**2 + alpha))[:, None] * (left.T @ y))


def paper_ranks(predictions, candidates, gold, asked, k):
    """(ranks by CSLS, by cosine) of the rows `asked` [N] bool, with all predictions as neighbours."""
    similarity = cosine(predictions, candidates)
    hubs = np.sort(similarity, axis=0)[-k:].mean(axis=0)
    return ranks(2 * similarity - hubs, gold)[asked], ranks(similarity, gold)[asked]


def beside_nuisances(features, nuisances, target, train, alpha):
    """Predictions [N] of one target [N] by features with a penalty and nuisances without, solved jointly.

    train: [N] bool. alpha: times the mean diagonal of the kernel of the features' residuals, to whose
    deviation they are scaled; infinity for no features.
    """
    n = train.sum()
    z = np.column_stack([np.ones(len(train)), nuisances])
    if np.isinf(alpha):
        return z @ np.linalg.lstsq(z[train], target[train], rcond=None)[0]
    left = features - z @ np.linalg.lstsq(z[train], features[train], rcond=None)[0]
    spread = np.sqrt((left[train] ** 2).mean(axis=0))
    joint = np.column_stack([z, features / spread])
    size = (left[train] ** 2 / spread**2).sum() / n
    penalty = np.diag([0.0] * z.shape[1] + [alpha * size] * features.shape[1])
    normal = joint[train].T @ joint[train] + penalty
    return joint @ np.linalg.solve(normal, joint[train].T @ target[train])


def encoded(layers, nuisances, target, folds, alphas):
    """(predictions of each outer fold's rows, nuisances' predictions, layers, alphas) of one target [N].

    folds: of (train, test, inner) with masks [N]; inner: a list of (train, test). Layer and alpha have the
    least squared error of the inner folds; layer -1 has no features.
    """
    chosen = []
    for train, test, inner in folds:
        candidates = [(-1, np.inf)]
        candidates += [(layer, alpha) for layer in range(len(layers)) for alpha in alphas]

        def guess(candidate, rows):
            layer, alpha = candidate
            return beside_nuisances(layers[max(layer, 0)], nuisances, target, rows, alpha)

        errors = [
            sum(((guess(pair, own) - target)[held] ** 2).sum() for own, held in inner)
            for pair in candidates
        ]
        best = candidates[int(np.argmin(errors))]
        chosen.append((guess(best, train)[test], guess((-1, np.inf), train)[test], *best))
    return chosen


def kept_share(values, nuisances, rows):
    """Of the fit of each column [N, V] by nuisances: how much exceeds the fits of its turned rows."""

    def energy(column):
        design = np.column_stack([np.ones(len(column)), nuisances])
        fit = design @ np.linalg.lstsq(design, column, rcond=None)[0]
        return np.sum((fit - fit.mean()) ** 2)

    shares = []
    for column in values.T:
        turned = [energy(column[order]) for order in rows[1:]]
        own = energy(column)
        exceeds = own > np.quantile(turned, 0.95)
        shares.append(np.sqrt(max(1 - np.mean(turned) / own, 0)) if exceeds else 0.0)
    return np.array(shares)


def covariance_of_distances(noise):
    """Covariance [P, P] of the squared distances of items that do not differ, of noise [N, N]."""
    first, second = np.triu_indices(len(noise), 1)
    contrasts = np.zeros((len(first), len(noise)))
    contrasts[np.arange(len(first)), first] = 1
    contrasts[np.arange(len(first)), second] = -1
    return (contrasts @ noise @ contrasts.T) ** 2
