"""Every format a checkpoint's weights come in gives the tensors of the same model."""

import hashlib
import json
import shutil

import ml_dtypes
import numpy as np
import pytest
from flax.serialization import msgpack_serialize
from flax.traverse_util import unflatten_dict
from safetensors.numpy import load_file, save_file

from brainalign_jax.language.models import fingerprint, hidden_states, load_model, read_tensors
from brainalign_jax.language.models.weights.weight_files import flax_to_torch_name

TINY = ["bert-mlm", "gpt2-lm", "opt-lm"]


def split_in_two(folder, stem="model", suffix="safetensors"):
    tensors = load_file(folder / f"{stem}.{suffix}")
    (folder / f"{stem}.{suffix}").unlink()
    names = [f"{stem}-0000{i}-of-00002.{suffix}" for i in (1, 2)]
    keys = sorted(tensors)
    halves = keys[: len(keys) // 2], keys[len(keys) // 2 :]
    for name, half in zip(names, halves, strict=True):
        save_file({k: tensors[k] for k in half}, folder / name, metadata={"format": "pt"})
    weight_map = {k: name for name, half in zip(names, halves, strict=True) for k in half}
    write_index(folder / f"{stem}.{suffix}.index.json", weight_map)
    return names


def write_index(path, weight_map):
    path.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map}))


def as_flax(tensors):
    """The tensors as transformers' flax models keep them: every matrix product turned."""
    flax = {}
    for name, values in tensors.items():
        path, leaf = name.rsplit(".", 1)
        if leaf == "weight" and "norm" in name.lower() or ".ln_" in name and leaf == "weight":
            flax[f"{path}.scale"] = values
        elif leaf == "weight" and ("embed" in path or path.endswith(("wte", "wpe"))):
            flax[f"{path}.embedding"] = values
        elif leaf == "weight":
            flax[f"{path}.kernel"] = np.ascontiguousarray(values.T)
        else:
            flax[name] = values
    return flax


def assert_equal_tensors(tensors, expected):
    assert set(tensors) == set(expected) and len(tensors) == len(expected)
    for name, values in expected.items():
        np.testing.assert_array_equal(tensors[name], values, err_msg=name)


def test_one_safetensors_file(models_dir):
    expected = load_file(models_dir / "gpt2-lm" / "model.safetensors")
    assert_equal_tensors(read_tensors(models_dir / "gpt2-lm"), expected)


def test_sharded_safetensors(checkpoint):
    folder = checkpoint("gpt2-lm")
    expected = load_file(folder / "model.safetensors")
    split_in_two(folder)
    assert_equal_tensors(read_tensors(folder), expected)


@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize("form", ["safetensors", "msgpack"])
def test_flax_weights_become_pytorchs(name, form, checkpoint):
    folder = checkpoint(name)
    file = folder / "model.safetensors"
    expected = load_file(file)
    flax = as_flax(expected)
    assert set(flax) != set(expected)
    if form == "safetensors":
        save_file(flax, file, metadata={"format": "flax"})
    else:
        file.unlink()
        tree = unflatten_dict({tuple(key.split(".")): value for key, value in flax.items()})
        (folder / "flax_model.msgpack").write_bytes(msgpack_serialize(tree))
    assert_equal_tensors(read_tensors(folder), expected)


def test_names_of_flax_parameters():
    assert flax_to_torch_name("h/0/attn/c_attn/kernel") == ("h.0.attn.c_attn.weight", True)
    assert flax_to_torch_name("params/wte/embedding") == ("wte.weight", False)
    assert flax_to_torch_name("ln_f.scale") == ("ln_f.weight", False)
    assert flax_to_torch_name("ln_f.bias") == ("ln_f.bias", False)


def test_legacy_bin_gives_the_same_hidden_states(
    models_dir, checkpoint, expected_states, assert_parity
):
    folder = checkpoint("bert-mlm", weights=False)
    shutil.copy(models_dir / "bert-mlm.legacy.bin", folder / "pytorch_model.bin")
    ids, mask, expected = expected_states("bert-mlm")
    assert_parity(hidden_states(load_model(str(folder)), ids, mask), expected, mask)


def opt_shards(models_dir, folder):
    names = [f"pytorch_model-0000{i}-of-00002.bin" for i in (1, 2)]
    for i, name in enumerate(names, 1):
        shutil.copy(models_dir / f"opt-lm.half-{i}-of-2.bin", folder / name)
    keys = set(load_file(models_dir / "opt-lm" / "model.safetensors")) - {"lm_head.weight"}
    write_index(folder / "pytorch_model.bin.index.json", {k: names["layers" in k] for k in keys})
    return keys


def test_sharded_bin_of_float16(models_dir, checkpoint, expected_states, assert_parity):
    folder = checkpoint("opt-lm", weights=False)
    keys = opt_shards(models_dir, folder)
    exact = load_file(models_dir / "opt-lm" / "model.safetensors")
    assert_equal_tensors(read_tensors(folder), {k: exact[k].astype(np.float16) for k in keys})
    ids, mask, expected = expected_states("opt-lm")
    model = load_model(str(folder))
    # Weights rounded to 11 bits; the arithmetic itself is float32.
    assert_parity(hidden_states(model, ids, mask), expected, mask, atol=0.02)


