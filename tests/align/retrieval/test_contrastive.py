"""Losses against loops over rows and against finite differences; training by what it must and must not do."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from brainalign_jax.align import procrustes, retrieval
from brainalign_jax.align.retrieval import contrastive, retrieval_losses
from brainalign_jax.align.retrieval.contrastive import Training

N, V, D = 12, 6, 5

rcsls = jax.jit(retrieval_losses.rcsls, static_argnames="k")
infonce = jax.jit(retrieval_losses.infonce)


def rcsls_by_loops(scores, mask, k):
    """Joulin et al. 2018, equation 6, with neighbours found by sorting."""
    rows = [i for i in range(len(scores)) if mask[i]]
    total = 0.0
    for i in rows:
        targets = sorted((scores[i, j] for j in rows), reverse=True)[:k]
        sources = sorted((scores[j, i] for j in rows), reverse=True)[:k]
        total += -2 * scores[i, i] + np.mean(targets) + np.mean(sources)
    return total / len(rows)


def infonce_by_loops(scores, mask):
    rows = [i for i in range(len(scores)) if mask[i]]
    total = 0.0
    for i in rows:
        total -= np.log(np.exp(scores[i, i]) / sum(np.exp(scores[i, j]) for j in rows)) / 2
        total -= np.log(np.exp(scores[i, i]) / sum(np.exp(scores[j, i]) for j in rows)) / 2
    return total / len(rows)


MASKS = {"all": np.ones(N), "some": (np.arange(N) % 4 != 1).astype(float)}


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
@pytest.mark.parametrize("k", [1, 4, N])
def test_rcsls_equals_a_loop(precision, rng, k, mask):
    """With k above the rows that are left, all of these are neighbours."""
    scores = rng.normal(size=(N, N))
    actual = rcsls(*precision.arrays(scores, mask), k=k)
    precision.close(actual, rcsls_by_loops(scores, mask, k))


@pytest.mark.parametrize("k", [1, 4])
def test_rcsls_with_equal_scores_at_the_border(precision, rng, k):
    scores = rng.integers(-1, 2, size=(N, N))  # three levels, many ties
    actual = rcsls(*precision.arrays(scores, MASKS["some"]), k=k)
    precision.close(actual, rcsls_by_loops(scores, MASKS["some"], k))


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
def test_infonce_equals_a_loop(precision, rng, mask):
    scores = 5 * rng.normal(size=(N, N))
    actual = infonce(*precision.arrays(scores, mask))
    precision.close(actual, infonce_by_loops(scores, mask))


def test_rcsls_is_minus_the_csls_of_the_true_pairs(double, rng):
    source, target = rng.normal(size=(2, N, D))
    cosines = retrieval.cosine(*double.arrays(source, target))
    csls = retrieval.csls_from_cosine(cosines, k=4)
    double.close(rcsls(cosines, jnp.ones(N), k=4), -jnp.diagonal(csls).mean())


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def objective_by_loops(weight, source, target, mask, training):
    """The loss of a map, from raw rows."""
    kept = mask > 0
    x, y = unit(source - source[kept].mean(axis=0)), unit(target - target[kept].mean(axis=0))
    predicted = x @ weight
    if training.loss == "rcsls":
        return rcsls_by_loops(predicted @ y.T, mask, training.k)
    return infonce_by_loops(unit(predicted) @ y.T / training.temperature, mask)


# Few programs for many cases: compilation is most of the time that these tests take.
TRAININGS = {
    "rcsls": Training(loss="rcsls", k=5, n_steps=40, patience=6, learning_rate=0.3),
    "infonce": Training(temperature=0.1, n_steps=40, patience=6, learning_rate=1.0),
}
both_losses = pytest.mark.parametrize("training", TRAININGS.values(), ids=TRAININGS)
init = jax.jit(contrastive.init, static_argnames="training")
advance = jax.jit(contrastive.advance, static_argnames="training")
fit = jax.jit(contrastive.fit, static_argnames="training")


def planted(rng, n=60, v=8, d=8, noise=0.6):
    """(source, target, training mask, inner split, a start): the source is a noisy map of the target."""
    latent = rng.normal(size=(n, d))
    source = latent @ rng.normal(size=(d, v)) + noise * rng.normal(size=(n, v))
    weights = (np.arange(n) < 45).astype(float)
    validation = ((np.arange(n) >= 30) & (np.arange(n) < 45)).astype(float)
    return source, latent, weights, validation, 0.3 * rng.normal(size=(v, d))


def mean_rank(map, source, target, rows):
    """Mean rank of the rows' own targets among all targets."""
    predicted = contrastive.apply(map, source) - map.target_mean
    scores = retrieval.cosine(predicted, target - map.target_mean)
    return float(np.asarray(retrieval.ranks(scores, jnp.arange(len(target))))[rows].mean())


