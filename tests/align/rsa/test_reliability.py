"""Split-half reliability against loops, and against what it predicts of new data."""

import jax
import numpy as np
import pytest
from scipy.spatial.distance import pdist
from scipy.stats import spearmanr

from brainalign_jax.align.rsa import reliability

split_half = jax.jit(reliability.split_half)
split_half_rdm = jax.jit(reliability.split_half_rdm, static_argnames=("metric", "method"))


def repeats(rng, n_repeats=4, n_words=30, n_voxels=6, noise=1.0):
    signal = rng.standard_normal((n_words, n_voxels)) * np.linspace(0, 2, n_voxels)
    return signal + noise * rng.standard_normal((n_repeats, n_words, n_voxels)) + 5


@pytest.mark.parametrize("n_repeats", [4, 5])
def test_voxels_equal_a_loop_over_splits(precision, rng, n_repeats):
    x = repeats(rng, n_repeats)
    splits = reliability.draw_splits(n_repeats)
    by_voxel = split_half(precision.array(x), splits)
    expected = []
    for voxel in range(x.shape[2]):
        r = np.mean(
            [
                np.corrcoef(x[s][:, :, voxel].mean(axis=0), x[~s][:, :, voxel].mean(axis=0))[0, 1]
                for s in splits
            ]
        )
        expected.append(2 * r / (1 + r))
    precision.close(by_voxel, expected, factor=5)


def test_words_that_do_not_count_do_not(double, rng):
    x = repeats(rng)
    weights = np.arange(30) % 3 > 0
    splits = reliability.draw_splits(4)
    by_voxel = split_half(*double.arrays(x), splits, double.array(weights))
    double.close(by_voxel, split_half(double.array(x[:, weights]), splits))


def test_rdms_equal_a_loop_over_splits(double, rng):
    x = repeats(rng)
    splits = reliability.draw_splits(4)
    r = np.mean(
        [
            spearmanr(pdist(x[s].mean(axis=0), "cosine"), pdist(x[~s].mean(axis=0), "cosine"))[0]
            for s in splits
        ]
    )
    of_rdms = split_half_rdm(double.array(x), splits, metric="cosine")
    double.close(of_rdms, 2 * r / (1 + r))


def test_it_predicts_the_agreement_with_new_repetitions(rng):
    """Spearman-Brown of two halves of 8 is the correlation of the mean of 8 with that of 8 others."""
    x = repeats(rng, 16, n_words=3000, n_voxels=4, noise=2.0).astype(np.float32)
    by_voxel = np.asarray(split_half(x[:8], reliability.draw_splits(8)))
    for voxel in range(1, 4):
        means = x[:8, :, voxel].mean(axis=0), x[8:, :, voxel].mean(axis=0)
        assert by_voxel[voxel] == pytest.approx(np.corrcoef(*means)[0, 1], abs=0.04)
    assert abs(by_voxel[0]) < 0.1


def test_splits_are_all_there_are_or_drawn():
    assert reliability.draw_splits(2).tolist() == [[True, False]]
    four = reliability.draw_splits(4)
    assert len(four) == 3 and len({frozenset([tuple(s), tuple(~s)]) for s in four}) == 3
    assert len(reliability.draw_splits(5)) == 10
    many = reliability.draw_splits(20, 50, random_state=1)
    assert many.shape == (50, 20) and (many.sum(axis=1) == 10).all()
    np.testing.assert_array_equal(many, reliability.draw_splits(20, 50, random_state=1))
    with pytest.raises(ValueError, match="1 repetition"):
        reliability.draw_splits(1)


def test_spearman_brown_by_hand(precision):
    r = precision.array([0.5, 0.0, 1.0, -0.2, -0.9, -1.0])
    precision.close(reliability.spearman_brown(r), [2 / 3, 0, 1, -0.5, -1, -1])
    precision.close(reliability.spearman_brown(r[0], 4.0), 0.8)
    assert np.isnan(reliability.spearman_brown(precision.array(np.nan)))


def test_float32_stays_float32(keeps_float32, rng):
    splits = reliability.draw_splits(4)
    keeps_float32(lambda x: reliability.split_half(x, splits), repeats(rng))
    keeps_float32(lambda x: reliability.split_half_rdm(x, splits), repeats(rng))
