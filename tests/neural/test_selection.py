import functools

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline

from brainalign_jax.neural.selection import (
    informativeness,
    select,
    stability,
    voxel_neighbours,
)
from brainalign_jax.neural.voxel_selector import VoxelSelector

GRID = np.stack(np.unravel_index(np.arange(4 * 3 * 3), (4, 3, 3)), axis=1)


def slow_informativeness(values, targets, neighbours, alpha, labels):
    """Pereira's score, a voxel, a fold and a dimension at a time."""
    values, targets = values - values.mean(axis=0), targets - targets.mean(axis=0)
    scores = []
    for voxel in range(values.shape[1]):
        columns = [voxel] + [c for c in neighbours[voxel] if c >= 0]
        best = -1.0
        for target in targets.T:
            predicted = np.empty(len(values))
            for label in np.unique(labels):
                test = labels == label
                model = Ridge(alpha, fit_intercept=False, solver="cholesky")
                model.fit(values[~test][:, columns], target[~test])
                predicted[test] = model.predict(values[test][:, columns])
            best = max(best, np.corrcoef(predicted, target)[0, 1])
        scores.append(best)
    return np.array(scores)


@pytest.mark.parametrize("scale", [1.0, 300.0])
def test_informativeness_is_the_slow_loop(scale):
    rng = np.random.default_rng(0)
    values = scale * rng.standard_normal((33, len(GRID)))
    targets = rng.standard_normal((33, 4)) + 5
    values[:, 7] += scale * targets[:, 2]
    neighbours = voxel_neighbours(GRID)
    scores = informativeness(values, targets, neighbours=neighbours, alpha=2.0, n_folds=7)
    expected = slow_informativeness(values, targets, neighbours, 2.0, np.arange(33) % 7)
    np.testing.assert_allclose(scores, expected, atol=1e-9)
    assert scores[7] > scores[[27, 31, 35]].max()  # those lie out of its neighbours' reach
    alone = informativeness(values, targets, alpha=2.0, n_folds=7)
    no_neighbours = np.full((len(GRID), 0), -1)
    np.testing.assert_allclose(
        alone,
        slow_informativeness(values, targets, no_neighbours, 2.0, np.arange(33) % 7),
        atol=1e-9,
    )


def test_informativeness_with_fold_labels_and_in_blocks(monkeypatch):
    rng = np.random.default_rng(1)
    values, targets = rng.standard_normal((20, len(GRID))), rng.standard_normal((20, 3))
    labels = np.repeat([3, 1, 9, 4, 2], [2, 6, 3, 5, 4])[rng.permutation(20)]
    neighbours = voxel_neighbours(GRID)
    scores = informativeness(values, targets, neighbours=neighbours, folds=labels)
    np.testing.assert_allclose(
        scores, slow_informativeness(values, targets, neighbours, 1.0, labels), atol=1e-9
    )
    # Neither the size of the blocks nor the number of threads nor the type of the values matters.
    monkeypatch.setattr("brainalign_jax.neural.selection._BLOCK_BYTES", 8 * 60 * 5)
    again = informativeness(values, targets, neighbours=neighbours, folds=labels, n_jobs=3)
    np.testing.assert_allclose(again, scores, atol=1e-12)
    single = informativeness(
        values.astype(np.float32), targets, neighbours=neighbours, folds=labels
    )
    np.testing.assert_allclose(single, scores, atol=1e-5)


def test_informativeness_of_what_is_constant_is_zero():
    rng = np.random.default_rng(2)
    values, targets = rng.standard_normal((30, 5)), rng.standard_normal((30, 2))
    values[:, 1], targets[:, 1] = 0.1, 0.7
    scores = informativeness(values, targets)
    # A constant dimension scores zero too: no score is below it.
    assert scores[1] == 0 and (scores >= 0).all() and scores.max() > 0
    assert informativeness(values, targets[:, 1:]).tolist() == [0.0] * 5


def test_informativeness_uses_what_neighbours_tell_together():
    rng = np.random.default_rng(3)
    grid = np.stack(np.unravel_index(np.arange(9 * 9 * 9), (9, 9, 9)), axis=1)
    middle, beside = (
        int(np.flatnonzero((grid == at).all(axis=1))[0]) for at in ([4] * 3, [4, 4, 5])
    )
    targets = rng.standard_normal((120, 10))
    values = rng.standard_normal((120, len(grid)))
    # A strong fluctuation that both voxels share hides what one of them knows.
    values[:, middle] = values[:, beside] = 20 * rng.standard_normal(120)
    values[:, middle] += targets[:, 3]
    touching = np.abs(grid - grid[middle]).max(axis=1) <= 1
    both = touching & (np.abs(grid - grid[beside]).max(axis=1) <= 1)
    scores = informativeness(values, targets, neighbours=voxel_neighbours(grid))
    assert select(scores, int(both.sum())).tolist() == np.flatnonzero(both).tolist()
    assert informativeness(values, targets)[middle] < 0.4 < 0.9 < scores[middle]


def test_informativeness_errors():
    x, y = np.ones((12, 3)), np.ones((12, 2))
    for bad in (x[:5], x[0], x[:, :0]):
        with pytest.raises(ValueError, match="same rows"):
            informativeness(bad, y)
    with pytest.raises(ValueError, match="no dimension"):
        informativeness(x, y[:, :0])
    with pytest.raises(ValueError, match=r"values\[4, 1\] is nan; drop"):
        informativeness(np.where(np.arange(36).reshape(12, 3) == 13, np.nan, x), y)
    with pytest.raises(ValueError, match=r"targets\[0, 0\] is inf"):
        informativeness(x, np.full((12, 2), np.inf))
    with pytest.raises(ValueError, match="alpha is 0"):
        informativeness(x, y, alpha=0)
    with pytest.raises(ValueError, match="13 folds of 12 rows"):
        informativeness(x, y, n_folds=13)
    with pytest.raises(ValueError, match="1 labels for 12 rows"):
        informativeness(x, y, folds=np.zeros(12))
    with pytest.raises(ValueError, match="n_jobs is 0"):
        informativeness(x, y, n_jobs=0)
    with pytest.raises(ValueError, match=r"shape \(2, 4\).*for 3 voxels"):
        informativeness(x, y, neighbours=np.zeros((2, 4), int))
    with pytest.raises(ValueError, match=r"neighbours\[1\] is \[3\].*count from 1"):
        informativeness(x, y, neighbours=np.array([[1], [3], [2]]))