def test_zip_bin_of_bfloat16(models_dir, checkpoint):
    folder = checkpoint("opt-350m", weights=False)
    shutil.copy(models_dir / "opt-350m.bfloat16.bin", folder / "pytorch_model.bin")
    exact = load_file(models_dir / "opt-350m" / "model.safetensors")
    rounded = {k: v.astype(ml_dtypes.bfloat16) for k, v in exact.items()}
    assert_equal_tensors(read_tensors(folder), rounded)
    save_file(rounded, folder / "model.safetensors", metadata={"format": "pt"})
    from_safetensors = load_model(str(folder))
    (folder / "model.safetensors").unlink()
    ids, mask = np.arange(3, 9, dtype=np.int32)[None], np.ones((1, 6), np.int32)
    a, b = (hidden_states(m, ids, mask) for m in (from_safetensors, load_model(str(folder))))
    np.testing.assert_array_equal(a.states, b.states)


def test_safetensors_are_preferred(models_dir, checkpoint):
    folder = checkpoint("bert-mlm")
    (folder / "pytorch_model.bin").write_bytes(b"not read")
    assert "bert.embeddings.word_embeddings.weight" in read_tensors(folder)


def test_fingerprint_is_the_sha256_of_the_bytes(checkpoint):
    folder = checkpoint("gpt2-lm")
    whole = (folder / "model.safetensors").read_bytes()
    assert fingerprint(folder) == hashlib.sha256(whole).hexdigest()
    names = split_in_two(folder)
    joined = b"".join((folder / name).read_bytes() for name in names)
    assert fingerprint(folder) == hashlib.sha256(joined).hexdigest()
    (folder / names[1]).write_bytes((folder / names[1]).read_bytes()[:-1] + b"\x01")
    assert fingerprint(folder) != hashlib.sha256(joined).hexdigest()


# Errors


def test_no_weights(tmp_path):
    (tmp_path / "tf_model.h5").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match=r"holds no weights.*it holds tf_model\.h5"):
        read_tensors(tmp_path)


@pytest.mark.parametrize("kept", [0.0, 0.001, 0.1, 0.999])
@pytest.mark.parametrize("name", ["model.safetensors", "flax_model.msgpack"])
def test_truncated_files(name, kept, checkpoint):
    folder = checkpoint("gpt2-lm")
    whole = (folder / "model.safetensors").read_bytes()
    if name == "flax_model.msgpack":
        tensors = load_file(folder / "model.safetensors")
        whole = msgpack_serialize({k: np.array(v) for k, v in tensors.items()})
        (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(ValueError, match=rf"{name} is truncated or corrupt.*Download it again"):
        read_tensors(folder)


def test_a_git_lfs_pointer(checkpoint):
    folder = checkpoint("gpt2-lm")
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
    (folder / "model.safetensors").write_text(pointer)
    with pytest.raises(ValueError, match="git lfs pull"):
        read_tensors(folder)


def test_an_unknown_format(checkpoint):
    folder = checkpoint("gpt2-lm")
    tensors = load_file(folder / "model.safetensors")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "tf"})
    with pytest.raises(ValueError, match="format is 'tf'; supported: pt, flax"):
        read_tensors(folder)


def test_a_missing_shard(checkpoint):
    folder = checkpoint("gpt2-lm")
    (folder / split_in_two(folder)[1]).unlink()
    with pytest.raises(FileNotFoundError, match=r"not there: model-00002-of-00002\.safetensors"):
        read_tensors(folder)


def test_an_index_with_more_than_its_shards(checkpoint):
    folder = checkpoint("gpt2-lm")
    names = split_in_two(folder)
    index = folder / "model.safetensors.index.json"
    weight_map = json.loads(index.read_text())["weight_map"]
    write_index(index, weight_map | {"lost.weight": names[0]})
    with pytest.raises(ValueError, match=r"do not hold: lost\.weight"):
        read_tensors(folder)


def test_a_tensor_in_two_shards(checkpoint):
    folder = checkpoint("gpt2-lm")
    names = split_in_two(folder)
    tensors = load_file(folder / names[0]) | load_file(folder / names[1])
    save_file(tensors, folder / names[1], metadata={"format": "pt"})
    with pytest.raises(ValueError, match="twice"):
        read_tensors(folder)


@pytest.mark.parametrize("file", ["../x.safetensors", "/etc/x.safetensors", "a\\b", 3])
def test_an_index_that_leaves_its_folder(file, checkpoint):
    folder = checkpoint("gpt2-lm", weights=False)
    write_index(folder / "model.safetensors.index.json", {"w": file})
    with pytest.raises(ValueError, match="outside its folder"):
        read_tensors(folder)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"weight_map": []}'])
def test_a_damaged_index(text, checkpoint):
    folder = checkpoint("gpt2-lm", weights=False)
    (folder / "model.safetensors.index.json").write_text(text)
    with pytest.raises(ValueError, match=r"index\.json is truncated or corrupt"):
        read_tensors(folder)


@pytest.mark.parametrize("kind", ["safetensors", "bin", "legacy"])
def test_a_file_replaced_between_two_tensors_is_not_mixed_with_the_first(
    kind, models_dir, checkpoint
):
    """Tensors are read when asked for, each from the file opened anew."""
    folder = checkpoint("bert-mlm")
    path = folder / "model.safetensors"
    if kind != "safetensors":
        stored = {"bin": "opt-350m.bfloat16.bin", "legacy": "bert-mlm.legacy.bin"}[kind]
        path.unlink()
        path = folder / "pytorch_model.bin"
        shutil.copy(models_dir / stored, path)
    tensors = read_tensors(folder)
    first, second, *_ = tensors
    before = tensors[first].copy()
    shutil.copy(path, folder / "new")
    (folder / "new").replace(path)
    with pytest.raises(ValueError, match=rf"{path.name} was replaced .* mix two checkpoints"):
        tensors[second]
    again = read_tensors(folder)
    np.testing.assert_array_equal(again[first], before)
    with path.open("ab") as file:
        file.write(b" ")
    with pytest.raises(ValueError, match="was replaced or written to"):
        again[second]
