"""When each layer is found best, how surely, and whether later layers are found later."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy  # scipy.stats is slow to import: it is loaded when it is used

FEWEST_LAYERS = 4  # of which an order can be told


class Peaks(NamedTuple):
    """Middle (s) of the best window of each layer [L], with an interval over people or words ("": none)."""

    latency: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    over: str


class Order(NamedTuple):
    """Spearman correlation of layer and peak over `n_layers` layers, with its interval; NaN for too few."""

    rho: float
    lower: float
    upper: float
    n_layers: int

    @property
    def follows(self) -> str:
        """ "later" or "earlier" where the interval leaves zero out, else "no order", or "untested"."""
        if not np.isfinite(self.rho) or not np.isfinite(self.lower):
            return "untested"
        return "later" if self.lower > 0 else "earlier" if self.upper < 0 else "no order"


def peaks(
    values: np.ndarray, middles: np.ndarray, drawn: np.ndarray | None, over: str, confidence: float
) -> Peaks:
    """Of group scores [W, L] in windows with these middles [W]; drawn: resampled scores [B, W, L]."""
    latency = middles[values.argmax(axis=0)]
    if drawn is None:
        nothing = np.full(len(latency), np.nan)
        return Peaks(latency, nothing, nothing, "")
    tails = [(1 - confidence) / 2, (1 + confidence) / 2]
    lower, upper = np.quantile(middles[drawn.argmax(axis=1)], tails, axis=0)
    return Peaks(latency, np.minimum(lower, latency), np.maximum(upper, latency), over)


def layer_order(
    values: np.ndarray,
    middles: np.ndarray,
    drawn: np.ndarray | None,
    is_found: np.ndarray,
    confidence: float,
) -> Order:
    """Whether the peaks of the layers that are found [L] bool follow their order."""
    layers = np.flatnonzero(is_found)
    if len(layers) < FEWEST_LAYERS:
        return Order(np.nan, np.nan, np.nan, len(layers))
    rho = float(_spearman(middles[values[:, layers].argmax(axis=0)][None])[0])
    if drawn is None:
        return Order(rho, np.nan, np.nan, len(layers))
    tails = [(1 - confidence) / 2, (1 + confidence) / 2]
    rhos = _spearman(middles[drawn[:, :, layers].argmax(axis=1)])
    lower, upper = np.quantile(rhos, tails)
    return Order(rho, min(float(lower), rho), max(float(upper), rho), len(layers))


def _spearman(latencies: np.ndarray) -> np.ndarray:
    """[B] with the order of the columns of [B, L]; 0 where all are equal."""
    ranks = scipy.stats.rankdata(latencies, axis=1)
    order = np.arange(latencies.shape[1], dtype=float)
    order -= order.mean()
    ranks = ranks - ranks.mean(axis=1, keepdims=True)
    norms = np.sqrt(np.square(ranks).sum(axis=1) * np.square(order).sum())
    return np.where(norms > 0, ranks @ order / np.where(norms > 0, norms, 1), 0.0)


def span_of(
    is_found: np.ndarray, starts: np.ndarray, stops: np.ndarray
) -> list[tuple[float, float]]:
    """The stretches of time, from start to stop, in which neighbouring windows [W] are found."""
    stretches: list[tuple[float, float]] = []
    inside = False
    for place, here in enumerate(is_found):
        if here and inside:
            stretches[-1] = (stretches[-1][0], float(stops[place]))
        elif here:
            stretches.append((float(starts[place]), float(stops[place])))
        inside = bool(here)
    return stretches
