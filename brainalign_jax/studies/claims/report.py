"""The report of claims: the counts in words first, then published beside here, then each claim."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from brainalign_jax.studies.claims import outcomes
from brainalign_jax.studies.claims.table import ClaimsTable, counts_in_words, told_rows
from brainalign_jax.study.report import figure_parts, page
from brainalign_jax.study.report.wording import counted, known

_MOST_LINES = 30  # of the figure
_LEVELS = {
    outcomes.REPRODUCED: "real",
    outcomes.EXPLAINED: "explained",
    outcomes.NOT_REPRODUCED: "chance",
}
_HOW = (
    "Reproduced: by the paper's own protocol the number is within the published tolerance, or beyond the "
    "number that it is to exceed, and every audited check holds. Explained by a control: the same, but a "
    "check of the audited evidence (its null, untrained twin, nuisances) does not hold. Not reproduced: the "
    "paper's protocol gives another number here. Lines: 95 % intervals, where there are any; they decide "
    "nothing."
)


def write_report(table: ClaimsTable, folder: str | Path) -> Path:
    """Write `folder`/figures and `folder`/report.html, one file without scripts or external resources."""
    figures = page.Figures(folder)
    if table.rows["outcome"].isin(outcomes.TRIED).any():
        caption = (
            "Published (diamond, with its tolerance, or the side that it is to be on) and here (circle, 95 % "
            "interval), each claim on a scale of its own."
        )
        figures.add("claims", "claims", draw_claims(table), caption)
    return page.write(
        folder,
        "claims",
        title="Claims of papers, tried",
        lead=counted(len(table.rows), "claim") + ".",
        answer=page.opening(answer_of(table), counts_in_words(table)),
        how=_HOW,
        figures=figures,
        claims=page.Table(("claim", "published", "here", "outcome", "why"), told_rows(table)),
        statements=page.Table(
            ("claim", "statement", "note", "processor seconds"),
            [
                [row.claim, row.statement, row.note, f"{row.seconds:.1f}"]
                for row in table.rows.itertuples()
            ],
        ),
        facts=page.facts(
            (name, table.manifest[name]) for name in ("command", "created", "versions", "claims")
        ),
    )


def answer_of(table: ClaimsTable) -> tuple[str, str]:
    """(level of `figure_parts.LEVEL_COLOURS`, the answer)."""
    tried = table.rows[table.rows["outcome"].isin(outcomes.TRIED)]
    reproduced = int((tried["outcome"] == outcomes.REPRODUCED).sum())
    if tried.empty:
        return "untested", "None could be tried"
    if reproduced == len(tried):
        return "real", f"All {counted(reproduced, 'claim')} that could be tried hold"
    if not reproduced:
        return "chance", f"None of {counted(len(tried), 'claim')} that could be tried holds"
    return "uncertain", f"{reproduced} of {counted(len(tried), 'claim')} that could be tried hold"


def draw_claims(table: ClaimsTable) -> Figure:
    """Published beside here, a claim that was tried an axis of its own."""
    rows = table.rows[table.rows["outcome"].isin(outcomes.TRIED)][:_MOST_LINES]
    figure = Figure(figsize=(8.4, 0.75 * len(rows) + 0.4), layout="constrained", facecolor="white")
    axes = figure.subplots(len(rows), 1, squeeze=False)[:, 0]
    for axis, row in zip(axes, rows.itertuples(), strict=True):
        colour = figure_parts.LEVEL_COLOURS[_LEVELS[row.outcome]]
        if known(row.tolerance):
            band = row.published - row.tolerance, row.published + row.tolerance
            axis.axvspan(*band, color="#DDDDDD", linewidth=0)
        if known(row.published):
            axis.plot(row.published, 1, "D", color=figure_parts.GREY, markersize=5)
        if known(row.lower) and known(row.upper):
            axis.plot([row.lower, row.upper], [0, 0], color=colour, linewidth=1.6)
        axis.plot(row.value, 0, "o", color=colour, markersize=6)
        axis.margins(x=0.15)
        if known(row.than):
            axis.axvline(row.than, color=figure_parts.GREY, linestyle=":", linewidth=1.1)
            axis.autoscale_view()
            low, high = axis.get_xlim()
            side = (row.than, high) if row.direction == "above" else (low, row.than)
            axis.axvspan(*side, color="#EEEEEE", linewidth=0, zorder=0)
            axis.set_xlim(low, high)
        axis.set_ylim(-0.9, 1.9)
        axis.set_yticks([])
        figure_parts.plain_axis(axis, "x")
        axis.tick_params(labelsize=8)
        axis.set_title(f"{row.title}: {row.outcome}", fontsize=8, loc="left")
    return figure
