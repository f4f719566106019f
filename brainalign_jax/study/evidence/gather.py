"""What needs all subjects at once: noise ceilings, RSA tests, decoding of the group as one."""

import contextlib
import dataclasses

import pandas as pd

from brainalign_jax.study import processes, results
from brainalign_jax.study.context import Study
from brainalign_jax.study.evidence import rsa, similarity, table
from brainalign_jax.study.evidence.ceilings import COLUMNS as CEILING_COLUMNS
from brainalign_jax.study.evidence.ceilings import score_ceilings
from brainalign_jax.study.progress import CEILINGS, TESTS
from brainalign_jax.study.results import POOLED
from brainalign_jax.study.score import sweep
from brainalign_jax.study.score.group import group_recording


def score_groups(study: Study) -> pd.DataFrame:
    """Rows of the study's kinds of groups, pooled over folds, as in a result table; `subject` is the kind.

    All subjects are held in memory. What the group's responses are made of is
    learnt from each fold's training rows; the protocol's own scaling, PCA and voxel selection are not
    applied, and correlations over voxels are taken over the group's axes.

    Raises: ValueError as `group.group_recording`.
    """
    dataset = study.dataset
    protocol = dataclasses.replace(study.scoring.protocol, scaling="none", pca="none", n_voxels=0)
    methods = study.scoring.decoders
    scoring = dataclasses.replace(study.scoring, protocol=protocol, methods=methods)
    members = [dataset.load(subject) for subject in dataset.subjects]
    tables = []
    for kind in study.group_decoding:
        recording = group_recording(members, kind, lower=scoring.lower)
        for name in study.models:
            rows = sweep.score_subjects(
                dataset.name,
                [recording],
                study.vectors(name),
                scoring,
                computation=study.computation,
            )
            decoded = ~rows["metric"].isin(scoring.measures)
            tables.append(rows[(rows["fold"] == POOLED) & decoded])
    return pd.concat(tables, ignore_index=True)


_COLUMNS = {
    "ceilings": CEILING_COLUMNS,
    "rsa": rsa.COLUMNS,
    "similarity": table.COLUMNS,
    "similarity_layers": similarity.LAYER_COLUMNS,
    "group_decoding": results.COLUMNS,
}


def group_tables(study: Study) -> dict[str, pd.DataFrame]:
    """Tables by name, "ceilings", "rsa", "similarity" and others, with _COLUMNS; empty where not asked for.

    The first process computes them, all have them.
    """
    evidence, progress = study.evidence, study.progress
    tables: dict[str, pd.DataFrame] = {}
    with processes.together():
        if processes.index() == 0:
            if study.group_decoding:
                tables["group_decoding"] = score_groups(study)
            if evidence is not None and evidence.ceilings and study.scoring.decoders:
                several = len(study.dataset.subjects) > 1
                with progress.stage(CEILINGS) if several else contextlib.nullcontext():
                    tables["ceilings"] = score_ceilings(study)
            if evidence is not None and study.scoring.measures:
                with progress.stage(TESTS):
                    rsa_values = {}
                    if similarity.RSA in study.scoring.measures:
                        tables["rsa"], rsa_values = rsa.rsa_evidence(study)
                        progress.update(similarity.RSA_PIECE * len(study.models))
                    measured = similarity.similarity_evidence(study, rsa_values)
                    tables["similarity"], tables["similarity_layers"] = measured
                    progress.complete(TESTS)
        else:
            for stage in (CEILINGS, TESTS):
                progress.complete(stage)
    return {
        name: processes.gathered([tables[name]] if name in tables else [], columns)
        for name, columns in _COLUMNS.items()
    }
