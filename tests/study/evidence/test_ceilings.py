"""Leave-one-subject-out ceilings: the vectors of the others against concatenated voxels, and their scores."""

import numpy as np
import pytest
from recordings import make_embeddings, make_responses
from scipy.spatial.distance import pdist

from brainalign_jax.neural.readers import Dataset
from brainalign_jax.neural.responses import WordResponses
from brainalign_jax.stimulus import Stimulus
from brainalign_jax.study.context import Study
from brainalign_jax.study.evidence import ceilings
from brainalign_jax.study.protocol import protocol
from brainalign_jax.study.results import POOLED, SELECTED
from brainalign_jax.study.score import group_kernels
from brainalign_jax.study.score.sweep import Scoring, score_subjects

STORY = Stimulus.from_words(
    ["the", "cat", "saw", "the", "dog", "and", "the", "dog", "saw", "a", "bird", "--", "twice"]
)


def subjects(n=3, stimulus=STORY, seed=0):
    rng = np.random.default_rng(seed)
    return [
        make_responses(
            stimulus, rng.standard_normal((len(stimulus), 5 + 9 * i)) * 10**i + i, subject=f"S{i}"
        )
        for i in range(n)
    ]


def rows_of_others(responses, subject):
    """[T, R] of all but one, as `score_ceilings` makes them before it keeps the first axes."""
    kernels = ceilings.form_kernels(responses, ["products"])["products"]
    own = [recording.subject for recording in responses].index(subject)
    return ceilings.form_rows(sum(kernels) - kernels[own], "products")


def side_by_side(others):
    """Type means of each subject, centred and scaled, concatenated: by loops."""
    parts = []
    for person in others:
        _, token_to_type = person.stimulus.types()
        rows = np.array(
            [
                person.values[(token_to_type == i) & person.valid].mean(axis=0)
                for i in range(token_to_type.max() + 1)
            ],
            float,
        )
        rows -= rows.mean(axis=0)
        parts.append(rows / np.sqrt(rows.var(axis=0).sum()))
    return np.concatenate(parts, axis=1)


def test_the_vectors_have_the_geometry_of_the_others_voxels():
    responses = subjects()
    others = rows_of_others(responses, "S1")
    expected = side_by_side([responses[0], responses[2]])
    assert others.shape[0] == len(STORY.types()[0]) >= others.shape[1]
    np.testing.assert_allclose(pdist(others), pdist(expected), rtol=1e-5)
    np.testing.assert_allclose(others @ others.T, expected @ expected.T, atol=1e-5)


def test_the_subject_itself_has_no_part_in_it():
    responses = subjects()
    before = rows_of_others(responses, "S0")
    own = np.random.default_rng(9).standard_normal((len(STORY), 3))
    responses[0] = make_responses(STORY, own, subject="S0")
    np.testing.assert_allclose(pdist(rows_of_others(responses, "S0")), pdist(before), rtol=1e-4)


def test_a_word_that_one_of_the_others_lacks_is_at_their_mean():
    responses = subjects()
    lacking = responses[2]
    _, token_to_type = STORY.types()
    valid = token_to_type != 1
    values = np.where(valid[:, None], lacking.values, 0).astype(np.float64)
    responses[2] = WordResponses("S2", values, STORY, valid, {})
    kernel, present = group_kernels.type_kernel(responses[2])
    assert present.tolist() == [i != 1 for i in range(len(present))]
    assert not kernel[1].any()
    rows = np.array(
        [values[token_to_type == i].mean(axis=0) for i in np.flatnonzero(present)], float
    )
    rows = rows - rows.mean(axis=0)
    np.testing.assert_allclose(kernel[np.ix_(present, present)], rows @ rows.T, rtol=1e-6)
    np.testing.assert_array_equal(ceilings.form_rows(kernel, "products")[1], 0)


