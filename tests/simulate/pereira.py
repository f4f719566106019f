"""The release of Pereira et al. 2018, simulated: words and sentences with a planted answer."""

from __future__ import annotations

import os
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.io

from brainalign_jax.files import user_path
from brainalign_jax.names import check_known
from brainalign_jax.neural.selection import voxel_neighbours
from brainalign_jax.neural.simulate.bold import story_words
from brainalign_jax.neural.simulate.mat_files import replacing
from brainalign_jax.stimulus import clean_word
from simulate.matlab73 import write_matlab73
from simulate.pereira_regions import brain_regions

PARADIGMS = ("pictures", "sentences", "wordclouds")
# Who took part in which of the experiments 1 to 3.
PARTICIPANTS = {
    **dict.fromkeys(("P01", "M02", "M04", "M07", "M15"), (1, 2, 3)),
    **dict.fromkeys(("M08", "M09", "M14"), (1, 2)),
    "M03": (1, 3),
    **dict.fromkeys(("M01", "M05", "M06", "M10", "M13", "M16", "M17"), (1,)),
}
_NUMBER = {"180concepts": 1, "384sentences": 2, "243sentences": 3}
_SIZE = {"180concepts": 180, "384sentences": 384, "243sentences": 243}
_PASSAGES = {"384sentences": 96, "243sentences": 72}  # of the full experiments
_PER_CATEGORY = {"384sentences": 4, "243sentences": 3}


@dataclass(frozen=True, eq=False)
class PereiraSimulation:
    """What was written, and the planted answer.

    paths: (subject, file name without ".mat") -> file. items: experiment -> its words or sentences.
    vectors: experiment -> [n, D] features, centred, that drive the voxels of "languageLH".
    passages: experiment -> [n] passage of every sentence, from 1.
    """

    paths: dict[tuple[str, str], Path]
    items: dict[str, tuple[str, ...]]
    vectors: dict[str, np.ndarray]
    passages: dict[str, np.ndarray]
    n_voxels: int
    shape: tuple[int, int, int]
    snr: float
    seed: int

    def indices(self, subject: str) -> np.ndarray:
        """[V, 3] voxel indices from 0, in MATLAB's order; subjects differ in V by a few voxels."""
        grid = np.stack(np.unravel_index(np.arange(np.prod(self.shape)), self.shape, "F"), axis=1)
        distance = np.linalg.norm(_relative(grid, self.shape), axis=1)
        n = self.n_voxels - _key(subject) % min(8, self.n_voxels)
        return grid[np.sort(np.argsort(distance, kind="stable")[:n])]

    def regions(self, subject: str) -> dict[str, dict[str, np.ndarray]]:
        """atlas -> region -> columns from 0."""
        return brain_regions(_relative(self.indices(subject), self.shape), self.seed)

    def responsive(self, subject: str) -> np.ndarray:
        """The columns that the vectors drive: those of languageLH; the others hold noise only."""
        return np.unique(np.concatenate(list(self.regions(subject)["languageLH"].values())))

    def values(self, subject: str, file: str) -> np.ndarray:
        """[n, V] float64 as written to `paths[subject, file]`."""
        experiment = _experiment(file)
        vectors, columns = self.vectors[experiment], self.responsive(subject)
        rng = np.random.default_rng([self.seed, _key(subject)])
        drive = vectors @ rng.standard_normal((vectors.shape[1], len(columns)))
        spread = drive.std(axis=0)
        rng = np.random.default_rng([self.seed, _key(subject), _key(file)])
        values = rng.standard_normal((len(vectors), len(self.indices(subject))))
        values[:, columns] += self.snr * drive / np.where(spread > 0, spread, 1.0)
        return values


