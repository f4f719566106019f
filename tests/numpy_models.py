"""Language models of four families in plain NumPy (float64), with hooks on what their parts give."""

from pathlib import Path

import numpy as np
from safetensors.numpy import load_file
from scipy.special import erf

# What the families' blocks are: names of the tensors, norms before or after, activation.
_BERT = dict(
    block="encoder.layer.{}.", query="attention.self.query", key="attention.self.key",
    value="attention.self.value", out="attention.output.dense", norm="attention.output.LayerNorm",
    inner="intermediate.dense", outer="output.dense", ffn_norm="output.LayerNorm", eps=1e-12,
)  # fmt: skip
_GPT2 = dict(
    block="h.{}.", out="attn.c_proj", norm="ln_1", inner="mlp.c_fc", outer="mlp.c_proj", ffn_norm="ln_2",
    eps=1e-5,
)  # fmt: skip
_OPT = dict(
    block="layers.{}.", query="self_attn.q_proj", key="self_attn.k_proj", value="self_attn.v_proj",
    out="self_attn.out_proj", norm="self_attn_layer_norm", inner="fc1", outer="fc2",
    ffn_norm="final_layer_norm", eps=1e-5,
)  # fmt: skip
_LLAMA = dict(
    _OPT, out="self_attn.o_proj", norm="input_layernorm", inner="mlp.up_proj", outer="mlp.down_proj",
    ffn_norm="post_attention_layernorm", eps=1e-6,
)  # fmt: skip
FAMILIES = {"bert": _BERT, "gpt2": _GPT2, "opt": _OPT, "llama": _LLAMA}


def unchanged(part, block, values):
    """A hook that changes nothing."""
    return values


class NumpyModel:
    """A checkpoint folder of one of `FAMILIES`; n_heads heads."""

    def __init__(self, family: str, folder, n_heads: int = 4, changed=()):
        self.family, self.names, self.n_heads = family, FAMILIES[family], n_heads
        tensors = load_file(Path(folder) / "model.safetensors") | dict(changed)
        self.tensors = {name: x.astype(np.float64) for name, x in tensors.items()}

    def states(self, texts, hook=unchanged, n_layers: int = 2) -> list[list[np.ndarray]]:
        """[layer][text] states [T, width] of texts of ids, without what follows the last block.

        hook: given (part, block, values of all texts) of positions, heads [T, H, head width], attention, ffn
        and layers (what a block adds), gives what stands in their place.
        """
        states = [self._embedded(texts, hook)]
        for block in range(n_layers):
            states.append(self._block(states[-1], block, hook))
        return states

    def _embedded(self, texts, hook):
        table = {
            "bert": ("embeddings.word_embeddings", "embeddings.position_embeddings", 0),
            "gpt2": ("wte", "wpe", 0), "opt": ("embed_tokens", "embed_positions", 2),
            "llama": ("embed_tokens", None, 0),
        }  # fmt: skip
        words, positions, offset = table[self.family]
        embedded = [self.tensors[f"{words}.weight"][ids] for ids in texts]
        if positions is not None:
            rows = self.tensors[f"{positions}.weight"]
            rows = hook("positions", -1, [rows[offset : offset + len(ids)] for ids in texts])
            embedded = [x + row for x, row in zip(embedded, rows, strict=True)]
        if self.family == "bert":
            kind = self.tensors["embeddings.token_type_embeddings.weight"][0]
            embedded = [self._norm(x + kind, "embeddings.LayerNorm") for x in embedded]
        return embedded

    def _block(self, entering, block, hook):
        place, names = self.names["block"].format(block), self.names
        first = self.family != "bert"
        normed = [self._norm(x, place + names["norm"]) if first else x for x in entering]
        mixed = hook("heads", block, [self._mixed(x, place) for x in normed])
        attention = [self._dense(x.reshape(len(x), -1), place + names["out"]) for x in mixed]
        attention = hook("attention", block, attention)
        middle = [x + added for x, added in zip(entering, attention, strict=True)]
        if not first:
            middle = [self._norm(x, place + names["norm"]) for x in middle]
        read = [self._norm(x, place + names["ffn_norm"]) if first else x for x in middle]
        fed = hook("ffn", block, [self._feed_forward(x, place) for x in read])
        after = [x + added for x, added in zip(middle, fed, strict=True)]
        if not first:
            after = [self._norm(x, place + names["ffn_norm"]) for x in after]
        added = hook("layers", block, [y - x for x, y in zip(entering, after, strict=True)])
        return [x + more for x, more in zip(entering, added, strict=True)]

    def _norm(self, x, name):
        centred = x if self.family == "llama" else x - x.mean(-1, keepdims=True)
        centred = centred / np.sqrt(np.square(centred).mean(-1, keepdims=True) + self.names["eps"])
        return centred * self.tensors[f"{name}.weight"] + self.tensors.get(f"{name}.bias", 0)

    def _dense(self, x, name):
        weight = self.tensors[f"{name}.weight"]
        weight = weight if self.family == "gpt2" else weight.T
        return x @ weight + self.tensors.get(f"{name}.bias", 0)

    def _mixed(self, x, place):
        """What each head gives to the output projection [T, H, head width]."""
        if self.family == "gpt2":
            parts = np.split(self._dense(x, place + "attn.c_attn"), 3, axis=-1)
        else:
            parts = [self._dense(x, place + self.names[name]) for name in ("query", "key", "value")]
        size = parts[0].shape[-1] // self.n_heads
        query, key, value = (part.reshape(len(x), -1, size).swapaxes(0, 1) for part in parts)
        key, value = (np.repeat(part, self.n_heads // len(part), axis=0) for part in (key, value))
        if self.family == "llama":
            query, key = _turned(query), _turned(key)
        scores = query @ key.swapaxes(1, 2) / np.sqrt(size)
        if self.family != "bert":
            scores = np.where(np.tril(np.ones_like(scores)) > 0, scores, -np.inf)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        return (weights / weights.sum(-1, keepdims=True) @ value).swapaxes(0, 1)

    def _feed_forward(self, x, place):
        inner = self._dense(x, place + self.names["inner"])
        if self.family == "bert":
            inner = inner / 2 * (1 + erf(inner / np.sqrt(2)))
        elif self.family == "gpt2":
            inner = inner / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (inner + 0.044715 * inner**3)))
        elif self.family == "opt":
            inner = np.maximum(inner, 0)
        else:
            gate = self._dense(x, place + "mlp.gate_proj")
            inner = gate / (1 + np.exp(-gate)) * inner
        return self._dense(inner, place + self.names["outer"])


def _turned(x):
    """Rotary positions of x [H, T, size], the halves of a head paired."""
    half = x.shape[-1] // 2
    angles = np.arange(x.shape[1])[:, None] * 10000.0 ** (-np.arange(half) / half)
    first, second = x[..., :half], x[..., half:]
    cosine, sine = np.cos(angles), np.sin(angles)
    return np.concatenate([first * cosine - second * sine, second * cosine + first * sine], -1)
