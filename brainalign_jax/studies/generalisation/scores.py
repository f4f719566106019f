"""Ranks of the tested words in every cell, of each person: the methods of a study on the rows of each cell.

All cells are of one size, so that a cell is a small problem of its own: its rows are gathered, rotated into
the axes that they span, and scored by one compiled program.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from brainalign_jax.align import linalg
from brainalign_jax.language import Embeddings
from brainalign_jax.neural.readers import Dataset
from brainalign_jax.neural.responses import WordResponses
from brainalign_jax.studies.generalisation.cells import Cells, Sizes
from brainalign_jax.studies.generalisation.conditions import Items
from brainalign_jax.studies.generalisation.table import Ranks
from brainalign_jax.study.computation import compiled
from brainalign_jax.study.context import Study
from brainalign_jax.study.options import CELL_KS, KS
from brainalign_jax.study.progress import SCORES, VECTORS, Progress, Stage
from brainalign_jax.study.protocol import Protocol, protocol
from brainalign_jax.study.results import SELECTED
from brainalign_jax.study.score import preparation
from brainalign_jax.study.score.decoding import LayerVectors
from brainalign_jax.study.score.folds import Folds, Split, split_arrays
from brainalign_jax.study.score.methods import FoldProblem, Method, method_of
from brainalign_jax.study.score.problem import check_columns
from brainalign_jax.study.score.workbench import layer_numbers

CEILING_WORDS = 4000  # at most, for their inner products to be held
_BLOCK = 64  # cells in one compiled call


class CellScores(NamedTuple):
    """ranks: [F, L, Q] of each cell, layer and tested word among the cell's Q candidates; loss: [F, L] of
    each layer in the inner folds of the training words."""

    ranks: np.ndarray
    loss: np.ndarray


def vectors_of(study: Study, n_methods: int, *, show: bool) -> tuple[Progress, list[Embeddings]]:
    """The vectors of all models, and the progress that they and the scores to come are told to."""
    n_models = len(study.models)
    told = Progress(
        {
            VECTORS: Stage(n_models, 0.0),  # no guess before the first scores
            SCORES: Stage(n_models * n_methods * len(study.dataset.subjects)),
        },
        show=show,
    )
    return told, study.all_vectors(told)


def cell_problem(sizes: Sizes, protocol: Protocol) -> FoldProblem:
    """What every cell asks of its own rows: the training words first, then those tested.

    Within the training words, which are in no order, penalty and layer are chosen in contiguous inner
    folds; there, too, only the words held out are candidates.
    """
    n, size = sizes.n_train, sizes.n_train + sizes.n_candidates
    rows = np.arange(size)

    def splits(train: list[np.ndarray], test: list[np.ndarray]) -> Split:
        masks = [np.stack([np.isin(rows, part) for part in parts]) for parts in (train, test)]
        return split_arrays(Folds(*masks), rows, queries="types", candidates=masks[1])

    outer = splits([rows[:n]], [rows[n:]])
    blocks = np.array_split(rows[:n], min(protocol.n_inner_folds, n // 2))
    inner = splits([np.setdiff1d(rows[:n], block) for block in blocks], blocks)
    return FoldProblem(Split(*(part[0] for part in outer)), inner, rows.astype(np.int32))


def item_rows(
    responses: WordResponses, items: Items, token_to_type: np.ndarray, form: str
) -> np.ndarray:
    """A person's mean response [I, R] to each item, as a method of that form takes them."""
    types, means = preparation.type_means(np.asarray(responses.values), token_to_type, items.rows)
    means = means[np.searchsorted(types, items.types)].astype(np.float64)
    scale = np.sqrt(np.square(means - means.mean(axis=0)).mean()) or 1.0
    means = (means - means.mean(axis=0)) / scale  # of no account, but for rounding
    if form == "values":
        return means.astype(np.float32)
    return preparation.lossless_reduction(means, center_rows=form == "centred")


def item_layers(
    embeddings: Embeddings, items: Items, layers: Sequence[int] | None, method: Method
) -> tuple[list[int], np.ndarray]:
    """(layer numbers, vectors [L, I, E] of the items), in the axes they span where the method allows it."""
    wanted = None if layers is None else tuple(layers)
    numbers, layer_rows = [], []
    blocks = zip(layer_numbers(embeddings, wanted), embeddings.blocks(), strict=True)
    for chosen, (known, values) in blocks:
        for layer in chosen:
            rows = np.asarray(values[known.index(layer)][items.types], np.float64)
            numbers.append(layer)
            layer_rows.append(_layer_rows(rows, method))
    return numbers, _stacked(layer_rows)


