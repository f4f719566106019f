"""The simulated studies of benchmarks/null_p_values.py against the study's own scores and nulls."""

import numpy as np
import pytest
from recordings import make_embeddings, make_responses

from benchmarks import smooth_noise
from brainalign_jax.study.evidence.nulls import NullPlan, score_nulls
from brainalign_jax.study.options import Scoring
from brainalign_jax.study.protocol import protocol
from brainalign_jax.study.score.sweep import score_subjects


def test_scores_are_those_of_the_study():
    stimulus = smooth_noise.story(120, 1)
    rng = np.random.default_rng(0)
    noise = [smooth_noise.smooth_noise(rng, stimulus, width, 2.5) for width in (10, 12)]
    assert np.corrcoef(noise[0][1:, 0], noise[0][:-1, 0])[0, 1] > 0.8
    scorer = smooth_noise.decoder("procrustes", stimulus, 10, 0.0, 2)
    drawn_scores = scorer.score(*noise)
    person, model = make_responses(stimulus, noise[0]), make_embeddings(stimulus, noise[1][None])
    scoring = Scoring(
        ("procrustes",), protocol("audited", purge=0.0, layer_selection="test"), (10,)
    )
    rows = score_subjects("noise", [person], model, scoring)
    rows = rows[(rows["fold"] == -1) & (rows["layer"] == 0)].set_index("metric")["value"]
    null = score_nulls("noise", [person], model, scoring, NullPlan("shift", 2), k=10)
    for i, metric in enumerate(scorer.metrics):
        drawn = null.loc[null["metric"] == metric, "value"]
        np.testing.assert_allclose(drawn_scores[[0, 3, 4], i], [rows[metric], *drawn], atol=1e-2)


def test_rows_tell_the_distribution_of_p():
    row = smooth_noise.row(np.array([0.01, 0.04, 0.5, 1.0]), method="rsa", metric="x", kind="shift")
    assert row["share"]["0.04"][0] == pytest.approx(0.5)
    assert row["deciles"] == [2, 0, 0, 0, 1, 0, 0, 0, 0, 1]
