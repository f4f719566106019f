"""A LoRA adapter beside a checkpoint is merged, or refused by name."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file, save_file
from small_models import add_letter_tokenizer, save_checkpoint

import brainalign_jax as ba
from brainalign_jax.language.models import fingerprint, load_model, locate, read_config
from brainalign_jax.language.models.heads import load_head

CONFIG = dict(
    peft_type="LORA",
    base_model_name_or_path="someone/base",
    bias="none",
    fan_in_fan_out=False,
    inference_mode=True,
    init_lora_weights=True,
    lora_alpha=12,
    lora_dropout=0.1,
    modules_to_save=None,
    r=3,
    rank_pattern={},
    alpha_pattern={},
    target_modules=["q_proj"],
    task_type="CAUSAL_LM",
    use_dora=False,
    use_rslora=False,
)


def add_adapter(folder, modules, *, ranks=(), seed=0, **fields):
    """Write an adapter for the modules (name → (in, out)); A and B by module."""
    rng = np.random.default_rng(seed)
    matrices, tensors = {}, {}
    for module, (n_in, n_out) in modules.items():
        rank = dict(ranks).get(module, 3)
        a, b = 0.3 * rng.standard_normal((rank, n_in)), 0.3 * rng.standard_normal((n_out, rank))
        matrices[module] = a.astype(np.float32), b.astype(np.float32)
        for letter, values in zip("AB", matrices[module], strict=True):
            tensors[f"base_model.model.{module}.lora_{letter}.weight"] = values
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    (folder / "adapter_config.json").write_text(json.dumps(CONFIG | fields))
    return matrices


def rewrite(folder, tensors):
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def parameters(model):
    return {
        ".".join(map(str, path)): np.asarray(leaf[...])
        for path, leaf in nnx.to_flat_state(nnx.state(model, nnx.Param))
    }


# name → modules with (in, out), the factor alpha / r by hand, the fields that lead to it, Conv1D.
CASES = {
    "llama-lm": (
        {"model.layers.0.self_attn.q_proj": None, "model.layers.1.mlp.down_proj": None},
        (4.0, 4.0),
        {},
    ),
    "gpt2-lm": (
        {"transformer.h.0.attn.c_attn": None, "transformer.h.1.attn.c_proj": None},
        (6.0, 6.0),
        dict(use_rslora=True, lora_alpha=6 * 3**0.5, fan_in_fan_out=True),
    ),
    "pythia-lm": (
        {
            "gpt_neox.layers.1.attention.query_key_value": None,
            "gpt_neox.layers.0.mlp.dense_h_to_4h": None,
        },
        (5.0, 4.0),
        dict(rank_pattern={"query_key_value": 2}, alpha_pattern={"layers.1.attention": 7})
        | dict(alpha_pattern={"query_key_value": 10, "value": 1}),
    ),
    "bert-mlm": (
        {
            "bert.encoder.layer.0.attention.self.query": None,
            "encoder.layer.1.output.dense": None,
        },
        (4.0, 4.0),
        {},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_an_adapter_is_merged_as_peft_computes_it(name, checkpoint, tmp_path):
    modules, scales, fields = CASES[name]
    folder, conv1d = checkpoint(name), name == "gpt2-lm"
    tensors = load_file(folder / "model.safetensors")
    stored = {m: f"{m}.weight" if f"{m}.weight" in tensors else f"bert.{m}.weight" for m in modules}
    shapes = {m: tensors[stored[m]].shape[:: 1 if conv1d else -1] for m in modules}
    ranks = [(m, 2) for m in modules if "query_key_value" in m]
    before, key = parameters(load_model(str(folder))), fingerprint(folder)
    matrices = add_adapter(folder, shapes, ranks=ranks, **fields)
    expected = dict(tensors)
    for (module, (a, b)), scale in zip(matrices.items(), scales, strict=True):
        added = np.zeros((len(b), a.shape[1]))
        for rank in range(len(a)):
            added += scale * np.outer(b[:, rank], a[rank])
        expected[stored[module]] = tensors[stored[module]] + (added.T if conv1d else added).astype(
            np.float32
        )
    merged = tmp_path / "merged"
    shutil.copytree(folder, merged, ignore=shutil.ignore_patterns("adapter_*"))
    rewrite(merged, expected)
    ours, theirs = parameters(load_model(str(folder))), parameters(load_model(str(merged)))
    for path, values in theirs.items():
        np.testing.assert_allclose(ours[path], values, rtol=0, atol=3e-6, err_msg=path)
    assert sum(not np.array_equal(before[path], ours[path]) for path in before) == 2
    assert fingerprint(folder) != key


def test_vectors_and_their_cache_are_those_of_the_merged_model(tmp_path):
    folder, merged = (Path(save_checkpoint("gpt2", tmp_path / n)) for n in ("adapted", "merged"))
    for checkpoint_folder in (folder, merged):
        add_letter_tokenizer(checkpoint_folder)
    module = "h.1.attn.c_attn"
    (a, b) = add_adapter(folder, {module: (16, 48)})[module]
    tensors = load_file(merged / "model.safetensors")
    rewrite(merged, tensors | {f"{module}.weight": tensors[f"{module}.weight"] + 4 * (b @ a).T})
    stimulus = ba.Stimulus.from_words(["a", "cat", "sat", "on", "the", "mat"])
    expected = ba.embed(stimulus, str(merged)).values
    adapted = ba.embed(stimulus, str(folder), cache_dir=tmp_path / "cache").values
    np.testing.assert_allclose(adapted, expected, rtol=1e-4, atol=1e-5)
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(config | {"lora_alpha": 1}))
    other = ba.embed(stimulus, str(folder), cache_dir=tmp_path / "cache").values
    assert np.abs(other - expected).max() > 0.01


def test_half_precision_weights_are_widened_before_the_sum(checkpoint):
    folder = checkpoint("llama-lm")
    tensors = load_file(folder / "model.safetensors")
    name = "model.layers.0.self_attn.q_proj"
    half = {key: value.astype(np.float16) for key, value in tensors.items()}
    rewrite(folder, half)
    (a, b) = add_adapter(folder, {name: tensors[f"{name}.weight"].shape[::-1]})[name]
    kernel = parameters(load_model(str(folder)))["blocks.qkv.kernel"][0]
    expected = half[f"{name}.weight"].astype(np.float32) + 4 * (b @ a)
    np.testing.assert_allclose(kernel[:, : len(b)], expected.T, rtol=0, atol=3e-6)


def test_an_adapter_of_the_head_changes_the_head_alone(checkpoint):
    folder = checkpoint("llama-lm")
    config = json.loads((folder / "config.json").read_text())
    tensors = load_file(folder / "model.safetensors")
    table = tensors["model.embed_tokens.weight"]
    (folder / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": False}))
    rewrite(folder, tensors | {"lm_head.weight": table})
    before = parameters(load_model(str(folder)))
    (a, b) = add_adapter(folder, {"lm_head": table.shape[::-1]})["lm_head"]
    model = load_model(str(folder))
    for path, values in parameters(model).items():
        np.testing.assert_array_equal(values, before[path])
    head = load_head(str(folder), model)
    np.testing.assert_allclose(head.weight[...], table + 4 * (b @ a), rtol=0, atol=3e-6)
    (folder / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": True}))
    with pytest.raises(ValueError, match="changes lm_head, whose weight is the word table too"):
        load_head(str(folder), model)


@pytest.mark.parametrize(
    "fields, message",
    [
        (dict(peft_type="IA3"), "of the kind 'IA3', and only LoRA"),
        (dict(peft_type="PROMPT_TUNING"), "'PROMPT_TUNING'"),
        (dict(peft_type=None), "names no peft_type"),
        (dict(use_dora=True), "use_dora=True"),
        (dict(bias="lora_only"), "bias='lora_only'"),
        (dict(lora_bias=True), "lora_bias=True"),
        (dict(modules_to_save=["lm_head"]), "modules_to_save="),
        (dict(trainable_token_indices=[3]), "trainable_token_indices="),
        (dict(layer_replication=[[0, 2]]), "layer_replication="),
        (dict(init_lora_weights="pissa"), "init_lora_weights='pissa'"),
        (dict(an_option_of_tomorrow=1), "an_option_of_tomorrow=1"),
        (dict(r=4), r"rank r=4 that adapter_config\.json says"),
        (dict(r="3"), "r is '3', not a positive number"),
        (dict(lora_alpha=float("nan")), "lora_alpha is nan"),
        (dict(alpha_pattern={"q_.*": 3}), "expression 'q_"),
    ],
)
def test_what_is_no_plain_lora_is_refused_by_name(fields, message, checkpoint):
    folder = checkpoint("opt-lm")
    add_adapter(folder, {"model.decoder.layers.0.self_attn.q_proj": (32, 32)}, **fields)
    with pytest.raises(ValueError, match=message) as error:
        load_model(str(folder))
    assert str(folder) in str(error.value)


def change_adapter(folder, change):
    path = folder / "adapter_model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata={"format": "pt"})


MODULE = "model.decoder.layers.0.self_attn.q_proj"
FIRST = f"base_model.model.{MODULE}.lora_A.weight"


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda t: t.pop(FIRST), "lacks one of the two matrices of model.decoder.layers.0"),
        (lambda t: t.clear(), "lacks matrices"),
        (lambda t: t.update({FIRST: t[FIRST].astype(np.int32)}), "dtype int32"),
        (lambda t: t.update({FIRST: t[FIRST][:, :31].copy()}), r"fit a weight of shape \(32, 31\)"),
        (lambda t: t.update({"base_model.model.x.lora_embedding_A": t[FIRST]}), "no LoRA matrix"),
        (lambda t: t.update({FIRST.replace("A.w", "magnitude_vector.w"): t[FIRST]}), "no LoRA"),
        (
            lambda t: t.update({k.replace("layers.0", "layers.7"): v for k, v in t.items()}),
            r"no linear layer of the checkpoint beside it: model\.decoder\.layers\.7",
        ),
        (
            lambda t: t.update({k.replace(MODULE, "model.decoder.embed_tokens"): t[k] for k in t}),
            "no linear layer .*embed_tokens",
        ),
    ],
)
def test_a_damaged_or_foreign_adapter_is_an_error(change, message, checkpoint):
    folder = checkpoint("opt-lm")
    add_adapter(folder, {MODULE: (32, 32)})
    change_adapter(folder, change)
    with pytest.raises(ValueError, match=message):
        load_model(str(folder))


@pytest.mark.parametrize("lost", ["adapter_config.json", "adapter_model.safetensors"])
def test_half_an_adapter_is_an_error(lost, checkpoint):
    folder = checkpoint("opt-lm")
    add_adapter(folder, {MODULE: (32, 32)})
    (folder / lost).unlink()
    with pytest.raises(FileNotFoundError, match=f"half an adapter: it lacks .*{lost}"):
        load_model(str(folder))


@pytest.mark.parametrize("with_config", [False, True])
def test_a_folder_with_only_an_adapter_names_its_base(with_config, checkpoint, tmp_path):
    folder = tmp_path / "only"
    folder.mkdir()
    add_adapter(folder, {MODULE: (32, 32)})
    if with_config:
        shutil.copy(checkpoint("opt-lm") / "config.json", folder)
    with pytest.raises(
        FileNotFoundError, match="only an adapter, of the model 'someone/base': copy"
    ):
        load_model(str(folder)) if with_config else read_config(locate(str(folder)))
