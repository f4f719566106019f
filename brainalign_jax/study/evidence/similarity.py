"""What stands behind a measure of similarity: permutations of the words, ceiling, controls and intervals.

One row a model and measure, as `table.summarise` makes them of methods that decode. A measure compares all
words at once, so that there are no folds: it is taken over the word types that all subjects have responses
to, in every layer, and the layer that is best on these scores (by what exceeds each layer's own null, of
measures that have one) is compared with the best of every draw. Draws permute words, with whole blocks or
shifts in time where words have onsets (`confounds.mantel_permutations`).
The RSA score has a table of its own (`evidence.rsa`), and stands among other measures that are asked for.
"""

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from brainalign_jax.align.stats import bootstrap
from brainalign_jax.neural.responses import WordResponses
from brainalign_jax.study.computation import compiled
from brainalign_jax.study.context import Study
from brainalign_jax.study.evidence.ceilings import form_kernels, form_rows
from brainalign_jax.study.evidence.chance import adjusted_p, best_place, floors, permutation_p
from brainalign_jax.study.evidence.confounds import CommonWords, common_words
from brainalign_jax.study.evidence.rsa import LayerValues
from brainalign_jax.study.evidence.table import COLUMNS, calibrated, rivals, role, share_of_reach
from brainalign_jax.study.options import EvidencePlan
from brainalign_jax.study.results import about_model
from brainalign_jax.study.score import group_kernels, preparation
from brainalign_jax.study.score.measures import MatrixMeasure, Measure, measure_of
from brainalign_jax.study.score.measures.rsa import RdmMeasure, in_matrices, is_whitened
from brainalign_jax.study.score.workbench import layer_numbers

_BLOCK = 50  # permutations in one compiled call
_LAYERS = 8  # of a model, in one compiled call
_DRAWS = {"shifts": "shift"}  # as the draws of methods that decode are called
RSA = "rsa"
RSA_PIECE = 0.125  # of the work on another measure is that on the table of RSA
LAYER_COLUMNS = (
    "dataset", "model", "method", "role", "layer", "n_subjects", "n_items", "score", "chance", "null_mean",
    "p", "ceiling", "calibrated",
)  # fmt: skip


class _Values(NamedTuple):
    """As `LayerValues`; own_null: of the measure.

    best: the place of the layer whose mean over subjects is highest, or exceeds its own null most; highest:
    what the best of each permutation would be there [P].
    """

    layers: np.ndarray
    observed: np.ndarray
    drawn: np.ndarray
    own_null: bool

    @property
    def best(self) -> int:
        return self._best[0]

    @property
    def highest(self) -> np.ndarray:
        return self._best[1]

    @property
    def _best(self) -> tuple[int, np.ndarray]:
        return best_place(self.observed.mean(axis=0), self.drawn, own_null=self.own_null)


def pieces(measures: Sequence[str]) -> float:
    """Of the work on one model, as the progress counts it: one a measure, less for the table of RSA."""
    others = sum(name != RSA for name in measures)
    return others + (RSA in measures) * (RSA_PIECE + (others > 0))


