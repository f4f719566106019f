"""The weights of a GGUF file under the names, and in the layout, that transformers gives them.

The converter of llama.cpp puts the two elements that a rotary position turns together side by side in the
queries and keys of the llama kind; transformers has them half a head apart, and so does this mapping. Of the
qwen2 kind llama.cpp leaves them as they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from brainalign_jax.language.models.weights.gguf.header import package, read_header
from brainalign_jax.language.models.weights.unchanged_file import UnchangedFile

# Factors on the rotary angles of Llama 3.1, which the config speaks of.
ROTARY_FACTORS = "rope_freqs.weight"
_OUTER = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
_PARTS = {
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_IN_BLOCK = re.compile(rf"blk\.(\d+)\.({'|'.join(_PARTS)})\.(weight|bias)")


class GgufTensors(Mapping[str, np.ndarray]):
    """The tensors of one GGUF file, float32, each read and dequantised when asked for.

    A tensor that a model of these kinds does not have keeps its name. Reading raises ValueError once the
    file was replaced or written to.
    """

    def __init__(self, path: Path):
        self.path, self._unchanged = path, UnchangedFile(path)
        self._places = read_header(path).tensors
        fields = read_header(path).fields
        architecture = fields.get("general.architecture")
        n_heads = fields.get(f"{architecture}.attention.head_count")
        n_kv_heads = fields.get(f"{architecture}.attention.head_count_kv", n_heads)
        self._pairs = {"attn_q": n_heads, "attn_k": n_kv_heads} if architecture == "llama" else {}
        self._stored = {transformers_name(name): name for name in self._places}
        self._stored.pop(ROTARY_FACTORS, None)
        self._check_types()

    def _check_types(self) -> None:
        gguf = package(self.path)
        readable = {gguf.GGMLQuantizationType.F32, gguf.GGMLQuantizationType.F16}
        readable |= set(gguf.quants._type_traits)
        for name, place in self._places.items():
            kind = gguf.GGMLQuantizationType(place.kind)
            if kind not in readable:
                raise ValueError(
                    f"{self.path}: the tensor {name[:80]!r} is quantised as {kind.name}, which gguf does "
                    "not read; give a file of another quantisation, as Q8_0 or Q4_K_M."
                )

    def __iter__(self) -> Iterator[str]:
        return iter(self._stored)

    def __len__(self) -> int:
        return len(self._stored)

    def __getitem__(self, name: str) -> np.ndarray:
        stored = self._stored[name]
        values = read_values(self.path, stored, self._unchanged)
        in_block = _IN_BLOCK.fullmatch(stored)
        n_heads = self._pairs.get(in_block[2]) if in_block else None
        return values if n_heads is None else _half_a_head_apart(values, n_heads, stored, self.path)

    def header(self, name: str) -> tuple[tuple[int, ...], str]:
        """Shape and dtype of a tensor, which is not read."""
        return self._places[self._stored[name]].shape, "float32"


def transformers_name(name: str) -> str:
    """What transformers calls a tensor of a GGUF file.

    >>> transformers_name("blk.3.ffn_up.weight")
    'model.layers.3.mlp.up_proj.weight'
    """
    in_block = _IN_BLOCK.fullmatch(name)
    if in_block:
        return f"model.layers.{in_block[1]}.{_PARTS[in_block[2]]}.{in_block[3]}"
    return _OUTER.get(name, name)


def read_values(path: Path, name: str, unchanged: UnchangedFile | None = None) -> np.ndarray:
    """A tensor by its name in the file, float32."""
    gguf = package(path)
    unchanged = unchanged or UnchangedFile(path)
    place = read_header(path).tensors[name]
    unchanged.check()
    stored = np.fromfile(path, np.uint8, count=place.n_bytes, offset=place.start)
    unchanged.check()
    rows = stored.reshape(*place.shape[:-1], -1)
    values = gguf.dequantize(rows, gguf.GGMLQuantizationType(place.kind))
    return np.asarray(values, np.float32).reshape(place.shape)


def _half_a_head_apart(values: np.ndarray, n_heads: int, name: str, path: Path) -> np.ndarray:
    rows, *rest = values.shape
    if not isinstance(n_heads, int) or n_heads < 1 or rows % (2 * n_heads):
        raise ValueError(
            f"{path}: the {rows} rows of {name!r} are not pairs of {n_heads} heads. Download it again."
        )
    return (
        values.reshape(n_heads, rows // n_heads // 2, 2, *rest).swapaxes(1, 2).reshape(rows, *rest)
    )
