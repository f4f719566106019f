"""How a parameter here is put together from the tensors of a PyTorch checkpoint."""

from __future__ import annotations

from typing import NamedTuple


class Source(NamedTuple):
    """Names of the tensors that make one parameter, prefix stripped, `{layer}` for the block.

    Several tensors are joined on the last axis of the parameter (query, key, value).
    `transposed`: the file holds [out, in], the parameter is [in, out].
    """

    names: tuple[str, ...]
    transposed: bool = False


def table(path: str, name: str) -> dict[str, Source]:
    """An embedding table."""
    return {f"{path}.table": Source((f"{name}.weight",))}


def norm(path: str, name: str) -> dict[str, Source]:
    """Gain and bias of a layer norm."""
    return {f"{path}.scale": Source((f"{name}.weight",)), f"{path}.bias": Source((f"{name}.bias",))}


def linear(path: str, *names: str, transposed: bool = True) -> dict[str, Source]:
    """Kernel and bias of a dense layer made of the named PyTorch layers."""
    return {
        f"{path}.kernel": Source(tuple(f"{name}.weight" for name in names), transposed),
        f"{path}.bias": Source(tuple(f"{name}.bias" for name in names)),
    }