def simulate_pereira(
    data_dir: str | os.PathLike,
    *,
    subjects: Sequence[str] | Mapping[str, Sequence[int]] = PARTICIPANTS,
    experiments: Sequence[str] = tuple(_NUMBER),
    items: Mapping[str, Sequence[str]] | None = None,
    vectors: Mapping[str, np.ndarray] | None = None,
    n_voxels: int = 200_000,
    shape: tuple[int, int, int] = (91, 109, 91),
    snr: float = 1.0,
    files: str = "examples",
    roi_tables: str = "older",
    nested: bool = False,
    matlab: str = "5",
    compress: bool = True,
    seed: int = 0,
) -> PereiraSimulation:
    """Write P01/examples_180concepts_pictures.mat ... in the layout of Pereira et al. 2018.

    Without options the whole release at full size: 16 subjects, 62 files, 200,000 voxels on a 2 mm grid.

    subjects: names, each in all of `experiments`; or name -> numbers (1, 2, 3) of its experiments.
    items: experiment -> words or sentences; by default made of the words of the demo story, as many
    as the experiment had. vectors: experiment -> [n, D] planted features; by default normal, D = 25.
    files: "examples" or "data", the two names that files of the release have (in data_384sentences.mat
    the matrix is `examples_passagesentences`). roi_tables: "older" (roiMultimaskAAL ...) or "newer"
    (atlases, rois ...). nested: P01/P01/ for P01/. matlab: "5" or "7.3". snr: standard deviation
    of the signal over that of the noise, in the voxels of the region languageLH.
    data_dir is created where it does not exist. Same seed, same contents.
    Raises ValueError for shapes that disagree, or settings out of range.
    """
    if not isinstance(subjects, Mapping):
        subjects = dict.fromkeys(subjects, (1, 2, 3))
    for name, value, known in (
        ("files", files, ("examples", "data")),
        ("roi_tables", roi_tables, ("older", "newer")),
        ("matlab", matlab, ("5", "7.3")),
        *(("experiments", experiment_name, tuple(_NUMBER)) for experiment_name in experiments),
    ):
        check_known(f"{name}=", value, known)
    if not 8 <= n_voxels <= np.prod(shape) or snr < 0:
        raise ValueError(
            f"n_voxels {n_voxels} must be from 8 to the {np.prod(shape)} of shape {shape}, "
            f"snr {snr} not negative"
        )
    items = {
        experiment_name: tuple((items or {}).get(experiment_name, _made_up(experiment_name)))
        for experiment_name in experiments
    }
    simulation = PereiraSimulation(
        {},
        items,
        {
            experiment_name: _features(
                experiment_name,
                (vectors or {}).get(experiment_name),
                len(items[experiment_name]),
                seed,
            )
            for experiment_name in experiments
        },
        {
            experiment_name: _passages(experiment_name, len(items[experiment_name]))
            for experiment_name in experiments
            if experiment_name in _PASSAGES
        },
        int(n_voxels),
        tuple(shape),
        float(snr),
        seed,
    )
    root = user_path(data_dir, "data_dir")
    for subject, numbers in subjects.items():
        folder = root / subject / subject if nested else root / subject
        folder.mkdir(parents=True, exist_ok=True)
        meta = _meta(simulation, subject, roi_tables)
        for experiment in experiments:
            if _NUMBER[experiment] not in numbers:
                continue
            endings = (
                [f"_{paradigm}" for paradigm in PARADIGMS] if experiment == "180concepts" else [""]
            )
            for file in (f"{files}_{experiment}{ending}" for ending in endings):
                content = _contents(simulation, experiment, subject, file)
                path = folder / f"{file}.mat"
                _write(path, {**content, "meta": meta}, matlab=matlab, compress=compress)
                simulation.paths[subject, file] = path
    return simulation


def _contents(
    simulation: PereiraSimulation, experiment: str, subject: str, file: str
) -> dict[str, np.ndarray]:
    """The variables of a file but `meta`, shaped and typed as in the release."""
    values = simulation.values(subject, file)
    n = len(values)
    labels = np.arange(1.0, n + 1)[:, None]
    if experiment == "180concepts":
        return {
            "examples": values,
            "keyConcept": _cell(simulation.items[experiment]),
            "labelsConcept": labels,
            "labelsConcreteness": np.linspace(1.0, 5.0, n)[:, None],
        }
    passage = simulation.passages[experiment].astype(np.float64)
    n_passages = int(passage.max())
    category = np.arange(n_passages) // _PER_CATEGORY[experiment] + 1.0
    content = {
        "keySentences": _cell(simulation.items[experiment]),
        "labelsSentences": labels,
        "keyPassages": _cell([f"passage {number}" for number in range(1, n_passages + 1)]),
        # A column in experiment 2, a row in experiment 3.
        "labelsPassageForEachSentence": (
            passage[:, None] if experiment == "384sentences" else passage[None]
        ),
        "keyPassageCategory": _cell(
            [f"category {number}" for number in range(1, int(category[-1]) + 1)]
        ).T,
        "labelsPassageCategory": category[:, None],
    }
    if file.startswith("examples"):
        return {"examples": values, **content}
    means = np.stack(
        [values[passage == number].mean(axis=0) for number in range(1, n_passages + 1)]
    )
    return {"examples_passages": means, "examples_passagesentences": values, **content}


