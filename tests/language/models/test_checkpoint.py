"""Finding, reading and filling checkpoints: every file format, every refusal."""

import json
import math
import subprocess
import sys

import huggingface_hub
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from flax import nnx
from huggingface_hub import errors
from safetensors.numpy import load_file, save_file

from brainalign_jax.language.models import (
    hidden_states,
    load_model,
    locate,
    read_architecture,
    read_config,
    resolve,
)
from brainalign_jax.language.models.checkpoint import _needed_files


def rewrite(folder, change):
    """Apply `change` to the dictionary of tensors in a folder."""
    tensors = load_file(folder / "model.safetensors")
    save_file(change(tensors) or tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def set_config(folder, **fields):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))
    return folder


def parameters(model):
    return {
        ".".join(map(str, path)): np.asarray(leaf[...])
        for path, leaf in nnx.to_flat_state(nnx.state(model, nnx.Param))
    }


def assert_same_parameters(a, b):
    a, b = parameters(a), parameters(b)
    assert a.keys() == b.keys()
    for path in a:
        np.testing.assert_array_equal(a[path], b[path], err_msg=path)


# Names of tensors


@pytest.mark.parametrize(
    "name, prefix",
    [("bert-mlm", "bert."), ("gpt2-lm", "transformer."), ("opt-lm", "model.decoder.")],
)
def test_base_model_without_prefix_or_head_loads_the_same(name, prefix, checkpoint, models_dir):
    def strip(tensors):
        return {
            key.removeprefix(prefix): value
            for key, value in tensors.items()
            if key.startswith(prefix)
        }

    folder = rewrite(checkpoint(name), strip)
    assert_same_parameters(load_model(str(folder)), load_model(str(models_dir / name)))


def test_opt_prefix_decoder(checkpoint, models_dir):
    def shorten(tensors):
        return {key.replace("model.decoder.", "decoder."): v for key, v in tensors.items()}

    folder = rewrite(checkpoint("opt-lm"), shorten)
    assert_same_parameters(load_model(str(folder)), load_model(str(models_dir / "opt-lm")))


def test_gamma_and_beta_are_old_names_of_the_layer_norm(checkpoint, models_dir):
    def age(tensors):
        return {
            key.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
                "LayerNorm.bias", "LayerNorm.beta"
            ): value
            for key, value in tensors.items()
        }

    folder = rewrite(checkpoint("bert-mlm"), age)
    assert "bert.embeddings.LayerNorm.gamma" in load_file(folder / "model.safetensors")
    assert_same_parameters(load_model(str(folder)), load_model(str(models_dir / "bert-mlm")))


def test_heads_and_buffers_are_left_aside(checkpoint, models_dir):
    extra = {
        "bert-mlm": [
            "bert.pooler.dense.weight",
            "cls.seq_relationship.bias",
            "bert.embeddings.position_ids",
            "classifier.weight",
            "qa_outputs.bias",
        ],
        "gpt2-lm": [
            "transformer.h.0.attn.bias",
            "transformer.h.1.attn.masked_bias",
            "score.weight",
        ],
        "opt-lm": ["model.decoder.version", "lm_head.weight", "score.weight"],
        "roberta-mlm": ["roberta.pooler.dense.weight", "roberta.embeddings.position_ids"],
        "gpt-neo-lm": ["transformer.h.0.attn.attention.bias"],
        "pythia-lm": [
            "gpt_neox.layers.0.attention.bias",
            "gpt_neox.layers.1.attention.masked_bias",
            "gpt_neox.layers.0.attention.rotary_emb.inv_freq",
            "embed_out.weight",
        ],
        "llama-lm": ["model.layers.0.self_attn.rotary_emb.inv_freq", "lm_head.weight"],
    }
    for name, keys in extra.items():
        folder = rewrite(
            checkpoint(name), lambda t, keys=keys: t | {k: np.zeros(3, np.int64) for k in keys}
        )
        assert_same_parameters(load_model(str(folder)), load_model(str(models_dir / name)))


