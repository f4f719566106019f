"""Fit to reading times: how much better are they predicted where a model's surprisal is known?

Mean reading times of words in stories are predicted by ordinary regression from the length and log frequency
of the word and of those before it, with and without surprisal of the same words. Each story is predicted by
the regression on the others; the gain is the held-out log-likelihood per word with surprisal less that
without.

References: Smith & Levy 2013, Cognition 128:302-319; Wilcox et al. 2020, On the predictive power of neural
language models for human real-time comprehension behavior (CogSci); Futrell et al. 2021, The Natural Stories
corpus (Lang. Resour. Eval. 55:63-77).
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from brainalign_jax.files import user_path
from brainalign_jax.studies.abilities.scorer import Scorer
from brainalign_jax.studies.abilities.table import ALL, Ability
from brainalign_jax.studies.options import Abilities

TASK, SLOPE, CORRELATION = "reading_times", "reading_ms_per_bit", "surprisal_correlation_gpt3"
_MOST_BYTES = 1 << 27
_COLUMNS = ("word", "zone", "item", "meanItemRT")
_TIMES, _FREQUENCIES, _OTHERS = "processed_wordinfo.tsv", "freqs-1.tsv", "all_stories_gpt3.csv"
_FEWEST = 50  # words of a story
_LARGEST = 1_000_000_000  # number of a story or place
_ALIKE = 0.99  # characters of a story that another's copy of it must share


class ReadingTimes(NamedTuple):
    """Words in the order of their stories, [N]: story, number of the story; times, mean milliseconds;
    length, letters and signs; frequency, log(1 + count), NaN where it is not known. others: bits by another
    model that came with the data, or None."""

    words: tuple[str, ...]
    story: np.ndarray
    times: np.ndarray
    length: np.ndarray
    frequency: np.ndarray
    others: np.ndarray | None


def read_reading_times(path: str | Path) -> ReadingTimes:
    """Reading times by word: a table, or a folder of the Natural Stories corpus.

    The table (.tsv or .csv) has the columns word, item (the story), zone (place in it) and meanItemRT, and
    frequency, a count, where no freqs-1.tsv lies in the folder. Of the corpus also GPT-3's log-probabilities
    are taken, where they are there.

    Raises: FileNotFoundError, or ValueError naming the file and the column or story.
    """
    place = user_path(path, "reading", "a file or folder")
    file = _inside(place, _TIMES) if place.is_dir() else place
    if file is None or not file.is_file():
        raise FileNotFoundError(
            f"there is no {place / _TIMES if place.is_dir() else place}; give a table with the columns "
            f"{', '.join(_COLUMNS)}, or the folder of the Natural Stories corpus"
        )
    table = _table(file)
    missing = [name for name in _COLUMNS if name not in table]
    if missing:
        raise ValueError(
            f"{file} lacks the columns {', '.join(missing)}; it needs {', '.join(_COLUMNS)}"
        )
    for name in ("zone", "item", "meanItemRT"):
        table[name] = pd.to_numeric(table[name], errors="coerce")
        _refuse_lines(file, ~np.isfinite(table[name]), f"has no number in the column {name}")
    for name in ("zone", "item"):
        told = f"has no whole number of up to {_LARGEST:,} in the column {name}"
        _refuse_lines(file, (table[name] % 1 != 0) | (table[name].abs() > _LARGEST), told)
    _refuse_lines(file, table.duplicated(["item", "zone"]), "has the item and zone of one before")
    table = table.sort_values(["item", "zone"], ignore_index=True)
    words = tuple(str(word).strip() for word in table["word"])
    if "" in words or (table["meanItemRT"] <= 0).any():
        raise ValueError(f"{file} has an empty word, or a time that is not positive; correct it")
    sizes = table["item"].value_counts()
    if len(sizes) < 3 or sizes.min() < _FEWEST:
        raise ValueError(
            f"{file} has {len(sizes)} stories, the shortest of {sizes.min()} words; give three or more of "
            f"at least {_FEWEST}"
        )
    story = table["item"].to_numpy(int)
    folder = place if place.is_dir() else file.parent
    return ReadingTimes(
        words,
        story,
        table["meanItemRT"].to_numpy(float),
        np.array([len(word) for word in words], float),
        _log_frequency(table, _inside(folder, _FREQUENCIES), file),
        _others(words, story, _inside(folder, _OTHERS)),
    )


def _refuse_lines(file: Path, wrong: pd.Series, told: str) -> None:
    """Raises: ValueError with the first line that is wrong."""
    if wrong.any():
        raise ValueError(f"{file}: line {int(wrong.to_numpy().argmax()) + 2} {told}; correct it")


def _inside(folder: Path, name: str) -> Path | None:
    """The file of this name in a folder, or in a folder inside of it."""
    return next(iter(sorted([*folder.glob(name), *folder.glob(f"*/{name}")])), None)


def _table(file: Path, names: list[str] | None = None) -> pd.DataFrame:
    if file.stat().st_size > _MOST_BYTES:
        raise ValueError(
            f"{file} has {file.stat().st_size / 1e6:.0f} MB, more than the {_MOST_BYTES / 1e6:.0f} MB that "
            "are read; give a part of it"
        )
    tabs = file.suffix == ".tsv"
    try:
        return pd.read_csv(
            file,
            sep="\t" if tabs else ",",
            quoting=csv.QUOTE_NONE if tabs else csv.QUOTE_MINIMAL,
            dtype=str,
            keep_default_na=False,
            names=names,
            header=None if names else 0,
        )
    except (ValueError, pd.errors.ParserError) as error:
        raise ValueError(f"{file} is no table ({str(error).strip()[:100]}); correct it") from None


def _log_frequency(table: pd.DataFrame, counts_file: Path | None, file: Path) -> np.ndarray:
    if "frequency" in table:
        counts = pd.to_numeric(table["frequency"], errors="coerce").to_numpy(float)
    elif counts_file is None:
        raise ValueError(
            f"{file} has no column frequency, and no {_FREQUENCIES} lies beside it; add how often each word "
            "is used"
        )
    else:
        known = _table(counts_file, ["code", "order", "token", "count", "context"])
        by_code = pd.to_numeric(
            known.drop_duplicates("code").set_index("code")["count"], errors="coerce"
        )
        codes = [
            f"{item:.0f}.{zone:.0f}.word"
            for item, zone in zip(table["item"], table["zone"], strict=True)
        ]
        counts = by_code.reindex(codes).to_numpy(float)
    with np.errstate(invalid="ignore"):
        return np.where(counts >= 0, np.log1p(counts), np.nan)


def _others(words: tuple[str, ...], story: np.ndarray, file: Path | None) -> np.ndarray | None:
    """Bits of GPT-3 for each word, from its sub-tokens; NaN in stories whose texts are not the same."""
    if file is None:
        return None
    table = _table(file)
    if not {"token", "logprob", "story"} <= set(table):
        raise ValueError(
            f"{file} lacks one of the columns token, logprob, story; remove or correct it"
        )
    bits = -pd.to_numeric(table["logprob"], errors="coerce").to_numpy(float) / np.log(2)
    values = np.full(len(words), np.nan)
    for place, number in enumerate(np.unique(story)):
        rows = np.flatnonzero(story == number)
        own = table["story"] == str(place)
        tokens = ["".join(token.split()) for token in table.loc[own, "token"]]
        owner = np.repeat(rows, [len(words[row]) for row in rows])
        text, read = "".join(words[row] for row in rows), "".join(tokens)
        if (
            len(read) != len(text)
            or np.mean([a == b for a, b in zip(text, read, strict=True)]) < _ALIKE
        ):
            continue
        # A sub-token is of the word of its first sign; one of blanks alone, of the word behind it.
        first = np.minimum(np.cumsum([0, *map(len, tokens)])[:-1], len(owner) - 1)
        sums = np.bincount(owner[first], bits[own], minlength=len(words))
        values[rows] = sums[rows]
    return values


class Fit(NamedTuple):
    """gains: [M] of each word that is predicted, nats; story: [M] its story; slope: milliseconds a bit, of
    the word and those before it together."""

    gains: np.ndarray
    story: np.ndarray
    slope: float


def fit(times: ReadingTimes, bits: np.ndarray, spillover: int) -> Fit:
    """Held-out gain of surprisal (bits [N]), story by story.

    spillover: words before the one that is read whose length, frequency and surprisal predict its time, too.
    Words with a predictor that is not known are left out, as the first ones of a story.
    """
    plain = _with_earlier(np.stack([times.length, times.frequency], 1), times.story, spillover)
    surprisals = _with_earlier(bits[:, None], times.story, spillover)
    rows = np.flatnonzero(np.isfinite(plain).all(axis=1) & np.isfinite(surprisals).all(axis=1))
    ones = np.ones((len(rows), 1))
    base = np.hstack([ones, plain[rows]])
    whole = np.hstack([base, surprisals[rows]])
    gains = _held_out(whole, times.times[rows], times.story[rows])
    gains -= _held_out(base, times.times[rows], times.story[rows])
    slope = np.linalg.lstsq(whole, times.times[rows])[0][base.shape[1] :].sum()
    return Fit(gains, times.story[rows], float(slope))


def _with_earlier(values: np.ndarray, story: np.ndarray, spillover: int) -> np.ndarray:
    """Values [N, K] of each word and of the words before it in its story, [N, K (1 + spillover)]."""
    parts = [values]
    for lag in range(1, spillover + 1):
        earlier = np.full_like(values, np.nan)
        earlier[lag:] = np.where((story[lag:] == story[:-lag])[:, None], values[:-lag], np.nan)
        parts.append(earlier)
    return np.hstack(parts)


def _held_out(predictors: np.ndarray, times: np.ndarray, story: np.ndarray) -> np.ndarray:
    """Gaussian log-likelihood [M] of each word by the regression on the other stories."""
    values = np.empty(len(times))
    for number in np.unique(story):
        inside = story == number
        weights = np.linalg.lstsq(predictors[~inside], times[~inside])[0]
        variance = np.mean((times[~inside] - predictors[~inside] @ weights) ** 2)
        residuals = times[inside] - predictors[inside] @ weights
        values[inside] = -0.5 * (np.log(2 * np.pi * variance) + residuals**2 / variance)
    return values


def reading_abilities(scorer: Scorer, times: ReadingTimes, plan: Abilities) -> Iterator[Ability]:
    """The gain over all stories, with an interval over stories and words; of each story; milliseconds a bit;
    and the correlation with the other model's surprisal."""
    context = plan.context if scorer.causal else "sentences"
    bits = scorer.bits(times.words, times.story, context=context)
    yield from fit_abilities(times, bits, plan)
    if times.others is not None:
        known = np.isfinite(times.others) & np.isfinite(bits)
        if known.sum() > 3:
            r = float(np.corrcoef(times.others[known], bits[known])[0, 1])
            count = int(known.sum())
            reach = _normal_reach(plan.confidence) / np.sqrt(count - 3)
            low, high = np.tanh(np.arctanh(r) - reach), np.tanh(np.arctanh(r) + reach)
            error = float((1 - r**2) / np.sqrt(count - 2))
            yield Ability(CORRELATION, ALL, r, error, count, low, high, 0.0, direction=1)


