"""All subjects decoded as one: a table of scores beside the subjects' own."""

import dataclasses
from collections.abc import Callable, Sequence

import pandas as pd

from brainalign_jax.language import Embeddings
from brainalign_jax.neural.readers import Dataset
from brainalign_jax.study.computation import Computation
from brainalign_jax.study.results import POOLED
from brainalign_jax.study.score import sweep
from brainalign_jax.study.score.group import group_recording
from brainalign_jax.study.score.problem import Scoring


def score_groups(
    dataset: Dataset,
    names: Sequence[str],
    vectors_of: Callable[[str], Embeddings],
    scoring: Scoring,
    computation: Computation,
    *,
    kinds: Sequence[str],
) -> pd.DataFrame:
    """Rows pooled over folds with the columns of a result table; `subject` is the kind of group.

    kinds: of `group.KINDS`. All subjects are held in memory. What the group's responses are made of is
    learnt from each fold's training rows; the protocol's own scaling, PCA and voxel selection are not
    applied, and correlations over voxels are taken over the group's axes.

    Raises: ValueError as `group.group_recording`.
    """
    protocol = dataclasses.replace(scoring.protocol, scaling="none", pca="none", n_voxels=0)
    scoring = dataclasses.replace(scoring, protocol=protocol)
    members = [dataset.load(subject) for subject in dataset.subjects]
    tables = []
    for kind in kinds:
        recording = group_recording(members, kind, lower=scoring.lower)
        for name in names:
            rows = sweep.score_subjects(
                dataset.name, [recording], vectors_of(name), scoring, computation=computation
            )
            tables.append(rows[(rows["fold"] == POOLED) & (rows["metric"] != "rsa")])
    return pd.concat(tables, ignore_index=True)
