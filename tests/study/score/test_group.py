"""Group sources: against concatenated voxels, planted structure, and what test rows may not do."""

import jax
import numpy as np
import pytest
from recordings import make_embeddings, make_responses

from brainalign_jax.neural.responses import WordResponses
from brainalign_jax.stimulus import Stimulus
from brainalign_jax.study.protocol import protocol
from brainalign_jax.study.score import group, programs
from brainalign_jax.study.score.methods import method_of
from brainalign_jax.study.score.problem import Scoring, folds_of
from brainalign_jax.study.score.sweep import score_subjects

N = 90
WORDS = Stimulus.from_words([f"word{i}" for i in range(N)])


def recordings(noise, n_subjects=5, n_shared=8, seed=0, width=40):
    """(shared [N, n_shared], subjects' responses): the shared structure in voxels of their own."""
    rng = np.random.default_rng(seed)
    shared = rng.standard_normal((N, n_shared))
    responses = [
        make_responses(
            WORDS,
            10.0**i
            * (
                shared @ rng.standard_normal((n_shared, width + i)) / n_shared**0.5
                + noise * rng.standard_normal((N, width + i))
            )
            + i,
            subject=f"S{i}",
        )
        for i in range(n_subjects)
    ]
    return shared, responses


def masks(n_folds=3):
    test = np.arange(N) % n_folds == np.arange(n_folds)[:, None]
    return ~test


def side_by_side(responses, rows):
    parts = [person.values.astype(float) for person in responses]
    parts = [x - x[rows].mean(axis=0) for x in parts]
    return np.concatenate([x / np.sqrt(x[rows].var(axis=0).sum()) for x in parts], axis=1)


def test_summed_has_the_inner_products_of_all_voxels():
    _, responses = recordings(1.0)
    summed = group.summed(responses, masks())
    for values, rows in zip(summed, masks(), strict=True):
        expected = side_by_side(responses, rows)
        np.testing.assert_allclose(values @ values.T, expected @ expected.T, atol=1e-4)


def test_the_group_as_one_recording_goes_through_the_sweep():
    shared, responses = recordings(4.0)
    summed = group.summed_responses(responses)
    expected = side_by_side(responses, np.ones(N, bool))
    np.testing.assert_allclose(summed.values @ summed.values.T, expected @ expected.T, atol=1e-4)
    scoring = Scoring(("ridge",), protocol("audited", timed=False, n_folds=3), (10,))
    rows = score_subjects(
        "planted", [summed, responses[0]], make_embeddings(WORDS, shared[None]), scoring
    )
    pooled = rows[(rows["fold"] == -1) & (rows["metric"] == "precision_csls")]
    scores = pooled.groupby("subject")["value"].mean()
    assert scores["group"] > scores["S0"] + 0.1


def test_hyperaligned_subjects_share_the_planted_structure_on_test_rows():
    """Distances in the shared space are those of the planted one, closer than any subject's own."""
    shared, responses = recordings(1.0)
    aligned = group.hyperaligned(responses, masks(), n_components=12)
    assert aligned.shape == (3, N, 12) and aligned.dtype == np.float32

    def agreement(values, test):
        upper = np.triu_indices(test.sum(), 1)
        own = np.linalg.norm(values[test][:, None] - values[test], axis=2)[upper]
        planted = np.linalg.norm(shared[test][:, None] - shared[test], axis=2)[upper]
        return np.corrcoef(own, planted)[0, 1]

    for values, rows in zip(aligned, masks(), strict=True):
        alone = max(agreement(person.values, ~rows) for person in responses)
        assert agreement(values, ~rows) > max(alone + 0.05, 0.7)


def test_rows_move_by_maps_that_no_test_row_has_a_part_in():
    _, responses = recordings(1.0)
    train = masks()[:1]
    rng = np.random.default_rng(9)

    def spoilt(rows):
        values = [person.values.copy() for person in responses]
        for x in values:
            x[rows] += 50 * x.std() * rng.standard_normal(x[rows].shape)
        return [
            make_responses(WORDS, x, subject=person.subject)
            for x, person in zip(values, responses, strict=True)
        ]

    aligned = group.hyperaligned(responses, train, n_components=6)[0]
    kept = group.hyperaligned(spoilt(~train[0]), train, n_components=6)[0]
    np.testing.assert_allclose(kept[train[0]], aligned[train[0]], atol=1e-4)
    changed = group.hyperaligned(spoilt(train[0]), train, n_components=6)[0]
    assert np.abs(changed[~train[0]] - aligned[~train[0]]).max() > 0.01
    summed = [group.summed(x, train)[0] for x in (responses, spoilt(~train[0]))]
    before, after = (x[train[0]] @ x[train[0]].T for x in summed)
    np.testing.assert_allclose(after, before, atol=1e-4)


@pytest.mark.parametrize("name", ["procrustes", "ridge"])
def test_a_group_source_is_what_the_methods_take(name):
    """Each fold's responses through `prepare` and `evaluate`, without the sweep."""
    shared, responses = recordings(1.0)
    scoring = Scoring((name,), protocol("audited", timed=False, n_folds=3), (10,))
    problem = folds_of(responses[0], scoring)
    source = group.hyperaligned(responses, problem.folds.outer.train, n_components=10)
    method = method_of(name, scoring.protocol)
    layer = programs.layers(shared[None].astype(np.float32), span=method.spans_vectors)
    hits = total = 0
    for index in range(3):
        fold = jax.device_put(problem.fold(index))
        state = programs.prepare(source[index], fold, method=method)
        scores = programs.evaluate(
            state,
            source[index],
            layer,
            fold,
            method=method,
            mesh=programs.layer_mesh(),
            batch=1,
        )
        mask = np.asarray(fold.outer.query_mask) > 0
        hits += (np.asarray(scores["rank_csls"][0])[mask] <= 10).sum()
        total += mask.sum()
    assert total == N
    assert hits / total > 0.5  # chance is .11


def test_only_words_of_all_subjects_take_part():
    _, responses = recordings(1.0, n_subjects=2)
    valid = np.arange(N) != 4
    values = np.where(valid[:, None], responses[1].values, 0)
    responses[1] = WordResponses("S1", values, WORDS, valid, {})
    assert group.shared_rows(responses).tolist() == valid.tolist()
    summed = group.summed_responses(responses)
    assert not summed.valid[4] and not summed.values[4].any()
    assert not group.summed(responses, masks())[:, 4].any()
    assert not group.hyperaligned(responses, masks(), n_components=4)[:, 4].any()


def test_bad_input_is_refused():
    _, responses = recordings(1.0, n_subjects=2)
    with pytest.raises(ValueError, match="n_components=60"):
        group.hyperaligned(responses, masks(), n_components=60)
    with pytest.raises(ValueError, match="at least two"):
        group.hyperaligned(responses[:1], masks(), n_components=5)
    with pytest.raises(ValueError, match=r"\(90,\)"):
        group.summed(responses, masks()[0])
    with pytest.raises(ValueError, match="no responses"):
        group.summed([], masks())
    nothing = WordResponses("S1", np.zeros((N, 3)), WORDS, np.zeros(N, bool), {})
    with pytest.raises(ValueError, match="of all of S0, S1"):
        group.summed_responses([responses[0], nothing])
