"""Several texts in one row: each is read as if it were alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from brainalign_jax.language.models import GPT2, OPT, Bert
from brainalign_jax.language.models.blocks.attention import packed_inputs, text_inputs
from brainalign_jax.language.models.blocks.blocks import apply_block, layer_inputs
from brainalign_jax.language.models.blocks.transformer import TransformerConfig

SIZES = dict(vocab_size=50, width=16, n_layers=2, n_heads=2, ffn_width=24, max_length=12)
SIZES |= dict(norm_eps=1e-5, embed_width=16)
AFTER = dict(activation="gelu", causal=False, norm_first=False, final_norm=False)
BEFORE = dict(activation="gelu_new", causal=True, norm_first=True, final_norm=True)
MODELS = {
    "bert": (Bert, AFTER | dict(type_vocab_size=2)),
    "gpt2": (GPT2, BEFORE),
    "opt": (OPT, BEFORE | dict(position_offset=2)),
    "rotary": (GPT2, BEFORE | dict(rotary=(1.0, 0.1), windows=(0, 3))),
}


def last_state(model, ids, mask, texts, positions=None):
    x = model.embed_tokens(ids, mask, positions=positions)
    graph, stacked = nnx.split(model.blocks)
    inputs = layer_inputs(model.config)
    for layer in range(model.n_layers):
        parameters, layer_input = jax.tree.map(lambda leaf, at=layer: leaf[at], (stacked, inputs))
        x, _ = apply_block(graph, parameters, x, texts, layer_input)
    return np.asarray(x)


@pytest.mark.parametrize("name", MODELS)
def test_texts_that_share_a_row(name):
    family, options = MODELS[name]
    config = TransformerConfig(family=name, **SIZES, **options)
    model = family(config, rngs=nnx.Rngs(0))
    rng = np.random.default_rng(0)
    texts = [rng.integers(0, 50, length) for length in (5, 4, 9)]
    ids, text, position = np.zeros((3, 2, 10), np.int32)
    for row, start, number, words in ((0, 0, 1, 0), (0, 5, 2, 1), (1, 0, 1, 2)):
        place = slice(start, start + len(texts[words]))
        ids[row, place], text[row, place] = texts[words], number
        position[row, place] = np.arange(len(texts[words]))
    mask = (text > 0).astype(np.int32)
    packed = last_state(
        model, ids, mask, packed_inputs(config, jnp.asarray(text)), jnp.asarray(position)
    )
    for words, state in zip(texts, (packed[0, :5], packed[0, 5:9], packed[1, :9]), strict=True):
        ones = np.ones((1, len(words)), np.int32)
        alone = last_state(model, words[None].astype(np.int32), ones, text_inputs(config, ones))
        np.testing.assert_allclose(state, alone[0], atol=2e-6)
