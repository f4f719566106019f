"""Foreign files cannot make the reader allocate, recurse or run: sizes are bounded first."""

import json
import tracemalloc

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from brainalign_jax.language.models import checkpoint as checkpoints
from brainalign_jax.language.models import (
    load_model,
    locate,
    read_architecture,
    read_config,
    read_tensors,
)
from brainalign_jax.language.models.weights import filling
from brainalign_jax.language.text.tokens import load_tokenizer


def set_config(folder, **fields):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))
    return folder


def refused(call, match):
    """The call is refused with one line, in less than 20 MB."""
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=match) as error:
            call()
        assert tracemalloc.get_traced_memory()[1] < 2e7
    finally:
        tracemalloc.stop()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "name, fields",
    [
        ("bert-mlm", {"num_hidden_layers": 10**9}),
        ("bert-mlm", {"hidden_size": 10**9}),
        ("gpt2-lm", {"n_layer": 1e9}),
        ("qwen3-lm", {"num_hidden_layers": 10**9}),
        ("llama-lm", {"head_dim": 10**9}),
        ("opt-lm", {"vocab_size": 10**9}),
        ("gpt2-lm", {"n_positions": 10**30}),
        ("bert-mlm", {"pad_token_id": 10**30}),
        ("gpt-neo-lm", {"attention_types": [[["global", "local"], 10**9]]}),
        ("gpt-neo-lm", {"attention_types": [3]}),
    ],
)
@pytest.mark.parametrize("prefix", ["", "untrained:"])
def test_a_size_beyond_any_model_is_refused_by_name(name, fields, prefix, checkpoint):
    folder = set_config(checkpoint(name), **fields)
    refused(lambda: load_model(f"{prefix}{folder}"), rf"config\.json: {next(iter(fields))} ")


@pytest.mark.parametrize(
    "name, fields",
    [
        ("bert-mlm", {"layer_norm_eps": float("nan")}),
        ("llama-lm", {"rms_norm_eps": -1e-5}),
        ("llama-lm", {"rope_parameters": {"rope_type": "linear", "factor": float("inf")}}),
        ("llama-lm", {"rope_parameters": {"rope_type": "default", "rope_theta": 0}}),
    ],
)
def test_a_number_that_makes_vectors_without_meaning_is_refused(name, fields, checkpoint):
    folder = set_config(checkpoint(name), **fields)
    refused(lambda: load_model(str(folder)), "(no|not all) positive numbers?; correct config")


def test_classes_of_a_head_are_not_counted_out(checkpoint):
    """transformers makes a list of them."""
    folder = set_config(checkpoint("bert-mlm"), num_labels=10**9)
    tracemalloc.start()
    assert read_architecture(folder).width == 32
    assert tracemalloc.get_traced_memory()[1] < 2e7
    tracemalloc.stop()


@pytest.mark.parametrize(
    "name, fields, shape",
    [
        ("gpt2-lm", {"n_embd": 2**18, "n_head": 1}, r"config\.json wants \(60, 262144\)"),
        ("llama-lm", {"intermediate_size": 2**20}, r"config\.json wants \(1048576, 32\)"),
    ],
)
def test_a_size_that_the_weights_do_not_have_allocates_nothing(name, fields, shape, checkpoint):
    folder = set_config(checkpoint(name), **fields)
    refused(lambda: load_model(str(folder)), shape)


def test_weights_beyond_the_memory_are_refused_before_they_are_read(checkpoint, monkeypatch):
    folder = checkpoint("opt-lm")
    for module in (filling, checkpoints):
        monkeypatch.setattr(module, "device_bytes", lambda: 50_000)
    with pytest.raises(ValueError, match=r"the weights in .* GB of memory that are free.*streamed"):
        load_model(str(folder))
    with pytest.raises(ValueError, match="untrained:.* take .* smaller model"):
        load_model(f"untrained:{folder}")


