"""What a region encoding shows, in plain words: what the model adds to the nuisances, region by region."""

from typing import NamedTuple

import pandas as pd

from brainalign_jax.studies.regions.table import RegionTable
from brainalign_jax.study.evidence.chance import LEVEL
from brainalign_jax.study.report.wording import (
    fraction,
    listed,
    plain_names,
    probability,
    signed,
)


class RegionVerdict(NamedTuple):
    """part, region; survives: beside the first set of nuisances, survives_all: beside the larger one
    as well; text: the sentences."""

    part: str
    region: str
    survives: bool
    survives_all: bool
    text: str


def verdicts(table: RegionTable) -> list[RegionVerdict]:
    """One verdict a part and region, in the table's order.

    A model survives nuisances where what it adds to them exceeds the largest of the part's regions in
    the shifted recordings at p < .05, the interval over subjects excludes zero, and model and nuisances
    together predict better than nothing, again by the interval over subjects.
    """
    model, sets = table.manifest["model"], [tuple(s) for s in table.manifest["compared_with"]]
    twin = "untrained:" + model
    few, many = sets[0], sets[-1]
    judged = []
    for part, region in table.group("ceiling").index:

        def row(metric, names, model=model, place=(part, region)):
            rows = table.group(metric, model=model, nuisances="+".join(names))
            return rows.loc[place] if place in rows.index else None

        first, last = row("unique_r", few), row("unique_r", many)
        survives = _exceeds(first, row("r", few))
        survives_all = survives and _exceeds(last, row("r", many))
        name = table.manifest["regions"].get(region, region)
        where = f"In {name} ({region}, {part})" if name != region else f"In {region} ({part})"
        unclear = not survives and first["p_max"] < LEVEL
        verb = "adds to" if survives else "may add to" if unclear else "adds nothing to"
        text = [f"{where} the language model {verb} {plain_names(few)} ({_change(first)})."]
        if survives:
            if first is not last:
                text.append(
                    f"It {'adds to' if survives_all else 'adds nothing to'} them where "
                    f"{plain_names([n for n in many if n not in few])} are known too "
                    f"({_change(last)})."
                )
            more = row("unique_r_over_untrained", few)
            if more is not None:
                other = row("unique_r", few, twin)
                beats = more["p_max"] < LEVEL and more["low"] > 0
                text.append(
                    f"That is {'more than' if beats else 'not clearly more than'} its untrained twin "
                    f"adds (Δr = {signed(other['value'])}; {probability(more['p_max'])})."
                )
        elif unclear:
            text.append(
                "More than the shifted recordings give, but an interval over subjects holds zero: it is "
                "not counted as surviving."
            )
        alone, base = row("r", ()), row("r", few, "")
        text.append(
            f"Alone, {plain_names(few)} reach r = {fraction(base['value'])} "
            f"({probability(base['p_max'])}) and the language model r = {fraction(alone['value'])} "
            f"({probability(alone['p_max'])}), where the other listeners' mean reaches "
            f"{fraction(row('ceiling', (), '')['value'])}."
        )
        judged.append(
            RegionVerdict(part, region, bool(survives), bool(survives_all), " ".join(text))
        )
    return judged


def headline(table: RegionTable) -> str:
    """What survives, in one or two sentences a part."""
    sets = table.manifest["compared_with"]
    texts = []
    for part in table.manifest["parts"]:
        of_part = [judged for judged in verdicts(table) if judged.part == part]
        kept = [judged.region for judged in of_part if judged.survives]
        both = [judged.region for judged in of_part if judged.survives_all]
        text = f"{part}: beside {plain_names(sets[0])}, the language model explains " + (
            f"{len(kept)} of {len(of_part)} regions ({listed(kept)})" if kept else "no region"
        )
        if not kept:
            text += f" of {len(of_part)}"
        if kept and len(sets) > 1:
            text += f"; beside {plain_names(sets[-1])}, " + (
                "the same" if both == kept else listed(both) if both else "none"
            )
        texts.append(text + ".")
    return " ".join(texts)


def answer(table: RegionTable) -> tuple[str, str]:
    """(level of `figure_parts.LEVEL_COLOURS`, the answer): where the model survives in every part."""
    judged = verdicts(table)
    names, parts = table.manifest["regions"], table.manifest["parts"]
    kept = [
        {verdict.region for verdict in judged if verdict.part == part and verdict.survives}
        for part in parts
    ]
    if not any(kept):
        return "chance", "Not shown in any region"
    regions = list(dict.fromkeys(verdict.region for verdict in judged))
    everywhere = [names.get(r, r) for r in regions if all(r in survivors for survivors in kept)]
    if not everywhere:
        some = [part for part, regions_of in zip(parts, kept, strict=True) if regions_of]
        return "uncertain", f"Not clear: in different regions of {listed(some)}"
    return "real", f"Yes, in {len(everywhere)} of {len(regions)} regions: {listed(everywhere)}"


def _exceeds(unique: pd.Series, joint: pd.Series) -> bool:
    return bool(unique["p_max"] < LEVEL and unique["low"] > 0 and joint["low"] > 0)


def _change(row: pd.Series) -> str:
    return (
        f"Δr = {signed(row['value'])}, 95 % interval {signed(row['low'])} to {signed(row['high'])}, "
        f"{probability(row['p_max'])}"
    )