def _meta(simulation: PereiraSimulation, subject: str, roi_tables: str) -> dict[str, object]:
    shape, indices = simulation.shape, simulation.indices(subject)
    n = len(indices)
    column = np.zeros(shape)
    column[tuple(indices.T)] = np.arange(1, n + 1)
    neighbours = voxel_neighbours(indices) + 1.0  # from 1, 0 where there is none
    counts = (neighbours > 0).sum(axis=1).astype(np.float64)[:, None]
    meta = {
        **{f"dim{axis}": float(size) for axis, size in zip("xyz", shape, strict=True)},
        "dimensions": np.array([shape], np.float64),
        "indicesIn3D": np.ravel_multi_index(tuple(indices.T), shape, order="F")[:, None] + 1.0,
        "colToCoord": indices + 1.0,
        "coordToCol": column,
        "voxelsToNeighbours": neighbours,
    }
    regions = simulation.regions(subject)
    columns = {a: [c[:, None] + 1.0 for c in r.values()] for a, r in regions.items()}
    masks = {atlas: np.zeros((n, 1)) for atlas in regions}
    for atlas, parts in columns.items():
        for label, part in enumerate(parts, 1):
            masks[atlas][part.ravel().astype(int) - 1] = label
    if roi_tables == "newer":
        return {
            **meta,
            "numberOfNeighbors": counts,
            "atlases": _cell(list(regions)).T,
            "rois": _cell([_cell(list(names)) for names in regions.values()]).T,
            "roiColumns": _cell([_cell(parts) for parts in columns.values()]).T,
            "roiMultimask": _cell(list(masks.values())).T,
        }
    meta["numberOfNeighbours"] = counts
    for atlas, name in (("aal", "AAL"), ("gordon", "Gordon")):
        meta[f"roiMultimask{name}"] = masks[atlas]
        meta[f"rois{name}"] = _cell(list(regions[atlas]))
        meta[f"roiColumns{name}"] = _cell(columns[atlas])
    return meta


def _write(path: Path, content: dict, *, matlab: str, compress: bool) -> None:
    with replacing(path) as temporary:
        if matlab == "7.3":
            write_matlab73(temporary, content)
        else:
            with temporary.open("wb") as file:
                scipy.io.savemat(file, content, do_compression=compress, long_field_names=True)
                # SciPy writes the time of day here; equal seeds shall give equal bytes.
                file.seek(0)
                file.write(b"MATLAB 5.0 MAT-file, simulated by brainalign_jax".ljust(116))


def _cell(parts: Sequence) -> np.ndarray:
    """A MATLAB cell [n, 1]."""
    cell = np.empty((len(parts), 1), object)
    for row, part in enumerate(parts):
        cell[row, 0] = part
    return cell


def _made_up(experiment: str) -> tuple[str, ...]:
    words = sorted({clean_word(word).lower() for word in story_words()} - {""})
    words = [word for word in words if len(word) > 2 and word.isalpha()]
    n = _SIZE[experiment]
    if experiment == "180concepts":
        return tuple(words[:n])
    rng = np.random.default_rng(_key(experiment))
    drawn = (rng.choice(words, size=rng.integers(5, 11), replace=False) for _ in range(n))
    return tuple(" ".join(sentence).capitalize() + "." for sentence in drawn)


def _features(experiment: str, vectors: np.ndarray | None, n: int, seed: int) -> np.ndarray:
    if vectors is None:
        vectors = np.random.default_rng([seed, _key(experiment)]).standard_normal((n, 25))
    vectors = np.asarray(vectors, np.float64)
    if vectors.ndim != 2 or len(vectors) != n or not np.isfinite(vectors).all():
        raise ValueError(
            f"the vectors of {experiment} have shape {vectors.shape} for {n} items; "
            "give one finite row an item"
        )
    return vectors - vectors.mean(axis=0)


def _passages(experiment: str, n: int) -> np.ndarray:
    count = max(1, round(n * _PASSAGES[experiment] / _SIZE[experiment]))
    return np.concatenate(
        [
            np.full(len(rows), number)
            for number, rows in enumerate(np.array_split(np.arange(n), count), 1)
        ]
    )


def _relative(indices: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """Places from -1 to 1 along each axis of the volume."""
    middle = (np.array(shape) - 1) / 2
    return (indices - middle) / np.maximum(middle, 0.5)


def _experiment(file: str) -> str:
    return next(experiment for experiment in _NUMBER if experiment in file)


def _key(name: str) -> int:
    return zlib.crc32(name.encode())
