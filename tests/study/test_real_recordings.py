"""Published and independently computed figures on the real recordings (skipped where these are absent)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from brainalign_jax.align import linalg, retrieval, ridge
from brainalign_jax.language import embed
from brainalign_jax.neural.readers import open_dataset
from brainalign_jax.study.protocol import protocol
from brainalign_jax.study.results import group_rows
from brainalign_jax.study.score.sweep import Scoring, score_subjects


@pytest.fixture(scope="module")
def pereira(shared_data):
    return open_dataset("pereira180", shared_data / "pereira180")


@pytest.fixture(scope="module")
def vectors(pereira, minilm):
    return embed(pereira.stimulus, str(minilm), context="word")


@pytest.mark.parametrize(("subject", "published"), [("M01", 77.90), ("M02", 55.62), ("M13", 48.03)])
def test_glove_mean_ranks_equal_the_published_ones(pereira, subject, published):
    """18 contiguous folds, no intercept, one alpha by leave-one-out error, cosine over 180 words."""
    with jax.enable_x64(True):
        x = jnp.asarray(pereira.load(subject).values, jnp.float64)
        y = jnp.asarray(pereira.vectors["glove42B_300"], jnp.float64)
        gram, alphas = linalg.gram(x), 10.0 ** jnp.arange(-6, 7)

        @jax.jit
        def ranks_of_fold(test):
            factor = ridge.factor(gram, ~test, fit_intercept=False)
            errors = ridge.loo_errors(factor, y, alphas)
            alpha = alphas[ridge.select_alpha(errors, shared=True)]
            predicted = ridge.predict(factor, y, alpha)
            return retrieval.ranks(retrieval.cosine(predicted, y), jnp.arange(180))

        ranks = np.zeros(180)
        for fold in range(18):
            test = np.arange(180) // 10 == fold
            ranks[test] = np.asarray(ranks_of_fold(jnp.asarray(test)))[test]
    assert round(ranks.mean(), 2) == published


@pytest.mark.parametrize(
    ("selection", "mean_p10", "best_p10", "mean_rank"),
    [("error_per_target", 0.093, 0.178, 62.8), ("retrieval", 0.112, 0.25, 57.0)],
)
def test_minilm_decoding_equals_the_independent_figures(
    pereira, vectors, selection, mean_p10, best_p10, mean_rank
):
    """18 drawn folds of 10, training means, CSLS k = 10 over all 180 words, layers 2 to 4."""
    chosen = protocol(
        "audited", timed=False, n_folds=18, alpha_selection=selection, candidate_scaling="none"
    )
    rows = score_subjects(
        "pereira180",
        [pereira.load(subject) for subject in pereira.subjects],
        vectors,
        Scoring(("ridge",), chosen, (10,), layers=(2, 3, 4)),
    )
    pooled = rows[rows["fold"] == -1]
    by_subject = pooled[pooled["metric"] == "precision_csls"].groupby("subject")["value"].mean()
    group = group_rows(rows)
    accuracy = group.loc[group["metric"] == "rank_accuracy", "value"].mean()
    assert by_subject.mean() == pytest.approx(mean_p10, abs=0.01)
    assert by_subject.max() == pytest.approx(best_p10, abs=0.03)
    assert 1 + 179 * (1 - accuracy) == pytest.approx(mean_rank, abs=1.5)


def test_alice_runs_from_text_grid_to_scores(shared_data, minilm):
    with pytest.warns(UserWarning, match="s33"):
        alice = open_dataset("alice", shared_data / "alice")
    responses = [alice.load(subject) for subject in alice.subjects[:2]]
    rows = score_subjects(
        "alice",
        responses,
        embed(alice.stimulus, str(minilm), context="sentence"),
        Scoring(("procrustes", "ridge", "rsa"), protocol("audited"), (1, 10), layers=(0, 3)),
    )
    assert len(alice.subjects) == 27
    assert np.isfinite(rows["value"]).all()
    pooled = rows[(rows["fold"] == -1) & (rows["k"] == 10)]
    # Six regions cannot tell some 400 words apart: a high score here would be a leak.
    assert (pooled["value"] < 0.1).all()
