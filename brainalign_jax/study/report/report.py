"""The report of a study: one HTML file that stands alone."""

import json
from collections.abc import Iterable
from pathlib import Path

from matplotlib.figure import Figure

from brainalign_jax.options import meanings
from brainalign_jax.study.evidence.chance import score_interval
from brainalign_jax.study.names import UNTRAINED
from brainalign_jax.study.protocol import PROTOCOLS, Protocol
from brainalign_jax.study.report import head_maps, page, plots, summary
from brainalign_jax.study.report.evidence import answer, confidence, evidence_values, numbers
from brainalign_jax.study.report.vectors import vectors_table
from brainalign_jax.study.report.wording import (
    capitalised,
    counted,
    interval,
    number,
    percent,
    recorded,
    short_names,
    span,
)
from brainalign_jax.study.results import GROUP, SELECTED, ResultTable
from brainalign_jax.study.score.measures import label_of

MEANINGS = meanings(Protocol)


def write_report(
    table: ResultTable,
    folder: Path,
    *,
    k: int = 10,
    notes: Iterable[str] = (),
    figures: dict[str, Figure] | None = None,
) -> Path:
    """Write `folder`/report.html, one file that needs nothing else: verdict, picture, three numbers, tables.

    k: the k of P@k in headline, table and figures. notes: sentences shown under the headline. figures: of
    `plots.draw_figures`, which draws them where they are not given.
    The file is written whole or not at all.

    Raises: ValueError on an empty table, a `k` not scored, or mixed data sets or protocols.
    """
    summary.check(table, k)
    figures = plots.draw_figures(table, k=k) if figures is None else figures
    evidence = evidence_values(table)
    pictures = [
        page.picture(name, drawn, _caption(name, table, k)) for name, drawn in figures.items()
    ]
    # The page opens with what the verdict rests on, else with the first figure there is.
    picture = evidence["parts"][0]["figure"] if evidence else pictures.pop(0) if pictures else None
    return page.write(
        folder,
        "study",
        title=f"{_dataset(table)}: language models and brain responses",
        lead=_scope(table),
        opening=_opening(table, k),
        notes=tuple(notes),
        picture=picture,
        evidence=evidence,
        left_out=[capitalised(said) + "." for said in table.manifest.get("left_out_evidence", ())],
        summary=_summary(table, k),
        group=_group_table(table, k),
        vectors=vectors_table(table),
        figures=pictures,
        **_protocol(table),
        facts=_run_facts(table),
        models=_model_facts(table),
        subjects=_fingerprints(table),
    )


def first_screen(table: ResultTable, *, k: int = 10) -> str:
    """What a report opens with, as HTML for a notebook: warnings, verdict and the summary."""
    summary.check(table, k)
    return page.render("first_screen", opening=_opening(table, k), summary=_summary(table, k))


def _opening(table: ResultTable, k: int) -> dict:
    """Warnings, then the answer; where there is no evidence, a headline."""
    said = answer(table)
    headline = "" if said else summary.headline(table, k=k)
    shown = numbers(table) if said else summary.best_numbers(table, k)
    return {
        "warnings": summary.warnings(table),
        "answer": said,
        "headline": headline,
        "numbers": shown,
    }


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
        + (f", language {said}" if (said := summary.language(table)) else "")
        + f". Models: {', '.join(names.values())}. "
        f"Methods: {', '.join(rows['method'].unique())}. Protocol: {rows['protocol'].iloc[0]}."
    )


def _summary(table: ResultTable, k: int) -> dict | None:
    header, rows = summary.summary_cells(table, k)
    measured = page.Table(*summary.measure_cells(table), 2)
    if not rows and not measured.rows:
        return None
    selection = summary.selection_note(table, k) if rows else ""
    scores = page.Table(header, rows, 2) if rows else None
    measures = measured if measured.rows else None
    return {"k": k, "scores": scores, "selection": selection, "measures": measures}


def _group_table(table: ResultTable, k: int) -> page.Table | None:
    """All subjects decoded as one, at the layer that inner folds chose, else at the best."""
    rows = table.extras.get("group_decoding")
    if rows is None or rows.empty:
        return None
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
    return page.Table(header, lines, 3)


