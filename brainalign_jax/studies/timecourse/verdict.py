"""What a study over time shows, in plain words: from when to when which layers are found, in which order."""

from __future__ import annotations

import numpy as np
import pandas as pd

from brainalign_jax.studies.timecourse.latency import FEWEST_LAYERS, span_of
from brainalign_jax.studies.timecourse.table import TimeCourseTable
from brainalign_jax.study.evidence.chance import LEVEL
from brainalign_jax.study.report.judged import Judged, labelled_pairs
from brainalign_jax.study.report.wording import (
    counted,
    fraction,
    listed,
    number,
    probability,
)
from brainalign_jax.study.results import GROUP

FEWEST_DRAWS = 20  # of fewer none can give a p below LEVEL: the smallest is 1 / (1 + draws)
_LISTED = 8  # layers that a sentence says the times of
METRICS = ("rank_accuracy", "rsa", "encoding_r")  # what is judged, one a method
NAMES = {
    "rank_accuracy": "rank accuracy",
    "rsa": "correlation of RDMs",
    "encoding_r": "r of predicted channels",
}
LEVELS = {
    "found": "real",
    "before": "uncertain",
    "picked": "chance",
    "chance": "chance",
    "untested": "untested",
}
ANSWERS = {
    "found": "Yes",
    "before": "Yes, but before the word as well",
    "picked": "Not shown: no window is above what chance gives in the best of all models",
    "chance": "Not shown: no window is above what chance gives",
    "untested": f"Not tested: fewer than {FEWEST_DRAWS} draws",
}


def verdicts(table: TimeCourseTable) -> list[Judged]:
    """One verdict a model and method. "found": the group's scores of some window and layer are above those
    that the largest of all windows and layers has in the draws; "before": of a window before the onset, too.
    """
    return [_verdict(table, *pair) for pair in labelled_pairs(table.peaks)]


def headline(table: TimeCourseTable) -> str:
    """The answer by the first method in a sentence; of several models corrected for taking the best."""
    best = _best(table)
    return f"{ANSWERS[best.answer]}. {best.text}"


def answer(table: TimeCourseTable) -> tuple[str, str]:
    """(level of `page.COLOURS`, the answer) by the first method."""
    best = _best(table)
    return LEVELS[best.answer], ANSWERS[best.answer]


def _best(table: TimeCourseTable) -> Judged:
    """The verdict of the model that is least likely by chance; where there are several, that is no answer of
    its own: each is "picked" unless it is above the largest of all models in the draws."""
    judged = [verdict for verdict in verdicts(table) if verdict.method == first_method(table)]
    p_models = table.manifest.get("p_models", {})

    def p_of(verdict: Judged) -> float:
        return p_models.get(f"{verdict.model}, {verdict.method}", np.nan)

    if len(judged) > 1:
        judged = [_over_models(verdict, p_of(verdict), len(judged)) for verdict in judged]
    return min(judged, key=lambda verdict: (list(ANSWERS).index(verdict.answer), p_of(verdict)))


def _over_models(verdict: Judged, p: float, n_models: int) -> Judged:
    """The verdict of one of several models, whose p over all of them is NaN where nothing was drawn."""
    if np.isnan(p):
        return verdict
    picked = verdict.answer in ("found", "before") and not p < LEVEL
    said = f"{verdict.text} Over all {n_models} models as well: {probability(p)}."
    return verdict._replace(answer="picked" if picked else verdict.answer, text=said)


def first_method(table: TimeCourseTable) -> str:
    """The method that the verdict goes by."""
    return table.manifest["plan"]["methods"][0]


def group_rows(table: TimeCourseTable, model: str, method: str) -> pd.DataFrame:
    """The group's rows of the metric that is judged."""
    rows = table.rows
    wanted = (rows["subject"] == GROUP) & (rows["model"] == model) & (rows["method"] == method)
    return rows[wanted & rows["metric"].isin(METRICS)]


def found_spans(rows: pd.DataFrame) -> list[tuple[float, float]]:
    """The stretches of time in which some layer of the group's rows is found."""
    by_window = rows.groupby(["window_start", "window_stop"])["p_max"].min().reset_index()
    return span_of(
        (by_window["p_max"] < LEVEL).to_numpy(),
        by_window["window_start"].to_numpy(),
        by_window["window_stop"].to_numpy(),
    )


