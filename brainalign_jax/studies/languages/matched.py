"""Whether a model of the people's own language is nearer to them, beside fertility and frequency."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from brainalign_jax.studies.languages.sections import Text
from brainalign_jax.studies.languages.table import Drawn
from brainalign_jax.study.results import GROUP, SELECTED
from brainalign_jax.study.words import language_frequencies, token_features

COVARIATES = ("fertility", "log_frequency")


def mean_log_frequency(text: Text) -> tuple[float, str]:
    """(mean log frequency of the words that take part, where it is from): the language, else the story."""
    stimulus = text.dataset.stimulus
    try:
        frequencies, source = language_frequencies(stimulus), "language"
    except (ImportError, ValueError):
        frequencies, source = None, "story"
    values = token_features(stimulus, frequencies=frequencies)["log_frequency"]
    return float(values[text.rows].mean()), source


def matched_effects(
    rows: pd.DataFrame,
    model_languages: Mapping[str, str],
    people: Mapping[str, Sequence[str]],
    frequency: Mapping[str, float],
    drawn: Drawn,
    confidence: float,
) -> list[dict]:
    """What a model of the people's language scores more than the others, for each method.

    Rank accuracy of models x languages within the language, at the chosen layer: least squares on whether the
    model is of the language, beside the covariates as far as the cells tell them apart. The interval is over
    people within languages. Nothing where no model is of a language and none of another.

    Args:
      rows: of the table. model_languages: model -> language. frequency: language -> mean log frequency.

    Returns: method, difference, lower, upper, covariates, n_cells, a dict each.
    """
    rows = rows[(rows["metric"] == "rank_accuracy") & (rows["layer"] == SELECTED)]
    rows = rows[
        (rows["trained_on"] == rows["tested_on"]) & rows["model"].isin(list(model_languages))
    ]
    effects = []
    for method, own in rows.groupby("method", sort=False):
        cells = own[own["subject"] == GROUP]
        match = (cells["model"].map(model_languages) == cells["tested_on"]).to_numpy(float)
        if len(np.unique(match)) < 2:
            continue
        known = {
            "fertility": cells["fertility"].to_numpy(float),
            "log_frequency": cells["tested_on"].map(frequency).to_numpy(float),
        }
        design, covariates = [np.ones_like(match), match], []
        for name in COVARIATES:
            column = known[name]
            more = [*design, (column - column.mean()) / (column.std() or 1.0)]
            enough = len(cells) > len(more) and np.isfinite(column).all()
            if enough and np.linalg.matrix_rank(np.stack(more, axis=1)) == len(more):
                design, covariates = more, [*covariates, name]
        weights = np.linalg.pinv(np.stack(design, axis=1))[1]
        difference = float(weights @ cells["value"].to_numpy())
        resampled = np.zeros(len(next(iter(drawn.counts.values()))))
        for weight, (_, cell) in zip(weights, cells.iterrows(), strict=True):
            language = cell["tested_on"]
            chosen = (own["model"] == cell["model"]) & (own["tested_on"] == language)
            values = own[chosen].set_index("subject")["value"].loc[list(people[language])]
            resampled += weight * drawn.means({language: values.to_numpy()})
        tails = (1 - confidence) / 2, (1 + confidence) / 2
        several = any(len(names) > 1 for names in people.values())
        bounds = np.quantile(resampled, tails) if several else (np.nan, np.nan)
        effects.append(
            {
                "method": method, "difference": difference, "lower": float(bounds[0]),
                "upper": float(bounds[1]), "covariates": covariates, "n_cells": len(cells),
            }
        )  # fmt: skip
    return effects
