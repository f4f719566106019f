"""Pilots of plans that are made and not run."""

import numpy as np
import pandas as pd

from brainalign_jax.studies.ablation.table import COLUMNS, AblationTable
from brainalign_jax.studies.options import Planning
from brainalign_jax.study.results import GROUP, SELECTED


def ablation_of(changes, *, n_words=100, half=0.02, own=np.nan, **columns):
    """A table of one part, by people's changes; half, own: of the group's interval and of people's."""
    people = [*(f"S{i}" for i in range(len(changes))), GROUP]
    mean = float(np.mean(changes))
    rows = pd.DataFrame({"subject": people, "change": [*changes, mean]})
    about = dict(
        dataset="made", model="m", method="ridge", component="attention", block=1, head=-1, how="zero",
        readout="refit", layer=SELECTED, held_constant="", metric="rank_accuracy", k=0, value=0.6,
        bits_change=np.nan, p=np.nan, p_max=np.nan, p_fdr=np.nan, n_items=n_words,
    )  # fmt: skip
    halves = np.append(np.full(len(changes), own), half)
    about |= dict(lower=rows["change"] - halves, upper=rows["change"] + halves)
    rows = rows.assign(**about | columns)[list(COLUMNS)]
    facts = {"plan": {"readout": ["refit"], "n_flips": 999, "confidence": 0.95}}
    return AblationTable(rows, facts)


def ablation_plan(**changes):
    return Planning(
        **dict(test="ablation", people=(6, 12, 24), n_simulations=40, n_bootstraps=100) | changes
    )
