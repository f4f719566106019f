"""Does the gap grow with model size? Its slope per tenfold parameters, by each person, where sizes differ."""

from __future__ import annotations

import numpy as np
import pandas as pd

from brainalign_jax.language import Embeddings
from brainalign_jax.studies.generalisation.table import ALL, GAP
from brainalign_jax.study.evidence import scaling
from brainalign_jax.study.names import UNTRAINED
from brainalign_jax.study.options import EvidencePlan, Generalisation
from brainalign_jax.study.results import GROUP, SELECTED


def gap_slopes(
    rows: pd.DataFrame, models: list[Embeddings], plan: Generalisation, seed: int
) -> list[dict]:
    """Slopes of the gap of all conditions (rank accuracy, chosen layer) on log10 parameters, by method.

    scope: across all models, within their families, or of one family, as in the evidence of a study. p: sign
    flips of the people's slopes. Models without a size, and untrained ones, have no part. Empty where there
    are no two sizes.
    """
    sized = pd.DataFrame(
        {
            "model": model.model,
            "family": model.meta.get("family"),
            "n_params": model.meta.get("n_params"),
        }
        for model in models
        if model.meta.get("n_params") and not model.model.startswith(UNTRAINED)
    )
    if len(sized) < 2:
        return []
    evidence = EvidencePlan(n_bootstraps=plan.n_bootstraps, confidence=plan.confidence, seed=seed)
    gaps = rows[
        (rows["metric"] == f"{GAP}rank_accuracy")
        & (rows["layer"] == SELECTED)
        & (rows["tested_on"] == ALL)
        & (rows["subject"] != GROUP)
    ]
    slopes = []
    for method, part in gaps.groupby("method", sort=False):
        values = part.pivot(index="subject", columns="model", values="value")
        scores = values[sized["model"]].to_numpy(float)
        for scope, chosen, families in scaling.scopes(sized):
            line = scaling.slope_of(
                scores[:, chosen], sized[chosen], np.asarray(families), evidence
            )
            if line is not None:
                slopes.append({"method": method, "scope": scope, **line})
    return slopes
