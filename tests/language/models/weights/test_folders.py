"""Checkpoints as they lie on disks: each is found, or refused by what it is."""

import json
import shutil

import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file, save_file

from brainalign_jax.language.models import load_model, locate, read_config, resolve
from brainalign_jax.language.models.families.table import FAMILIES
from brainalign_jax.language.models.registry import split_revision

COMMITS = "1" * 40, "2" * 40


@pytest.fixture
def hub_folder(models_dir, tmp_path):
    """A folder of the hub's cache with two snapshots, main being the second."""
    folder = tmp_path / "models--owner--tiny"
    for commit, name in zip(COMMITS, ("opt-lm", "opt-350m"), strict=True):
        shutil.copytree(models_dir / name, folder / "snapshots" / commit)
    for reference, commit in (("main", COMMITS[1]), ("step10", COMMITS[0]), ("pr/1", COMMITS[0])):
        path = folder / "refs" / reference
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(commit)
    return folder


@pytest.mark.parametrize(
    "revision, commit",
    [
        (None, 1),
        ("main", 1),
        ("step10", 0),
        ("pr/1", 0),
        (COMMITS[0], 0),
        (COMMITS[0][:8], 0),
    ],
)
def test_a_folder_of_the_hubs_cache_is_its_snapshot(revision, commit, hub_folder):
    snapshot = hub_folder / "snapshots" / COMMITS[commit]
    assert locate(str(hub_folder), revision=revision) == snapshot
    if revision:
        assert locate(resolve(f"untrained:{hub_folder}@{revision}").source) == snapshot


def test_a_snapshot_that_is_not_there_is_an_error(hub_folder):
    for revision in ("v9", "../main", "..", COMMITS[0][:3]):
        with pytest.raises((FileNotFoundError, ValueError), match="no snapshot of|no revision"):
            locate(str(hub_folder), revision=revision)
    shutil.rmtree(hub_folder / "snapshots" / COMMITS[1])
    with pytest.raises(FileNotFoundError, match=f"names the snapshot '{COMMITS[1]}', which is not"):
        locate(str(hub_folder))
    (hub_folder / "refs" / "main").unlink()
    assert locate(str(hub_folder)).name == COMMITS[0]


def test_a_plain_folder_has_no_revisions(models_dir):
    with pytest.raises(ValueError, match="a folder of files, which has no revision 'v1'"):
        locate(str(models_dir / "opt-lm"), revision="v1")


def test_sentence_transformers_keep_the_checkpoint_further_in(checkpoint, tmp_path):
    folder = checkpoint("bert-mlm")
    outer = tmp_path / "outer"
    shutil.copytree(folder, outer / "0_Transformer")
    (outer / "config.json").write_text('{"__version__": "0.2.0"}')
    assert locate(str(outer)) == outer / "0_Transformer"
    module = {"idx": 0, "name": "0", "path": "0_Transformer"}
    module["type"] = "sentence_transformers.models.Transformer"
    write = (outer / "modules.json").write_text
    write(json.dumps([module]))
    assert locate(str(outer)) == outer / "0_Transformer"
    write(json.dumps([module | {"path": "../bert-mlm"}]))
    with pytest.raises(ValueError, match="outside of its folder"):
        locate(str(outer))
    write(json.dumps([module | {"path": "0_Nothing"}]))
    with pytest.raises(FileNotFoundError, match="0_Nothing, where no config.json is; copy"):
        locate(str(outer))
    write(json.dumps([module | {"type": "sentence_transformers.models.WordEmbeddings"}]))
    with pytest.raises(ValueError, match="begins with WordEmbeddings, not with a transformer"):
        locate(str(outer))
    (folder / "modules.json").write_text(json.dumps([module | {"path": ""}]))
    assert locate(str(folder)) == folder


