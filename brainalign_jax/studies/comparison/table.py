"""The tidy table of a comparison: one row a pair of layers, or of a layer and people, and words."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from brainalign_jax.studies.comparison.values import HalfValues, PairValues, Sides
from brainalign_jax.study import outputs
from brainalign_jax.study.evidence import chance
from brainalign_jax.study.results import SELECTED

ALL, AGREED, OTHERS = "all", "agreed", "others"
PEOPLE = "people"
COLUMNS = (
    "dataset", "words", "measure", "first", "first_layer", "second", "second_layer", "value", "null_mean",
    "calibrated", "p", "difference", "p_difference", "n_items", "n_draws",
)  # fmt: skip
FILE = "comparison.parquet"


@dataclass(frozen=True)
class ComparisonTable(outputs.StudyTable):
    """rows: a DataFrame with `COLUMNS`; manifest: how they came about.

    first, second: models, or "people", the mean over them; layers -1 are the two that are most alike, held
    against the most alike of every draw (both by what exceeds a pair's own null, of measures that have one).
    words: "all", or the halves that people agree on more ("agreed") and
    less ("others"), of the two layers that are most alike in all. null_mean: of permuted words; calibrated:
    (value - null_mean) / (1 - null_mean). difference: agreed less others, two-sided p_difference against
    random halves. pwcca weighs by the axes of the first, and with people by theirs.
    """

    file_name = FILE
    kind = "comparison"

    def matrix(self, measure: str, column: str = "value") -> pd.DataFrame:
        """Values of all pairs of layers, indexed by (model, layer) on both sides, people last."""
        rows = self.rows
        rows = rows[(rows["measure"] == measure) & (rows["words"] == ALL)]
        rows = rows[(rows["first_layer"] != SELECTED) | (rows["first"] == PEOPLE)]
        rows = rows[(rows["second_layer"] != SELECTED) | (rows["second"] == PEOPLE)]
        names = list(zip(rows["first"], rows["first_layer"], strict=True))
        names += list(zip(rows["second"], rows["second_layer"], strict=True))
        order = [name for name in dict.fromkeys(names) if name[0] != PEOPLE]
        order += [name for name in dict.fromkeys(names) if name[0] == PEOPLE]
        index = pd.MultiIndex.from_tuples(order, names=["model", "layer"])
        matrix = pd.DataFrame(np.nan, index=index, columns=index)
        for _, row in rows.iterrows():
            matrix.loc[(row["first"], row["first_layer"]), (row["second"], row["second_layer"])] = (
                row[column]
            )
        return matrix

    def verdict(self) -> str:
        """The answer in words, a sentence or two a pair of models."""
        from brainalign_jax.studies.comparison.verdict import headline

        return headline(self)


def rows_of(
    measure: str,
    sides: Sides,
    values: PairValues,
    halves: HalfValues | None,
    n_items: int,
    *,
    shifts: bool,
    own_null: bool = False,
) -> pd.DataFrame:
    """Rows of one measure. shifts: the permutations are shifts in time. own_null: see `Measure`."""
    n_layers = len(sides.labels)
    models = list(dict.fromkeys(model for model, _ in sides.labels))
    owned = {m: [i for i, (model, _) in enumerate(sides.labels) if model == m] for m in models}
    people = list(range(n_layers, n_layers + len(sides.people)))
    lines = []

    def add(first, second, value, drawn, words=ALL, difference=(np.nan, np.nan), count=n_items):
        tested = len(drawn) > 0
        null = float(np.mean(drawn)) if tested else np.nan
        p = chance.permutation_p(float(value), drawn, shifts=shifts) if tested else np.nan
        lines.append(
            {
                "words": words,
                "measure": measure,
                "first": first[0],
                "first_layer": first[1],
                "second": second[0],
                "second_layer": second[1],
                "value": float(value),
                "null_mean": null,
                "calibrated": (float(value) - null) / (1 - null) if null < 1 else np.nan,
                "p": p,
                "difference": difference[0],
                "p_difference": difference[1],
                "n_items": count,
                "n_draws": len(drawn),
            }
        )

    everyone = (PEOPLE, SELECTED)
    for i, label in enumerate(sides.labels):
        for j in range(n_layers):
            add(label, sides.labels[j], values.observed[i, j], values.drawn[:, i, j])
        of_people = values.observed[people, i].mean()
        add(label, everyone, of_people, values.drawn[:, people, i].mean(axis=1))
    for number, name in enumerate(models):
        for other in models[number + 1 :]:
            rows, columns = np.ix_(owned[name], owned[other])
            block = values.observed[rows, columns]
            drawn = values.drawn[:, rows, columns].reshape(-1, block.size)
            place, best = chance.best_place(block.ravel(), drawn, own_null=own_null)
            at = np.unravel_index(place, block.shape)
            i, j = owned[name][at[0]], owned[other][at[1]]
            pair = (name, SELECTED), (other, SELECTED)
            add(*pair, values.observed[i, j], best)
            if halves is not None:
                gap = float(halves.agreed[i, j] - halves.others[i, j])
                drawn = np.abs(halves.drawn[:, i, j])
                p = chance.permutation_p(abs(gap), drawn) if len(drawn) else np.nan
                none, half = np.zeros(0), n_items // 2
                add(*pair, halves.agreed[i, j], none, AGREED, (gap, p), half)
                add(*pair, halves.others[i, j], none, OTHERS, count=half)
        block = values.observed[np.ix_(people, owned[name])].mean(axis=0)
        drawn = values.drawn[:, people][:, :, owned[name]].mean(axis=1)
        place, best = chance.best_place(block, drawn, own_null=own_null)
        add((name, SELECTED), everyone, block[place], best)
    if len(people) > 1:
        upper = np.triu_indices(len(people), 1)
        of_pairs = values.observed[np.ix_(people, people)][upper].mean()
        drawn = values.drawn[:, n_layers:, n_layers:][:, upper[0], upper[1]].mean(axis=1)
        add(everyone, everyone, of_pairs, drawn)
    return pd.DataFrame(lines)
