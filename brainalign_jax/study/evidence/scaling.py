"""Does alignment grow with model size? Slopes per tenfold parameters with subjects as random effects."""

from collections.abc import Iterator

import jax
import numpy as np
import pandas as pd

from brainalign_jax.align.stats import bootstrap, scaling_slope
from brainalign_jax.study.evidence.table import METRIC, EvidencePlan
from brainalign_jax.study.names import UNTRAINED, without_seed
from brainalign_jax.study.results import GROUP, SELECTED, ResultTable

COLUMNS = (
    "dataset", "method", "scope", "quantity", "slope", "lower", "upper", "p", "n_models", "n_subjects",
)  # fmt: skip
SIGNS = 5000  # flips of people, at most
_subject_slopes = jax.jit(scaling_slope.subject_slopes, static_argnames=("n_families",))
_slope_test = jax.jit(scaling_slope.slope_test, static_argnames=("confidence", "method"))


def slopes(
    table: ResultTable,
    evidence: pd.DataFrame,
    plan: EvidencePlan,
    *,
    k: int,
) -> pd.DataFrame:
    """Slopes of P@k on log10 parameters, with COLUMNS; no rows where there are no two sizes.

    scope: "across" all models (one intercept), "within" families (an intercept each), or the name of a
    family. quantity: "score"; "calibrated" by the null and ceiling of each model; "untrained", the score of
    the twins with random weights, which grow with width and depth by themselves.
    """
    lines = []
    for method, part in evidence.groupby("method", sort=False):
        sized = part[part["n_params"].notna() & (part["n_params"] > 0)]
        sized = sized.assign(twin_of=sized["model"].map(without_seed).str.removeprefix(UNTRAINED))
        models = sized[sized["role"] == "model"]
        twins = sized[sized["role"] == "untrained"]
        scores = _by_subject(table, models, method, k)
        kinds = [("score", models, scores)]
        if models["calibrated"].notna().any():
            floor = models["null_mean"].fillna(models["chance"]).to_numpy(float)
            reach = models["ceiling"].to_numpy(float) - floor
            reach = np.where(reach > 1e-6, reach, np.nan)
            kinds.append(("calibrated", models, (scores - floor) / reach))
        if len(twins):
            kinds.append(("untrained", twins, _by_subject(table, twins, method, k)))
        for quantity, of, values in kinds:
            for scope, chosen, families in scopes(of):
                line = slope_of(values[:, chosen], of[chosen], families, plan)
                if line is not None:
                    lines.append(
                        {
                            "dataset": part["dataset"].iloc[0],
                            "method": method,
                            "scope": scope,
                            "quantity": quantity,
                            **line,
                        }
                    )
    return pd.DataFrame(lines, columns=list(COLUMNS))


def scopes(models: pd.DataFrame) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """(scope, mask of the models, families [M] as numbers) of all there are."""
    everything = np.ones(len(models), bool)
    families = models["family"].fillna("other").astype(str).to_numpy()
    names, codes = np.unique(families, return_inverse=True)
    yield "across", everything, np.zeros(len(models), int)
    if len(names) > 1:
        yield "within", everything, codes
    for name in names:
        chosen = families == name
        yield name, chosen, np.zeros(chosen.sum(), int)


def slope_of(
    scores: np.ndarray, models: pd.DataFrame, families: np.ndarray, plan: EvidencePlan
) -> dict | None:
    """The slope of scores [S, M] on the models' log10 "n_params", with interval and p; None for one size.

    families: [M] numbers, an intercept each. plan: n_bootstraps, confidence and seed.
    """
    sizes = np.log10(models["n_params"].to_numpy(float))
    usable = ~np.isnan(scores).all(axis=0)
    scores, sizes, families = scores[:, usable], sizes[usable], families[usable]
    if not len(sizes) or all(np.ptp(sizes[families == f]) == 0 for f in np.unique(families)):
        return None
    _, families = np.unique(families, return_inverse=True)
    of_subjects = _subject_slopes(
        np.float32(np.nan_to_num(scores)),
        np.float32(sizes),
        families,
        np.float32(~np.isnan(scores)),
        n_families=int(families.max()) + 1,
    )
    n_subjects = len(scores)
    if n_subjects < 2:
        slope = float(np.asarray(of_subjects)[0])
        interval, p = (slope, np.nan, np.nan), np.nan
    else:
        test = _slope_test(
            of_subjects,
            bootstrap.draw_counts(n_subjects, plan.n_bootstraps, random_state=plan.seed),
            scaling_slope.draw_signs(n_subjects, SIGNS, random_state=plan.seed),
            confidence=plan.confidence,
        )
        interval = tuple(float(x) for x in test.interval[:3])
        p = float(test.p_sign_flip)
    return {
        "slope": interval[0],
        "lower": interval[1],
        "upper": interval[2],
        "p": p,
        "n_models": len(sizes),
        "n_subjects": n_subjects,
    }


def _by_subject(table: ResultTable, models: pd.DataFrame, method: str, k: int) -> np.ndarray:
    """P@k [S, M] of subjects and models, at the layer chosen in inner folds, else the best group layer."""
    columns = []
    for _, line in models.iterrows():
        layer = SELECTED if line["selection"] == "inner folds" else int(line["layer"])
        rows = table.pooled(METRIC, k=k, model=line["model"], method=method, layer=layer)
        columns.append(rows[rows["subject"] != GROUP].set_index("subject")["value"])
    return pd.concat(columns, axis=1).to_numpy(float) if columns else np.zeros((0, 0))