def others_layer(rows: Sequence[np.ndarray]) -> np.ndarray:
    """The responses of several people [I, R] as the vectors [I, E] of a layer: a ceiling for the model's."""
    gram = np.zeros((len(rows[0]), len(rows[0])))
    for responses in rows:
        products = np.asarray(responses, np.float64) @ np.asarray(responses, np.float64).T
        gram += products / np.trace(products)
    variances, axes = np.linalg.eigh(gram)
    return (axes * np.sqrt(np.maximum(variances, 0))).astype(np.float32)


def score_cells(
    source: np.ndarray,
    layers: np.ndarray,
    cells: Cells,
    sizes: Sizes,
    method: Method,
    *,
    centring: str = "fold",
    vectors_of: np.ndarray | None = None,
) -> CellScores:
    """Scores of all cells for one person's rows [I, R] and layers [L, I, E].

    vectors_of: [F, n_train + n_candidates] the items whose vectors stand for the words trained on, then for
    those tested, where these are others than the items whose responses they are.

    centring: "fold" moves the tested words' responses, and their vectors, to the training words' means: that
    one condition's mean lies elsewhere is then no loss of the map. "training" leaves them where they are.
    """
    problem = cell_problem(sizes, method.protocol)
    rows = np.concatenate([cells.train, cells.test], axis=1).astype(np.int32)
    vector_rows = rows if vectors_of is None else vectors_of.astype(np.int32)
    # All calls have one shape: the last block is filled up.
    n_cells, block = len(rows), min(_BLOCK, len(rows))
    starts = range(0, n_cells, block)
    filled, filled_vectors = (
        np.concatenate([part, np.repeat(part[-1:], -n_cells % block, axis=0)])
        for part in (rows, vector_rows)
    )
    blocks = [
        _scored(
            source,
            layers,
            filled[start : start + block],
            filled_vectors[start : start + block],
            problem,
            method=method,
            n_moved=sizes.n_candidates if centring == "fold" else 0,
        )
        for start in starts
    ]
    ranks, loss = (np.concatenate([np.asarray(part[i]) for part in blocks]) for i in (0, 1))
    return CellScores(ranks[:n_cells], loss[:n_cells])


def cell_protocol(**overrides) -> Protocol:
    """The audited protocol as cells take it: no candidate was trained on, so that none needs scaling.

    Models' vectors keep all their axes. overrides: fields of the protocol.
    """
    choices = {"candidate_scaling": "none", "vector_axes": 0, **overrides}
    return protocol("audited", timed=False, **choices)


def chosen_protocol(asked: Protocol | None) -> Protocol:
    """The protocol of the cells where none is given, else the one given, as cells can take it.

    Raises: ValueError for choices that they have no place for.
    """
    return (
        cell_protocol() if asked is None else asked.shared_by("a generalisation study, whose cells")
    )


def ks_within(ks: tuple[int, ...], n_candidates: int) -> tuple[int, ...]:
    """The k below the candidates of a fold. Raises: ValueError where others were asked for."""
    within = tuple(k for k in ks if k < n_candidates)
    if len(within) < len(ks) and ks not in (KS, CELL_KS):
        raise ValueError(
            f"ks={','.join(map(str, ks))} must be below the {n_candidates} candidates of a "
            "fold: leave larger ones out, or give fewer n_folds"
        )
    return within


def eligible_tokens(dataset: Dataset) -> np.ndarray:
    """The tokens [N] to which every subject has a response."""
    eligible = np.ones(len(dataset.stimulus), bool)
    for subject in dataset.subjects:
        eligible &= dataset.load(subject).valid
    return eligible


def rows_of_people(dataset: Dataset, items, methods, lower: bool, fingerprints: dict) -> dict:
    """form -> the rows [I, R] of every subject; fingerprints of the recordings on the side.

    Raises: ValueError as `check_columns`.
    """
    _, token_to_type = dataset.stimulus.types(lower=lower)
    rows_by_form: dict[str, list[np.ndarray]] = {method.form: [] for method in methods}
    for subject in dataset.subjects:
        responses = dataset.load(subject)
        fingerprints[subject] = responses.fingerprint()
        for method in methods:
            check_columns(responses, method.protocol)
        for form, rows in rows_by_form.items():
            rows.append(item_rows(responses, items, token_to_type, form))
    return rows_by_form


def ceiling_ranks(
    sources, cells_of: Sequence[Cells], sizes, method, centring: str
) -> np.ndarray | None:
    """Ranks [S, F, Q] of the tested words by the other people's responses; None for a single person."""
    if len(sources) < 2 or len(sources[0]) > CEILING_WORDS:
        return None
    ranks_of_subjects = []
    for subject, (source, cells) in enumerate(zip(sources, cells_of, strict=True)):
        others = [rows for index, rows in enumerate(sources) if index != subject]
        layer = others_layer(others)[None]
        ranks = score_cells(source, layer, cells, sizes, method, centring=centring).ranks
        ranks_of_subjects.append(ranks[:, 0])
    return np.stack(ranks_of_subjects)


