"""Bootstrap intervals against loops that gather, against SciPy, and their coverage."""

import jax
import numpy as np
import pytest
from scipy.stats import bootstrap as scipy_bootstrap

from brainalign_jax.align.stats import bootstrap

hierarchical = jax.jit(bootstrap.hierarchical, static_argnames=("confidence", "method"))


def study(rng, n_subjects=7, n_items=30):
    """Hits [S, I] that differ between subjects and items, and a mask with missing cells."""
    chance = 0.3 + 0.2 * rng.random((n_subjects, 1)) + 0.3 * rng.random(n_items)
    return (rng.random((n_subjects, n_items)) < chance).astype(float), rng.random(
        (n_subjects, n_items)
    ) < 0.9


@pytest.mark.parametrize("over", ["subjects", "items", "both"])
def test_weighted_means_equal_gathered_ones(precision, rng, over):
    scores, mask = study(rng)
    spoilt = np.where(mask, scores, np.nan)  # what is masked may hold anything
    counts = bootstrap.draw_hierarchical(*scores.shape, 40, over=over, random_state=1)
    expected = []
    for subjects, items in zip(*counts, strict=True):
        rows = np.repeat(np.arange(scores.shape[0]), subjects.astype(int))
        columns = np.repeat(np.arange(scores.shape[1]), items.astype(int))
        picked = np.ma.array(scores, mask=~mask)[rows][:, columns]
        expected.append(picked.mean(axis=1).mean())
    interval = hierarchical(*precision.arrays(spoilt, mask, *counts), confidence=0.9)
    own = np.ma.array(scores, mask=~mask).mean(axis=1).mean()
    precision.close(interval.estimate, own)
    precision.close(interval.lower, np.quantile(expected, 0.05))
    precision.close(interval.upper, np.quantile(expected, 0.95))
    precision.close(interval.standard_error, np.std(expected, ddof=1))


def test_bca_equals_scipy_on_the_same_resamples(double, rng):
    """One sample, skewed, so that bias and acceleration matter."""
    x = rng.exponential(size=25) ** 2
    for confidence in (0.9, 0.99):
        known = scipy_bootstrap(
            (x,), np.mean, n_resamples=999, confidence_level=confidence, random_state=2
        )
        left_out = np.array([np.delete(x, i).mean() for i in range(25)])
        interval = bootstrap.bca(
            double.array(known.bootstrap_distribution),
            double.array(x.mean()),
            [double.array(left_out)],
            confidence=confidence,
        )
        low, high = known.confidence_interval
        np.testing.assert_allclose([interval.lower, interval.upper], [low, high], rtol=1e-8)
        assert float(interval.standard_error) == pytest.approx(known.standard_error)


@pytest.mark.parametrize("over", ["subjects", "items"])
def test_bca_of_one_way_is_that_of_the_means(double, rng, over):
    """Items (or subjects) that are not resampled must not add to the acceleration."""
    scores = rng.exponential(size=(9, 12)) ** 2
    counts = bootstrap.draw_hierarchical(9, 12, 500, over=over, random_state=3)
    interval = hierarchical(*double.arrays(scores, np.ones((9, 12)), *counts), method="bca")
    means = scores.mean(axis=1 if over == "subjects" else 0)
    used = counts[0 if over == "subjects" else 1]
    expected = bootstrap.bca(
        double.array(used @ means / len(means)),
        double.array(means.mean()),
        [double.array((means.sum() - means) / (len(means) - 1))],
    )
    double.close(np.stack(interval), np.stack(expected), factor=10)


def test_constant_scores_have_an_interval_of_no_width(precision):
    counts = bootstrap.draw_hierarchical(4, 6, 50)
    for method in ("percentile", "bca"):
        interval = hierarchical(
            *precision.arrays(np.full((4, 6), 0.25), np.ones((4, 6)), *counts), method=method
        )
        precision.close(np.stack(interval), [0.25, 0.25, 0.25, 0])


def test_layers_share_the_resamples(double, rng):
    layers = np.stack([study(rng)[0] for _ in range(3)])
    mask = np.ones(layers.shape[1:])
    counts = double.arrays(*bootstrap.draw_hierarchical(*mask.shape, 30))
    batched = jax.vmap(lambda x: bootstrap.hierarchical(x, mask, *counts))(double.array(layers))
    for index, layer in enumerate(layers):
        alone = hierarchical(double.array(layer), mask, *counts)
        double.close(np.stack(batched)[:, index], np.stack(alone))


def test_counts_are_seeded_and_independent():
    subjects, items = bootstrap.draw_hierarchical(8, 8, 400, random_state=5)
    again = bootstrap.draw_hierarchical(8, 8, 400, random_state=5)
    np.testing.assert_array_equal(subjects, again[0])
    assert (subjects.sum(axis=1) == 8).all() and (items.sum(axis=1) == 8).all()
    assert (subjects != items).mean() > 0.5
    only = bootstrap.draw_hierarchical(8, 8, 400, over="items", random_state=5)
    assert (only[0] == 1).all()
    np.testing.assert_array_equal(only[1], items)


def coverage(over, n_studies=200, n_subjects=20, n_items=30):
    """Share of 95 % intervals that hold the true mean, of subjects, items and noise of equal size."""
    rng = np.random.default_rng(11)
    scores = (
        0.5 * rng.standard_normal((n_studies, n_subjects, 1))
        + 0.5 * rng.standard_normal((n_studies, 1, n_items))
        + rng.standard_normal((n_studies, n_subjects, n_items))
    ).astype(np.float32)
    counts = bootstrap.draw_hierarchical(n_subjects, n_items, 500, over=over)
    mask = np.ones((n_subjects, n_items), np.float32)
    intervals = jax.jit(jax.vmap(lambda x: bootstrap.hierarchical(x, mask, *counts)))(scores)
    return np.mean((np.asarray(intervals.lower) < 0) & (np.asarray(intervals.upper) > 0))


def test_only_the_crossed_bootstrap_covers_other_people_and_other_words():
    assert 0.91 <= coverage("both") <= 0.99
    assert coverage("items") < 0.85
    assert coverage("subjects") < 0.88


def test_bad_input_is_refused(keeps_float32, rng):
    scores, mask = study(rng)
    counts = bootstrap.draw_hierarchical(*scores.shape, 5)
    with pytest.raises(ValueError, match="words"):
        bootstrap.draw_hierarchical(4, 4, 5, over="words")
    with pytest.raises(ValueError, match="1 unit"):
        bootstrap.draw_hierarchical(1, 4, 5)
    with pytest.raises(ValueError, match="disagree"):
        bootstrap.hierarchical(scores.T, mask, *counts)
    with pytest.raises(ValueError, match="basic"):
        bootstrap.hierarchical(scores, mask, *counts, method="basic")
    keeps_float32(lambda *x: bootstrap.hierarchical(*x, method="bca"), scores, mask, *counts)
