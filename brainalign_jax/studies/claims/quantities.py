"""One number of a study's tables: which rows, and what is made of them. Nothing is ever evaluated as code."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pandas as pd

from brainalign_jax.align.stats.bootstrap import draw_counts
from brainalign_jax.names import check_known
from brainalign_jax.study.results import GROUP

_BOOTSTRAPS, _CONFIDENCE = 2000, 0.95
# Columns that hold the interval of another, where a table has them.
_INTERVALS = {
    "score": ("lower", "upper"),
    "slope": ("lower", "upper"),
    "partial_spearman": ("lower", "upper"),
    "calibrated": ("calibrated_lower", "calibrated_upper"),
    "control_difference": ("control_lower", "control_upper"),
    "static_difference": ("static_lower", "static_upper"),
    "unique_r": ("low", "high"),
}
# What rows of one score, by several metrics, have in common.
_CELL = ("dataset", "subject", "model", "layer", "method", "protocol", "fold")
Scalar = str | int | float | bool


class Value(NamedTuple):
    """A number, its 95 % interval (NaN where there is none), and how many rows it is made of."""

    value: float
    lower: float
    upper: float
    n_rows: int


@dataclass(frozen=True)
class Quantity:
    """What number of which table.

    table: of the study, as "results" or "evidence". where: column -> the value, or values, of the rows.
    column: that is taken. aggregate: of AGGREGATES: `value` (of one row), mean, median, min, max; along a
    second column `slope` (least squares), `log_slope` (per tenfold of it), `spearman` and `peak` (where the
    column is largest); `difference` of the mean from that of the rows that `minus` has in place of `where`'s.
    each: a column, as "subject": the aggregate of each of its values, then their mean, with a bootstrap
    interval over them; the rows of the group are left out. transform: of TRANSFORMS: `mean_rank` makes
    rank accuracy of the results the mean rank among the candidates, 1 the first.

    >>> import pandas as pd
    >>> rows = pd.DataFrame({"layer": [0, 1, 2], "value": [0.1, 0.3, 0.2]})
    >>> quantity = Quantity("results", aggregate="peak", along="layer")
    >>> quantity.of({"results": rows}).value
    1.0
    """

    table: str
    where: Mapping[str, Scalar | tuple[Scalar, ...]] = field(default_factory=dict)
    column: str = "value"
    aggregate: str = "value"
    along: str | None = None
    minus: Mapping[str, Scalar | tuple[Scalar, ...]] | None = None
    each: str | None = None
    transform: str | None = None

    def __post_init__(self):
        check_known("aggregate=", self.aggregate, AGGREGATES)
        if self.transform is not None:
            check_known("transform=", self.transform, TRANSFORMS)
            if self.column != "value":
                raise ValueError(f"transform={self.transform!r} is of the column 'value'")
        if (self.aggregate in _ALONG) != (self.along is not None):
            needs = "takes a column along=" if self.aggregate in _ALONG else "takes no along="
            raise ValueError(f"aggregate={self.aggregate!r} {needs}, as layer or n_params")
        if (self.aggregate == "difference") != (self.minus is not None):
            needs = "takes rows minus=" if self.minus is None else "takes no minus="
            raise ValueError(f"aggregate={self.aggregate!r} {needs}, as {{ layer = 0 }}")

    def columns(self) -> tuple[str, ...]:
        """The columns that a table must have."""
        ranks = ("metric", "k", "chance") if self.transform else ()
        named = (self.column, self.along, self.each, *self.where, *(self.minus or ()), *ranks)
        return tuple(dict.fromkeys(name for name in named if name is not None))

    def of(self, tables: Mapping[str, pd.DataFrame]) -> Value:
        """The number in these tables.

        Raises: ValueError where the table or a column is not there, no row has what `where` asks for, or a
          row that has it has no value.
        """
        check_known("table", self.table, tables, of="this study")
        rows = tables[self.table]
        for name in self.columns():
            check_known("column", name, rows.columns, of=f"the table {self.table!r}")
        if self.each is None:
            chosen = self._rows(rows, self.where)
            lower, upper = self._own_interval(chosen)
            return Value(self._aggregated(chosen, rows), lower, upper, len(chosen))
        rows = rows[rows[self.each].astype(str) != GROUP]
        chosen = self._rows(rows, self.where)
        if chosen[self.each].isna().any():
            raise ValueError(f"{self.each} is not known of all rows with {_told(self.where)}")
        values = np.array(
            [
                self._aggregated(part, rows[rows[self.each] == name])
                for name, part in chosen.groupby(self.each, sort=False)
            ]
        )
        return Value(float(values.mean()), *_interval_of_mean(values), len(chosen))

    def _rows(self, rows: pd.DataFrame, where: Mapping) -> pd.DataFrame:
        kept = np.ones(len(rows), bool)
        for name, wanted in where.items():
            several = wanted if isinstance(wanted, tuple) else (wanted,)
            kept &= rows[name].isin(several).to_numpy()
        chosen = rows[kept]
        if chosen.empty:
            raise ValueError(f"no row of the table {self.table!r} has {_told(where)}")
        lacking = int(chosen[self.column].isna().sum())
        if lacking:
            raise ValueError(
                f"{lacking} of {len(chosen)} rows of the table {self.table!r} with {_told(where)} have no "
                f"{self.column}"
            )
        return chosen

    def _aggregated(self, chosen: pd.DataFrame, rows: pd.DataFrame) -> float:
        values = self._transformed(chosen, rows)
        if self.minus is not None:
            others = self._rows(rows, {**self.where, **self.minus})
            return float(values.mean() - self._transformed(others, rows).mean())
        along = None if self.along is None else chosen[self.along].to_numpy(float)
        if along is not None and not np.isfinite(along).all():
            raise ValueError(f"{self.along} is not known of all rows with {_told(self.where)}")
        return float(_AGGREGATES[self.aggregate](values, along))

    def _transformed(self, chosen: pd.DataFrame, rows: pd.DataFrame) -> np.ndarray:
        values = chosen[self.column].to_numpy(float)
        if self.transform == "mean_rank":
            return 1 + (_candidates(chosen, rows) - 1) * (1 - values)
        return values

    def _own_interval(self, chosen: pd.DataFrame) -> tuple[float, float]:
        names = _INTERVALS.get(self.column, ())
        plain = self.aggregate == "value" and self.transform is None
        if not plain or not names or not {*names} <= {*chosen.columns}:
            return float("nan"), float("nan")
        return float(chosen[names[0]].iloc[0]), float(chosen[names[1]].iloc[0])


def _candidates(chosen: pd.DataFrame, rows: pd.DataFrame) -> np.ndarray:
    """Candidates of each row of rank accuracy, by the chance of precision@k of the same words: the words that
    are tested, `n_items`, are fewer in a fold, and more where people are together or words recur."""
    if (chosen["metric"] != "rank_accuracy").any():
        raise ValueError('mean_rank takes rows with metric="rank_accuracy" alone')
    of = [name for name in _CELL if name in rows]
    hits = rows[rows["k"] > 0]
    known = (hits["k"] / hits["chance"]).groupby([hits[name] for name in of]).first()
    counts = chosen[of].merge(known.rename("count").reset_index(), on=of, how="left")["count"]
    counts = counts.to_numpy(float)
    # Of the group, the mean of chance is of no whole number where people have other words.
    if not (np.abs(counts - np.round(counts)) < 1e-6 * counts).all():
        raise ValueError("the candidates of mean_rank are not known, or not as many for all people")
    return np.round(counts)


def _only(values: np.ndarray, _along) -> float:
    if len(values) != 1:
        raise ValueError(
            f"{len(values)} rows have what is asked for: name more columns, or an aggregate"
        )
    return values[0]


def _slope(values: np.ndarray, along: np.ndarray) -> float:
    if len(np.unique(along)) < 2:
        raise ValueError("a slope takes two or more values of the column along=")
    return np.polyfit(along, values, 1)[0]


def _log_slope(values: np.ndarray, along: np.ndarray) -> float:
    if (along <= 0).any():
        raise ValueError("log_slope takes values above zero of the column along=")
    return _slope(values, np.log10(along))


def _spearman(values: np.ndarray, along: np.ndarray) -> float:
    if len(np.unique(along)) < 3 or len(np.unique(values)) < 2:
        raise ValueError(
            "spearman takes three or more places that differ along=, and values that do"
        )
    ranks = pd.DataFrame({"values": values, "along": along}).rank()
    return ranks["values"].corr(ranks["along"])


_ALONG: dict[str, Callable] = {
    "slope": _slope,
    "log_slope": _log_slope,
    "spearman": _spearman,
    "peak": lambda values, along: along[np.argmax(values)],
}
_AGGREGATES: dict[str, Callable] = {
    "value": _only,
    "mean": lambda values, _: values.mean(),
    "median": lambda values, _: np.median(values),
    "min": lambda values, _: values.min(),
    "max": lambda values, _: values.max(),
    **_ALONG,
}
AGGREGATES = (*_AGGREGATES, "difference")
TRANSFORMS = ("mean_rank",)


def _interval_of_mean(values: np.ndarray) -> tuple[float, float]:
    """Of the mean over units, by resampling them; NaN of fewer than two."""
    if len(values) < 2:
        return float("nan"), float("nan")
    means = draw_counts(len(values), _BOOTSTRAPS) @ values / len(values)
    edge = (1 - _CONFIDENCE) / 2
    return float(np.quantile(means, edge)), float(np.quantile(means, 1 - edge))


def _told(where: Mapping) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in where.items()) or "anything"
