"""The tidy table of what models can do: a row a model and task, and how its numbers are made."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import ndtri

from brainalign_jax.studies.abilities.scorer import Scorer
from brainalign_jax.study import outputs

COLUMNS = (
    "model", "task", "item_group", "value", "stderr", "n_items", "n_params", "family", "step",
    "lower", "upper", "chance", "direction", "reads",
)  # fmt: skip
FILE = "abilities.parquet"
ALL = "all"


class Ability(NamedTuple):
    """One number of a model. task: unique for a model; item_group: "all", or the part of the items; chance:
    what no knowledge gives, NaN where there is no such value; direction: 1 where more is better, -1 where
    less is."""

    task: str
    item_group: str
    value: float
    stderr: float
    n_items: int
    lower: float
    upper: float
    chance: float
    direction: int


@dataclass(frozen=True)
class AbilitiesTable(outputs.StudyTable):
    """rows: a DataFrame with `COLUMNS`; manifest: how they came about.

    task: "bits_per_character/FILE" and "bits_per_word/FILE"; "minimal_pairs" by the sum of log-probabilities,
    "minimal_pairs_mean" by their mean, "minimal_pairs/GROUP"; "reading_times", the gain in held-out
    log-likelihood (nats a word), "reading_times/story N", "reading_ms_per_bit", "surprisal_correlation_gpt3";
    "FILE/acc", "FILE/acc_norm"; "FILE/last_word_acc" and "FILE/last_word_bits". step: of training, where the
    model's name says it. reads: "from left to right" or "in both directions".
    """

    file_name = FILE
    kind = "measurement of abilities"


def rows_of(scorer: Scorer, abilities: Iterable[Ability]) -> pd.DataFrame:
    """The rows of a model."""
    rows = pd.DataFrame([ability._asdict() for ability in abilities])
    rows = rows.assign(
        model=scorer.name,
        n_params=scorer.n_params,
        family=scorer.model.family,
        step=scorer.step,
        reads=scorer.reads,
    )
    return rows[list(COLUMNS)]


def accuracy(task: str, group: str, right: np.ndarray, chance: float, confidence: float) -> Ability:
    """The mean of scores between 0 and 1, with Wilson's interval.

    Reference: Wilson 1927, J. Am. Stat. Assoc. 22:209-212.
    """
    count, share = len(right), float(right.mean())
    z = float(ndtri((1 + confidence) / 2))
    middle = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    reach = z * np.sqrt(share * (1 - share) / count + z**2 / (4 * count**2)) / (1 + z**2 / count)
    error = float(right.std(ddof=1) / np.sqrt(count)) if count > 1 else np.nan
    low, high = middle - reach, middle + reach
    return Ability(task, group, share, error, count, low, high, chance, direction=1)


def ratio(task: str, group: str, sums: np.ndarray, sizes: np.ndarray, confidence: float) -> Ability:
    """Bits, summed over units (sentences), by the sum of the sizes; the error is over units, linearised."""
    count, total = len(sums), float(sizes.sum())
    value = float(sums.sum() / total)
    residuals = sums - value * sizes
    error = np.nan
    if count > 1:
        error = float(np.sqrt(count / (count - 1) * np.sum(residuals**2)) / total)
    reach = float(ndtri((1 + confidence) / 2)) * error
    low, high = value - reach, value + reach
    return Ability(task, group, value, error, int(total), low, high, np.nan, direction=-1)
