"""Kriegeskorte et al. 2008: RDMs of the inferior temporal cortex of four people who saw 92 images."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from brainalign_jax.neural.formats.matlab import open_matlab
from brainalign_jax.neural.inner_products import of_zero_mean
from brainalign_jax.neural.readers.registry import Dataset, choose_subjects, find_folder, register
from brainalign_jax.neural.responses import WordResponses
from brainalign_jax.scripts import NO_LANGUAGE
from brainalign_jax.stimulus import Stimulus

NAME = "kriegeskorte2008"
FILE = "92_brainRDMs.mat"
SOURCE = f"`brainalign fetch {NAME}`"
SUBJECTS, N_SESSIONS, N_IMAGES = ("BE", "KO", "SN", "TI"), 2, 92
_ROUNDING = 1e-4  # of 1 - r in float32, of 92 rows


@register(NAME)
def read_kriegeskorte2008(
    data_dir: str | Path, *, subjects: str | Iterable[str] | None = None
) -> Dataset:
    """Four people's RDMs of 92 images, mean over two sessions, as responses that have these RDMs.

    data_dir: the folder of `92_brainRDMs.mat`, or its parent if that one is named "kriegeskorte2008".
    The release has correlation distances and no patterns. These are inner products of rows of zero mean and
    unit length, less one: responses [92, 93] are rows with these inner products, in axes of their own, whose
    correlation distances are the release's to 1e-6. Columns are no voxels. Items are "image01" to "image92"
    in the release's order (12 parts of human bodies, 12 human faces, 12 parts of animals' bodies, 12 faces of
    animals, 23 natural and 21 artificial objects): pictures, no words. Language models are refused: the
    numbers of the names tell the order, and so the kinds of objects.
    Raises: FileNotFoundError, or ValueError naming the file and what is wrong: shapes, names, or RDMs that no
      patterns have.
    Reference: Kriegeskorte et al. 2008, Neuron 60:1126-1141.
    """
    path = find_folder(Path(data_dir), ("", NAME), FILE, SOURCE) / FILE
    rdms = _read_rdms(path)
    names = [f"image{number:02d}" for number in range(1, N_IMAGES + 1)]
    stimulus = Stimulus.from_words(names, language=NO_LANGUAGE)
    chosen = choose_subjects(NAME, SUBJECTS, subjects)
    meta = {
        "dataset": NAME,
        "citation": "Kriegeskorte et al. 2008, Neuron 60:1126-1141",
        "licence": "with the MIT licence of rsatoolbox, in whose repository the file is",
        "notes": "made of correlation distances, the mean of two sessions; columns are no voxels",
    }

    def load(subject: str) -> WordResponses:
        values = _patterns(rdms[SUBJECTS.index(subject)], f"{path}: the RDM of {subject}")
        return WordResponses(subject, values, stimulus, None, meta)

    return Dataset(NAME, chosen, stimulus, load, meta)


def _read_rdms(path: Path) -> np.ndarray:
    """Mean RDMs [4, 92, 92] over the sessions."""
    with open_matlab(path, source=SOURCE) as mat:
        structs = mat.read("RDMs")
    shape = (1, len(SUBJECTS), N_SESSIONS)
    if structs.shape != shape or not {"RDM", "name"} <= {*(structs.dtype.names or ())}:
        raise ValueError(
            f"{path}: RDMs has shape {structs.shape}, not {shape} of structs with RDM and name: get the file "
            f"again: {SOURCE}"
        )
    rdms = np.empty((*shape[1:], N_IMAGES, N_IMAGES))
    for person, subject in enumerate(SUBJECTS):
        for session in range(N_SESSIONS):
            struct = structs[0, person, session]
            rdm, name = np.asarray(struct["RDM"]), str(np.ravel(struct["name"])[0])
            place = f"{path}: RDMs(1,{person + 1},{session + 1})"
            if f"| {subject} | Session: {session + 1}" not in name:
                raise ValueError(
                    f"{place} is named {name!r}, not of {subject} in session {session + 1}: get the file "
                    f"again: {SOURCE}"
                )
            if rdm.shape != rdms.shape[2:] or rdm.dtype.kind != "f" or not np.isfinite(rdm).all():
                raise ValueError(
                    f"{place} holds {rdm.dtype} of shape {rdm.shape}, or values that are no finite numbers; "
                    f"expected {rdms.shape[2:]}: get the file again: {SOURCE}"
                )
            if np.diagonal(rdm).any() or not np.array_equal(rdm, rdm.T):
                raise ValueError(
                    f"{place} is not symmetric with zeros in its diagonal: get the file again: {SOURCE}"
                )
            rdms[person, session] = rdm
    return rdms.mean(axis=1)


def _patterns(rdm: np.ndarray, place: str) -> np.ndarray:
    """Rows [N, N + 1] of zero mean and unit length whose correlation distances are an RDM [N, N]."""
    variances, axes = np.linalg.eigh(1.0 - rdm)
    if variances.min() < -_ROUNDING:
        raise ValueError(
            f"{place} holds no correlation distances, as 1 less them are no inner products: get the file "
            f"again: {SOURCE}"
        )
    return of_zero_mean(axes * np.sqrt(np.maximum(variances, 0.0))).astype(np.float32)
