"""How a parameter here is put together from the tensors of a PyTorch checkpoint."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Source(NamedTuple):
    """Names of the tensors that make one parameter, prefix stripped, `{layer}` for the block.

    Several tensors are joined on the last axis of the parameter (query, key, value): `widths` are
    their sizes there, equal where it is empty. `transposed`: the file holds [out, in], the
    parameter is [in, out]. `packed`: the number of heads h, where the file has the outputs as
    h × (query, key, value) (GPT-NeoX) and the parameter has all queries first, then all keys.
    """

    names: tuple[str, ...]
    transposed: bool = False
    widths: tuple[int, ...] = ()
    packed: int = 0

    def split(self, parameter: np.ndarray) -> list[np.ndarray]:
        """The views of a parameter (of one layer) that the tensors fill, in order of `names`."""
        if not self.widths:
            return np.split(parameter, len(self.names), axis=-1)
        return np.split(parameter, np.cumsum(self.widths)[:-1], axis=-1)

    def stored_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of a tensor in the file, from that of its part of the parameter."""
        return shape[::-1] if self.transposed else shape

    def arrange(self, values: np.ndarray) -> np.ndarray:
        """A tensor as in the file, in the layout of the parameter; a view where it can be."""
        if self.transposed:
            values = values.T
        if not self.packed:
            return values
        lead = values.shape[:-1]
        return values.reshape(*lead, self.packed, 3, -1).swapaxes(-3, -2).reshape(values.shape)


def table(path: str, name: str) -> dict[str, Source]:
    """An embedding table."""
    return {f"{path}.table": Source((f"{name}.weight",))}


def norm(path: str, name: str) -> dict[str, Source]:
    """Gain and bias of a layer norm."""
    return {f"{path}.scale": Source((f"{name}.weight",)), f"{path}.bias": Source((f"{name}.bias",))}


def linear(
    path: str,
    *names: str,
    transposed: bool = True,
    widths: tuple[int, ...] = (),
    packed: int = 0,
) -> dict[str, Source]:
    """Kernel and bias of a dense layer made of the named PyTorch layers."""
    weights, biases = (tuple(f"{name}.{kind}" for name in names) for kind in ("weight", "bias"))
    return {
        f"{path}.kernel": Source(weights, transposed, widths, packed),
        f"{path}.bias": Source(biases, False, widths, packed),
    }
