"""What the studies of this folder take of the people: rows of responses, and ranks in cells of their own."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from brainalign_jax.neural.readers import Dataset
from brainalign_jax.studies.generalisation import scores
from brainalign_jax.studies.generalisation.cells import Cells
from brainalign_jax.studies.generalisation.table import Ranks
from brainalign_jax.study.results import SELECTED

CEILING_WORDS = 4000  # at most, for their inner products to be held


def eligible_tokens(dataset: Dataset) -> np.ndarray:
    """The tokens [N] to which every subject has a response."""
    eligible = np.ones(len(dataset.stimulus), bool)
    for subject in dataset.subjects:
        eligible &= dataset.load(subject).valid
    return eligible


def rows_of_people(dataset: Dataset, items, methods, lower: bool, fingerprints: dict) -> dict:
    """form -> the rows [I, R] of every subject; fingerprints of the recordings on the side."""
    _, token_to_type = dataset.stimulus.types(lower=lower)
    rows_by_form: dict[str, list[np.ndarray]] = {method.form: [] for method in methods}
    for subject in dataset.subjects:
        responses = dataset.load(subject)
        fingerprints[subject] = responses.fingerprint()
        for form, rows in rows_by_form.items():
            rows.append(scores.item_rows(responses, items, token_to_type, form))
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
        layer = scores.others_layer(others)[None]
        ranks = scores.score_cells(source, layer, cells, sizes, method, centring=centring).ranks
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
            cell_scores = scores.score_cells(
                source, values, joined, sizes, method, centring=centring
            )
        chosen = cell_scores.loss.argmin(axis=1)
        selected = cell_scores.ranks[np.arange(len(chosen)), chosen]
        return np.concatenate([selected[:, None], cell_scores.ranks], axis=1)

    every = []
    with ThreadPoolExecutor(computation.workers()) as pool:
        for ranks in pool.map(of_subject, zip(sources, cells_of, strict=True)):
            every.append(ranks)
            told.update()
    by_draw = np.stack(every).reshape(len(sources), n_draws, n_cells, *every[0].shape[1:])
    by_draw = by_draw.astype(np.int16).swapaxes(0, 1)
    return Ranks(tuple(subjects), [SELECTED, *numbers], by_draw[0], None, by_draw[1:])