@pytest.mark.parametrize(
    "name, message",
    [
        ("quantize_config.json", "GPTQ or AWQ"),
        ("consolidated.00.pth", "its maker's own format"),
        ("tf_model.h5", "TensorFlow weights only"),
        ("model.onnx", "a compiled model"),
        ("weights.pt", "weights in another form"),
        ("models--a--b", "a Hugging Face cache; give one of its models: models--a--b"),
    ],
)
@pytest.mark.parametrize("with_config", [False, True])
def test_a_folder_of_something_else_says_what_it_is(
    name, message, with_config, checkpoint, models_dir, tmp_path
):
    (tmp_path / name).mkdir() if "--" in name else (tmp_path / name).write_bytes(b"")
    if with_config:
        shutil.copy(models_dir / "opt-lm" / "config.json", tmp_path)
    with pytest.raises(FileNotFoundError, match=message) as error:
        load_model(str(tmp_path))
    assert "download the checkpoint's config.json" not in str(error.value)


def test_a_folder_of_checkpoints_and_lost_links_are_told(models_dir, tmp_path):
    with pytest.raises(FileNotFoundError, match="folders with one: bert-mlm, .*give one of them"):
        read_config(models_dir)
    (tmp_path / "config.json").symlink_to(tmp_path / "blobs" / "gone")
    with pytest.raises(
        FileNotFoundError, match=r"links to files that are not there \(config\.json"
    ):
        read_config(tmp_path)


@pytest.mark.parametrize(
    "name, message",
    [
        ("tiny.Q8_0.gguf", "on the hub holds weights for llama.cpp only .*give its path"),
        ("README.md", "no checkpoint of transformers"),
    ],
)
def test_a_repository_of_something_else_says_what_it_is(name, message, monkeypatch):
    import huggingface_hub

    monkeypatch.setattr(
        huggingface_hub.HfApi, "list_repo_files", lambda self, repo, revision: [name]
    )
    with pytest.raises(FileNotFoundError, match=message):
        locate("owner/name")


# Weights under other names, of other types


def parameters(model):
    return [np.asarray(leaf[...]) for _, leaf in nnx.to_flat_state(nnx.state(model, nnx.Param))]


@pytest.mark.parametrize(
    "wrap",
    [
        lambda name: f"module.{name}",
        lambda name: f"_orig_mod.module.{name}",
        lambda name: name.replace("h.0.", "h.0._orig_mod.").replace(
            "h.1.", "h.1._checkpoint_wrapped_module."
        ),
        lambda name: name.replace("transformer.", "_fsdp_wrapped_module.transformer."),
    ],
)
def test_names_that_wrappers_make_are_stripped(wrap, checkpoint, models_dir):
    folder = checkpoint("gpt2-lm")
    tensors = load_file(folder / "model.safetensors")
    save_file({wrap(name): tensors[name] for name in tensors}, folder / "model.safetensors")
    expected = parameters(load_model(str(models_dir / "gpt2-lm")))
    for ours, theirs in zip(parameters(load_model(str(folder))), expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    both = tensors | {wrap(name): tensors[name] for name in tensors}
    save_file(both, folder / "model.safetensors")
    with pytest.raises(ValueError, match="twice"):
        load_model(str(folder))


@pytest.mark.parametrize(
    "name, dtype, message",
    [
        ("transformer.h.0.attn.c_attn.qweight", "int32", "GPTQ or AWQ"),
        ("transformer.h.0.attn.c_attn.weight.absmax", "float32", "bitsandbytes"),
        ("transformer.h.0.attn.c_attn.weight_scale_inv", "float32", "float8"),
        ("transformer.h.0.attn.c_attn.weight", "float8_e4m3fn", "F8_E4M3"),
        ("transformer.h.0.attn.c_attn.weight", "float8_e5m2", "F8_E5M2"),
    ],
)
def test_quantised_weights_are_refused_by_what_they_are(name, dtype, message, checkpoint):
    import ml_dtypes  # noqa: F401 the names of the narrow types

    folder = checkpoint("gpt2-lm")
    tensors = load_file(folder / "model.safetensors")
    tensors[name] = np.ones((32, 96), np.dtype(dtype))
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(ValueError, match=f"{name} is one of quantised weights.*{message}.*Use the"):
        load_model(str(folder))


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"quant_method": "gptq", "bits": 4}, "gptq, 4 bits"),
        ({"load_in_8bit": True}, "bitsandbytes, 8 bits"),
        ({"quant_method": "fp8"}, "fp8"),
        ([1], "an unnamed method"),
        ({"quant_method": "a\nb", "bits": "4\n"}, r"a\\nb"),
    ],
)
def test_a_quantised_config_says_the_method(fields, message, checkpoint):
    folder = checkpoint("opt-lm")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"quantization_config": fields}))
    with pytest.raises(
        ValueError, match=rf"quantised \({message}\).*Use the model it was made from"
    ):
        load_model(str(folder))


