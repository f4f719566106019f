"""Parity with transformers' PyTorch models on random checkpoints, where torch is installed."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import transformers  # noqa: E402
from torch_models import batch, random_model, states_of  # noqa: E402

from brainalign_jax.language.models import hidden_states, load_model  # noqa: E402

VARIANTS = [
    (
        "bert",
        dict(hidden_act="gelu_new", layer_norm_eps=1e-3, type_vocab_size=3, pad_token_id=None),
    ),
    ("gpt2", dict(scale_attn_weights=False, n_inner=10, activation_function="gelu")),
    (
        "gpt2",
        dict(
            scale_attn_by_inverse_layer_idx=True,
            reorder_and_upcast_attn=True,
            layer_norm_epsilon=1e-2,
        ),
    ),
    ("opt", dict(enable_bias=False)),
    ("opt", dict(layer_norm_elementwise_affine=False, activation_function="gelu")),
    ("opt", dict(_remove_final_layer_norm=True)),
    ("opt", dict(do_layer_norm_before=False)),
    ("opt", dict(word_embed_proj_dim=10)),
    ("opt", dict(word_embed_proj_dim=40, do_layer_norm_before=False, enable_bias=False)),
    ("roberta", dict(hidden_act="gelu_new", pad_token_id=0, max_position_embeddings=17)),
    ("distilbert", dict(activation="relu")),
    ("gpt_neo", dict(attention_types=[[["local"], 3]], num_layers=3, intermediate_size=10)),
    ("gpt_neo", dict(window_size=30)),
    ("gpt_neox", dict()),
    ("gpt_neox", dict(use_parallel_residual=False, rotary_pct=0.5, rotary_emb_base=100)),
    ("gpt_neox", dict(attention_bias=False, hidden_act="gelu_fast", rotary_pct=1.0)),
    ("gpt_neox", dict(rope_scaling={"type": "linear", "factor": 4.0})),
    ("llama", dict(attention_bias=True, mlp_bias=True, rms_norm_eps=1e-3)),
    ("llama", dict(num_key_value_heads=None, head_dim=6, tie_word_embeddings=True)),
    ("llama", dict(num_key_value_heads=1, rope_theta=50.0)),
    (
        "llama",
        dict(
            rope_scaling={
                "rope_type": "llama3",
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 16,
            }
        ),
    ),
    ("mistral", dict(sliding_window=5)),
    ("mistral", dict(sliding_window=None, head_dim=10)),
    ("qwen2", dict()),
    ("qwen2", dict(use_sliding_window=True, sliding_window=4, max_window_layers=1)),
    ("qwen3", dict(head_dim=8, attention_bias=True)),
    ("qwen3", dict(head_dim=8, use_sliding_window=True, sliding_window=4, max_window_layers=2)),
]


@pytest.mark.parametrize("family, options", VARIANTS, ids=str)
def test_options(family, options, tmp_path, assert_parity):
    model = random_model(family, options)
    model.save_pretrained(tmp_path)
    ids, mask = batch(50)
    ours = load_model(str(tmp_path))
    assert ours.max_length == ids.shape[1]  # the last position is in use
    assert_parity(hidden_states(ours, ids, mask), states_of(model, ids, mask), mask)
    poolers = sum(p.numel() for n, p in model.named_parameters() if n.startswith("pooler"))
    assert ours.n_params == sum(p.numel() for p in model.parameters()) - poolers


@pytest.mark.parametrize("zipped", [True, False])
def test_bin_written_by_torch(zipped, tmp_path, assert_parity):
    model = random_model("gpt2", {})
    model.config.save_pretrained(tmp_path)
    file = tmp_path / "pytorch_model.bin"
    torch.save(model.state_dict(), file, _use_new_zipfile_serialization=zipped)
    ids, mask = batch(50)
    hidden = hidden_states(load_model(str(tmp_path)), ids, mask)
    assert_parity(hidden, states_of(model, ids, mask), mask)


def test_trained_minilm(minilm, assert_parity):
    model = transformers.AutoModel.from_pretrained(minilm)
    ids, mask = batch(30000)
    hidden = hidden_states(load_model(str(minilm)), ids, mask)
    assert_parity(hidden, states_of(model, ids, mask), mask)


def test_the_fixtures_are_what_torch_gives(models_dir, expected_states):
    """The committed hidden states are those of the committed weights."""
    for folder in sorted(path.parent for path in models_dir.glob("*/config.json")):
        name = folder.name
        ids, mask, expected = expected_states(name)
        model = transformers.AutoModel.from_pretrained(models_dir / name)
        for ours, theirs in zip(expected, states_of(model, ids, mask), strict=True):
            np.testing.assert_allclose(ours[mask > 0], theirs[mask > 0], atol=1e-5)