def similarity_evidence(
    study: Study, rsa_values: Mapping[str, LayerValues] = MappingProxyType({})
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(a row a model and measure, with `table.COLUMNS`; a row for each of their layers, with LAYER_COLUMNS).

    rsa_values: of `rsa.rsa_evidence`, which are then not computed again.

    k is 0, `score` the measure's value, mean over subjects. A layer's null_mean is of its own draws, its p
    corrected over the layers (by what exceeds the layer's mean, of measures with a null of their own), and
    calibrated is (score - null mean) / (ceiling - null mean).

    None where RSA is the only measure, unless its RDMs are whitened, which have no other table, or what is
    compared of all subjects does not fit into computation.rdm_bytes. p: of the best layer against the best
    layer of every draw, of shifts in time no smaller than 1 / the number of independent ones; null_mean and
    null_high: of these, as they would be in the best layer. ceiling: the others' responses side by side in
    the model's place, mean over subjects; where dissimilarities are correlations, each person's responses to
    a word less their mean; NaN where they are of ranks, or the inner products of all words do not fit.
    Intervals are over subjects.
    """
    protocol, asked = study.scoring.protocol, study.scoring.measures
    measures = [measure_of(name, protocol) for name in asked if name != RSA]
    empty = pd.DataFrame(columns=list(COLUMNS)), pd.DataFrame(columns=list(LAYER_COLUMNS))
    if not measures and not (RSA in asked and is_whitened(protocol)):
        return empty
    if RSA in asked and in_matrices(protocol):
        measures.insert(asked.index(RSA), RdmMeasure(protocol.of_method(RSA)))
    loaded = [study.dataset.load(subject) for subject in study.dataset.subjects]
    words = {
        repeats: common_words(study, loaded, repeated=repeats)
        for repeats in {measure.repeats for measure in measures}
    }
    n_types = max(len(of.types) for of in words.values())
    # Twice, as draws are made of what is compared of all subjects and of some layers.
    itemsize, n_layers = np.dtype(study.computation.dtype).itemsize, max(_block_sizes(study))
    numbers = max(
        len(loaded) * measure.held_numbers(n_types, 1)
        + 2 * _LAYERS * measure.held_numbers(n_types, n_layers)
        for measure in measures
    )
    needed = 2 * itemsize * numbers
    names = ", ".join(measure.name for measure in measures)
    if needed > study.computation.rdm_bytes:
        study.leave_out(f"evidence on {names}", needed)
        return empty
    needed = 2 * itemsize * n_types**2 * (len(loaded) + 2 * _LAYERS)  # inner products of all words
    kernels: dict[str, list[np.ndarray]] = {}
    if len(loaded) > 1 and study.evidence.ceilings:
        if needed > study.computation.rdm_bytes:
            study.leave_out(f"ceiling of {names}", needed)
        else:
            forms = (measure.form for measure in measures)
            kernels = form_kernels(loaded, forms, lower=study.scoring.lower)
    tables = [
        _of_measure(
            study,
            measure,
            loaded,
            words[measure.repeats],
            kernels.get(measure.form, []),
            rsa_values if measure.name == RSA else {},
        )
        for measure in measures
    ]
    rows, layers = (pd.concat(parts, ignore_index=True) for parts in zip(*tables, strict=True))
    tested = rows["role"].eq("model") & rows["p"].notna()
    rows.loc[tested, "p_fdr"] = adjusted_p(rows.loc[tested, "p"].to_numpy(float))
    return rows, layers


def _block_sizes(study: Study) -> list[int]:
    """Layers of each block of each model that are scored."""
    return [
        len(numbers)
        for model in study.models
        for numbers in layer_numbers(study.vectors(model), study.scoring.layers)
    ]


def _of_measure(
    study: Study,
    measure: Measure,
    loaded: Sequence[WordResponses],
    words: CommonWords,
    kernels: Sequence[np.ndarray],
    known: Mapping[str, LayerValues],
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows of all models, and of all their layers, by one measure.

    kernels: of `form_kernels`, one a subject, or none. known: values by model that are computed already.
    """
    measure.check(len(words.types))
    sides: dict[int, tuple[np.ndarray, int]] = {}
    values: dict[str, _Values] = {}
    for model in study.models:
        drawn = measure.own_null or role(model) == "model"
        if model in known:
            of = known[model] if drawn else known[model]._replace(drawn=known[model].drawn[:0])
        else:
            tested = words if drawn else words._replace(permutations=words.permutations[:0])
            of = _of_model(study, model, measure, loaded, tested, sides)
        values[model] = _Values(*of, measure.own_null)
        study.progress.update()
    ceiling = np.nan
    if kernels:
        if 0 not in sides:
            sides[0] = _brains(study, measure, loaded, words, 0)
        ceiling = _ceiling(study, measure, sides[0][0], kernels, words)
    plan = study.evidence
    lines = [_line(study, model, measure, of, words, ceiling) for model, of in values.items()]
    rows = pd.DataFrame(lines).reindex(columns=list(COLUMNS))
    rows[["null_mean", "ceiling"]] = rows[["null_mean", "ceiling"]].astype(float)
    rows = rows.assign(**calibrated(rows))
    for kind in ("control", "static"):
        rows[kind] = pd.Series([None] * len(rows), dtype=object)
    for index, line in rows[rows["role"] == "model"].iterrows():
        for kind, others in rivals(rows, line).items():
            others = others[others["score"].notna()]
            if others.empty:
                continue
            above = others["score"] - (others["null_mean"].fillna(0.0) if measure.own_null else 0.0)
            other = others.loc[above.idxmax()]
            both = [
                values[of].observed[:, values[of].best] for of in (line["model"], other["model"])
            ]
            floor = line["null_mean"] - other["null_mean"] if measure.own_null else 0.0
            floor = 0.0 if np.isnan(floor) else floor
            lower, upper = _bounds(both[0] - both[1] - floor, plan)
            rows.loc[index, kind] = other["model"]
            rows.loc[index, f"{kind}_score"] = other["score"]
            rows.loc[index, f"{kind}_difference"] = line["score"] - other["score"] - floor
            rows.loc[index, f"{kind}_lower"], rows.loc[index, f"{kind}_upper"] = lower, upper
    by_layer = [_by_layer(line, values[line["model"]], words) for _, line in rows.iterrows()]
    return rows, pd.concat(by_layer, ignore_index=True)


def _by_layer(line: pd.Series, of: _Values, words: CommonWords) -> pd.DataFrame:
    """With LAYER_COLUMNS: every layer of the model of a line."""
    rows = pd.DataFrame({"layer": of.layers, "score": of.observed.mean(axis=0)})
    rows["null_mean"], rows["p"] = np.nan, np.nan
    if len(of.drawn):
        rows["null_mean"] = of.drawn.mean(axis=0)
    if len(of.drawn) and line["role"] == "model":
        floor = floors(rows["score"].to_numpy(), of.drawn, own_null=of.own_null)
        highest, shifts = (of.drawn - floor).max(axis=1), words.kind == "shifts"
        above = rows["score"].to_numpy() - floor
        rows["p"] = permutation_p(above, highest, shifts=shifts)
    same = ("dataset", "model", "method", "role", "n_subjects", "n_items", "chance", "ceiling")
    rows = rows.assign(**{column: line[column] for column in same})
    floor = rows["null_mean"].fillna(rows["chance"])
    rows["calibrated"] = share_of_reach(rows["score"], floor, rows["ceiling"])
    return rows[list(LAYER_COLUMNS)]


def _line(
    study: Study, model: str, measure: Measure, of: _Values, words: CommonWords, ceiling: float
):
    group = of.observed.mean(axis=0)
    lower, upper = _bounds(of.observed[:, of.best], study.evidence)
    about = about_model(study.vectors(model))
    line = {
        "dataset": study.dataset.name,
        "model": model,
        "family": about["family"],
        "n_params": about["n_params"],
        "method": measure.name,
        "protocol": study.scoring.protocol.name,
        "k": 0,
        "role": role(model),
        "layer": int(of.layers[of.best]),
        "selection": "best on these scores",
        "n_subjects": len(of.observed),
        "n_items": len(words.types),
        "score": group[of.best],
        "lower": lower,
        "upper": upper,
        "chance": measure.chance(len(words.types)),
        "ceiling": ceiling,
    }
    if len(of.drawn):
        line |= {
            "null": _DRAWS.get(words.kind, words.kind),
            "n_draws": len(of.drawn),
            "null_mean": of.highest.mean(),
            "null_high": np.quantile(of.highest, study.evidence.confidence),
        }
        if role(model) == "model":
            shifts = words.kind == "shifts"
            line["p"] = permutation_p(group[of.best], of.highest, shifts=shifts)
    return line


def _of_model(
    study, model: str, measure: Measure, loaded, words: CommonWords, sides: dict
) -> LayerValues:
    """sides: what is compared of the subjects and their fewest features, by width where it matters; kept."""
    protocol, vectors, parts = measure.protocol, study.vectors(model), []
    wanted = layer_numbers(vectors, study.scoring.layers)
    for chosen, (numbers, values) in zip(wanted, vectors.blocks(), strict=True):
        if not chosen:
            continue
        width = values.shape[-1] if protocol.pca != "none" else 0
        if width not in sides:
            sides[width] = _brains(study, measure, loaded, words, width)
        brains, n_features = sides[width]
        layers = values[[numbers.index(number) for number in chosen]]
        ready = preparation.prepare_vectors(
            layers, protocol, n_features=n_features, folds=False, dtype=study.computation.dtype
        )
        compared = ready[:, words.types]
        rows = (
            measure.centred(measure.layer_rows(compared, layer)) for layer in range(len(compared))
        )
        parts.append((np.array(chosen), *_drawn(study, measure, brains, rows, words)))
    layers, observed, drawn = zip(*parts, strict=True)
    return LayerValues(
        np.concatenate(layers), np.concatenate(observed, axis=1), np.concatenate(drawn, axis=1)
    )


def _brains(study, measure: Measure, loaded, words: CommonWords, width: int) -> tuple:
    """(what is compared of all subjects, with a leading axis [S]; the fewest features of a subject).

    width: of the vectors, to which the protocol may reduce responses; 0 for all features.
    """
    protocol, dtype, n_features, rows = measure.protocol, study.computation.dtype, [], []
    if not width:
        protocol = replace(protocol, pca="none")
    for responses in loaded:
        values = np.asarray(responses.values)
        if protocol.scaling != "none" or protocol.pca != "none":
            kept = responses.valid & (words.token_to_type >= 0)
            values = preparation.prepare_responses(values, kept, protocol, width=width, dtype=dtype)
        n_features.append(values.shape[1])
        of_words = words.token_to_type, words.eligible, responses.stimulus.run
        means = measure.rows(values, *of_words, n_features=values.shape[1])[1]
        rows.append(_spanned(measure, measure.centred(means)).astype(dtype))
    with study.computation.context():
        return _stacked(rows, measure), min(n_features)


def _spanned(measure: Measure, rows: np.ndarray) -> np.ndarray:
    """The rows, in the axes that they span where a measure moves rows and not their similarities."""
    if isinstance(measure, MatrixMeasure) or rows.shape[1] <= len(rows):
        return rows
    wide = rows.astype(np.float64)
    return group_kernels.spanned_rows(wide @ wide.T, dtype=rows.dtype)


def _stacked(rows: Sequence[np.ndarray], measure: Measure):
    """What is compared of each [T, R], narrower ones with zero columns added, with a leading axis."""
    widest = max(of.shape[1] for of in rows)
    alike = [of if isinstance(measure, MatrixMeasure) else _widened(of, widest) for of in rows]
    represented = [_represent(of, measure=measure) for of in alike]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *represented)


def _widened(rows: np.ndarray, width: int) -> np.ndarray:
    return np.pad(rows, ((0, 0), (0, width - rows.shape[1])))


def _drawn(
    study, measure: Measure, brains, rows: Iterator[np.ndarray], words: CommonWords
) -> tuple:
    """(values [S, L] of the layers, the group's [P, L] of the permutations)."""
    layers = list(rows)
    identity = np.arange(len(words.types), dtype=np.int32)[None]
    orders = np.concatenate([identity, words.permutations])
    size = min(_BLOCK, len(orders))
    observed, drawn = [], []
    with study.computation.context():
        for first in range(0, len(layers), _LAYERS):
            chunk = layers[first : first + _LAYERS]
            # The last ones are filled up, so that all share a program.
            models = _stacked(chunk + chunk[-1:] * (_LAYERS - len(chunk)), measure)
            values = []
            for start in range(0, len(orders), size):
                some = orders[start : start + size]
                filled = np.resize(some, (size, some.shape[1]))
                of_draws = _permuted(brains, models, filled, measure=measure)
                values.append(np.asarray(of_draws)[: len(some), :, : len(chunk)])
            every = np.concatenate(values)
            observed.append(every[0])
            drawn.append(every[1:].mean(axis=1))
    return np.concatenate(observed, axis=1), np.concatenate(drawn, axis=1)


def _ceiling(study: Study, measure: Measure, brains, kernels, words: CommonWords) -> float:
    """The measure with the other subjects' responses side by side, mean over subjects; NaN where it says
    nothing of them."""
    dtype, total, values = study.computation.dtype, sum(kernels), []
    for index, kernel in enumerate(kernels):
        others = (total - kernel)[np.ix_(words.types, words.types)]
        rows = measure.centred(form_rows(others, measure.form, dtype=dtype))
        if not measure.says_something(rows):
            return np.nan
        with study.computation.context():
            brain = jax.tree.map(lambda leaf, index=index: leaf[index], brains)
            values.append(
                float(_compare(brain, _represent(rows, measure=measure), measure=measure))
            )
    return float(np.mean(values))


def _bounds(values: np.ndarray, plan: EvidencePlan) -> tuple[float, float]:
    """Percentile interval of the mean of the subjects' values [S]; NaN for one subject."""
    if len(values) < 2:
        return np.nan, np.nan
    counts = bootstrap.draw_counts(len(values), plan.n_bootstraps, random_state=plan.seed)
    tail = (1 - plan.confidence) / 2
    lower, upper = np.quantile(counts @ values / len(values), [tail, 1 - tail])
    return float(lower), float(upper)


@functools.partial(compiled, static_argnames=("measure",))
def _permuted(brains, models, orders, *, measure: Measure):
    return measure.drawn(brains, models, orders)


@functools.partial(compiled, static_argnames=("measure",))
def _represent(rows, *, measure: Measure):
    return measure.represent(rows)


@functools.partial(compiled, static_argnames=("measure",))
def _compare(brain, model, *, measure: Measure):
    return measure.compare(brain, model)
