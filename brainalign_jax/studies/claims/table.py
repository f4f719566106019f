"""The table of claims: one row a claim, with what became of it and why."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from brainalign_jax.files import new_file
from brainalign_jax.studies.claims.outcomes import (
    DATA_ABSENT,
    EXPLAINED,
    MODEL_ABSENT,
    NOT_REPRODUCED,
    OUTCOMES,
    REFUSED,
    REPRODUCED,
    TRIED,
)
from brainalign_jax.study import outputs
from brainalign_jax.study.report.wording import counted, known, listed, number, recorded

COLUMNS = (
    "claim", "title", "citation", "statement", "dataset", "models", "differs", "study", "outcome", "why",
    "published", "tolerance", "direction", "than", "value", "lower", "upper", "n_rows", "audited", "checks",
    "note", "seconds", "sha256", "folder",
)  # fmt: skip
FILE = "claims.parquet"
PAGE = "claims.md"
_HEADER = ("claim", "published", "here", "outcome", "why")
_SAID = {
    REPRODUCED: ("is reproduced", "are reproduced"),
    EXPLAINED: ("is explained by a control", "are explained by a control"),
    NOT_REPRODUCED: ("is not reproduced", "are not reproduced"),
    DATA_ABSENT: ("lacks its data", "lack their data"),
    MODEL_ABSENT: ("lacks a model", "lack models"),
    REFUSED: ("was refused by its study", "were refused by their studies"),
}


@dataclass(frozen=True)
class ClaimsTable(outputs.StudyTable):
    """rows: a DataFrame with `COLUMNS`, a row a claim; manifest: how they came about.

    outcome: of `outcomes.OUTCOMES`; why: in a line, with the remedy where something is absent. published,
    tolerance, direction, than: of the claim file. value: here, by the published protocol, of n_rows rows,
    with a 95 % interval where there is one; audited: the same number by the audited protocol, where it is
    asked for. checks: each audited check with its value. seconds: processor time, of the first claim that
    asks a study. folder: of the studies, below the output folder.
    """

    file_name = FILE
    kind = "claims"

    def write(self, folder: Path) -> None:
        """Write the files of `save` to a folder of `new_outputs`, and the table as Markdown."""
        super().write(folder)
        with new_file(folder / PAGE) as file:
            file.write(self.markdown().encode())

    def verdict(self) -> str:
        """How many claims came out how, in a sentence."""
        return counts_in_words(self)

    def markdown(self) -> str:
        """The table for a page of documentation."""
        lines = [f"| {' | '.join(_HEADER)} |", "|---" * len(_HEADER) + "|"]
        lines += ["| " + " | ".join(map(_cell, cells)) + " |" for cells in told_rows(self)]
        return f"{counts_in_words(self)}\n\n" + "\n".join(lines) + "\n"


def counts_in_words(table: ClaimsTable) -> str:
    """How many claims came out how, in a sentence."""
    counts = Counter(table.rows["outcome"])
    said = [
        f"{counts[outcome]} {_SAID[outcome][counts[outcome] != 1]}"
        for outcome in OUTCOMES
        if counts[outcome]
    ]
    tried = sum(counts[outcome] for outcome in TRIED)
    return f"Of {counted(len(table.rows), 'claim')} {tried} could be tried: {listed(said)}."


def told_rows(table: ClaimsTable) -> list[list[str]]:
    """Cells of each claim: title, what is published, what is here, outcome, why."""
    return [
        [
            f"{row.title} ({row.citation})"
            + f". Other than the paper: {row.differs}" * bool(row.differs),
            published_text(row),
            value_text(row),
            row.outcome,
            row.why,
        ]
        for row in table.rows.itertuples()
    ]


def published_text(row) -> str:
    """What is published, of a row, as "0.25 ± 0.05" or "above 0"."""
    if known(row.tolerance):
        return f"{recorded(row.published)} ± {recorded(row.tolerance)}"
    value = f"{recorded(row.published)}: " if known(row.published) else ""
    return f"{value}{row.direction} {recorded(row.than)}"


def value_text(row) -> str:
    """What is here, of a row, with its interval and the audited number where there are any."""
    text = number(row.value)
    if known(row.lower) and known(row.upper):
        text += f" ({number(row.lower)} to {number(row.upper)})"
    return text + f"; audited {number(row.audited)}" * bool(known(row.audited))


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def rows_of(lines: list[dict]) -> pd.DataFrame:
    """Lines of claims as the table's rows, with its columns and types."""
    rows = pd.DataFrame(lines, columns=list(COLUMNS))
    for name in ("published", "tolerance", "than", "value", "lower", "upper", "audited", "seconds"):
        rows[name] = rows[name].astype(float)
    return rows.assign(n_rows=rows["n_rows"].astype(int))
