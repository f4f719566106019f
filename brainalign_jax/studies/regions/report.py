"""The report of a region encoding: verdicts first, then table and figure, one HTML file."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from brainalign_jax.studies.regions import verdict
from brainalign_jax.studies.regions.table import RegionTable
from brainalign_jax.study.report import page
from brainalign_jax.study.report.figure_parts import GREY, OKABE_ITO
from brainalign_jax.study.report.wording import (
    fraction,
    p_value,
    plain_names,
    short_names,
    signed,
)


def write_region_report(table: RegionTable, folder: str | Path) -> Path:
    """Write `folder`/report.html, one file that needs nothing else."""
    manifest = table.manifest
    model = short_names([manifest["model"]])[manifest["model"]]
    nuisances = plain_names(_few(table))
    shifts = int(table.rows["n_null"].max())
    verdicts = verdict.verdicts(table)
    sections = [
        {
            "name": part,
            "verdicts": [_first_bold(judged) for judged in verdicts if judged.part == part],
            "scores": _scores(table, part),
            "figure": page.picture(
                f"regions {part}", draw_regions(table, part), _caption(table, part)
            ),
        }
        for part in manifest["parts"]
    ]
    return page.write(
        folder,
        "regions",
        title=f"{manifest['dataset']['name']}: what {model} adds to {nuisances}",
        lead=_scope(table, model),
        nuisances=nuisances,
        answer=page.opening(verdict.answer(table), verdict.headline(table)),
        sections=sections,
        encoding=manifest["encoding"],
        shifts=shifts,
        least_p=p_value(1 / (1 + shifts)),
        variance=_variance(table),
        facts=_facts(table),
    )


def draw_regions(table: RegionTable, part: str) -> Figure:
    """Left: r of nuisances, model and both, by region. Right: what the model and its twin add."""
    model, few = table.manifest["model"], "+".join(_few(table))
    regions = [region for p, region in table.group("ceiling").index if p == part]
    y = np.arange(len(regions))[::-1]
    figure = Figure(figsize=(9.6, 0.62 * len(regions) + 1.7), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    shown = [
        (left, "r", "", few, "nuisances", OKABE_ITO[6], "s"),
        (left, "r", model, "", "model", OKABE_ITO[1], "^"),
        (left, "r", model, few, "both", OKABE_ITO[0], "o"),
        (right, "unique_r", model, few, "model", OKABE_ITO[0], "o"),
        (right, "unique_r", "untrained:" + model, few, "untrained twin", OKABE_ITO[4], "D"),
    ]
    for index, (axis, metric, name, beside, label, colour, marker) in enumerate(shown):
        rows = table.group(metric, model=name, nuisances=beside)
        if rows.empty:
            continue
        rows = rows.loc[part].loc[regions]
        at = y + (0.2, 0.0, -0.2, 0.1, -0.1)[index]
        spread = [rows["value"] - rows["low"], rows["high"] - rows["value"]]
        axis.errorbar(
            rows["value"], at, xerr=spread, fmt=marker, color=colour, label=label, markersize=5
        )
        if metric == "unique_r" and name == model:
            axis.plot(rows["null_95"], at, "|", color=GREY, markersize=14, label="95 % of shifted")
    ceiling = table.group("ceiling").loc[part].loc[regions, "value"]
    left.plot(ceiling, y, "|", color=GREY, markersize=16, label="ceiling")
    for axis, label in ((left, "r (mean over subjects)"), (right, "Δr beside the nuisances")):
        axis.axvline(0, color=GREY, linewidth=0.8)
        axis.set_xlabel(label)
        axis.set_yticks(y, regions)
        axis.spines[["top", "right"]].set_visible(False)
        axis.legend(
            fontsize="small", frameon=False, ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1)
        )
    return figure


def _first_bold(judged: verdict.RegionVerdict) -> tuple[str, str]:
    """(what is bold, the rest): the first sentence of a region that survives."""
    if not judged.survives:
        return "", judged.text
    first, stop, rest = judged.text.partition("). ")
    return first + stop.rstrip(), rest


def _few(table: RegionTable) -> list[str]:
    return table.manifest["compared_with"][0]


def _scope(table: RegionTable, model: str) -> str:
    manifest = table.manifest
    return (
        f"{len(manifest['subjects'])} subjects, {manifest['n_volumes']:,} volumes, "
        f"{manifest['n_words']:,} words, {len(manifest['regions'])} regions "
        f"({', '.join(manifest['parts'])}). Model: {model}."
    )


def _scores(table: RegionTable, part: str) -> page.Table:
    model = table.manifest["model"]
    twin = "untrained:" + model
    columns = [("ceiling", "ceiling", "", ())]
    for names in table.manifest["nuisance_sets"]:
        columns.append((f"r: {plain_names(names)}", "r", "", names))
    columns.append(("r: model", "r", model, ()))
    for names in table.manifest["compared_with"]:
        beside = f"model beside {plain_names(names)}"
        columns += [
            (f"r: {beside}", "r", model, names),
            (f"Δr: {beside}", "unique_r", model, names),
        ]
        if twin in table.manifest["models"]:
            columns.append((f"Δr: twin beside {plain_names(names)}", "unique_r", twin, names))
    lines = []
    for label, metric, name, names in columns:
        rows = table.group(metric, model=name, nuisances="+".join(names)).loc[part]
        cells = []
        for row in rows.itertuples():
            value = signed(row.value) if metric == "unique_r" else fraction(row.value)
            cells.append(value + f" ({p_value(row.p_max)})" * bool(np.isfinite(row.p_max)))
        lines.append([label, *cells])
    header = ["score", *rows.index]
    return page.Table(header, lines, 1)


def _variance(table: RegionTable) -> page.Table:
    """r2 of nuisances, model and both; what only one of the two explains, and what either does."""
    model, few = table.manifest["model"], "+".join(_few(table))
    explained = table.group("r2", nuisances=few)["value"]
    alone, joint = (table.group("r2", model=model, nuisances=names)["value"] for names in ("", few))
    shares = explained, alone, joint, joint - explained, joint - alone, explained + alone - joint
    lines = [
        [f"{region}, {part}", *(signed(share.loc[part, region]) for share in shares)]
        for part, region in explained.index
    ]
    header = ["region", "nuisances", "model", "both", "model only", "nuisances only", "either"]
    note = (
        "Share of the variance explained in the test blocks about their means, mean over subjects; "
        f"nuisances: {plain_names(_few(table))}. Below zero a prediction is worse than the mean."
    )
    return page.Table(header, lines, 1, note)


def _facts(table: RegionTable) -> page.Table:
    manifest = table.manifest
    facts = [(f"dataset: {key}", value) for key, value in manifest["dataset"].items()]
    facts += [(f"choice: {key}", value) for key, value in manifest["encoding"].items()]
    facts += [
        (key, manifest[key])
        for key in ("model", "subjects", "stimulus", "command", "created", "versions")
        if manifest.get(key)
    ]
    return page.facts(facts)


def _caption(table: RegionTable, part: str) -> str:
    return (
        f"{part}. Left: correlation with the measured time course; nuisances are "
        f"{plain_names(_few(table))}; the grey bar is the noise ceiling, the other listeners' mean as "
        "prediction. Right: what the model, and its untrained twin, add to the nuisances; the grey bar "
        "is what 95 % of the shifted recordings stay below in that region. Lines: 95 % intervals, "
        "bootstrap over subjects."
    )
