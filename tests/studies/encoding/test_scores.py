import numpy as np
import oracles
import pytest
from scipy.signal import lfilter

from brainalign_jax.studies.encoding import scores
from brainalign_jax.studies.encoding.scores import Chunks
from brainalign_jax.studies.regions import scores as region_scores
from brainalign_jax.studies.regions.encoding import Encoding, nuisance_features
from brainalign_jax.studies.regions.recordings import alice_regions
from brainalign_jax.study.score import volumes

N, V = 100, 7
ALPHAS = (0.3, 3.0, 30.0)


def noise(rng, *shape):
    return lfilter([1], [1, -0.5], rng.standard_normal((shape[0] + 50, *shape[1:])), axis=0)[50:]


@pytest.fixture(scope="module")
def planted():
    """(layers, nuisances, recording): layer 1 in voxels 0 to 2, layer 2 in 3 and 4, nuisances in 2 to 5."""
    rng = np.random.default_rng(3)
    layers = [noise(rng, N, width) for width in (5, 5, 110)]
    z = noise(rng, N, 2) + 3
    layers[1] = layers[1] + z[:, :1]
    y = 1.5 * noise(rng, N, V)
    y[:, :3] += layers[1] @ rng.standard_normal((5, 3)) * 0.8
    y[:, 3:5] += layers[2] @ rng.standard_normal((110, 2)) * 0.2
    y[:, 2:6] += z @ rng.standard_normal((2, 4)) * 0.5
    return layers, z, y


def folds_of(kind):
    times, run = 2.0 * np.arange(N), np.repeat([1, 2, 3], [30, 38, 32])
    if kind == "runs":
        return volumes.run_folds(run, n_folds=6, n_inner=5), run, times
    return volumes.time_folds(times, run, n_folds=3, n_inner=3, purge=4.0), run, times


def slow_folds(folds):
    for fold, train in enumerate(folds.train):
        inner = [
            (
                folds.inner_train[fold, k],
                folds.inner_rows[fold, k][folds.inner_weights[fold, k] > 0],
            )
            for k in range(len(folds.inner_train[fold]))
        ]
        yield train, folds.test_rows[fold][folds.test_weights[fold] > 0], inner


@pytest.mark.parametrize(("kind", "chunks"), [("runs", Chunks(4, 2)), ("volumes", Chunks(8, 3))])
def test_scores_are_those_of_a_slow_loop_over_voxels(planted, kind, chunks):
    layers, z, y = planted
    folds, run, times = folds_of(kind)
    shifts = volumes.shifted_rows(run, times, n_shifts=2, least=10.0, random_state=1)
    told = []
    (voxel_scores,) = scores.score([y], layers, z, folds, shifts, ALPHAS, chunks, told.append)
    assert sum(told) == pytest.approx(1)
    design = np.column_stack([np.ones(N), z])
    fitted = design @ np.linalg.lstsq(design, y, rcond=None)[0]
    fitted = (fitted - fitted.mean(axis=0)) * oracles.kept_share(y, z, shifts)
    for shift, rows in enumerate(shifts):
        recorded = fitted + (y - fitted)[rows]  # in which the mean stays, too
        for voxel in range(V) if shift == 0 else (1, 6):
            target = recorded[:, voxel]
            parts = oracles.encoded(layers, z, target, list(slow_folds(folds)), ALPHAS)
            r, r_nuisances, squares = [], [], np.zeros(3)
            for (both, alone, layer, _), (_, test, _) in zip(parts, slow_folds(folds), strict=True):
                true = target[test]
                r.append(np.corrcoef(both, true)[0, 1])
                r_nuisances.append(np.corrcoef(alone, true)[0, 1])
                squares += [np.var(x) * len(test) for x in (true - both, true - alone, true)]
                if shift == 0:
                    assert voxel_scores.layers[len(r) - 1, voxel] == layer
            added = np.mean(r) - np.mean(r_nuisances)
            assert voxel_scores.added[shift, voxel] == pytest.approx(added, abs=1e-4)
            if shift == 0:
                assert voxel_scores.r[voxel] == pytest.approx(np.mean(r), abs=1e-4)
                assert voxel_scores.r_nuisances[voxel] == pytest.approx(
                    np.mean(r_nuisances), abs=1e-4
                )
                assert voxel_scores.r2[voxel] == pytest.approx(
                    1 - squares[0] / squares[2], abs=1e-4
                )
                alone = 1 - squares[1] / squares[2]
                assert voxel_scores.r2_nuisances[voxel] == pytest.approx(alone, abs=1e-4)


