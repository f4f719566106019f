"""Small language models with random weights, as modules and as checkpoint folders."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from brainalign_jax.language.models.checkpoint import read_architecture
from brainalign_jax.language.models.families.table import FAMILIES
from brainalign_jax.language.text.contexts import Sequences

# What the families' own config.json say: norms before or after, rotary positions, gated units.
BLOCK_STYLES = {
    "bert": dict(model_type="bert", hidden_size=16, num_hidden_layers=2, num_attention_heads=4)
    | dict(intermediate_size=24, max_position_embeddings=320),
    "gpt2": dict(model_type="gpt2", n_embd=16, n_layer=2, n_head=4, n_positions=320),
    "opt": dict(model_type="opt", hidden_size=16, num_hidden_layers=2, num_attention_heads=4)
    | dict(ffn_dim=24, max_position_embeddings=320, word_embed_proj_dim=16),
    "opt-350m": dict(model_type="opt", hidden_size=16, num_hidden_layers=2, num_attention_heads=4)
    | dict(ffn_dim=24, max_position_embeddings=320, word_embed_proj_dim=8)
    | dict(do_layer_norm_before=False),
    "llama": dict(model_type="llama", hidden_size=16, num_hidden_layers=2, num_attention_heads=4)
    | dict(num_key_value_heads=2, intermediate_size=24, max_position_embeddings=320),
    "pythia": dict(model_type="gpt_neox", hidden_size=16, num_hidden_layers=2)
    | dict(num_attention_heads=2, intermediate_size=24, max_position_embeddings=320),
}
_LAYERS = ("num_hidden_layers", "n_layer")


def write_config(style: str, folder: Path, *, n_layers: int = 2, vocab_size: int = 60, **more):
    """config.json of a style in the folder, made if need be; returns the folder."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    config = (
        {"vocab_size": vocab_size, "pad_token_id": 1, "bos_token_id": 2, "eos_token_id": 2}
        | BLOCK_STYLES[style]
        | more
    )
    config |= {name: n_layers for name in _LAYERS if name in config}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def small_model(style: str, *, n_layers: int = 2, dtype="float32", seed: int = 0, config=None):
    """A model whose weights are large enough that each matters."""
    import tempfile

    if config is None:
        with tempfile.TemporaryDirectory() as folder:
            config = read_architecture(write_config(style, folder, n_layers=n_layers))
    model = FAMILIES[config.family][1](config, dtype=jnp.float32, rngs=nnx.Rngs(params=seed))
    graph, state = nnx.split(model)
    leaves, tree = jax.tree.flatten(state)
    rng = np.random.default_rng(seed)
    leaves = [
        (np.asarray(leaf) + 0.1 * rng.standard_normal(leaf.shape)).astype(np.float32)
        for leaf in leaves
    ]
    return nnx.merge(graph, tree.unflatten([jnp.asarray(leaf, dtype) for leaf in leaves]))


def tensors_of(model) -> dict[str, np.ndarray]:
    """The tensors that a PyTorch checkpoint of the model would hold."""
    sources = FAMILIES[model.config.family][0].sources(model.config)
    _, state = nnx.split(model)
    tensors = {}
    for keys, leaf in nnx.to_flat_state(state):
        path = ".".join(map(str, keys))
        value, source = np.asarray(leaf[...]), sources[path]
        layers = value if path.startswith("blocks.") else value[None]
        for layer, of_layer in enumerate(layers):
            for name, part in zip(source.names, source.split(of_layer), strict=True):
                if source.packed:
                    part = part.reshape(*part.shape[:-1], 3, source.packed, -1)
                    part = part.swapaxes(-3, -2).reshape(*part.shape[:-3], -1)
                part = part.T if source.transposed else part
                tensors[name.format(layer=layer)] = np.ascontiguousarray(part)
    return tensors


def save_checkpoint(style: str, folder, *, n_layers: int = 2, shards: int = 1, dtype=None, **more):
    """A folder with config.json and safetensors weights, in several files if asked; its path."""
    from safetensors.numpy import save_file

    folder = write_config(style, folder, n_layers=n_layers, **more)
    tensors = tensors_of(small_model(style, config=read_architecture(folder)))
    if dtype is not None:
        tensors = {name: value.astype(dtype) for name, value in tensors.items()}
    if shards == 1:
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        return str(folder)
    weight_map, names = {}, sorted(tensors)
    for number in range(shards):
        file = f"model-{number + 1:05d}-of-{shards:05d}.safetensors"
        part = {name: tensors[name] for name in names[number::shards]}
        save_file(part, folder / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(part, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return str(folder)


def small_sequences(n_texts: int = 25, longest: int = 30, seed: int = 0):
    """Texts of random sub-tokens, words of one or two of them, and the row of each word."""
    rng = np.random.default_rng(seed)
    ids = [rng.integers(0, 60, n).astype(np.int32) for n in rng.integers(1, longest, n_texts)]
    targets, n_words = [], 0
    for text in ids:
        word_places, at = [], 0
        while at < len(text):
            size = min(int(rng.integers(1, 3)), len(text) - at)
            if rng.random() < 0.8:
                word_places.append(((n_words,), tuple(range(at, at + size))))
                n_words += 1
            at += size
        targets.append(word_places)
    row = rng.integers(0, n_words // 3 + 1, n_words)
    return Sequences(ids, targets, []), np.unique(row, return_inverse=True)[1]


def add_letter_tokenizer(folder: str) -> None:
    """A byte-level tokenizer without merges: a sub-token a letter, ids below 60 for plain words."""
    vocabulary = {letter: number for number, letter in enumerate("Ġ.abcdefghijklmnopqrstuvwxyz")}
    vocabulary["<|endoftext|>"] = len(vocabulary)
    (Path(folder) / "vocab.json").write_text(json.dumps(vocabulary))
    (Path(folder) / "merges.txt").write_text("#version: 0.2\n")
