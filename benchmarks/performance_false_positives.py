"""How often does a study of performance see what is not there, and are the models that it asks for enough?

    python -m benchmarks.performance_false_positives --n_studies=200 --output=out/performance.json

Kinds of studies, each with a p of the partial correlation given size: "noise", scores and task of noise, 16
models of one family; "size", both grow with size and share nothing else, 16 models of one family; "families",
the same for 24 models of four families, whose scores differ in level; "few", noise of six models. p must be
below .05 in .02 to .09 of 200 studies (the middle 95 % of .05 are .02 to .08). "power": as many models as
`needed_models` asks for at correlations of .5 and .7 find it in about .8 of the studies.

Prints a Markdown table with exact intervals and writes JSON with all p. A minute of processor time.
"""

import numpy as np
import pandas as pd
from absl import app, flags

from benchmarks.false_positives import (
    LEVEL,
    define_flags,
    finish,
    p_by_test,
    share_line,
    share_lines,
)
from brainalign_jax.studies.options import Performance
from brainalign_jax.studies.performance import ranks, run_performance

KINDS = ("noise", "size", "families", "few")
CORRELATIONS = (0.5, 0.7)


def simulated(kind: str, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(scores, tasks) of a study in which scores and task share nothing but size."""
    rng = np.random.default_rng(seed)
    n_models, n_families = {"few": (6, 1), "families": (24, 4)}.get(kind, (16, 1))
    families = np.arange(n_models) % n_families
    sizes = rng.uniform(7.5, 10.5, n_models)
    slope = 1.0 if kind in ("size", "families") else 0.0
    level = 2.0 * rng.standard_normal(n_families)[families] * (kind == "families")
    about = {
        "model": [f"m{i}" for i in range(n_models)],
        "family": [f"f{family}" for family in families],
        "n_params": 10**sizes,
    }
    scores = pd.DataFrame(about).assign(score=slope * sizes + level + rng.standard_normal(n_models))
    tasks = pd.DataFrame(about).assign(
        task="t", value=slope * sizes + rng.standard_normal(n_models)
    )
    return scores, tasks


def p_value(kind: str, seed: int, *, n_permutations: int = 999) -> float:
    """p of the partial correlation in one study of a kind."""
    plan = Performance(n_permutations=n_permutations, n_bootstraps=100, seed=seed)
    return float(run_performance(*simulated(kind, seed), plan=plan).rows["p"].iloc[0])


def found_share(correlation: float, n_studies: int, *, seed: int = 0) -> tuple[int, float]:
    """(the models needed, the share of studies with p < .05) of a partial Spearman of this size, given size.

    Scores and task are normal; their Pearson correlation, given size, is that of which the Spearman
    correlation is as asked for.
    """
    rng = np.random.default_rng(seed)
    n_models = int(ranks.needed_models(correlation, 1))
    pearson = 2 * np.sin(np.pi * correlation / 6)
    n_significant = 0
    for study in range(n_studies):
        sizes = rng.standard_normal(n_models)
        shared = rng.standard_normal(n_models)
        own = pearson * shared + np.sqrt(1 - pearson**2) * rng.standard_normal(n_models)
        orders = ranks.orders(None, 499, n_models, seed=study)
        scores, tasks = sizes / 2 + shared, sizes / 2 + own
        n_significant += ranks.permutation_test(scores, tasks[None], [sizes], orders)[0] < LEVEL
    return n_models, n_significant / n_studies


def main(argv: list[str]) -> None:
    del argv
    asked = flags.FLAGS
    by_kind = p_by_test(lambda kind, seed: {kind: p_value(kind, seed)})
    lines, power = share_lines(by_kind), {}
    for correlation in CORRELATIONS:
        n_models, share = found_share(correlation, asked.n_studies, seed=asked.seed)
        power[correlation] = {"n_models": n_models, "share": share}
        name = f"correlation {correlation}, {n_models} models"
        lines.append(share_line(name, round(share * asked.n_studies), asked.n_studies))
    finish(lines, p=by_kind, power=power)


if __name__ == "__main__":
    define_flags(KINDS)
    app.run(main)
