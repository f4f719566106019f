"""Sentences with rewordings that follow from them and rewordings that do not, from files of two columns.

The layout is that of IMPLI: a folder of `.tsv` files without a header, the sentence in the first column and
a rewording in the second. In files whose names end in `_e` it follows from the sentence, in those whose names
end in `_ne` it does not. The same sentence stands in files of both kinds.

Reference: Stowe, Utama & Gurevych 2022, IMPLI: Investigating NLI models' performance on figurative language
(ACL).
"""

from __future__ import annotations

import hashlib
import itertools
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from brainalign_jax.files import user_path
from brainalign_jax.stimulus import shown_form

FOLLOWS, DOES_NOT = "e", "ne"
FIGURATIVE, REFERENCE = "figurative", "reference"
_BYTES = 2**26  # of a file
_LONGEST = 20_000  # characters of a text
_MOST = 2_000_000  # pairs
_FILES = 1000
_WORD = re.compile(r"\w+")
_LAYOUT = "give files of a sentence, a tab and a rewording a row, named ..._e.tsv and ..._ne.tsv"


class Pairs(NamedTuple):
    """Sentences and, a row each, pairs of a rewording that follows and one that does not.

    texts: the T distinct texts. units: the sentences, I of them and each once, that pairs belong to. Of each
    pair, [P]: unit; sentence, follows and does_not, indices of texts; group, the folder; source, the file of
    the rewording that does not follow. left_out: how many sentences or rows took no part, by why.
    """

    texts: tuple[str, ...]
    units: tuple[str, ...]
    unit: np.ndarray
    sentence: np.ndarray
    follows: np.ndarray
    does_not: np.ndarray
    group: np.ndarray
    source: np.ndarray
    left_out: dict[str, int]

    def fingerprint(self) -> str:
        """SHA-256 (hex) over the texts and what is paired with what."""
        digest = hashlib.sha256()
        for text in (*self.texts, *self.group, *self.source):
            data = str(text).encode("utf-8", "surrogatepass")
            digest.update(len(data).to_bytes(8, "little") + data)
        for rows in (self.unit, self.sentence, self.follows, self.does_not):
            digest.update(rows.astype("<i8").tobytes())
        return digest.hexdigest()

    def of_units(self, chosen: np.ndarray) -> Pairs:
        """The pairs of these units (indices), and the texts that they need."""
        kept = np.isin(self.unit, chosen)
        columns = (self.sentence[kept], self.follows[kept], self.does_not[kept])
        used, places = np.unique(np.concatenate(columns), return_inverse=True)
        sentence, follows, does_not = places.reshape(3, -1)
        units, unit = np.unique(self.unit[kept], return_inverse=True)
        return Pairs(
            tuple(self.texts[index] for index in used),
            tuple(self.units[index] for index in units),
            unit,
            sentence,
            follows,
            does_not,
            self.group[kept],
            self.source[kept],
            self.left_out,
        )


def read_pairs(folder: str | Path) -> Pairs:
    """The pairs of a folder of `.tsv` files, or of its folders, each of which is a group.

    Every rewording that follows is paired with every one that does not, of the same sentence in the same
    group. Blanks around texts do not count, and rows that are repeated count once. Left out, and counted, are
    rewordings that are the sentence itself or stand in files of both kinds (IMPLI has some), and sentences
    with rewordings of one kind only.

    Raises: FileNotFoundError, or ValueError naming the file and row: not two columns, an empty text, no
      sentence with both kinds of rewording.
    """
    folder = user_path(folder, "data_dir")
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}; {_LAYOUT}")
    paths = sorted(path for path in [*folder.glob("*.tsv"), *folder.glob("*/*.tsv")])
    if not paths or len(paths) > _FILES:
        raise FileNotFoundError(f"{folder} holds {len(paths)} .tsv files; {_LAYOUT}")
    rewordings: dict[tuple[str, str], dict[str, dict[str, str]]] = {}
    same = 0
    for path in paths:
        kind = _kind(path)
        for sentence, rewording in _rows(path):
            if sentence == rewording:
                same += 1
                continue
            known = rewordings.setdefault((path.parent.name, sentence), {})
            known.setdefault(rewording, {}).setdefault(kind, path.stem)
    return _paired(folder, rewordings, same)


def literal_pairs(pairs: Pairs) -> Pairs | None:
    """The literal sentences among the rewordings, as reference: None where no sentence has two that follow.

    A rewording that follows takes the sentence's place; another that follows from the same sentence is its
    paraphrase, and what does not follow from the sentence does not follow from it. The unit is the sentence.
    """
    columns: list[tuple[int, int, int, int, str, str]] = []
    order = np.argsort(pairs.unit, kind="stable")
    ends = np.cumsum(np.bincount(pairs.unit, minlength=len(pairs.units)))
    for unit, rows in enumerate(np.split(order, ends[:-1])):
        literal = np.unique(pairs.follows[rows])
        others = {int(pairs.does_not[row]): pairs.source[row] for row in rows}
        for sentence, paraphrase in itertools.permutations(literal, 2):
            for other, source in others.items():
                columns.append((unit, sentence, paraphrase, other, pairs.group[rows[0]], source))
    if not columns or len(columns) > _MOST:
        return None
    unit, *others = map(np.array, zip(*columns, strict=True))
    units, unit = np.unique(unit, return_inverse=True)
    names = tuple(pairs.units[index] for index in units)
    return Pairs._make([pairs.texts, names, unit, *others, {}])


