"""The simulated studies of benchmarks/gap_false_positives.py: few see a gap that is not there."""

import numpy as np
import pytest

from benchmarks.false_positives import LEVEL
from benchmarks.gap_false_positives import p_values, simulated


@pytest.mark.parametrize("kind", ["gap", "ladder"])
def test_few_studies_without_an_effect_have_a_small_p(kind):
    # 19 draws: p is below .1 in one of twenty. Of twelve studies four or more would be so in .0003.
    studies = [p_values(kind, seed, n_nulls=19) for seed in range(12)]
    for test in studies[0]:
        p = np.array([study[test] for study in studies])
        assert (p <= LEVEL + 1e-9).sum() <= 3 and p.mean() > 0.25


def test_a_study_is_the_same_for_the_same_seed():
    (first, _), (again, _) = simulated("gap", 3), simulated("gap", 3)
    assert (first.load("S0").values == again.load("S0").values).all()
    assert not (first.load("S0").values == simulated("gap", 4)[0].load("S0").values).all()
