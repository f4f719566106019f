"""The simulated recordings of benchmarks/encoding_false_positives.py: few see what is not there."""

import numpy as np
import pytest

from benchmarks.encoding_false_positives import p_values, simulated


@pytest.mark.parametrize(
    ("kind", "nuisances"),
    [("rate", ("rate",)), ("runs", ("rate", "length", "frequency", "position"))],
)
def test_few_recordings_without_an_effect_have_a_small_p(kind, nuisances):
    # 19 shifts: p is .05 in one of twenty. Of twelve recordings four or more would be so in .003.
    for p in map(np.array, p_values(kind, 0, 12, n_shifts=19, nuisances=nuisances)):
        assert (p <= 0.05 + 1e-9).sum() <= 3 and p.mean() > 0.25


def test_recordings_are_the_same_for_the_same_seed():
    (first, _), (again, _) = simulated("runs", 3, 2), simulated("runs", 3, 2)
    values = first.time_courses("S1").values
    assert (values == again.time_courses("S1").values).all()
    assert not (values == simulated("runs", 4, 2)[0].time_courses("S1").values).all()
