"""What stands behind an RSA score: confounds held constant, permutation tests, noise ceiling.

RDMs are of the word types that every subject has responses to. The permutations are of words, not of
pairs, with whole blocks or shifts in time where words have onsets (`confounds.mantel_permutations`).
"""

from collections.abc import Callable, Sequence

import jax
import numpy as np
import pandas as pd

from brainalign_jax.align import noise_ceiling, partial_rsa, rsa
from brainalign_jax.language import Embeddings
from brainalign_jax.neural.readers import Dataset
from brainalign_jax.study import geometry, sources
from brainalign_jax.study.computation import Computation
from brainalign_jax.study.confounds import confound_rdms, mantel_permutations
from brainalign_jax.study.problem import Scoring

COLUMNS = (
    "dataset", "model", "layer", "n_items", "rsa", "p", "partial", "p_partial", "group_rdm", "p_group_rdm",
    "ceiling_lower", "ceiling_upper", "confounds", "n_permutations",
)  # fmt: skip
_BLOCK = 50  # permutations in one compiled call


def rsa_evidence(
    dataset: Dataset,
    names: Sequence[str],
    vectors_of: Callable[[str], Embeddings],
    scoring: Scoring,
    computation: Computation,
    *,
    n_permutations: int,
    seed: int = 0,
) -> pd.DataFrame:
    """One row a model and layer, with COLUMNS; none where the RDMs do not fit into computation.rdm_bytes.

    rsa: mean over subjects of the correlation of RDMs; partial: with the confounds held constant;
    group_rdm: correlation with the mean of the subjects' RDMs. p: one-sided, each corrected over the
    model's layers by the largest of every permutation; NaN without permutations. ceiling_lower and
    ceiling_upper: mean over subjects, as rsatoolbox bounds it.
    """
    protocol, empty = scoring.protocol, pd.DataFrame(columns=list(COLUMNS))
    vocabulary, token_to_type = dataset.stimulus.types(lower=scoring.lower)
    eligible = token_to_type >= 0
    loaded = [dataset.load(subject) for subject in dataset.subjects]
    for one in loaded:
        eligible &= one.valid
    types = np.unique(token_to_type[eligible])
    n_pairs = len(types) * (len(types) - 1) // 2
    if protocol.rdm_comparison not in partial_rsa.METHODS or len(types) < 8:
        return empty
    if 8 * n_pairs * (len(loaded) + 16) > computation.rdm_bytes:
        return empty
    method = protocol.rdm_comparison
    with computation.context():
        brain = np.stack([_rdm(_means(one, token_to_type, eligible), protocol) for one in loaded])
    del loaded
    found = confound_rdms(dataset.stimulus, eligible, lower=scoring.lower)
    confounds = found.rdms.reshape(-1, n_pairs).astype(brain.dtype)
    permutations = np.zeros((0, len(types)), np.int32)
    if n_permutations:
        permutations = mantel_permutations(
            dataset.stimulus,
            types,
            n_permutations,
            lower=scoring.lower,
            eligible=eligible,
            random_state=seed,
        )
    with computation.context():
        group = np.asarray(brain.mean(axis=0, keepdims=True), brain.dtype)
        bounds = [np.nan, np.nan]
        if len(brain) > 1:
            bounds = [float(x.mean()) for x in _ceiling(brain, method=method)]
        tables = []
        for name in names:
            model = vectors_of(name)
            for numbers, values in model.blocks():
                rdms = np.stack([_rdm(layer[types], protocol) for layer in values])
                columns = {}
                for column, of, held in (
                    ("rsa", brain, confounds[:0]),
                    ("partial", brain, confounds),
                    ("group_rdm", group, confounds[:0]),
                ):
                    columns[column], columns[f"p_{column}"] = _test(
                        of, rdms, held, permutations, method
                    )
                columns["p"] = columns.pop("p_rsa")
                if not len(confounds):
                    columns["partial"] = columns["p_partial"] = np.nan
                tables.append(
                    pd.DataFrame(columns).assign(
                        dataset=dataset.name,
                        model=name,
                        layer=np.asarray(numbers),
                        n_items=len(types),
                        ceiling_lower=bounds[0],
                        ceiling_upper=bounds[1],
                        confounds=", ".join(found.names),
                        n_permutations=len(permutations),
                    )
                )
    return pd.concat(tables, ignore_index=True)[list(COLUMNS)]


def _means(one, token_to_type, eligible) -> np.ndarray:
    return sources.type_means(np.asarray(one.values), token_to_type, eligible)[1]


def _rdm(rows: np.ndarray, protocol) -> np.ndarray:
    """Condensed dissimilarities of the words [T, V]."""
    rows = geometry.word_centred(rows) if protocol.center else rows
    return np.asarray(_compiled_rdm(rows, metric=protocol.rdm_metric))


def _test(brain, model, confounds, permutations, method) -> tuple[np.ndarray, np.ndarray]:
    """(group correlation [L], p [L] corrected over the layers) of RDMs brain [S, P] and model [L, P]."""
    problem = _problem(brain, model, confounds, method=method)
    identity = np.arange(_n_items(brain.shape[-1]), dtype=np.int32)[None]
    observed = np.asarray(_permuted(problem, identity))[0].mean(axis=0)
    if not len(permutations):
        return observed, np.full(observed.shape, np.nan)
    drawn = []
    for start in range(0, len(permutations), _BLOCK):
        some = permutations[start : start + _BLOCK]
        filled = np.resize(some, (min(_BLOCK, len(permutations)), some.shape[1]))
        drawn.append(np.asarray(_permuted(problem, filled))[: len(some)].mean(axis=1))
    null = np.concatenate(drawn).max(axis=1)
    return observed, (1 + (null[:, None] >= observed).sum(axis=0)) / (1 + len(null))


def _n_items(n_pairs: int) -> int:
    return int(round((1 + np.sqrt(1 + 8 * n_pairs)) / 2))


_compiled_rdm = jax.jit(rsa.rdm, static_argnames=("metric",))
_problem = jax.jit(partial_rsa.mantel_problem, static_argnames=("method",))
_ceiling = jax.jit(noise_ceiling.noise_ceiling, static_argnames=("method", "rank_mean"))


@jax.jit
def _permuted(problem: partial_rsa.MantelProblem, permutations: jax.Array) -> jax.Array:
    """[B, S, L] for permutations [B, T]."""
    return jax.lax.map(lambda one: partial_rsa.permuted_correlations(problem, one), permutations)