def test_shared_responses_have_a_high_ceiling_and_private_ones_none():
    rng = np.random.default_rng(3)
    words = Stimulus.from_words([f"word{i}" for i in range(80)])
    shared = rng.standard_normal((80, 15))

    def score(strength):
        responses = [
            make_responses(
                words,
                strength * shared @ rng.standard_normal((15, 30)) + rng.standard_normal((80, 30)),
                subject=f"S{i}",
            )
            for i in range(4)
        ]
        by_name = {recording.subject: recording for recording in responses}
        dataset = Dataset("shared", tuple(by_name), words, by_name.__getitem__)
        scoring = Scoring(("ridge",), protocol("audited", timed=False, n_folds=4), (10,))
        rows = ceilings.score_ceilings(Study(dataset, (), scoring, k=10))
        assert rows["subject"].unique().tolist() == list(by_name)
        return rows.loc[rows["metric"] == "precision_csls", "value"].mean()

    assert score(1.0) > 0.6
    assert score(0.0) < 0.3  # chance is .125


def people_with_levels(words, n_people=3, width=5, strength=1.0, seed=5):
    """Responses that share two axes; each word has a level of its own in all voxels of a person."""
    rng = np.random.default_rng(seed)
    shared = strength * rng.standard_normal((len(words), 2))
    return [
        make_responses(
            words,
            shared @ rng.standard_normal((2, width))
            + 0.4 * rng.standard_normal((len(words), width))
            + 3 * rng.standard_normal((len(words), 1)),
            subject=f"S{i}",
        )
        for i in range(n_people)
    ]


def in_voxels(others):
    """The layers of a ceiling by hand: the first axes [L, T, V] of the others' voxels side by side."""
    rows = [recording.values - recording.values.mean(axis=1, keepdims=True) for recording in others]
    rows = [of_person - of_person.mean(axis=0) for of_person in rows]
    rows = np.hstack([of_person / np.sqrt(of_person.var(axis=0).sum()) for of_person in rows])
    left, singular, right = np.linalg.svd(rows, full_matrices=False)
    sizes = [4, 8, len(singular)]
    return np.stack([left[:, :size] * singular[:size] @ right[:size] for size in sizes])


def rsa_scoring(metric="correlation"):
    choices = protocol("audited", timed=False, n_folds=4, rdm_metric=metric, vector_axes=0)
    return Scoring(("rsa",), choices, (5,))


def printed_ceilings(people, metric="correlation"):
    """Rank accuracy of decoding by similarity, by subject."""
    by_name = {recording.subject: recording for recording in people}
    dataset = Dataset("levels", tuple(by_name), people[0].stimulus, by_name.__getitem__)
    rows = ceilings.score_ceilings(Study(dataset, (), rsa_scoring(metric), k=5))
    return rows[rows["metric"] == "rank_accuracy"].set_index("subject")["value"]


def test_ceiling_of_correlations_is_that_of_the_others_voxels_and_not_of_arbitrary_axes():
    words = Stimulus.from_words([f"word{i}" for i in range(60)])
    people = people_with_levels(words)
    printed = printed_ceilings(people)
    assert printed.mean() > 0.8
    for recording in people:
        others = [other for other in people if other is not recording]
        vectors = make_embeddings(words, in_voxels(others))
        rows = score_subjects("levels", [recording], vectors, rsa_scoring())
        rows = rows[(rows["fold"] == POOLED) & (rows["layer"] == SELECTED)]
        by_hand = rows.loc[rows["metric"] == "rank_accuracy", "value"].item()
        assert printed[recording.subject] == pytest.approx(by_hand, abs=2e-3)
    nothing_shared = printed_ceilings(people_with_levels(words, strength=0.0))
    assert 0.4 < nothing_shared.mean() < 0.6


def test_there_is_no_ceiling_of_ranks_over_voxels():
    words = Stimulus.from_words([f"word{i}" for i in range(60)])
    assert printed_ceilings(people_with_levels(words), "spearman").empty


def test_responses_that_do_not_vary_are_refused():
    constant = make_responses(STORY, np.ones((len(STORY), 3)), subject="S3")
    with pytest.raises(ValueError, match="do not vary"):
        ceilings.form_kernels([*subjects(), constant], ["products"])
