"""Writes docs/columns.md, the columns of every table that a study writes, from where they are defined.

python docs/make_columns.py
"""

import inspect
from importlib import import_module
from pathlib import Path

PAGE = Path(__file__).with_name("columns.md")
HEAD = """<!-- Written by `python docs/make_columns.py`: change the docstrings, not this page. -->

# Results: columns

What each table of a study holds, as the code that writes it says. All are Parquet files in the study's
folder; `pandas.read_parquet` reads them, or the table's `load`. Columns of one name mean the same in all:
[results of a study](align.md#results) says what they are.
"""
# (file, module, its columns, what describes them; heading)
TABLES = (
    ("A study", (
        ("results.parquet", "study.results", "COLUMNS", "ResultTable"),
        ("evidence.parquet", "study.evidence.table", "COLUMNS", "summarise"),
        ("similarity.parquet", "study.evidence.table", "COLUMNS", None),
        ("similarity_layers.parquet", "study.evidence.similarity", "LAYER_COLUMNS", "similarity_evidence"),
        ("rsa.parquet", "study.evidence.rsa", "COLUMNS", "rsa_evidence"),
        ("nulls.parquet", "study.evidence.nulls", "COLUMNS", "score_nulls"),
        ("ceilings.parquet", "study.evidence.ceilings", "COLUMNS", "score_ceilings"),
        ("intervals.parquet", "study.evidence.intervals", "COLUMNS", None),
        ("scaling.parquet", "study.evidence.scaling", "COLUMNS", None),
    )),
    ("Studies of studies", (
        ("generalisation.parquet", "studies.generalisation.table", "COLUMNS", "GeneralisationTable"),
        ("languages.parquet", "studies.languages.table", "COLUMNS", "LanguageTable"),
        ("figurative.parquet", "studies.figurative.table", "COLUMNS", "FigurativeTable"),
        ("ablation.parquet", "studies.ablation.table", "COLUMNS", "AblationTable"),
        ("shapley.parquet", "studies.ablation.shapley", "COLUMNS", None),
        ("gradient.parquet", "studies.ablation.gradient", "COLUMNS", None),
        ("abilities.parquet", "studies.abilities.table", "COLUMNS", "AbilitiesTable"),
        ("performance.parquet", "studies.performance.table", "COLUMNS", "PerformanceTable"),
        ("comparison.parquet", "studies.comparison.table", "COLUMNS", "ComparisonTable"),
        ("encoding.parquet", "studies.encoding.table", "COLUMNS", "EncodingTable"),
        ("spaces.parquet", "studies.encoding.table", "SPACES_COLUMNS", None),
        ("region_encoding.parquet", "studies.regions.table", "COLUMNS", "RegionTable"),
        ("timecourse.parquet", "studies.timecourse.table", "COLUMNS", "TimeCourseTable"),
        ("specifications.parquet", "studies.specifications.table", "COLUMNS", "SpecificationTable"),
        ("specification_draws.parquet", "studies.specifications.table", "DRAW_COLUMNS", None),
        ("plan.parquet", "studies.planning.table", "COLUMNS", "PlanTable"),
        ("claims.parquet", "studies.claims.table", "COLUMNS", "ClaimsTable"),
    )),
    ("Checks", (
        ("noise.parquet", "studies.checks.noise", "COLUMNS", "check_noise"),
        ("power.parquet", "studies.checks.power", "COLUMNS", "power"),
    )),
)  # fmt: skip


def page() -> str:
    """The whole page."""
    parts = [HEAD]
    for heading, tables in TABLES:
        parts.append(f"## {heading}\n")
        parts += [_section(*table) for table in tables]
    return "\n".join(parts)


def _section(file: str, module_name: str, columns: str, described_by: str | None) -> str:
    module = import_module(f"brainalign_jax.{module_name}")
    names = ", ".join(f"`{name}`" for name in getattr(module, columns))
    lines = [f"### {file}\n", f"{names}\n"]
    if described_by is not None:
        lines.append(f"{_prose(inspect.getdoc(getattr(module, described_by)) or '')}\n")
    return "\n".join(lines)


def _prose(text: str) -> str:
    """The paragraphs of a docstring that are about what the table holds: no arguments, no examples."""
    kept = []
    for paragraph in text.split("\n\n"):
        first = paragraph.lstrip()
        if first.startswith(">>>") or paragraph.rstrip().endswith(":") and ">>>" in text:
            break
        if not first.startswith(("Args:", "Raises:", "Returns:")):
            kept.append("\n".join(line.strip() for line in paragraph.splitlines()))
    return "\n\n".join(kept).replace("|", "\\|").replace("*", "\\*")


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
