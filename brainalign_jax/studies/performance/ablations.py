"""Do the same ablations cost alignment and prediction? Over the parts of a model that were switched off."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from brainalign_jax.files import user_path
from brainalign_jax.studies.options import Performance
from brainalign_jax.studies.performance import ranks
from brainalign_jax.studies.performance.table import ALL, COMPONENTS
from brainalign_jax.study import outputs
from brainalign_jax.study.results import GROUP, SELECTED

FEWEST_PARTS = 5
PARTS = (
    "model", "method", "how", "readout", "component", "block", "head", "change", "bits_change",
    "random_bits_change",
)  # fmt: skip
_FILE, _KIND = "ablation.parquet", "ablation study"
_PART = ["component", "block", "head"]
_RUN = ["model", "method", "how", "readout"]
_NEEDED = (*_RUN, *_PART, "subject", "layer", "metric", "change", "bits_change")
_INTACT, _RANDOM = "intact", "random"


def read_ablation(folder: str | Path) -> pd.DataFrame:
    """The rows of a folder of `brainalign ablate`.

    Raises: FileNotFoundError or ValueError where it holds none, or the model predicts no words.
    """
    folder = user_path(folder, "ablation", "a folder of `brainalign ablate`")
    _, files = outputs.read_manifest(folder, _KIND)
    rows = outputs.read_table(folder, _FILE, files)
    missing = [name for name in _NEEDED if name not in rows.columns]
    if missing:
        raise ValueError(f"{folder / _FILE} has no column {missing[0]!r}: run `brainalign ablate`")
    chosen = (rows["layer"] == SELECTED) & (rows["metric"] == "rank_accuracy")
    rows = rows[chosen & (rows["component"] != _INTACT)]
    if not rows["bits_change"].notna().any():
        raise ValueError(
            f"{folder / _FILE} has no bits per word, as its models predict no words: ablate a model with a "
            "language-model head"
        )
    return rows


def ablations(rows: pd.DataFrame, plan: Performance) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(rows with `COMPONENTS`, the parts behind them with `PARTS`) of rows of `read_ablation`.

    spearman: over parts, what a part's loss costs in alignment and in bits, both as a loss: above zero the
    same parts are missed. Of component "all": ranks within kinds of parts, which are permuted within kinds,
    as a block costs more than a head in both. partial_spearman: given what a random share of the same norm
    costs in bits, of the parts that have one. Intervals: bootstrap over parts and people.

    Raises: ValueError for fewer than five parts.
    """
    lines, kept = [], []
    people_rows = rows[rows["subject"] != GROUP]
    for run, part in people_rows[people_rows["how"] != _RANDOM].groupby(_RUN, sort=False):
        wide = part.pivot_table(index=_PART, columns="subject", values="change", sort=False)
        bits = part.groupby(_PART, sort=False)["bits_change"].first().reindex(wide.index)
        usable = (wide.notna().all(axis=1) & bits.notna()).to_numpy()
        wide, bits = wide[usable], bits[usable]
        same = (people_rows["model"] == run[0]) & (people_rows["method"] == run[1])
        same &= (people_rows["readout"] == run[3]) & (people_rows["how"] == _RANDOM)
        control = people_rows[same].groupby(_PART)["bits_change"].first().reindex(wide.index)
        about = dict(zip(_RUN, run, strict=True))
        shown = wide.index.to_frame(index=False).assign(
            change=wide.mean(axis=1).to_numpy(),
            bits_change=bits.to_numpy(),
            random_bits_change=control.to_numpy(float),
            **about,
        )
        kept.append(shown[list(PARTS)])
        kinds = shown["component"].to_numpy(str)
        several = [kind for kind in dict.fromkeys(kinds) if (kinds == kind).sum() >= FEWEST_PARTS]
        for kind in [ALL, *several] if len(set(kinds)) > 1 else several:
            chosen = np.ones(len(kinds), bool) if kind == ALL else kinds == kind
            if chosen.sum() >= FEWEST_PARTS:
                line = _line(shown[chosen], -wide[chosen].to_numpy().T, kinds[chosen], plan)
                lines.append({**about, "component": kind, **line})
    if not lines:
        raise ValueError(
            f"fewer than {FEWEST_PARTS} parts were switched off with a change of bits: ablate heads, "
            "attention and ffn"
        )
    return (
        pd.DataFrame(lines, columns=list(COMPONENTS)),
        pd.concat(kept, ignore_index=True),
    )


def _line(
    shown: pd.DataFrame, losses: np.ndarray, kinds: np.ndarray, plan: Performance
) -> dict[str, float]:
    """The relation over parts C of losses [S, C] of people and the bits that they cost."""
    costs = shown["bits_change"].to_numpy(float)
    _, codes = np.unique(kinds, return_inverse=True)
    # A kind's own level is no relation of its parts.
    indicators = [(codes == code).astype(float) for code in range(codes.max())]
    own = losses.mean(axis=0)
    drawn = ranks.resamples(len(costs), len(losses), plan.n_bootstraps, plan.seed)
    lower, upper = ranks.interval(
        ranks.drawn_correlations(losses, costs[None], indicators, drawn), plan.confidence
    )
    found_orders = ranks.orders(codes, plan.n_permutations, len(costs), plan.seed)
    control = shown["random_bits_change"].to_numpy(float)
    known = np.isfinite(control)
    partial = np.nan
    if known.sum() >= FEWEST_PARTS + codes.max():
        columns = [*(column[known] for column in indicators), control[known]]
        partial = float(ranks.partial_spearman(own[known], costs[known], columns))
    return {
        "n_components": len(costs),
        "spearman": float(ranks.partial_spearman(own, costs, indicators)),
        "lower": float(lower[0]),
        "upper": float(upper[0]),
        "p": float(ranks.permutation_test(own, costs[None], indicators, found_orders)[0]),
        "partial_spearman": partial,
        "n_controlled": int(known.sum()),
    }
