"""Noise ceiling of decoding: what a subject's words score with the other subjects' responses as vectors.

The other subjects take the language model's place and go through the same folds, maps and candidates. What
they reach, a model of what people have in common could reach as well. Their responses are noisy, too: as
their "layers" serve the first 4, 8, 16, ... principal axes of all of them side by side, of which the
inner folds choose. It is still a lower bound of the ceiling, and it holds everything that the stimulus
drives, language or not. Reference: Nili et al. (2014), PLoS Comput. Biol. 10:e1003553, for RDMs.
"""

import dataclasses

import numpy as np
import pandas as pd

from brainalign_jax.language import Embeddings
from brainalign_jax.neural.readers import Dataset
from brainalign_jax.study.computation import Computation
from brainalign_jax.study.evidence.ceilings import OTHERS, scaled_kernel
from brainalign_jax.study.options import Scoring
from brainalign_jax.study.progress import Progress
from brainalign_jax.study.results import POOLED, SELECTED
from brainalign_jax.study.score import group_kernels, sweep

COLUMNS = ("subject", "method", "metric", "k", "value")


def score_ceilings(
    dataset: Dataset,
    scoring: Scoring,
    computation: Computation,
    *,
    k: int,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """P@k (CSLS) and rank accuracy of each subject and method by the other subjects, with COLUMNS.

    Subjects are read one after the other, twice. No rows where there is one subject only.
    """
    if len(dataset.subjects) < 2:
        return pd.DataFrame(columns=list(COLUMNS))
    protocol = dataclasses.replace(scoring.protocol, layer_selection="inner_folds", vector_axes=0)
    of_others = dataclasses.replace(scoring, protocol=protocol, ks=(k,), layers=None)
    kernels = {
        subject: scaled_kernel(dataset.load(subject), lower=scoring.lower)
        for subject in dataset.subjects
    }
    total, tables = sum(kernels.values()), []
    for subject in dataset.subjects:
        others = _layers(
            total - kernels[subject], f"{OTHERS}{subject}", dataset, lower=scoring.lower
        )
        rows = sweep.score_subjects(
            dataset.name, [dataset.load(subject)], others, of_others, computation=computation
        )
        wanted = rows["metric"].isin(["precision_csls", "rank_accuracy"])
        wanted &= (rows["fold"] == POOLED) & (rows["layer"] == SELECTED)
        tables.append(rows.loc[wanted, list(COLUMNS)])
        if progress is not None:
            progress.update()
    return pd.concat(tables, ignore_index=True)


def _layers(kernel: np.ndarray, name: str, dataset: Dataset, *, lower: bool) -> Embeddings:
    """Vectors [L, T, R] of the subjects side by side, from the sum of their kernels [T, T].

    Layer l keeps the first 4 * 2^l principal axes, the last one all.
    """
    values = group_kernels.spanned_rows(kernel)
    n_axes = values.shape[1]
    sizes = [*(4 * 2**i for i in range(20) if 4 * 2**i < n_axes), n_axes]
    layers = np.stack([values * (np.arange(n_axes) < size) for size in sizes])
    meta = {"family": "brain", "n_params": None, "n_layers": len(sizes) - 1}
    return Embeddings(name, dataset.stimulus.types(lower=lower)[0], layers, None, meta)
