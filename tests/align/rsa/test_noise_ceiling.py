"""RSA noise ceilings against SciPy loops, rsatoolbox, and the figures known of the Pereira words."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import kendalltau, pearsonr, rankdata, spearmanr

from brainalign_jax.align import rsa
from brainalign_jax.align.rsa import noise_ceiling as ceilings

compiled = jax.jit(ceilings.noise_ceiling, static_argnames=("method", "rank_mean"))
METHODS = ["pearson", "spearman", "kendall_tau_a", "cosine"]


def cosine(a, b):
    return a @ b / np.sqrt((a @ a) * (b @ b))


def slow(rdms, method):
    """(lower, upper), subject by subject, by SciPy."""
    compare, pool = {
        "pearson": (lambda a, b: pearsonr(a, b).statistic, lambda x: (x - x.mean()) / x.std()),
        "spearman": (lambda a, b: spearmanr(a, b).statistic, rankdata),
        # tau-a equals tau-b where nothing is tied
        "kendall_tau_a": (lambda a, b: kendalltau(a, b).statistic, rankdata),
        "cosine": (cosine, lambda x: x / np.sqrt((x**2).mean())),
    }[method]
    pooled = np.array([pool(x) for x in rdms])
    lower = [compare(x, np.delete(pooled, i, 0).mean(axis=0)) for i, x in enumerate(rdms)]
    return np.array(lower), np.array([compare(x, pooled.mean(axis=0)) for x in rdms])


def subjects(rng, n_subjects=4, n_pairs=45):
    """RDMs with something in common, on different scales, none of whose mean ranks are tied."""
    common = rng.normal(size=n_pairs)
    rdms = common + rng.normal(size=(n_subjects, n_pairs)) + 3
    return rdms * rng.uniform(0.5, 20, size=(n_subjects, 1))


@pytest.mark.parametrize("method", ["pearson", "spearman", "cosine"])
def test_ceilings_equal_a_loop_over_subjects(precision, rng, method):
    rdms = subjects(rng)
    bounds = compiled(precision.array(rdms), method=method)
    for actual, expected in zip(bounds, slow(rdms, method), strict=True):
        precision.close(actual, expected, factor=5)


@pytest.mark.parametrize("method", ["spearman", "kendall_tau_a"])
def test_ceilings_with_ties(double, rng, method):
    rdms = rng.integers(0, 5, size=(3, 36)).astype(float)
    bounds = compiled(double.array(rdms), method=method)
    ranks = rankdata(rdms, axis=1)
    for i in range(3):
        others = np.delete(ranks, i, 0).mean(axis=0)
        if method == "spearman":
            expected = spearmanr(rdms[i], others).statistic
        else:
            signs = np.sign(rdms[i][:, None] - rdms[i]) * np.sign(others[:, None] - others)
            expected = signs.sum() / (36 * 35)
        assert float(bounds.lower[i]) == pytest.approx(expected)


@pytest.mark.filterwarnings("ignore:Noise ceiling for tau")
@pytest.mark.parametrize("method", METHODS)
def test_ceilings_equal_those_of_rsatoolbox(double, rng, method):
    rsatoolbox = pytest.importorskip("rsatoolbox")
    from rsatoolbox.inference.noise_ceiling import boot_noise_ceiling

    rdms = subjects(rng)
    name = {"pearson": "corr", "kendall_tau_a": "tau-a"}.get(method, method)
    bounds = compiled(double.array(rdms), method=method)
    expected = boot_noise_ceiling(rsatoolbox.rdm.RDMs(rdms), method=name)
    np.testing.assert_allclose([bounds.lower.mean(), bounds.upper.mean()], expected, rtol=1e-9)


def test_the_mean_of_ranks_as_it_is(double, rng):
    rdms = subjects(rng)
    ranks = rankdata(rdms, axis=1)
    bounds = compiled(double.array(rdms), method="spearman", rank_mean=False)
    for actual, expected in zip(bounds, slow(ranks, "pearson"), strict=True):
        double.close(actual, expected)


def test_equal_subjects_have_a_ceiling_of_one_and_opposed_ones_none(double, rng):
    rdm = rng.normal(size=28)
    for method in ("pearson", "spearman"):
        bounds = compiled(double.array(np.stack([rdm, rdm, rdm])), method=method)
        np.testing.assert_allclose(bounds, 1, atol=1e-9)
    bounds = compiled(double.array(np.stack([rdm, -rdm])), method="pearson")
    np.testing.assert_allclose(bounds.lower, -1)
    np.testing.assert_allclose(bounds.upper, 0, atol=1e-12)


def test_ceilings_are_the_same_batched(double, rng):
    rdms = double.array(np.stack([subjects(rng), subjects(rng)]))
    batched = jax.jit(jax.vmap(ceilings.noise_ceiling))(rdms)
    for index, rdms_of_study in enumerate(rdms):
        for actual, expected in zip(
            batched, compiled(rdms_of_study, method="spearman"), strict=True
        ):
            double.close(actual[index], expected)


def test_bad_input_is_refused(keeps_float32, rng):
    with pytest.raises(ValueError, match="tau"):
        ceilings.noise_ceiling(np.zeros((3, 6)), method="tau")
    with pytest.raises(ValueError, match=r"\(1, 6\)"):
        ceilings.noise_ceiling(np.zeros((1, 6)))
    keeps_float32(ceilings.noise_ceiling, subjects(rng))


def test_the_ceilings_of_the_pereira_words(shared_data):
    """15 subjects, correlation distance, Spearman: the bounds that rsatoolbox gives, means over subjects."""
    responses = np.load(shared_data / "pereira180" / "pereira180.npz")["fmri_pca"]
    with jax.enable_x64(True):
        rdms = jax.jit(jax.vmap(rsa.rdm))(jnp.asarray(responses))
        lower, upper = (np.asarray(bound) for bound in compiled(rdms, method="spearman"))
        means = compiled(rdms, method="spearman", rank_mean=False)
        means = [np.asarray(bound).mean() for bound in means]
    assert round(lower.mean(), 3) == 0.029
    assert round(upper.mean(), 3) == 0.267
    assert np.round(means, 3).tolist() == [0.029, 0.273]
    assert round(lower.min(), 3) == 0.010 and round(lower.max(), 3) == 0.064  # by SciPy
    rsatoolbox = pytest.importorskip("rsatoolbox")
    from rsatoolbox.inference.noise_ceiling import boot_noise_ceiling

    expected = boot_noise_ceiling(rsatoolbox.rdm.RDMs(np.asarray(rdms)), method="spearman")
    np.testing.assert_allclose([lower.mean(), upper.mean()], expected, atol=1e-9)