def test_regions_with_nuisances_hardly_penalised_score_alike(planted):
    """Regions penalise nuisances and choose layer and penalty over people: with neither, it is the same."""
    layers, z, y = planted
    folds, run, times = folds_of("volumes")
    shifts = volumes.shifted_rows(run, times, n_shifts=3, least=0.0)
    (voxel_scores,) = scores.score([y], layers, z, folds, shifts, ALPHAS, Chunks(8, 4))
    kept = region_scores.shifted_residuals(y[:, None], z, shifts)
    both = region_scores.prepare(layers, z, folds, (1e-9,), (*ALPHAS, np.inf))
    joint = region_scores.score(both, folds, kept)
    alone = region_scores.score(
        region_scores.prepare([], z, folds, (1e-9,), (np.inf,)), folds, kept
    )
    want = (joint.correlation - alone.correlation)[:, 0]
    np.testing.assert_allclose(voxel_scores.added, want, atol=2e-4)
    np.testing.assert_allclose(voxel_scores.r2, joint.r2[0, 0], atol=2e-4)


def test_people_and_chunks_do_not_depend_on_one_another(planted):
    layers, z, y = planted
    folds, run, times = folds_of("runs")
    shifts = volumes.shifted_rows(run, times, n_shifts=4, least=0.0)
    still = np.column_stack([np.array([0.0, 1.0, 7.0])[run - 1], y[:, 1]])
    first, second, third = scores.score(
        [y, y[:, :5] * 1e3 + 7, still], layers, z, folds, shifts, ALPHAS, Chunks(3, 2)
    )
    np.testing.assert_allclose(second.added, first.added[:, :5], atol=1e-5)
    assert (second.layers == first.layers[:, :5]).all()
    # What changes between runs only has no r2.
    assert np.isnan([third.r2, third.r2_nuisances]).tolist() == [[True, False]] * 2
    assert third.r[0] == 0 and third.added[0, 0] == 0 and third.r2[1] == pytest.approx(first.r2[1])
    none = scores.score([y], layers, z[:, :0], folds, shifts[:1], ALPHAS, Chunks(8, 1))[0]
    assert (none.r_nuisances == 0).all() and none.r[0] > 0.3


def test_whole_runs_are_left_out_in_groups():
    run = np.repeat(np.arange(7), [12, 15, 12, 20, 12, 11, 13])
    folds = volumes.run_folds(run, n_folds=3, n_inner=4)
    assert folds.train.shape == (3, len(run)) and folds.inner_train.shape == (3, 4, len(run))
    for fold, train in enumerate(folds.train):
        tested = folds.test_rows[fold][folds.test_weights[fold] > 0]
        assert sorted(np.r_[tested, np.flatnonzero(train)]) == list(range(len(run)))
        assert not set(run[tested]) & set(run[train])
        held = [
            rows[weights > 0]
            for rows, weights in zip(folds.inner_rows[fold], folds.inner_weights[fold], strict=True)
        ]
        assert sorted(np.concatenate(held)) == np.flatnonzero(train).tolist()
        for own, rows in zip(folds.inner_train[fold], held, strict=True):
            assert set(run[own]) | set(run[rows]) == set(run[train])
            assert not set(run[own]) & set(run[rows])
    with pytest.raises(ValueError, match="2 runs cannot be left out"):
        volumes.run_folds(np.repeat([0, 1], 30), n_folds=3, n_inner=3)
    with pytest.raises(ValueError, match=r"3 runs in 2 folds leave one run to train on.*n_folds=3"):
        volumes.run_folds(np.repeat([0, 1, 2], 30), n_folds=2, n_inner=3)
    assert len(volumes.run_folds(np.repeat([0, 1, 2, 3], 30), n_folds=2, n_inner=3).train) == 2
    with pytest.raises(ValueError, match="leave a fold of 8: use fewer folds or longer runs"):
        volumes.run_folds(np.repeat([0, 1, 2], [30, 8, 30]), n_folds=3, n_inner=3)