def test_all_unused_and_unfilled_tensors_are_listed(checkpoint):
    def change(tensors):
        del tensors["transformer.h.0.ln_1.bias"], tensors["transformer.wpe.weight"]
        return tensors | {"transformer.h.2.ln_1.bias": np.zeros(32), "extra": np.zeros(1)}

    folder = rewrite(checkpoint("gpt2-lm"), change)
    with pytest.raises(ValueError) as error:
        load_model(str(folder))
    text = str(error.value)
    unfilled, unused = text.split("no place for:")
    assert "no tensor for:" in unfilled and str(folder) in unfilled
    assert "h.0.ln_1.bias" in unfilled and "wpe.weight" in unfilled
    assert "transformer.h.2.ln_1.bias" in unused and "extra" in unused
    assert "download both again" in unused


def test_one_block_too_many_in_the_config_is_an_error(checkpoint):
    with pytest.raises(ValueError, match=r"no tensor for: .*layers\.2\.fc1\.weight"):
        load_model(str(set_config(checkpoint("opt-lm"), num_hidden_layers=3)))


def test_one_block_too_few_in_the_config_is_an_error(checkpoint):
    with pytest.raises(ValueError, match=r"no place for: .*layers\.1\.fc1\.weight"):
        load_model(str(set_config(checkpoint("opt-lm"), num_hidden_layers=1)))


def test_all_wrong_shapes_are_listed_with_both(checkpoint):
    def change(tensors):
        tensors["bert.embeddings.word_embeddings.weight"] = np.zeros((61, 32), np.float32)
        tensors["bert.encoder.layer.1.output.dense.weight"] = np.zeros((24, 32), np.float32)

    folder = rewrite(checkpoint("bert-mlm"), change)
    with pytest.raises(ValueError) as error:
        load_model(str(folder))
    text = str(error.value)
    assert "word_embeddings.weight has shape (61, 32), config.json wants (60, 32)" in text
    assert "output.dense.weight has shape (24, 32), config.json wants (32, 24)" in text


def test_integers_for_weights_are_an_error(checkpoint):
    def change(tensors):
        tensors["transformer.ln_f.bias"] = np.zeros(32, np.int32)

    with pytest.raises(ValueError, match=r"ln_f\.bias has dtype int32, not a float"):
        load_model(str(rewrite(checkpoint("gpt2-lm"), change)))


def test_a_tensor_with_and_without_prefix_is_an_error(checkpoint):
    def change(tensors):
        return tensors | {"wpe.weight": tensors["transformer.wpe.weight"]}

    with pytest.raises(ValueError, match=r"both the tensor wpe\.weight"):
        load_model(str(rewrite(checkpoint("gpt2-lm"), change)))


# dtypes


@pytest.mark.parametrize("stored", [np.float16, ml_dtypes.bfloat16, np.float64])
def test_other_floats_in_the_file_become_the_asked_dtype(stored, checkpoint, models_dir):
    folder = rewrite(
        checkpoint("opt-lm"), lambda t: {key: value.astype(stored) for key, value in t.items()}
    )
    loaded, exact = load_model(str(folder)), load_model(str(models_dir / "opt-lm"))
    for path, values in parameters(loaded).items():
        assert values.dtype == np.float32
        expected = parameters(exact)[path].astype(stored).astype(np.float32)
        np.testing.assert_array_equal(values, expected)


@pytest.mark.parametrize("dtype", ["int32", "float64", "complex64", "nonsense"])
def test_an_unsupported_dtype_is_an_error(dtype, models_dir):
    with pytest.raises(ValueError, match=f"unknown dtype='{dtype}'; known: float32"):
        load_model(str(models_dir / "opt-lm"), dtype=dtype)


# config.json