@pytest.mark.parametrize("depth", [5_000, 200_000])
@pytest.mark.parametrize(
    "name",
    ["config.json", "model.safetensors.index.json", "adapter_config.json", "modules.json"],
)
def test_deeply_nested_json_is_one_line(name, depth, checkpoint):
    folder = checkpoint("gpt2-lm")
    if "index" in name:
        (folder / "model.safetensors").unlink()
    if "adapter" in name:
        (folder / "adapter_model.safetensors").write_bytes(b"")
    (folder / name).write_text("[" * depth + "]" * depth)
    refused(lambda: load_model(str(folder)), rf"{name} is nested deeper .*Download it again")


def test_a_json_file_of_gigabytes_is_not_read(checkpoint):
    folder = checkpoint("gpt2-lm")
    with (folder / "config.json").open("r+b") as file:
        file.truncate(3 << 30)  # a hole: it takes no room on the disk
    refused(lambda: read_config(folder), "has 3221 MB, more than the 64 MB")


@pytest.mark.parametrize(
    "header",
    [
        b'{"w":{"dtype":"F32","shape":[1000000000,1000],"data_offsets":[0,4000000000000]}}',
        b'{"w":{"dtype":"F32","shape":[0,9223372036854775807],"data_offsets":[0,0]}}',
        b'{"w":' + b"[" * 5_000 + b"]" * 5_000 + b"}",
    ],
)
def test_a_safetensors_header_allocates_nothing(header, checkpoint):
    folder = checkpoint("gpt2-lm")
    path = folder / "model.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    refused(lambda: load_model(str(folder)), "truncated or corrupt|do not fit")
    path.write_bytes((1 << 62).to_bytes(8, "little") + header)
    refused(lambda: read_tensors(folder), "truncated or corrupt")


def test_a_tokenizer_with_code_of_its_own_never_runs_it(tmp_path, monkeypatch):
    """transformers asks on standard input whether to run it."""
    marker = tmp_path / "ran"
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\na\n")
    settings = {"auto_map": {"AutoTokenizer": ["own.Slow", "own.Fast"]}, "tokenizer_class": "Slow"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    own = f"open({str(marker)!r}, 'w').close()\nclass Slow: pass\nclass Fast: pass\n"
    (tmp_path / "own.py").write_text(own)
    config = {"model_type": "bert", "auto_map": {"AutoConfig": "own.Slow"}}
    asked = []
    monkeypatch.setattr("builtins.input", lambda *words: asked.append(words) or "y")
    for model_type in ("bert", "of-its-own"):
        (tmp_path / "config.json").write_text(json.dumps(config | {"model_type": model_type}))
        with pytest.raises(ValueError, match="code of its own .*never run; give a checkpoint"):
            load_tokenizer(tmp_path)
    assert not asked and not marker.exists()


def test_a_deep_tokenizer_file_is_one_line(checkpoint):
    folder = checkpoint("gpt2-lm")
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        (folder / name).write_text('{"a":' + "[" * 5_000 + "]" * 5_000 + "}")
        refused(lambda name=name: locate(str(folder)), f"{name} is nested deeper")
        (folder / name).unlink()


def test_sinusoidal_positions_of_distilbert_are_the_saved_table(checkpoint):
    folder = set_config(checkpoint("distilbert-mlm"), sinusoidal_pos_embds=True)
    name = "distilbert.embeddings.position_embeddings.weight"
    tensors = load_file(folder / "model.safetensors")
    rows, width = tensors[name].shape
    saved = np.arange(rows * width, dtype=np.float32).reshape(rows, width)
    save_file(tensors | {name: saved}, folder / "model.safetensors")
    np.testing.assert_array_equal(load_model(str(folder)).positions.table[...], saved)
    untrained = np.asarray(load_model(f"untrained:{folder}").positions.table[...])
    for position in range(rows):
        for column in range(width):
            angle = position / 10000 ** ((column - column % 2) / width)
            expected = np.cos(angle) if column % 2 else np.sin(angle)
            assert abs(untrained[position, column] - expected) < 1e-6
