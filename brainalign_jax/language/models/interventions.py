"""What of a model is switched off or drawn anew, as data that every family honours.

Switching off is a set of factors the compiled model takes as an argument: another setting never
compiles again. Drawing anew is a function from a model to a model.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from brainalign_jax.language.models.blocks.architecture import TransformerConfig
from brainalign_jax.language.models.blocks.blocks import BlockGates, Interventions
from brainalign_jax.language.models.blocks.transformer import LanguageModel
from brainalign_jax.names import check_known

ALL = -1  # every block, or every head
_SHORT = {"head": "heads", "attention": "attention", "ffn": "feed_forward", "layer": "layers"}
_LONG = {long: short for short, long in _SHORT.items()}
_HELP = (
    "give items separated by commas: head:BLOCK.HEAD, attention:BLOCK, ffn:BLOCK, layer:BLOCK, "
    "positions, each also with 'reinit-' in front, and seed:NUMBER; BLOCK and HEAD count from 0 "
    "and may be a range (2-5) or 'all'"
)


@dataclass(frozen=True)
class Parts:
    """Parts of a model. `heads` are (block, head), the others blocks, counted from 0; ALL (-1)
    stands for all of them. `positions`: the position embeddings, learned or rotary."""

    heads: tuple[tuple[int, int], ...] = ()
    attention: tuple[int, ...] = ()
    feed_forward: tuple[int, ...] = ()
    layers: tuple[int, ...] = ()
    positions: bool = False

    def __bool__(self) -> bool:
        return any(getattr(self, field.name) for field in fields(self))


@dataclass(frozen=True)
class Specification:
    """`off`: parts that are switched off; `reinitialised`: parts with weights drawn anew from
    `seed`, as the family initialises them. `str` gives the short form that `parse` reads."""

    off: Parts = Parts()
    reinitialised: Parts = Parts()
    seed: int = 0

    def __bool__(self) -> bool:
        return bool(self.off or self.reinitialised)

    def __str__(self) -> str:
        items = []
        for prefix, parts in (("", self.off), ("reinit-", self.reinitialised)):
            items += [f"{prefix}head:{_shown(b)}.{_shown(h)}" for b, h in parts.heads]
            for name in ("attention", "feed_forward", "layers"):
                items += [f"{prefix}{_LONG[name]}:{_shown(b)}" for b in getattr(parts, name)]
            if parts.positions:
                items.append(f"{prefix}positions")
        if self.reinitialised:
            items.append(f"seed:{self.seed}")
        return ",".join(items)


def parse(text: str | Mapping[str, Any] | Specification | None) -> Specification:
    """A specification from its short form, from JSON (text or mapping), or itself.

    The short form, for a flag: "head:2.7,ffn:0-3,reinit-layer:all,seed:1" (see the error that any
    other text raises). JSON: {"off": {"heads": [[2, 7]], "feed_forward": [0, 1]},
    "reinitialised": {"layers": "all"}, "seed": 1}, with the names of `Parts`. An empty text or
    None is an empty specification. Raises ValueError, naming the item that cannot be.
    """
    if isinstance(text, Specification):
        return text
    if text is None:
        return Specification()
    if isinstance(text, str) and text.lstrip().startswith("{"):
        try:
            text = json.loads(text)
        except ValueError as error:
            raise ValueError(f"interventions {text!r} are not JSON ({error}).") from error
    if isinstance(text, Mapping):
        return _from_mapping(text)
    if not isinstance(text, str):
        raise ValueError(f"interventions={text!r}: {_HELP}.")
    parts_by_kind: dict[str, dict[str, Any]] = {"off": {}, "reinitialised": {}}
    seed = 0
    for item in filter(None, (item.strip() for item in text.split(","))):
        name, _, value = item.partition(":")
        kind = "reinitialised" if name.startswith("reinit-") else "off"
        name = name.removeprefix("reinit-")
        parts = parts_by_kind[kind]
        if name == "seed" and value.isdigit() and kind == "off":
            seed = int(value)
        elif name == "positions" and not value:
            parts["positions"] = True
        elif name == "head" and value.count(".") == 1:
            block, head = (_numbers(part, item) for part in value.split("."))
            parts.setdefault("heads", []).extend((b, h) for b in block for h in head)
        elif name in ("attention", "ffn", "layer") and value:
            parts.setdefault(_SHORT[name], []).extend(_numbers(value, item))
        else:
            raise ValueError(f"interventions: {item!r} is not understood; {_HELP}.")
    return Specification(_parts(parts_by_kind["off"]), _parts(parts_by_kind["reinitialised"]), seed)


def gates(
    specification: str | Specification | None, config: TransformerConfig
) -> Interventions | None:
    """What is switched off in a model of this architecture, as arrays; None if nothing is.

    Raises ValueError on a block or head that the model lacks.
    """
    specification = parse(specification)
    check(specification, config)
    if not specification.off:
        return None
    off = specification.off
    heads = np.ones((config.n_layers, config.n_heads), np.float32)
    for block, head in off.heads:
        heads[_index(block), _index(head)] = 0
    blocks = BlockGates(
        heads=heads,
        attention=_mask(off.attention, config.n_layers).astype(np.float32),
        feed_forward=_mask(off.feed_forward, config.n_layers).astype(np.float32),
        block=_mask(off.layers, config.n_layers),
        rotary=np.full(config.n_layers, not off.positions),
    )
    positions = np.float32(not off.positions)
    return jax.tree.map(jnp.asarray, Interventions(positions, blocks))


def check(specification: Specification, config: TransformerConfig) -> None:
    """Raise ValueError if the specification names a part that the architecture lacks."""
    for parts in (specification.off, specification.reinitialised):
        named = [*parts.attention, *parts.feed_forward, *parts.layers]
        for block in [*named, *(block for block, _ in parts.heads)]:
            if not -1 <= block < config.n_layers:
                raise ValueError(
                    f"interventions name block {block}, and the {config.family} model has blocks "
                    f"0 to {config.n_layers - 1}."
                )
        for _, head in parts.heads:
            if not -1 <= head < config.n_heads:
                raise ValueError(
                    f"interventions name head {head}, and the {config.family} model has heads 0 "
                    f"to {config.n_heads - 1}."
                )


def reinitialise(
    model: LanguageModel,
    specification: str | Mapping[str, Any] | Specification,
    *,
    fresh: LanguageModel | None = None,
) -> LanguageModel:
    """The model with some weights drawn anew, as an untrained model of its family has them.

    fresh: the untrained model that they are taken from, in place of one drawn from the seed.

    A head: its columns of query, key and value and its rows of the output projection (the query
    and the output alone where heads share keys and values). Attention and feed-forward: their
    products and the norms inside; layers: all of a block, the norms around the sub-layers too.
    Positions: the table of position embeddings. The model itself is left as it is. Raises
    ValueError on a part that the model lacks, rotary positions among them.
    """
    specification = parse(specification)
    check(specification, model.config)
    parts = specification.reinitialised
    if not parts:
        return model
    config = model.config
    graph, state = nnx.split(model)
    leaves = dict(nnx.to_flat_state(state))
    if parts.positions and ("positions", "table") not in leaves:
        raise ValueError(
            f"interventions reinitialise the positions, and the {config.family} model has no "
            "table of position embeddings; switch them off instead ('positions')."
        )
    if fresh is None:
        fresh = untrained_twin(model, specification.seed)
    drawn = dict(nnx.to_flat_state(nnx.state(fresh)))
    new = []
    for path, leaf in leaves.items():
        values = leaf[...]
        anew = _drawn_anew(path, parts, config, np.shape(values))
        if anew is True:
            values = drawn[path][...]
        elif anew is not None:
            values = jnp.where(anew, drawn[path][...], values)
        new.append((path, leaf.replace(values)))
    return nnx.merge(graph, nnx.from_flat_state(new))


def untrained_twin(model: LanguageModel, seed: int) -> LanguageModel:
    """A model of the same architecture whose weights are all drawn anew."""
    dtype = model.blocks.qkv.kernel[...].dtype
    return type(model)(model.config, dtype=dtype, rngs=nnx.Rngs(params=seed))


def _drawn_anew(path, parts: Parts, config: TransformerConfig, shape) -> np.ndarray | bool | None:
    """Where a parameter is drawn anew: everywhere, nowhere (None), or a mask [L, ...]."""
    if path[0] != "blocks":
        return True if parts.positions and path[0] == "positions" else None
    attention = ("qkv", "attention_out", "query_norm", "key_norm")
    whole = parts.layers
    if path[1] in attention:
        whole = (*whole, *parts.attention)
    elif path[1] in ("ffn_in", "ffn_out"):
        whole = (*whole, *parts.feed_forward)
    mask = np.zeros(shape, bool)
    for block in whole:
        mask[_index(block)] = True
    size, n_heads = config.head_size, config.n_heads
    for block, head in parts.heads:
        for index in range(n_heads) if head == ALL else (head,):
            columns = slice(index * size, (index + 1) * size)
            if path[1:] == ("attention_out", "kernel"):
                mask[_index(block), columns] = True
            elif path[1] == "qkv":
                mask[_index(block), ..., columns] = True
                if config.kv_heads == n_heads:
                    for part in (1, 2):
                        start = (part * n_heads + index) * size
                        mask[_index(block), ..., start : start + size] = True
    return mask if mask.any() else None


def _index(number: int) -> int | slice:
    return slice(None) if number == ALL else number


def _mask(blocks: tuple[int, ...], n_layers: int) -> np.ndarray:
    on = np.ones(n_layers, bool)
    for block in blocks:
        on[_index(block)] = False
    return on


def _shown(number: int) -> str:
    return "all" if number == ALL else str(number)


def _numbers(text: str, item: str) -> list[int]:
    if text == "all":
        return [ALL]
    first, _, last = text.partition("-")
    last = last or first
    if not (first.isdecimal() and last.isdecimal() and int(first) <= int(last)):
        raise ValueError(f"interventions: {item!r} is not understood; {_HELP}.")
    return list(range(int(first), int(last) + 1))


def _parts(chosen: Mapping[str, Any]) -> Parts:
    lists = {name: tuple(sorted(set(chosen.get(name, ())))) for name in _SHORT.values()}
    return Parts(**lists, positions=bool(chosen.get("positions", False)))


def _from_mapping(mapping: Mapping[str, Any]) -> Specification:
    for name in mapping:
        check_known("part", name, ("off", "reinitialised", "seed"), of="interventions")
    parts_by_kind: dict[str, Parts] = {}
    for kind in ("off", "reinitialised"):
        listed = mapping.get(kind) or {}
        if not isinstance(listed, Mapping):
            raise ValueError(f"interventions: {kind!r} is {listed!r}, not an object of parts.")
        for name in listed:
            check_known(
                "part", name, (field.name for field in fields(Parts)), of=f"interventions, {kind}"
            )
        parts: dict[str, Any] = {"positions": listed.get("positions", False)}
        for name in _SHORT.values():
            values = listed.get(name, [])
            if values == "all":
                values = [[ALL, ALL]] if name == "heads" else [ALL]
            flat = np.asarray(values, object).ravel() if np.size(values) else []
            if any(isinstance(v, bool) or not isinstance(v, int) or v < ALL for v in flat):
                raise ValueError(
                    f"interventions: {kind}.{name} is {values!r}; give a list of block numbers "
                    "(of [block, head] for heads), or 'all'."
                )
            if name == "heads" and any(np.shape(pair) != (2,) for pair in values):
                raise ValueError(f"interventions: {kind}.heads is {values!r}, not [[block, head]].")
            parts[name] = [tuple(pair) for pair in values] if name == "heads" else list(values)
        parts_by_kind[kind] = _parts(parts)
    seed = mapping.get("seed", 0)
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise ValueError(f"interventions: the seed is {seed!r}; give an integer of at least 0.")
    return Specification(parts_by_kind["off"], parts_by_kind["reinitialised"], seed)