def seconds(span: tuple[float, float]) -> str:
    """ "0.200 to 0.450 s"."""
    return f"{number(span[0]).replace('-', '−')} to {number(span[1]).replace('-', '−')} s"


def _verdict(table: TimeCourseTable, model: str, method: str, label: str) -> Judged:
    rows = group_rows(table, model, method)
    peaks = table.peaks[(table.peaks["model"] == model) & (table.peaks["method"] == method)]
    metric = NAMES[rows["metric"].iloc[0]]
    best = rows.loc[rows["value"].idxmax()]
    top = (
        f"best in layer {best['layer']} at {number(best['time']).replace('-', '−')} s ({metric} "
        f"{number(best['value'])}, chance {number(best['chance'])}, {probability(best['p_max'])} over all "
        "windows and layers)"
    )
    n_draws = table.manifest["n_draws"].get(method, 0)
    if n_draws < FEWEST_DRAWS:
        return Judged(model, method, "untested", f"{label}, {method}: {top}.")
    found_peaks = peaks[peaks["found_from"].notna()]
    if found_peaks.empty:
        return Judged(model, method, "chance", f"{label}, {method}: {top}.")
    said = [f"{label}, {method}: {_found_when(rows, found_peaks, len(peaks))}, {top}."]
    said.append(_order(table, model, method))
    early = rows[(rows["p_max"] < LEVEL) & (rows["window_stop"] <= 1e-9)]
    if len(early):
        text = table.manifest["timed"]
        why = (
            "the epochs of neighbouring words overlap and their vectors share a context"
            if text
            else ("nothing of a word can be known before it: look at filters and baseline")
        )
        said.append(f"Also found before the onset, in {counted(len(early), 'cell')}: {why}.")
    return Judged(model, method, "before" if len(early) else "found", " ".join(said))


def _found_when(rows: pd.DataFrame, found_peaks: pd.DataFrame, n_layers: int) -> str:
    """Which layers are found from when to when: each by itself where they are few and differ."""
    stretches = {
        layer: listed(map(seconds, found_spans(rows[rows["layer"] == layer])))
        for layer in found_peaks["layer"]
    }
    if len(set(stretches.values())) > 1 and len(stretches) <= _LISTED:
        layers_of: dict[str, list[str]] = {}
        for layer, when in stretches.items():
            layers_of.setdefault(when, []).append(str(layer))
        return "found are " + "; ".join(
            f"layer{'s' * (len(layers) > 1)} {listed(layers)} from {when}"
            for when, layers in layers_of.items()
        )
    names = (
        "all layers"
        if len(found_peaks) == n_layers
        else "layers " + listed(map(str, found_peaks["layer"]))
    )
    names = f"layer {found_peaks['layer'].iloc[0]}" if len(found_peaks) == 1 else names
    return f"{names} found from {listed(map(seconds, found_spans(rows)))}"


def _order(table: TimeCourseTable, model: str, method: str) -> str:
    order = table.manifest["order"][f"{model}, {method}"]
    count = order["n_layers"]
    if count < FEWEST_LAYERS:
        return (
            f"Whether layer order goes with latency was not asked: {counted(count, 'layer')} found, of "
            f"{FEWEST_LAYERS} needed."
        )
    if order["follows"] == "untested":
        return (
            f"Layer and latency correlate by {fraction(order['rho'])} (Spearman, {count} layers), without an "
            "interval: people are few, and the method scores no single words."
        )
    does = {
        "later": "Layer order goes with latency: later layers peak later",
        "earlier": "Layer order goes with latency the other way round: later layers peak earlier",
        "no order": "Layer order does not go with latency",
    }[order["follows"]]
    interval = f"[{fraction(order['lower'])}, {fraction(order['upper'])}]"
    return f"{does} (Spearman {fraction(order['rho'])} {interval} over {order['n_layers']} layers)."


def peak_text(peak: pd.Series) -> str:
    """A peak with its interval, in seconds."""
    text = number(peak["latency"]).replace("-", "−")
    if not np.isfinite(peak["lower"]):
        return text
    return f"{text} [{number(peak['lower'])}, {number(peak['upper'])}]".replace("-", "−")