# Other families


@pytest.mark.parametrize(
    "model_type, what, near",
    [
        *((name, "an encoder and a decoder", "bert") for name in ("t5", "bart", "marian")),
        *((name, "an encoder", "bert") for name in ("xlm", "deberta", "deberta-v2", "electra")),
        *((name, "an encoder", "bert") for name in ("albert", "xlnet", "modernbert")),
        *((name, "a causal decoder", "gpt2") for name in ("bloom", "falcon", "mpt", "gptj")),
        *((name, "a causal decoder", "llama") for name in ("gemma", "gemma2", "phi", "phi3")),
        *((name, "a state-space or recurrent", "gpt2") for name in ("mamba", "rwkv")),
        ("mixtral", "a mixture of experts", "mistral"),
        ("llava", "a model of more than text", "llama"),
        ("xlm-roberta", "RoBERTa with another vocabulary", "roberta"),
    ],
)
def test_another_family_is_refused_by_what_it_is(model_type, what, near, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    with pytest.raises(ValueError) as error:
        load_model(str(tmp_path))
    text = str(error.value)
    assert f"model_type {model_type!r} is not supported; supported: {', '.join(FAMILIES)}" in text
    said, nearest = text.split("the nearest supported: ")
    assert f"It is {what}" in said and near in nearest
    assert "download" not in text.lower()


def test_the_state_space_models_own_config_is_told(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"d_model": 768, "ssm_cfg": {}}))
    with pytest.raises(ValueError, match="'mamba' is not supported.*state-space"):
        read_config(tmp_path)


@pytest.mark.parametrize("fields", [{}, {"model_type": ["bert"]}, {"model_type": 3}])
def test_a_config_that_names_no_family_is_refused(fields, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(fields | {"architectures": ["Thing"]}))
    with pytest.raises(ValueError, match=r"model_type .* is not supported.*supported: bert"):
        read_config(tmp_path)


# model@revision


def test_a_revision_is_part_of_a_models_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, source in {
        "pythia-70m@step1000": "EleutherAI/pythia-70m@step1000",
        "EleutherAI/pythia-70m@main": "EleutherAI/pythia-70m@main",
        "untrained:gpt2@main": "openai-community/gpt2@main",
        "owner/name@refs/pr/1": "owner/name@refs/pr/1",
    }.items():
        spec = resolve(name)
        assert (spec.name, spec.source) == (name, source)
        assert split_revision(source)[1] == name.partition("@")[2]
    assert resolve("gpt2@main").n_params == resolve("gpt2").n_params
    (tmp_path / "mine@home").mkdir()
    assert resolve("mine@home").source == str(tmp_path / "mine@home")
    assert split_revision(str(tmp_path / "mine@home")) == (str(tmp_path / "mine@home"), None)
    assert split_revision("/no/such@folder/x")[1] is None
    for name in ("gpt2@", "@main"):
        with pytest.raises(ValueError, match="write MODEL@REVISION"):
            resolve(name)
    with pytest.raises(ValueError, match="unknown model 'bert-bsae'"):
        resolve("bert-bsae@main")


def test_the_revision_of_a_name_is_asked_of_the_hub(models_dir, monkeypatch):
    import huggingface_hub

    asked = []
    monkeypatch.setattr(
        huggingface_hub.HfApi, "list_repo_files", lambda self, repo, revision: ["config.json"]
    )
    monkeypatch.setattr(
        huggingface_hub,
        "snapshot_download",
        lambda repo, revision, allow_patterns: (
            asked.append((repo, revision)) or str(models_dir / "opt-lm")
        ),
    )
    locate(resolve("owner/name@v1").source)
    locate("owner/name@v1", revision="v1")
    assert asked == [("owner/name", "v1")] * 2
    with pytest.raises(ValueError, match="two revisions"):
        locate("owner/name@v1", revision="v2")