def ranked(
    subjects,
    sources,
    layers,
    cells_of: Sequence[list[Cells]],
    sizes,
    method,
    centring: str,
    computation,
    told,
) -> Ranks:
    """Ranks of all subjects in the cells as they are and in those of each null draw."""
    numbers, values = layers
    n_draws, n_cells = len(cells_of[0]), len(cells_of[0][0].train)

    def of_subject(work):
        source, draws = work
        joined = Cells(*(np.concatenate(parts) for parts in zip(*draws, strict=True)))
        with computation.context():
            cell_scores = score_cells(source, values, joined, sizes, method, centring=centring)
        chosen = cell_scores.loss.argmin(axis=1)
        selected = cell_scores.ranks[np.arange(len(chosen)), chosen]
        return np.concatenate([selected[:, None], cell_scores.ranks], axis=1)

    every = []
    with ThreadPoolExecutor(computation.workers()) as pool:
        for ranks in pool.map(of_subject, zip(sources, cells_of, strict=True)):
            every.append(ranks)
            told.update()
    by_draw = np.stack(every).reshape(len(sources), n_draws, n_cells, *every[0].shape[1:])
    by_draw = by_draw.astype(np.float32).swapaxes(0, 1)  # words that tie share a rank of halves
    return Ranks(tuple(subjects), [SELECTED, *numbers], by_draw[0], None, by_draw[1:])


def decoding_method(name: str, protocol: Protocol, sizes: Sizes) -> Method:
    """The method of that name for cells of these sizes."""
    return method_of(name, protocol_of_cells(protocol, sizes))


def protocol_of_cells(protocol: Protocol, sizes: Sizes) -> Protocol:
    """The protocol with as many neighbours in CSLS as a cell has candidates, at most."""
    return replace(protocol, csls_k=min(protocol.csls_k, sizes.n_candidates))


def _layer_rows(rows: np.ndarray, method: Method) -> np.ndarray:
    if method.correlates_vectors:
        rows = rows - rows.mean(axis=1, keepdims=True)
    if not (method.correlates_vectors or method.spans_vectors) or rows.shape[1] <= len(rows):
        return rows.astype(np.float32)
    return np.asarray(np.linalg.qr(rows.T, mode="r")).T.astype(np.float32)


def _stacked(layers: Sequence[np.ndarray]) -> np.ndarray:
    """[L, I, E], the narrower ones with zeros behind them, which add nothing to inner products."""
    width = max(layer.shape[1] for layer in layers)
    return np.stack([np.pad(layer, ((0, 0), (0, width - layer.shape[1]))) for layer in layers])


def _spanned(rows: jax.Array) -> jax.Array:
    """Rows [M, E] in the axes that they span [M, min(M, E)]."""
    if rows.shape[1] <= rows.shape[0]:
        return rows
    return jnp.linalg.qr(rows.T, mode="r").T


def _moved(rows: jax.Array, n_moved: int) -> jax.Array:
    """Rows [M, E] whose last n_moved have the mean of those before them."""
    if not n_moved:
        return rows
    train, test = rows[:-n_moved], rows[-n_moved:]
    return jnp.concatenate([train, test - test.mean(axis=0) + train.mean(axis=0)])


def _scored_cells(source, layers, rows, vector_rows, problem, *, method: Method, n_moved: int):
    """(ranks [F, L, Q], loss [F, L]) of cells whose items are rows [F, M], the last n_moved of them moved.

    vector_rows: [F, M] of their vectors.
    """
    problem = jax.tree.map(jnp.asarray, problem)
    rotates = method.correlates_vectors or method.spans_vectors

    def one_cell(cell):
        items, vector_items = cell
        responses = _moved(source[items], n_moved)
        responses = responses if method.form == "values" else _spanned(responses)
        state = method.prepare(responses, problem)

        def one_layer(layer):
            values = _moved(layer[vector_items], n_moved)
            values = _spanned(values) if rotates else values
            products = linalg.gram(values - values.mean(axis=0)) if rotates else None
            vectors = LayerVectors(values, None, products)
            scores = method.evaluate(state, responses, vectors, problem)
            return scores["rank_nn"], scores["layer_loss"]

        return jax.lax.map(one_layer, layers)

    return jax.lax.map(one_cell, (rows, vector_rows))


_scored = compiled(_scored_cells, static_argnames=("method", "n_moved"))
