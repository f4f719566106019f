"""The paper's protocol against loops that do what the paper's code does, on the same words and folds."""

import numpy as np
import oracles
import pytest
from recordings import make_embeddings, make_responses
from scipy.stats import spearmanr

from brainalign_jax.stimulus import Stimulus
from brainalign_jax.study.options import Scoring
from brainalign_jax.study.protocol import protocol
from brainalign_jax.study.score.folds import outer_folds
from brainalign_jax.study.score.sweep import score

N_TOKENS, K = 220, 30
PAPER = protocol("paper", csls_k=K)


@pytest.fixture(scope="module")
def story():
    """(stimulus of 220 tokens, vectors [1, T, 24], responses [220, 20] that know something of them)."""
    rng = np.random.default_rng(5)
    tokens = np.concatenate([np.arange(150), rng.integers(0, 150, N_TOKENS - 150)])
    stimulus = Stimulus.from_words([f"word{i}" for i in rng.permutation(tokens)])
    types = stimulus.types()[1]
    vectors = rng.standard_normal((1, types.max() + 1, 24)) + 2
    planted = vectors[0][types] @ rng.standard_normal((24, 20))
    return stimulus, vectors, planted + 4 * rng.standard_normal((N_TOKENS, 20))


def scored(story, method, chosen=PAPER):
    stimulus, vectors, values = story
    responses = make_responses(stimulus, values, subject="S0")
    asked = Scoring((method,), chosen, (10,))
    return score("story", [responses], make_embeddings(stimulus, vectors), asked)


def folds_of(story, chosen=PAPER):
    stimulus = story[0]
    types = stimulus.types()[1]
    return types, outer_folds(stimulus, types, np.ones(N_TOKENS, bool), chosen, seed=0)


def check_ranks(scores, expected):
    """Equal to [N, 2] by CSLS and by cosine, but for cosines that float32 cannot tell apart."""
    ranks = scores.ranks.sort_values("token")[["rank_csls", "rank_nn"]].to_numpy()
    assert ranks.shape == expected.shape
    apart = np.abs(ranks - expected)
    assert apart.max() <= 1 and (apart > 0).mean() <= 0.005


def test_ridge_ranks_every_word_as_the_papers_code(story):
    types, folds = folds_of(story)
    x, candidates = oracles.paper_matrices(story[2], story[1][0], method="ridge")
    predicted = oracles.paper_ridge(x, candidates[types], *folds, PAPER.alphas, PAPER.n_inner_folds)
    every = np.ones(N_TOKENS, bool)
    expected = np.stack(oracles.paper_ranks(predicted, candidates, types, every, K), axis=1)
    check_ranks(scored(story, "ridge"), expected)


def test_procrustes_ranks_every_word_as_scipy(story):
    types, folds = folds_of(story)
    x, candidates = oracles.paper_matrices(story[2], story[1][0], method="procrustes")
    expected = np.zeros((N_TOKENS, 2))
    for train, test in zip(*folds, strict=True):
        rotation, _, _ = oracles.procrustes(x, candidates[types], train, center=False)
        ranks = oracles.paper_ranks(x @ rotation, candidates, types, test, K)
        expected[test] = np.stack(ranks, axis=1)
    check_ranks(scored(story, "procrustes"), expected)


def test_rsa_is_the_rank_correlation_of_the_papers_code(story):
    types, _ = folds_of(story)
    x, candidates = oracles.paper_matrices(story[2], story[1][0], method="rsa")
    means = np.stack([x[types == i].mean(axis=0) for i in range(len(candidates))])
    first, second = np.triu_indices(len(means), 1)
    brain, model = (
        (1 - spearmanr(rows.T).statistic)[first, second] for rows in (means, candidates)
    )
    rows = scored(story, "rsa").rows
    correlation = rows.loc[rows["metric"] == "rsa", "value"].iloc[0]
    # Equal distances of so few features are parted by rounding, in either type.
    assert correlation == pytest.approx(spearmanr(brain, model).statistic, abs=5e-5)


def test_pereira_leaves_the_vectors_of_procrustes_unscaled():
    chosen = protocol("paper", dataset="pereira180")
    assert chosen.of_method("procrustes").vector_scaling == "none"
    assert {chosen.of_method(name).vector_scaling for name in ("ridge", "rsa")} == {"minmax"}
    assert PAPER.of_method("procrustes").vector_scaling == "minmax"
