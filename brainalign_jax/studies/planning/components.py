"""Where scores vary: between people, between words, and in a person's words beside both.

The value of person i and word j is effect + person i + word j + noise ij: people and words are both drawn
from more of their kind (Westfall, Kenny & Judd 2014, J. Exp. Psychol. Gen. 143:2020-2045). The mean over S
people and W words then varies by between / S + words / W + noise / (S W), and what people share of the words
is seen in no test over people alone.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from brainalign_jax.study.evidence.chance import independent_draws


class Components(NamedTuple):
    """effect: mean over people and words. between: variance of people's true effects.

    words, noise: variances of one word, what people share of it and what they do not; of words that are not
    independent, so much larger that the mean over W words varies by a Wth. n_people, n_words: of the pilot.
    standard_error: of the effect over other people and words, with so many degrees_of_freedom.
    All but the numbers of people and words may be arrays of draws.
    """

    effect: float | np.ndarray
    between: float | np.ndarray
    words: float | np.ndarray
    noise: float | np.ndarray
    n_people: int
    n_words: int
    standard_error: float
    degrees_of_freedom: float


def components_of_items(values: np.ndarray, *, in_order: bool = False) -> Components:
    """Components of values [S, W] of every person and word, by the mean squares of the two-way table.

    in_order: words follow one another in time, and neighbours may be alike: variances over words are then as
    of the words that are independent (`chance.independent_draws`).

    Raises: ValueError for one person, fewer than two words, or values that are no finite numbers.

    >>> import numpy as np
    >>> people, words = np.array([[0.2], [0.4]]), np.array([[-0.1, 0.0, 0.1]])
    >>> components = components_of_items(people + words)
    >>> round(float(components.between), 3), round(float(components.words), 3), components.n_words
    (0.02, 0.01, 3)
    """
    values = np.asarray(values, np.float64)
    n_people, n_words = values.shape
    check_people(n_people)
    if n_words < 2:
        raise ValueError(f"a pilot of {n_words} word says nothing of other words: give more")
    if not np.isfinite(values).all():
        person = int(np.argmin(np.isfinite(values).all(axis=1)))
        raise ValueError(f"a value of person {person} is no finite number: leave the person out")
    effect, of_people, of_words = values.mean(), values.mean(axis=1), values.mean(axis=0)
    residuals = values - of_people[:, None] - of_words + effect
    alike = [n_words / independent_draws(series) for series in residuals] if in_order else [1.0]
    shared = n_words / independent_draws(of_words) if in_order else 1.0
    of_noise = (n_people - 1) * (n_words - 1)
    noise = float(np.square(residuals).sum() / of_noise * np.mean(alike))
    squares_words = n_people * of_words.var(ddof=1) * shared
    squares_people = n_words * of_people.var(ddof=1)
    between = max(squares_people - noise, 0.0) / n_words
    words = max(squares_words - noise, 0.0) / n_people
    squares = n_words * between + n_people * words + noise
    parts = (
        (squares_people if between else 0.0, n_people - 1),
        (squares_words if words else 0.0, max(n_words / shared - 1, 1)),
        (noise, max(of_noise / np.mean(alike), 1)),
    )
    spread = sum(part**2 / count for part, count in parts)
    return Components(
        effect=float(effect),
        between=between,
        words=words,
        noise=noise,
        n_people=n_people,
        n_words=n_words,
        standard_error=float(np.sqrt(squares / (n_people * n_words))),
        degrees_of_freedom=max(squares**2 / spread if spread else 1.0, 1.0),
    )


def components_of_effects(
    effects: np.ndarray,
    crossed_error: float,
    n_words: int,
    *,
    own_error: float | None = None,
    stable_share: float | None = None,
) -> Components:
    """Components of people's effects [S], where their words are not known.

    crossed_error: standard error of the mean by the bootstrap over people and words, in which the spread of
    people, words and, three times, noise count. own_error: of a person's effect over words, root of the mean
    square; with crossed_error it tells noise from words. stable_share: of the spread of people that is no
    noise, in place of it. With neither, the noise within people is taken for theirs and the words', and no
    number of words averages it out. Of two people what is in own_error is all noise.

    Raises: ValueError for one person, effects that are no finite numbers, or all the same.
    """
    effects = np.asarray(effects, np.float64)
    check_people(len(effects))
    if not np.isfinite(effects).all():
        raise ValueError("the effect of a person is no finite number: leave the person out")
    spread, n_people = float(effects.var(ddof=1)), len(effects)
    if not spread > 0:
        raise ValueError("all people have the same effect: a plan needs people who differ")
    beside = crossed_error**2 - spread * (n_people - 1) / n_people**2  # words, and noise twice
    noise = 0.0
    if stable_share is not None:
        noise = (1 - stable_share) * spread
    elif own_error is not None and np.isfinite([own_error, beside]).all():
        own = own_error**2
        noise = own if n_people == 2 else (own - beside) / (1 - 2 / n_people)
        noise = min(max(noise, 0.0), own, spread)
    words = beside - 2 * noise / n_people
    words = max(words, 0.0) if np.isfinite(words) else 0.0
    return Components(
        effect=float(effects.mean()),
        between=spread - noise,
        words=words * n_words,
        noise=noise * n_words,
        n_people=n_people,
        n_words=n_words,
        standard_error=float(np.sqrt(spread / n_people + words)),
        degrees_of_freedom=float(n_people - 1),
    )


def check_people(count: int) -> None:
    """Raise ValueError where a pilot has one person."""
    if count < 2:
        raise ValueError(
            f"a pilot of {count} person says nothing of how people differ: give one of two people or more"
        )


def drawn(
    components: Components, count: int, rng: np.random.Generator, *, effect: float | None = None
) -> Components:
    """Components [count] as they may be, given those of the pilot: its own sampling error.

    The effect is drawn from the t distribution about the pilot's, mean squares of people and words from their
    chi-squared distributions. effect: given, and then not drawn.
    """
    n_people, n_words = components.n_people, components.n_words
    own, shared = components.noise / n_words, components.noise / n_people
    people = (components.between + own) * _scales(n_people - 1, count, rng)
    words = (components.words + shared) * _scales(n_words - 1, count, rng)
    step = rng.standard_t(components.degrees_of_freedom, count) * components.standard_error
    return components._replace(
        effect=np.full(count, effect) if effect is not None else components.effect + step,
        between=np.maximum(people - own, 0.0),
        words=np.maximum(words - shared, 0.0),
        noise=np.full(count, components.noise),
    )


def _scales(degrees: int, count: int, rng: np.random.Generator) -> np.ndarray:
    return degrees / rng.chisquare(degrees, count)


class LearningCurve(NamedTuple):
    """effect(n) = limit n / (n + half_words): half_words, the words at half of the limit; draws: [B] of it.

    0 where the effect is taken to be the same for all numbers of words. sizes: of the pilots that it is of.
    """

    half_words: float
    draws: np.ndarray
    sizes: tuple[int, ...]


def learning_curve(
    sizes: np.ndarray, effects: np.ndarray, count: int, rng: np.random.Generator
) -> LearningCurve:
    """The curve through the mean effects of pilots of so many words [K]; effects: [K, S] of the same people.

    Least squares over half_words, from 0 to a hundred times the largest pilot; draws: of people drawn anew.
    With one size there is no curve.
    """
    sizes = np.asarray(sizes, np.float64)
    told = tuple(int(size) for size in sizes)
    if len(sizes) < 2:
        return LearningCurve(0.0, np.zeros(count), told)
    n_people = effects.shape[1]
    counts = rng.multinomial(n_people, np.full(n_people, 1 / n_people), count) / n_people
    means = np.concatenate([effects.mean(axis=1)[None], counts @ effects.T])  # [1 + B, K]
    halves = np.concatenate([[0.0], np.geomspace(sizes.min() / 100, 100 * sizes.max(), 200)])
    shapes = sizes / (sizes + halves[:, None])
    limits = means @ shapes.T / np.square(shapes).sum(axis=1)
    errors = np.square(means[:, None] - limits[..., None] * shapes).sum(axis=2)
    best = halves[errors.argmin(axis=1)]
    return LearningCurve(float(best[0]), best[1:], told)


def growth(half_words: float | np.ndarray, n_words: float, n_pilot: float) -> float | np.ndarray:
    """The effect with n_words as a share of that with the pilot's; n_words may be infinite."""
    reached = 1.0 if np.isinf(n_words) else n_words / (n_words + half_words)
    return reached * (n_pilot + half_words) / n_pilot


def noise_growth(sizes: Sequence[float], noises: Sequence[float]) -> float:
    """g of noise(n) = noise (n_pilot / n)^g of a word, by the smallest and the largest pilot; 0 of one pilot.

    Noise that grows by more than by so many words fewer: of maps that are fitted on these. Never below 0.

    >>> round(noise_growth((50, 100), (0.06, 0.03)), 3), noise_growth((50, 100), (0.03, 0.04))
    (1.0, 0.0)
    """
    if len(sizes) < 2 or not min(noises) > 0:
        return 0.0
    return max(float(np.log(noises[0] / noises[-1]) / np.log(sizes[-1] / sizes[0])), 0.0)


def repeated(repetitions: float, reliability: float | None) -> float:
    """The effect with so many times the repetitions, as a share of the pilot's.

    A score grows with the root of the responses' reliability (attenuation), and that by Spearman-Brown.

    >>> repeated(1.0, None), round(repeated(4.0, 0.25), 3)
    (1.0, 1.512)
    """
    if reliability is None:
        return 1.0
    grown = repetitions * reliability / (1 + (repetitions - 1) * reliability)
    return float(np.sqrt(grown / reliability))
