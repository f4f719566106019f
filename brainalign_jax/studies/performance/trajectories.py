"""Does alignment lead or follow? Over the training steps of a model, when each curve has half of its rise."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import optimize

from brainalign_jax.studies.options import Performance
from brainalign_jax.studies.performance.table import ALL, TRAJECTORIES
from brainalign_jax.study.report.wording import counted
from brainalign_jax.study.results import GROUP

FEWEST_STEPS = 5
_PERPLEXITY = re.compile("ppl|perplexity", re.IGNORECASE)
_FIRST = 0.5  # what step 0 counts as, on a logarithmic axis
_CLEAR = 3.0  # standard deviations about a smooth curve that a rise must have


class _Curves(NamedTuple):
    """Of one model: steps [K]; scores [S, K] of people who have all of them; names of the people."""

    steps: np.ndarray
    scores: np.ndarray
    people: tuple[str, ...]


def log_steps(steps: np.ndarray) -> np.ndarray:
    """log10 of steps; step 0 counts as half a step."""
    return np.log10(np.maximum(np.asarray(steps, float), _FIRST))


def curve_of(task: str, metric: str, values: np.ndarray) -> np.ndarray:
    """The values of a task over training as a curve: perplexities, which span decades, by their logarithm."""
    logarithmic = _PERPLEXITY.search(metric or task) and (values > 0).all()
    return np.log10(values) if logarithmic else values


def half_step(steps: np.ndarray, values: np.ndarray, *, checked: bool = True) -> float:
    """log10 of the step at which a curve [K] has half of its change from the first to the last step.

    The curve is smoothed to one that only rises, or only falls (isotonic regression), and taken as straight
    between steps on a logarithmic axis. NaN where the change is less than three standard deviations of the
    values about the smooth curve (checked), or there is none.

    >>> round(10 ** half_step(np.array([1, 10, 100, 1000, 10000]), np.array([0, 0, 0, 1, 1])))
    316
    """
    values = np.asarray(values, float)
    smooth = optimize.isotonic_regression(values, increasing=bool(values[-1] >= values[0])).x
    change = smooth[-1] - smooth[0]
    noise = float(np.sqrt(np.square(values - smooth).sum() / max(len(values) - 2, 1)))
    if change == 0 or (checked and abs(change) < _CLEAR * noise):
        return np.nan
    share = (smooth - smooth[0]) / change
    place = int(np.argmax(share >= 0.5))
    x = log_steps(steps)
    before, after = share[place - 1], share[place]
    return float(x[place - 1] + (0.5 - before) / (after - before) * (x[place] - x[place - 1]))


def trajectories(
    scores: pd.DataFrame, points: pd.DataFrame, plan: Performance, notes: list[str]
) -> pd.DataFrame:
    """Rows with `TRAJECTORIES`, a model and task each, and of all models of a task their mean.

    A model has to have five steps or more on both sides. lower and upper: over people, for one model; over
    models, and the people of each, for the mean. notes: gets what has no rise.
    """
    lines: list[dict] = []
    flat = 0
    finite = points[np.isfinite(points["step"])]
    for dataset, of_dataset in finite.groupby("dataset", sort=False):
        own = scores[scores["dataset"] == dataset]
        drawn: dict[tuple[str, str], list[np.ndarray]] = {}
        known: dict[tuple, tuple[_Curves, np.ndarray]] = {}
        for (model, task, metric), rows in of_dataset.groupby(
            ["model", "task", "metric"], sort=False
        ):
            steps = rows["step"].to_numpy(float)
            if len(steps) < FEWEST_STEPS:
                continue
            key = (model, *steps)
            if key not in known:
                curves = _curves(own[own["model"] == model], steps)
                known[key] = curves, _drawn_halves(curves, plan)
            curves, halves = known[key]
            task_half = half_step(steps, curve_of(task, metric, rows["value"].to_numpy(float)))
            score_half = half_step(steps, curves.scores.mean(axis=0))
            if np.isnan(task_half) or np.isnan(score_half):
                flat += 1
                continue
            lags = task_half - halves
            lower, upper = _bounds(lags, plan) if len(curves.people) > 1 else (np.nan, np.nan)
            drawn.setdefault((task, metric), []).append(
                np.concatenate([[task_half - score_half], lags])
            )
            lines.append(
                {
                    "dataset": dataset,
                    "model": model,
                    "family": rows["family"].iloc[0],
                    "task": task,
                    "metric": metric,
                    "n_steps": len(steps),
                    "n_models": 1,
                    "score_step": 10**score_half,
                    "task_step": 10**task_half,
                    "lag": task_half - score_half,
                    "lower": lower,
                    "upper": upper,
                    "n_people": len(curves.people) if curves.people != (GROUP,) else 0,
                }
            )
        lines += [
            {"dataset": dataset, "task": task, "metric": metric, **_mean_line(lags, plan)}
            for (task, metric), lags in drawn.items()
            if len(lags) > 1
        ]
    if flat:
        notes.append(
            f"{counted(flat, 'curve')} of a model and task, or of its scores, do not rise or fall clearly "
            "over training: they have no half."
        )
    return pd.DataFrame(lines, columns=list(TRAJECTORIES))


def _curves(scores: pd.DataFrame, steps: np.ndarray) -> _Curves:
    wide = scores.pivot(index="subject", columns="step", values="score").reindex(columns=steps)
    whole = wide.notna().all(axis=1)
    # Where nobody has all steps, the mean of those who have one.
    values = wide[whole].to_numpy(float) if whole.any() else wide.mean().to_numpy(float)[None]
    return _Curves(steps, values, tuple(map(str, wide.index[whole])) if whole.any() else (GROUP,))


def _drawn_halves(curves: _Curves, plan: Performance) -> np.ndarray:
    """[B] of `half_step` of the mean over people, drawn anew; the same number of one person alone."""
    n_people = len(curves.scores)
    if n_people == 1:
        return np.full(plan.n_bootstraps, half_step(curves.steps, curves.scores[0]))
    rng = np.random.default_rng((plan.seed, 3))
    shares = (
        rng.multinomial(n_people, np.full(n_people, 1 / n_people), plan.n_bootstraps) / n_people
    )
    means = shares @ curves.scores
    return np.array([half_step(curves.steps, mean, checked=False) for mean in means])


def _mean_line(lags: Sequence[np.ndarray], plan: Performance) -> dict[str, object]:
    """The mean over models of lags [1 + B], the observed one first, and its interval."""
    values = np.stack(lags)
    n_models = len(values)
    rng = np.random.default_rng((plan.seed, 4))
    models = rng.integers(0, n_models, (plan.n_bootstraps, n_models))
    drawn = values[models, 1 + np.arange(plan.n_bootstraps)[:, None]].mean(axis=1)
    lower, upper = _bounds(drawn, plan)
    return {
        "model": ALL,
        "family": "",
        "n_steps": 0,
        "n_models": n_models,
        "score_step": np.nan,
        "task_step": np.nan,
        "lag": float(values[:, 0].mean()),
        "lower": lower,
        "upper": upper,
        "n_people": 0,
    }


def _bounds(values: np.ndarray, plan: Performance) -> tuple[float, float]:
    values = values[np.isfinite(values)]
    if not len(values):
        return np.nan, np.nan
    tails = [(1 - plan.confidence) / 2, (1 + plan.confidence) / 2]
    lower, upper = np.quantile(values, tails)
    return float(lower), float(upper)
