"""No kernel makes an ordinary number of what is none: NaN or an infinity in, no finite number out."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from brainalign_jax.align import linalg, procrustes, retrieval, ridge, rsa
from brainalign_jax.align.procrustes import hyperalignment
from brainalign_jax.align.retrieval import contrastive
from brainalign_jax.align.ridge import banded_ridge, banded_search, filters, partial_ridge
from brainalign_jax.align.rsa import noise_ceiling, partial_rsa, reliability, rsa_tiles
from brainalign_jax.align.stats import (
    bootstrap,
    inference,
    scaling_slope,
    scoring,
    surrogates,
)

N = 12
ROWS, WIDE, TARGET = np.random.default_rng(3).normal(size=(3, N, 5)).astype(np.float32)
RDMS = np.random.default_rng(4).normal(size=(4, 28)).astype(np.float32)  # of 8 items
MASK = np.ones(N, np.float32)
HELD_OUT = np.arange(N) >= 9
KEY = np.asarray(jax.random.key_data(jax.random.key(0)))
IDENTITY = np.arange(8, dtype=np.int32)


class Case(NamedTuple):
    """kernel: of the arrays, traced. spoilt: the output that rests on the first entry of any of them,
    wholly; the identity unless given. values: what is put there. `still`: arrays that are left alone."""

    kernel: Any
    arrays: tuple
    still: tuple = ()
    values: tuple = (np.nan, np.inf, -np.inf)


def ranked(method):
    return Case(lambda a, b: rsa.compare(a, b, method=method), (RDMS[0], RDMS[1]))


def with_row(metric):
    # The pairs of the first item come first.
    return Case(lambda x: rsa.rdm(x, metric=metric)[: N - 1], (ROWS,))


def ridge_fit(x, y, alpha):
    return ridge.predict(ridge.factor_primal(x, MASK), y, alpha)


def dual_fit(x, y):
    return ridge.predict(ridge.factor(linalg.gram(x), MASK), y, 1.0)[:, 0]


def banded(x, y):
    grams = jnp.stack([linalg.gram(x), linalg.gram(WIDE)])
    fitted = banded_search.random_search(
        grams,
        y[:, :1],
        (~HELD_OUT)[None].astype(np.float32),
        HELD_OUT[None].astype(np.float32),
        np.float32([[0.5, 0.5], [0.9, 0.1]]),
        np.float32([1.0, 10.0]),
    )
    return banded_ridge.predict(fitted, grams)


def trained(x, y):
    training = contrastive.Training(n_steps=3)
    validation = HELD_OUT.astype(np.float32)
    fitted = contrastive.fit(x, y, MASK, validation, np.eye(5, dtype=np.float32), training=training)
    return contrastive.apply(fitted, ROWS)


def tiled(x, y):
    return rsa_tiles.scores(x[None], y[None], method="pearson", tile=8)


def mantel(brain, model, confounds):
    problem = partial_rsa.mantel_problem(brain[None], model[None], confounds[None])
    return partial_rsa.permuted_correlations(problem, IDENTITY)


def from_correlations(*correlations):
    return partial_rsa.partial_from_correlations(*(jnp.reshape(x, (1, 1)) for x in correlations))


def bounds(method):
    scores = np.random.default_rng(5).normal(size=(3, 6)).astype(np.float32)
    counts = bootstrap.draw_hierarchical(3, 6, 50)

    def interval(scores):
        return bootstrap.hierarchical(scores, jnp.ones_like(scores), *counts, method=method)

    return Case(interval, (scores,))


def slope(scores):
    return scaling_slope.subject_slopes(
        scores, np.arange(5, dtype=np.float32), np.zeros(5, np.int32), n_families=1
    )[0]


def fitted_slope(slopes):
    tested = scaling_slope.slope_test(
        slopes, bootstrap.draw_counts(6, 50), scaling_slope.draw_signs(6, 63)
    )
    return tested.interval, tested.p_sign_flip, tested.p_bootstrap


def partial_fit(x, nuisances, y):
    fitted = partial_ridge.factor(x, nuisances, MASK)
    nuisance = partial_ridge.nuisance_operators(nuisances, MASK, jnp.zeros(1))
    operators = partial_ridge.operators(fitted, nuisance, jnp.ones(1), jnp.arange(N))
    return linalg.matmul(operators[0], y)[:, 0]


CASES = {
    "linalg.weighted_mean": Case(lambda x: linalg.weighted_mean(x, MASK)[0], (ROWS,)),
    "linalg.center": Case(
        lambda x: linalg.center(x, linalg.weighted_mean(x, MASK), MASK)[:, 0], (ROWS,)
    ),
    "linalg.unit_rows": Case(lambda x: linalg.unit_rows(x)[0], (ROWS,)),
    "linalg.center_gram": Case(lambda x: linalg.center_gram(linalg.gram(x), MASK), (ROWS,)),
    "linalg.principal_components": Case(
        lambda x: linalg.principal_components(x, MASK, n_components=2)[1:], (ROWS,)
    ),
    "rsa.compare pearson": ranked("pearson"),
    "rsa.compare spearman": ranked("spearman"),
    "rsa.compare kendall_tau_a": ranked("kendall_tau_a"),
    "rsa.rdm correlation": with_row("correlation"),
    "rsa.rdm cosine": with_row("cosine"),
    "rsa.rdm euclidean": with_row("euclidean"),
    "rsa.rdm spearman": with_row("spearman"),
    "rsa.scores": Case(lambda x, y: rsa.scores(x[None], y[None]), (ROWS, WIDE)),
    "partial_rsa.partial_correlations": Case(
        lambda b, m, c: partial_rsa.partial_correlations(b[None], m[None], c[None]), tuple(RDMS[:3])
    ),
    "partial_rsa.permuted_correlations": Case(mantel, tuple(RDMS[:3])),
    "partial_rsa.partial_from_correlations": Case(
        from_correlations, tuple(np.float32([[0.5], [0.3], [0.2], [1.0]]))
    ),
    "partial_rsa.mantel_test": Case(
        lambda observed, null: partial_rsa.mantel_test(observed[None], null[:, None])[1],
        (RDMS[0, :1], RDMS[1, :9, None]),
    ),
    "scoring.pearson": Case(lambda t, p: scoring.pearson(t, p)[0], (TARGET, WIDE)),
    "scoring.r2": Case(lambda t, p: scoring.r2(t, p)[0], (TARGET, WIDE)),
    "noise_ceiling pearson": Case(
        lambda x: noise_ceiling.noise_ceiling(x, method="pearson"), (RDMS,)
    ),
    "noise_ceiling spearman": Case(
        lambda x: noise_ceiling.noise_ceiling(x, method="spearman"), (RDMS,)
    ),
    "noise_ceiling cosine": Case(
        lambda x: noise_ceiling.noise_ceiling(x, method="cosine"), (RDMS,)
    ),
    "reliability.spearman_brown": Case(reliability.spearman_brown, (RDMS[0, :1],)),
    "reliability.split_half": Case(
        lambda x: reliability.split_half(x, reliability.draw_splits(3))[0],
        (np.stack([ROWS, WIDE, TARGET]),),
    ),
    "reliability.split_half_rdm": Case(
        lambda x: reliability.split_half_rdm(x, reliability.draw_splits(3)),
        (np.stack([ROWS, WIDE, TARGET]),),
    ),
    "inference.p_value": Case(
        lambda observed, null: inference.p_value(observed, null), (RDMS[0, :1], RDMS[1, :9, None])
    ),
    "bootstrap.hierarchical percentile": bounds("percentile"),
    "bootstrap.hierarchical bca": bounds("bca"),
    "bootstrap.percentile": Case(
        lambda drawn, estimate: bootstrap.percentile(drawn, estimate[0])[:3],
        (RDMS[0], RDMS[1, :1]),
        still=(0,),  # draws without a word are NaN, and do not count
    ),
    "scaling_slope.subject_slopes": Case(slope, (RDMS[:2, :5],)),
    "scaling_slope.slope_test": Case(fitted_slope, (RDMS[0, :6],), values=(np.inf, -np.inf)),
    "ridge.predict": Case(
        lambda x, y: ridge_fit(x, y, jnp.ones(5))[:, 0], (ROWS, TARGET)
    ),
    "ridge.predict alpha": Case(
        lambda alpha: ridge_fit(ROWS, TARGET, alpha)[:, 0], (np.ones(5, np.float32),), values=(np.nan,)
    ),
    "ridge.factor": Case(dual_fit, (ROWS, TARGET)),
    "ridge.loo_errors": Case(
        lambda x, y: ridge.loo_errors(ridge.factor_primal(x, MASK), y, np.ones(1, np.float32))[0, 0],
        (ROWS, TARGET),
    ),
    "inference.hat_matrix": Case(
        lambda x: inference.hat_matrix(ridge.factor_primal(x, MASK), 1.0), (ROWS,)
    ),
    "filters.shrinkage": Case(
        lambda w, alpha: filters.shrinkage(w, alpha)[0, 0],
        (np.float32([1, 2]), np.float32([1, 2])),
        values=(np.nan,),
    ),
    "partial_ridge": Case(partial_fit, (ROWS, WIDE, TARGET)),
    "banded_ridge": Case(banded, (ROWS, TARGET)),
    "banded_ridge.split_r2": Case(
        lambda y, split: banded_ridge.split_r2(y, split[None])[0, 0], (TARGET, WIDE)
    ),
    "procrustes.fit": Case(
        lambda x, y: procrustes.apply(procrustes.fit(x, y, MASK), WIDE), (ROWS, TARGET)
    ),
    "hyperalignment.fit": Case(
        lambda x, y: hyperalignment.fit(jnp.stack([x, y]), MASK)[0], (ROWS, TARGET)
    ),
    "contrastive.fit": Case(trained, (ROWS, TARGET)),
    "retrieval.precision_at": Case(
        lambda ranks: retrieval.precision_at(ranks, (1, 5)), (np.float32([1, 2, 9]),), values=(np.nan,)
    ),
    "surrogates.phase_randomised": Case(
        lambda x: surrogates.phase_randomised(jax.random.wrap_key_data(KEY), x)[:, 0], (ROWS,)
    ),
    "surrogates.autocorrelation": Case(surrogates.autocorrelation, (ROWS,)),
    "surrogates.autocorrelated_noise": Case(
        lambda x: surrogates.autocorrelated_noise(jax.random.wrap_key_data(KEY), x), (ROWS,)
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_what_is_no_number_gives_no_number(name):
    case = CASES[name]
    kernel = jax.jit(case.kernel)
    clean = jax.tree.leaves(kernel(*case.arrays))
    assert all(np.isfinite(leaf).all() for leaf in clean)
    for place in set(range(len(case.arrays))) - set(case.still):
        for value in case.values:
            arrays = [np.array(x) for x in case.arrays]
            arrays[place].flat[0] = value
            for leaf in jax.tree.leaves(kernel(*arrays)):
                assert not np.isfinite(leaf).any(), (place, value, leaf)
