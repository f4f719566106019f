import itertools
import json

import numpy as np
import pytest
from recordings import make_responses
from scipy.ndimage import gaussian_filter1d

from brainalign_jax.language import Embeddings
from brainalign_jax.neural.readers import Dataset
from brainalign_jax.stimulus import Stimulus
from brainalign_jax.study import controls
from brainalign_jax.study.protocol import protocol
from brainalign_jax.study.score.sweep import Scoring, score_subjects
from brainalign_jax.study.words import token_features

TEXT = [
    "The",
    "cat",
    "sat.",
    "The",
    "dog",
    "--",
    "saw",
    "the",
    "cat's",
    "tail!",
    "A",
    "cat",
    "ran",
    "off.",
    "Then",
    "the",
    "dog",
    "sat",
    "down.",
]
SENTENCE = [0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 3]
RUN = [0] * 10 + [1] * 9


def story():
    gaps = np.array([0.5, 0.7, 0.4, 1.5, 0.3])
    onsets = np.concatenate([np.cumsum(np.resize(gaps, 10)), np.cumsum(np.resize(gaps, 9))])
    return Stimulus(tuple(TEXT), onsets=onsets, sentence=SENTENCE, run=RUN)


def as_dataset(stimulus, vectors=None):
    return Dataset("tale", ("S1",), stimulus, lambda name: None, {}, vectors or {})


def test_token_features_by_counting():
    stimulus = story()
    features = token_features(stimulus, rate_window=3.0)
    lower = [word.lower().strip(".!") for word in TEXT]
    np.testing.assert_allclose(
        features["log_frequency"],
        [np.log1p(lower.count(w)) if w != "--" else np.log(2) for w in lower],
    )
    assert features["letters"].tolist() == [3, 3, 3, 3, 3, 0, 3, 3, 4, 4, 1, 3, 3, 3, 4, 3, 3, 3, 4]
    for row in range(len(TEXT)):
        same = [i for i in range(len(TEXT)) if SENTENCE[i] == SENTENCE[row]]
        assert features["words_in_sentence"][row] == len(same)
        assert features["position_in_sentence"][row] == same.index(row)
        same_run = [i for i in range(len(TEXT)) if RUN[i] == RUN[row]]
        assert features["position_in_run"][row] == pytest.approx(
            same_run.index(row) / (len(same_run) - 1)
        )
        at, own = stimulus.onsets[row], stimulus.onsets[same_run]
        near = np.sum(np.abs(own - at) <= 1.5)
        seconds = min(at + 1.5, own[-1]) - max(at - 1.5, own[0])
        assert features["words_per_second"][row] == pytest.approx(near / seconds)
    np.testing.assert_allclose(features["position_in_text"], np.linspace(0, 1, 19))


@pytest.mark.parametrize("lower", [False, True])
def test_nuisance_vectors_are_standardised_type_means(lower):
    stimulus = story()
    types, index = stimulus.types(lower=lower)
    vectors = controls.nuisance_vectors(stimulus, lower=lower, tuning=0)
    features = token_features(stimulus)
    assert vectors.types == types and vectors.values.shape == (1, len(types), 7)
    assert vectors.meta["family"] == "nuisance" and vectors.meta["n_params"] is None
    for column, name in enumerate(vectors.meta["features"]):
        means = np.array([features[name][index == t].mean() for t in range(len(types))])
        want = (means - means.mean()) / means.std()
        np.testing.assert_allclose(vectors.values[0, :, column], want, atol=1e-6)


def test_each_group_by_name_and_all_of_them_together():
    dataset = as_dataset(story())
    single = [
        controls.control_vectors(f"nuisance:{group}", dataset, lower=True)
        for group in controls.GROUPS
    ]
    every = controls.control_vectors("nuisance:all", dataset, lower=True)
    assert [vectors.values.shape[2] for vectors in single] == [24, 8, 8, 8, 8]
    together = np.concatenate([vectors.values for vectors in single], axis=2)
    np.testing.assert_allclose(together, every.values, atol=0.02)  # but for the noise on ties
    assert len({vectors.fingerprint() for vectors in [*single, every]}) == 6


