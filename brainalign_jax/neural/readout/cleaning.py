"""Time series made fit for analysis: drifts and confounds removed run by run."""

from __future__ import annotations

import warnings

import numpy as np

from brainalign_jax.neural.voxels import check_confounds, check_voxels

_FEW = 5  # degrees of freedom left by cleaning, below which a warning is due
_LONGEST_OPERATOR = 2000  # volumes; a matrix for more is slower than filtering itself


def clean_runs(
    bold: np.ndarray,
    run: np.ndarray | None,
    *,
    tr: float,
    detrend: bool = True,
    high_pass: float | None = None,
    standardize: bool = True,
    confounds: np.ndarray | None = None,
    subject: str = "unnamed",
) -> np.ndarray:
    """Clean every run on its own: linear detrend, high-pass, confounds, z-score, by nilearn.

    bold: [time, V]; run: [time] or None (one run); tr in seconds; high_pass in Hz (Butterworth);
    confounds: [time, C], regressed out within each run; `subject` is for messages.
    Returns [time, V] of the same dtype.
    Raises ValueError for NaN, infinite or (with standardize) constant voxels, see `check_voxels`,
    other row counts, or a run too short to filter; ImportError without nilearn.
    """
    bold = np.asarray(bold)
    if bold.ndim != 2:
        raise ValueError(f"the recording has shape {bold.shape}; give [volumes, voxels]")
    if bold.dtype.kind != "f":
        bold = bold.astype(np.float64)
    run = np.zeros(len(bold), np.int32) if run is None else np.asarray(run)
    for name, rows in (("run", run), ("confounds", confounds)):
        if rows is not None and len(rows) != len(bold):
            raise ValueError(f"{name} has {len(rows)} rows for {len(bold)} volumes")
    if not tr > 0:
        raise ValueError(f"tr is {tr}; give the repetition time in seconds")
    check_voxels(bold, subject=subject, run=run, constant=standardize)
    if confounds is not None:
        check_confounds(confounds, "confounds")
    return Cleaner(
        run,
        tr=tr,
        detrend=detrend,
        high_pass=high_pass,
        standardize=standardize,
        confounds=confounds,
    )(bold)


def _z_scores(part: np.ndarray, raw: np.ndarray, label) -> np.ndarray:
    """Columns with mean 0 and sample deviation 1; raw: what was left of them before filtering."""
    with np.errstate(over="ignore", invalid="ignore"):
        part = part - part.mean(axis=0)
        spread, before = part.std(axis=0, ddof=1), raw.std(axis=0, ddof=1)
    if not (finite := np.isfinite(before)).all():
        raise ValueError(
            f"{int((~finite).sum())} voxels hold values too large to work with in run {label}, up to "
            f"{np.abs(raw).max():g}: the recording is damaged"
        )
    if (empty := _only_rounding(spread, before)).any():
        raise ValueError(
            f"{int(empty.sum())} voxels are nothing but trend and confounds in run {label}: their "
            "z-scores would be rounding; leave them out, with a mask or bad_voxels=drop, or take "
            "fewer confounds"
        )
    return part / spread


def _only_rounding(spread: np.ndarray, before: np.ndarray) -> np.ndarray:
    """Which columns [v] bool have lost all but rounding of the standard deviation they had before."""
    return ~(spread > (1e-9 if spread.dtype == np.float64 else 1e-6) * before)