def _caption(name: str, table: ResultTable, k: int) -> str:
    n_models = table.rows["model"].nunique()
    n_subjects = table.rows.loc[table.rows["subject"] != GROUP, "subject"].nunique()
    lines = "Lines: mean over subjects." if n_subjects > 1 else "Lines: one subject."
    note = plots.spread_note(n_models, n_subjects)
    if "intervals" in table.extras:
        over = "subjects" if _measure(name, table) else "subjects and words"
        level = percent(confidence(table))
        note = f"{plots.INTERVALS}, {level} bootstrap over {over}"
    spread = f" {capitalised(note)}." * bool(note)
    twins = table.rows["model"].str.startswith(UNTRAINED).any()
    dashed = " Dashed in the same colour: the untrained twin (random weights)." * bool(twins)
    if name == "precision_by_layer":
        low, high, chance, n_items = plots.chance_interval(table.pooled("precision_csls", k=k))
        return (
            f"Precision at {k} with CSLS by layer, one panel a method; layer 0 is the embedding "
            f"output. {lines}{spread}{dashed} Grey dashed line: chance "
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
    if name.startswith(head_maps.NAME):
        return (
            "What each attention head writes into the residual, as vectors: mean score over subjects by "
            "block and head. Dark: chance; white: below."
        )
    what = f"{capitalised(label_of(_measure(name, table)))}, by layer, over all words."
    if _measure(name, table) == "rsa":
        what = (
            "Representational similarity by layer: correlation between the brain's and the model's "
            "dissimilarities of word pairs."
        )
    unrelated = table.pooled(_measure(name, table))["chance"].notna().any()
    return f"{what} {lines}{spread}{dashed}" + " Grey dashed line: no similarity." * bool(unrelated)


def _measure(figure: str, table: ResultTable) -> str:
    """The measure of similarity that a figure shows; "" for another."""
    name = figure.removesuffix("_by_layer")
    return name if name in table.measures() else ""


def _protocol(table: ResultTable) -> dict:
    """The protocol's choices, and whether one differs from its default."""
    fields = summary.protocol_fields(table)
    named = PROTOCOLS.get(fields.get("name"))
    usual = json.loads(json.dumps(named.fields())) if named else {}
    rows, changed = [], False
    for name, value in fields.items():
        value = list(value) if isinstance(value, tuple) else value
        differs = name in usual and usual[name] != value
        changed |= differs
        rows.append([name, recorded(value) + " *" * differs, MEANINGS.get(name, "")])
    return {
        "protocol": fields["name"] if changed else table.rows["protocol"].iloc[0],
        "choices": page.Table(["choice", "value", "meaning"], rows) if fields else None,
        "changed": changed,
    }


def _run_facts(table: ResultTable) -> page.Table:
    manifest = table.manifest
    dataset = manifest.get("dataset")
    facts = [
        (f"dataset: {key}" if key != "name" else "dataset", value)
        for key, value in (dataset if isinstance(dataset, dict) else {"name": dataset}).items()
    ]
    rows = table.rows[table.rows["subject"] != GROUP]
    facts += [("number of subjects", rows["subject"].nunique())]
    shown_below = ("dataset", "protocol", "models", "subjects")
    facts += [(key, value) for key, value in manifest.items() if key not in shown_below]
    return page.facts(facts)


def _model_facts(table: ResultTable) -> list[tuple[str, page.Table]]:
    """(short name, facts) of every model."""
    models = table.manifest.get("models")
    if not models:
        columns = ["model", "family", "n_params", "n_layers"]
        distinct = table.rows[columns].drop_duplicates().rename(columns={"model": "name"})
        models = distinct.to_dict("records")
    models = [model if isinstance(model, dict) else {"name": str(model)} for model in models]
    short = short_names([str(model.get("name")) for model in models])
    # The geometry has a section of its own.
    return [
        (
            short.get(model.get("name"), ""),
            page.facts((key, value) for key, value in model.items() if key != "geometry"),
        )
        for model in models
    ]


def _fingerprints(table: ResultTable) -> page.Table | None:
    subjects = table.manifest.get("subjects")
    if not isinstance(subjects, dict) or not subjects:
        return None
    lines = [[str(name), recorded(value)] for name, value in subjects.items()]
    return page.Table(["subject", "fingerprint (sha256)"], lines)
