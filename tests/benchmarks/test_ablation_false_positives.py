"""Simulated studies of benchmarks/ablation_false_positives.py: few heads that carry nothing are missed."""

import numpy as np
import pytest

from benchmarks.ablation_false_positives import is_found, least_p
from benchmarks.false_positives import LEVEL


@pytest.mark.parametrize("kind", ["nothing", "top"])
def test_little_is_missed_where_there_is_nothing(kind, tmp_path):
    values = [least_p(kind, tmp_path, seed)["chosen layer"] for seed in range(5)]
    # Of five studies at a true share of .05, three or more are below it in one of 860.
    assert np.sum(np.array(values) < LEVEL) <= 2


def test_what_one_head_alone_writes_is_missed_without_it(tmp_path):
    draws = [is_found(tmp_path, seed, "alone") for seed in (14, 15, 16)]
    for objective in ("ridge", "cka"):
        for column in ("exact", "gradient"):
            assert sum(each[f"of all, {objective}, {column}"] for each in draws) >= 2
    assert all(0.5 < each["shared"] < 0.95 for each in draws)
