"""Papers as executable statements: run each claim by its own protocol, then ask the audited evidence.

A claim file names data, models, a study, one number of it and what is published. What a claim comes to is
decided by `outcomes.outcome_of` alone.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from brainalign_jax.files import output_folder
from brainalign_jax.language import Embeddings
from brainalign_jax.neural.readers import Dataset
from brainalign_jax.studies.claims import report
from brainalign_jax.studies.claims.asked_studies import STUDIES, Tables
from brainalign_jax.studies.claims.claim_files import Asked, Claim, read_claims
from brainalign_jax.studies.claims.outcomes import (
    DATA_ABSENT,
    MODEL_ABSENT,
    NOT_REPRODUCED,
    REFUSED,
    REPRODUCED,
    Checked,
    Expected,
    outcome_of,
)
from brainalign_jax.studies.claims.sources import DataAbsent, ModelAbsent, Sources
from brainalign_jax.studies.claims.table import ClaimsTable, rows_of
from brainalign_jax.study.manifest import made_by
from brainalign_jax.study.names import UNTRAINED, without_seed
from brainalign_jax.study.report.wording import listed, number, recorded


def run_claims(
    claims: Sequence[Claim] | None = None,
    output_dir: str | Path | None = None,
    *,
    data_dir: str | Path | None = None,
    datasets: Mapping[str, str | Path | Dataset] = {},
    models_dir: str | Path | None = None,
    models: Mapping[str, str | Path | Embeddings] = {},
    command: str = "",
    progress: bool = True,
) -> ClaimsTable:
    """Try claims; write claims.parquet, claims.md, a figure, manifest.json and report.html.

    Args:
      claims: of `read_claims`; those of the package if not given. output_dir: None writes nothing; each
        study is kept in OUT/studies, and its finished work is not done again.
      data_dir: the folder in which releases' folders are, as of `fetch`. datasets: name -> the folder of a
        data set, or the data set. models_dir: a folder of models' folders by the last part of their names.
        models: name -> the folder of a model, or its vectors. Models are also taken from the Hugging Face
        cache; nothing is downloaded.
      command: recorded in the manifest. progress: print each claim's outcome.

    A claim whose data or models are not here, and one that its study refuses, leave the others as they are.
    Claims that ask the same study share it.

    Raises: ValueError where no claim is given; OSError for a folder that cannot be written to.
    """
    claims = read_claims() if claims is None else list(claims)
    if not claims:
        raise ValueError("no claim is given: name one or more")
    output = None if output_dir is None else output_folder(output_dir, "output_dir")
    trying = _Trying(Sources(data_dir, datasets, models_dir, models), output)
    lines = []
    for claim in claims:
        began = time.process_time()
        line = trying.line(claim) | {"seconds": time.process_time() - began}
        lines.append(line)
        if progress:
            print(f"{claim.name}: {line['outcome']}: {line['why']}", flush=True)
    table = ClaimsTable(
        rows_of(lines),
        {**made_by(command), "claims": {claim.name: str(claim.path) for claim in claims}},
    )
    return table.finished(output, report.write_report)


class _Trying:
    """Claims being tried one after the other, with the studies that they share."""

    def __init__(self, sources: Sources, output: Path | None):
        self.sources, self.output = sources, output
        self.done: dict[str, Tables] = {}

    def line(self, claim: Claim) -> dict[str, Any]:
        """The row of a claim."""
        missing = float("nan")
        line = {
            "claim": claim.name,
            "title": claim.title,
            "citation": claim.cited(),
            "statement": claim.statement,
            "dataset": claim.dataset,
            "models": ", ".join(claim.models),
            "differs": claim.differs,
            "study": claim.published.study,
            "published": missing if claim.expected.value is None else claim.expected.value,
            "tolerance": missing if claim.expected.tolerance is None else claim.expected.tolerance,
            "direction": claim.expected.direction or "",
            "than": missing if claim.expected.than is None else claim.expected.than,
            "value": missing,
            "lower": missing,
            "upper": missing,
            "n_rows": 0,
            "audited": missing,
            "checks": "",
            "note": claim.note,
            "sha256": claim.sha256,
            "folder": "",
        }
        try:
            return line | self._tried(claim)
        except DataAbsent as error:
            return line | {"outcome": DATA_ABSENT, "why": _in_a_line(error)}
        except ModelAbsent as error:
            return line | {"outcome": MODEL_ABSENT, "why": _in_a_line(error)}
        except (ValueError, OSError, ImportError) as error:
            return line | {"outcome": REFUSED, "why": _in_a_line(error)}

    def _tried(self, claim: Claim) -> dict[str, Any]:
        dataset = self.sources.dataset(claim)
        located = self.sources.models(claim)
        tables, folder = self._tables(claim, claim.published, dataset, located)
        published = claim.quantity.of(tables)
        checks, folders, audited = [], [folder], float("nan")
        if claim.audited is not None and claim.expected.holds(published.value):
            evidence, folder = self._tables(claim, claim.audited, dataset, located)
            folders.append(folder)
            for check in claim.checks:
                value = check.quantity.of(evidence).value
                checks.append(Checked(check.name, value, check.expected))
            if claim.audited_quantity is not None:
                audited = claim.audited_quantity.of(evidence).value
        outcome = outcome_of(claim.expected, published, checks)
        return {
            **published._asdict(),
            "audited": audited,
            "checks": "; ".join(map(_check_text, checks)),
            "outcome": outcome,
            "why": _why(claim, outcome, checks),
            "folder": ", ".join(dict.fromkeys(filter(None, folders))),
        }

    def _tables(
        self, claim: Claim, asked: Asked, dataset: Dataset, located: Mapping[str, str | Embeddings]
    ) -> tuple[Tables, str]:
        """(the tables of a study, its folder below the output folder)."""
        of_data = claim.dataset, claim.subjects, sorted(claim.reader_options.items())
        key = repr((asked.key(), of_data, claim.models))
        name = f"studies/{hashlib.sha256(key.encode()).hexdigest()[:12]}"
        if key not in self.done:
            folder = None if self.output is None else self.output / name
            tables = STUDIES[asked.study].run(
                dataset, list(located.values()), asked.options, folder, False
            )
            self.done[key] = {name: with_names(rows, located) for name, rows in tables.items()}
        return self.done[key], "" if self.output is None else name


def with_names(rows: pd.DataFrame, located: Mapping[str, str | Embeddings]) -> pd.DataFrame:
    """The rows with the names that the claim has for models, in place of their folders or vectors."""
    places = {
        place.model if isinstance(place, Embeddings) else str(place): name
        for name, place in located.items()
    }
    renamed = {
        column: rows[column].map(lambda name: _of_claim(name, places))
        for column in ("model", "control", "static")
        if column in rows
    }
    return rows.assign(**renamed)


def _of_claim(name: object, places: Mapping[str, str]) -> object:
    """A model's name, or that of its untrained twin, as the claim has it; others as they are."""
    if not isinstance(name, str) or name in places:
        return places.get(name, name)
    trained = without_seed(name)
    twin_of = trained.removeprefix(UNTRAINED)
    if twin_of == trained or twin_of not in places:
        return name
    return f"{UNTRAINED}{places[twin_of]}{name[len(trained) :]}"


def _why(claim: Claim, outcome: str, checks: Sequence[Checked]) -> str:
    if outcome == NOT_REPRODUCED:
        return "the published protocol gives another value here"
    if outcome == REPRODUCED:
        if not checks:
            return f"no control is asked for: {claim.not_needed}"
        return f"as the audited evidence must be: {listed(map(_check_text, checks))}"
    failed = [_check_text(check) for check in checks if not check.holds]
    return f"by its own protocol, but the audited evidence is not as it must be: {listed(failed)}"


def _check_text(check: Checked) -> str:
    return f"{check.name} {number(check.value)} (to be {expected_text(check.expected)})"


def expected_text(expected: Expected) -> str:
    """What a value is to be, in words."""
    if expected.tolerance is not None:
        return f"{recorded(expected.value)} ± {recorded(expected.tolerance)}"
    return f"{expected.direction} {recorded(expected.than)}"


def _in_a_line(error: BaseException) -> str:
    return " ".join(str(error).split())
