"""What an encoding leaves in a folder: table, maps, and a report that opens with verdict, map and regions."""

from __future__ import annotations

from pathlib import Path

from brainalign_jax.studies.encoding import maps, surfaces, verdict
from brainalign_jax.studies.encoding.maps import BrainMap
from brainalign_jax.studies.encoding.table import EncodingTable
from brainalign_jax.study.report import page
from brainalign_jax.study.report.wording import (
    counted,
    fraction,
    interval,
    known,
    number,
    p_value,
    plain_names,
    short_names,
    signed,
)
from brainalign_jax.study.results import GROUP

SHOWN = "unique_r"
_MOST_LINES = 200  # of the table of regions
_HEADER = (
    "model", "region", "who", "voxels", "r", "nuisances, r", "model alone, r", "unique r", "interval",
    "unique r²", "Ω", "ceiling", "layer", "p", "p, all regions", "voxels above chance",
)  # fmt: skip
_SPACES_HEADER = (
    "model", "region", "who", "space", "alone, r²", "unique r²", "interval", "p", "p, all regions",
    "product, r²", "product, r", "Ω", "all together, r²", "shared r²",
)  # fmt: skip


def write_outputs(
    table: EncodingTable, folder: Path, surface: surfaces.Surface | None = None
) -> str:
    """Write table, maps, figures and report.html to a folder of `new_outputs`; in words, what is missing."""
    table.write(folder)
    written = []
    for brain in table.maps.values():
        written += maps.write_images(brain, folder / "maps")
    shown = shown_map(table)
    noted = "no space is known: there are no maps" if not written else ""
    noted = noted or maps.write_page(shown, SHOWN, folder)
    figures = page.Figures(folder)
    labels = short_names([facts["name"] for facts in table.manifest["models"]])
    for index, facts in enumerate(table.manifest["models"], 1):
        brain = shown_map(table, index)
        drawn = maps.draw(brain, SHOWN, "unique r")
        label = labels[facts["name"]]
        caption = _caption(brain, facts, label)
        figures.add(f"unique_r_{index}", f"unique r {label}", drawn, caption)
        if surface is not None:
            drawn = surfaces.draw(brain, SHOWN, "unique r", surface)
            said = f"{label}: the same on {surface.name}; below zero, and where no value is, grey."
            figures.add(f"surface_{index}", f"unique r on the surface {label}", drawn, said)
    pages = [] if noted else [maps.PAGE]
    if surface is not None:
        missing = surfaces.write_page(shown, SHOWN, surface, folder)
        pages += [] if missing else [surfaces.PAGE]
        noted = "; ".join(filter(None, (noted, missing)))
    write_report(table, folder, figures, noted, pages)
    return noted


def shown_map(table: EncodingTable, model: int = 1) -> BrainMap:
    """The map of a model that is shown: the group's, or the first person's where there is none."""
    own = [brain for brain in table.maps.values() if brain.model == model]
    return next((brain for brain in own if brain.subject == GROUP), own[0])


def write_report(
    table: EncodingTable, folder: Path, figures: list[page.Picture], noted: str, pages: list[str]
) -> Path:
    """Write `folder`/report.html, one file that needs nothing else."""
    manifest = table.manifest
    nuisances = dict.fromkeys(sum((m["nuisances"] for m in manifest["models"]), []))
    return page.write(
        folder,
        "encoding",
        title=f"{manifest['dataset']['name']}: what models predict voxel by voxel",
        lead=_scope(table),
        nuisances=plain_names(nuisances) if nuisances else "",
        answer=page.opening(
            verdict.answer(table), " ".join(judged.text for judged in verdict.verdicts(table))
        ),
        figures=figures,
        regions=_lines(table),
        spaces=None if table.spaces is None else _spaces(table),
        noted=noted,
        folds=manifest["folds"],
        plan=manifest["plan"],
        pages=pages,
        facts=_facts(table),
    )