@both_losses
def test_the_first_step_descends_the_gradient_by_finite_differences(double, rng, training):
    """Nesterov's first update is minus the rate times the gradient times (1 + momentum)."""
    source, target, weights, validation, start = planted(rng)
    arrays = double.arrays(source, target, weights, validation)
    state = init(*arrays, double.array(start), training=training)
    after = advance(state, *arrays, training=training, n_steps=1)
    first, train = np.asarray(state.weight), weights - validation
    step = 1e-5
    gradient = np.zeros((8, 8))
    for index in list(np.ndindex(8, 8))[::5]:
        change = np.zeros((8, 8))
        change[index] = step
        up, down = (
            objective_by_loops(first + c, source, target, train, training)
            for c in (change, -change)
        )
        gradient[index] = (up - down) / (2 * step)
    actual = (first - np.asarray(after.weight)) / training.learning_rate / (1 + training.momentum)
    asked = gradient != 0
    assert asked.sum() == 13
    np.testing.assert_allclose(actual[asked], gradient[asked], atol=1e-7)


@both_losses
def test_gradient_is_finite_at_rows_without_direction(double, rng, training):
    source, target, weights, validation, start = planted(rng)
    source[0] = source[weights - validation > 0][1:].mean(axis=0)  # the centre
    for first in (start, np.zeros((8, 8))):
        arrays = double.arrays(source, target, weights, validation, first)
        fitted = fit(*arrays, training=training)
        assert np.isfinite(fitted.weight).all() and np.isfinite(fitted.history[0])


@both_losses
def test_a_planted_map_is_found_from_a_bad_start(double, rng, training):
    """Held-out rows, which neither taught nor stopped the training, rank far better than at the start."""
    arrays = double.arrays(*planted(rng))
    fitted = fit(*arrays, training=training)
    held_out = np.asarray(arrays[2]) == 0
    before = mean_rank(fitted._replace(weight=arrays[4]), *arrays[:2], held_out)
    after = mean_rank(fitted, *arrays[:2], held_out)
    assert before > 20  # of 60
    assert after < 8
    assert int(fitted.best_step) > 0


@pytest.mark.parametrize("criterion", ["rank", "loss"])
def test_early_stopping_keeps_the_best_step(double, rng, criterion):
    """The history is that of maps trained for so many steps; what comes after the best one is forgotten."""
    training = dataclasses.replace(TRAININGS["infonce"], criterion=criterion)
    source, target, weights, validation, start = planted(rng, noise=2.0)
    arrays = double.arrays(source, target, weights, validation, start)
    fitted = fit(*arrays, training=training)
    history, best = np.asarray(fitted.history), int(fitted.best_step)
    seen = np.isfinite(history)
    assert best == np.nanargmin(history)
    assert (
        0 < best < training.n_steps - training.patience
    )  # it stopped early, having learnt something
    assert seen.sum() == best + training.patience + 1 and seen[: seen.sum()].all()
    if criterion == "rank":
        stopped = init(*arrays, training=training, stop=jnp.asarray(best, jnp.int32))
        stopped = advance(stopped, *arrays[:4], training=training, n_steps=41)
        double.close(stopped.best_weight, fitted.weight)
        known = weights > 0
        subset = [array[known] for array in arrays[:2]]
        assert history[best] == pytest.approx(mean_rank(fitted, *subset, validation[known] > 0))
    else:
        x = unit(source - np.asarray(fitted.source_mean))
        y = unit(target - np.asarray(fitted.target_mean))
        scores = unit(x @ np.asarray(fitted.weight)) @ y.T / training.temperature
        assert history[best] == pytest.approx(infonce_by_loops(scores, validation))


