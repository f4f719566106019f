"""What the audited protocol makes of pure noise, with the shapes of Pereira's recordings."""

import numpy as np
import pytest
from recordings import make_embeddings, make_responses
from scipy.stats import binom

from brainalign_jax.stimulus import Stimulus
from brainalign_jax.study.protocol import protocol
from brainalign_jax.study.score.sweep import Scoring, score_subjects

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


def smooth_noise_on_a_story(method, name, n_subjects=6):
    """Rank accuracy and P@10 of smooth noise without any stimulus, and chance at 10 and n.

    Neighbouring words share the noise as they share scans; their vectors share a sentence.
    """
    rng = np.random.default_rng(3)
    n_tokens, n_types = 600, 300
    frequency = 1 / np.arange(1, n_types + 1)
    tokens = rng.choice(n_types, n_tokens, p=frequency / frequency.sum())
    story = Stimulus.from_words(
        [f"word{i}" for i in tokens], onsets=np.arange(n_tokens) * 0.5, run=np.zeros(n_tokens, int)
    )
    blur = np.exp(-0.5 * ((np.arange(n_tokens)[:, None] - np.arange(n_tokens)) / 4) ** 2)
    sentences = rng.standard_normal((n_tokens // 12 + 1, 48))[np.arange(n_tokens) // 12]
    occurrences = rng.standard_normal((n_types, 48))[tokens] + sentences
    vocabulary, token_to_type = story.types()
    vectors = np.stack(
        [occurrences[token_to_type == i].mean(axis=0) for i in range(len(vocabulary))]
    )
    responses = [
        make_responses(story, blur @ rng.standard_normal((n_tokens, 64)), subject=f"N{i}")
        for i in range(n_subjects)
    ]
    rows = score_subjects(
        "noise",
        responses,
        make_embeddings(story, vectors[None]),
        Scoring((method,), protocol(name, csls_k=10), (10,)),
    )
    pooled = rows[rows["fold"] == -1].set_index("metric")
    precision = pooled.loc["precision_nn"]
    return precision["value"].mean(), precision["chance"].iloc[0], precision["n_items"].sum()


@pytest.mark.parametrize("method", ["procrustes", "ridge", "rsa"])
def test_smooth_noise_on_a_story_is_at_chance_when_audited(method):
    score, chance, n = smooth_noise_on_a_story(method, "audited")
    low, high = binom.interval(0.99, n, chance)
    assert low <= score * n <= high


def test_smooth_noise_on_a_story_scores_under_the_paper_protocol():
    score, chance, _ = smooth_noise_on_a_story("procrustes", "paper")
    assert score > 2 * chance
