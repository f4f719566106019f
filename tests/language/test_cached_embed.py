"""`embed` with a cache: what hits, what misses, and a process that is killed."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from small_models import add_letter_tokenizer, save_checkpoint

from brainalign_jax.language import embed
from brainalign_jax.language.cache import EmbeddingCache
from brainalign_jax.language.models import checkpoint
from brainalign_jax.stimulus import Stimulus

REPOSITORY = Path(__file__).resolve().parents[2]
WORDS = ["the", "dog", "sat", "on", "a", "bank", "and", "then", "it", "ran"]


@pytest.fixture
def folder(tmp_path):
    folder = save_checkpoint("gpt2", tmp_path / "model", shards=3)
    add_letter_tokenizer(folder)
    return Path(folder)


def test_only_the_same_text_model_and_settings_are_found(folder, tmp_path, monkeypatch):
    loaded = []
    load = checkpoint.open_weights
    monkeypatch.setattr(
        checkpoint, "open_weights", lambda *a, **k: loaded.append(1) or load(*a, **k)
    )
    place = tmp_path / "cache"
    text = Stimulus.from_words(WORDS, sentence=[0] * 10)

    def times(stimulus=text, **options):
        before = len(loaded)
        vectors = embed(stimulus, str(folder), cache_dir=place, **options)
        return len(loaded) - before, vectors

    first = times()
    again = times()
    assert (first[0], again[0]) == (1, 0)
    assert again[1].fingerprint() == first[1].fingerprint()
    assert times(batch_tokens=16)[0] == times(layout="streamed")[0] == 0
    streamed = embed(text, str(folder), layout="streamed")
    np.testing.assert_allclose(streamed.values, first[1].values, atol=1e-5)
    other = Stimulus.from_words([*WORDS[:-1], "sat"], sentence=[0] * 10)
    assert times(other)[0] == 1
    for options in ({"pooling": "last"}, {"context": "word"}, {"dtype": "bfloat16"}):
        assert times(**options)[0] == 1
    shard = sorted(folder.glob("*.safetensors"))[0]
    tensors = load_file(shard)
    name = next(iter(tensors))
    tensors[name] = tensors[name] + 1
    save_file(tensors, shard, metadata={"format": "pt"})
    assert times()[0] == 1
    vocabulary = folder / "vocab.json"
    vocabulary.write_text(vocabulary.read_text().replace('"d": 5, "e": 6', '"e": 5, "d": 6'))
    assert times()[0] == 1
    assert EmbeddingCache(place).faults() == {}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs SIGKILL")
@pytest.mark.parametrize("when", ["before", "behind"])
def test_weights_replaced_meanwhile_are_not_kept_under_the_old_name(
    when, folder, tmp_path, monkeypatch
):
    """Another process may hold the entry's lock for long: what is loaded then is not what was named."""
    shard = sorted(folder.glob("*.safetensors"))[0]
    load = checkpoint.open_weights

    def replaced(*args, **options):
        weights = load(*args, **options) if when == "behind" else None
        tensors = load_file(shard)
        new = {name: values + 1 for name, values in tensors.items()}
        save_file(new, shard.with_suffix(".new"), metadata={"format": "pt"})
        shard.with_suffix(".new").replace(shard)
        return weights or load(*args, **options)

    text = Stimulus.from_words(WORDS, sentence=[0] * 10)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "open_weights", replaced)
        with pytest.raises(ValueError, match="replaced (after they were named|or written)"):
            embed(text, str(folder), cache_dir=tmp_path / "cache")
    assert EmbeddingCache(tmp_path / "cache").entries() == []
    embedded = embed(text, str(folder), cache_dir=tmp_path / "cache")
    np.testing.assert_array_equal(embedded.values, embed(text, str(folder)).values)


def test_killed_extractions_go_on(folder, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(REPOSITORY))
    from benchmarks import pull_the_plug as plug

    cache = str(tmp_path / "cache")
    expected = plug.extract_slowly(str(folder), None, "whole", 0.0)
    before = 0
    for line in ("saved", "saved 3", "writing"):
        process = plug.start(str(folder), cache, "whole", 0.2)
        lines, killed = plug.kill_at(process, line, 0.0)
        if not killed:
            break
        assert process.returncode == -signal.SIGKILL
        saved = [int(printed.split()[1]) for printed in lines if printed.startswith("saved")]
        assert all(number > before for number in saved), "a finished batch was computed again"
        before = max([before, *saved])
        if "written" not in lines:
            assert plug.saved_batches(cache) >= before
    resumed = plug.extract_slowly(str(folder), cache, "whole", 0.0)
    assert resumed.fingerprint() == expected.fingerprint()
    assert [entry.kind for entry in EmbeddingCache(cache).entries()] == ["entry"]
