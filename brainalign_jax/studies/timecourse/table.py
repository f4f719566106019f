"""The tidy table of a study over time: a row a person, layer, window and metric, with its evidence."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from brainalign_jax.neural.readout import Window
from brainalign_jax.studies.options import TimeCourse
from brainalign_jax.studies.timecourse import inference, latency
from brainalign_jax.studies.timecourse.decoding import WindowScores
from brainalign_jax.study import outputs
from brainalign_jax.study.evidence.chance import LEVEL
from brainalign_jax.study.results import COLUMNS as HOUSE
from brainalign_jax.study.results import GROUP, POOLED

OWN = (
    "window_start", "window_stop", "time", "lower", "upper", "p", "p_max", "p_cluster", "ceiling",
)  # fmt: skip
COLUMNS = (*HOUSE, *OWN)
PEAK_COLUMNS = (
    "dataset", "model", "method", "metric", "layer", "latency", "lower", "upper", "over", "value", "p_max",
    "found_from", "found_to",
)  # fmt: skip
MAP_COLUMNS = (
    "dataset", "subject", "model", "method", "metric", "layer", "fitted_start", "fitted_stop", "window_start",
    "window_stop", "value", "chance",
)  # fmt: skip
FILE = "timecourse.parquet"
PEAKS, MAPS = "peaks.parquet", "time_generalisation.parquet"


@dataclass(frozen=True)
class TimeCourseTable(outputs.StudyTable):
    """rows: a DataFrame with `COLUMNS`; manifest: how they came about.

    A window is from window_start to window_stop, its middle is time (s from the word's onset). p: of the cell
    alone; p_max: corrected over all windows and layers of the method and model; p_cluster: of the cluster
    over people that it is in. ceiling: what other people's responses give in its place. subject "group": the
    mean over people, with an interval over them.
    peaks: `PEAK_COLUMNS`, when each layer is found best. maps: `MAP_COLUMNS`, every window decoded by the map
    of every other; empty where it was not asked for.
    """

    peaks: pd.DataFrame = field(default_factory=pd.DataFrame)
    maps: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(MAP_COLUMNS)))
    file_name = FILE
    kind = "study over time"
    tables = {"peaks": PEAKS, "maps": MAPS}
    optional = {"maps": lambda manifest: manifest.get("plan", {}).get("generalise_time")}


def rows_of(
    people: dict[str, WindowScores],
    windows: list[Window],
    plan: TimeCourse,
    *,
    shifts: bool,
    ceiling: np.ndarray | None,
    seed: int,
) -> tuple[pd.DataFrame, pd.DataFrame, latency.Order]:
    """(rows of one method and model, its peaks, its order of layers), without the columns of both.

    people: subject -> scores. ceiling: [W] or None. shifts: see `permutation_p`.
    """
    scores = list(people.values())
    first = scores[0]
    n_draws = min(len(score.null) for score in scores)
    values = np.stack([score.values for score in scores])
    null = np.mean([score.null[:n_draws] for score in scores], axis=0)
    group = values.mean(axis=0)
    compared = np.stack([score.compared for score in scores])
    bounds = inference.people_interval(
        values, n_bootstraps=plan.n_bootstraps, confidence=plan.confidence, seed=seed
    )
    clusters = None
    if plan.n_flips and len(scores) >= inference.FEWEST_PEOPLE:
        level = null.mean(axis=0) if n_draws else first.chance
        clusters = inference.cluster_p(compared - level, n_flips=plan.n_flips, seed=seed)
    tables = []
    for subject, score in people.items():
        p, p_max = inference.p_values(score.compared, score.null, shifts=shifts)
        known = {"p": p, "p_max": p_max}
        tables.append(_cells(score, score.values, windows, known).assign(subject=subject))
        for (metric, k), (other, chance) in score.others.items():
            cells = _cells(score._replace(metric=metric), other, windows, {})
            tables.append(cells.assign(subject=subject, k=k, chance=chance))
    p, p_max = inference.p_values(compared.mean(axis=0), null, shifts=shifts)
    known = {"p": p, "p_max": p_max, "lower": bounds[0], "upper": bounds[1]}
    if clusters is not None:
        known["p_cluster"] = clusters
    if ceiling is not None:
        known["ceiling"] = np.repeat(ceiling[:, None], len(first.layers), axis=1)
    total = first._replace(n_items=sum(score.n_items for score in scores))
    tables.append(_cells(total, group, windows, known).assign(subject=GROUP))
    for metric, k in first.others:
        other = np.mean([score.others[metric, k][0] for score in scores], axis=0)
        chance = float(np.mean([score.others[metric, k][1] for score in scores]))
        cells = _cells(total._replace(metric=metric), other, windows, {})
        tables.append(cells.assign(subject=GROUP, k=k, chance=chance))
    rows = pd.concat(tables, ignore_index=True)
    peaks, order = _peaks(scores, values, group, p_max, windows, plan, seed)
    return rows, peaks, order


def _cells(
    score: WindowScores, values: np.ndarray, windows: list[Window], known: dict[str, np.ndarray]
) -> pd.DataFrame:
    """A row a window and layer. known: columns [W, L]."""
    n_windows, n_layers = values.shape
    bounds = np.array(windows)
    rows = pd.DataFrame(
        {
            "layer": np.tile(score.layers, n_windows),
            "metric": score.metric,
            "k": 0,
            "fold": POOLED,
            "value": values.ravel(),
            "n_items": score.n_items,
            "chance": score.chance,
            "window_start": np.repeat(bounds[:, 0], n_layers),
            "window_stop": np.repeat(bounds[:, 1], n_layers),
            "time": np.repeat(bounds.mean(axis=1), n_layers),
        }
    )
    for name in OWN[3:]:
        rows[name] = known[name].ravel() if name in known else np.nan
    return rows


def _peaks(scores, values, group, p_max, windows, plan, seed) -> tuple[pd.DataFrame, latency.Order]:
    middles = np.array([window.middle for window in windows])
    items = None
    if all(score.items is not None for score in scores):
        items = [(score.items, score.types) for score in scores]
    again = inference.resampled(values, items, n=plan.n_bootstraps, seed=seed)
    drawn, over = (None, "") if again is None else again
    best = latency.peaks(group, middles, drawn, over, plan.confidence)
    is_found = p_max < LEVEL
    order = latency.layer_order(group, middles, drawn, is_found.any(axis=0), plan.confidence)
    starts, stops = np.array(windows).T
    spans = [latency.span_of(is_found[:, layer], starts, stops) for layer in range(group.shape[1])]
    peaks = pd.DataFrame(
        {
            "metric": scores[0].metric,
            "layer": scores[0].layers,
            "latency": best.latency,
            "lower": best.lower,
            "upper": best.upper,
            "over": best.over,
            "value": group.max(axis=0),
            "p_max": np.nan if np.isnan(p_max).all() else np.nanmin(p_max, axis=0),
            "found_from": [span[0][0] if span else np.nan for span in spans],
            "found_to": [span[-1][1] if span else np.nan for span in spans],
        }
    )
    return peaks, order
