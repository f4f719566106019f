"""What a pilot says: the effect in each person and word, what a null comes to, and which test is done."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import scipy

from brainalign_jax.align.stats import scaling_slope
from brainalign_jax.language.parts.components import RANDOM
from brainalign_jax.names import check_known
from brainalign_jax.studies.ablation.table import COLUMNS as PART_COLUMNS
from brainalign_jax.studies.ablation.table import FILE as ABLATION_FILE
from brainalign_jax.studies.ablation.table import INTACT, TWINS, AblationTable
from brainalign_jax.studies.ablation.verdict import judged_lines, named
from brainalign_jax.studies.checks.power import exact_rate
from brainalign_jax.studies.generalisation.table import ALL, GAP, GeneralisationTable, of_rule
from brainalign_jax.studies.generalisation.table import COLUMNS as GAP_COLUMNS
from brainalign_jax.studies.generalisation.table import FILE as GAP_FILE
from brainalign_jax.studies.options import Planning
from brainalign_jax.studies.planning.components import (
    Components,
    check_people,
    components_of_effects,
    components_of_items,
)
from brainalign_jax.studies.planning.power import DRAWS, FLIPS, INTERVAL, GroupTest
from brainalign_jax.study.evidence.chance import LEVEL, permutation_p
from brainalign_jax.study.evidence.scaling import SIGNS
from brainalign_jax.study.evidence.table import role
from brainalign_jax.study.report.wording import listed, probability
from brainalign_jax.study.results import COLUMNS as RESULT_COLUMNS
from brainalign_jax.study.results import GROUP, POOLED, RESULTS, SELECTED, ResultTable

_METRIC = "rank_accuracy"
_LEAST_DRAWS = 20  # with 19 no p is below .05
_COMMANDS = {"gap": "generalise", "ablation": "ablate"}
_COLUMNS = {"gap": GAP_COLUMNS, "ablation": PART_COLUMNS}
_FILES = {"gap": GAP_FILE, "ablation": ABLATION_FILE}


class PilotScores(NamedTuple):
    """One pilot. effects: [S] of the people, above zero where what is to be shown holds; n_words: tested.

    what: is planned, in words. test: that the package does. doubt: why what was chosen among several for its
    effect does not show it, whatever its interval says; "" where nothing was chosen, or it does.
    """

    source: str
    dataset: str
    model: str
    method: str
    what: str
    people: tuple[str, ...]
    effects: np.ndarray
    n_words: int
    components: Components
    test: GroupTest
    doubt: str = ""


Source = Path | ResultTable | GeneralisationTable | AblationTable


def read_pilot(source: Source, plan: Planning, notes: list[str]) -> PilotScores:
    """The scores of a folder or table of the study that the test belongs to.

    notes: gets what was chosen or left out.

    Raises: FileNotFoundError or ValueError naming the folder and what it lacks: another study, one person,
      several models and none asked for, no words, no null draws.
    """
    told = str(source) if isinstance(source, Path) else f"a {type(source).__name__} in memory"
    table = _loaded(source, plan.test) if isinstance(source, Path) else source
    wanted = {"gap": GeneralisationTable, "ablation": AblationTable}.get(plan.test, ResultTable)
    if not isinstance(table, wanted):
        raise ValueError(f"{told} is no pilot of test={plan.test}; needed: {wanted.__name__}")
    try:
        _check_columns(table.rows, _COLUMNS.get(plan.test, RESULT_COLUMNS))
        if isinstance(table, GeneralisationTable):
            return _of_gap(table, told, plan)
        if isinstance(table, AblationTable):
            return _of_ablation(table, told, plan, notes)
        return _of_results(table, told, plan, notes)
    except ValueError as error:
        text = str(error)
        raise ValueError(text if text.startswith(told) else f"{told}: {text}") from error


def _check_columns(rows: pd.DataFrame, needed: Sequence[str]) -> None:
    missing = [name for name in needed if name not in rows.columns]
    if missing:
        raise ValueError(f"its table has no column {missing[0]!r}: run the study again")
    if rows.empty:
        raise ValueError("its table has no rows: run the study again")


def _loaded(folder: Path, test: str) -> ResultTable | GeneralisationTable | AblationTable:
    name = _FILES.get(test, RESULTS)
    if not (folder / name).is_file():
        raise FileNotFoundError(
            f"{folder / name} is missing: test={test} is planned from a folder of "
            f"`brainalign {_COMMANDS.get(test, 'align')}`"
        )
    if test == "gap":
        return GeneralisationTable.load(folder)
    return AblationTable.load(folder) if test == "ablation" else ResultTable.load(folder)


def _of_results(table: ResultTable, source: str, plan: Planning, notes: list[str]) -> PilotScores:
    ranks = table.extras.get("ranks")
    if ranks is None or ranks.empty:
        raise ValueError(
            "it has no ranks of words, from which their noise is known: run a method that decodes words with "
            "--evidence=true"
        )
    method = _only("method", plan.method, list(ranks["method"].unique()))
    ranks = ranks[ranks["method"] == method]
    rows = table.rows[table.rows["method"] == method]
    trained = [name for name in ranks["model"].unique() if role(name) == "model"]
    in_order = _in_order(table, ranks)
    if plan.test == "size":
        return _of_size(table, ranks, rows, trained, source, plan, method, in_order, notes)
    model = _only("model", plan.model, trained)
    ranks, rows = ranks[ranks["model"] == model], rows[rows["model"] == model]
    known = sorted(int(layer) for layer in ranks["layer"].unique())
    if plan.test == "layers":
        for layer in plan.layers:
            if layer not in known:
                raise ValueError(
                    f"{model} has no layer {layer} here: it has {listed(map(str, known))}"
                )
        doubt = ""
        first, second = (_items(ranks[ranks["layer"] == layer], rows) for layer in plan.layers)
        values = _common(first - second, notes)
        what = f"layer {plan.layers[0]} above layer {plan.layers[1]}"
        test = GroupTest(FLIPS, sides=2, n_flips=SIGNS)
    else:
        means = rows[(rows["subject"] == GROUP) & (rows["fold"] == POOLED)]
        means = means[(means["metric"] == _METRIC) & (means["layer"] != SELECTED)]
        best = means.loc[means["value"].idxmax()]
        layer = int(best["layer"])
        values = _common(_items(ranks[ranks["layer"] == layer], rows), notes)
        floor, test, highest = _against_nulls(
            table, model, method, layer, values.shape[1], values.index
        )
        p = float(permutation_p(float(best["value"]), highest))
        doubt = (
            "" if p < LEVEL else f"against the best layer of each null draw it has {probability(p)}"
        )
        values = values.sub(floor, axis=0)
        what = f"rank accuracy of layer {layer}, the best, above its null"
    pilot = _pilot(source, table, model, method, what, values, test, in_order)
    return pilot._replace(doubt=doubt)


def _of_size(table, ranks, rows, trained, source, plan, method, in_order, notes) -> PilotScores:
    """The slope of each person and word on log10 parameters, at the layers that inner folds chose."""
    sizes = rows.groupby("model")["n_params"].first()
    trained = [name for name in trained if sizes[name] > 0]
    log_sizes = np.log10(sizes.reindex(trained).to_numpy(float))
    if len(trained) < 2 or np.ptp(log_sizes) == 0:
        raise ValueError("it has no two models of different sizes: a slope on size needs them")
    chosen = rows[(rows["metric"] == "selected_layer") & (rows["fold"] != POOLED)]
    if chosen.empty:
        raise ValueError("its layers were not chosen in inner folds: give layer_selection=inner")
    weights = scaling_slope.subject_slopes(
        np.eye(len(trained), dtype=np.float32),
        np.float32(log_sizes),
        np.zeros(len(trained), int),
        n_families=1,
    )
    chosen = chosen.assign(layer=chosen["value"].astype(int))
    chosen = chosen[["subject", "model", "fold", "layer"]]
    values = None
    for name, weight in zip(trained, np.asarray(weights, np.float64), strict=True):
        kept = ranks[ranks["model"] == name].merge(chosen)
        part = weight * _items(kept, rows[rows["model"] == name])
        values = part if values is None else values + part
    test = GroupTest(FLIPS, sides=2, n_flips=SIGNS)
    what = f"slope of rank accuracy per tenfold parameters over {len(trained)} models"
    values = _common(values, notes)
    return _pilot(source, table, f"{len(trained)} models", method, what, values, test, in_order)


def _pilot(source, table, model, method, what, values, test, in_order) -> PilotScores:
    array = values.to_numpy(np.float64)
    components = components_of_items(array, in_order=in_order)
    dataset = str(table.rows["dataset"].iloc[0])
    return PilotScores(
        source, dataset, model, method, what, tuple(map(str, values.index)), array.mean(axis=1),
        array.shape[1], components, test,
    )  # fmt: skip


def _items(ranks: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """Rank accuracy [S, W] of people and the words or tokens that were tested, in the order of tokens."""
    precise = rows[(rows["k"] > 0) & (rows["chance"] > 0) & (rows["metric"] == "precision_csls")]
    if precise.empty:
        raise ValueError(
            "its table has no precision, from which candidates are counted: run it again"
        )
    # Who lacks words has fewer candidates.
    counts = (
        (precise["k"] / precise["chance"]).round().groupby(precise["subject"].astype(str)).first()
    )
    n_candidates = ranks["subject"].astype(str).map(counts).astype(float)
    word = ranks["token"].where(ranks["token"] >= 0, ranks["type"])
    accuracy = 1 - (ranks["rank_nn"].astype(float) - 1) / (n_candidates - 1)
    return accuracy.groupby([ranks["subject"].astype(str), word]).mean().unstack()


def _common(values: pd.DataFrame, notes: list[str]) -> pd.DataFrame:
    """The words that all people were tested on."""
    check_people(len(values))
    kept = values.dropna(axis=1)
    if kept.shape[1] < 10:
        raise ValueError(f"only {kept.shape[1]} words were tested in all people: a pilot needs ten")
    if kept.shape[1] < values.shape[1]:
        left_out = values.shape[1] - kept.shape[1]
        notes.append(f"{left_out} words that not all people were tested on are left out.")
    return kept


def _in_order(table: ResultTable, ranks: pd.DataFrame) -> bool:
    """Whether the words follow one another, so that neighbours may be alike."""
    nulls = table.extras.get("nulls")
    kinds = set(nulls["null"]) if nulls is not None and len(nulls) else set()
    return bool((ranks["token"] >= 0).any()) or bool(kinds & {"shift", "blocks", "noise"})


def _against_nulls(
    table: ResultTable, model: str, method: str, layer: int, n_words: int, people: pd.Index
) -> tuple[pd.Series, GroupTest, np.ndarray]:
    """(what each person's null comes to, the test against the best layer of each draw, what these reach)."""
    nulls = table.extras.get("nulls", pd.DataFrame())
    if len(nulls):
        nulls = nulls[(nulls["model"] == model) & (nulls["method"] == method)]
        nulls = nulls[nulls["metric"] == _METRIC]
    n_draws = nulls["draw"].nunique() if len(nulls) else 0
    if n_draws < _LEAST_DRAWS:
        raise ValueError(
            f"it has {n_draws} null draws, and test=score is against {_LEAST_DRAWS} or more: run it with "
            "--evidence=true --n_nulls=100"
        )
    own = nulls[nulls["layer"] == layer].assign(subject=lambda x: x["subject"].astype(str))
    drawn = own.pivot_table(index="draw", columns="subject", values="value")
    without = [person for person in people if person not in drawn]
    if without:
        raise ValueError(
            f"layer {layer} of {model} has no null draws of {listed(without)}: run the study again"
        )
    drawn = drawn[list(people)]
    of_group = drawn.mean(axis=1)
    by_layer = nulls.groupby(["draw", "layer"])["value"].mean().unstack()
    total, shared = drawn.var(ddof=1).mean(), of_group.var(ddof=1)
    n_people = len(people)
    noise = max((total - shared) * n_people / (n_people - 1), 0.0)
    words = max(shared - noise / n_people, 0.0)
    if not shared > 0:
        raise ValueError("its null draws are all alike: run it with more (--n_nulls=100)")
    scale = float(np.sqrt(words + noise / n_people))
    reached_by = by_layer.max(axis=1).to_numpy()
    highest = (reached_by - of_group.mean()) / scale
    reached = round(
        exact_rate(n_draws) * (n_draws + 1)
    )  # highest draws, the last of which it must pass
    test = GroupTest(
        DRAWS,
        critical=float(np.sort(highest)[-reached]),
        null_words=float(words * n_words),
        null_noise=float(noise * n_words),
        highest=highest,
    )
    return drawn.mean(), test, reached_by


def _of_gap(table: GeneralisationTable, source: str, plan: Planning) -> PilotScores:
    rows = of_rule(table)
    rows = rows[(rows["metric"] == GAP + _METRIC) & (rows["layer"] == SELECTED)]
    if rows.empty:
        raise ValueError(
            "it has no gap between conditions: run `brainalign generalise` with --conditions, not --novelty"
        )
    method = _only("method", plan.method, list(rows["method"].unique()))
    rows = rows[rows["method"] == method]
    model = _only("model", plan.model, [n for n in rows["model"].unique() if role(n) == "model"])
    rows = rows[(rows["model"] == model) & (rows["trained_on"] == "")]
    condition = plan.condition or ALL
    check_known("condition", condition, list(rows["tested_on"].unique()), of=source)
    rows = rows[rows["tested_on"] == condition]
    confidence = table.manifest["plan"]["confidence"]
    test = GroupTest(INTERVAL, confidence=confidence)
    where = "" if condition == ALL else f" tested on {condition}"
    what = f"gap of rank accuracy from within to across conditions{where}"
    return _of_people(
        rows, rows["value"], source, model, method, what, test, confidence, plan.stable_share
    )


def _of_ablation(
    table: AblationTable, source: str, plan: Planning, notes: list[str]
) -> PilotScores:
    rows = table.rows[~table.rows["component"].isin([INTACT, TWINS])]
    method = _only("method", plan.method, list(rows["method"].unique()))
    model = _only("model", plan.model, list(rows["model"].unique()))
    lines = judged_lines(table, model, method)
    lines = lines[lines["how"] != RANDOM]
    if lines.empty:
        raise ValueError("it has no part that is switched off in the chosen layer: run it again")
    lines = lines[lines["how"] == lines["how"].iloc[0]]
    names = [named(line) for _, line in lines.iterrows()]
    doubt = ""
    if plan.component is None:
        place = int(lines["change"].to_numpy().argmin())
        p = float(lines["p_max"].iloc[place])
        if len(names) > 1 and not p < LEVEL:
            doubt = f"by the largest fall of all {len(names)} parts it has {probability(p)}"
        if len(names) > 1 and plan.effect is None:
            notes.append(
                f"{names[place]} falls most of {len(names)} parts in the pilot: by that choice its effect is "
                "too large; give --component or --effect."
            )
    else:
        asked = plan.component.replace(":", " ")
        check_known("component", asked, names, of=source)
        place = names.index(asked)
    line = lines.iloc[place]
    keys = [
        "component",
        "block",
        "head",
        "how",
        "readout",
        "layer",
        "metric",
        "k",
        "model",
        "method",
    ]
    rows = rows[(rows[keys] == line[keys]).all(axis=1)]
    facts = table.manifest["plan"]
    test = GroupTest(
        FLIPS, n_flips=facts["n_flips"], n_tests=plan.n_tests or len(names), words_too=True
    )
    what = f"fall of rank accuracy without {names[place]} ({line['how']})"
    pilot = _of_people(
        rows,
        -rows["change"],
        source,
        model,
        method,
        what,
        test,
        facts["confidence"],
        plan.stable_share,
    )
    return pilot._replace(doubt=doubt)


def _of_people(
    rows, effects, source, model, method, what, test, confidence, stable_share
) -> PilotScores:
    """Of a table that has people's effects, and the group's interval over people and words."""
    group = (rows["subject"] == GROUP).to_numpy()
    people = effects[~group].to_numpy(np.float64)
    check_people(len(people))
    if not group.any() or not np.isfinite(rows.loc[group, ["lower", "upper"]]).all(axis=None):
        raise ValueError("it has no interval of the group: run the study again")
    line = rows[group].iloc[0]
    factor = 2 * scipy.stats.norm.isf((1 - confidence) / 2)
    error = float((line["upper"] - line["lower"]) / factor)
    # Of each person over words; NaN in a table of an earlier version.
    own = (rows.loc[~group, "upper"] - rows.loc[~group, "lower"]).to_numpy(np.float64) / factor
    n_words = int(line["n_items"])
    components = components_of_effects(
        people,
        error,
        n_words,
        own_error=float(np.sqrt(np.square(own).mean())) if np.isfinite(own).all() else None,
        stable_share=stable_share,
    )
    names = tuple(rows.loc[~group, "subject"].astype(str))
    dataset = str(line["dataset"])
    return PilotScores(
        source, dataset, model, method, what, names, people, n_words, components, test
    )


def _only(name: str, asked: str | None, known: Sequence[str]) -> str:
    """The one that is asked for, or there is. Raises: ValueError where that is none."""
    if not known:
        raise ValueError(f"it has no {name} to plan from")
    if asked is not None:
        check_known(f"{name}=", asked, known)
        return asked
    if len(known) > 1:
        raise ValueError(f"it has the {name}s {listed(known)}: give --{name}={known[0]}")
    return known[0]
