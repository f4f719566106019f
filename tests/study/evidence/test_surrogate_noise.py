"""Surrogate recordings run by run."""

import numpy as np
import pytest

from brainalign_jax.study.evidence import surrogate_noise

N = 120
RUN = np.repeat([3, 1], [70, 50])
VALID = np.arange(N) % 17 != 5


def smooth_recording(seed=0):
    rng = np.random.default_rng(seed)
    values = np.cumsum(rng.standard_normal((N, 4)), axis=0) * 0.2 + rng.standard_normal((N, 4))
    return np.where(VALID[:, None], values, 0)


def make(values, **options):
    return surrogate_noise.surrogate_values(values, RUN, VALID, **options)


@pytest.mark.parametrize("kind", surrogate_noise.KINDS)
def test_a_run_is_made_of_itself_alone(kind):
    values = smooth_recording()
    noise = make(values, kind=kind, random_state=4)
    assert noise.dtype == np.float32 and not noise[~VALID].any()
    other = values.copy()
    other[RUN == 1] *= -7
    again = make(other, kind=kind, random_state=4)
    np.testing.assert_array_equal(again[RUN == 3], noise[RUN == 3])
    assert not np.allclose(again[RUN == 1], noise[RUN == 1])
    assert not np.allclose(make(values, kind=kind, random_state=5), noise, atol=1e-3)
    first, second = noise[RUN == 3][:30], noise[RUN == 1][:30]
    assert (
        abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.9
    )  # runs have draws of their own


def test_phases_keep_the_covariance_of_each_run():
    values = smooth_recording()
    noise = make(values, kind="phase")
    for run in (1, 3):
        rows = (run == RUN) & VALID
        np.testing.assert_allclose(
            np.cov(noise[rows].T), np.cov(values[rows].T), rtol=1e-3, atol=1e-4
        )
        assert np.abs(noise[rows] - values[rows]).max() > 0.1


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="pink"):
        make(smooth_recording(), kind="pink")
    run = np.repeat([0, 1], [N - 2, 2])
    with pytest.raises(ValueError, match="run 1 has 2 words"):
        surrogate_noise.surrogate_values(smooth_recording(), run, np.ones(N, bool))