def test_without_validation_rows_the_last_map_is_kept(double, rng):
    source, target, weights, _, start = planted(rng)
    arrays = double.arrays(source, target, weights, np.zeros(60), start)
    fitted = fit(*arrays, training=TRAININGS["infonce"])
    assert int(fitted.best_step) == 40
    assert np.isnan(fitted.history).all()


def test_no_step_gives_the_initial_map_but_for_its_length(double, rng):
    source, target, weights, validation, _ = planted(rng)
    start = procrustes.fit(*double.arrays(source, target, weights * (1 - validation)))
    arrays = double.arrays(source, target, weights, validation)
    training = TRAININGS["infonce"]
    state = init(*arrays, start.rotation, training=training, stop=jnp.asarray(0, jnp.int32))
    state = advance(state, *arrays, training=training, n_steps=5)
    map = contrastive.result(state, *arrays)
    assert int(state.step) == 1 and int(map.best_step) == 0
    ratio = np.asarray(map.weight / start.rotation)
    np.testing.assert_allclose(ratio, ratio[0, 0])
    double.close(map.source_mean, start.source_mean)
    lengths = np.linalg.norm(unit(source - np.asarray(map.source_mean)) @ map.weight, axis=1)
    assert np.mean(lengths[:30] ** 2) == pytest.approx(1)


@both_losses
def test_left_out_rows_might_as_well_not_be_there(double, rng, training):
    """Whatever they hold, NaN included, and a row of both masks is a validation row."""
    source, target, weights, validation, start = planted(rng)
    weights = weights * (np.arange(60) % 7 != 3)
    validation = validation * weights
    kept = (weights + validation) > 0
    dropped = fit(
        *double.arrays(source[kept], target[kept], weights[kept] - validation[kept]),
        *double.arrays(validation[kept], start),
        training=training,
    )
    source[~kept], target[~kept] = np.nan, 1e6
    masked = fit(*double.arrays(source, target, weights, validation, start), training=training)
    assert int(masked.best_step) == int(dropped.best_step) > 0
    np.testing.assert_allclose(masked.weight, dropped.weight, rtol=1e-6)
    np.testing.assert_allclose(masked.source_mean, dropped.source_mean)
    np.testing.assert_allclose(masked.history, dropped.history)  # NaN at the same places


def test_validation_rows_never_teach(double, rng):
    """Other targets for them change which step is kept, not the maps on the way."""
    source, target, weights, validation, start = planted(rng)
    training = TRAININGS["infonce"]
    results = []
    for _ in range(2):
        arrays = double.arrays(source, target, weights, validation)
        state = init(*arrays, double.array(start), training=training)
        results.append(advance(state, *arrays, training=training, n_steps=3))
        target = np.where(validation[:, None] > 0, rng.normal(size=target.shape), target)
    np.testing.assert_array_equal(results[0].weight, results[1].weight)
    assert not np.array_equal(results[0].history, results[1].history)


def test_fits_are_the_same_batched(double, rng):
    """Over layers and folds at once, which stop at different steps."""
    source, target, weights, _, start = planted(rng)
    folds = double.array([weights * (np.arange(60) % 3 == b) for b in range(2)])
    layers = double.array([target, target[:, ::-1] ** 3])
    source, weights, start = double.arrays(source, weights, start)
    training = TRAININGS["infonce"]

    def kernel(layer, fold):
        return contrastive.fit(source, layer, weights, fold, start, training=training)

    batched = jax.jit(jax.vmap(jax.vmap(kernel, (None, 0)), (0, None)))(layers, folds)
    assert len(set(np.asarray(batched.best_step).ravel().tolist())) > 1
    for place in np.ndindex(2, 2):
        alone = fit(source, layers[place[0]], weights, folds[place[1]], start, training=training)
        jax.tree.map(
            lambda a, b, at=place: np.testing.assert_allclose(a[at], b, rtol=1e-7), batched, alone
        )


