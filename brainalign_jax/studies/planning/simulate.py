"""Simulated studies of so many people and words, each tested by the package's own tests."""

from __future__ import annotations

import functools

import jax
import numpy as np

from brainalign_jax.align.stats import bootstrap, scaling_slope
from brainalign_jax.studies.ablation.table import fall_p
from brainalign_jax.studies.planning.components import Components
from brainalign_jax.studies.planning.power import DRAWS, INTERVAL, LEAST_PEOPLE, GroupTest
from brainalign_jax.study.evidence.chance import permutation_p

_FLIPS = 999  # of a simulated study, at most
_BLOCKS = 100  # of words, at most, whose means are simulated
_BOOTSTRAPS = 400


def simulated_p(
    components: Components,
    n_people: int,
    n_words: int,
    test: GroupTest,
    n_studies: int,
    *,
    seed: int = 0,
) -> np.ndarray:
    """p [n_studies] of studies in which everything varies normally as the components say.

    Of intervals 0 where the lower bound is above zero and 1 elsewhere; two-sided p of an effect in the wrong
    direction are 1.
    """
    rng = np.random.default_rng((seed, n_people, n_words))
    if test.kind == DRAWS:
        return _by_draws(components, n_people, n_words, test, n_studies, rng)
    if test.kind == INTERVAL:
        blocks = min(n_words, _BLOCKS)
        values = _values(components, n_people, n_words, blocks, n_studies, rng)
        counts = bootstrap.draw_hierarchical(n_people, blocks, _BOOTSTRAPS, random_state=seed)
        lower = _lower_bounds(np.float32(values), *counts, confidence=test.confidence)
        return 1.0 - (np.asarray(lower) > 0)
    if test.sides == 2:
        values = _values(components, n_people, n_words, 1, n_studies, rng)[..., 0]
        signs = scaling_slope.draw_signs(n_people, test.n_flips, random_state=seed)
        counts = bootstrap.draw_counts(n_people, 2, random_state=seed)
        p = np.asarray(_sign_flips(np.float32(values), counts, signs))
        return np.where(values.mean(axis=1) > 0, p, 1.0)
    over_words = test.words_too and n_people < LEAST_PEOPLE
    blocks = min(n_words, _BLOCKS) if over_words else 1
    n_flips = min(test.n_flips, _FLIPS)
    p = np.empty(n_studies)
    others = components._replace(effect=0.0)
    for study in range(n_studies):
        values = _values(components, n_people, n_words, blocks, 1, rng)
        if test.n_tests > 1:
            without = _values(others, n_people, n_words, blocks, test.n_tests - 1, rng)
            values = np.concatenate([values, without])
        p[study] = fall_p(-np.moveaxis(values, 0, 1), n_flips, seed + study)[1][0]
    return p


def _values(components, n_people, n_words, blocks, n_studies, rng) -> np.ndarray:
    """Values [n_studies, S, blocks]: means of people's words in equal blocks."""
    length = n_words / blocks
    people = rng.standard_normal((n_studies, n_people, 1)) * np.sqrt(components.between)
    words = rng.standard_normal((n_studies, 1, blocks)) * np.sqrt(components.words / length)
    noise = rng.standard_normal((n_studies, n_people, blocks))
    return components.effect + people + words + noise * np.sqrt(components.noise / length)


def _by_draws(components, n_people, n_words, test, n_studies, rng) -> np.ndarray:
    """The observed mean against draws of which the best layer is as high as in the pilot's draws."""
    per_word = components.words + components.noise / n_people
    spread = np.sqrt(components.between / n_people + per_word / n_words)
    observed = components.effect + spread * rng.standard_normal(n_studies)
    null = np.sqrt((test.null_words + test.null_noise / n_people) / n_words)
    highest = rng.choice(test.highest, (len(test.highest), n_studies))
    return permutation_p(observed, null * highest)


@functools.partial(jax.jit, static_argnames=("confidence",))
def _lower_bounds(values, people, items, *, confidence):
    def lower(study):
        mask = jax.numpy.ones_like(study)
        return bootstrap.hierarchical(study, mask, people, items, confidence=confidence).lower

    return jax.lax.map(lower, values)


@jax.jit
def _sign_flips(values, counts, signs):
    test = jax.vmap(scaling_slope.slope_test, (0, None, None))
    return test(values, counts, signs).p_sign_flip
