import numpy as np
import pytest
from small_models import add_letter_tokenizer, save_checkpoint

import brainalign_jax as ba
from brainalign_jax.neural.readout import TimeCourses
from brainalign_jax.studies.encoding import features
from brainalign_jax.studies.options import VoxelEncoding

TEXT = tuple(["the", "cat", "sat", "on", "the", "mat", "and", "the", "dog", "sat", "too"] * 4)


@pytest.fixture(scope="module")
def courses():
    words = ba.Stimulus(TEXT, onsets=4.0 + np.arange(len(TEXT))).with_attributes(
        pitch=[float(len(word)) if word != "dog" else None for word in TEXT]
    )
    times = 2.0 * np.arange(30)
    return TimeCourses("S", np.zeros((30, 2), np.float32), times, np.zeros(30, int), words)


def test_a_causal_model_brings_its_own_surprisal(courses, tmp_path):
    folder = save_checkpoint("gpt2", tmp_path / "gpt2", n_layers=1)
    add_letter_tokenizer(folder)
    vectors = features.word_vectors(courses.stimulus, str(folder), VoxelEncoding(), cache=None)
    assert vectors.numbers == (0, 1) and vectors.layers[0].shape == (len(TEXT), 16)
    want = ba.surprisal(courses.stimulus, str(folder))
    np.testing.assert_allclose(vectors.surprisal, want, rtol=1e-4)
    made = features.nuisance_features(courses, vectors, VoxelEncoding())
    assert list(made) == ["rate", "length", "frequency", "position", "surprisal"]
    untrained = features.word_vectors(
        courses.stimulus, f"untrained:{folder}", VoxelEncoding(layers=(1,)), cache=None
    )
    assert untrained.surprisal is None and untrained.numbers == (1,)
    assert "surprisal" not in features.nuisance_features(courses, untrained, VoxelEncoding())


def test_vectors_of_types_serve_their_words_and_attributes_are_nuisances(courses):
    types = courses.stimulus.types()[0]
    rng = np.random.default_rng(0)
    model = ba.Embeddings("types", types, rng.standard_normal((1, len(types), 3)))
    plan = VoxelEncoding(nuisances=("rate", "pitch"), delays=(0, 1))
    features.check_nuisances(courses.stimulus, plan)
    vectors = features.word_vectors(courses.stimulus, model, plan, cache=None)
    place = {word: row for row, word in enumerate(types)}
    np.testing.assert_array_equal(
        vectors.layers[0], model.values[0][[place[word] for word in TEXT]]
    )
    made = features.nuisance_features(courses, vectors, plan)
    assert made["pitch"].shape == (30, 2) and np.isfinite(made["pitch"]).all()
    assert features.model_features(courses, vectors, plan)[0].shape == (30, 6)
    with pytest.raises(ValueError, match="few has no vector of 'cat'"):
        few = ba.Embeddings("few", ("the",), np.ones((1, 1, 3)))
        features.word_vectors(courses.stimulus, few, plan, cache=None)
