"""What needs all subjects at once: noise ceilings, RSA tests, decoding of the group."""

import contextlib
from collections.abc import Callable, Sequence

import pandas as pd

from brainalign_jax.language import Embeddings
from brainalign_jax.neural.readers import Dataset
from brainalign_jax.study import processes, results, shares
from brainalign_jax.study.computation import Computation
from brainalign_jax.study.evidence import ceiling_scores, group_scores, rsa
from brainalign_jax.study.options import EvidencePlan, Scoring
from brainalign_jax.study.progress import CEILINGS, TESTS, Progress

_COLUMNS = {
    "ceilings": ceiling_scores.COLUMNS,
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
                made["group_decoding"] = group_scores.score_groups(*common, kinds=group_decoding)
            if evidence is not None and evidence.ceilings:
                several = len(dataset.subjects) > 1
                with progress.stage(CEILINGS) if several else contextlib.nullcontext():
                    made["ceilings"] = ceiling_scores.score_ceilings(
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
