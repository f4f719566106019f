"""The files of the Alice release (Brennan et al. 2016): time courses, motion, regressors, predictors.

No data set of its own: `alice` builds on it.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np

from brainalign_jax.names import check_known
from brainalign_jax.neural.readers.registry import choose_subjects, find_folder

NAME = "alice"
SOURCE = (
    "https://sites.lsa.umich.edu/cnllab/2016/06/11/data-sharing-fmri-timecourses-story-listening/"
)
REGIONS = ("LATL", "RATL", "LPTL", "LIPL", "LPreM", "LIFG")
MOTION = ("x mm", "y mm", "z mm", "pitch rad", "roll rad", "yaw rad")  # as SPM writes them
PREDICTORS = (
    "rate_conv",
    "frq_conv_orth",
    "break_conv_orth",
    "tdp_conv_orth",
    "tdx_conv_orth",
    "bup_conv_orth",
    "bux_conv_orth",
    "cfgsurp_conv_orth",
    "bigramlex_conv_orth",
    "trigramlex_conv_orth",
    "bigrampos_conv_orth",
    "trigrampos_conv_orth",
)
REGRESSORS = ("rate", "sndpwr")
TR = 2.0
DISCARDED = 10  # volumes that the time courses lack and the motion and predictor files have
FIRST_VOLUME = DISCARDED * TR  # seconds of audio
SILENCES = ("", "sp", "sil")  # labels of the word tier
DATA = "alice_data_shared"
TEXTGRID = "alice_stim_shared/DownTheRabbitHoleFinal_exp120_pad_1.TextGrid"


def volume_times(n_volumes: int) -> np.ndarray:
    """Audio time [n_volumes] in seconds of every volume: 20 + 2k."""
    return FIRST_VOLUME + TR * np.arange(n_volumes)


def read_timecourses(data_dir: str | Path, subject: str, radius: str = "10mm") -> np.ndarray:
    """The raw region time courses [volumes, 6] float64 of one subject, columns as in `REGIONS`.

    Nothing is cleaned or checked beyond the table's shape: s33 comes back as zeros. Raises
    FileNotFoundError, or ValueError for an unknown subject or radius or a damaged table.
    """
    folder = find_release(data_dir)
    choose_subjects(NAME, _subject_names(folder, radius), [subject])
    return _timecourses(folder, subject, radius)


def read_motion(data_dir: str | Path, subject: str) -> np.ndarray:
    """Realignment parameters [volumes, 6] float64 of one subject, columns as in `MOTION`.

    The file's first ten rows belong to volumes that the time courses lack, and are left out.
    Raises FileNotFoundError, or ValueError for a damaged table or two motion files.
    """
    data = find_release(data_dir) / DATA
    paths = sorted(data.glob(f"{subject}-rp_*.txt"))
    if not paths:
        raise FileNotFoundError(f"there is no {data / f'{subject}-rp_*.txt'}; get it from {SOURCE}")
    if len(paths) > 1:
        raise ValueError(f"{paths[0]} and {paths[1]} are both of {subject}; keep one of them")
    return _read_finite(paths[0], len(MOTION), "motion parameters")[DISCARDED:]


def read_regressor(data_dir: str | Path, subject: str, name: str) -> np.ndarray:
    """A regressor [volumes] float64 as shipped for one subject, under the haemodynamic response.

    name: "rate", words, or "sndpwr", sound power. The release has no sound power of s33: the file is
    a copy of its rate, which a warning says. Raises FileNotFoundError, or ValueError for another
    name or a damaged file.
    """
    check_known("regressor", name, REGRESSORS)
    data = find_release(data_dir) / DATA
    regressors = {}
    for known in dict.fromkeys((name, "rate")):
        path = data / f"{subject}-{known}.txt"
        if path.is_file():
            regressors[known] = _read_finite(path, 1, f"column of the regressor {known}")[:, 0]
    if name not in regressors:
        raise FileNotFoundError(
            f"there is no {data / f'{subject}-{name}.txt'}; get it from {SOURCE}"
        )
    if name != "rate" and np.array_equal(regressors[name], regressors.get("rate")):
        warnings.warn(
            f"{data / f'{subject}-{name}.txt'} is a copy of the rate file: it is no {name}",
            UserWarning,
            stacklevel=2,
        )
    return regressors[name]


def read_predictors(data_dir: str | Path) -> dict[str, np.ndarray]:
    """The release's linguistic predictors, name (as in `PREDICTORS`) -> [volumes] float64.

    Under the haemodynamic response; those named "orth" are orthogonal to the word rate over all
    372 rows of the file. Its first ten belong to volumes that the time courses lack: left out.
    Raises FileNotFoundError, or ValueError for a damaged table.
    """
    data = find_release(data_dir) / DATA
    paths = sorted(data.glob("*generic-predictors*.txt"))
    if not paths:
        raise FileNotFoundError(
            f"there is no {data / '*generic-predictors*.txt'}; get it from {SOURCE}"
        )
    table = _read_finite(paths[0], len(PREDICTORS), "predictors")[DISCARDED:]
    return dict(zip(PREDICTORS, table.T, strict=True))


def usable_subjects(data_dir, subjects, radius: str) -> tuple[Path, tuple[str, ...], list[str]]:
    """The folder, the subjects asked for, and those left out because their recording is empty."""
    folder = find_release(data_dir)
    known = _subject_names(folder, radius)
    asked = choose_subjects(NAME, known, subjects)
    empty = [name for name in asked if not _timecourses(folder, name, radius).any()]
    if subjects is None:
        asked = tuple(name for name in asked if name not in empty)
    reasons = dict.fromkeys(empty, "its recording is all zeros")
    usable = tuple(name for name in known if name not in empty)
    if not usable:
        raise ValueError(
            f"{_radius_folder(folder, radius)}: every recording is all zeros; get them from {SOURCE}"
        )
    return folder, choose_subjects(NAME, usable, asked, unusable=reasons), empty


def find_release(data_dir: str | Path) -> Path:
    """The folder that holds the release; FileNotFoundError with its source."""
    return find_folder(Path(data_dir), ("", "alice"), DATA, SOURCE)


def _radius_folder(folder: Path, radius: str) -> Path:
    check_known("radius=", radius, ("10mm", "6mm"))
    path = folder / DATA / radius
    if not path.is_dir():
        raise FileNotFoundError(f"there is no {path}; get the release from {SOURCE}")
    return path


def _subject_names(folder: Path, radius: str) -> tuple[str, ...]:
    files = _radius_folder(folder, radius).glob("s*-timecourses.txt")
    names = sorted(path.name.removesuffix("-timecourses.txt") for path in files)
    if not names:
        raise FileNotFoundError(
            f"no s*-timecourses.txt in {_radius_folder(folder, radius)}; get them from {SOURCE}"
        )
    return tuple(names)


def timecourse_path(folder: Path, subject: str, radius: str) -> Path:
    """The file of one subject's time courses."""
    return _radius_folder(folder, radius) / f"{subject}-timecourses.txt"


