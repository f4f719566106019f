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
from brainalign_jax.study.chance import permutation_p
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
    found = confound_rdms(dataset.stimulus, eligible, lower=scoring.lower)
    confounds = found.rdms.reshape(-1, n_pairs).astype(computation.dtype)
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
    known: dict[int, tuple] = {}  # of the last width that subjects were reduced to
    with computation.context():
        tables = []
        for name in names:
            parts: dict[int, list] = {}
            for numbers, values in _wanted_layers(vectors_of(name), scoring):
                width = values.shape[-1] if protocol.pca != "none" else 0
                parts.setdefault(width, []).append((numbers, values))
            for width, blocks in parts.items():
                if width not in known:
                    dtype = computation.dtype
                    known = {width: _brain(loaded, token_to_type, eligible, protocol, width, dtype)}
                brain, group, bounds, n_features = known[width]
                # Layers of every width are one family of tests.
                layers = np.concatenate([numbers for numbers, _ in blocks])
                rdms = np.stack(
                    [
                        _rdm(layer[types], protocol)
                        for _, values in blocks
                        for layer in sources.prepare_vectors(
                            values, protocol, n_features=n_features, dtype=computation.dtype
                        )
                    ]
                )
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
                        layer=layers,
                        n_items=len(types),
                        ceiling_lower=bounds[0],
                        ceiling_upper=bounds[1],
                        confounds=", ".join(found.names),
                        n_permutations=len(permutations),
                    )
                )
    return pd.concat(tables, ignore_index=True)[list(COLUMNS)]


def _wanted_layers(model: Embeddings, scoring: Scoring):
    """(numbers, values [l, T, D]) of each block, of the layers that are scored."""
    for numbers, values in model.blocks():
        kept = [
            i
            for i, number in enumerate(numbers)
            if scoring.layers is None or number in scoring.layers
        ]
        if kept:
            yield np.asarray(numbers)[kept], values[kept]


def _brain(loaded, token_to_type, eligible, protocol, width: int, dtype: str) -> tuple:
    """(RDMs [S, P], their mean [1, P], the ceiling's bounds, fewest features of a subject).

    Responses are scaled and reduced as for the score itself, over all of a subject's words.
    """
    rdms, n_features = [], []
    for one in loaded:
        values = np.asarray(one.values)
        if protocol.scaling != "none" or protocol.pca != "none":
            own = one.valid & (token_to_type >= 0)
            values = sources.prepare_responses(values, own, protocol, width=width, dtype=dtype)
        n_features.append(values.shape[1])
        means = sources.type_means(values, token_to_type, eligible)[1]
        rdms.append(_rdm(means, protocol))
    brain = np.stack(rdms)
    bounds = [np.nan, np.nan]
    if len(brain) > 1:
        bounds = [float(x.mean()) for x in _ceiling(brain, method=protocol.rdm_comparison)]
    group = np.asarray(brain.mean(axis=0, keepdims=True), brain.dtype)
    return brain, group, bounds, min(n_features)


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
    return observed, permutation_p(observed, null)


def _n_items(n_pairs: int) -> int:
    return int(round((1 + np.sqrt(1 + 8 * n_pairs)) / 2))


_compiled_rdm = jax.jit(rsa.rdm, static_argnames=("metric",))
_problem = jax.jit(partial_rsa.mantel_problem, static_argnames=("method",))
_ceiling = jax.jit(noise_ceiling.noise_ceiling, static_argnames=("method", "rank_mean"))


@jax.jit
def _permuted(problem: partial_rsa.MantelProblem, permutations: jax.Array) -> jax.Array:
    """[B, S, L] for permutations [B, T]."""
    return jax.lax.map(lambda one: partial_rsa.permuted_correlations(problem, one), permutations)