def test_losses_are_the_same_batched(double, rng, same_when_batched):
    scores, masks = rng.normal(size=(2, N, N)), np.stack(list(MASKS.values()))
    arrays = double.arrays(scores, masks)
    of_three = functools.partial(retrieval_losses.rcsls, k=3)
    same_when_batched(of_three, *arrays, in_axes=(0, 0))
    same_when_batched(retrieval_losses.infonce, *arrays, in_axes=(0, 0))


def test_pieces_of_a_training_give_the_whole(double, rng):
    *arrays, start = double.arrays(*planted(rng))
    training = TRAININGS["infonce"]
    whole = fit(*arrays, start, training=training)
    state = init(*arrays, start, training=training)
    for _ in range(5):
        state = advance(state, *arrays, training=training, n_steps=9)
    pieces = contrastive.result(state, *arrays)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9), pieces, whole)
    again = advance(state, *arrays, training=training, n_steps=9)  # finished: nothing changes
    jax.tree.map(np.testing.assert_array_equal, again, state)


def test_the_spectral_constraint_clips_singular_values(double, rng):
    arrays = double.arrays(*planted(rng))
    constrained = dataclasses.replace(TRAININGS["rcsls"], constraint="spectral")
    fitted, free = (fit(*arrays, training=t) for t in (constrained, TRAININGS["rcsls"]))
    assert int(fitted.best_step) > 0
    assert np.linalg.norm(fitted.weight, 2) <= 1 + 1e-9
    assert np.linalg.norm(free.weight, 2) > 1


def test_two_words_are_enough(double):
    start = np.array([[0.5, 1.0], [-1.0, 0.5]])
    source, target = np.eye(2), np.eye(2)[::-1]  # the start maps each word closer to the other
    arrays = double.arrays(source, target, np.ones(2), np.zeros(2), start)
    fitted = fit(*arrays, training=Training(loss="rcsls", k=1, n_steps=20))
    assert mean_rank(fitted._replace(weight=arrays[4]), *arrays[:2], np.array([0, 1])) == 2
    assert mean_rank(fitted, *arrays[:2], np.array([0, 1])) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"loss": "triplet"}, "rcsls, infonce"),
        ({"optimizer": "lion"}, "sgd, adam"),
        ({"temperature": 0.0}, "temperature=0.0"),
        ({"learning_rate": -1.0}, "learning_rate=-1.0"),
        ({"k": 0}, "k=0"),
        ({"patience": 0}, "patience=0"),
        ({"momentum": 1.0}, "momentum=1.0"),
    ],
)
def test_settings_that_make_no_sense_are_errors(change, message):
    with pytest.raises(ValueError, match=message):
        Training(**change)


def test_shapes_that_do_not_fit_are_errors(double, rng):
    source, target = double.arrays(rng.normal(size=(N, V)), rng.normal(size=(N, D)))
    ones, start = jnp.ones(N), jnp.zeros((V, D))
    with pytest.raises(ValueError, match="k=13 neighbours has only 12 rows"):
        contrastive.fit(source, target, ones, ones, start, training=Training(loss="rcsls", k=13))
    with pytest.raises(ValueError, match=r"\(5, 6\) do not fit"):
        contrastive.fit(source, target, ones, ones, start.T, training=Training())
    with pytest.raises(ValueError, match=r"target \(11, 5\)"):
        contrastive.fit(source, target[1:], ones, ones, start, training=Training())


def test_float32_stays_float32(keeps_float32, rng):
    others = Training(loss="rcsls", constraint="spectral"), Training(optimizer="adam")
    for training in (*TRAININGS.values(), *others):
        keeps_float32(lambda *a, t=training: contrastive.fit(*a, training=t), *planted(rng))
