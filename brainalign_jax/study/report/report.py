"""The report of a study: one HTML file that stands alone."""

import json
import math
from collections.abc import Iterable
from html import escape
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from brainalign_jax.options import meanings
from brainalign_jax.study.evidence.chance import score_interval
from brainalign_jax.study.names import UNTRAINED
from brainalign_jax.study.protocol import PROTOCOLS, Protocol
from brainalign_jax.study.report import page, plots, summary
from brainalign_jax.study.report.evidence import confidence, evidence_section, verdict_section
from brainalign_jax.study.report.vectors import vectors_section
from brainalign_jax.study.report.wording import (
    counted,
    interval,
    number,
    percent,
    recorded,
    short_names,
    span,
)
from brainalign_jax.study.results import GROUP, SELECTED, ResultTable

MEANINGS = meanings(Protocol)


def write_report(
    table: ResultTable,
    folder: Path,
    *,
    k: int = 10,
    notes: Iterable[str] = (),
    figures: dict[str, Figure] | None = None,
) -> Path:
    """Write `folder`/report.html, one file without scripts or external resources.

    k: the k of P@k in headline, table and figures. notes: sentences shown under the headline. figures: of
    `plots.draw_figures`, which draws them where they are not given.
    The file is written whole or not at all.

    Raises: ValueError on an empty table, a `k` not scored, or mixed data sets or protocols.
    """
    summary.check(table, k)
    figures = plots.draw_figures(table, k=k) if figures is None else figures
    title = f"{_dataset(table)}: language models and brain responses"
    body = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="lead">{escape(_scope(table))}</p>',
        *(
            f'<p class="warning"><strong>{escape(text)}</strong></p>'
            for text in summary.warnings(table)
        ),
        *(verdict_section(table) or _headline(table, k)),
        *(f'<p class="note">{escape(text)}</p>' for text in notes),
        *evidence_section(table),
        *_summary_section(table, k),
        *_group_section(table, k),
        *vectors_section(table),
        "<h2>Figures</h2>",
        *(page.figure(name, figure, _caption(name, table, k)) for name, figure in figures.items()),
        "<h2>Protocol</h2>",
        *_protocol_section(table),
        "<h2>Data, models and run</h2>",
        *_facts_section(table),
    ]
    return page.write(Path(folder) / "report.html", title, body)


def first_screen(table: ResultTable, *, k: int = 10) -> str:
    """What a report opens with, as HTML for a notebook: warnings, verdict and the summary."""
    summary.check(table, k)
    return page.fragment(
        [
            *(
                f'<p class="warning"><strong>{escape(text)}</strong></p>'
                for text in summary.warnings(table)
            ),
            *(verdict_section(table) or _headline(table, k)),
            *_summary_section(table, k),
        ]
    )


def _headline(table: ResultTable, k: int) -> list[str]:
    return [f'<p class="headline">{escape(summary.headline(table, k=k))}</p>']


def _dataset(table: ResultTable) -> str:
    facts = table.manifest.get("dataset")
    name = facts.get("name") if isinstance(facts, dict) else facts
    return str(name or table.rows["dataset"].iloc[0])


def _scope(table: ResultTable) -> str:
    rows = table.rows
    names = short_names(rows["model"].unique())
    subjects = rows.loc[rows["subject"] != GROUP, "subject"].nunique()
    words = table.manifest.get("n_words")
    return (
        counted(subjects, "subject")
        + (f", {recorded(words)} words" if words is not None else "")
        + f". Models: {', '.join(names.values())}. "
        f"Methods: {', '.join(rows['method'].unique())}. Protocol: {rows['protocol'].iloc[0]}."
    )


def _summary_section(table: ResultTable, k: int) -> list[str]:
    header, rows = summary.summary_cells(table, k)
    if not rows:
        return []
    legend = (
        f"P@{k} with CSLS: the fraction of words whose true vector is among the {k} nearest. "
        "CSLS-AVG: mean over subjects at the layer shown. CSLS-MAX: the best subject. "
        "Rank accuracy: 1 where the true word always comes first, 0.5 by chance, at that layer. RSA: "
        "correlation of the RDMs at the layer where it is highest; the other methods have none."
    )
    return [
        f"<h2>Summary, P@{k}</h2>",
        page.table(header, rows, numbers_from=2),
        f"<p>{escape(summary.selection_note(table, k))}</p>",
        f'<p class="small">{escape(legend)}</p>',
    ]


def _group_section(table: ResultTable, k: int) -> list[str]:
    """All subjects decoded as one, at the layer that inner folds chose, else at the best."""
    rows = table.extras.get("group_decoding")
    if rows is None or rows.empty:
        return []
    names = short_names(rows["model"].unique())
    rows = rows[(rows["metric"] == "precision_csls") & (rows["k"] == k)]
    lines = []
    for (kind, model, method), part in rows.groupby(["subject", "model", "method"], sort=False):
        chosen = part[part["layer"] == SELECTED]
        line = (chosen if len(chosen) else part).nlargest(1, "value").iloc[0]
        bounds = score_interval(round(line["value"] * line["n_items"]), line["n_items"])
        lines.append(
            [
                kind, names[model], method, number(line["value"]),
                interval(bounds.lower, bounds.upper),
                number(line["chance"]),
            ]
        )  # fmt: skip
    header = ["group", "model", "method", f"P@{k}", "interval", "chance"]
    note = (
        "All subjects as one: summed, their responses side by side; hyperaligned, the mean in a shared "
        "space learnt from each fold's training words. Interval: exact binomial, as if words were "
        "independent."
    )
    return [
        "<h3>All subjects decoded as one</h3>",
        page.table(header, lines, numbers_from=3),
        f'<p class="small">{escape(note)}</p>',
    ]