def test_nuisances_that_a_fold_does_not_tell_are_counted():
    run = np.repeat([0, 1, 2], 20)
    folds = volumes.run_folds(run, n_folds=3, n_inner=2)
    rng = np.random.default_rng(1)
    position = np.column_stack([np.arange(60), np.tile(np.arange(20), 3) + 1e-5 * rng.random(60)])
    named = {"rate": rng.standard_normal((60, 1)), "position": position}
    # Two inner training sets of each of three folds have one run.
    assert scores.unidentified(named, folds) == {"position": 6}
    assert scores.unidentified({}, folds) == {}


def test_the_ceiling_is_the_others_mean_within_blocks():
    rng = np.random.default_rng(0)
    folds, _, _ = folds_of("volumes")
    common = noise(rng, N, 3)
    people = common[:, None] + noise(rng, N, 4, 3)
    others = people[:, 1:].mean(axis=1)
    ceiling = volumes.ceiling(people[:, 0], others, folds)
    want = [
        np.corrcoef(people[rows][:, 0, 1], others[rows][:, 1])[0, 1]
        for rows in np.array_split(np.arange(N), 3)
    ]
    assert ceiling[1] == pytest.approx(np.mean(want)) and ceiling.shape == (3,)
    assert volumes.ceiling(people[:, 0] * 0, others, folds).tolist() == [0, 0, 0]


def test_what_nuisances_reach_of_a_model():
    joint = np.array([0.30, 0.30, 0.10, 0.2, 0.1])
    nuisances = np.array([0.10, -0.2, 0.12, 0.0, 0.1])
    model = np.array([0.25, 0.30, 0.06, -0.1, 0.2])
    reached = scores.reached_by_nuisances(joint, nuisances, model)
    np.testing.assert_allclose(reached, [0.2, 0.0, 1.0, np.nan, 0.5])
    layers = np.array([[0, -1, 2], [1, -1, 2], [1, 0, 0]])
    assert scores.chosen_layer(layers).tolist() == [1, -1, 2]


def test_on_alice_the_unique_r_of_regions_is_that_of_voxels(shared_data):
    """One person's regions, the release's word rate and sound power beside words' length and random vectors.

    With a penalty of the nuisances near zero both agree but for rounding; the usual penalties, and a choice
    over all people, are what tells the two studies apart.
    """
    recordings = alice_regions(shared_data / "alice", radii=("10mm",), subjects=["s18"])
    made = nuisance_features(recordings, Encoding())
    z = np.concatenate([made["rate"], made["sound_power"]], axis=1)
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((2, len(recordings.stimulus), 4))
    vectors[1, :, 0] = [len(word) for word in recordings.stimulus.words]
    where = recordings.stimulus, recordings.times, recordings.run
    layers = [volumes.at_volumes(*where, layer, Encoding()) for layer in vectors]
    folds = volumes.time_folds(recordings.times, recordings.run, n_folds=3, n_inner=3, purge=20.0)
    shifts = volumes.shifted_rows(recordings.run, recordings.times, n_shifts=3, least=0.0)
    bold = recordings.bold
    (voxel_scores,) = scores.score([bold[:, 0]], layers, z, folds, shifts, ALPHAS, Chunks(8, 4))
    kept = region_scores.shifted_residuals(bold, z, shifts)

    def unique(lambdas):
        both = region_scores.prepare(layers, z, folds, lambdas, (*ALPHAS, np.inf))
        alone = region_scores.prepare([], z, folds, lambdas, (np.inf,))
        joint, nuisances = (region_scores.score(part, folds, kept) for part in (both, alone))
        return (joint.correlation - nuisances.correlation)[:, 0]

    np.testing.assert_allclose(voxel_scores.added, unique((1e-9,)), atol=5e-4)
    assert np.abs(voxel_scores.added - unique((0.1, 1.0, 10.0))).mean() < 0.1
