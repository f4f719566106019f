"""What a generalisation study shows, in plain words: whether it holds beyond what it was fitted on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from brainalign_jax.studies.generalisation.table import (
    ALL,
    GAP,
    GeneralisationTable,
    of_rule,
    verdict_rule,
)
from brainalign_jax.studies.options import JOINT
from brainalign_jax.study.evidence.chance import LEVEL
from brainalign_jax.study.outputs import rows_with
from brainalign_jax.study.report.judged import Judged, by_answer, labelled_pairs
from brainalign_jax.study.report.wording import (
    counted,
    interval,
    listed,
    number,
    probability,
    signed,
)
from brainalign_jax.study.results import GROUP, SELECTED

CHANCE = 0.5
_LEAST_CEILING = 0.05  # above chance, by which a score can be divided
# Answer -> level of `page.COLOURS`.
LEVELS = {
    "holds": "real",
    "in part": "explained",
    "conditions": "explained",
    "ends": "chance",
    "nothing": "chance",
    "unclear": "uncertain",
    "untested": "untested",
}
ANSWERS = {
    "holds": "Yes: as far as can be told, it holds beyond what it was fitted on",
    "in part": "In part: some of it holds, some is lost",
    "conditions": "Not shown of words: what holds may be that conditions are told apart, and no words",
    "ends": "No: it ends where training ends",
    "nothing": "There is nothing to generalise: held-out words of the same condition are not decoded",
    "unclear": "Not clear",
    "untested": "Not tested: fewer than 20 draws in which words exchange their conditions",
}


def verdicts(table: GeneralisationTable) -> list[Judged]:
    """One verdict a model and method, at the layer that the training words choose, by rank accuracy.

    "nothing": in no condition is decoding within it above chance by the interval over people and words.
    Else a gap, of all conditions or of one tested (whose p is multiplied by their number), is shown where its
    p is below .05 and its interval above zero; with such a p and zero in the interval it is unclear. What is
    fitted across conditions holds in every cell, in some or in none by the interval above chance. With both
    rules of candidates the answer is by the condition's, and the text says what joint ones say beside it.
    With joint ones alone what holds, or does in part, is "conditions" unless the interval of every cell is
    above what a map reaches that tells conditions apart and no words.
    """
    return [_verdict(table, *pair) for pair in labelled_pairs(table.rows)]


def headline(table: GeneralisationTable) -> str:
    """The answer of all models and methods in a sentence."""
    judged = verdicts(table)
    answer = _common(judged)
    text, answers = f"{ANSWERS[answer]}.", by_answer(judged)
    if len(answers) > 1:
        listed = "; ".join(f"{name}: {' and '.join(who)}" for name, who in answers.items())
        text = f"{ANSWERS[answer]}. The methods differ: {listed}."
    return text


def explanation(table: GeneralisationTable) -> str:
    """What the answer means, or how models and methods differ; with the mean rank accuracies."""
    judged = verdicts(table)
    rows = [chosen_lines(table, verdict.model, verdict.method) for verdict in judged]
    cells = pd.concat(rows)
    cells = cells[cells["trained_on"] != ""]
    same = cells["trained_on"] == cells["tested_on"]
    means = (
        f"Rank accuracy is {number(cells.loc[same, 'value'].mean())} within conditions and "
        f"{number(cells.loc[~same, 'value'].mean())} across, chance {CHANCE}."
    )
    text = headline(table).removeprefix(f"{ANSWERS[_common(judged)]}.").strip()
    return f"{text or _PLAIN[judged[0].answer] + '.'} {means}"


def can_be_shown(n_nulls: int) -> bool:
    """Whether the smallest p of so many draws is below the level."""
    return 1 / (1 + n_nulls) < LEVEL


def matching(table: GeneralisationTable) -> str:
    """What the tested words were matched by, and how far conditions lie apart; "" where they were not."""
    manifest = table.manifest
    if not manifest.get("matching"):
        return ""
    by_variable: dict[str, list[dict]] = {}
    for row in manifest["matching"]["balance"]:
        by_variable.setdefault(row["variable"], []).append(row)
    said = listed(
        f"{variable} from {_furthest(rows, 'before')} to {_furthest(rows, 'after')}"
        for variable, rows in by_variable.items()
    )
    tested = counted(manifest["matching"]["n_sets"], f"matched {manifest['matching']['of'][:-1]}")
    return (
        f"{tested} of each condition are tested, and the others trained on alone; matching brings the "
        f"difference of the conditions' means in {said} standard deviations."
    )


def scaling(table: GeneralisationTable) -> list[str]:
    """Whether the gap grows with model size, a sentence a method and scope; empty for one size."""
    return [slope_text(line, "the gap") for line in table.manifest.get("scaling", [])]


def slope_text(line: dict, what: str) -> str:
    """A slope of `size_slopes` in a sentence."""
    scopes = {"across": "across all models", "within": "within families"}
    return (
        f"{line['method']}: per tenfold parameters ({scopes.get(line['scope'], line['scope'])}, "
        f"{counted(line['n_models'], 'model')}) {what} changes by {signed(line['slope'])} "
        f"{interval(line['lower'], line['upper'])}, {probability(line['p'])}."
    )


def _furthest(rows: Sequence[dict], when: str) -> str:
    return number(max((row[when] for row in rows), key=abs))


def answer(table: GeneralisationTable) -> tuple[str, str]:
    """(level of `page.COLOURS`, the answer) of all models and methods."""
    common = _common(verdicts(table))
    return LEVELS[common], ANSWERS[common]


def share_of_ceiling(values: pd.Series, ceilings: pd.Series) -> pd.Series:
    """Rank accuracies as shares of their ceilings, both above chance; NaN where a ceiling is hardly above."""
    reach = ceilings - CHANCE
    return (values - CHANCE) / reach.where(reach > _LEAST_CEILING)


def chosen_lines(
    table: GeneralisationTable,
    model: str,
    method: str,
    subject: str = GROUP,
    *,
    rule: str | None = None,
) -> pd.DataFrame:
    """Rows of rank accuracy and its gaps at the layer that the training words choose.

    rule: of candidates; the verdict's if not given.
    """
    rows = of_rule(table, rule)
    rows = rows_with(rows, model=model, method=method, subject=subject, layer=SELECTED)
    return rows[rows["metric"].isin(["rank_accuracy", GAP + "rank_accuracy"])]


def _common(judged: Sequence[Judged]) -> str:
    """The answer that all give that decode anything; else that it is not clear."""
    answers = {verdict.answer for verdict in judged if verdict.answer != "nothing"}
    if not answers:
        return "nothing"
    return answers.pop() if len(answers) == 1 else "unclear"


class _Judged(NamedTuple):
    """What the lines of one rule of candidates say.

    conclusion: of ANSWERS. within, across: means of the cells; above: whether words are told apart in some
    cell within; words_apart: whether those of one condition must be, in every cell, where candidates are of
    all. gaps: their lines.
    """

    conclusion: str
    within: float
    across: float
    above: bool
    words_apart: bool
    gaps: pd.DataFrame

    @property
    def gap(self) -> pd.Series:
        """The line of all conditions."""
        return self.gaps[self.gaps["tested_on"] == ALL].iloc[0]

    def means(self) -> str:
        gap = self.gap
        return (
            f"rank accuracy within conditions {number(self.within)}, across {number(self.across)} (chance "
            f"{CHANCE}); the gap is {number(gap['value'])} {interval(gap['lower'], gap['upper'])}, "
            f"{probability(gap['p'])}"
        )


def _judged(table: GeneralisationTable, model: str, method: str, rule: str) -> _Judged:
    rows = chosen_lines(table, model, method, rule=rule)
    cells = rows[rows["trained_on"] != ""]
    gaps = rows[rows["trained_on"] == ""]
    tests = np.where(gaps["tested_on"] == ALL, 1, len(gaps) - 1)
    unlikely = gaps["p"] * tests < LEVEL
    within = cells[cells["trained_on"] == cells["tested_on"]]
    across = cells[cells["trained_on"] != cells["tested_on"]]
    carried = (across["lower"] > CHANCE).to_numpy()
    words_apart = rule == JOINT and bool((cells["lower"] > _conditions_alone(table)).all())
    above = bool((within["lower"] > CHANCE).any())
    if not above:
        conclusion = "nothing"
    elif not can_be_shown(table.manifest["plan"]["n_nulls"]):
        conclusion = "untested"
    elif (unlikely & (gaps["lower"] > 0)).any():
        conclusion = "in part" if carried.any() else "ends"
    elif carried.all() and not unlikely.any():
        conclusion = "holds"
    else:
        conclusion = "unclear"
    means = within["value"].mean(), across["value"].mean()
    return _Judged(conclusion, *means, above, words_apart, gaps)


def _verdict(table: GeneralisationTable, model: str, method: str, label: str) -> Judged:
    rule = verdict_rule(table.manifest)
    judged = _judged(table, model, method, rule)
    among = f", among {_all_candidates(table)}" if rule == JOINT else ""
    said = [f"{method}, {label}{among}: {judged.means()}."]
    if np.isfinite(judged.gap["ceiling"]):
        said.append(
            f"By the other people's responses in place of the model it is {number(judged.gap['ceiling'])}."
        )
    for _, line in judged.gaps[judged.gaps["tested_on"] != ALL].iterrows():
        said.append(
            f"Tested on {line['tested_on']}: {number(line['value'])} "
            f"{interval(line['lower'], line['upper'])}, {probability(line['p'])}."
        )
    said.append(f"{_PLAIN[judged.conclusion]}.")
    conclusion = judged.conclusion
    if rule == JOINT:
        reached = number(_conditions_alone(table))
        reached = f"A map that tells conditions apart, and no words, reaches {reached}"
        if judged.words_apart:
            said.append(f"{reached}, and every cell is above it.")
        else:
            said.append(
                f"{reached}: --candidates=condition,joint shows whether words are told apart."
            )
            conclusion = "conditions" if conclusion in ("holds", "in part") else conclusion
    elif JOINT in table.manifest["plan"].get("candidates", ()):
        said.append(_beside(table, judged, _judged(table, model, method, JOINT)))
    return Judged(model, method, conclusion, " ".join(said))


def _beside(table: GeneralisationTable, judged: _Judged, joint: _Judged) -> str:
    """What candidates of all conditions say beside those of the tested one, and where they differ."""
    said = f"Among {_all_candidates(table)}: {joint.means()}. "
    if joint.above and not judged.above:
        return said + (
            "There words are told from those of other conditions, and not shown to be told from those of "
            "their own: the map may tell conditions apart, and no words."
        )
    if joint.conclusion == "untested":
        return said.strip()
    if joint.conclusion == judged.conclusion:
        return f"{said}That says the same."
    plain = _PLAIN[joint.conclusion]
    return f"{said}That says otherwise: {plain[0].lower()}{plain[1:]}."


def _all_candidates(table: GeneralisationTable) -> str:
    cells, conditions = table.manifest["cells"], table.manifest["conditions"]
    return f"{cells['n_candidates'] * len(conditions)} held-out words, as many of each condition"


def _conditions_alone(table: GeneralisationTable) -> float:
    """The rank accuracy among joint candidates of a map that knows the condition of each, and no more."""
    n = table.manifest["cells"]["n_candidates"]
    return 1 - (n - 1) / 2 / (n * len(table.manifest["conditions"]) - 1)


_PLAIN = {
    "holds": "No loss is shown, and every condition is decoded after training on the others; a loss up to "
    "the interval's end is not excluded",
    "in part": "What is fitted on one condition decodes words of another, but fewer",
    "conditions": "Words were looked for among those of all conditions alone, where a map that only tells "
    "conditions apart scores as well",
    "ends": "What is fitted on one condition does not decode the words of another",
    "nothing": "Within a condition held-out words are not told apart",
    "unclear": "Neither a loss is shown beyond doubt, nor that there is none and every condition is decoded "
    "after training on the others",
    "untested": "Whether the gap is more than chance was not tested",
}
