"""The simulated studies of benchmarks/timecourse_false_positives.py: few find in noise what is not there."""

import numpy as np
import pytest

from benchmarks.false_positives import LEVEL
from benchmarks.timecourse_false_positives import p_values, simulated


@pytest.mark.parametrize("kind", ["items", "text"])
def test_few_studies_of_noise_have_a_small_p(kind):
    # 19 draws: p is .05 in one of twenty. Of eight studies four or more would be so in .0004.
    methods = ("rsa", "encoding")
    studies = [p_values(kind, seed, n_nulls=19, methods=methods) for seed in range(8)]
    for method in methods:
        p = np.array([study[method] for study in studies])
        assert (p <= LEVEL + 1e-9).sum() <= 3 and p.mean() > 0.2


def test_a_study_is_the_same_for_the_same_seed():
    (first, _), (again, _) = simulated("text", 3), simulated("text", 3)
    assert (first.epochs("S1").values == again.epochs("S1").values).all()
    assert not (first.epochs("S1").values == simulated("text", 4)[0].epochs("S1").values).all()
    # The epochs of neighbours overlap by what lies between their onsets.
    values = first.epochs("S1").values
    np.testing.assert_array_equal(values[0, :, 6:], values[1, :, :6])