def _caption(name: str, table: ResultTable, k: int) -> str:
    n_models = table.rows["model"].nunique()
    n_subjects = table.rows.loc[table.rows["subject"] != GROUP, "subject"].nunique()
    note = plots.spread_note(n_models, n_subjects)
    if "intervals" in table.extras:
        over = "subjects" if name == "rsa_by_layer" else "subjects and words"
        level = percent(confidence(table))
        note = f"{plots.INTERVALS}, {level} bootstrap over {over}"
    spread = f" {note[:1].upper()}{note[1:]}." * bool(note)
    twins = table.rows["model"].str.startswith(UNTRAINED).any()
    dashed = " Dashed in the same colour: the untrained twin (random weights)." * bool(twins)
    if name == "precision_by_layer":
        low, high, chance, n_items = plots.chance_interval(table.pooled("precision_csls", k=k))
        return (
            f"Precision at {k} with CSLS by layer, one panel a method; layer 0 is the embedding "
            f"output. Lines: mean over subjects.{spread}{dashed} Grey dashed line: chance "
            f"({number(chance)}); grey band: 99 % of the scores of one subject who guesses "
            f"{n_items:,} independent words ({span(low, high)}). The "
            f"band is of one subject, not of the mean, and {summary.dependence(table)}."
        )
    if name == "precision_by_k":
        return (
            "Precision at k with CSLS by k (log scale), mean over subjects, each model at the "
            f"layer that is best at k = {k}.{dashed} Grey dashed line: chance."
        )
    if name == "precision_by_model_size":
        untrained = " Triangles, dashed: untrained models." * bool(twins)
        return (
            f"Precision at {k} with CSLS by number of parameters (log scale), mean over subjects, "
            "families by colour. Circles: best layer, picked on these scores; open squares: mean "
            f"over layers.{untrained} Grey dotted line: chance."
        )
    return (
        "Representational similarity by layer: correlation between the brain's and the model's "
        f"dissimilarities of word pairs. Lines: mean over subjects.{spread}{dashed} "
        "Grey dashed line: no similarity."
    )


def _protocol_section(table: ResultTable) -> list[str]:
    fields = summary.protocol_fields(table)
    if not fields:
        return [
            f"<p>{escape(str(table.rows['protocol'].iloc[0]))} (its fields were not recorded)</p>"
        ]
    named = PROTOCOLS.get(fields.get("name"))
    usual = json.loads(json.dumps(named.fields())) if named else {}
    rows, changed = [], False
    for name, value in fields.items():
        value = list(value) if isinstance(value, tuple) else value
        differs = name in usual and usual[name] != value
        changed |= differs
        rows.append([name, recorded(value) + " *" * differs, MEANINGS.get(name, "")])
    star = f"<p>* differs from the {escape(str(fields['name']))} protocol's default.</p>" * changed
    return [page.table(["choice", "value", "meaning"], rows), star]


def _facts_section(table: ResultTable) -> list[str]:
    manifest = table.manifest
    parts = []
    dataset = manifest.get("dataset")
    facts = [
        (f"dataset: {key}" if key != "name" else "dataset", value)
        for key, value in (dataset if isinstance(dataset, dict) else {"name": dataset}).items()
    ]
    rows = table.rows[table.rows["subject"] != GROUP]
    facts += [("number of subjects", rows["subject"].nunique())]
    shown_below = ("dataset", "protocol", "models", "subjects")
    facts += [(key, value) for key, value in manifest.items() if key not in shown_below]
    parts.append(page.table(["fact", "value"], [_fact(*fact) for fact in facts if _known(fact[1])]))
    models = manifest.get("models")
    if not models:
        columns = ["model", "family", "n_params", "n_layers"]
        found = table.rows[columns].drop_duplicates().rename(columns={"model": "name"})
        models = found.to_dict("records")
    models = [model if isinstance(model, dict) else {"name": str(model)} for model in models]
    short = short_names([str(model.get("name")) for model in models])
    for model in models:
        facts = [
            _fact(key, value)
            for key, value in model.items()
            if _known(value) and key != "geometry"  # has a section of its own
        ]
        name = short.get(model.get("name"), "")
        parts += [f"<h3>Model {escape(name)}</h3>", page.table(["fact", "value"], facts)]
    subjects = manifest.get("subjects")
    if isinstance(subjects, dict) and subjects:
        lines = [[str(name), recorded(value)] for name, value in subjects.items()]
        inner = page.table(["subject", "fingerprint (sha256)"], lines)
        parts.append(f"<details><summary>Fingerprints of the subjects</summary>{inner}</details>")
    return parts


def _known(value) -> bool:
    """Whether there is a value: neither None nor NaN."""
    return not (value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value)))


def _fact(name: str, value) -> list[str]:
    """One line of a table of facts; counts (n_...) with thousands apart."""
    if name.startswith("n_") and isinstance(value, (int, float)) and value == int(value):
        return [name, f"{int(value):,}"]
    return [name, recorded(value)]
