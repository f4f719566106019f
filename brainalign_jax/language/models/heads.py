"""Language-model heads: from the last hidden state to the log-probability of a token.

The vocabulary is worked through in pieces, so logits of all its entries never exist at once.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from brainalign_jax.language.models import checkpoint
from brainalign_jax.language.models.blocks.activations import ACTIVATIONS
from brainalign_jax.language.models.blocks.layers import (
    Dense,
    Norm,
    at_least_float32,
    matmul_precision,
)
from brainalign_jax.language.models.blocks.transformer import LanguageModel, TransformerConfig
from brainalign_jax.language.models.registry import ModelSpec, resolve
from brainalign_jax.language.models.weights.adapters import Adapter, merge
from brainalign_jax.language.models.weights.weight_files import Renamed, Tensors, adapter_files

_LOGITS_AT_ONCE = 1 << 24  # 64 MB in float32


class HeadLayout(NamedTuple):
    """Names of a head's tensors in a PyTorch checkpoint; where there are several, any of them.

    weight: of the vocabulary, read where it is not the word table; bias: of the vocabulary;
    dense, norm: what comes before; activation: between the two (None: the model's).
    """

    weight: tuple[str, ...]
    bias: tuple[str, ...] = ()
    dense: str | None = None
    norm: str | None = None
    activation: str | None = None


_CAUSAL = HeadLayout(("lm_head.weight",))
_LAYOUTS = {
    "bert": HeadLayout(
        ("cls.predictions.decoder.weight",),
        ("cls.predictions.bias", "cls.predictions.decoder.bias"),
        "cls.predictions.transform.dense",
        "cls.predictions.transform.LayerNorm",
    ),
    "roberta": HeadLayout(
        ("lm_head.decoder.weight",),
        ("lm_head.bias", "lm_head.decoder.bias"),
        "lm_head.dense",
        "lm_head.layer_norm",
        "gelu",
    ),
    "distilbert": HeadLayout(
        ("vocab_projector.weight",),
        ("vocab_projector.bias",),
        "vocab_transform",
        "vocab_layer_norm",
    ),
    "gpt_neox": HeadLayout(("embed_out.weight", "lm_head.weight")),
}


class TokenScores(NamedTuple):
    """Of K tokens: log_probability [K] (nats, at least float32); likeliest [K], whether none is likelier."""

    log_probability: jax.Array
    likeliest: jax.Array


class Head(nnx.Module):
    """The head of a model with seeded random weights; `weight` [V, D] is None where the word table
    serves."""

    def __init__(self, config: TransformerConfig, *, tied: bool, dtype, rngs: nnx.Rngs):
        layout = layout_of(config.family)
        vocabulary, width = config.vocab_size, config.embed_width
        std = config.init_std
        dense = dict(bias=True, std=std, dtype=dtype, rngs=rngs)
        self.activation = layout.activation or config.activation
        self.dense = Dense((), width, width, **dense) if layout.dense else None
        norm = dict(eps=config.norm_eps, affine=True, dtype=dtype)
        self.norm = Norm((), width, **norm) if layout.norm else None
        self.bias = nnx.Param(jnp.zeros(vocabulary, dtype)) if layout.bias else None
        self.weight = None if tied else _drawn((vocabulary, width), std, dtype, rngs)

    def token_scores(
        self, model: LanguageModel, states: jax.Array, targets: jax.Array
    ) -> TokenScores:
        """Scores of the tokens `targets` [K] at the positions with last hidden states `states` [K, D],
        as `LanguageModel.finish` gives them."""
        x = states
        if self.dense is not None:
            x = self.norm(ACTIVATIONS[self.activation](self.dense(x)))
        table = (model.words.table if self.weight is None else self.weight)[...]
        bias = None if self.bias is None else self.bias[...]
        return _token_scores(x, table, bias, targets)


def _drawn(shape, std, dtype, rngs) -> nnx.Param:
    draw = jax.random.normal(rngs.params(), shape, jnp.float32)
    return nnx.Param((draw * jnp.float32(std)).astype(dtype))


def layout_of(family: str) -> HeadLayout:
    """The names of a family's head."""
    return _LAYOUTS.get(family, _CAUSAL)


def _token_scores(x, table, bias, targets) -> TokenScores:
    vocabulary = table.shape[0]
    size = max(1, min(vocabulary, _LOGITS_AT_ONCE // max(len(x), 1)))
    wide, precision = at_least_float32(x.dtype), matmul_precision(x.dtype)

    def logits_of(rows, biases):
        product = jnp.matmul(x, rows.T, precision=precision, preferred_element_type=wide)
        return product if biases is None else product + biases.astype(wide)

    def add_piece(index, carried):
        log_total, highest, of_target = carried
        # The last piece starts earlier, so that all have one size; what it repeats is left out.
        start = jnp.minimum(index * size, vocabulary - size)
        rows = jax.lax.dynamic_slice_in_dim(table, start, size)
        biases = None if bias is None else jax.lax.dynamic_slice_in_dim(bias, start, size)
        new = start + jnp.arange(size) >= index * size
        logits = jnp.where(new, logits_of(rows, biases), -jnp.inf)
        place = targets - start
        there = (place >= 0) & (place < size)
        picked = jnp.take_along_axis(logits, jnp.clip(place, 0, size - 1)[:, None], axis=1)[:, 0]
        return (
            jnp.logaddexp(log_total, jax.nn.logsumexp(logits, axis=-1)),
            jnp.maximum(highest, logits.max(axis=-1)),
            jnp.maximum(of_target, jnp.where(there, picked, -jnp.inf)),
        )

    pieces = -(-vocabulary // size)
    empty = jnp.full(len(x), -jnp.inf, wide)
    log_total, highest, of_target = jax.lax.fori_loop(0, pieces, add_piece, (empty, empty, empty))
    logits = jnp.einsum(
        "kd,kd->k", x, table[targets], precision=precision, preferred_element_type=wide
    )
    logits = logits if bias is None else logits + bias[targets].astype(wide)
    return TokenScores(logits - log_total, of_target >= highest)


def load_head(
    spec: ModelSpec | str,
    model: LanguageModel,
    *,
    seed: int = 0,
    revision: str | None = None,
) -> Head:
    """The language-model head of the checkpoint that `model` was loaded from.

    Its weights are the word table where the config ties them. `untrained:MODEL` gets a head drawn
    with `seed`. Raises ValueError if the checkpoint has no head.
    """
    spec = resolve(spec) if isinstance(spec, str) else spec
    untrained = spec.kind == "untrained"
    folder = checkpoint.locate(spec.source, revision=revision, weights=not untrained)
    config = checkpoint.read_config(folder, family=spec.family)
    tied = bool(getattr(config, "tie_word_embeddings", True))
    dtype = model.words.table[...].dtype

    def build() -> Head:
        return Head(model.config, tied=tied, dtype=dtype, rngs=nnx.Rngs(params=seed + 1))

    if untrained:
        return build()
    graph, state = nnx.split(nnx.eval_shape(build))
    layout = layout_of(model.family)
    tensors = _head_tensors(folder, layout, tied)
    filled = []
    for path, leaf in nnx.to_flat_state(state):
        values = _tensor(tensors, _names(path, layout), folder)
        values = values.T if path[-1] == "kernel" else values
        if values.shape != leaf.shape:
            raise ValueError(
                f"{folder}: the language-model head's {'.'.join(map(str, path))} has shape "
                f"{values.shape}, config.json wants {leaf.shape}; download both again."
            )
        filled.append((path, leaf.replace(jnp.asarray(np.asarray(values).astype(dtype)))))
    return nnx.merge(graph, nnx.from_flat_state(filled))


def _head_tensors(folder: Path, layout: HeadLayout, tied: bool) -> Tensors:
    """The tensors of a head under today's names, with an adapter's products."""
    tensors = checkpoint.read_tensors(folder)
    dense = f"{layout.dense}.weight"
    wanted = {*layout.weight, *layout.bias, dense, f"{layout.dense}.bias"}
    wanted |= {f"{layout.norm}.weight", f"{layout.norm}.bias"}
    stored = {checkpoint.renewed_name(full): full for full in tensors}
    stored = {name: full for name, full in stored.items() if name in wanted}
    if tied and adapter_files(folder):
        adapted = [m for m in Adapter(folder).products if f"{m}.weight" in layout.weight]
        if adapted:
            raise ValueError(
                f"{folder}: the adapter changes {adapted[0]}, whose weight is the word table too; "
                "merge it with peft and save the head by itself (tie_word_embeddings=false)."
            )
    return merge(
        Renamed(tensors, stored),
        folder,
        short=checkpoint.renewed_name,
        left_aside=lambda name: name not in wanted,
        matrices=dict.fromkeys((*layout.weight, dense), False),
    )


def _names(path: tuple, layout: HeadLayout) -> tuple[str, ...]:
    kind = {"kernel": "weight", "scale": "weight", "bias": "bias"}
    if path[0] == "dense":
        return (f"{layout.dense}.{kind[path[-1]]}",)
    if path[0] == "norm":
        return (f"{layout.norm}.{kind[path[-1]]}",)
    return layout.bias if path[0] == "bias" else layout.weight


def _tensor(tensors: Tensors, names: tuple[str, ...], folder: Path) -> np.ndarray:
    for name in names:
        if name in tensors:
            return tensors[name]
    raise ValueError(
        f"{folder} holds no language-model head (no tensor {' or '.join(names)}), which surprisal "
        "needs; use a checkpoint with one, such as the original on the hub."
    )
