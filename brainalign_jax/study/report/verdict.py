"""The verdict: is the alignment real, or which control explains it? In words, from `summarise`."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from brainalign_jax.study.evidence import intervals, scaling
from brainalign_jax.study.evidence.chance import LEVEL
from brainalign_jax.study.evidence.table import EvidencePlan, is_static, summarise
from brainalign_jax.study.report.wording import (
    counted,
    interval,
    known,
    listed,
    number,
    p_value,
    probability,
    short_names,
)
from brainalign_jax.study.results import ResultTable

_APART = "where words and responses do not belong together"
_FEWEST = 6  # subjects whose sign flips can reach p < .05
LEVELS = ("real", "static", "uncertain", "explained", "chance", "untested")

_ANSWERS = {
    "real": "Yes",
    "static": "Yes, but no more than static word vectors",
    "uncertain": "Not clear",
    "explained": "Not shown",
    "chance": "No",
    "untested": "Untested",
}
# By whether words are decoded: what vectors do, what is more, and what their controls do.
_SAYS = {
    True: ("find the right word", "more often", "do"),
    False: ("resemble the responses", "more", "do"),
}
_FINDS = {True: "finds the right word", False: "resembles the responses"}
_NULLS = {
    "items": "exchanging the words' vectors",
    "shift": "shifting the recording against the words",
    "blocks": "exchanging blocks of the recording",
    "noise": "noise as smooth as the recording",
}
_FOLDS = {
    "contiguous": "contiguous folds",
    "shuffled_types": "folds over drawn word types",
    "shuffled_runs": "folds over whole passages",
    "leave_run_out": "folds over whole runs",
}
_PLAIN = {
    "letters": "word length",
    "log_frequency": "frequency",
    "position_in_text": "place",
    "position_in_run": "place",
    "position_in_sentence": "place",
    "words_in_sentence": "sentence length",
    "words_per_second": "rate",
}


class Verdict(NamedTuple):
    """level: of LEVELS; text: some sentences; model, method: what it is about, "" for a whole data set.

    decodes: whether it is of words that are decoded, by a method of that name, or of a measure.
    """

    level: str
    text: str
    model: str = ""
    method: str = ""
    decodes: bool = True

    @property
    def answer(self) -> str:
        """Is the alignment real?"""
        return _ANSWERS[self.level]


def with_evidence(
    table: ResultTable, extras: dict[str, pd.DataFrame], plan: EvidencePlan, *, k: int
) -> ResultTable:
    """The table with `summarise` and `scaling.slopes` of the extras "ranks", "nulls", "ceilings"."""
    used = extras["ranks"], extras["nulls"], extras["ceilings"]
    evidence = summarise(table, *used, plan, k=k)
    slopes = scaling.slopes(table, evidence, plan, k=k)
    more = {"evidence": evidence, "scaling": slopes}
    ranked = dataclasses.replace(table, extras={"ranks": extras["ranks"]})
    more["intervals"] = intervals.by_layer(ranked, plan, k=k)
    manifest = table.manifest | {"evidence": dataclasses.asdict(plan)}
    return dataclasses.replace(table, manifest=manifest, extras={**table.extras, **extras, **more})


def verdicts(table: ResultTable) -> list[Verdict]:
    """One verdict a model and method, controls and untrained twins left out; empty without evidence."""
    evidence = tested(table)
    if evidence.empty:
        return []
    names = short_names(evidence["model"].unique()) | _features(table)
    folds = _FOLDS.get(table.manifest.get("protocol", {}).get("folds"), "these folds")
    lines = evidence[evidence["role"] == "model"]
    return [_verdict(line, names, folds) for _, line in lines.iterrows()]


def tested(table: ResultTable) -> pd.DataFrame:
    """The rows of `summarise`, and those of measures of similarity, whose k is 0; empty without evidence."""
    kinds = [table.extras.get(name) for name in ("evidence", "similarity")]
    kinds = [rows for rows in kinds if rows is not None and len(rows)]
    return (
        pd.concat(kinds, ignore_index=True)
        if kinds
        else pd.DataFrame(columns=["model", "method", "k"])
    )


def overall(table: ResultTable) -> Verdict | None:
    """The verdict of the data set: of its models and methods the one with most evidence; None without.

    By measures of similarity only where no method decodes words.
    """
    best = decisive(table)
    if best is None:
        return None
    single = [judged for judged in verdicts(table) if judged.decodes == best.decodes]
    line = evidence_of(table, best)
    count = sum(judged.level == best.level for judged in single)
    dataset, controlled = line["dataset"], known(line.get("control_score"))
    does, more, do = _SAYS[best.decodes]
    beyond = f"On {dataset} the model's vectors {does} {more} than {_APART}"
    and_controls = f", and {more} than its controls {do}"
    and_controls = and_controls if controlled else "; no control was scored"
    opening = {
        "real": beyond + and_controls,
        "static": beyond + and_controls,
        "uncertain": f"{beyond}, but the evidence is thin",
        "explained": f"{beyond}, but a control does as well",
        "chance": f"On {dataset} nothing {_FINDS[best.decodes]} {more} than {_APART}",
        "untested": f"On {dataset} no {'p' if line['n_draws'] > 0 else 'null'} was computed",
    }[best.level]
    of = f" ({count} of {len(single)} combinations of model and method)" * (len(single) > 1)
    return Verdict(best.level, f"{opening}{of}. {best.text}")


def decisive(table: ResultTable) -> Verdict | None:
    """The single verdict that `overall` is about: of the most evidence, then of the highest score."""
    single = verdicts(table)
    decoding = any(judged.decodes for judged in single)
    single = [judged for judged in single if judged.decodes == decoding]
    return max(
        single,
        key=lambda judged: (-LEVELS.index(judged.level), evidence_of(table, judged)["score"]),
        default=None,
    )


def evidence_of(table: ResultTable, judged: Verdict) -> pd.Series:
    """The row of `tested` that a single verdict is about."""
    rows = tested(table)
    rows = rows[(rows["model"] == judged.model) & (rows["method"] == judged.method)]
    return rows[(rows["k"] > 0) == judged.decodes].iloc[0]


def _verdict(line: pd.Series, names: dict[str, str], folds: str) -> Verdict:
    k, name = int(line["k"]), f"{names[line['model']]} by {line['method']}"
    label = f"P@{k}" if k else "similarity"
    score = f"{label} {number(line['score'])} {interval(line['lower'], line['upper'])}".rstrip()
    who = line["model"], line["method"], k > 0
    if not known(line["p"]):
        chance = f", chance {number(line['chance'])}" if known(line["chance"]) else ""
        why = "without nulls this proves nothing"
        if not known(line["score"]):
            why = "a score that is no number proves nothing"
        elif line["n_draws"] > 0:
            why = "in some layers or draws it is no number, so that there is no p, and this proves nothing"
        return Verdict("untested", f"{name}: {score}{chance}; {why}.", *who)
    nested = line["selection"] == "inner folds"
    p = probability(line["p"]) + " for the best layer" * nested
    if known(line["p_fdr"]) and p_value(line["p_fdr"]) != p_value(line["p"]):
        p += f", {p_value(line['p_fdr'])} over all models"
    null = f"{_NULLS[line['null']]} gives {number(line['null_mean'])}"
    n_draws = int(line["n_draws"])
    if line["p_fdr"] >= LEVEL:
        if line["p"] <= 1 / (1 + n_draws):
            text = (
                f"{name}: {score} exceeds all {n_draws} null draws ({null}), but so few draws cannot tell: "
                f"{p}. Draw more."
            )
            return Verdict("uncertain", text, *who)
        if line["p"] < LEVEL:
            text = (
                f"{name}: {score} exceeds its null ({null}) by itself, but not for one of so many models "
                f"and methods: {p}. More draws, subjects or words would tell."
            )
            return Verdict("uncertain", text, *who)
        text = (
            f"{name}: {score} is within its null, {null} ({p}, {n_draws} draws). "
            "There is no evidence of alignment."
        )
        return Verdict("chance", text, *who)
    if nested and line["score"] <= line["null_high"]:
        text = (
            f"{name}: a layer exceeds its null ({p}), but {score}, of the layers chosen without the tested "
            f"words, does not ({null}, {number(line['null_high'])} at the upper end)."
        )
        return Verdict("uncertain", text, *who)
    beyond = f"exceeds its null at {p}" + f" under {folds}" * (k > 0)
    against = "No nuisance control was scored."
    if known(line["control_score"]):
        compared = _compared(line, "control", names)
        if not line["control_lower"] > 0 and line["control_score"] <= line["null_high"]:
            text = (
                f"{name}: {score} {beyond} ({null}), but the difference to the strongest control is too "
                f"uncertain: {compared}. More subjects or words would tell."
            )
            return Verdict("uncertain", text, *who)
        if not line["control_lower"] > 0:
            text = (
                f"{name}: {score} {beyond} ({null}), but not the strongest control: {compared}. "
                "What that control knows is enough to explain the score."
            )
            return Verdict("explained", text, *who)
        against = f"It exceeds the strongest control: {compared}."
    text = (
        f"{name}: the alignment of layer {int(line['layer'])} {beyond}: {score}; {null}. {against}"
    )
    level = "real"
    if known(line["static_score"]):
        compared = _compared(line, "static", names)
        if line["static_lower"] > 0:
            text += f" It exceeds static vectors, too: {compared}."
        else:
            level = "static"
            text += f" It does not exceed static vectors: {compared}."
    if known(line["calibrated"]) and line["calibrated"] > 1:
        text += (
            f" It is above what the other subjects' responses reach in its place, {number(line['ceiling'])}, "
            "which bounds the noise ceiling from below alone."
        )
    elif known(line["calibrated"]):
        text += (
            f" That is {line['calibrated']:.0%} of the way from the null to what the other subjects' "
            f"responses reach ({number(line['ceiling'])})."
        )
    return Verdict(level, text, *who)


def _compared(line: pd.Series, kind: str, names: dict[str, str]) -> str:
    difference = "difference"
    if abs(line["score"] - line[f"{kind}_score"] - line[f"{kind}_difference"]) > 1e-6:
        difference += " of what exceeds the null of each"
    return (
        f"{describe(line[kind], names)} {number(line[f'{kind}_score'])}, {difference} "
        f"{number(line[f'{kind}_difference'])} "
        f"{interval(line[f'{kind}_lower'], line[f'{kind}_upper'])}"
    ).rstrip()


def _features(table: ResultTable) -> dict[str, str]:
    """name of a nuisance control -> the features that these words have, as its vectors were made of."""
    models = table.manifest.get("models") or ()
    models = [model for model in models if isinstance(model, dict) and model.get("features")]
    return {
        model["name"]: listed([_PLAIN.get(x, x) for x in model["features"]]) for model in models
    }


def describe(name: str, names: dict[str, str]) -> str:
    """A control in words. names: model -> its short name; nuisance control -> what it knows, if recorded."""
    kind, _, rest = name.partition(":")
    if kind == "nuisance":
        if rest.startswith("autocorrelated"):
            return "a smooth sequence that knows only the words' places"
        what = names.get(name, name)
        if what == name:
            what = "length, frequency, place and rate" if rest == "all" else rest
        return f"nuisance features alone ({what})"
    if is_static(name):
        return names.get(name, name) if kind == "static" else rest
    return f"the same architecture with random weights ({names.get(name, name)})"


def signatures(tables: Sequence[ResultTable]) -> list[str]:
    """The failure signatures of Li et al. 2023 in the results of one or several data sets, in words.

    Low scores (there: precision) on all data sets, families that disagree about size, and scores that fall
    with size.
    """
    texts = []
    judged = [(table, overall(table)) for table in tables]
    judged = [(table, verdict) for table, verdict in judged if verdict is not None]
    if judged and all(verdict.level == "chance" for _, verdict in judged):
        names = ", ".join(str(table.rows["dataset"].iloc[0]) for table, _ in judged)
        texts.append(f"Low scores everywhere: no score exceeds its null on {names}.")
    for table, _ in judged:
        slopes = table.extras.get("scaling")
        if slopes is None or slopes.empty:
            continue
        dataset = str(table.rows["dataset"].iloc[0])
        for method, part in slopes[slopes["quantity"] == "score"].groupby("method", sort=False):
            families = part[~part["scope"].isin(("within", "across"))]
            falls = (families["upper"] < 0) & (families["p"] < LEVEL)
            grows = (families["lower"] > 0) & (families["p"] < LEVEL)
            for _, line in families[falls].iterrows():
                texts.append(
                    f"Scores fall with size: on {dataset} by {method}, {line['scope']} loses "
                    f"{number(-line['slope'])} per tenfold parameters "
                    f"{interval(-line['upper'], -line['lower'])}."
                )
            rising, falling = families.loc[grows, "scope"], families.loc[falls, "scope"]
            if len(rising) and len(falling):
                texts.append(
                    f"Families disagree: on {dataset} by {method}, scores grow with size in "
                    f"{', '.join(rising)} and fall in {', '.join(falling)}."
                )
    return texts


def scaling_text(table: ResultTable) -> list[str]:
    """What the slopes on model size say, one sentence a method; empty where there are no two sizes.

    A slope counts where its interval excludes zero and so do the sign flips of the subjects' slopes: an
    interval over few subjects is too narrow, and fewer than six can show nothing at p < .05.
    """
    slopes = table.extras.get("scaling")
    if slopes is None or slopes.empty:
        return []
    sentences = []
    evidence = table.extras.get("evidence")
    k = "k" if evidence is None or evidence.empty else int(evidence["k"].iloc[0])
    for method, part in slopes.groupby("method", sort=False):
        by = part.set_index(["scope", "quantity"])
        scope = "within" if ("within", "score") in by.index else "across"
        line = by.loc[(scope, "score")]
        text = (
            f"By {method}, P@{k} changes by {number(line['slope'])} "
            f"{interval(line['lower'], line['upper'])} per tenfold parameters "
            f"({'within families' if scope == 'within' else 'over all models'})"
        )
        controls = [q for q in ("calibrated", "untrained") if (scope, q) in by.index]
        told = line["p"] < LEVEL
        survived = told and line["lower"] > 0
        for quantity in controls:
            other = by.loc[(scope, quantity)]
            label = (
                "calibrated by null and ceiling" if quantity == "calibrated" else "untrained twins"
            )
            text += (
                f"; {label}: {number(other['slope'])} {interval(other['lower'], other['upper'])}"
            )
            survived &= (
                other["lower"] > 0 if quantity == "calibrated" else (line["lower"] > other["slope"])
            )
        if told and line["upper"] < 0:
            verdict = "it falls with size"
        elif not (told and line["lower"] > 0):
            n = int(line["n_subjects"])
            why = f" (with {counted(n, 'subject')} it cannot be: it takes {_FEWEST})"
            verdict = "growth with size is not shown" + why * (n < _FEWEST)
        elif not controls:
            verdict = "it grows with size, and nothing was there to control it"
        else:
            verdict = f"the growth {'survives' if survived else 'does not survive'} its controls"
        sentences.append(f"{text}: {verdict}.")
    return sentences
