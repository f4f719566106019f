"""Static word vectors in text format: fastText ``.vec``, word2vec text, GloVe; plain or gzipped."""

from __future__ import annotations

import gzip
import unicodedata
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from brainalign_jax.files import user_path
from brainalign_jax.names import check_known
from brainalign_jax.stimulus import shown_form


class StaticVectors(NamedTuple):
    """values: [words, D] float32, in the order asked for; missing: the words without a vector,
    whose rows are zero."""

    values: np.ndarray
    missing: tuple[str, ...]


def read_vectors(
    path: str | Path, words: Sequence[str], *, missing: str = "error"
) -> StaticVectors:
    """The vectors of `words` from a text file, read as a stream that keeps only what is needed.

    Format: one line a word, the word, then D numbers, separated by single spaces; a first line of
    two integers (count and D; fastText, word2vec) is a header. A word is looked up as it is, then
    in lower case, then either with straight for typographic apostrophes and hyphens, then all of
    these in Unicode's forms NFC and NFD. Where the file has a word twice, the first line counts.

    missing="error" raises ValueError for words that are not in the file; "zero" gives them zeros.
    Also raises FileNotFoundError, and ValueError for a malformed line (named) or a broken gzip.
    """
    check_known("missing=", missing, ("error", "zero"))
    path = user_path(path, "path", "a file of word vectors")
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} does not exist; give a .vec or GloVe text file, or its .gz"
        )
    forms = [[form.encode("utf-8", "replace") for form in _forms(word)] for word in words]
    wanted = {form for options in forms for form in options}
    best = {options[0] for options in forms}
    vectors: dict[bytes, np.ndarray] = {}
    width = 0
    for number, word, vector in _lines(path, wanted):
        width = width or len(vector)
        if not np.isfinite(vector).all():
            raise ValueError(
                f"{path}, line {number}: the vector of {word.decode()!r} is not finite"
            )
        vectors.setdefault(word, vector)
        best.discard(word)
        if not best:
            break

    absent = tuple(
        dict.fromkeys(
            word
            for word, options in zip(words, forms, strict=True)
            if not any(form in vectors for form in options)
        )
    )
    if absent and (missing == "error" or not vectors):
        shown = ", ".join(repr(word) for word in absent[:10]) + ", ..." * (len(absent) > 10)
        remedy = "use vectors with a larger vocabulary"
        if missing == "error":
            remedy += ", leave these words out of the stimulus, or pass missing='zero'"
        else:
            remedy += ", or of the words' language"
        raise ValueError(
            f"{path} lacks {len(absent)} of {len(set(words))} words: {shown}; {remedy}"
        )
    values = np.zeros((len(words), width), np.float32)
    for row, options in enumerate(forms):
        for form in options:
            if form in vectors:
                values[row] = vectors[form]
                break
    return StaticVectors(values, absent)


def _forms(word: str) -> list[str]:
    straight = word.replace("’", "'").replace("\u2010", "-").replace("\u2011", "-")
    spellings = [word, word.lower(), straight, straight.lower()]
    composed = [unicodedata.normalize("NFC", shown_form(form)) for form in spellings]
    decomposed = [unicodedata.normalize("NFD", form) for form in composed]
    return list(dict.fromkeys([*spellings, *composed, *decomposed]))


def _lines(path: Path, wanted: set[bytes]) -> Iterator[tuple[int, bytes, np.ndarray]]:
    """(line number, word, vector) of the lines whose word is wanted; every line is checked."""
    with path.open("rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
    width = None
    try:
        with gzip.open(path, "rb") if zipped else path.open("rb") as file:
            for number, raw in enumerate(file, start=1):
                line = raw.removeprefix(b"\xef\xbb\xbf") if number == 1 else raw
                line = line.rstrip(b" \r\n")
                if not line:
                    continue
                if width is None:
                    fields = line.split(b" ")
                    if number == 1 and len(fields) == 2 and all(f.isdigit() for f in fields):
                        width = int(fields[1])
                        if width < 1:
                            raise ValueError(f"{path}, line 1: the header gives width {width}")
                        continue
                    width = len(fields) - 1
                    if width < 1:
                        raise _malformed(path, number, line, "has no numbers")
                spaces = line.count(b" ")
                if spaces < width:
                    raise _malformed(path, number, line, f"has {spaces} numbers, not {width}")
                word, *numbers = (
                    line.split(b" ", 1) if spaces == width else line.rsplit(b" ", width)
                )
                # GloVe 840B has words with spaces (". . ."); a number is not the end of a word.
                if spaces > width and _is_number(word.rsplit(b" ", 1)[-1]):
                    raise _malformed(path, number, line, f"has more than {width} numbers")
                if word not in wanted:
                    continue
                if spaces == width:
                    numbers = numbers[0].split(b" ")
                try:
                    vector = np.array([float(value) for value in numbers], np.float32)
                except ValueError as error:
                    raise _malformed(path, number, line, f"is not numeric ({error})") from None
                yield number, word, vector
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path} is a broken gzip file ({error}); download it again") from error
    if width is None:
        raise ValueError(f"{path} is empty; download it again")


def _is_number(field: bytes) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True


def _malformed(path: Path, number: int, line: bytes, what: str) -> ValueError:
    start = line[:40].decode("utf-8", "replace")
    return ValueError(
        f"{path}, line {number} ({start!r}...) {what}; expected a word and its numbers separated "
        "by single spaces"
    )
