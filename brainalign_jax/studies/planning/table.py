"""The tidy table of a plan: a row a number of people, words and repetitions, with its power."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
import scipy

from brainalign_jax.studies.options import Planning, largest_effect
from brainalign_jax.studies.planning.components import (
    Components,
    LearningCurve,
    drawn,
    growth,
    repeated,
)
from brainalign_jax.studies.planning.pilot import PilotScores
from brainalign_jax.studies.planning.power import LEAST_PEOPLE, GroupTest, power_of
from brainalign_jax.studies.planning.simulate import simulated_p
from brainalign_jax.study import outputs
from brainalign_jax.study.evidence.chance import rejected_share
from brainalign_jax.study.report.wording import in_points

COLUMNS = (
    "dataset", "model", "method", "test", "tested_by", "what", "n_people", "n_words", "repetitions",
    "minutes", "effect", "power", "power_low", "power_high", "simulated", "simulated_low", "simulated_high",
    "beyond_pilot",
)  # fmt: skip
NEEDED = ("n_words", "repetitions", "minutes", "n_people", "n_people_low", "n_people_high")
FILE, NEEDED_FILE = "plan.parquet", "needed.parquet"
MOST_PEOPLE = 1000  # above which it is not looked for


@dataclass(frozen=True)
class PlanTable(outputs.StudyTable):
    """rows: a DataFrame with `COLUMNS`; manifest: how they came about.

    tested_by: "sign flips" of people, the "interval" over people and words, or "null draws", whichever the
    package does for the test. repetitions: times the pilot's. minutes: NaN where the pace is not known.
    effect: with so many words and repetitions. power: in closed form; power_low, power_high: the interval
    that the pilot's own sampling error leaves it. simulated: share of simulated studies in which the
    package's test finds it, with its exact interval. beyond_pilot: more or fewer words than any pilot has, or
    other repetitions. All powers are NaN where the pilot does not show the effect and none was given.
    needed: the fewest people for the wanted power, with `NEEDED`; NaN where a thousand are too few.
    """

    needed: pd.DataFrame

    file_name = FILE
    kind = "plan of a study"
    tables = {"needed": NEEDED_FILE}

    @property
    def can_be_planned(self) -> bool:
        """Whether the pilot shows the effect, or one was given."""
        return bool(self.rows["power"].notna().any())

    def verdict(self) -> str:
        """What is needed, in words."""
        from brainalign_jax.studies.planning import verdict

        return in_points(verdict.headline(self), verdict.texts(self))


class Forecast(NamedTuple):
    """What a pilot makes of other numbers of people and words.

    components: of the largest pilot; draws: [B] of them, as they may be. curve: how the effect grows with
    words. largest: what the effect can be. noise_growth: by which noise grows below the pilot's words.
    """

    components: Components
    draws: Components
    curve: LearningCurve
    test: GroupTest
    largest: float = 1.0
    noise_growth: float = 0.0

    def scaled(self, n_words: float, factor: float, *, in_draws: bool = False) -> Components:
        """The components with so many words, effects times a factor."""
        source = self.draws if in_draws else self.components
        half_words = self.curve.draws if in_draws else self.curve.half_words
        share = factor * growth(half_words, n_words, self.components.n_words)
        effect = np.minimum(source.effect * share, self.largest)
        fewer = max(self.components.n_words / n_words, 1.0) ** self.noise_growth
        return source._replace(
            effect=effect, between=source.between * np.square(share), noise=source.noise * fewer
        )

    def power(self, n_words: float, factor: float, n_people: int) -> float:
        """In closed form."""
        return power_of(self.scaled(n_words, factor), n_people, n_words, self.test)

    def power_bound(
        self, n_words: float, factor: float, end: int, confidence: float, n_people: int
    ) -> float:
        """Where the pilot's own sampling error leaves the power. end: 0, lower, or 1, upper."""
        scaled = self.scaled(n_words, factor, in_draws=True)
        powers = power_of(scaled, n_people, n_words, self.test)
        tail = (1 - confidence) / 2
        return float(np.quantile(powers, 1 - tail if end else tail))


def effect_interval(components: Components, confidence: float) -> tuple[float, float]:
    """Interval of the pilot's effect for other people and words, by t."""
    factor = scipy.stats.t.isf((1 - confidence) / 2, components.degrees_of_freedom)
    half = float(factor * components.standard_error)
    return float(components.effect) - half, float(components.effect) + half


