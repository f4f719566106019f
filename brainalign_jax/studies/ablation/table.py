"""The tidy table of an ablation study: a row for each part, way, read-out, layer, metric and person."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jax
import numpy as np
import pandas as pd

from brainalign_jax.align.stats import bootstrap
from brainalign_jax.align.stats.scaling_slope import draw_signs
from brainalign_jax.language.parts.components import Setting
from brainalign_jax.studies.ablation import gradient
from brainalign_jax.studies.ablation.scores import CHOSEN, OWN, own_layer
from brainalign_jax.studies.options import Ablation
from brainalign_jax.study import outputs
from brainalign_jax.study.evidence.chance import adjusted_p, mean_band, permutation_p
from brainalign_jax.study.outputs import rows_with
from brainalign_jax.study.report.wording import in_points
from brainalign_jax.study.results import GROUP, SELECTED

COLUMNS = (
    "dataset", "subject", "model", "method", "component", "block", "head", "how", "readout", "layer",
    "held_constant", "metric", "k", "value", "change", "bits_change", "p", "p_max", "p_fdr", "lower", "upper",
    "n_items",
)  # fmt: skip
FILE, SHAPLEY_FILE = "ablation.parquet", "shapley.parquet"
INTACT, TWINS = "intact", "twins"
LEAST_PEOPLE = 6  # with whom signs are flipped over people: five give no p below 1 / 32


@dataclass(frozen=True)
class AblationTable(outputs.StudyTable):
    """rows: a DataFrame with `COLUMNS`; manifest: how they came about.

    component: heads, attention, ffn, layers, positions or norms; block and head: from 0, -1 where it has
    none. how: "zero" or "mean", "resample" or "reinit" (the mean over their draws), or "random", the control
    of that component: a random share of the same norm is taken off what enters its block. readout: "refit" or
    "frozen". layer: the one behind the block, or -1, the layer that the intact model chooses in each fold's
    training words. held_constant: the features of words that are held constant in all scores, as "letters,
    log_frequency", or "". metric: "rank_accuracy", or "precision_csls" at k. value: the ablated model's;
    change: less the intact model's. bits_change: what the same costs in bits per word, NaN where the model
    predicts no words, or other texts stand in.
    Of subject "group": the mean over people, with an interval of the change over people and words (lower,
    upper); p, that it falls, by flips of signs over people where there are six, else over words; p_max, the
    same by the largest fall of all components in each draw; p_fdr, adjusted for the false discovery rate.
    Of a person: the interval of the change over words, as if these were independent, for `plan-study`.
    Rows of component "intact" have the intact model's value, with its interval; those of "twins" the mean of
    untrained models (how: "attention only", "ffn only", "both"), with the interval of the change.
    shapley: what each of several players is worth, where it was asked: `shapley.COLUMNS`. estimates: what
    every part is worth by gradient, where it was asked: `gradient.COLUMNS`. Each has a file of its own.
    """

    shapley: pd.DataFrame | None = None
    estimates: pd.DataFrame | None = None

    file_name = FILE
    kind = "ablation study"
    tables = {"shapley": SHAPLEY_FILE, "estimates": gradient.FILE}
    optional = {
        "shapley": lambda manifest: manifest.get("plan", {}).get("shapley"),
        "estimates": lambda manifest: manifest.get("plan", {}).get("estimate", "exact") != "exact",
    }

    @property
    def held_constant(self) -> list[str]:
        """The features of words that are held constant; none in a table of an earlier version."""
        held = "" if "held_constant" not in self.rows else str(self.rows["held_constant"].iloc[0])
        return held.split(", ") if held else []

    def verdict(self) -> str:
        """What the study says, in words."""
        from brainalign_jax.studies.ablation import agreement, verdict

        said = [*verdict.texts(self), *agreement.sentences(self)]
        return in_points(verdict.headline(self), said)

    def group(self, **wanted) -> pd.DataFrame:
        """Rows of the group whose columns have these values."""
        return rows_with(self.rows, subject=GROUP, **wanted)


class Ranks(NamedTuple):
    """All people's ranks by one model, method and read-out.

    ranks, intact: [2, P, C, 2, T], see `scores.AblatedScores`; n_candidates: [P].
    """

    ranks: np.ndarray
    intact: np.ndarray
    n_candidates: np.ndarray


def metric_scores(ranks: np.ndarray, n_candidates: np.ndarray, metric: str, k: int) -> np.ndarray:
    """Scores [P, ...] of ranks [2, P, ...]; NaN for words that are not tested."""
    nearest, scaled = ranks
    if metric == "rank_accuracy":
        count = n_candidates.reshape(-1, *[1] * (nearest.ndim - 1))
        scores = 1 - (nearest - 1) / (count - 1)
    else:
        scores = (scaled <= k).astype(float)
    return np.where(nearest > 0, scores, np.nan).astype(np.float32)


def metrics_of(ks: Sequence[int]) -> list[tuple[str, int]]:
    """(metric, k) of all rows."""
    return [("rank_accuracy", 0), *(("precision_csls", k) for k in ks)]


def intact_rows(
    ranks: np.ndarray,
    n_candidates: np.ndarray,
    subjects: Sequence[str],
    layers: Sequence[int],
    ks: Sequence[int],
    plan: Ablation,
    seed: int,
) -> pd.DataFrame:
    """Rows of the intact model's values; ranks: [2, P, L, T] in the layers."""
    tables = []
    for metric, k in metrics_of(ks):
        scores = metric_scores(ranks, n_candidates, metric, k)
        values = np.nanmean(scores, axis=-1)
        lower, upper = change_intervals(scores, plan, seed)
        lines = _lines(subjects, values)
        lines["layer"] = np.tile(layers, len(subjects) + 1)
        group = lines["subject"] == GROUP
        lines.loc[group, "lower"], lines.loc[group, "upper"] = lower, upper
        tables.append(lines.assign(metric=metric, k=k, n_items=_n_items(scores)))
    rows = pd.concat(tables, ignore_index=True)
    return rows.assign(component=INTACT, block=-1, head=-1, how=INTACT, readout="refit")


