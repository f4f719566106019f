"""What was shown in Pereira et al. 2018: the words or sentences of a file, in the order of its rows.

No data set of its own: `pereira2018` builds on it.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from brainalign_jax.neural.formats.matlab import MatlabFile
from brainalign_jax.neural.readers.pereira.meta import texts

EXPERIMENTS = ("180concepts", "384sentences", "243sentences")
# GloVe vectors of the release: of the words, and means over the content words of the sentences.
_GLOVE = {
    "180concepts": "vectors_180concepts.GV42B300.txt",
    "384sentences": "vectors_384sentences_dereferencedpronouns.GV42B300.average.txt",
    "243sentences": "vectors_243sentences_dereferencedpronouns.GV42B300.average.txt",
}
_CONCEPTS = "stimuli_180concepts.txt"  # whose vectors the rows of the first file are


class Items(NamedTuple):
    """What was shown, row by row of the recording. Words have no passages, sentences no concreteness.

    words: [n]; passages: [n] int, from 1; categories: [n], the passages' topics; concreteness: [n].
    """

    words: tuple[str, ...]
    passages: np.ndarray | None = None
    categories: tuple[str, ...] | None = None
    concreteness: np.ndarray | None = None


def read_items(file: MatlabFile, path: Path, experiment: str, n: int) -> Items:
    """The items of a file in the order of its n rows. Raises ValueError naming the file."""
    concepts = experiment == "180concepts"
    name, labels = (
        ("keyConcept", "labelsConcept") if concepts else ("keySentences", "labelsSentences")
    )
    keys = texts(file.read(name), path, name)
    rows = _labels(file, path, labels, len(keys), n)
    words = tuple(keys[row] for row in rows)
    if concepts:
        concreteness = None
        if "labelsConcreteness" in file.names:
            concreteness = file.read("labelsConcreteness").ravel()
            numbers = concreteness.dtype.kind in "fiub"
            with np.errstate(over="ignore"):  # what overflows is reported as infinite
                concreteness = concreteness.astype(np.float32) if numbers else concreteness
            if not numbers or len(concreteness) != n or not np.isfinite(concreteness).all():
                raise ValueError(
                    f"{path}: labelsConcreteness has {len(concreteness)} entries for {n} rows, or "
                    "holds NaN, infinite values or text; get the file again"
                )
        return Items(words, None, None, concreteness)
    if "labelsPassageForEachSentence" not in file.names:
        return Items(words)
    names = texts(file.read("keyPassages"), path, "keyPassages")
    passages = _labels(file, path, "labelsPassageForEachSentence", len(names), len(keys))[rows]
    categories = None
    if "labelsPassageCategory" in file.names:
        topics = texts(file.read("keyPassageCategory"), path, "keyPassageCategory")
        topic = _labels(file, path, "labelsPassageCategory", len(topics), len(names))
        categories = tuple(topics[topic[passage]] for passage in passages)
    return Items(words, passages + 1, categories)


def item_attributes(items: Items, experiment: str) -> dict[str, object]:
    """What the files say of the items, as the attributes of a stimulus."""
    told = {
        "experiment": (experiment,) * len(items.words),
        "passage": items.passages,
        "topic": items.categories,
        "concreteness": items.concreteness,
    }
    return {name: values for name, values in told.items() if values is not None}


def row_order(listed: Items, items: Items, path: Path) -> np.ndarray:
    """The row of every item in a file that may have them in another order."""
    if listed.words == items.words:
        order = np.arange(len(items.words))
    else:
        rows = {word: row for row, word in enumerate(listed.words)}
        unknown = sorted(set(listed.words) ^ set(items.words))
        if unknown or len(listed.words) != len(items.words) or len(rows) != len(listed.words):
            raise ValueError(
                f"{path} has {len(listed.words)} items, not the {len(items.words)} of the first file"
                f"{': ' + repr(unknown[0]) + ' is in one of them only' if unknown else ''}; "
                "read this subject on its own, or get the file again"
            )
        order = np.array([rows[word] for word in items.words])
    if items.passages is not None and (
        listed.passages is None or (listed.passages[order] != items.passages).any()
    ):
        raise ValueError(
            f"{path} has the sentences in other passages than the first file; "
            "read this subject on its own, or get the file again"
        )
    return order


def shipped_vectors(root: Path, experiment: str, items: Items) -> dict[str, np.ndarray]:
    """The concreteness of words, and the release's vectors where they lie in its folder.

    Raises ValueError for vectors that do not fit the items.
    """
    vectors = {}
    if items.concreteness is not None:
        vectors["concreteness"] = items.concreteness.astype(np.float32)[:, None]
    path = _lying_in(root, _GLOVE[experiment])
    concepts = _lying_in(root, _CONCEPTS) if experiment == "180concepts" else None
    if path is None or (experiment == "180concepts" and concepts is None):
        return vectors
    try:
        values = np.loadtxt(path, dtype=np.float32, ndmin=2)
        if concepts is not None:
            # The list is in the order of the vectors, which need not be that of the recordings.
            rows = {word: row for row, word in enumerate(concepts.read_text("utf-8").split())}
            values = values[[rows[word] for word in items.words]]
        if len(values) != len(items.words) or not np.isfinite(values).all():
            raise ValueError(f"{len(values)} rows for {len(items.words)} items, or NaN")
    except (ValueError, KeyError, IndexError) as error:
        raise ValueError(
            f"{path} does not hold the vectors of the {len(items.words)} items of {experiment} "
            f"({error}); get it again, or move it elsewhere to go without"
        ) from error
    return {**vectors, "glove42B_300": values}


def _lying_in(root: Path, name: str) -> Path | None:
    places = [root / name, *sorted(root.glob(f"Pereira_Materials/**/{name}"))]
    return next((path for path in places if path.is_file()), None)


def _labels(file: MatlabFile, path: Path, name: str, n_keys: int, n: int) -> np.ndarray:
    """[n] int from 0, which key each of n things has; without labels, one key each in order."""
    if name not in file.names:
        labels = np.arange(1, n_keys + 1)
    else:
        labels = file.read(name).ravel()
    if len(labels) != n:
        raise ValueError(f"{path}: {name} has {len(labels)} entries for {n}; get the file again")
    wrong = ~np.isin(labels, np.arange(1, n_keys + 1))
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ValueError(
            f"{path}: {name}[{row}] is {labels[row]}, but keys count from 1 to {n_keys}; "
            "get the file again"
        )
    return labels.astype(np.int64) - 1
