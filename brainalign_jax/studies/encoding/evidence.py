"""Is what a model adds more than chance: circular shifts in each person, sign flips of people."""

from typing import NamedTuple

import numpy as np

from brainalign_jax.align.stats.scaling_slope import draw_signs
from brainalign_jax.study.evidence.chance import adjusted_p

TIE = 1e-5  # rounding of a float32 correlation, and of the difference of two
_AT_ONCE = 2**22  # numbers of a block of flips


class Tested(NamedTuple):
    """p: [V] of each by itself; p_max: against the largest of all in each draw; q: false discovery rate."""

    p: np.ndarray
    p_max: np.ndarray
    q: np.ndarray


def by_shifts(added: np.ndarray) -> Tested:
    """One-sided p-values [V] of what is added in the recording, row 0 of [1 + P, V], by P shifted ones.

    A column that holds NaN has none.
    """
    observed, null = added[0].astype(np.float64), added[1:]
    reached = (null >= observed - TIE).sum(axis=0)
    known = np.isfinite(added).all(axis=0)
    largest = np.where(known, null, -np.inf).max(axis=1, initial=-np.inf)
    return _tested(reached, largest, observed, known, len(null))


def by_sign_flips(values: np.ndarray, n_flips: int, seed: int) -> Tested:
    """One-sided p-values [V] of the mean over people of values [S, V], whose signs are flipped.

    With S people there are 2 ** S flips: the smallest p is 1 over as many. A column that holds NaN has none.
    """
    signs = draw_signs(len(values), n_flips, random_state=seed)
    known = np.isfinite(values).all(axis=0)
    filled = np.where(known, values, 0).astype(np.float64)
    observed = filled.mean(axis=0)
    reached, largest = np.zeros(values.shape[1], int), []
    size = max(1, _AT_ONCE // max(values.shape[1], 1))
    for start in range(0, len(signs), size):
        means = signs[start : start + size].astype(np.float64) @ filled / len(values)
        reached += (means >= observed - TIE).sum(axis=0)
        largest.append(np.where(known, means, -np.inf).max(axis=1))
    return _tested(reached, np.concatenate(largest), observed, known, len(signs))


def _tested(reached, largest, observed, known, count: int) -> Tested:
    p = np.where(known, (1 + reached) / (1 + count), np.nan)
    above = count - np.searchsorted(np.sort(largest), observed - TIE, side="left")
    return Tested(p, np.where(known, (1 + above) / (1 + count), np.nan), adjusted_p(p))
