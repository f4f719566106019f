"""The simulated studies of benchmarks/language_false_positives.py: few see what is not there."""

import numpy as np
import pytest

from benchmarks.false_positives import LEVEL
from benchmarks.language_false_positives import p_values, simulated


@pytest.mark.parametrize("kind", ["noise", "shared", "languages"])
def test_few_studies_without_an_effect_have_a_small_p(kind):
    # 19 draws: p is .05 in one of twenty. Of ten studies four or more would be so in .001.
    studies = [p_values(kind, seed, n_nulls=19) for seed in range(10)]
    assert len(studies[0]) == (3 if kind == "languages" else 6)
    for test in studies[0]:
        p = np.array([study[test] for study in studies])
        assert (p <= LEVEL + 1e-9).sum() <= 3 and p.mean() > 0.25, test


def test_a_study_is_the_same_for_the_same_seed():
    (first, *_), _ = simulated("smooth", 3)
    (again, *_), _ = simulated("smooth", 3)
    (other, *_), _ = simulated("smooth", 4)
    assert (first.load("en0").values == again.load("en0").values).all()
    assert not (first.load("en0").values == other.load("en0").values).all()