def test_words_of_like_values_are_neighbours_and_ties_fall_at_random():
    lengths = np.random.default_rng(0).integers(2, 10, 200)
    stimulus = Stimulus(tuple("x" * (n - 1) + chr(0x4E00 + i) for i, n in enumerate(lengths)))
    draws = [
        controls.nuisance_vectors(stimulus, lower=True, features=["length"], random_state=seed)
        for seed in (0, 0, 1)
    ]
    np.testing.assert_array_equal(draws[0].values, draws[1].values)
    unit = [
        vectors.values[0] / np.linalg.norm(vectors.values[0], axis=1)[:, None] for vectors in draws
    ]
    cosines = unit[0] @ unit[2].T  # the same words with other noise: what a perfect decoder finds
    gap = np.abs(lengths[:, None] - lengths)
    means = [cosines[gap == g].mean() for g in range(8)]
    assert means[0] > 0.999 and (np.diff(means[:6]) < -0.01).all()
    ahead = (cosines > np.diag(cosines)[:, None]).sum(axis=1)
    share = [ahead[lengths == n].mean() / (lengths == n).sum() for n in range(3, 9)]
    assert 0.35 < np.mean(share) < 0.65
    with pytest.raises(ValueError, match="tuning is 1"):
        controls.nuisance_vectors(stimulus, lower=True, tuning=1)


def test_isolated_words_have_no_position_but_length_and_given_frequency():
    stimulus = Stimulus(("ant", "elephant", "dog", "horse"))
    vectors = controls.nuisance_vectors(stimulus, lower=True)
    assert vectors.meta["features"] == ["letters"]
    notes = " ".join(vectors.meta["notes"])
    assert "no order of presentation" in notes
    assert "log_frequency: the same for all word types" in notes
    table = {"ant": 7, "dog": 99.0, "horse": 30}
    vectors = controls.nuisance_vectors(stimulus, lower=True, frequencies=table, tuning=0)
    assert vectors.meta["features"] == ["letters", "log_frequency"]
    logs = np.log1p([7, 0, 99, 30])
    np.testing.assert_allclose(
        vectors.values[0, :, 1], (logs - logs.mean()) / logs.std(), atol=1e-6
    )
    with pytest.raises(ValueError, match="no feature left .*no order of presentation"):
        controls.nuisance_vectors(stimulus, lower=True, features=["position"])
    with pytest.raises(ValueError, match="no order of presentation"):
        controls.autocorrelated_vectors(stimulus, lower=True)


def test_sentences_of_passages_have_places_and_lengths_of_their_own():
    items = ("A dog ran.", "It saw a small cat.", "Rain fell on us.", "We left.")
    stimulus = Stimulus(items, sentence=np.arange(4), run=[0, 0, 1, 1])
    features = token_features(stimulus)
    assert features["words_in_sentence"].tolist() == [3, 5, 4, 2]
    assert features["position_in_run"].tolist() == [0, 1, 0, 1]
    assert "position_in_text" not in features and "words_per_second" not in features
    vectors = controls.autocorrelated_vectors(stimulus, lower=False, width=1.0)
    assert vectors.meta["blocks"] == "run" and vectors.meta["n_blocks"] == 2


def test_autocorrelated_sequence_is_a_blurred_identity_within_blocks():
    rng = np.random.default_rng(0)
    words = tuple(f"w{i}" for i in range(30))
    sentence = np.repeat([0, 1, 2], [12, 5, 13])
    stimulus = Stimulus(words, onsets=np.sort(rng.random(30)), sentence=sentence)
    vectors = controls.autocorrelated_vectors(stimulus, lower=False, width=2.0).values[0]
    for label in range(3):
        rows = sentence == label
        size = rows.sum()
        blurred = gaussian_filter1d(np.eye(size), 2.0, axis=0, mode="constant", truncate=20.0)
        blurred /= blurred.sum(axis=0)
        np.testing.assert_allclose(vectors[np.ix_(rows, rows)], blurred, atol=1e-6)
        assert not vectors[np.ix_(rows, ~rows)].any()
    cosines = vectors @ vectors.T
    for a, b in itertools.combinations(range(30), 2):
        assert (cosines[a, b] > 0) == (sentence[a] == sentence[b])


def test_autocorrelated_types_are_means_over_their_tokens():
    stimulus = story()
    types, index = stimulus.types(lower=True)
    tokens = Stimulus(
        tuple(f"w{i}" for i in range(18)),
        sentence=np.delete(SENTENCE, 5),
        run=np.delete(RUN, 5),
    )
    apart = controls.autocorrelated_vectors(tokens, lower=True, width=3.0).values[0]
    vectors = controls.autocorrelated_vectors(stimulus, lower=True, width=3.0)
    index = np.delete(index, 5)
    want = np.stack([apart[index == t].mean(axis=0) for t in range(len(types))])
    np.testing.assert_allclose(vectors.values[0], want, atol=1e-6)
    assert vectors.meta["n_blocks"] == 4


