"""Parity with transformers' PyTorch models on random checkpoints, where torch is installed."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import transformers  # noqa: E402

from brainalign_jax.language.models import hidden_states, load_model  # noqa: E402

SIZES = {
    "bert": dict(
        hidden_size=24,
        num_hidden_layers=3,
        num_attention_heads=3,
        intermediate_size=20,
        max_position_embeddings=16,
    ),
    "gpt2": dict(n_embd=24, n_layer=3, n_head=3, n_positions=16, bos_token_id=0, eos_token_id=0),
    "opt": dict(
        hidden_size=24,
        num_hidden_layers=3,
        num_attention_heads=3,
        ffn_dim=20,
        max_position_embeddings=16,
    ),
}
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
]


def batch(vocabulary, time=16):
    rng = np.random.default_rng(1)
    ids = rng.integers(3, vocabulary, (4, time)).astype(np.int32)
    mask = (np.arange(time) < np.array([[time], [7], [3], [1]])).astype(np.int32)
    return ids, mask


def torch_states(model, ids, mask):
    with torch.no_grad():
        out = model.eval()(
            torch.tensor(ids, dtype=torch.long),
            attention_mask=torch.tensor(mask, dtype=torch.long),
            output_hidden_states=True,
        )
    return [state.numpy() for state in out.hidden_states]


def random_model(family, options, seed=0):
    config = transformers.AutoConfig.for_model(family, vocab_size=50, **SIZES[family], **options)
    model = transformers.AutoModel.from_config(config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for values in model.parameters():
            values.add_(0.2 * torch.randn(values.shape, generator=generator))
    return model


@pytest.mark.parametrize("family, options", VARIANTS, ids=str)
def test_options(family, options, tmp_path, assert_parity):
    model = random_model(family, options)
    model.save_pretrained(tmp_path)
    ids, mask = batch(50)
    ours = load_model(str(tmp_path))
    assert ours.max_length == ids.shape[1]  # the last position is in use
    assert_parity(hidden_states(ours, ids, mask), torch_states(model, ids, mask), mask)
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
    assert_parity(hidden, torch_states(model, ids, mask), mask)


def test_trained_minilm(minilm, assert_parity):
    model = transformers.AutoModel.from_pretrained(minilm)
    ids, mask = batch(30000)
    hidden = hidden_states(load_model(str(minilm)), ids, mask)
    assert_parity(hidden, torch_states(model, ids, mask), mask)


def test_the_fixtures_are_what_torch_gives(models_dir, expected_states):
    """The committed hidden states are those of the committed weights."""
    for name in ("bert-mlm", "gpt2-lm", "opt-lm", "opt-350m"):
        ids, mask, expected = expected_states(name)
        model = transformers.AutoModel.from_pretrained(models_dir / name)
        for ours, theirs in zip(expected, torch_states(model, ids, mask), strict=True):
            np.testing.assert_allclose(ours[mask > 0], theirs[mask > 0], atol=1e-5)