def test_neighbours_are_the_touching_voxels():
    rng = np.random.default_rng(4)
    grid = np.stack(np.unravel_index(np.arange(5 * 6 * 4), (5, 6, 4)), axis=1)
    indices = grid[rng.permutation(len(grid))[:70]] + 10
    neighbours = voxel_neighbours(indices)
    assert neighbours.shape == (70, 26)
    for voxel, columns in enumerate(neighbours):
        touching = np.abs(indices - indices[voxel]).max(axis=1) == 1
        count = touching.sum()
        assert columns[:count].tolist() == np.flatnonzero(touching).tolist()
        assert (columns[count:] == -1).all()
    full = voxel_neighbours(grid)
    assert (full >= 0).sum(axis=1).max() == 26 and (full >= 0).sum(axis=1).min() == 7
    assert (voxel_neighbours(np.array([[3, 3, 3]])) == -1).all()
    with pytest.raises(ValueError, match=r"voxel \[1, 2, 3\] occurs twice"):
        voxel_neighbours(np.array([[1, 2, 3], [0, 0, 0], [1, 2, 3]]))
    with pytest.raises(ValueError, match="integer voxel indices"):
        voxel_neighbours(np.zeros((3, 3)))
    with pytest.raises(ValueError, match=r"\[voxels, 3\]"):
        voxel_neighbours(np.zeros((3, 2), int))


def test_stability_is_the_mean_pairwise_correlation():
    rng = np.random.default_rng(5)
    signal = rng.standard_normal((40, 6))
    repeats = signal + rng.standard_normal((4, 40, 6)) * np.array([0.1, 0.5, 1, 2, 5, 100])
    stabilities = stability(repeats * np.array([1, 9, 0.01, 3])[:, None, None] + 7)
    for voxel in range(6):
        correlation = np.corrcoef(repeats[:, :, voxel])
        np.testing.assert_allclose(stabilities[voxel], correlation[np.triu_indices(4, 1)].mean())
    assert stabilities[0] > 0.98 and abs(stabilities[5]) < 0.2
    repeats[2, :, 0] = 0.3
    correlation = np.corrcoef(repeats[[0, 1, 3], :, 0])[np.triu_indices(3, 1)]
    np.testing.assert_allclose(stability(repeats)[0], correlation.sum() / 6)
    assert stability(np.full((3, 5, 1), 0.1)).tolist() == [0.0]
    with pytest.raises(ValueError, match="at least two presentations"):
        stability(repeats[:1])
    with pytest.raises(ValueError, match="NaN"):
        stability(np.full((2, 3, 1), np.nan))


def test_select_breaks_ties_by_column():
    assert select(np.array([1.0, 3, 2, 3, 2, 2]), 4).tolist() == [1, 2, 3, 4]
    assert select(np.zeros(5), 2).tolist() == [0, 1]
    assert select(np.array([-1.0, -np.inf]), 1).tolist() == [0]
    for n in (0, 6, 1.5, True):
        with pytest.raises(ValueError, match="between 1 and the 5 voxels"):
            select(np.zeros(5), n)
    with pytest.raises(ValueError, match="NaN"):
        select(np.array([1.0, np.nan]), 1)


def test_selector_learns_from_training_rows_only():
    rng = np.random.default_rng(6)
    targets = rng.standard_normal((60, 3))
    values = rng.standard_normal((60, len(GRID)))
    train = np.arange(60) < 30
    # Voxel 5 follows the targets in the training rows, voxel 30 in the others.
    values[train, 5] += 3 * targets[train, 0]
    values[~train, 30] += 9 * targets[~train, 1]
    score = functools.partial(informativeness, alpha=0.1)
    selector = VoxelSelector(score, n_voxels=2).fit(values[train], targets[train])
    assert 5 in selector.columns_ and 30 not in selector.columns_
    np.testing.assert_array_equal(selector.transform(values), values[:, selector.columns_])
    changed = np.where(train[:, None], values, 1e6)
    again = clone(selector).fit(changed[train], targets[train])
    np.testing.assert_array_equal(again.columns_, selector.columns_)
    assert 30 in VoxelSelector(score, 2).fit(values, targets).columns_  # the leak that it avoids
    fitted = make_pipeline(VoxelSelector(n_voxels=4), Ridge()).fit(values[train], targets[train])
    assert fitted[-1].coef_.shape == (3, 4)
    np.testing.assert_allclose(
        VoxelSelector(n_voxels=4).fit(values, targets).scores_, informativeness(values, targets)
    )


def test_selector_errors():
    x, y = np.random.default_rng(0).standard_normal((12, 3)), np.ones((12, 2))
    with pytest.raises(ValueError, match="n is 5000"):
        VoxelSelector().fit(x, y)
    with pytest.raises(ValueError, match="one number a voxel"):
        VoxelSelector(lambda values, targets: np.ones(2), 1).fit(x, y)
    with pytest.raises(ValueError, match="fitted to 3 voxels"):
        VoxelSelector(n_voxels=1).fit(x, y).transform(x[:, :2])
