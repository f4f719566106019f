"""Partial RSA against regressions by NumPy, and its permutations against permuted square matrices."""

import jax
import numpy as np
import pytest
from scipy.spatial.distance import pdist, squareform
from scipy.stats import rankdata

from brainalign_jax.align.rsa import partial_rsa
from brainalign_jax.align.stats import inference

N = 14
permuted = jax.jit(jax.vmap(partial_rsa.permuted_correlations, (None, 0)))
problem = jax.jit(partial_rsa.mantel_problem, static_argnames=("method", "permuted"))
partial = jax.jit(partial_rsa.partial_correlations, static_argnames="method")


def rdms(rng, n_subjects=3, n_layers=2, n_confounds=2):
    """Brain and model RDMs that agree through the confounds and beyond, and confounds with ties."""
    places = np.sort(rng.uniform(0, 9, N))
    confounds = np.stack(
        [pdist(places[:, None]), (pdist(np.floor(places / 3)[:, None]) > 0).astype(float)]
    )
    shared = pdist(rng.standard_normal((N, 3)))
    brain, model = (
        np.stack(
            [shared + 0.5 * confounds[0] + pdist(rng.standard_normal((N, 4))) for _ in range(n)]
        )
        for n in (n_subjects, n_layers)
    )
    return brain, model, confounds[:n_confounds]


def prepared(x, method):
    return rankdata(x) if method == "spearman" else x


def slow(a, b, confounds, method):
    """Correlation of the residuals of two regressions."""
    design = np.column_stack([np.ones(len(a)), *(prepared(c, method) for c in confounds)])
    left = [
        y - design @ np.linalg.lstsq(design, y, rcond=None)[0]
        for y in (prepared(a, method), prepared(b, method))
    ]
    return np.corrcoef(*left)[0, 1]


@pytest.mark.parametrize("method", ["spearman", "pearson"])
def test_partial_correlations_equal_two_regressions(precision, rng, method):
    brain, model, confounds = rdms(rng)
    expected = [[slow(b, m, confounds, method) for m in model] for b in brain]
    correlations = partial(*precision.arrays(brain, model, confounds), method=method)
    precision.close(correlations, expected, factor=5)


def test_without_confounds_it_is_the_correlation(double, rng):
    brain, model, _ = rdms(rng)
    correlations = partial(
        *double.arrays(brain, model, np.empty((0, brain.shape[1]))), method="pearson"
    )
    double.close(correlations, np.corrcoef(brain, model)[:3, 3:])


def test_confounds_that_say_nothing_new_change_nothing(precision, rng):
    brain, model, confounds = rdms(rng)
    more = np.stack([np.ones(brain.shape[1]), *confounds, confounds[0] * 3 + 1])
    expected = partial(*precision.arrays(brain, model, confounds))
    precision.close(partial(*precision.arrays(brain, model, more)), expected, factor=2)


def test_what_the_confounds_explain_scores_zero(precision, rng):
    brain, model, confounds = rdms(rng)
    model[1] = confounds[0] ** 3  # the same ranks
    brain[2] = 4.0
    correlations = np.asarray(partial(*precision.arrays(brain, model, confounds)))
    assert (correlations[:, 1] == 0).all() and (correlations[2] == 0).all()
    assert (correlations[:2, 0] != 0).all()
    everything = np.asarray(
        permuted(
            problem(*precision.arrays(brain, model, confounds)),
            inference.draw_permutations(N, 5),
        )
    )
    assert (everything[:, :, 1] == 0).all() and (everything[:, 2] == 0).all()


@pytest.mark.parametrize("what", ["raw", "residuals"])
@pytest.mark.parametrize("method", ["spearman", "pearson"])
def test_permutations_equal_permuted_matrices(double, rng, monkeypatch, method, what):
    """Rows and columns of the brain's square matrix permuted, and the partial correlation anew."""
    monkeypatch.setattr(partial_rsa, "_TILE", 32)  # several tiles, the last one not full
    brain, model, confounds = rdms(rng)
    permutations = inference.draw_permutations(N, 4, random_state=3)
    permutations[0] = np.arange(N)
    ready = problem(*double.arrays(brain, model, confounds), method=method, permuted=what)
    compiled = jax.jit(jax.vmap(partial_rsa.permuted_correlations, (None, 0)))
    null = compiled(ready, permutations)
    expected = np.empty(null.shape)
    prepared_rdms = [prepared(b, method) for b in brain]
    if what == "residuals":
        design = np.column_stack(
            [np.ones(brain.shape[1]), *(prepared(c, method) for c in confounds)]
        )
        prepared_rdms = [
            y - design @ np.linalg.lstsq(design, y, rcond=None)[0] for y in prepared_rdms
        ]
    for index, order in enumerate(permutations):
        for subject, rdm in enumerate(prepared_rdms):
            moved = squareform(squareform(rdm, checks=False)[np.ix_(order, order)], checks=False)
            for layer, m in enumerate(model):
                expected[index, subject, layer] = slow(
                    moved,
                    prepared(m, method),
                    [prepared(c, method) for c in confounds],
                    "pearson",
                )
    double.close(null, expected)
    double.close(null[0], partial(*double.arrays(brain, model, confounds), method=method))


