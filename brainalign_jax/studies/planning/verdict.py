"""What a plan says, in plain words: how many people of how many words, and what that rests on."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from brainalign_jax.studies.planning.power import LEAST_PEOPLE
from brainalign_jax.studies.planning.table import MOST_PEOPLE, PlanTable
from brainalign_jax.study.report.wording import (
    counted,
    fraction,
    interval,
    known,
    number,
    percent,
    signed,
)

ANSWERS = {
    "planned": "It can be planned",
    "too far": "No number of people up to a thousand reaches it",
    "nothing": "Nothing can be planned from this pilot",
}
LEVELS = {"planned": "real", "too far": "explained", "nothing": "chance"}
_SMALL = 12  # people of a pilot below which its effect is said to be loosely known


def answer(table: PlanTable) -> tuple[str, str]:
    """(level of the page's colours, the answer)."""
    kind = _kind(table)
    return LEVELS[kind], ANSWERS[kind]


def headline(table: PlanTable) -> str:
    """How many people of how many words, in a sentence."""
    wanted, kind = table.manifest["plan"]["power"], _kind(table)
    if kind == "nothing":
        pilot = table.manifest["pilot"]
        doubt = f", and {pilot['doubt']}" if pilot.get("doubt") else ""
        return (
            f"{ANSWERS[kind]}: it does not show the effect, {signed(pilot['effect'])} "
            f"{interval(pilot['lower'], pilot['upper'])}{doubt}. Give an effect that would matter "
            "(--effect), or a larger pilot."
        )
    if kind == "too far":
        return f"{ANSWERS[kind]}: {percent(wanted)} power is out of reach with the words asked for."
    line = _own_words(table)
    text = (
        f"For {percent(wanted)} power you need {_people(line)} of {line['n_words']:,.0f} words"
        f"{_repetitions(line)}{_minutes(line)}."
    )
    beyond = _beyond_reach(table)
    return f"{text} {beyond}" if beyond else text


def texts(table: PlanTable) -> list[str]:
    """What is needed at every number of words, then what the plan rests on, and what to beware of."""
    said = []
    if table.can_be_planned:
        said = [_needed(line) for _, line in table.needed.iterrows()]
        said.append(_agreement(table))
    return [*filter(None, said), *_basis(table), *_cautions(table), *table.manifest["notes"]]


def _kind(table: PlanTable) -> str:
    if not table.can_be_planned:
        return "nothing"
    return "planned" if table.needed["n_people"].notna().any() else "too far"


def _own_words(table: PlanTable) -> pd.Series:
    """The line of the number of words that is nearest to the pilot's, of those with enough people."""
    lines = table.needed[table.needed["n_people"].notna()]
    n_pilot = table.manifest["pilot"]["n_words"]
    order = np.abs(np.log(lines["n_words"].to_numpy(float) / n_pilot))
    order = order + np.abs(np.log(lines["repetitions"].to_numpy(float)))
    return lines.iloc[int(order.argmin())]


def _people(line: pd.Series) -> str:
    low, high = line["n_people_low"], line["n_people_high"]
    count = counted(int(line["n_people"]), "people").replace("peoples", "people")
    low_text = f"{low:,.0f}" if known(low) else f"{MOST_PEOPLE:,}"
    high_text = f"{high:,.0f}" if known(high) else f"more than {MOST_PEOPLE:,}"
    return f"{count} ({low_text} to {high_text} by the pilot's own error)"


def _repetitions(line: pd.Series) -> str:
    times = line["repetitions"]
    return "" if times == 1 else f", each {times:g} times as often as in the pilot"


def _minutes(line: pd.Series) -> str:
    return f" ({line['minutes']:.0f} minutes)" if known(line["minutes"]) else ""


def _needed(line: pd.Series) -> str:
    place = f"{line['n_words']:,.0f} words{_repetitions(line)}{_minutes(line)}"
    if not known(line["n_people"]):
        return f"{place}: more than {MOST_PEOPLE:,} people."
    return f"{place}: {_people(line)}."


def _beyond_reach(table: PlanTable) -> str:
    """With how many people no number of words is enough."""
    plan, limits = table.manifest["plan"], table.manifest["limits"]
    short = [int(n) for n, power in limits.items() if power < plan["power"]]
    if not short:
        return ""
    most = max(short)
    if table.rows.loc[table.rows["n_people"] == most, "power"].max() >= plan["power"]:
        return ""  # by more repetitions
    return f"With {most} people no number of words reaches it (power {fraction(limits[str(most)])} at most)."


def _agreement(table: PlanTable) -> str:
    rows = table.rows[table.rows["simulated"].notna()]
    if rows.empty:
        return ""
    gaps = (rows["power"] - rows["simulated"]).abs()
    worst = rows.loc[gaps.idxmax()]
    return (
        f"Of {table.manifest['plan']['n_simulations']} simulated studies of each setting, tested as the "
        f"package does ({worst['tested_by']}), as many find it but for {fraction(gaps.max())} at most "
        f"({worst['n_people']} people, {worst['n_words']:,} words) and {fraction(gaps.mean())} in the mean."
    )


def _basis(table: PlanTable) -> list[str]:
    pilot, plan = table.manifest["pilot"], table.manifest["plan"]
    row = table.rows.iloc[0]
    effect = pilot["effect"]
    said = [
        f"{row['dataset']}, {row['model']}, {row['method']}: {row['what']}. The pilot of "
        f"{pilot['n_people']:.0f} people and {pilot['n_words']:,.0f} words has {signed(effect)} "
        f"{interval(pilot['lower'], pilot['upper'])}; people differ by "
        f"{number(math.sqrt(pilot['between']))}, a word by "
        f"{number(math.sqrt(pilot['words']))} in all people and by "
        f"{number(math.sqrt(pilot['noise']))} in each (standard deviations)."
    ]
    if plan["effect"] is not None:
        said.append(f"It is planned for a given effect of {number(plan['effect'])}.")
    sizes = pilot["sizes"]
    if len(sizes) > 1:
        half_words = pilot["half_words"]
        if half_words < 0.5:
            grows, curve = "does not grow", "it is taken to be the same for any number"
        elif half_words <= max(sizes):
            grows, curve = "grows", f"half of its limit at {half_words:,.0f} words"
        else:
            grows, curve = (
                "grows",
                "no limit in sight, so that more words than the pilot's are a guess",
            )
        effects = ", ".join(
            f"{signed(effect)} of {size:,} words"
            for effect, size in zip(pilot["effects"], sizes, strict=True)
        )
        said.append(f"The effect {grows} with words: {effects}; {curve}.")
    else:
        said.append(
            "The effect is taken to be the same for any number of words; one pilot does not say how it grows "
            "with them. It is too large for fewer words, and too small for more, where maps are trained."
        )
    return said


def _cautions(table: PlanTable) -> list[str]:
    pilot, plan = table.manifest["pilot"], table.manifest["plan"]
    said = []
    if plan["effect"] is None and table.can_be_planned:
        small = f"a pilot of {pilot['n_people']:.0f} people is small, and " * (
            pilot["n_people"] < _SMALL
        )
        said.append(
            f"The effect is the pilot's: {small}one that is planned from because it came out well is too "
            "large on average. Plan for the lower end of the interval, or for the smallest effect that would "
            "matter (--effect)."
        )
    if plan["test"] in ("gap", "ablation") and not pilot["noise"] > 0:
        said.append(
            "No noise is told from people and words in the pilot's table: all that people differ by is taken "
            "to be theirs, and noise beside it to be the words'. More words and more people then help less "
            "here than they may, and fewer cost more than is said (--stable_share)."
        )
    fewer = table.rows["n_words"].min() < min(pilot["sizes"])
    if plan["test"] in ("gap", "ablation") and fewer and table.can_be_planned:
        said.append(
            "With fewer words than a pilot's, maps are fitted on fewer, and scores vary more than by so many "
            "words fewer: power there is lower than is said."
        )
    if plan["test"] == "score":
        said.append(
            "The test is of the mean of the people who took part against null draws of the words: that other "
            "people would show it is not what it says, however few are enough. Nor does it ask whether the "
            "score exceeds controls (an untrained twin, word length), which takes more people and words."
        )
    if plan["test"] == "ablation":
        said.append(
            f"With fewer than {LEAST_PEOPLE} people signs are flipped over words, which speaks of these "
            f"people alone: {LEAST_PEOPLE} are needed at least."
        )
    if plan["test"] in ("layers", "size", "ablation") and pilot["words"] > 0:
        said.append(
            "The test is over people, of the words that they read: that other words would show the same is "
            "not what it says."
        )
    return said
