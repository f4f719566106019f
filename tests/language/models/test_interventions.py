"""Parts switched off against PyTorch with hooks; parts drawn anew; one program for all settings."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from brainalign_jax.language.models import hidden_states, load_model, resolve
from brainalign_jax.language.models.blocks import transformer as transformer_module
from brainalign_jax.language.models.blocks.blocks import BlockFill
from brainalign_jax.language.models.interventions import (
    ALL,
    Parts,
    Specification,
    gates,
    parse,
    reinitialise,
)
from brainalign_jax.language.parts.ablation import gates_of, open_gates
from brainalign_jax.language.parts.components import Component, Setting

SETTINGS = [
    dict(heads=((0, 1), (2, 0))),
    dict(attention=(1,)),
    dict(feed_forward=(0, 2)),
    dict(layers=(1,)),
    dict(positions=True),
    dict(heads=((1, 2),), attention=(0,), feed_forward=(1,), layers=(2,), positions=True),
]
EXPORTED = ["bert-mlm", "gpt2-lm", "opt-lm", "roberta-mlm", "distilbert-mlm", "gpt-neo-lm"]
EXPORTED += ["pythia-lm", "llama-lm", "mistral-lm", "qwen3-lm"]
FAMILIES = [
    ("bert", {}),
    ("roberta", {}),
    ("distilbert", {}),
    ("gpt2", {}),
    ("gpt_neo", {}),
    ("gpt_neox", {}),
    ("gpt_neox", dict(use_parallel_residual=False)),
    ("opt", {}),
    ("opt", dict(do_layer_norm_before=False, word_embed_proj_dim=10)),
    ("llama", {}),
    ("mistral", dict(sliding_window=5)),
    ("qwen2", {}),
    ("qwen3", dict(head_dim=8)),
]


@pytest.mark.parametrize("family, options", FAMILIES, ids=str)
def test_parts_off_equal_pytorch_with_hooks(family, options, tmp_path, assert_parity):
    """Hidden states and what the sub-layers give, every setting by the same compiled program."""
    pytest.importorskip("torch")
    import torch_models

    theirs = torch_models.random_model(family, options)
    theirs.save_pretrained(tmp_path)
    ours = load_model(str(tmp_path))
    ids, mask = torch_models.batch(50)
    plain = torch_models.states_of(theirs, ids, mask)
    for setting in SETTINGS:
        with (
            torch_models.ablated(theirs, **setting),
            torch_models.recorded(theirs) as sublayers,
        ):
            expected = torch_models.states_of(theirs, ids, mask)
        assert np.abs(expected[-1] - plain[-1])[mask > 0].max() > 1e-2
        off = gates(Specification(off=Parts(**setting)), ours.config)
        hidden = hidden_states(ours, ids, mask, interventions=off, sublayers=True)
        assert_parity(hidden, expected, mask)
        kinds = zip(hidden.sublayers[:2], (sublayers[::2], sublayers[1::2]), strict=True)
        for ours_of_kind, theirs_of_kind in kinds:
            for ours_of_block, theirs_of_block in zip(ours_of_kind, theirs_of_kind, strict=True):
                both = np.asarray(ours_of_block), theirs_of_block.reshape(*mask.shape, -1)
                np.testing.assert_allclose(*(x[mask > 0] for x in both), atol=1e-5)


@pytest.mark.parametrize("name", EXPORTED)
def test_parts_off_equal_what_pytorch_gave(name, models_dir, expected_states, assert_parity):
    """The same without torch; the parts off are OFF in tests/fixtures/export_models.py."""
    ids, mask, plain = expected_states(name)
    with np.load(models_dir / "interventions.npz", allow_pickle=False) as saved:
        expected = [saved[f"{name}/{index}"] for index in range(len(plain))]
    model = load_model(str(models_dir / name))
    off = gates("head:1.2,attention:0,positions", model.config)
    assert_parity(hidden_states(model, ids, mask, interventions=off), expected, mask)


@pytest.mark.parametrize("name", ["bert-mlm", "opt-350m"])
def test_factors_of_one_change_nothing(name, models_dir, expected_states, assert_parity):
    ids, mask, expected = expected_states(name)
    model = load_model(str(models_dir / name))
    assert gates("", model.config) is None  # then the model runs as if there were no factors
    on = jax.tree.map(jnp.ones_like, gates("positions", model.config))
    assert_parity(hidden_states(model, ids, mask, interventions=on), expected, mask)


@pytest.mark.parametrize("name", ["bert-mlm", "gpt2-lm", "opt-350m", "pythia-lm", "llama-lm"])
def test_what_stands_in_place_of_a_part(name, models_dir, expected_states):
    """All heads of a block replaced are its attention replaced by what they give; a block adds its fill."""
    ids, mask, _ = expected_states(name)
    model = load_model(str(models_dir / name))
    config, out, rng = model.config, model.blocks.attention_out, np.random.default_rng(0)
    of_heads = rng.standard_normal((config.n_heads, config.head_size)).astype(np.float32)
    attention = of_heads.ravel() @ np.asarray(out.kernel[...])[1]
    if out.bias is not None:
        attention = attention + np.asarray(out.bias[...])[1]
    other = rng.standard_normal((2, config.width)).astype(np.float32)
    means, on = BlockFill(of_heads, attention, *other), open_gates(config)

    def states(*components):
        gates = on
        for component in components:
            gates = gates_of(Setting(component, "mean"), gates, means)
        hidden = hidden_states(model, ids, mask, interventions=gates, last="raw")
        return np.asarray(hidden.states)[:, mask > 0]

    heads = [Component("heads", 1, head) for head in range(config.n_heads)]
    np.testing.assert_allclose(states(*heads), states(Component("attention", 1)), atol=1e-5)
    passed = states(Component("layers", 1))
    np.testing.assert_allclose(passed[2], passed[1] + other[1], atol=1e-5)
    plain = np.asarray(hidden_states(model, ids, mask, last="raw").states)[:, mask > 0]
    np.testing.assert_allclose(states(), plain, atol=1e-5)
    assert np.abs(states(Component("ffn", 1)) - plain).max() > 0.01


def test_no_setting_compiles_again(models_dir, expected_states):
    ids, mask, _ = expected_states("gpt2-lm")
    model = load_model(str(models_dir / "gpt2-lm"))
    before = transformer_module._run_compiled._cache_size()
    for text in ("head:0.1", "attention:all", "ffn:0,layer:1", "positions", "head:all.0"):
        hidden_states(model, ids, mask, interventions=gates(text, model.config))
    assert transformer_module._run_compiled._cache_size() - before <= 1


@pytest.mark.parametrize(
    "text, expected",
    [
        ("", Specification()),
        ("head:2.7", Specification(off=Parts(heads=((2, 7),)))),
        (
            " ffn:0-2 , attention:all,positions",
            Specification(Parts(attention=(ALL,), feed_forward=(0, 1, 2), positions=True)),
        ),
        (
            "reinit-layer:3,reinit-head:all.1,reinit-positions,seed:5",
            Specification(
                reinitialised=Parts(heads=((ALL, 1),), layers=(3,), positions=True), seed=5
            ),
        ),
        ("head:0-1.0-1", Specification(Parts(heads=((0, 0), (0, 1), (1, 0), (1, 1))))),
        (
            '{"off": {"heads": [[2, 7]], "feed_forward": "all"}, "seed": 1}',
            Specification(Parts(heads=((2, 7),), feed_forward=(ALL,)), seed=1),
        ),
        (
            {"reinitialised": {"heads": "all", "layers": [1, 1, 0]}},
            Specification(reinitialised=Parts(heads=((ALL, ALL),), layers=(0, 1))),
        ),
    ],
    ids=str,
)
def test_texts(text, expected):
    parsed = parse(text)
    assert parsed == expected
    if parsed.reinitialised or not parsed.seed:
        assert parse(str(parsed)) == parsed
    assert bool(parsed) == (parsed.off != Parts() or parsed.reinitialised != Parts())


@pytest.mark.parametrize(
    "text",
    [
        "heads:1.2",
        "head:1",
        "attention",
        "attention:-1",
        "ffn:3-1",
        "ffn:x",
        "positions:1",
        "seed:x",
        "reinit-seed:3",
        "layer:1.5",
        "{bad json}",
        {"off": {"layer": [1]}},
        {"off": {"layers": [1.5]}},
        {"off": {"layers": [-2]}},
        {"off": {"heads": [1, 2]}},
        {"off": [1]},
        {"on": {}},
        {"seed": -1},
        3,
    ],
    ids=str,
)
def test_texts_that_are_not_understood(text):
    with pytest.raises(ValueError, match="interventions"):
        parse(text)


@pytest.mark.parametrize("text", ["layer:2", "reinit-attention:2", "head:2.0", "head:0.4"])
def test_parts_that_the_model_lacks(text, models_dir):
    model = load_model(str(models_dir / "gpt2-lm"))
    with pytest.raises(ValueError, match=r"blocks 0 to 1|heads 0 to 3"):
        gates(text, model.config)
    with pytest.raises(ValueError, match=r"blocks 0 to 1|heads 0 to 3"):
        reinitialise(model, text)


def parameters(model):
    return {
        ".".join(map(str, path)): np.asarray(leaf[...])
        for path, leaf in nnx.to_flat_state(nnx.state(model, nnx.Param))
    }


def changed(before, after):
    """The parameters that differ, and where on their first axis."""
    return {
        name: tuple(
            np.flatnonzero((before[name] != after[name]).reshape(len(before[name]), -1).any(1))
        )
        for name in before
        if (before[name] != after[name]).any()
    }


def test_what_is_drawn_anew(models_dir):
    model = load_model(str(models_dir / "gpt2-lm"))
    before = parameters(model)
    fresh = parameters(type(model)(model.config, rngs=nnx.Rngs(params=3)))

    def draw(text):
        after = parameters(reinitialise(model, text))
        for name, rows in changed(before, after).items():
            if name.startswith("blocks") and "head" not in text:
                np.testing.assert_array_equal(after[name][list(rows)], fresh[name][list(rows)])
        return changed(before, after)

    products = ("kernel", "bias")
    assert draw("reinit-ffn:1,seed:3") == {
        f"blocks.{name}.{kind}": (1,) for name in ("ffn_in", "ffn_out") for kind in products
    }
    assert draw("reinit-attention:0,seed:3") == {
        f"blocks.{name}.{kind}": (0,) for name in ("qkv", "attention_out") for kind in products
    }
    whole = draw("reinit-layer:all,seed:3")
    assert set(whole) == {name for name in before if name.startswith("blocks")}
    assert set(whole.values()) == {(0, 1)}
    assert set(draw("reinit-positions,seed:3")) == {"positions.table"}
    assert parameters(model).keys() == before.keys()
    assert not changed(before, parameters(model))  # the model itself is as it was

    after = parameters(reinitialise(model, "reinit-head:1.2,seed:3"))
    assert set(changed(before, after)) == {
        "blocks.qkv.kernel",
        "blocks.qkv.bias",
        "blocks.attention_out.kernel",
    }
    kernel = (before["blocks.qkv.kernel"] != after["blocks.qkv.kernel"]).reshape(2, 32, 3, 4, 8)
    assert kernel[1, :, :, 2].all() and kernel.sum() == 32 * 3 * 8
    rows = (before["blocks.attention_out.kernel"] != after["blocks.attention_out.kernel"]).any(-1)
    assert rows[1, 16:24].all() and rows.sum() == 8


def test_a_head_drawn_anew_alone_changes_nothing_once_it_is_off(models_dir, expected_states):
    ids, mask, _ = expected_states("gpt2-lm")
    model = load_model(str(models_dir / "gpt2-lm"))
    off = gates("head:1.2", model.config)
    anew = reinitialise(model, "reinit-head:1.2,seed:1")
    a, b = (hidden_states(m, ids, mask, interventions=off).states for m in (model, anew))
    np.testing.assert_array_equal(a, b)
    c = hidden_states(anew, ids, mask).states
    assert np.abs(c - hidden_states(model, ids, mask).states).max() > 1e-3


def test_all_drawn_anew_is_the_untrained_model(checkpoint, expected_states):
    ids, mask, _ = expected_states("gpt2-lm")
    folder = checkpoint("gpt2-lm")
    trained = load_model(str(folder))
    untrained = load_model(resolve(f"untrained:{folder}"), seed=4)
    both = [
        parameters(m)
        for m in (reinitialise(trained, "reinit-layer:all,reinit-positions,seed:4"), untrained)
    ]
    kept = {"words.table", "final_norm.scale", "final_norm.bias"}
    assert set(changed(*both)) == kept
    assert reinitialise(trained, "head:0.0") is trained


def test_rotary_positions_cannot_be_drawn(tmp_path):
    from brainalign_jax.language.models.blocks.transformer import TransformerConfig
    from brainalign_jax.language.models.families.llama import Llama

    config = TransformerConfig(
        family="llama",
        vocab_size=10,
        width=8,
        n_layers=2,
        n_heads=4,
        n_kv_heads=2,
        ffn_width=8,
        max_length=6,
        activation="silu",
        norm_eps=1e-6,
        embed_width=8,
        causal=True,
        norm_first=True,
        final_norm=True,
        bias=False,
        rms_norm=True,
        gated=True,
        rotary=(1.0,),
    )
    model = Llama(config, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="no table of position embeddings"):
        reinitialise(model, "reinit-positions")
    # Heads that share keys and values: the query and the output alone.
    after = parameters(reinitialise(model, "reinit-head:0.1,seed:1"))
    moved = parameters(model)["blocks.qkv.kernel"] != after["blocks.qkv.kernel"]
    assert moved[0, :, 2:4].all() and moved.sum() == 8 * 2
