"""What an encoding shows, in plain words: where a model adds to the nuisances, and in how many people."""

from typing import NamedTuple

import pandas as pd

from brainalign_jax.studies.encoding.spaces import WHOLE
from brainalign_jax.studies.encoding.table import EncodingTable
from brainalign_jax.study.report.wording import (
    counted,
    fraction,
    known,
    listed,
    percent,
    plain_names,
    probability,
    short_names,
    signed,
)
from brainalign_jax.study.results import GROUP

FEWEST = 20  # shifted recordings, of which p < .05 can be said


class EncodingVerdict(NamedTuple):
    """level: of `figure_parts.LEVEL_COLOURS`; n_people: in whom the model adds; text: the sentences."""

    model: str
    level: str
    n_people: int
    text: str


def verdicts(table: EncodingTable) -> list[EncodingVerdict]:
    """One verdict a model, in the table's order.

    A model adds to the nuisances in a person where the unique r of a voxel exceeds the largest of all voxels
    of the shifted recordings at p < .05. It is real where that holds for more than half of the people, and
    unclear where for some; fewer than 20 shifts can show nothing.
    """
    labels = short_names([facts["name"] for facts in table.manifest["models"]])
    return [_verdict(table, facts, labels[facts["name"]]) for facts in table.manifest["models"]]


def _verdict(table: EncodingTable, facts: dict, label: str) -> EncodingVerdict:
    rows = table.of(facts["name"])
    by_person = rows.groupby("subject", sort=False)[["n_above", "n_voxels"]].sum()
    with_some = by_person[by_person["n_above"] > 0]
    n_people, total, n_shifts = len(with_some), len(by_person), table.manifest["plan"]["n_shifts"]
    beside = f" to {plain_names(facts['nuisances'])}" if facts["nuisances"] else ""
    people = "1 person" if total == 1 else f"{total} people"
    level = "real" if 2 * n_people > total else "uncertain" if n_people else "chance"
    if n_shifts < FEWEST:
        level = "untested"
        text = (
            f"Whether {label} {f'adds{beside}' if beside else 'predicts anything'} is not tested: "
            f"{counted(n_shifts, 'shifted recording')} cannot give a p below .05, {FEWEST} can."
        )
    elif n_people:
        share = float((with_some["n_above"] / with_some["n_voxels"]).median())
        text = (
            f"{label} {f'adds{beside}' if beside else 'predicts voxels'} in {n_people} of {people}. In "
            f"{percent(share)} of their voxels ({int(with_some['n_above'].median()):,}; medians) "
            "unique r is above the largest of all voxels in 95 % of the shifted recordings; it reaches "
            f"{fraction(rows['highest'].max())}."
        )
    else:
        where = "voxel of the regions" if table.manifest["atlas"] else "voxel"
        adds = f"adds nothing{beside}" if beside else "predicts nothing"
        text = f"{label} {adds} beyond chance, in no {where} of {people}."
    said = (text, _of_regions(table, facts, rows), _of_spaces(table, facts))
    return EncodingVerdict(
        facts["name"], level, n_people, " ".join(sentence for sentence in said if sentence)
    )


def _of_regions(table: EncodingTable, facts: dict, rows: pd.DataFrame) -> str:
    """A sentence about the region of the highest unique r: the group's, or a person's."""
    group = table.of(facts["name"], GROUP)
    shown = group if len(group) else rows
    if not shown["unique_r"].notna().any():
        return ""
    place = shown.loc[shown["unique_r"].idxmax()]
    whose = "Over people" if len(group) else f"In {place['subject']}"
    highest = f"the highest region, {place['region']},"
    where = "the mean of all voxels" if place["region"] == WHOLE else highest
    said = f"{whose} {where} has a unique r of {signed(place['unique_r'])} ({probability(place['p_max'])})"
    if known(place["omega"]) and facts["nuisances"]:
        said += f"; nuisances reach {percent(round(max(0.0, place['omega']), 3))} of the model's r²"
    return f"{said}."


def _of_spaces(table: EncodingTable, facts: dict) -> str:
    """A sentence about how the r2 of all feature spaces is divided where it is highest; "" without spaces."""
    if table.spaces is None:
        return ""
    rows = table.spaces[table.spaces["model"] == facts["name"]]
    subject = rows["subject"].iloc[0]  # the group's, where there are several people
    rows = rows[rows["subject"] == subject]
    if not rows["r2"].notna().any():
        return ""
    rows = rows[rows["region"] == rows["region"][rows["r2"].idxmax()]].set_index("space")
    place = rows.iloc[0]
    labels = short_names(facts["spaces"])
    unique = listed(_added(labels[space], rows.loc[space]) for space in facts["spaces"])
    whose = "Over people" if subject == GROUP else f"In {subject}"
    where = "the mean of all voxels" if place["region"] == WHOLE else place["region"]
    names = facts["nuisances_of_spaces"]
    nuisances = plain_names(names) if names else ""
    alone = f" ({nuisances} alone {fraction(place['r2_nuisances'])})" if nuisances else ""
    said = f"{whose} all spaces together "
    if place["r2"] <= max(0.0, place["r2_nuisances"]):
        beyond = f" beyond {nuisances}" if nuisances else ""
        return (
            f"{said}explain nothing of {where}{beyond}, and there is nothing to divide: "
            f"r² = {fraction(place['r2'])}{alone}."
        )
    said += (
        f"explain r² = {fraction(place['r2'])} of {where}{alone}; what each adds to the others: {unique}; "
        f"what two or more share: {signed(place['r2_shared'])}"
    )
    if known(place["omega"]):
        share = percent(round(max(0.0, place["omega"]), 3))
        said += f"; the others reach {share} of the r² of {labels[facts['name']]}"
    return f"{said}."


def _added(label: str, row: pd.Series) -> str:
    """What a space adds to the others, with the group's p over all regions."""
    p = f" ({probability(row['p_max'])})" if known(row["p_max"]) else ""
    return f"{label} {signed(row['unique_r2'])}{p}"


def answer(table: EncodingTable) -> tuple[str, str]:
    """(level of `figure_parts.LEVEL_COLOURS`, the answer)."""
    judged_models = verdicts(table)
    labels = short_names([judged.model for judged in judged_models])
    if all(judged.level == "untested" for judged in judged_models):
        return "untested", f"Not tested: fewer than {FEWEST} shifted recordings"
    for level, said in (("real", "Yes"), ("uncertain", "In some people")):
        models = [labels[judged.model] for judged in judged_models if judged.level == level]
        if models:
            return level, f"{said}: {listed(models)}" if len(judged_models) > 1 else said
    where = " of the regions" if table.manifest["atlas"] else ""
    return "chance", f"Not shown in any voxel{where}"


def headline(table: EncodingTable) -> str:
    """The answer, in a sentence."""
    return f"{answer(table)[1]}."