def fit_abilities(times: ReadingTimes, bits: np.ndarray, plan: Abilities) -> Iterator[Ability]:
    """The rows of `reading_abilities` that surprisal (bits [N]) gives."""
    fitted = fit(times, bits, plan.spillover)
    stories = np.unique(fitted.story)
    if len(stories) < 3:
        raise ValueError(
            "fewer than three stories have words whose length, frequency and surprisal are all known; give "
            "other reading times, or another model"
        )
    parts = [fitted.gains[fitted.story == number] for number in stories]
    drawn = _drawn_means(parts, plan)
    tails = [50 * (1 - plan.confidence), 50 * (1 + plan.confidence)]
    low, high = np.percentile(drawn, tails)
    count = len(fitted.gains)
    mean, error = float(fitted.gains.mean()), float(drawn.std())
    yield Ability(TASK, ALL, mean, error, count, low, high, 0.0, direction=1)
    nan = np.nan
    # A slope has no better side; 1 says only that it is not turned.
    yield Ability(SLOPE, ALL, fitted.slope, nan, count, nan, nan, 0.0, direction=1)
    for number, part in zip(stories, parts, strict=True):
        error = float(part.std(ddof=1) / np.sqrt(len(part)))
        mean, reach = float(part.mean()), _normal_reach(plan.confidence) * error
        low, high, group = mean - reach, mean + reach, f"story {number}"
        task = f"{TASK}/{group}"
        yield Ability(task, group, mean, error, len(part), low, high, 0.0, direction=1)


def _normal_reach(confidence: float) -> float:
    """Standard errors to each side of a normal interval."""
    from scipy.special import ndtri

    return float(ndtri((1 + confidence) / 2))


def _drawn_means(parts: list[np.ndarray], plan: Abilities) -> np.ndarray:
    """Means [B] of gains in resampled stories, of which words are resampled, too."""
    rng = np.random.default_rng(plan.seed)
    means = np.stack(
        [
            rng.multinomial(len(part), np.full(len(part), 1 / len(part)), plan.n_bootstraps)
            @ part
            / len(part)
            for part in parts
        ],
        axis=1,
    )
    counts = rng.multinomial(len(parts), np.full(len(parts), 1 / len(parts)), plan.n_bootstraps)
    weights = counts * [len(part) for part in parts]
    return (weights * means).sum(axis=1) / weights.sum(axis=1)
