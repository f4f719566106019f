"""What becomes of a claim: the rules, all of them here."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from brainalign_jax.names import check_known
from brainalign_jax.studies.claims.quantities import Value

REPRODUCED = "reproduced"
NOT_REPRODUCED = "not reproduced"
EXPLAINED = "explained by a control"
DATA_ABSENT = "data absent"
MODEL_ABSENT = "model absent"
REFUSED = "refused"
OUTCOMES = (REPRODUCED, EXPLAINED, NOT_REPRODUCED, DATA_ABSENT, MODEL_ABSENT, REFUSED)
TRIED = (REPRODUCED, EXPLAINED, NOT_REPRODUCED)
DIRECTIONS = ("above", "below")


@dataclass(frozen=True)
class Expected:
    """What is published: a value with a tolerance, or a direction from a number, which it does not equal.

    >>> Expected(value=77.9, tolerance=0.005).holds(77.904), Expected(direction="above", than=0.0).holds(0.0)
    (True, False)
    """

    value: float | None = None
    tolerance: float | None = None
    direction: str | None = None
    than: float | None = None

    def __post_init__(self):
        by_tolerance = self.tolerance is not None
        if by_tolerance == (self.direction is not None):
            raise ValueError("takes either value and tolerance, or direction and than")
        if by_tolerance and (self.value is None or not self.tolerance >= 0):
            raise ValueError("takes a value, and a tolerance that is not below 0")
        if by_tolerance and self.than is not None or not by_tolerance and self.than is None:
            raise ValueError("takes than= with a direction, and with nothing else")
        if not by_tolerance:
            check_known("direction=", self.direction, DIRECTIONS)

    def holds(self, value: float) -> bool:
        """Whether a value is as published. The edge of a tolerance counts, that of a direction does not."""
        if self.tolerance is not None:
            rounding = 4 * sys.float_info.epsilon * abs(self.value)  # 0.53 is in 0.5 ± 0.03
            return bool(abs(value - self.value) <= self.tolerance + rounding)
        return bool(value > self.than if self.direction == "above" else value < self.than)


class Checked(NamedTuple):
    """An audited check: what it is of, the value, and what it is to be."""

    name: str
    value: float
    expected: Expected

    @property
    def holds(self) -> bool:
        """Whether the audited evidence is as it must be."""
        return self.expected.holds(self.value)


def outcome_of(expected: Expected, published: Value, checks: Sequence[Checked]) -> str:
    """The outcome of a claim that was tried.

    published: what the published protocol gives here. It alone decides whether the claim is reproduced; where
    it is, every audited check must hold, or the claim is explained by a control. Checks can never make a
    claim true that its own protocol does not give.
    """
    if not expected.holds(published.value):
        return NOT_REPRODUCED
    return REPRODUCED if all(check.holds for check in checks) else EXPLAINED