def rows_of(
    ranks: Ranks,
    subjects: Sequence[str],
    settings: Sequence[Setting],
    bits: np.ndarray,
    ks: Sequence[int],
    plan: Ablation,
    seed: int,
) -> pd.DataFrame:
    """Rows of one model, method and read-out.

    Components that are switched off in one way, and read in one place, are one family of tests.
    """
    ways = np.array([setting.how for setting in settings])
    tables = []
    for how in dict.fromkeys(ways):
        members, draws = _draws(settings, ways == how)
        about = pd.DataFrame(
            {
                "component": [settings[i].component.kind for i in members],
                "block": [settings[i].component.block for i in members],
                "head": [settings[i].component.head for i in members],
                "bits_change": bits[draws].mean(axis=1),
            }
        )
        for role in (OWN, CHOSEN):
            layers = [own_layer(settings[i]) if role == OWN else SELECTED for i in members]
            for metric, k in metrics_of(ks):
                ablated, intact = (
                    metric_scores(x[:, :, draws, role], ranks.n_candidates, metric, k).mean(axis=2)
                    for x in (ranks.ranks, ranks.intact)
                )
                change = ablated - intact
                lines = _lines(subjects, np.nanmean(ablated, axis=-1))
                lines["change"] = _lines(subjects, np.nanmean(change, axis=-1))["value"]
                lines["layer"] = np.tile(layers, len(subjects) + 1)
                group = (lines["subject"] == GROUP).to_numpy()
                lower, upper = change_intervals(change, plan, seed)
                p, p_max = fall_p(change, plan.n_flips, seed)
                of_person = mean_band(change, np.isfinite(change), confidence=plan.confidence)
                for name, values in zip(("lower", "upper"), of_person, strict=True):
                    lines.loc[~group, name] = values.ravel()
                for name, values in (
                    ("lower", lower), ("upper", upper), ("p", p), ("p_max", p_max), ("p_fdr", adjusted_p(p)),
                ):  # fmt: skip
                    lines.loc[group, name] = values
                repeated = pd.concat([about] * (len(subjects) + 1), ignore_index=True)
                lines = pd.concat([lines, repeated], axis=1)
                tables.append(lines.assign(how=how, metric=metric, k=k, n_items=_n_items(change)))
    return pd.concat(tables, ignore_index=True)