def forecast(
    pilot: PilotScores, curve: LearningCurve, plan: Planning, noise_growth: float = 0.0
) -> Forecast | None:
    """The forecast of the largest pilot; None where it does not show the effect, and none is given.

    It is shown by the interval of the effect, and of what was chosen among several for it by the p of all.
    """
    components = pilot.components
    if plan.effect is None:
        if pilot.doubt or not effect_interval(components, plan.confidence)[0] > 0:
            return None
    else:
        components = components._replace(effect=plan.effect)
    rng = np.random.default_rng((plan.seed, 1))
    draws = drawn(components, plan.n_bootstraps, rng, effect=plan.effect)
    return Forecast(components, draws, curve, pilot.test, largest_effect(plan.test), noise_growth)


def rows_of(
    pilot: PilotScores,
    sizes: Sequence[int],
    expected: Forecast | None,
    plan: Planning,
    pace: float | None,
) -> pd.DataFrame:
    """A row for each number of people, words and repetitions. pace: words per minute."""
    lines = []
    for repetitions in plan.repetitions:
        factor = repeated(repetitions, plan.reliability)
        for n_words in words_of(plan, pilot.n_words):
            for n_people in plan.people:
                line: dict = dict.fromkeys(COLUMNS, np.nan) | {
                    "dataset": pilot.dataset, "model": pilot.model, "method": pilot.method,
                    "test": plan.test, "tested_by": pilot.test.kind, "what": pilot.what,
                    "n_people": n_people, "n_words": n_words, "repetitions": repetitions,
                    "minutes": n_words * repetitions / pace if pace else np.nan,
                    "beyond_pilot": repetitions != 1 or not min(sizes) <= n_words <= max(sizes),
                }  # fmt: skip
                if expected is not None:
                    line |= _powers(expected, n_people, n_words, factor, plan)
                lines.append(line)
    return pd.DataFrame(lines, columns=list(COLUMNS))


def _powers(
    expected: Forecast, n_people: int, n_words: int, factor: float, plan: Planning
) -> dict[str, float]:
    scaled = expected.scaled(n_words, factor)
    low, high = (
        expected.power_bound(n_words, factor, end, plan.confidence, n_people) for end in (0, 1)
    )
    line = {
        "effect": float(scaled.effect),
        "power": expected.power(n_words, factor, n_people),
        "power_low": low,
        "power_high": high,
    }
    if plan.n_simulations:
        p = simulated_p(
            scaled, n_people, n_words, expected.test, plan.n_simulations, seed=plan.seed
        )
        names = ("simulated", "simulated_low", "simulated_high")
        line |= dict(zip(names, rejected_share(p), strict=True))
    return line


def needed_rows(
    pilot: PilotScores, expected: Forecast | None, plan: Planning, pace: float | None
) -> pd.DataFrame:
    """The fewest people for the wanted power at each number of words and repetitions, with `NEEDED`.

    An ablation needs as many as signs are flipped over: what is tested over words speaks of no other people.
    """
    lines = []
    least = LEAST_PEOPLE if pilot.test.words_too else 2
    for repetitions in plan.repetitions if expected is not None else ():
        factor = repeated(repetitions, plan.reliability)
        for n_words in words_of(plan, pilot.n_words):
            setting = n_words, factor
            counts = [fewest_people(functools.partial(expected.power, *setting), plan.power, least)]
            for end in (1, 0):
                bound = functools.partial(expected.power_bound, *setting, end, plan.confidence)
                counts.append(fewest_people(bound, plan.power, least))
            minutes = n_words * repetitions / pace if pace else np.nan
            lines.append((n_words, repetitions, minutes, *counts))
    return pd.DataFrame(lines, columns=list(NEEDED))


def fewest_people(power: Callable[[int], float], wanted: float, least: int = 2) -> float:
    """The fewest people, from `least`, with whom power(n) is as wanted; NaN above `MOST_PEOPLE`.

    Power grows with people, but for what few sign flips lose here and there.
    """
    low, high = least - 1, least
    while power(high) < wanted:
        low, high = high, 2 * high
        if low >= MOST_PEOPLE:
            return np.nan
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power(middle) >= wanted else (middle, high)
    return float(high) if high <= MOST_PEOPLE else np.nan


def words_of(plan: Planning, n_pilot: int) -> tuple[int, ...]:
    """The numbers of words that are asked for, or half to four times the pilot's."""
    if plan.words is not None:
        return plan.words
    return tuple(max(10, round(n_pilot * share)) for share in (0.5, 1, 2, 4))


def facts_of(components: Components) -> dict[str, float]:
    """The components for a manifest."""
    return {name: float(value) for name, value in components._asdict().items()}
