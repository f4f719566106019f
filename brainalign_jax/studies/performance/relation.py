"""The relation of each task with the brain scores of a data set, over models at their last common step."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd

from brainalign_jax.studies.options import Performance
from brainalign_jax.studies.performance import ranks
from brainalign_jax.studies.performance.matching import FEWEST
from brainalign_jax.studies.performance.table import COLUMNS
from brainalign_jax.study.evidence.chance import adjusted_p
from brainalign_jax.study.report.wording import counted, first_few
from brainalign_jax.study.results import GROUP

WITHIN, OVER_ALL = "within families", "over all"
_FEWEST_ORDERS = 20  # of which one is a p of .05
_MOST = 2**27  # draws times models, tasks or people


class People(NamedTuple):
    """scores: [S, M] of people and (model, step) pairs, complete; names: of the people."""

    scores: np.ndarray
    names: tuple[str, ...]


class Group(NamedTuple):
    """Tasks that the same models have at the same steps. tasks: (task, metric) of of values [T, M]."""

    models: tuple[tuple[str, float], ...]
    tasks: tuple[tuple[str, str], ...]
    values: np.ndarray
    directions: np.ndarray


def points_of(scores: pd.DataFrame, tasks: pd.DataFrame) -> pd.DataFrame:
    """The values behind all relations, with `POINTS`; of scores and tasks of `matching.matched`.

    score: the mean over the people who have one of all models of a task, as it is related.
    """
    mean = scores.groupby(["dataset", "model", "step"], as_index=False)["score"].mean()
    columns = [
        "model",
        "step",
        "family",
        "n_params",
        "width",
        "task",
        "metric",
        "direction",
        "value",
        "reads",
    ]
    points = mean.merge(tasks[columns], on=["model", "step"])
    key = ["dataset", "model", "task", "metric"]
    points["last"] = points["step"] == points.groupby(key)["step"].transform("max")
    for dataset, part in points[points["last"]].groupby("dataset", sort=False):
        of_dataset = scores[scores["dataset"] == dataset]
        for group in _groups(part):
            whole = _wide(of_dataset, group.models).notna().all(axis=1)
            if whole.all() or not whole.any():
                continue
            people = of_dataset[of_dataset["subject"].isin(whole.index[whole])]
            own = people.groupby(["model", "step"])["score"].mean()
            chosen = points["dataset"] == dataset
            chosen &= pd.MultiIndex.from_frame(points[["task", "metric"]]).isin(group.tasks)
            pairs = pd.MultiIndex.from_frame(points.loc[chosen, ["model", "step"]])
            related = pd.Series(own.reindex(pairs).to_numpy(), points.index[chosen])
            points.loc[chosen, "score"] = related.fillna(points.loc[chosen, "score"])
    return points.sort_values([*key, "step"], ignore_index=True)


def relations(
    scores: pd.DataFrame, points: pd.DataFrame, plan: Performance, notes: list[str]
) -> pd.DataFrame:
    """Rows with `COLUMNS`, of all data sets and tasks with four models or more; notes: gets what is left out.

    Raises: ValueError where no task has four models, or no person has scores of all of them.
    """
    tables, few = [], []
    for dataset, part in points[points["last"]].groupby("dataset", sort=False):
        of_dataset = scores[scores["dataset"] == dataset]
        steps = part.loc[np.isfinite(part["step"]), "step"]
        if steps.nunique() > 1:
            notes.append(
                f"The checkpoints of {dataset} are of different training steps, {steps.min():.0f} to "
                f"{steps.max():.0f}: models may differ by how long they were trained."
            )
        lines = []
        for group in _groups(part):
            if len(group.models) < FEWEST:
                few += [task for task, _ in group.tasks]
                continue
            people = complete_people(of_dataset, group.models, notes)
            about = part.drop_duplicates("model").set_index("model")
            lines += _lines(
                group, people, about.loc[[model for model, _ in group.models]], of_dataset, plan
            )
        if lines:
            rows = pd.DataFrame(lines).assign(dataset=dataset)
            rows["p_adjusted"] = adjusted_p(rows["p"].to_numpy(float))
            tables.append(rows[list(COLUMNS)])
    if few:
        notes.append(
            f"Fewer than {FEWEST} models have {counted(len(set(few)), 'task')}: {first_few(few)}."
        )
    if not tables:
        raise ValueError(
            f"no task has values of {FEWEST} models with scores: give tasks that more models were asked"
        )
    return pd.concat(tables, ignore_index=True)


def complete_people(
    scores: pd.DataFrame, models: tuple[tuple[str, float], ...], notes: list[str]
) -> People:
    """The scores of the people who have one of every model and step. Raises: ValueError where none has."""
    wide = _wide(scores, models)
    whole = wide.notna().all(axis=1)
    if not whole.any():
        best = wide.notna().sum(axis=1)
        lacking = wide.columns[wide.loc[best.idxmax()].isna()][0][0]
        raise ValueError(
            f"no person has scores of all {len(models)} models: {best.idxmax()} has {best.max()}, and lacks "
            f"{lacking}; score all models on the same people, or leave models out"
        )
    if not whole.all():
        left_out = [str(name) for name in wide.index[~whole]]
        notes.append(f"People without a score of every model are left out: {first_few(left_out)}.")
    return People(wide[whole].to_numpy(float), tuple(map(str, wide.index[whole])))


def _wide(scores: pd.DataFrame, models: tuple[tuple[str, float], ...]) -> pd.DataFrame:
    """The scores of people by (model, step), NaN where a person has none."""
    wide = scores.pivot(index="subject", columns=["model", "step"], values="score")
    return wide.reindex(columns=pd.MultiIndex.from_tuples(models))


def _groups(part: pd.DataFrame) -> Iterator[Group]:
    """Tasks of a data set by the models that have them, so that draws of models are shared."""
    by_models: dict[tuple, list] = {}
    for key, rows in part.groupby(["task", "metric"], sort=False):
        rows = rows.sort_values("model")
        models = tuple(zip(rows["model"], rows["step"], strict=True))
        values = rows["value"].to_numpy(float)
        by_models.setdefault(models, []).append((key, values, int(rows["direction"].iloc[0])))
    for models, members in by_models.items():
        keys, values, directions = zip(*members, strict=True)
        yield Group(models, keys, np.stack(values), np.array(directions))


def _lines(
    group: Group, people: People, about: pd.DataFrame, scores: pd.DataFrame, plan: Performance
) -> list[dict]:
    n_models = len(group.models)
    n_draws = max(plan.n_permutations, plan.n_bootstraps)
    if max(n_models, len(group.tasks), len(people.names)) * n_draws > _MOST:
        raise ValueError(
            f"{n_models:,} models and {len(group.tasks):,} tasks with {n_draws:,} draws are more than can be "
            "held: lower n_permutations and n_bootstraps, or name tasks (task_names)"
        )
    own = people.scores.mean(axis=0)
    values = group.values * group.directions[:, None]
    given = {
        name: np.log10(about[name].to_numpy(float))
        for name in ("n_params", "width")
        if (about[name] > 0).all() and about[name].nunique() > 1
    }
    if "n_params" not in given or n_models < FEWEST + len(given):
        given = {name: column for name, column in given.items() if name == "n_params"}
    columns = list(given.values())
    names, families = np.unique(about["family"].to_numpy(str), return_inverse=True)
    permuted = permuted_within(families)
    drawn_orders = ranks.orders(
        families if permuted == WITHIN else None, plan.n_permutations, n_models, plan.seed
    )
    p_plain = ranks.permutation_test(own, values, [], drawn_orders)
    p_partial = ranks.permutation_test(own, values, columns, drawn_orders)
    drawn = ranks.resamples(n_models, len(people.scores), plan.n_bootstraps, plan.seed)
    lower, upper = ranks.interval(
        ranks.drawn_correlations(people.scores, values, columns, drawn), plan.confidence
    )
    known = _reliabilities(people, scores, own, columns, group)
    lines = []
    for place, (task, metric) in enumerate(group.tasks):
        plain = float(ranks.partial_spearman(own, values[place]))
        partial = float(ranks.partial_spearman(own, values[place], columns)) if given else np.nan
        best = partial if np.isfinite(partial) else plain
        parts = ranks.family_parts(own, values[place], columns, families)
        without = ranks.without_each_family(own, values[place], columns, families)
        lines.append(
            {
                "task": task,
                "metric": metric,
                "direction": int(group.directions[place]),
                "n_models": n_models,
                "n_families": len(names),
                "n_people": len(people.names) if people.names != (GROUP,) else 0,
                "spearman": plain,
                "p_spearman": p_plain[place],
                "given": ", ".join(given),
                "partial_spearman": partial,
                "lower": lower[place],
                "upper": upper[place],
                "p": p_partial[place] if given else np.nan,
                "permuted": permuted,
                "within_families": parts.within,
                "random_intercept": parts.random_intercept,
                "family_effect": parts.effect,
                "without_family_lower": without[0],
                "without_family_upper": without[1],
                "reliability": known[0],
                "spearman_corrected": ranks.corrected(plain, known[0]),
                "partial_corrected": ranks.corrected(partial, known[1]),
                "needed_models": ranks.needed_models(best, len(given) if best is partial else 0),
                "detectable": ranks.detectable(n_models, len(given)),
            }
        )
    return lines


def permuted_within(families: np.ndarray) -> str:
    """Whether models [M] are permuted within their families, or over all: where there is one family, or so
    few orders within families that no p could be below .05."""
    several = families.max() > 0 and ranks.distinct_orders(families) >= _FEWEST_ORDERS
    return WITHIN if several else OVER_ALL


def _reliabilities(
    people: People, scores: pd.DataFrame, own: np.ndarray, given: list[np.ndarray], group: Group
) -> tuple[float, float]:
    """(reliability of the brain scores, of what size leaves of them): of the column, else over people."""
    pairs = pd.MultiIndex.from_tuples(group.models)
    scores = scores[scores["subject"].astype(str).isin(people.names)]
    told = scores.set_index(["model", "step"])["reliability"]
    told = told[told.index.isin(pairs)].dropna()
    if len(told):
        known = float(told.mean())
        return known, ranks.partial_reliability(known, own, given)
    return ranks.reliability(people.scores), ranks.reliability(people.scores, given)