class Cleaner:
    """`clean_runs` for a recording that is cleaned block by block: called with columns [time, v].

    Arguments as for `clean_runs`; tr: seconds, or run label -> seconds. The columns are taken to be
    usable, see `VoxelAudit`.
    """

    def __init__(
        self,
        run: np.ndarray,
        *,
        tr: float | dict,
        detrend: bool = True,
        high_pass: float | None = None,
        standardize: bool = True,
        confounds: np.ndarray | None = None,
    ):
        try:
            from nilearn import signal
        except ImportError as error:
            raise ImportError("cleaning time series needs nilearn: pip install nilearn") from error
        self._clean = signal.clean
        self._standardize = standardize
        self._filters = detrend or high_pass is not None or confounds is not None
        self._confounds = None if confounds is None else np.asarray(confounds)
        self._options = {
            "detrend": detrend,
            "standardize": None,
            "high_pass": high_pass,
            "filter": "butterworth" if high_pass is not None else False,
        }
        self._runs = []
        self._operators: dict = {}  # run label -> [volumes, volumes], made when first needed
        for label in np.unique(run):
            rows = np.flatnonzero(run == label)
            run_tr = float(tr[label] if isinstance(tr, dict) else tr)
            if high_pass is not None and not 0 < high_pass < 0.5 / run_tr:
                raise ValueError(
                    f"high_pass is {high_pass} Hz in run {label} with a TR of {run_tr:g} s; give a "
                    f"frequency between 0 and {0.5 / run_tr:g} Hz, or none"
                )
            self._check_freedom(label, rows, detrend, standardize)
            self._runs.append((label, rows, run_tr))

    def _check_freedom(self, label, rows: np.ndarray, detrend: bool, standardize: bool) -> None:
        """What is left after the regressors must be more than rounding, which z-scoring would blow up."""
        regressors = [np.ones(len(rows))] if detrend or standardize else []
        if detrend:
            regressors.append(np.linspace(-1, 1, len(rows)))
        if self._confounds is not None:
            confounds = self._confounds[rows].astype(np.float64)
            size = np.abs(confounds).max(axis=0)
            regressors += list((confounds / np.where(size > 0, size, 1)).T)
        if not regressors:
            return
        left = len(rows) - np.linalg.matrix_rank(np.stack(regressors))
        if left < 1:
            raise ValueError(
                f"run {label} has {len(rows)} volumes and as many independent regressors (mean, trend, "
                "confounds): nothing would be left of the recording; take fewer confounds"
            )
        if left < _FEW:
            warnings.warn(
                f"run {label} has {len(rows)} volumes of which mean, trend and confounds leave {left} "
                "degrees of freedom: take fewer confounds",
                UserWarning,
                stacklevel=4,
            )

    def __call__(self, block: np.ndarray) -> np.ndarray:
        """The block cleaned, of the same dtype; the block itself where there is nothing to do.

        Raises ValueError for a run too short to filter, and for voxels that are nothing but trend and
        confounds, of which only rounding would be left.
        """
        if not block.shape[1] or not (self._filters or self._standardize):
            return block
        cleaned = np.empty_like(block)
        for label, rows, tr in self._runs:
            part = block[rows]
            if self._filters:
                part = self._filtered(part, label, rows, tr)
            if self._standardize:
                part = _z_scores(part, block[rows] if self._filters else part, label)
            cleaned[rows] = part
        return cleaned

    def emptied(self, block: np.ndarray) -> np.ndarray:
        """Which columns [v] bool are nothing but trend and confounds in one of the runs."""
        empty = np.zeros(block.shape[1], bool)
        if not block.shape[1] or not (self._filters and self._standardize):
            return empty
        for label, rows, tr in self._runs:
            part = block[rows]
            with np.errstate(over="ignore", invalid="ignore"):
                before = part.std(axis=0, ddof=1)
                left = self._filtered(part, label, rows, tr).std(axis=0, ddof=1)
            empty |= np.isfinite(before) & _only_rounding(left, before)
        return empty

    def _filtered(self, part: np.ndarray, label, rows: np.ndarray, tr: float) -> np.ndarray:
        alone = self._options["high_pass"] is None and self._confounds is None
        if alone or len(rows) > _LONGEST_OPERATOR:
            return self._by_nilearn(part, label, rows, tr)
        # nilearn filters voxel by voxel. All it does here is linear in the time series, and one matrix
        # a run does the same to all voxels in a fraction of the time.
        if label not in self._operators:
            self._operators[label] = self._by_nilearn(np.eye(len(rows)), label, rows, tr)
        level = part.mean(axis=0)  # taken off and put back, for the digits that it would cost
        constant = self._operators[label].sum(axis=1)
        filtered = self._operators[label] @ (part - level) + np.multiply.outer(constant, level)
        return filtered.astype(part.dtype, copy=False)

    def _by_nilearn(self, part: np.ndarray, label, rows: np.ndarray, tr: float) -> np.ndarray:
        confounds = None if self._confounds is None else self._confounds[rows]
        try:
            return self._clean(part, confounds=confounds, t_r=tr, **self._options)
        except ValueError as error:
            raise ValueError(
                f"run {label} ({len(rows)} volumes, TR {tr:g} s, high_pass "
                f"{self._options['high_pass']} Hz) cannot be cleaned: {error}"
            ) from error