def test_float32_permutations_as_float64(rng):
    brain, model, confounds = rdms(rng)
    permutations = inference.draw_permutations(N, 20)
    null = {}
    for double in (False, True):
        with jax.enable_x64(double):
            dtype = np.float64 if double else np.float32
            ready = problem(*(x.astype(dtype) for x in (brain, model, confounds)))
            null[double] = np.asarray(permuted(ready, permutations))
    assert null[False].dtype == np.float32
    np.testing.assert_allclose(null[False], null[True], atol=1e-5)


def test_partial_correlations_from_correlations_alone(double, rng):
    brain, model, confounds = rdms(rng)
    confounds = np.stack([*confounds, confounds[0] * 2])  # one too many
    vectors = partial_rsa.unit_vectors(double.array(np.concatenate([brain, model, confounds])))
    gram = np.asarray(vectors @ vectors.T)
    correlations = partial_rsa.partial_from_correlations(
        *double.arrays(gram[:3, 3:5], gram[:3, 5:], gram[3:5, 5:], gram[5:, 5:])
    )
    double.close(correlations, partial(*double.arrays(brain, model, confounds)))


def test_p_values_by_hand():
    null = np.array([[[0.1, 0.3]], [[0.2, 0.0]], [[-0.1, 0.5]]])  # [B, S, L]
    tested = partial_rsa.mantel_test(np.array([[0.15, 0.4]]), null)
    np.testing.assert_allclose(tested.p, [[2 / 4, 2 / 4]])
    np.testing.assert_allclose(tested.p_max, [[4 / 4, 2 / 4]])
    np.testing.assert_allclose(tested.group_p_max, [4 / 4, 2 / 4])
    np.testing.assert_allclose(tested.group, [0.15, 0.4])


def smooth(rng, n, width, d=5):
    """n items in time whose neighbours resemble one another."""
    time = np.arange(n)
    kernel = np.exp(-0.5 * ((time[:, None] - time) / width) ** 2)
    return kernel @ rng.standard_normal((n, d))


def false_positives(permutations, *, width, n_studies=100):
    """Share of p < .05 of a subject and a layer that are smooth in time and know nothing of each other."""
    rng = np.random.default_rng(7)
    n = permutations.shape[1]
    time = pdist(np.arange(n)[:, None])[None]
    both = np.array(
        [
            [pdist(smooth(rng, n, width), "correlation")[None] for _ in range(2)]
            for _ in range(n_studies)
        ],
        np.float32,
    )

    @jax.jit
    def p_value(pair):
        ready = partial_rsa.mantel_problem(*pair, time.astype(np.float32))
        correlations = jax.vmap(partial_rsa.permuted_correlations, (None, 0))
        observed = correlations(ready, np.arange(n)[None])[0]
        return partial_rsa.mantel_test(observed, correlations(ready, permutations)).p[0, 0]

    return np.mean([float(p_value(pair)) <= 0.05 for pair in both])


def test_smooth_noise_needs_blocks_or_shifts():
    """Single words permuted, smooth noise is 'similar' far too often, temporal distance or not."""

    def blocks(size):
        return inference.draw_permutations(96, 99, random_state=2, block=size)

    shifts = np.stack([np.roll(np.arange(96), i) for i in range(10, 87)])
    assert false_positives(blocks(1), width=2.5) > 0.5
    assert false_positives(blocks(16), width=2.5) <= 0.15
    assert false_positives(shifts, width=2.5) <= 0.12
    assert false_positives(blocks(1), width=0.01) <= 0.1  # isolated words


def test_bad_input_is_refused(keeps_float32, rng):
    brain, model, confounds = rdms(rng)
    with pytest.raises(ValueError, match="different pairs"):
        partial_rsa.partial_correlations(brain[:, :-1], model, confounds)
    with pytest.raises(ValueError, match="kendall"):
        partial_rsa.partial_correlations(brain, model, confounds, method="kendall")
    with pytest.raises(ValueError, match="rows"):
        partial_rsa.mantel_problem(brain, model, confounds, permuted="rows")
    keeps_float32(
        lambda *x: partial_rsa.permuted_correlations(partial_rsa.mantel_problem(*x), np.arange(N)),
        brain,
        model,
        confounds,
    )