def words_of(text: str) -> list[str]:
    """The words of a text without regard to case: stretches of letters and digits."""
    return _WORD.findall(text.casefold())


def overlap(pairs: Pairs) -> tuple[np.ndarray, np.ndarray]:
    """Share of the words that a sentence and its rewording have in common (Jaccard), [P] of each kind."""
    sets = [frozenset(words_of(text)) for text in pairs.texts]

    def shared(left: np.ndarray, right: np.ndarray) -> np.ndarray:
        return np.array(
            [
                len(sets[sentence] & sets[other]) / max(len(sets[sentence] | sets[other]), 1)
                for sentence, other in zip(left, right, strict=True)
            ]
        )

    return shared(pairs.sentence, pairs.follows), shared(pairs.sentence, pairs.does_not)


def length_likeness(pairs: Pairs) -> tuple[np.ndarray, np.ndarray]:
    """Minus the difference in words between a sentence and its rewording, [P] of each kind."""
    lengths = np.array([len(words_of(text)) for text in pairs.texts], float)
    original = lengths[pairs.sentence]
    return -np.abs(lengths[pairs.follows] - original), -np.abs(lengths[pairs.does_not] - original)


def balanced_on_overlap(pairs: Pairs, *, caliper: float) -> np.ndarray:
    """[P] bool: pairs among which overlap does not decide.

    Pairs in which the rewording that follows shares more words are matched with pairs in which it shares
    fewer, by as much: each once, no further apart than `caliper` in Jaccard. Pairs in which both share as
    many are kept.
    """
    nearer, further = overlap(pairs)
    lead = nearer - further
    kept = np.abs(lead) < 1e-12
    ahead, behind = np.flatnonzero(lead >= 1e-12), np.flatnonzero(lead <= -1e-12)
    ahead, behind = ahead[np.argsort(lead[ahead])], behind[np.argsort(-lead[behind])]
    sizes = -lead[behind]
    first = 0
    # Both in order of size: each takes the first that is left and near enough.
    for row in ahead:
        while first < len(behind) and sizes[first] < lead[row] - caliper:
            first += 1
        if first < len(behind) and sizes[first] <= lead[row] + caliper:
            kept[[row, behind[first]]] = True
            first += 1
    return kept


def _kind(path: Path) -> str:
    ending = path.stem.rpartition("_")[2]
    if ending not in (FOLLOWS, DOES_NOT):
        raise ValueError(
            f"{path}: its name ends neither in _e (follows) nor in _ne (does not); rename or remove it"
        )
    return ending


def _rows(path: Path) -> list[tuple[str, str]]:
    size = path.stat().st_size
    if size > _BYTES:
        raise ValueError(f"{path} has {size:,} bytes: give files of at most {_BYTES:,}")
    rows = []
    for number, line in enumerate(path.read_bytes().split(b"\n"), 1):
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r")
        except UnicodeDecodeError as error:
            raise ValueError(
                f"{path}, row {number}: {error.reason} at byte {error.start}; write the file as UTF-8"
            ) from None
        if not text.strip():
            continue
        fields = [shown_form(field.strip()) for field in text.split("\t")]
        if len(fields) != 2:
            raise ValueError(
                f"{path}, row {number} has {len(fields)} columns; give a sentence, a tab and a rewording"
            )
        for field, what in zip(fields, ("sentence", "rewording"), strict=True):
            if not words_of(field) or len(field) > _LONGEST:
                said = f"{len(field):,} characters" if field else "no text"
                raise ValueError(
                    f"{path}, row {number}: the {what} has {said}; give words, of at most {_LONGEST:,} "
                    "characters"
                )
        rows.append((fields[0], fields[1]))
    if not rows:
        raise ValueError(f"{path} has no rows; remove it, or {_LAYOUT}")
    return rows


def _paired(folder: Path, rewordings: dict, same: int) -> Pairs:
    index: dict[str, int] = {}
    units: dict[str, int] = {}  # a sentence of several groups is one unit
    columns: list[tuple[int, int, int, int, str, str]] = []
    unpaired = both = 0
    for (group, sentence), known in rewordings.items():
        both += sum(len(kinds) > 1 for kinds in known.values())
        of_kind = {
            kind: [(text, kinds[kind]) for text, kinds in known.items() if list(kinds) == [kind]]
            for kind in (FOLLOWS, DOES_NOT)
        }
        if not all(of_kind.values()):
            unpaired += 1
            continue
        if len(columns) + len(of_kind[FOLLOWS]) * len(of_kind[DOES_NOT]) > _MOST:
            raise ValueError(
                f"{folder} has more than {_MOST:,} pairs of rewordings: give fewer files"
            )
        place = index.setdefault(sentence, len(index))
        unit = units.setdefault(sentence, len(units))
        for text, _ in of_kind[FOLLOWS]:
            follows = index.setdefault(text, len(index))
            for other, stem in of_kind[DOES_NOT]:
                does_not = index.setdefault(other, len(index))
                columns.append((unit, place, follows, does_not, group, stem))
    if len(units) < 2:
        raise ValueError(
            f"{folder} has {len(units)} sentences with a rewording that follows and one that does not; "
            f"{_LAYOUT}, the same sentences in both"
        )
    unit_of, sentence, follows, does_not, group, source = map(np.array, zip(*columns, strict=True))
    left_out = {
        "sentences with rewordings of one kind only": unpaired,
        "rewordings that stand in files of both kinds": both,
        "rewordings that are the sentence itself": same,
    }
    return Pairs(
        tuple(index), tuple(units), unit_of, sentence, follows, does_not, group, source, left_out
    )