def _timecourses(folder: Path, subject: str, radius: str) -> np.ndarray:
    path = timecourse_path(folder, subject, radius)
    table = _read_matrix(path, len(REGIONS), "regions")
    # The release's files do, all but the motion of s33, which has no time courses either.
    if not path.read_bytes().endswith(b"\n"):
        warnings.warn(
            f"{path} does not end with a line break: its last number may be cut off; get it again "
            f"from {SOURCE}",
            UserWarning,
            stacklevel=2,
        )
    return table


def check_volumes(folder: Path, subject: str, path: Path, n_volumes: int) -> None:
    """A recording cut off at a line's end looks complete, but its regressors are longer."""
    for name in REGRESSORS:
        other = folder / DATA / f"{subject}-{name}.txt"
        if other.is_file() and (rows := len(other.read_bytes().split())) != n_volumes:
            raise ValueError(
                f"{path} has {n_volumes} volumes where {other.name} has {rows}; get both again from "
                f"{SOURCE}"
            )


def _read_finite(path: Path, n_columns: int, what: str) -> np.ndarray:
    table = _read_matrix(path, n_columns, what)
    if not (finite := np.isfinite(table).all(axis=1)).all():
        raise ValueError(
            f"{path} holds NaN or infinite values in row {int(np.argmin(finite)) + 1}; get it again "
            f"from {SOURCE}"
        )
    return table


def _read_matrix(path: Path, n_columns: int, what: str) -> np.ndarray:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an empty file is reported below
            table = np.loadtxt(path, ndmin=2)
    except (ValueError, OSError) as error:
        raise ValueError(
            f"{path} is not a complete table of numbers ({error}); get it again from {SOURCE}"
        ) from error
    if table.shape[1] != n_columns or len(table) < 2:
        raise ValueError(
            f"{path} has shape {table.shape}; expected volumes in rows and the {n_columns} {what} "
            f"in columns: get it again from {SOURCE}"
        )
    return table