@pytest.mark.parametrize(
    "name, fields, message",
    [
        ("bert-mlm", {"position_embedding_type": "relative_key"}, "position_embedding_type"),
        ("bert-mlm", {"is_decoder": True}, "is_decoder=True"),
        ("bert-mlm", {"pruned_heads": {"0": [1]}}, "pruned_heads"),
        ("bert-mlm", {"hidden_act": "xielu"}, "unknown activation 'xielu' of bert; .*gelu"),
        ("bert-mlm", {"num_attention_heads": 5}, "multiple of the 5 attention heads"),
        ("bert-mlm", {"hidden_size": "wide"}, "hidden_size"),
        ("gpt2-lm", {"add_cross_attention": True}, "add_cross_attention=True"),
        ("opt-lm", {"quantization_config": {"quant_method": "gptq"}}, "quantization_config"),
        ("opt-lm", {"model_type": "t5"}, "'t5' is not supported; supported: bert, .*gpt2, .*opt"),
        ("roberta-mlm", {"pad_token_id": None}, "pad_token_id is None"),
        ("gpt-neo-lm", {"attention_layers": ["local", "sparse"]}, "'sparse'"),
        ("llama-lm", {"rope_parameters": {"rope_type": "yarn", "factor": 2.0}}, "rope_type='yarn'"),
        (
            "llama-lm",
            {"rope_parameters": {"rope_type": "llama3", "factor": 2.0}},
            "low_freq_factor",
        ),
        ("llama-lm", {"num_key_value_heads": 3}, "cannot share 3 heads"),
        ("llama-lm", {"quantization_config": {"quant_method": "awq"}}, "quantization_config"),
        ("mistral-lm", {"layer_types": ["full_attention"] * 2}, "layer_types"),
        ("qwen3-lm", {"head_dim": 11}, "even|cannot be paired"),
        ("opt-lm", {"model_type": None}, "model_type None is not supported"),
    ],
)
def test_a_config_we_do_not_implement_is_an_error(name, fields, message, checkpoint):
    folder = set_config(checkpoint(name), **fields)
    with pytest.raises(ValueError, match=message) as error:
        load_model(str(folder))
    assert "config.json" in str(error.value)


def test_a_config_without_model_type_takes_the_known_family(checkpoint):
    folder = set_config(checkpoint("bert-mlm"), model_type=None, position_embedding_type="absolute")
    assert read_config(folder, family="bert").model_type == "bert"
    assert read_architecture(folder, family="bert").width == 32


@pytest.mark.parametrize("text", ["{", "[]", '"bert"', ""])
def test_a_damaged_config_is_an_error(text, checkpoint):
    folder = checkpoint("opt-lm")
    (folder / "config.json").write_text(text)
    with pytest.raises(ValueError, match=r"config\.json .*Download it again"):
        read_config(folder)


def test_a_missing_config_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no .*config\.json; download"):
        read_config(tmp_path)


# Where checkpoints lie


def test_a_folder_is_taken_as_it_is(models_dir):
    assert locate(str(models_dir / "opt-lm")) == models_dir / "opt-lm"


@pytest.mark.parametrize("source", ["./nowhere", "/nowhere/at/all", "~/nowhere", "a/b/c"])
def test_a_missing_folder_is_an_error(source):
    with pytest.raises(FileNotFoundError, match="no folder .*give a folder with config.json"):
        locate(source)


def test_a_file_is_not_a_folder(models_dir):
    with pytest.raises(ValueError, match="is a file; give the folder"):
        locate(str(models_dir / "opt-lm" / "config.json"))


def test_offline_and_not_in_the_cache_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="hf download some-owner/some-model"):
        locate("some-owner/some-model")


def test_the_cache_serves_offline(models_dir, monkeypatch):
    def offline(*args, **kwargs):
        raise errors.OfflineModeIsEnabled("offline")

    def cached(repo, *, revision, local_files_only, allow_patterns):
        assert (repo, revision, local_files_only) == ("owner/name", "v1", True)
        assert "config.json" in allow_patterns
        return str(models_dir / "opt-lm")

    monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_files", offline)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", cached)
    assert locate("owner/name", revision="v1") == models_dir / "opt-lm"


def test_a_download_takes_one_format_of_the_weights(models_dir, monkeypatch):
    names = ["README.md", "config.json", "vocab.txt", "tf_model.h5", "pytorch_model.bin"]
    asked = []
    monkeypatch.setattr(
        huggingface_hub.HfApi, "list_repo_files", lambda self, repo, revision: names
    )
    monkeypatch.setattr(
        huggingface_hub,
        "snapshot_download",
        lambda repo, revision, allow_patterns: asked.append(allow_patterns) or str(models_dir),
    )
    locate("owner/name")
    locate("owner/name", weights=False)
    names.append("model.safetensors")
    locate("owner/name")
    assert asked == [
        ["config.json", "vocab.txt", "pytorch_model.bin"],
        ["config.json", "vocab.txt"],
        ["config.json", "vocab.txt", "model.safetensors"],
    ]


