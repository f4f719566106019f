"""Kernels of people whose recordings stay where they are: inner products of their word responses."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from brainalign_jax.files import new_file, output_folder
from brainalign_jax.neural.formats.arrays import check_memory
from brainalign_jax.neural.inner_products import MARK, OF_OPTIONS, products_of, responses_of
from brainalign_jax.neural.readers.registry import Dataset, choose_subjects, register
from brainalign_jax.neural.responses import WordResponses

NAME = "kernels"
_OF_PERSON = ("alpha", "confounds", "centred")  # of kernel and cleaning, what a recording decides
_SQUARES = 5  # matrices of products, float64, that are held at a time
_MOST_WORDS = 20_000  # of which the products take 1.6 GB
_VECTORS = (
    "vectors"  # folder of the word vectors that the release ships, which are nobody's responses
)


@register(NAME)
def read_kernels(data_dir: str | Path, *, subjects: str | Iterable[str] | None = None) -> Dataset:
    """Inner products of word responses that `brainalign kernels export` wrote, `SUBJECT.npz` a person.

    Responses come in axes of their own, with the inner products, and those of rows less their means, that
    the recording's have: ridge, Procrustes and RDMs score as they do on the recording. What asks for single
    voxels (their selection or scaling, rank correlations over them) is refused.

    Raises: FileNotFoundError, or ValueError naming the file: of another kind, damaged, with words, times or
    attributes that are not the first person's, or made with other options.
    """
    folder = Path(data_dir)
    paths = {
        path.stem: path for path in sorted(folder.glob("*.npz")) if not path.name.startswith(".")
    }
    if not paths:
        raise FileNotFoundError(
            f"there is no kernel (SUBJECT.npz) in {folder}; `brainalign kernels export` writes them"
        )
    chosen = choose_subjects(NAME, tuple(paths), subjects)
    stimulus, meta, made = None, {}, {}
    for subject in chosen:
        kernel = WordResponses.load(paths[subject])
        if MARK not in kernel.meta:
            raise ValueError(
                f"{paths[subject]} holds no inner products but responses: open it as --dataset=table"
            )
        check_memory(_SQUARES * 8 * len(kernel.stimulus) ** 2, paths[subject], "its products")
        how = _made_with(kernel.meta)
        if stimulus is None:
            stimulus, made = kernel.stimulus, how
            shared = ("dataset", "citation", "licence", "notes")
            meta = {name: kernel.meta[name] for name in shared if name in kernel.meta}
        elif kernel.stimulus.fingerprint() != stimulus.fingerprint():
            raise ValueError(
                f"{paths[subject]} has other words, times or attributes than {paths[chosen[0]]}: export all "
                "people from one data set with the same options"
            )
        elif how != made:
            (name, *_) = (key for key in (*how, *made) if how.get(key) != made.get(key))
            raise ValueError(
                f"{paths[subject]} was made with {name}={how.get(name)}, {paths[chosen[0]]} with "
                f"{made.get(name)}: export all people with the same options, to an empty folder"
            )

    def load(subject: str) -> WordResponses:
        try:
            return responses_of(WordResponses.load(paths[subject], verify=True))
        except ValueError as error:
            raise ValueError(f"{paths[subject]}: {error}") from None

    return Dataset(
        NAME, chosen, stimulus, load, meta, _read_vectors(folder / _VECTORS, len(stimulus))
    )


def _made_with(meta: dict) -> dict:
    """What the options of the export's reader decided, a value a name."""
    made = {name: meta[name] for name in OF_OPTIONS if name in meta}
    for part in ("kernel", "cleaning"):
        facts = meta.get(part)
        if isinstance(facts, dict):
            made |= {name: value for name, value in facts.items() if name not in _OF_PERSON}
    return made


def _read_vectors(folder: Path, n_words: int) -> dict[str, np.ndarray]:
    """Word vectors [N, D] by name. Raises: ValueError naming the file."""
    vectors = {}
    for path in sorted(folder.glob("*.npy")):
        try:
            values = np.load(path, mmap_mode="r", allow_pickle=False)
        except (ValueError, OSError, EOFError) as error:
            raise ValueError(f"{path} cannot be read ({error}): export the kernels again") from None
        if values.ndim != 2 or len(values) != n_words or values.dtype.kind not in "fiu":
            raise ValueError(
                f"{path} holds {values.dtype} of shape {values.shape}, not a vector for each of the "
                f"{n_words} words: export the kernels again"
            )
        vectors[path.stem] = np.asarray(values)
    return vectors


def export_kernels(dataset: Dataset, output_dir: str | Path) -> list[Path]:
    """Write `SUBJECT.npz` for each person of a dataset: inner products of word responses, and the words.

    `ba.open_dataset("kernels", output_dir)` reads them. The products are of rows less their mean over the
    words, so that a large offset costs no digits; the mean's own products with the rows, and the rows' sums,
    stand in the header. Names and places of features and names of files are left out; the fingerprint of the
    responses is there, by which the recording is known again. Word vectors that the release ships go with
    them, in `vectors`. docs/datasets.md says what products reveal.

    Returns: the files' paths, in the order of the subjects.

    Raises: ValueError for a data set whose items are spans, that is made of kernels already, or of more than
    20,000 words; for a subject whose name is no file name, or a folder with people or vectors that the data
    set does not have. Files that are there are replaced, each whole or not at all.

    >>> import brainalign_jax as ba
    >>> words = ba.Stimulus.from_words(["sun", "moon", "star"])
    >>> load = lambda subject: ba.WordResponses(subject, [[0.1, 0.7], [0.4, 0.2], [0.3, 0.3]], words)
    >>> paths = ba.export_kernels(ba.Dataset("mine", ("S1",), words, load), "kernels")
    >>> ba.open_dataset("kernels", "kernels").subjects
    ('S1',)
    """
    folder = output_folder(output_dir, "output_dir")
    if dataset.spans is not None:
        raise ValueError(
            f"{dataset.name}: the items are spans of sentences, which kernels do not hold"
        )
    if len(dataset.stimulus) > _MOST_WORDS:
        raise ValueError(
            f"{dataset.name} has {len(dataset.stimulus):,} words, whose products would take "
            f"{len(dataset.stimulus) ** 2 * 4 / 2**30:.1f} GiB a person: export at most {_MOST_WORDS:,} words"
        )
    for subject in (*dataset.subjects, *dataset.vectors):
        if not subject or subject.startswith(".") or any(sign in subject for sign in "/\\\0"):
            raise ValueError(f"{subject!r} of {dataset.name} is no name of a file")
    for path in sorted((folder / _VECTORS).glob("*.npy")):
        if path.stem not in dataset.vectors:
            raise ValueError(f"{path} is of another data set: export to an empty folder")
    for path in sorted(folder.glob("*.npz")):
        if path.stem not in dataset.subjects:
            raise ValueError(f"{path} is of another person: export to an empty folder")
    folder.mkdir(parents=True, exist_ok=True)
    for name, vectors in dataset.vectors.items():
        (folder / _VECTORS).mkdir(exist_ok=True)
        with new_file(folder / _VECTORS / f"{name}.npy") as file:
            np.save(file, np.asarray(vectors), allow_pickle=False)
    return [
        products_of(dataset.load(subject)).save(folder / f"{subject}.npz")
        for subject in dataset.subjects
    ]
