"""Cells of a study, subject x method x model: which are known, which are to be worked, where each is kept."""

import dataclasses
import hashlib
import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from brainalign_jax import __version__
from brainalign_jax.files import remove_leftovers
from brainalign_jax.language import Embeddings
from brainalign_jax.neural.responses import WordResponses
from brainalign_jax.study.computation import Computation
from brainalign_jax.study.options import Scoring
from brainalign_jax.study.registry import identity_of
from brainalign_jax.study.results import read_cell, write_cell

Cell = tuple[int, str, int]  # subject, method, model


class Cells:
    """The cells of some subjects and models under one scoring, each of one or several tables.

    suffixes: of the files of a cell's tables; a cell is known where all of them are. what: what else decides
    the tables, by name, JSON-serialisable.
    tables: of the known cells, and of those that `keep` adds.
    """

    def __init__(
        self,
        folder: Path | None,
        dataset: str,
        responses: Sequence[WordResponses],
        models: Sequence[Embeddings],
        scoring: Scoring,
        computation: Computation,
        *,
        suffixes: Sequence[str] = (".cell",),
        **what,
    ):
        self._sizes = len(responses), scoring.methods, len(models)
        self._suffixes = suffixes
        self._paths = _paths(folder, dataset, responses, models, scoring, computation, what)
        self.tables: dict[Cell, tuple[pd.DataFrame, ...]] = {}
        for cell in self._places():
            tables = self._read(cell)
            if tables:
                self.tables[cell] = tables
        self.n_known = len(self.tables)

    def todo(self) -> dict[tuple[int, str], list[int]]:
        """(subject, method) -> models of the cells that are not there yet."""
        wanted: dict[tuple[int, str], list[int]] = {}
        for subject, method, model in self._places():
            if (subject, method, model) not in self.tables:
                wanted.setdefault((subject, method), []).append(model)
        return wanted

    def keep(self, cell: Cell, *tables: pd.DataFrame) -> None:
        """Take the tables of a cell, and write them where cells are kept."""
        self.tables[cell] = tables
        # The first file comes last: without it the others count for nothing.
        for path, table in reversed(list(zip(self._files(cell), tables, strict=False))):
            write_cell(table, path)

    def joined(self) -> list[pd.DataFrame]:
        """Each table over all cells, by model, subject and method."""
        n_subjects, methods, n_models = self._sizes
        order = itertools.product(range(n_models), range(n_subjects), methods)
        cells = [self.tables[subject, method, model] for model, subject, method in order]
        return [pd.concat(tables, ignore_index=True) for tables in zip(*cells, strict=True)]

    def _places(self) -> Iterator[Cell]:
        n_subjects, methods, n_models = self._sizes
        return itertools.product(range(n_subjects), methods, range(n_models))

    def _read(self, cell: Cell) -> tuple[pd.DataFrame, ...]:
        """The tables of a cell that is kept; none where one of them is not."""
        tables = []
        for path in self._files(cell):
            table = read_cell(path)
            if table is None:
                return ()
            tables.append(table)
        return tuple(tables)

    def _files(self, cell: Cell) -> list[Path]:
        base = self._paths.get(cell)
        return [] if base is None else [base.with_name(base.name + end) for end in self._suffixes]


def _paths(folder, dataset, responses, models, scoring, computation, what) -> dict[Cell, Path]:
    """Where each cell is kept, without a suffix: a fingerprint of all that decides its tables."""
    if folder is None:
        return {}
    remove_leftovers(Path(folder))
    vectors = [model.fingerprint() for model in models]
    # A choice that is added to Scoring decides, too.
    chosen = {
        field.name: getattr(scoring, field.name)
        for field in dataclasses.fields(scoring)
        if field.name not in ("methods", "protocol")
    }
    identities = {method: identity_of(method) for method in scoring.methods}
    paths = {}
    for subject, recording in enumerate(responses):
        fingerprint = recording.fingerprint()
        for method, model in itertools.product(scoring.methods, range(len(models))):
            decides = {
                "version": __version__,
                "dataset": dataset,
                "responses": fingerprint,
                "embeddings": vectors[model],
                "method": identities[method],
                "protocol": scoring.protocol.fields(),
                **chosen,
                "dtype": computation.dtype,
                "precision": computation.precision,
                **what,
            }
            digest = hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()
            paths[subject, method, model] = Path(folder) / digest
    return paths
