"""Selection, scaling and PCA: fitted on training rows only, and the same numbers in blocks."""

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from brainalign_jax.neural import fields
from brainalign_jax.neural.responses import WordResponses
from brainalign_jax.neural.space import VoxelSpace
from brainalign_jax.stimulus import Stimulus
from brainalign_jax.study.protocol import protocol
from brainalign_jax.study.score import preparation

N, V = 40, 25


@pytest.fixture
def rows():
    rng = np.random.default_rng(0)
    values = (rng.standard_normal((N, V)) * rng.uniform(0.1, 9, V) + 3).astype(np.float32)
    train = np.stack([np.arange(N) % 4 != fold for fold in range(4)])
    return values, np.arange(N) != 7, train & (np.arange(N) != 7)


def prepare(rows, *, width=8, form="values", score=None, **choices):
    values, eligible, train = rows
    chosen = protocol("audited", **choices)
    return preparation.prepare_responses(
        values, eligible, chosen, width=width, train=train, form=form, score=score
    )


def products(x):
    return np.asarray(x, np.float64) @ np.asarray(x, np.float64).T


@pytest.mark.parametrize(
    ("scaling", "scaler"), [("minmax", MinMaxScaler), ("zscore", StandardScaler)]
)
def test_scalers_are_scikit_learns_on_the_training_rows_of_each_fold(rows, scaling, scaler):
    values, eligible, train = rows
    prepared = prepare(rows, scaling=scaling)
    assert prepared.shape == (4, N, V)
    for fold, mask in zip(prepared, train, strict=True):
        expected = scaler().fit(values[mask]).transform(values) * eligible[:, None]
        np.testing.assert_allclose(fold, expected, atol=1e-5)


@pytest.mark.parametrize("n_features", [25, 90])  # fewer and more than rows
def test_pca_is_scikit_learns_on_the_training_rows_of_each_fold(rows, n_features):
    _, eligible, train = rows
    values = np.random.default_rng(1).standard_normal((N, n_features)).astype(np.float32)
    prepared = prepare((values, eligible, train), pca="model_width", scaling="zscore")
    assert prepared.shape == (4, N, 8)
    for fold, mask in zip(prepared, train, strict=True):
        scaled = StandardScaler().fit(values[mask]).transform(values)
        expected = PCA(8, svd_solver="full").fit(scaled[mask]).transform(scaled)
        expected *= eligible[:, None]
        np.testing.assert_allclose(fold, expected, atol=1e-3)  # signs included


@pytest.mark.parametrize("n_features", [25, 90])
def test_axes_without_variance_have_no_scores(rows, n_features):
    _, eligible, train = rows
    values = np.random.default_rng(1).standard_normal((N, n_features)).astype(np.float32)
    values[train[0]] = values[train[0]][:1] * np.arange(int(train[0].sum()))[:, None]  # rank one
    prepared = prepare((values, eligible, train[:1]), pca="model_width")[0]
    assert np.abs(prepared[:, 0]).max() > 0 and not prepared[:, 1:].any()


@pytest.mark.parametrize(
    "choices",
    [
        {"scaling": "minmax"},
        {"scaling": "zscore", "pca": "model_width"},
        {"n_voxels": 6},
        {"n_voxels": 6, "scaling": "zscore", "pca": "model_width"},
    ],
)
def test_test_rows_decide_nothing(rows, choices):
    values, eligible, train = rows

    def run(values):
        stimulus = Stimulus.from_words([f"w{i}" for i in range(N)])
        vectors = np.random.default_rng(2).standard_normal((N, 5)).astype(np.float32)
        place = np.stack(np.unravel_index(np.arange(V), (5, 5, 1)), axis=1)
        space = VoxelSpace.volume(place, (5, 5, 1))
        recording = WordResponses("s", values, stimulus, space=space)
        score = preparation.voxel_score(recording, vectors, np.arange(N), {})
        return prepare((values, eligible, train), score=score, **choices)

    before = run(values)
    for fold, mask in enumerate(train):
        changed = values.copy()
        changed[~mask] = 1e3 * np.random.default_rng(3).standard_normal((int((~mask).sum()), V))
        after = run(changed)[fold]
        np.testing.assert_allclose(products(after[mask]), products(before[fold][mask]), rtol=1e-4)
    everything = protocol("audited", fitted_on="all_rows", **choices)
    assert not preparation.fits_each_fold(everything)


def test_selection_keeps_the_best_voxels_in_their_order(rows):
    values, eligible, _ = rows
    wanted = np.array([3, 11, 12, 24])

    def score(mask):
        assert mask.dtype == bool and not mask[7]
        return np.isin(np.arange(V), wanted) * 1.0

    prepared = prepare(rows, n_voxels=4, score=score)
    assert prepared.shape == (4, N, 4)
    rms = np.sqrt(np.mean(values[rows[2][0]][:, wanted].astype(np.float64) ** 2))
    np.testing.assert_allclose(prepared[0], values[:, wanted] / rms * eligible[:, None], rtol=1e-5)
    with pytest.raises(ValueError, match="n_voxels=26 but the responses have 25"):
        prepare(rows, n_voxels=26, score=score)


@pytest.mark.parametrize("layout", ["C", "F"])
def test_reduction_in_blocks_keeps_all_inner_products(rows, layout, monkeypatch):
    monkeypatch.setattr(fields, "_BLOCK_BYTES", 4 * N * 3)  # three columns at a time
    values = np.asarray(np.random.default_rng(4).standard_normal((N, 70)), np.float32, order=layout)
    _, eligible, train = rows
    prepared = prepare((values, eligible, train), form="products")
    assert prepared.ndim == 2 and prepared.shape[1] <= N
    rms = np.sqrt(np.mean(values[eligible].astype(np.float64) ** 2))
    np.testing.assert_allclose(
        products(prepared), products(values / rms * eligible[:, None]), atol=1e-4
    )


def test_a_file_is_read_in_blocks_and_never_changed(rows, tmp_path):
    values, eligible, train = rows
    np.save(tmp_path / "values.npy", values)
    mapped = np.load(tmp_path / "values.npy", mmap_mode="r")
    for choices in ({}, {"scaling": "zscore"}, {"scaling": "minmax", "pca": "model_width"}):
        np.testing.assert_array_equal(
            prepare((mapped, eligible, train), **choices), prepare(rows, **choices)
        )


def test_responses_that_never_change_are_an_error(rows):
    values, eligible, train = rows
    with pytest.raises(ValueError, match="nothing to decode"):
        prepare((np.ones_like(values), eligible, train))