def _scope(table: EncodingTable) -> str:
    people = table.manifest["subjects"]
    voxels = sorted({facts["n_voxels"] for facts in people.values()})
    count = f"{voxels[0]:,}" if len(voxels) == 1 else f"{voxels[0]:,} to {voxels[-1]:,}"
    left_out = sum(facts["n_left_out"] for facts in people.values())
    said = f"{counted(len(people), 'person').replace('persons', 'people')}, {count} voxels"
    if left_out:
        said += f" ({left_out:,} in all left out: constant or not finite)"
    return f"{said}, {table.manifest['n_words']:,} words. {table.manifest['folds']}."


def _lines(table: EncodingTable) -> page.Table:
    labels = short_names([facts["name"] for facts in table.manifest["models"]])
    rows = table.rows
    lines = [
        [
            labels[row.model],
            row.region,
            row.subject,
            f"{row.n_voxels:,}",
            fraction(row.r),
            fraction(row.r_nuisances),
            fraction(row.r_model),
            signed(row.unique_r),
            interval(row.low, row.high),
            signed(row.unique_r2),
            number(row.omega),
            fraction(row.ceiling),
            "none" if row.layer < 0 else str(row.layer),
            p_value(row.p),
            p_value(row.p_max),
            "" if row.subject == GROUP else f"{row.n_above:,}",
        ]
        for row in rows.head(_MOST_LINES).itertuples()
    ]
    note = "Means over a region's voxels; the rows of the group are means over people."
    if len(rows) > _MOST_LINES:
        note += f" The first {_MOST_LINES} of {len(rows):,} rows; all are in encoding.parquet."
    return page.Table(_HEADER, lines, 3, note)


def _spaces(table: EncodingTable) -> page.Table:
    models = table.manifest["models"]
    labels = short_names([facts["name"] for facts in models])
    named = short_names(list(dict.fromkeys(sum((facts["spaces"] for facts in models), []))))
    lines = [
        [
            labels[row.model],
            row.region,
            row.subject,
            named.get(row.space, row.space),
            signed(row.r2_alone),
            signed(row.unique_r2),
            interval(row.low, row.high),
            p_value(row.p),
            p_value(row.p_max),
            signed(row.product_r2),
            signed(row.product_r),
            number(row.omega),
            signed(row.r2),
            signed(row.r2_shared),
        ]
        for row in table.spaces.head(_MOST_LINES).itertuples()
    ]
    note = "Means over a region's voxels. Beside all: " + "; ".join(
        f"{plain_names(names)} ({label})" if len(models) > 1 else plain_names(names)
        for label, names in ((labels[m["name"]], m["nuisances_of_spaces"]) for m in models)
    )
    if len(table.spaces) > _MOST_LINES:
        note += (
            f". The first {_MOST_LINES} of {len(table.spaces):,} rows; all are in spaces.parquet"
        )
    return page.Table(_SPACES_HEADER, lines, 4, f"{note}.")


def _caption(brain: BrainMap, facts: dict, label: str) -> str:
    whose = "mean over people" if brain.subject == GROUP else brain.subject
    names = facts["nuisances"]
    what = (
        f"adds to the correlation of {plain_names(names)}" if names else "predicts, its correlation"
    )
    return (
        f"{label}, {whose}: what the model {what} with the held-out time courses. "
        f"{maps.how_drawn(brain)}"
    )


def _facts(table: EncodingTable) -> page.Table:
    manifest = table.manifest
    shown = [(f"dataset: {key}", value) for key, value in manifest["dataset"].items()]
    shown += [(f"choice: {key}", value) for key, value in manifest["plan"].items()]
    for facts in manifest["models"]:
        shown += [
            (f"{facts['name']}: {key}", value) for key, value in facts.items() if key != "name"
        ]
    shown += [(f"person {name}", facts) for name, facts in manifest["subjects"].items()]
    for key in ("atlas", "stimulus", "command", "created", "versions"):
        shown.append((key, manifest.get(key)))
    return page.facts(
        (key, value)
        for key, value in shown
        if value not in (None, "") and (not isinstance(value, float) or known(value))
    )
