"""Hidden states against PyTorch's, and what must hold for any model."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from brainalign_jax.language.models import TransformerConfig, hidden_states, load_model
from brainalign_jax.language.models.blocks.activations import ACTIVATIONS
from brainalign_jax.language.models.blocks.attention import text_inputs
from brainalign_jax.language.models.blocks.blocks import apply_block, layer_inputs

TINY = ["bert-mlm", "gpt2-lm", "opt-lm", "opt-350m"]
MORE = [
    "roberta-mlm",
    "distilbert-mlm",
    "gpt-neo-lm",
    "pythia-lm",
    "llama-lm",
    "mistral-lm",
    "qwen3-lm",
]


@pytest.mark.parametrize("name", TINY + MORE)
def test_every_hidden_state_equals_pytorchs(name, models_dir, expected_states, assert_parity):
    ids, mask, expected = expected_states(name)
    model = load_model(str(models_dir / name))
    assert_parity(hidden_states(model, ids, mask), expected, mask)


def test_trained_minilm_equals_pytorch(minilm, expected_states, assert_parity):
    ids, mask, expected = expected_states("minilm")
    model = load_model(str(minilm))
    assert (model.n_layers, model.width, model.max_length) == (6, 384, 512)
    assert_parity(hidden_states(model, ids, mask), expected, mask)


def test_width_of_the_last_state_of_opt_350m(models_dir, expected_states):
    ids, mask, _ = expected_states("opt-350m")
    model = load_model(str(models_dir / "opt-350m"))
    hf, raw = (hidden_states(model, ids, mask, last=last) for last in ("hf", "raw"))
    assert hf.states.shape == (2, 3, 9, 32) and hf.final.shape == (3, 9, 12)
    assert raw.states.shape == (3, 3, 9, 32) and raw.final is None
    np.testing.assert_array_equal(hf.states, raw.states[:2])
    kernel = np.asarray(model.project_out.kernel[...])
    np.testing.assert_allclose(np.asarray(raw.states[2]) @ kernel, hf.final, atol=1e-5)


@pytest.mark.parametrize("name", ["gpt2-lm", "opt-lm"])
def test_raw_last_state_lacks_the_final_norm(name, models_dir, expected_states):
    ids, mask, expected = expected_states(name)
    model = load_model(str(models_dir / name))
    raw = np.asarray(hidden_states(model, ids, mask, last="raw").states)
    np.testing.assert_allclose(raw[0], expected[0], atol=1e-5)
    last = raw[-1].astype(np.float64)
    normed = (last - last.mean(-1, keepdims=True)) / np.sqrt(last.var(-1, keepdims=True) + 1e-5)
    normed = normed * np.asarray(model.final_norm.scale[...]) + np.asarray(
        model.final_norm.bias[...]
    )
    real = mask > 0
    np.testing.assert_allclose(normed[real], expected[-1][real], atol=1e-5)
    assert np.abs(raw[-1] - expected[-1])[real].max() > 0.1


@pytest.mark.parametrize("name", ["opt-350m"])
def test_eager_equals_jit(name, models_dir, expected_states):
    ids, mask, _ = expected_states(name)
    model = load_model(str(models_dir / name))
    with jax.disable_jit():
        eager = model(ids, mask)
    compiled = hidden_states(model, ids, mask)
    for a, b in zip(jax.tree.leaves(eager), jax.tree.leaves(compiled), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.parametrize("name", [*TINY, "roberta-mlm", "gpt-neo-lm", "pythia-lm", "mistral-lm"])
def test_padding_and_batch_do_not_change_a_text(name, models_dir, expected_states):
    ids, mask, _ = expected_states(name)
    model = load_model(str(models_dir / name))
    length = int(mask[1].sum())
    alone = hidden_states(model, ids[1:2, :length], mask[1:2, :length])
    other_padding = np.where(mask > 0, ids, 41)
    padded = hidden_states(model, other_padding, mask)
    for a, b in zip(jax.tree.leaves(alone), jax.tree.leaves(padded), strict=True):
        np.testing.assert_allclose(a[..., 0, :, :], b[..., 1, :length, :], atol=1e-5)


def test_a_row_of_padding_alone_stays_finite(models_dir):
    model = load_model(str(models_dir / "opt-lm"))
    ids, mask = np.ones((2, 4), np.int32), np.array([[1, 1, 1, 1], [0, 0, 0, 0]])
    assert np.isfinite(hidden_states(model, ids, mask).states).all()


@pytest.mark.parametrize("name", ["gpt2-lm", "opt-lm", "pythia-lm", "mistral-lm"])
def test_causal_models_do_not_look_ahead(name, models_dir):
    model = load_model(str(models_dir / name))
    ids, mask = np.arange(8, dtype=np.int32)[None], np.ones((1, 8), np.int32)
    changed = ids.copy()
    changed[0, 5:] = 50
    a, b = (np.asarray(hidden_states(model, x, mask).states) for x in (ids, changed))
    np.testing.assert_array_equal(a[:, :, :5], b[:, :, :5])
    assert np.abs(a[:, :, 5:] - b[:, :, 5:]).max() > 0.1


def test_bert_looks_both_ways(models_dir):
    model = load_model(str(models_dir / "bert-mlm"))
    ids, mask = np.arange(8, dtype=np.int32)[None], np.ones((1, 8), np.int32)
    changed = ids.copy()
    changed[0, 7] = 50
    a, b = (np.asarray(hidden_states(model, x, mask).states) for x in (ids, changed))
    np.testing.assert_array_equal(a[0, :, :7], b[0, :, :7])
    assert np.abs(a[1:, :, 0] - b[1:, :, 0]).max() > 1e-3


@pytest.mark.parametrize("name", ["gpt2-lm", "llama-lm"])
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_stays_near_float32(name, dtype, models_dir, expected_states, assert_parity):
    ids, mask, expected = expected_states(name)
    model = load_model(str(models_dir / name), dtype=dtype)
    hidden = hidden_states(model, ids, mask)
    assert hidden.states.dtype == dtype
    wide = hidden._replace(states=hidden.states.astype(jnp.float32))
    assert_parity(wide, expected, mask, atol=0.25 if dtype == jnp.bfloat16 else 0.03)


@pytest.mark.parametrize("name", ["opt-350m", "llama-lm"])
def test_strict_dtype_promotion_and_x64(name, models_dir, expected_states, assert_parity):
    ids, mask, expected = expected_states(name)
    model = load_model(str(models_dir / name))
    with jax.numpy_dtype_promotion("strict"):
        assert_parity(hidden_states(model, ids, mask), expected, mask)
    with jax.enable_x64(True), jax.numpy_dtype_promotion("strict"):
        wide = load_model(str(models_dir / name), dtype=jnp.float64)
        hidden = hidden_states(wide, ids, mask)
        assert hidden.states.dtype == jnp.float64
        assert_parity(hidden, expected, mask)


def test_float32_products_ask_for_the_highest_precision(models_dir):
    graph, state = nnx.split(load_model(str(models_dir / "gpt2-lm")))
    ids = np.ones((1, 4), np.int32)
    text = str(jax.make_jaxpr(lambda s: nnx.merge(graph, s)(ids, ids).states)(state))
    products = text.count("dot_general[")
    assert products == 6 and text.count("Precision.HIGHEST, ") == products


def test_layers_are_stacked_and_counted(models_dir):
    model = load_model(str(models_dir / "gpt2-lm"))
    blocks = nnx.state(model.blocks, nnx.Param)
    assert {leaf.shape[0] for leaf in jax.tree.leaves(blocks)} == {model.n_layers}
    per_block = 4 * 32 + (32 * 96 + 96) + (32 * 32 + 32) + (32 * 24 + 24) + (24 * 32 + 32)
    assert model.n_params == 60 * 32 + 20 * 32 + 2 * per_block + 2 * 32
    assert (model.family, model.width, model.max_length) == ("gpt2", 32, 20)


CONFIG = TransformerConfig(
    family="bert",
    vocab_size=10,
    width=8,
    n_layers=2,
    n_heads=2,
    ffn_width=8,
    max_length=6,
    activation="gelu",
    norm_eps=1e-12,
    embed_width=8,
    causal=False,
    norm_first=False,
    final_norm=False,
    type_vocab_size=2,
)


@pytest.mark.parametrize(
    "ids, mask, message",
    [
        (np.zeros((1, 21)), np.ones((1, 21)), "21 tokens are more than the 20 positions"),
        (np.zeros((1, 4)), np.ones((1, 3)), r"\(1, 4\) and attention_mask \(1, 3\)"),
        (np.zeros(4), np.ones(4), r"must both be \[batch, time\]"),
        (np.zeros((0, 4)), np.ones((0, 4)), "not empty"),
        (np.full((1, 4), 60), np.ones((1, 4)), "token id 60 is outside the vocabulary of 60"),
        (np.full((1, 4), -1), np.ones((1, 4)), "token id -1"),
        (np.zeros((1, 3)), np.array([[0, 1, 1]]), "pad on the right"),
        (np.zeros((1, 3)), np.array([[2, 1, 0]]), "ones followed by zeros"),
    ],
)
def test_a_batch_that_cannot_be_is_an_error(ids, mask, message, models_dir):
    model = load_model(str(models_dir / "bert-mlm"))
    with pytest.raises(ValueError, match=message):
        hidden_states(model, ids.astype(np.int32), mask.astype(np.int32))


def test_an_unknown_last_is_an_error(models_dir):
    model = load_model(str(models_dir / "bert-mlm"))
    with pytest.raises(ValueError, match="unknown last='final'; known: hf, raw"):
        hidden_states(model, np.zeros((1, 3), np.int32), np.ones((1, 3), np.int32), last="final")


@pytest.mark.parametrize(
    "change, message",
    [
        ({"n_heads": 3}, "hidden size 8 is not a multiple of the 3"),
        ({"n_layers": 0}, "n_layers is 0"),
        ({"activation": "gelo"}, "unknown activation 'gelo' of .*gelu"),
        ({"activation": "prelu"}, "unknown activation 'prelu'"),
    ],
)
def test_an_architecture_that_cannot_be_is_an_error(change, message):
    with pytest.raises(ValueError, match=message):
        TransformerConfig(**(vars(CONFIG) | change))


def test_attention_scales():
    config = TransformerConfig(**(vars(CONFIG) | {"scale_by_layer": True}))
    np.testing.assert_allclose(config.score_scales(), [0.5, 0.25])
    config = TransformerConfig(**(vars(CONFIG) | {"scale_scores": False}))
    np.testing.assert_array_equal(config.score_scales(), [1, 1])


def test_gpt2_scales_attention_by_layer(checkpoint, expected_states):
    """Dividing the scores by the layer changes block 2 and later ones, never block 1."""
    ids, mask, plain = expected_states("gpt2-lm")
    folder = checkpoint("gpt2-lm")
    config = folder / "config.json"
    fields = json.loads(config.read_text()) | {"scale_attn_by_inverse_layer_idx": True}
    config.write_text(json.dumps(fields))
    scaled = np.asarray(hidden_states(load_model(str(folder)), ids, mask).states)
    real = mask > 0
    for layer in (0, 1):
        np.testing.assert_allclose(scaled[layer][real], plain[layer][real], atol=1e-5)
    assert np.abs(scaled[2] - plain[2])[real].max() > 1e-3


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_equal_pytorchs(name):
    torch = pytest.importorskip("torch")
    from transformers.activations import ACT2FN

    x = np.linspace(-12, 12, 401, dtype=np.float32)
    expected = ACT2FN[name](torch.tensor(x)).numpy()
    np.testing.assert_allclose(ACTIVATIONS[name](jnp.asarray(x)), expected, atol=2e-6)


@pytest.mark.parametrize("name", ["bert-mlm", "opt-350m", "pythia-lm", "mistral-lm"])
def test_blocks_one_at_a_time_equal_the_scan(name, models_dir, expected_states, assert_parity):
    """What streams the layers: the embedding, block after block on its own, the final norm."""
    ids, mask, expected = expected_states(name)
    model = load_model(str(models_dir / name))
    graph, stacked = nnx.split(model.blocks)
    texts, layers = text_inputs(model.config, mask), layer_inputs(model.config)
    x = model.embed_tokens(ids, mask)
    states = [x]
    for index in range(model.n_layers):
        own, layer = jax.tree.map(lambda part, i=index: part[i], (stacked, layers))
        x, _ = apply_block(graph, own, x, texts, layer)
        states.append(x)
    states[-1] = model.finish(x)
    for ours, theirs in zip(states, expected, strict=True):
        np.testing.assert_allclose(np.asarray(ours)[mask > 0], theirs[mask > 0], atol=1e-5)