def test_many_words_are_projected_with_a_seed(monkeypatch):
    monkeypatch.setattr(controls, "_MOST_AXES", 200)
    n = 400
    stimulus = Stimulus(
        tuple(f"w{i}" for i in range(n)), sentence=np.arange(n) // 20, onsets=np.arange(n)
    )
    projected, again, other = (
        controls.autocorrelated_vectors(stimulus, lower=False, width=3.0, random_state=seed)
        for seed in (0, 0, 1)
    )
    assert projected.values.shape == (1, n, 200) and projected.meta["projected_from"] == n
    np.testing.assert_array_equal(projected.values, again.values)
    assert np.abs(projected.values - other.values).max() > 0.01
    monkeypatch.setattr(controls, "_MOST_AXES", 2048)
    exact = controls.autocorrelated_vectors(stimulus, lower=False, width=3.0).values[0]
    gram, kept = exact @ exact.T, projected.values[0] @ projected.values[0].T
    # The error of a random inner product has the deviation |a| |b| / sqrt(axes), at most twice squared.
    norms = np.linalg.norm(exact, axis=1)
    error = np.abs(kept - gram) / (norms[:, None] * norms)
    assert error.max() < 6 * np.sqrt(2 / 200) and error.mean() < 1 / np.sqrt(200)


def test_shipped_vectors_are_means_over_the_words_of_a_type():
    stimulus = Stimulus(("Dog", "cat", "dog", "--"))
    values = np.arange(8.0).reshape(4, 2)
    dataset = as_dataset(stimulus, {"norms": values, "one": values[:, 0]})
    vectors = controls.control_vectors("shipped:norms", dataset, lower=True)
    assert vectors.types == ("dog", "cat") and vectors.meta["family"] == "static"
    np.testing.assert_array_equal(vectors.values[0], [[2, 3], [2, 3]])
    assert controls.shipped_vectors(dataset, "one", lower=False).values.shape == (1, 3, 1)


@pytest.mark.parametrize(
    "name", ["nuisance:meaning", "nuisance:", "shipped:glove", "gpt2", "nuisance:rate:3"]
)
def test_unknown_names_list_the_known_ones(name):
    dataset = as_dataset(story(), {"norms": np.ones((19, 2))})
    with pytest.raises(
        ValueError, match="nuisance:position.*nuisance:autocorrelated.*shipped:norms"
    ):
        controls.control_vectors(name, dataset, lower=True)


def test_the_width_is_part_of_the_name():
    dataset = as_dataset(story())
    wide = controls.control_vectors("nuisance:autocorrelated:8", dataset, lower=True)
    assert wide.meta["width"] == 8 and wide.model == "nuisance:autocorrelated:8"
    usual = controls.control_vectors("nuisance:autocorrelated", dataset, lower=True)
    assert usual.meta["width"] == controls.DEFAULT_WIDTH
    for bad in ("x", "0", "-1", "nan"):
        with pytest.raises(ValueError, match="width"):
            controls.control_vectors(f"nuisance:autocorrelated:{bad}", dataset, lower=True)
    assert controls.is_control("shipped:x") and not controls.is_control("untrained:gpt2")


@pytest.mark.filterwarnings("ignore")
def test_the_sweep_takes_controls_as_models(tmp_path):
    rng = np.random.default_rng(0)
    letters = rng.integers(2, 12, 60)
    words = tuple(
        "abcdefghijklmnop"[: letters[i]] + "qrstuvwxyz"[i % 10] * (1 + i // 10) for i in range(60)
    )
    stimulus = Stimulus(words)
    norms = rng.standard_normal((60, 8))
    dataset = as_dataset(stimulus, {"norms": norms})
    models = [
        controls.control_vectors(name, dataset, lower=False)
        for name in ("nuisance:all", "shipped:norms")
    ]
    brain = make_responses(stimulus, norms @ rng.standard_normal((8, 20)))
    chosen = protocol("audited", timed=False, grouped=False, n_folds=3, n_inner_folds=2)
    table = score_subjects(
        "tale", [brain], models, Scoring(("ridge",), chosen, (5,)), cells=tmp_path
    )
    rows = table[
        (table.metric == "precision_csls") & (table.fold == -1) & (table.method == "ridge")
    ]
    scores = rows[rows.layer == 0].set_index("model")["value"]
    assert scores["shipped:norms"] > 0.8 and scores["nuisance:all"] < 0.4
    assert set(table.family) == {"nuisance", "static"} and table.n_params.isna().all()
    path = models[0].save(tmp_path / "control.npz")
    assert Embeddings.load(path).fingerprint() == models[0].fingerprint()
    json.dumps(models[0].meta)
