"""What needs all subjects at once: noise ceilings, RSA tests, decoding of the group as one."""

import contextlib
import dataclasses
from collections.abc import Callable, Sequence

import pandas as pd

from brainalign_jax.language import Embeddings
from brainalign_jax.neural.readers import Dataset
from brainalign_jax.study import processes, results, shares
from brainalign_jax.study.computation import Computation
from brainalign_jax.study.evidence import rsa
from brainalign_jax.study.evidence.ceilings import COLUMNS as CEILING_COLUMNS
from brainalign_jax.study.evidence.ceilings import score_ceilings
from brainalign_jax.study.options import EvidencePlan, Scoring
from brainalign_jax.study.progress import CEILINGS, TESTS, Progress
from brainalign_jax.study.results import POOLED
from brainalign_jax.study.score import sweep
from brainalign_jax.study.score.group import group_recording


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


_COLUMNS = {
    "ceilings": CEILING_COLUMNS,
    "rsa": rsa.COLUMNS,
    "group_decoding": results.COLUMNS,
}


def group_tables(
    dataset: Dataset,
    models: Sequence[str],
    vectors_of: Callable[[str], Embeddings],
    scoring: Scoring,
    computation: Computation,
    *,
    evidence: EvidencePlan | None,
    group_decoding: Sequence[str],
    k: int,
    progress: Progress,
) -> dict[str, pd.DataFrame]:
    """The tables "ceilings", "rsa" and "group_decoding", empty where not asked for.

    The first process computes them, all have them.
    """
    made: dict[str, pd.DataFrame] = {}
    with processes.together():
        if processes.index() == 0:
            common = dataset, models, vectors_of, scoring, computation
            if group_decoding:
                made["group_decoding"] = score_groups(*common, kinds=group_decoding)
            if evidence is not None and evidence.ceilings:
                several = len(dataset.subjects) > 1
                with progress.stage(CEILINGS) if several else contextlib.nullcontext():
                    made["ceilings"] = score_ceilings(
                        dataset, scoring, computation, k=k, progress=progress
                    )
            if evidence is not None and "rsa" in scoring.methods:
                with progress.stage(TESTS):
                    made["rsa"] = rsa.rsa_evidence(
                        *common, n_permutations=evidence.n_permutations, seed=evidence.seed
                    )
                    progress.update()
    return {
        name: shares.everything([made[name]] if name in made else [], columns)
        for name, columns in _COLUMNS.items()
    }