def _draws(settings: Sequence[Setting], chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(the first setting of each component that is chosen [C], all draws of it [C, draws])."""
    members: dict[tuple, list[int]] = {}
    for index in np.flatnonzero(chosen):
        members.setdefault(settings[index].component, []).append(index)
    draws = np.array(list(members.values()))
    return draws[:, 0], draws


def fall_p(change: np.ndarray, n_flips: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(p [C], and p_max [C] by the largest fall of each draw) that changes [P, C, T] are below zero.

    Signs are flipped over people, of the mean over their words; over words, of the mean over people, where
    there are fewer than `LEAST_PEOPLE`; all flips that there are, where these are fewer. A draw is compared
    by its t.
    """
    people = len(change) >= LEAST_PEOPLE
    units = np.nanmean(change, axis=2) if people else _word_means(change)
    units = units.astype(np.float64)
    signs = draw_signs(len(units), n_flips, random_state=seed)
    n_units = len(units)
    squares = np.square(units).mean(axis=0)

    def falls(means: np.ndarray) -> np.ndarray:
        spread = np.sqrt(np.maximum(squares - means**2, 1e-12 * squares) / max(n_units - 1, 1))
        return np.where(squares > 0, -means / np.where(spread > 0, spread, 1), 0)

    observed, null = falls(units.mean(axis=0)), falls(signs @ units / n_units)
    largest = null.max(axis=1)
    return permutation_p(observed, null), permutation_p(observed, largest)


def change_intervals(
    scores: np.ndarray, plan: Ablation, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Bounds ([C], [C]) of the mean of scores [P, C, T] over people and words."""
    n_people, _, n_words = scores.shape
    over = "both" if n_people > 1 else "items"
    counts = bootstrap.draw_hierarchical(
        n_people, n_words, plan.n_bootstraps, over=over, random_state=seed
    )
    columns = np.moveaxis(scores, 1, 0)
    mask = np.isfinite(columns).astype(np.float32)
    interval = _intervals(np.nan_to_num(columns), mask, *counts, confidence=plan.confidence)
    return np.asarray(interval.lower), np.asarray(interval.upper)


@jax.jit(static_argnames=("confidence",))
def _intervals(columns, mask, subject_counts, item_counts, *, confidence):
    def one_component(inputs):
        return bootstrap.hierarchical(*inputs, subject_counts, item_counts, confidence=confidence)

    return jax.lax.map(one_component, (columns, mask))


def _word_means(change: np.ndarray) -> np.ndarray:
    """Mean over people [T', C] of the changes [P, C, T] of words that anyone was tested on."""
    tested = np.isfinite(change).any(axis=(0, 1))
    return np.nanmean(change[:, :, tested], axis=0).T


def _lines(subjects: Sequence[str], values: np.ndarray) -> pd.DataFrame:
    """Lines of values [P, C], person by person, then of the group."""
    every = np.concatenate([values, values.mean(axis=0, keepdims=True)])
    lines = pd.DataFrame(
        {"subject": np.repeat([*subjects, GROUP], values.shape[1]), "value": every.ravel()}
    )
    unknown = ("change", "bits_change", "p", "p_max", "p_fdr", "lower", "upper")
    return lines.assign(**{name: np.nan for name in unknown if name != "bits_change"})


def _n_items(scores: np.ndarray) -> int:
    return int(np.isfinite(scores).any(axis=(0, 1)).sum())
