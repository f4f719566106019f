"""Responses with a time axis that a user made: words x channels x times, as `.npz` or `.parquet`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from brainalign_jax.names import check_known
from brainalign_jax.neural.formats.arrays import ARRAY_DAMAGE, check_archive, check_size, read_npz
from brainalign_jax.neural.formats.text.columns import TIMING
from brainalign_jax.neural.formats.text.tables import npz_names, parquet_file
from brainalign_jax.neural.readers.registry import Dataset, choose_subjects, register
from brainalign_jax.neural.readout.epochs import (
    APART,
    BAD_EPOCHS,
    EpochedResponses,
    check_same_words,
    check_window,
    mean_loader,
    onsets_apart,
    without_bad_epochs,
)
from brainalign_jax.stimulus import Stimulus

NAME = "epochs"
_SUFFIXES = (".npz", ".parquet")
_NEEDED = ("responses", "times", "words")
_OPTIONAL = ("channels", "valid", "subjects", *TIMING.values())
_KEYS = ("epoch", "time", "word")  # columns that a parquet table must have
_LEFT_OUT = ("condition", "valid", "subject")  # columns that are no channels


class _Subject(NamedTuple):
    """Where a subject is: a file, and the place in it (None: all of it is the subject's)."""

    path: Path
    place: int | str | None
    stimulus: Stimulus

    def __str__(self) -> str:
        return str(self.path) if self.place is None else f"{self.path}, subject {self.place}"


@register(NAME)
def read_epochs(
    data_dir: str | Path,
    *,
    subjects: str | Iterable[str] | None = None,
    window: tuple[float, float] | None = None,
    bad_epochs: str = "raise",
) -> Dataset:
    """Responses with a time axis (MEG, EEG, ECoG, ...), from `.npz` or `.parquet`.

    data_dir: one file, or a folder of files, one a subject: the file's name is the subject's.
    window: seconds START:STOP from the word's onset whose mean is a word's response, for studies without a
    time axis; None takes the whole epoch.
    bad_epochs: "raise" for epochs with missing or infinite values, or "drop", which leaves their words out
    for that subject.

    A `.npz` holds arrays without pickles: `responses` [words, channels, times], or of several subjects
    [subjects, words, channels, times] with their names in `subjects`; `times` [times] in seconds from the
    word's onset; `words` [words]; where they are there `channels` (names), `valid` ([words] or
    [subjects, words] bool, False for a rejected epoch), and of each word `onsets`, `durations` (s), `run` and
    `sentence`.
    A `.parquet` has a row an epoch and time, as `mne.Epochs.to_data_frame` makes it: columns `epoch`, `time`
    (s), `word`; where they are there `subject`, `valid` (false for a rejected epoch), `onset`, `duration`,
    `run`, `sentence`, `condition`; every other column of numbers is a channel.
    Raises FileNotFoundError, or ValueError naming the file: arrays or columns that are missing, words and
    epochs that differ in number, times that do not increase, damage, or subjects whose words differ.
    """
    check_known("bad_epochs=", bad_epochs, BAD_EPOCHS)
    check_window(window)
    paths = _paths(Path(data_dir))
    if len(paths) == 1:
        sources = _subjects(paths[0])
        chosen = choose_subjects(NAME, tuple(sources), subjects)
    else:
        stems = {path.stem: path for path in paths}
        if len(stems) < len(paths):
            raise ValueError(f"{data_dir} has two files of one name; keep one file a subject")
        chosen = choose_subjects(NAME, tuple(stems), subjects)
        sources = {}
        for stem in chosen:
            of_file = _subjects(stems[stem])
            if len(of_file) > 1:
                raise ValueError(
                    f"{stems[stem]} holds {len(of_file)} subjects and lies beside other files; give the "
                    "path of the file itself"
                )
            sources[stem] = next(iter(of_file.values()))
    used = [sources[subject] for subject in chosen]
    people = list(map(str, used)), [source.stimulus for source in used]
    check_same_words(*people)
    stimulus = used[0].stimulus
    files = sorted({source.path.name for source in used})
    meta = {"dataset": NAME, "notes": "epochs of the user's own", "files": files}
    if apart := onsets_apart(*people):
        meta[APART] = apart

    def load_epochs(subject: str) -> EpochedResponses:
        source = sources[subject]
        read = _read_npz if source.path.suffix.lower() == ".npz" else _read_parquet
        values, times, channels, valid = read(source)
        valid = without_bad_epochs(values, valid, bad_epochs)
        try:
            return EpochedResponses(subject, values, times, stimulus, channels, valid, meta)
        except ValueError as error:
            raise ValueError(f"{source.path}: {error}") from error

    load = mean_loader(load_epochs, window)
    return Dataset(NAME, chosen, stimulus, load, meta, epochs=load_epochs)


def _paths(data_dir: Path) -> list[Path]:
    expected = "a .npz or .parquet file, or a folder of such files"
    if data_dir.is_file():
        if data_dir.suffix.lower() not in _SUFFIXES:
            raise ValueError(f"{data_dir} holds no epochs: give {expected}")
        return [data_dir]
    if not data_dir.is_dir():
        raise FileNotFoundError(f"there is no {data_dir}; give {expected}")
    paths = [
        path
        for path in data_dir.iterdir()
        if path.suffix.lower() in _SUFFIXES and not path.name.startswith(".") and path.is_file()
    ]
    if not paths:
        raise FileNotFoundError(f"there are no epochs in {data_dir}; put {expected} there")
    return sorted(paths)


def _subjects(path: Path) -> dict[str, _Subject]:
    """The subjects of one file, with their words."""
    return _subjects_of_npz(path) if path.suffix.lower() == ".npz" else _subjects_of_parquet(path)


def _subjects_of_npz(path: Path) -> dict[str, _Subject]:
    names = npz_names(path)
    missing = [name for name in _NEEDED if name not in names]
    unknown = [name for name in names if name not in (*_NEEDED, *_OPTIONAL)]
    if missing or unknown:
        problem = f"has no array {missing[0]!r}" if missing else f"has an array {unknown[0]!r}"
        remedy = "; without times it is a data set `table`" * (missing[:1] == ["times"])
        raise ValueError(
            f"{path} {problem}{remedy}; expected are {', '.join(_NEEDED)} and, optionally, "
            f"{', '.join(_OPTIONAL)}"
        )
    words = _texts(path, "words")
    timing = {name: _array(path, name) for name in TIMING.values() if name in names}
    stimulus = _stimulus(path, words, timing)
    if "subjects" not in names:
        return {path.stem: _Subject(path, None, stimulus)}
    people = _texts(path, "subjects")
    if len(set(people)) < len(people):
        raise ValueError(f"{path}: subjects names a subject twice; name each once")
    return {name: _Subject(path, place, stimulus) for place, name in enumerate(people)}


def _read_npz(source: _Subject):
    """(values [N, C, T], times, names of channels, valid or None)."""
    path, place = source.path, source.place
    names = npz_names(path)
    values, times = _array(path, "responses"), _array(path, "times")
    valid = _array(path, "valid") if "valid" in names else None
    n_axes = 3 if place is None else 4
    if values.ndim != n_axes or values.dtype.kind not in "fiu":
        wanted = (
            "[words, channels, times]" if place is None else "[subjects, words, channels, times]"
        )
        raise ValueError(
            f"{path}: responses has shape {values.shape} and dtype {values.dtype}; give numbers {wanted}"
        )
    if place is not None:
        n_people = len(_texts(path, "subjects"))
        if len(values) != n_people:
            raise ValueError(f"{path}: responses of {len(values)} subjects for {n_people} names")
        values = values[place]
        valid = valid[place] if valid is not None and valid.ndim == 2 else valid
    channels = [f"channel {number}" for number in range(values.shape[1])]
    if "channels" in names:
        channels = _texts(path, "channels")
    return values, times, tuple(channels), valid


def _array(path: Path, name: str) -> np.ndarray:
    try:
        check_archive(path, [name])
        return read_npz(path, name)
    except ARRAY_DAMAGE as error:
        if str(error).startswith(str(path)):  # too large
            raise
        raise ValueError(
            f"{path}: {name} cannot be read ({error}): the file is truncated, damaged or pickled; write it "
            "again with np.savez and without object arrays"
        ) from error


def _texts(path: Path, name: str) -> list[str]:
    texts = _array(path, name)
    if texts.ndim != 1 or texts.dtype.kind != "U" or not len(texts):
        raise ValueError(
            f"{path}: {name} has shape {texts.shape} and dtype {texts.dtype}; give a vector of text: "
            f"np.array({name}, dtype=str)"
        )
    stripped = [str(text).strip() for text in texts]
    if "" in stripped:
        raise ValueError(f"{path}: entry {stripped.index('') + 1} of {name} is empty; fill it in")
    return stripped


def _stimulus(label: Path | str, words: list[str], timing: dict[str, np.ndarray]) -> Stimulus:
    for name, values in timing.items():
        if values.shape != (len(words),) or values.dtype.kind not in "fiu":
            raise ValueError(
                f"{label}: {name} has shape {values.shape} and dtype {values.dtype} for {len(words)} "
                "words; give one number a word"
            )
    try:
        return Stimulus(tuple(words), **timing)
    except ValueError as error:
        raise ValueError(f"{label}: {error}") from error


def _subjects_of_parquet(path: Path) -> dict[str, _Subject]:
    with parquet_file(path) as file:
        names = file.schema_arrow.names
    missing = [name for name in _KEYS if name not in names]
    if missing:
        raise ValueError(
            f"{path} has no column {missing[0]!r}; expected are {', '.join(_KEYS)} and a column a channel, "
            "a row an epoch and time, as mne.Epochs.to_data_frame makes them"
        )
    timing = [name for name in TIMING if name in names]
    people = ["subject"] * ("subject" in names)
    table = _columns(path, [*_KEYS, *timing, *people])
    owner = table["subject"].astype(str) if people else np.full(len(table["word"]), path.stem)
    sources = {}
    for name in dict.fromkeys(owner.tolist()):
        rows = np.flatnonzero(owner == name)
        label = f"{path}, subject {name}" if people else str(path)
        first = rows[:: len(_times(table, rows, label))]
        words = ["" if word is None else str(word).strip() for word in table["word"][first]]
        if "" in words:
            raise ValueError(f"{label}: an epoch has no word; fill it in, or leave the epoch out")
        of_words = {TIMING[key]: table[key][first] for key in timing}
        place = name if people else None
        sources[name] = _Subject(path, place, _stimulus(label, words, of_words))
    return sources


def _times(table: dict[str, np.ndarray], rows: np.ndarray, label: str) -> np.ndarray:
    """Times [T] of every epoch. Raises ValueError where epochs differ in them, or lie in pieces."""
    epoch, times = table["epoch"][rows], table["time"][rows]
    starts = np.flatnonzero(np.r_[True, epoch[1:] != epoch[:-1]])
    size = len(rows) // len(starts)
    if len(np.unique(epoch)) < len(starts) or (np.diff(np.r_[starts, len(rows)]) != size).any():
        raise ValueError(
            f"{label}: the rows are no epochs of equal length, one after the other; sort them by epoch and "
            "time, and give each epoch every time"
        )
    if not (times.reshape(len(starts), size) == times[:size]).all():
        raise ValueError(f"{label}: the epochs have different times; give each the same ones")
    return times[:size]


def _read_parquet(source: _Subject):
    """(values [N, C, T], times, names of channels, valid or None)."""
    path = source.path
    with parquet_file(path) as file:
        schema = file.schema_arrow
    left_out = {*_KEYS, *TIMING, *_LEFT_OUT}
    channels = [
        field.name
        for field in schema
        if field.name not in left_out and str(field.type).startswith(("float", "double", "int"))
    ]
    if not channels:
        raise ValueError(f"{path} has no column of numbers that is a channel")
    people = ["subject"] * (source.place is not None)
    marks = ["valid"] * ("valid" in schema.names)
    table = _columns(path, [*_KEYS, *people, *marks, *channels])
    rows = np.arange(len(table["epoch"]))
    if people:
        rows = np.flatnonzero(table["subject"].astype(str) == source.place)
    times = _times(table, rows, str(source))
    values = np.stack([table[name][rows].astype(np.float32) for name in channels], axis=1)
    values = values.reshape(-1, len(times), len(channels)).swapaxes(1, 2)
    if not marks:
        return values, times, tuple(channels), None
    valid = table["valid"][rows]
    if valid.dtype != bool:
        raise ValueError(
            f"{source}: the column 'valid' holds {valid.dtype}; give true or false in each row"
        )
    return values, times, tuple(channels), valid.reshape(-1, len(times)).all(axis=1)


def _columns(path: Path, names: list[str]) -> dict[str, np.ndarray]:
    """Columns of a table by name, bounded before they are read."""
    with parquet_file(path) as file:
        held = 0
        for group in range(file.metadata.num_row_groups):
            part = file.metadata.row_group(group)
            chunks = [part.column(column) for column in range(part.num_columns)]
            held += sum(
                max(chunk.total_uncompressed_size, 8 * part.num_rows)
                for chunk in chunks
                if chunk.path_in_schema in names
            )
        check_size(path, 2.0 * held, f"its columns ({file.metadata.num_rows} rows)")
        table = file.read(columns=names)
        columns = {name: table.column(name).to_numpy() for name in names}
    if not len(columns["epoch"]):
        raise ValueError(f"{path} has no rows: give an epoch a word")
    if columns["time"].dtype.kind not in "fiu":
        raise ValueError(f"{path}: the column 'time' holds no numbers; give seconds from the onset")
    return columns
