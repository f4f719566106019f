"""Noise through the whole pipeline, under both protocols; power and false positives of simulated studies."""

import numpy as np
import pytest

from brainalign_jax.studies.checks import noise, power
from brainalign_jax.studies.checks.noise import check_noise, make_story, story_vectors
from brainalign_jax.study.evidence.chance import permutation_p


def test_a_story_has_the_counts_of_the_chapter():
    story = make_story(seed=3)
    words = [word for word in story.words if word != "--"]
    assert len(story.words) == 5176 and len(words) == 4898 and len(set(words)) == 1405
    lengths = np.bincount(story.sentence)
    assert lengths[:-1].min() >= 5 and lengths.max() <= 20 and 11 < lengths.mean() < 15
    with pytest.raises(ValueError, match="order"):
        make_story(10, 20, 5)


def test_vectors_are_means_of_word_and_half_sentence():
    from brainalign_jax.stimulus import Stimulus

    story = make_story(60, 60, 20, seed=1)
    stimulus = Stimulus.from_words(story.words, sentence=story.sentence)
    types, token_to_type = stimulus.types(lower=False)
    vectors, without = (story_vectors(story, stimulus, 4000, share=s) for s in (0.5, 0.0))
    of_type = (vectors - without) * 2  # the mean of its sentences' vectors
    for word_type in range(3):
        sentences, counts = np.unique(
            story.sentence[token_to_type == word_type], return_counts=True
        )
        share = counts / counts.sum()
        assert (of_type[word_type] ** 2).mean() == pytest.approx((share**2).sum(), rel=0.1)


@pytest.fixture(scope="module")
def checked(tmp_path_factory):
    folder = tmp_path_factory.mktemp("noise")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return folder, check_noise(
            "out",
            story=make_story(640, 600, 260),
            widths=(64,),
            n_voxels=120,
            n_nulls=12,
            csls_k=10,
        )


def test_the_paper_scores_noise_and_the_audited_protocol_does_not(checked):
    _, noise_scores = checked
    paper = noise_scores[noise_scores["protocol"] == "paper"].set_index(["timing", "method"])
    for timing in ("gaps", "gapless"):
        assert paper.loc[(timing, "procrustes"), "score"] > 2.5 * 10 / 260
    audited = noise_scores[noise_scores["protocol"] == "audited"]
    assert len(audited) == 6 and (audited["n_draws"] == 12).all()
    assert audited["score"].between(audited["null_low"], audited["null_high"]).all()
    assert "6 of 6 scores lie inside" in noise.text(noise_scores)


def test_gaps_between_runs_make_no_difference(checked):
    """Every run is read with its own clock: the words see the same scans."""
    _, noise_scores = checked
    columns = ["protocol", "method", "score"]
    gaps, gapless = (
        noise_scores.loc[noise_scores["timing"] == name, columns].reset_index(drop=True)
        for name in ("gaps", "gapless")
    )
    assert gaps[["protocol", "method"]].equals(gapless[["protocol", "method"]])
    np.testing.assert_allclose(gaps["score"], gapless["score"], atol=0.02)


@pytest.mark.parametrize("n_draws", [20, 39, 99, 100, 199])
def test_the_rate_of_exact_p_values(n_draws):
    """All places of the real score among its draws are as likely: counted one by one."""
    ranks = np.arange(n_draws + 1)
    p = [permutation_p(float(place), np.delete(ranks, place)) for place in ranks]
    assert power.exact_rate(n_draws) == np.mean(np.array(p) < 0.05)
    low, high = power.false_positive_interval(400, n_draws)
    assert low < power.exact_rate(n_draws) < high


def test_too_few_draws_for_any_p_below_05():
    assert power.exact_rate(99) == 0.04
    with pytest.raises(ValueError, match="n_draws=19 give no p below 0.05"):
        power.power((0.0,), n_studies=1, n_draws=19)


def test_what_is_planted_is_found_and_nothing_else():
    power_table = power.power(
        (0.0, 1.0), n_studies=3, n_null_studies=4, n_draws=24, methods=("procrustes",)
    )
    assert power_table["n_studies"].tolist() == [4, 4, 3, 3]
    share = power_table.set_index(["strength", "metric"])["share"]
    assert share[1.0, "precision_csls"] == share[1.0, "rank_accuracy"] == 1
    assert share[0.0, "precision_csls"] < 1
    scores = power_table.set_index(["strength", "metric"])["mean_score"]
    assert scores[1.0, "precision_csls"] > 3 * scores[0.0, "precision_csls"]
    assert scores[0.0, "rank_accuracy"] == pytest.approx(0.5, abs=0.05)
