"""The parts of a model that can be switched off, by kind or by name, and the ways in which they are."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from brainalign_jax.language.models.blocks.architecture import TransformerConfig
from brainalign_jax.names import check_known

KINDS = ("heads", "attention", "ffn", "layers", "positions", "norms")
RANDOM, RESAMPLE, REINIT = "random", "resample", "reinit"
DRAWN = (RESAMPLE, REINIT)
GATE_NAMES = {
    "heads": "heads", "attention": "attention", "ffn": "feed_forward", "layers": "block",
}  # fmt: skip
_ITEM = re.compile(r"(head|attention|ffn|layer|norms):(\d+)(?:\.(\d+))?")
_LONG = {
    "head": "heads",
    "attention": "attention",
    "ffn": "ffn",
    "layer": "layers",
    "norms": "norms",
}


class Component(NamedTuple):
    """A part of a model. kind: of `KINDS`; block, head: counted from 0, -1 where it has none."""

    kind: str
    block: int = -1
    head: int = -1

    def __str__(self) -> str:
        if self.kind == "heads":
            return f"head {self.block}.{self.head}"
        if self.kind == "positions":
            return self.kind
        name = {"layers": "block"}.get(self.kind, self.kind)
        return f"{name} {self.block}"


class Setting(NamedTuple):
    """A component and how it is switched off: "zero"; its "mean" over the sub-tokens that are read;
    "resample" or "reinit", see `ablated_parts`, of which there are several draws; or "random", the control:
    a random share, of the same norm, is taken off what enters its block."""

    component: Component
    how: str
    draw: int = 0


def components_of(
    config: TransformerConfig,
    wanted: Sequence[str],
    *,
    blocks: Sequence[int] | None = None,
    model: str = "the model",
) -> list[Component]:
    """The components that are asked for, in the order of the blocks, each once.

    wanted: of `KINDS`, or one part by name, as head:2.7, attention:3, ffn:0, layer:1, norms:2. blocks: those
    of the kinds, all if not given.

    Raises: ValueError for what is not known, or a block or head that the model lacks, with the nearest; for
      norms of a model whose norms have no gains.
    """
    known_blocks = [str(block) for block in range(config.n_layers)]
    for block in blocks or ():
        check_known("block", str(block), known_blocks, of=model)
    chosen = range(config.n_layers) if blocks is None else sorted(set(blocks))
    components: set[Component] = set()
    for name in wanted:
        item = _ITEM.fullmatch(name)
        if item and (item[1] == "head") == bool(item[3]):
            block = int(item[2])
            check_known("block", str(block), known_blocks, of=model)
            if item[1] == "head":
                heads = [f"{block}.{head}" for head in range(config.n_heads)]
                check_known("head", f"{block}.{int(item[3])}", heads, of=model)
            components.add(Component(_LONG[item[1]], block, int(item[3]) if item[3] else -1))
            continue
        check_known("component", name, (*KINDS, "head:BLOCK.HEAD", "attention:BLOCK", "ffn:BLOCK"))
        if name == "positions":
            components.add(Component("positions"))
        elif name == "heads":
            components |= {Component(name, b, h) for b in chosen for h in range(config.n_heads)}
        else:
            components |= {Component(name, block) for block in chosen}
    if config.n_layers == 1 and any(component.kind == "layers" for component in components):
        raise ValueError(
            f"{model} has one block: without it nothing is left but the embedding; leave layers out of the "
            "components"
        )
    if not config.norm_affine and any(component.kind == "norms" for component in components):
        raise ValueError(f"the norms of {model} have no gains: leave norms out of the components")
    return sorted(components, key=lambda part: (part.block, KINDS.index(part.kind), part.head))
