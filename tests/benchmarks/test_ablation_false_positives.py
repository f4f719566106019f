"""Simulated studies of benchmarks/ablation_false_positives.py: few heads that carry nothing are missed."""

import numpy as np
import pytest

from benchmarks.ablation_false_positives import is_found, least_p
from benchmarks.false_positives import LEVEL


@pytest.mark.parametrize("kind", ["nothing", "top"])
def test_little_is_missed_where_there_is_nothing(kind, tmp_path):
    values = [least_p(kind, tmp_path, seed, n_flips=99) for seed in range(5)]
    # Of five studies at a true share of .05, three or more are below it in one of 860.
    assert np.sum(np.array(values) < LEVEL) <= 2


def test_a_planted_head_is_first_by_its_estimate(tmp_path):
    draws = [is_found(tmp_path, seed) for seed in range(4)]
    for objective in ("ridge", "cka"):
        assert sum(each[f"of all, {objective}, estimate"] for each in draws) >= 3
        assert sum(each[f"of its block, {objective}, exact"] for each in draws) >= 3
