"""Pereira et al. 2018, experiment 1: 180 concept words, 15 subjects, one response a word."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from brainalign_jax.neural.formats.arrays import ARRAY_DAMAGE, as_float32, check_archive, read_npz
from brainalign_jax.neural.readers.registry import Dataset, choose_subjects, find_folder, register
from brainalign_jax.neural.responses import WordResponses
from brainalign_jax.neural.voxels import check_voxels
from brainalign_jax.stimulus import Stimulus

NAME = "pereira180"
SOURCE = "https://osf.io/crwz7 (pereira180.npz: the study's 180 words as principal components)"
# The kinds of their dtypes, and their axes.
_ARRAYS = {
    "fmri_pca": ("fiu", (3,)),
    "words": ("U", (1,)),
    "subjects": ("U", (1,)),
    "glove42B_300": ("fiu", (2,)),
    "concreteness": ("fiu", (1, 2)),
}
# The file numbers its rows without a gap; the study has no M11 and no M12.
PARTICIPANTS = {f"M{number}": f"M{number + 2}" for number in range(11, 16)}
# A component whose range is below this share of its subject's median range holds rounding only.
_ROUNDING = 1e-12


@register(NAME)
def read_pereira180(
    data_dir: str | Path,
    *,
    subjects: str | Iterable[str] | None = None,
    bad_voxels: str = "raise",
) -> Dataset:
    """The 180 words of Pereira et al. 2018, experiment 1, as isolated items (no onsets).

    data_dir: the folder that holds `pereira180.npz`, or its parent. A subject's values are
    [180, 179] principal components of the mean response over three presentations, every voxel
    z-scored over the words. The release stores 180 components, but 180 centred rows have rank 179:
    the last is zero to rounding and is left out without a warning; `meta` says so.
    Subjects are named as the file names them. Its M11, M12, M13, M14 and M15 are the participants M13,
    M14, M15, M16 and M17 of the study and of `pereira2018`, matched voxel by voxel against an
    independent copy; the others have the study's names. `meta["participant"]` is the study's.
    bad_voxels: "raise" or "drop" for components that are constant or not finite.
    `vectors` holds "glove42B_300" [180, 300] and "concreteness" [180, 1], which is the words' attribute, too.
    Raises FileNotFoundError, or ValueError for a damaged file, an unknown subject or bad voxels.
    Reference: Pereira et al. 2018, Nature Communications 9:963.
    """
    folder = find_folder(Path(data_dir), ("", "pereira180"), "pereira180.npz", SOURCE)
    path = folder / "pereira180.npz"
    arrays = _read_arrays(path)
    words = tuple(str(word) for word in arrays["words"])
    known = tuple(str(subject) for subject in arrays["subjects"])
    n, shape = len(words), arrays["fmri_pca"].shape
    if shape[:2] != (len(known), n) or 0 in shape:
        raise ValueError(
            f"{path}: fmri_pca has shape {shape} for {len(known)} subjects and {n} words; "
            f"get the file again from {SOURCE}"
        )
    vectors = {}
    for name in ("glove42B_300", "concreteness"):
        with np.errstate(over="ignore"):  # what overflows is reported as infinite
            vectors[name] = arrays[name].astype(np.float32)
        if len(vectors[name]) != n or not np.isfinite(vectors[name]).all():
            raise ValueError(
                f"{path}: {name} has shape {arrays[name].shape} for {n} words, or holds NaN "
                f"or infinite values; get the file again from {SOURCE}"
            )
        vectors[name] = vectors[name].reshape(n, -1)
    for what, names in (("word", words), ("subject", known)):
        if len(set(names)) < len(names):
            twice = next(name for index, name in enumerate(names) if name in names[:index])
            raise ValueError(
                f"{path} lists the {what} {twice!r} twice; get the file again from {SOURCE}"
            )
    try:
        concreteness = arrays["concreteness"].astype(np.float64).reshape(n, -1)[:, 0]
        stimulus = Stimulus(words, attributes={"concreteness": concreteness})
    except ValueError as error:
        raise ValueError(f"{path}: {error}; get the file again from {SOURCE}") from error
    chosen = choose_subjects(NAME, known, subjects)
    meta = {
        "dataset": NAME,
        "citation": "Pereira et al. 2018, Nature Communications 9:963 (experiment 1; the file's M11 to "
        "M15 are the study's M13 to M17)",
        "licence": "none stated; the study's data are public on OSF (crwz7)",
        "notes": "principal components of the voxels, axes not shared between subjects; "
        "components that are zero to rounding are left out",
    }

    def load(subject: str) -> WordResponses:
        values = arrays["fmri_pca"][known.index(subject)]
        # Responses are float32: what that cannot hold is reported with the NaN.
        values = np.where(np.abs(values) > np.finfo(np.float32).max, np.inf, values)
        with np.errstate(invalid="ignore"):
            spread = np.ptp(values, axis=0)
        # NaN and infinity are not below and stay, for check_voxels to report.
        usual = np.median(spread[np.isfinite(spread)]) if np.isfinite(spread).any() else 0.0
        kept = ~(spread <= _ROUNDING * usual)
        if not kept.any():
            raise ValueError(
                f"{path}: the responses of subject {subject} are constant; get it again from {SOURCE}"
            )
        values, good = check_voxels(
            values[:, kept], subject=subject, bad_voxels=bad_voxels, what=str(path)
        )
        values, centred = as_float32(values)
        columns = np.flatnonzero(kept)[good]
        of_subject = {
            "participant": PARTICIPANTS.get(subject, subject),
            "zero_components": np.flatnonzero(~kept).tolist(),
            "dropped_voxels": int((~good).sum()),
            **({"centred": True} if centred else {}),
            "feature_names": [f"component {column}" for column in columns],
        }
        return WordResponses(subject, values, stimulus, None, {**meta, **of_subject})

    return Dataset(NAME, chosen, stimulus, load, meta, vectors)


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    try:
        check_archive(path, _ARRAYS)
        arrays = {name: read_npz(path, name) for name in _ARRAYS}
    except ARRAY_DAMAGE as error:
        raise ValueError(
            f"{path} is not the pereira180 file, or is truncated ({error}); "
            f"get it again from {SOURCE}"
        ) from error
    for name, (kinds, axes) in _ARRAYS.items():
        array = np.asarray(arrays[name])  # NumPy gives the bytes of what is no array
        if array.dtype.kind not in kinds or array.ndim not in axes:
            raise ValueError(
                f"{path}: {name} has shape {array.shape} and dtype {array.dtype}, which is not that of "
                f"the release; get the file again from {SOURCE}"
            )
    return arrays
