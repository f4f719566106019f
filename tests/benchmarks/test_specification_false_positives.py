"""The studies of benchmarks/specification_false_positives.py: few find in noise what is not there."""

import numpy as np
import pytest

from benchmarks.specification_false_positives import TESTS, p_values, simulated


def test_few_curves_of_noise_have_a_small_joint_p():
    # 23 draws: p is below .1 in two of 24. Of five studies four or more would be so in .0003.
    studies = [p_values("noise", seed, n_nulls=23) for seed in range(5)]
    for test in TESTS[:3]:
        assert (np.array([study[test] for study in studies]) < 0.1).sum() <= 3
    # Picking the best of many specifications finds more.
    picked, joint = (np.mean([study[test] for study in studies]) for test in (TESTS[3], TESTS[0]))
    assert picked < joint


@pytest.mark.parametrize(("kind", "alike"), [("noise", False), ("one_noise", True)])
def test_people_have_one_noise_or_their_own(kind, alike):
    dataset, _ = simulated(kind, 3)
    first, second = (dataset.load(person).values for person in dataset.subjects)
    assert (first == second).all() == alike
