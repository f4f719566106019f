"""What the audited protocol makes of pure noise, with the shapes of Pereira's recordings."""

import numpy as np
import pytest
from recordings import make_embeddings, make_responses
from scipy.stats import binom

from brainalign_jax.stimulus import Stimulus
from brainalign_jax.study.protocol import protocol
from brainalign_jax.study.sweep import Scoring, score_subjects

N_WORDS, N_SUBJECTS = 180, 6
WORDS = Stimulus.from_words([f"word{i}" for i in range(N_WORDS)])


def hits(method, **overrides):
    """P@10, plain and CSLS, of noise recordings against word vectors with clusters, and n."""
    rng = np.random.default_rng(20)
    topics = rng.standard_normal((12, 300))
    vectors = topics[rng.integers(0, 12, N_WORDS)] + rng.standard_normal((N_WORDS, 300))
    responses = [
        make_responses(WORDS, rng.standard_normal((N_WORDS, 180)), subject=f"N{i}")
        for i in range(N_SUBJECTS)
    ]
    chosen = protocol("audited", timed=False, n_folds=18, **overrides)
    rows = score_subjects(
        "noise", responses, make_embeddings(WORDS, vectors[None]), Scoring((method,), chosen, (10,))
    )
    pooled = rows[(rows["fold"] == -1)].groupby("metric")["value"].mean()
    return pooled["precision_nn"], pooled["precision_csls"], N_WORDS * N_SUBJECTS


@pytest.mark.parametrize("method", ["procrustes", "ridge", "rsa"])
def test_noise_scores_within_the_99_percent_interval_of_chance(method):
    plain, csls, n = hits(method)
    low, high = binom.interval(0.99, n, 10 / N_WORDS)
    assert low <= plain * n <= high
    assert low <= csls * n <= high


def test_without_candidate_scaling_noise_scores_below_chance():
    """Why the audited protocol scales: trained-on candidates crowd the top ranks."""
    plain, _, n = hits("ridge", candidate_scaling="none")
    assert plain * n < binom.interval(0.99, n, 10 / N_WORDS)[0]
