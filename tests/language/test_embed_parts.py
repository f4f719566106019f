"""Word vectors of a model with parts off or drawn anew, and of its sub-layers."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from brainalign_jax.language import embed
from brainalign_jax.language.models import hidden_states, load_model
from brainalign_jax.language.models.interventions import gates, reinitialise
from brainalign_jax.stimulus import Stimulus

WORDS = ["the", "dog", "sat", "on", "the", "bank"]
IDS = np.array([[4, 5, 6, 7, 4, 8]], np.int32)
STIMULUS = Stimulus(words=WORDS, sentence=[0] * 6)
OFF = "head:1.2,ffn:0,positions"


@pytest.fixture
def folder(tmp_path):
    """A tiny GPT-2 whose sub-tokens are the words."""
    source = Path(__file__).parents[1] / "fixtures" / "models" / "gpt2-lm"
    target = tmp_path / "gpt2-lm"
    shutil.copytree(source, target)
    vocabulary = {"a": 0} | dict(zip(WORDS, IDS[0].tolist(), strict=True))
    tokenizer = Tokenizer(models.WordLevel(vocabulary))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(target / "tokenizer.json"))
    return str(target)


def states(model, text="", **options):
    off = gates(text, model.config)
    return hidden_states(model, IDS, np.ones_like(IDS), interventions=off, **options)


@pytest.mark.parametrize("layout", ["whole", "streamed"])
def test_parts_off_and_sublayers(layout, folder):
    model = load_model(folder)
    options = dict(level="token", layout=layout, bos="never")
    plain = embed(STIMULUS, folder, **options)
    np.testing.assert_allclose(plain.values, states(model).states[:, 0], atol=1e-5)
    assert "interventions" not in plain.meta and "sublayers" not in plain.meta

    off = embed(STIMULUS, folder, interventions=OFF, **options)
    np.testing.assert_allclose(off.values, states(model, OFF).states[:, 0], atol=1e-5)
    assert off.meta["interventions"] == OFF and np.abs(off.values - plain.values).max() > 1e-2
    assert off.fingerprint() != plain.fingerprint()

    expected = states(model, OFF, sublayers=True)
    heads = embed(STIMULUS, folder, sublayers="heads", interventions=OFF, **options)
    assert heads.values.shape == (9, 6, 32) and heads.meta["sublayers"] == "heads"
    assert heads.meta["n_layers"] == 8 and heads.meta["n_heads"] == 4
    np.testing.assert_array_equal(heads.values[0], off.values[0])
    assert not heads.values[1 + 1 * 4 + 2].any()  # head 1.2 is off
    for block in range(2):
        bias = np.asarray(model.blocks.attention_out.bias[...])[block]
        total = heads.values[1 + 4 * block : 5 + 4 * block].sum(axis=0) + bias
        np.testing.assert_allclose(total, expected.sublayers.attention[block, 0], atol=1e-5)
        # Each head alone: what the attention lacks without it.
        for head in range(4 * (block == 0)):
            without = states(model, f"head:{block}.{head},{OFF}", sublayers=True)
            missing = expected.sublayers.attention[block] - without.sublayers.attention[block]
            written = heads.values[1 + 4 * block + head]
            np.testing.assert_allclose(written, missing[0], atol=1e-5)
    for name in ("attention", "feed_forward"):
        parts = embed(STIMULUS, folder, interventions=OFF, sublayers=name, **options)
        assert parts.values.shape == plain.values.shape
        np.testing.assert_allclose(parts.values[0], expected.states[0, 0], atol=1e-5)
        wanted = getattr(expected.sublayers, name)[:, 0]
        np.testing.assert_allclose(parts.values[1:], wanted, atol=1e-5)
        assert parts.meta["sublayers"] == name


def test_parts_drawn_anew(folder):
    text = "reinit-ffn:1,seed:3"
    embedded = embed(STIMULUS, folder, level="token", interventions=text, bos="never")
    anew = reinitialise(load_model(folder), text)
    np.testing.assert_allclose(embedded.values, states(anew).states[:, 0], atol=1e-5)
    assert embedded.meta["interventions"] == text
    with pytest.raises(ValueError, match="streamed layers cannot be drawn anew"):
        embed(STIMULUS, folder, interventions=text, layout="streamed")


@pytest.mark.parametrize("layout", ["whole", "streamed"])
def test_heads_wider_than_the_model(layout, tmp_path):
    """qwen3 may give its heads more dimensions together than the model has."""
    from small_models import BLOCK_STYLES, add_letter_tokenizer, save_checkpoint

    wide = dict(model_type="qwen3", head_dim=8)
    folder = save_checkpoint("llama", tmp_path / "model", **wide)
    add_letter_tokenizer(folder)
    stimulus = Stimulus(words=["ab", "cde", "f", "gh"], sentence=[0, 0, 1, 1])
    assert BLOCK_STYLES["llama"]["hidden_size"] == 16
    options = dict(layout=layout)
    heads = embed(stimulus, folder, sublayers="heads", **options)
    attention = embed(stimulus, folder, sublayers="attention", **options)
    assert heads.values.shape == (9, 4, 16)
    for block in range(2):
        total = heads.values[1 + 4 * block : 5 + 4 * block].sum(axis=0)
        np.testing.assert_allclose(total, attention.values[1 + block], atol=1e-5)
    np.testing.assert_allclose(heads.values[0], attention.values[0], atol=1e-6)


def test_heads_that_the_memory_cannot_hold(folder, monkeypatch):
    from brainalign_jax.language.hidden_states import head_vectors

    monkeypatch.setattr(head_vectors, "free_memory", lambda: 20_000)
    with pytest.raises(ValueError, match="8 heads of .* for 6 words of width 32 take 13,824 bytes"):
        embed(STIMULUS, folder, level="token", sublayers="heads")


def test_the_cache_tells_settings_apart(folder, tmp_path):
    cache = dict(level="token", cache_dir=tmp_path / "cache")
    first = [embed(STIMULUS, folder, interventions=text, **cache) for text in ("", "ffn:0")]
    again = [embed(STIMULUS, folder, interventions=text, **cache) for text in ("", "ffn:0")]
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a.values, b.values)
    assert np.abs(first[0].values - first[1].values).max() > 1e-2


@pytest.mark.parametrize(
    "options, message",
    [
        ({"interventions": "layer:9"}, "blocks 0 to 1"),
        ({"interventions": "heads"}, "not understood"),
        ({"sublayers": "ffn"}, "sublayers='ffn'"),
    ],
)
def test_parts_that_are_not_there(options, message, folder):
    with pytest.raises(ValueError, match=message):
        embed(STIMULUS, folder, **options)


def test_word_vectors_have_no_parts(tmp_path):
    path = tmp_path / "glove.txt"
    path.write_text("dog 1 2\n")
    with pytest.raises(ValueError, match="has no parts"):
        embed(Stimulus.from_words(["dog"]), f"static:{path}", interventions="layer:0")