def test_shards_are_asked_for_with_their_index():
    names = ["pytorch_model.bin.index.json", "pytorch_model-00001-of-00002.bin", "config.json"]
    needed = _needed_files(names, weights=True)
    assert needed[1:] == ["pytorch_model.bin.index.json", "pytorch_model-*-of-*.bin"]


def test_an_unknown_repository_or_revision_is_an_error(monkeypatch):
    class Reply:
        headers, status_code, request, url = {}, 404, None, ""

    def fail(kind):
        def list_repo_files(self, repo, revision):
            raise kind("no", response=Reply())

        monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_files", list_repo_files)

    fail(errors.RepositoryNotFoundError)
    with pytest.raises(FileNotFoundError, match="neither a folder here nor a model"):
        locate("owner/nothing")
    fail(errors.RevisionNotFoundError)
    with pytest.raises(ValueError, match="owner/name has no revision 'v9'"):
        locate("owner/name", revision="v9")


# Untrained models


def test_untrained_needs_only_the_config(checkpoint):
    folder = checkpoint("gpt2-lm", weights=False)
    with pytest.raises(FileNotFoundError, match="holds no weights"):
        load_model(str(folder))
    model = load_model(f"untrained:{folder}")
    ids = np.arange(6, dtype=np.int32)[None]
    assert np.isfinite(hidden_states(model, ids, np.ones_like(ids)).states).all()


def test_untrained_weights_are_seeded(checkpoint):
    name = f"untrained:{checkpoint('bert-mlm', weights=False)}"
    assert_same_parameters(load_model(name, seed=3), load_model(resolve(name), seed=3))
    other = parameters(load_model(name, seed=4))["words.table"]
    assert not np.array_equal(parameters(load_model(name, seed=3))["words.table"], other)


@pytest.mark.parametrize("name", ["bert-mlm", "gpt2-lm", "opt-350m", "roberta-mlm", "qwen3-lm"])
def test_untrained_weights_are_drawn_as_transformers_does(name, checkpoint):
    folder = checkpoint(name, weights=False)
    model = load_model(f"untrained:{folder}")
    for path, values in parameters(model).items():
        if path.endswith(".bias"):
            assert not values.any(), path
        elif path.endswith(".scale"):
            assert (values == 1).all(), path
        else:
            gpt2_residual = name == "gpt2-lm" and path.split(".")[1] in ("attention_out", "ffn_out")
            std = 0.02 / math.sqrt(2 * 2) if gpt2_residual else 0.02
            # Five standard errors of a standard deviation from n draws.
            assert abs(values.std() / std - 1) < 5 / math.sqrt(2 * values.size) + 0.02, path
    words = np.asarray(model.words.table[...])
    zero_row = {"bert-mlm": 0, "opt-350m": 1, "roberta-mlm": 1}.get(name)
    zeros = np.flatnonzero(~words.any(axis=1))
    np.testing.assert_array_equal(zeros, [] if zero_row is None else [zero_row])
    assert model.n_params == sum(values.size for values in parameters(model).values())


def test_vectors_are_not_a_model():
    with pytest.raises(ValueError, match="not a transformer"):
        load_model("static:vectors.txt")


def test_loaded_parameters_are_on_the_device(models_dir):
    model = load_model(str(models_dir / "opt-lm"), dtype=jnp.bfloat16)
    for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)):
        assert isinstance(leaf, jax.Array) and leaf.dtype == jnp.bfloat16


def test_torch_is_not_needed(models_dir):
    """Loading and running in a process in which torch cannot be imported."""
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "import numpy as np\n"
        "from brainalign_jax.language.models import load_model, hidden_states\n"
        f"model = load_model({str(models_dir / 'bert-mlm')!r})\n"
        "ids = np.ones((1, 3), np.int32)\n"
        "print(hidden_states(model, ids, ids).states.shape)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "(3, 1, 3, 32)" in done.stdout, done.stderr
