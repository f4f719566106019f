"""Whether few words or dimensions rule the geometry: planted, found; and silent on noise."""

import json

import numpy as np
import pytest
from safetensors.numpy import save_file
from small_models import small_model, tensors_of, write_config
from small_tokenizers import CORPUS, gpt2

from brainalign_jax.language import embed
from brainalign_jax.language.geometry import complaint, described, geometry
from brainalign_jax.language.models.checkpoint import read_architecture
from brainalign_jax.language.text.tokens import load_tokenizer
from brainalign_jax.stimulus import Stimulus

WORDS = [f"w{i}" for i in range(200)]


def test_the_numbers_are_those_of_a_loop():
    values = np.random.default_rng(0).normal(size=(2, 150, 70)) + 0.5
    values[1, 3] *= 40
    first = np.zeros(150, bool)
    first[[3, 9]] = True
    numbers = geometry([values.astype(np.float32)], first)
    for layer, words in enumerate(values.astype(np.float32).astype(np.float64)):
        norms = np.sqrt((words**2).sum(1))
        squares = (words - words.mean(0)) ** 2
        longest = np.argsort(-norms)[:2]  # 1 % of 150, rounded
        assert numbers.longest[layer][:2] == tuple(longest)
        np.testing.assert_allclose(numbers.top_share[layer], squares[longest].sum() / squares.sum())
        dimensions = np.sort(squares.sum(0))[-3:].sum() / squares.sum()
        np.testing.assert_allclose(numbers.dimension_share[layer], dimensions)
        ratio = np.median(norms[first]) / np.median(norms[~first])
        np.testing.assert_allclose(numbers.first_ratio[layer], ratio)
        unit = words / norms[:, None]
        cosines = (unit @ unit.T)[~np.eye(150, dtype=bool)]
        np.testing.assert_allclose(numbers.mean_cosine[layer], cosines.mean())


def test_layers_without_any_length_are_left_out():
    values = np.random.default_rng(0).normal(size=(2, 150, 70)).astype(np.float32)
    values[1] = 0
    first = np.arange(150) < 9
    numbers = geometry([values], first)
    assert np.isnan(numbers.first_ratio).tolist() == [False, True]
    assert told(values, first) is None


def told(values, first=None, words=WORDS):
    about = described(geometry([values], first), words)
    json.dumps(about)
    return complaint(about, len(words))


def noise(n_words, width=64):
    return np.random.default_rng(1).normal(size=(3, n_words, width)).astype(np.float32)


@pytest.mark.parametrize("n_words", [2, 5, 20, 200])
def test_noise_is_no_complaint(n_words):
    values = noise(n_words)
    assert told(values, np.arange(n_words) < 2, WORDS[:n_words]) is None


def test_what_is_planted_is_named():
    values = noise(200)
    planted = values.copy()
    planted[1, [7, 8]] *= 50
    assert "2 of 200 words hold up to 9" in told(planted) and "'w7'" in told(planted)
    planted = values.copy()
    planted[2, :15] *= 20
    first = np.arange(200) < 15
    assert "words that open a text are up to " in told(planted, first)
    assert "in 1 of 3 layers (layer 2 most)" in told(planted, first)
    planted = values.copy()
    planted[0, :, 5] *= 100
    assert told(planted).startswith("3 dimensions hold up to 99% of the variance in 1 of 3 layers")


def test_too_little_for_a_geometry():
    assert told(np.ones((2, 1, 4), np.float32), words=["a"]) is None
    assert told(np.ones((2, 3, 4), np.float32), words=["a", "b", "c"]) is None
    assert told(noise(4, 3), words=["a", "b", "c", "d"]) is None
    assert told(np.zeros((2, 3, 4), np.float32), words=["a", "b", "c"]) is None


STIMULUS = Stimulus.from_words((CORPUS.strip() + ". The dog ran. A cat sat there.").split())


@pytest.fixture(scope="module")
def sink(tmp_path_factory):
    """A tiny GPT-2 whose state at the first place of a text is large, as a trained one's is."""
    folder = gpt2(tmp_path_factory.mktemp("sink"))
    write_config("gpt2", folder, vocab_size=420, bos_token_id=0)
    tensors = tensors_of(small_model("gpt2", config=read_architecture(folder)))
    (positions,) = [name for name in tensors if "wpe" in name]
    tensors[positions] = tensors[positions] * np.r_[500, np.ones(319)][:, None].astype(np.float32)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def test_the_first_token_takes_the_first_words_place(sink, tmp_path):
    with pytest.warns(UserWarning, match="open a text are up to .* give bos='auto'"):
        bare = embed(STIMULUS, str(sink), bos="never", cache_dir=tmp_path)
    vectors = embed(STIMULUS, str(sink), cache_dir=tmp_path)
    assert min(bare.meta["geometry"]["first_ratio"][:2]) > 10  # the last layer is normalised
    assert max(vectors.meta["geometry"]["first_ratio"]) < 2
    assert (bare.meta["first_token"], vectors.meta["first_token"]) == (None, "<|endoftext|>")
    # Kept apart in the cache, and told again of what comes from it.
    with pytest.warns(UserWarning, match="open a text"):
        again = embed(STIMULUS, str(sink), bos="never", cache_dir=tmp_path)
    np.testing.assert_array_equal(again.values, bare.values)


def test_streamed_layers_windows_and_growing_runs_have_the_first_token(sink):
    stimulus = Stimulus(STIMULUS.words, run=np.arange(len(STIMULUS)) // 14)
    for context in ("window", "growing", "sentence"):
        options = dict(context=context, window=3)
        whole = embed(stimulus, str(sink), **options)
        streamed = embed(stimulus, str(sink), layout="streamed", **options)
        np.testing.assert_allclose(streamed.values, whole.values, atol=1e-5)
        assert np.nanmax(np.linalg.norm(whole.values[0], axis=-1)) < 5


def test_a_word_alone_stands_behind_the_first_token_and_a_space(sink):
    alone = embed(Stimulus.from_words(["dog", "cat"]), str(sink), context="word")
    tokenizer = load_tokenizer(sink).with_bos("auto", causal=True)
    (spaced,) = tokenizer.encode([["dog"]], blank=True)
    assert tokenizer.backend.id_to_token(int(spaced.ids[0])).startswith("Ġ")
    text = Stimulus.from_words(["dog"], sentence=[0])
    without_space = embed(text, str(sink), context="sentence")
    assert not np.allclose(alone.values[:, 0], without_space.values[:, 0], atol=1e-3)
