"""MEG, EEG, ECoG, sEEG and fNIRS through MNE-Python: saved epochs, or a recording and the words' onsets.

Baseline, rejection and montage stay MNE's: what is in the files is what is read.
"""

from __future__ import annotations

import re
import struct
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from brainalign_jax.names import check_known
from brainalign_jax.neural.formats.arrays import check_memory
from brainalign_jax.neural.formats.text.columns import TIMING
from brainalign_jax.neural.formats.text.sidecars import read_table, read_words
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

NAME = "mne"
SUBJECT = "{subject}"
_TAG = struct.Struct(">4i")
_OPENS, _CLOSES = 104, 105  # a block of tags
_EPOCHS = ("{subject}-epo.fif", "{subject}_epo.fif", "{subject}-epo.fif.gz", "{subject}_epo.fif.gz")


class Cut(NamedTuple):
    """Which part of the epochs is read, see `read_mne`."""

    picks: str | None
    tmin: float | None
    tmax: float | None
    baseline: tuple[float, float] | None
    decim: int
    resample: float | None


@register(NAME)
def read_mne(
    data_dir: str | Path,
    *,
    subjects: str | Iterable[str] | None = None,
    epochs: str | None = None,
    raw: str | None = None,
    words: str | None = None,
    word_column: str = "word",
    picks: str | None = None,
    tmin: float | None = None,
    tmax: float | None = None,
    baseline: tuple[float, float] | None = None,
    decim: int = 1,
    resample: float | None = None,
    window: tuple[float, float] | None = None,
    bad_epochs: str = "raise",
) -> Dataset:
    """Responses with a time axis that MNE-Python reads: MEG, EEG, ECoG, sEEG, fNIRS.

    data_dir: folder that the files' names start from; "{subject}" in a name stands for a subject's.
    epochs: file of a subject's epochs, one a word; None takes {subject}-epo.fif or {subject}_epo.fif.
    raw: file of a subject's recording in any format that mne.io.read_raw knows, in place of epochs; its words
    then need `words`, whose onsets are seconds from the recording's start.
    words: a .tsv or .csv of the words, one for all subjects or with {subject}: columns `word` and, where they
    are there, `onset` (s), `duration`, `run`, `sentence`; None takes the metadata of the epochs, which may
    have these columns, too. Words without onsets are isolated items, whose order means nothing. Of
    epochs that MNE rejected, `words` still has the words: they are left out for that subject.
    word_column: the column of the words.
    picks: types of channels, as "mag", or names with commas between them; None takes all that hold data.
    tmin, tmax: seconds from the word's onset between which epochs are cut (raw: -0.2 and 0.8 if not given).
    baseline: START:STOP (s) whose mean MNE takes off each epoch of a recording.
    decim: of so many samples one is kept, with a warning where the files say that they hold frequencies above
    what is left. resample: Hz, by MNE's filter.
    window: seconds START:STOP whose mean is a word's response, for studies without a time axis; None takes
    the whole epoch.
    bad_epochs: "raise" for epochs with missing values, or "drop".

    Raises FileNotFoundError, ModuleNotFoundError where MNE-Python is not installed, or ValueError naming the
    file and the remedy.
    """
    check_known("bad_epochs=", bad_epochs, BAD_EPOCHS)
    check_window(window)
    if raw is not None and epochs is not None:
        raise ValueError("epochs= and raw= are both given; give one of them")
    if raw is not None and words is None:
        raise ValueError("raw= needs words=: a table of the words with their onsets")
    cut = check_cut(Cut(picks, tmin, tmax, baseline, decim, resample))
    folder = Path(data_dir)
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}; give the folder of the recordings")
    files = _files(folder, (raw,) if raw else (epochs,) if epochs else _EPOCHS)
    chosen = choose_subjects(NAME, tuple(files), subjects)
    stimuli = {}
    for subject in chosen:
        if words is None:
            stimuli[subject] = _metadata_words(files[subject], word_column)
        else:
            stimuli[subject] = _table_words(
                folder / words.replace(SUBJECT, subject), word_column, timed=raw is not None
            )
    people = [str(files[subject]) for subject in chosen], list(stimuli.values())
    check_same_words(*people)
    stimulus = stimuli[chosen[0]]
    meta = {"dataset": NAME, "notes": "epochs by MNE-Python", **_facts(cut, raw is not None)}
    if apart := onsets_apart(*people):
        meta[APART] = apart

    def load_epochs(subject: str) -> EpochedResponses:
        path = files[subject]
        read = _cut_of_raw if raw is not None else _saved_epochs
        of_file = read(path, stimuli[subject], cut)
        values, kept = _values(of_file, path), rows_of_epochs(of_file, len(stimulus), path)
        every = np.zeros((len(stimulus), *values.shape[1:]), np.float32)
        every[kept] = values
        valid = np.zeros(len(stimulus), bool)
        valid[kept] = True
        valid = without_bad_epochs(every, valid, bad_epochs)
        channels = tuple(of_file.ch_names)
        try:
            return EpochedResponses(subject, every, of_file.times, stimulus, channels, valid, meta)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error

    load = mean_loader(load_epochs, window)
    return Dataset(NAME, chosen, stimulus, load, meta, epochs=load_epochs)


def check_cut(cut: Cut) -> Cut:
    """The same cut. Raises ValueError for one that cannot be made of any recording."""
    if cut.decim < 1:
        raise ValueError(f"decim={cut.decim} must be a whole number of at least 1")
    if cut.resample is not None and not cut.resample > 0:
        raise ValueError(f"resample={cut.resample:g} must be above 0 Hz")
    return cut


def _mne() -> Any:
    try:
        import mne
    except ModuleNotFoundError as error:
        if error.name != "mne":
            raise
        raise ModuleNotFoundError(
            "reading these files needs MNE-Python: pip install 'brainalign_jax[mne]'"
        ) from error
    return mne


def _files(folder: Path, patterns: Iterable[str]) -> dict[str, Path]:
    """Subject -> file, by the first patterns that find any."""
    files: dict[str, Path] = {}
    for pattern in patterns:
        if pattern.count(SUBJECT) == 0:
            path = folder / pattern
            if path.is_file():
                files.setdefault(path.name.split(".")[0], path)
            continue
        pieces = [re.escape(piece) for piece in pattern.split(SUBJECT)]
        expression = re.compile(
            "(?P<subject>[^/]+?)".join(pieces[:2]) + "".join("(?P=subject)" + x for x in pieces[2:])
        )
        for path in sorted(folder.glob(pattern.replace(SUBJECT, "*"))):
            match = expression.fullmatch(path.relative_to(folder).as_posix())
            if match and path.is_file():
                files.setdefault(match.group("subject"), path)
    if not files:
        names = " or ".join(str(folder / pattern) for pattern in patterns)
        raise FileNotFoundError(f"there is no {names}; name the files with epochs= or raw=")
    return dict(sorted(files.items()))


def _read(reader, path: Path, what: str, **options) -> Any:
    """What MNE reads of a file, its errors as one line that names it, without warnings from its inside."""
    check_whole(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            of_file = reader(path, verbose="error", **options)
    except Exception as error:  # each format raises its own kinds
        first = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ValueError(
            f"{path} cannot be read as {what} ({first}); write it again by MNE"
        ) from error
    for part in getattr(of_file, "filenames", ()):  # of a recording that was split
        if part is not None:
            check_whole(Path(part))
    return of_file


def check_whole(path: Path) -> None:
    """Raise ValueError for a .fif file that breaks off: MNE reads what is left of it.

    A file is tags of 16 bytes (kind, type, size and place of the next, in big-endian int32) and their values.
    Its last tag says that none is next, or else closes the last of the blocks that tags open.
    """
    if path.suffix != ".fif":
        return
    n_bytes, place, following, depth = path.stat().st_size, 0, 0, 0
    with path.open("rb") as file:
        while following != -1 and place >= 0 and place + _TAG.size <= n_bytes:
            file.seek(place)
            kind, _, size, following = _TAG.unpack(file.read(_TAG.size))
            if size < 0 or following < -1 or 0 < following <= place:
                break
            end = place + _TAG.size + size
            if end > n_bytes:
                break
            place = following or end
            depth += (kind == _OPENS) - (kind == _CLOSES)
        else:
            if following == -1 or (place == n_bytes > 0 and depth == 0):
                return
    raise ValueError(
        f"{path} breaks off or is damaged at byte {place:,} of {n_bytes:,}: copy it again, or write it again "
        "by MNE"
    )


def _table_words(path: Path, word_column: str, *, timed: bool) -> Stimulus:
    """The words of a table, with onsets where it has them."""
    table = read_table(path)
    if timed or "onset" in table.columns:
        words = read_words(path, word_column=word_column)
        fields = {"onsets": words.onsets, "durations": words.durations, "run": words.run}
        return _stimulus(path, words.words, fields, words.sentence)
    texts = [text.strip() for text in table.column(word_column)]
    fields = {"run": table.numbers("run")} if "run" in table.columns else {}
    return _stimulus(path, texts, fields, table.columns.get("sentence"))


def _metadata_words(path: Path, word_column: str) -> Stimulus:
    """The words in the metadata of epochs."""
    epochs = _read(_mne().read_epochs, path, "epochs", preload=False)
    metadata = epochs.metadata
    if metadata is None or word_column not in metadata:
        problem = (
            "no metadata" if metadata is None else f"no column {word_column!r} in its metadata"
        )
        raise ValueError(f"{path} has {problem}: give words=, a table with a row an epoch")
    fields = {
        TIMING[name]: np.asarray(metadata[name], np.float64)
        for name in ("onset", "duration", "run")
        if name in metadata
    }
    sentence = metadata["sentence"].astype(str) if "sentence" in metadata else None
    return _stimulus(path, [str(word).strip() for word in metadata[word_column]], fields, sentence)


def _stimulus(path: Path, words, fields: dict, sentence) -> Stimulus:
    if not len(words) or "" in words:
        raise ValueError(f"{path}: a row has no word; fill it in, or leave its epoch out")
    if fields.get("run") is not None:
        fields["run"] = np.asarray(fields["run"]).astype(np.int32)
    if sentence is not None:
        labels = np.asarray(sentence, str)  # where the label changes a sentence begins
        fields["sentence"] = np.r_[0, np.cumsum(labels[1:] != labels[:-1])].astype(np.int32)
    try:
        return Stimulus(tuple(words), **fields)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _saved_epochs(path: Path, stimulus: Stimulus, cut: Cut) -> Any:
    """The epochs of a file, cut as asked for."""
    del stimulus
    read_epochs = _mne().read_epochs
    epochs = _read(read_epochs, path, "epochs", preload=False)
    n_bytes = 8 * len(epochs.events) * len(epochs.ch_names) * len(epochs.times)
    check_memory(n_bytes, path, "its epochs")
    epochs = _picked(_read(read_epochs, path, "epochs", preload=True), path, cut.picks)
    if cut.tmin is not None or cut.tmax is not None:
        try:
            epochs = epochs.crop(cut.tmin, cut.tmax)
        except ValueError as error:
            raise ValueError(
                f"{path}: its epochs are {epochs.tmin:g} to {epochs.tmax:g} s and cannot be cut to "
                f"tmin={cut.tmin} and tmax={cut.tmax}"
            ) from error
    if cut.baseline is not None:
        _check_baseline(path, cut.baseline, epochs.tmin, epochs.tmax, epochs.info["sfreq"])
        epochs = epochs.apply_baseline(cut.baseline, verbose="error")
    return _thinned(epochs, cut, path)


def _cut_of_raw(path: Path, stimulus: Stimulus, cut: Cut) -> Any:
    """Epochs around the onsets of the words in a recording."""
    return epochs_around(
        open_recording(path, cut.picks), path, stimulus.words, stimulus.onsets, cut
    )


def open_recording(path: Path, picks: str | None) -> Any:
    """A recording, its values not read yet, with the channels that were asked for."""
    return _picked(_read(_mne().io.read_raw, path, "a recording", preload=False), path, picks)


def epochs_around(raw: Any, path: Path, words: Sequence[str], onsets: np.ndarray, cut: Cut) -> Any:
    """Epochs of a recording around the onsets [N] of words, in seconds from its start; decimated as they are
    cut.

    Raises ValueError naming the file for onsets that do not increase or lie beyond its end.
    """
    mne = _mne()
    rate = float(raw.info["sfreq"])
    samples = np.round(onsets * rate).astype(np.int64) + raw.first_samp
    if (np.diff(samples) <= 0).any():
        row = int(np.argmax(np.diff(samples) <= 0)) + 1
        raise ValueError(
            f"{path}: word {row + 1} ({words[row]!r}) begins at the sample of the word before it or "
            "earlier; onsets are seconds from the start of one recording"
        )
    if samples[-1] > raw.last_samp:
        raise ValueError(
            f"{path}: the last word begins at {onsets[-1]:g} s, the recording ends at "
            f"{raw.times[-1]:g} s; give onsets in seconds from its start"
        )
    events = np.column_stack([samples, np.zeros_like(samples), np.ones_like(samples)]).astype(int)
    tmin, tmax = (-0.2 if cut.tmin is None else cut.tmin), (0.8 if cut.tmax is None else cut.tmax)
    if not tmin < tmax:
        raise ValueError(f"tmin={tmin:g} must be below tmax={tmax:g}")
    if cut.baseline is not None:
        _check_baseline(path, cut.baseline, tmin, tmax, rate)
    decim = 1 if cut.resample is not None else cut.decim
    n_bytes = 8 * len(events) * len(raw.ch_names) * int((tmax - tmin) * rate / decim + 1)
    check_memory(n_bytes, path, "its epochs")
    options = dict(baseline=cut.baseline, preload=True, proj=False, decim=decim, verbose="error")
    _warn_of_aliases(raw.info, decim, path)
    epochs = mne.Epochs(raw, events, tmin=tmin, tmax=tmax, **options)
    return epochs if decim > 1 else _thinned(epochs, cut, path)


def _check_baseline(
    path: Path, baseline: tuple[float, float], tmin: float, tmax: float, rate: float
) -> None:
    """Raise ValueError for a baseline outside of the epochs by more than a sample."""
    start, stop = baseline
    if not tmin - 1 / rate <= start <= stop <= tmax + 1 / rate:
        raise ValueError(
            f"{path}: baseline={start:g}:{stop:g} is no stretch of the epochs, which are {tmin:g} to "
            f"{tmax:g} s; give START:STOP (s) within them"
        )


def _picked(recording: Any, path: Path, picks: str | None) -> Any:
    names = "data" if picks is None else [name.strip() for name in picks.split(",")]
    try:
        return recording.pick(names, exclude="bads" if picks is None else ())
    except ValueError as error:
        raise ValueError(
            f"{path} has no channels {picks or 'that hold data'!r}; give picks= types (mag, grad, eeg, ecog, "
            "seeg, hbo) or names"
        ) from error


def _warn_of_aliases(info: Any, decim: int, path: Path) -> None:
    """Warn where of so many samples one is kept of what was not low-passed for it: MNE's warning is muted."""
    rate, highest = float(info["sfreq"]) / decim, float(info["lowpass"])
    if decim > 1 and highest > rate / 2:
        warnings.warn(
            f"{path} holds up to {highest:g} Hz, and decim={decim} leaves {rate:g} samples a second, in "
            f"which what is above {rate / 2:g} Hz is mistaken for slower changes: give resample={rate:g} in "
            "place of decim, which filters first, or filter the recording",
            UserWarning,
            stacklevel=2,
        )


def _thinned(epochs: Any, cut: Cut, path: Path) -> Any:
    if cut.resample is not None:
        epochs = epochs.resample(cut.resample, verbose="error")
    _warn_of_aliases(epochs.info, cut.decim, path)
    return epochs.decimate(cut.decim, verbose="error") if cut.decim > 1 else epochs


def _values(epochs: Any, path: Path) -> np.ndarray:
    """Values [N, C, T], each type of channel brought to a root mean square of one.

    Tesla and volts differ by many orders, and what float32 holds of them depends on it.
    """
    values = np.asarray(epochs.get_data(copy=True), np.float64)
    if not len(values):
        raise ValueError(f"{path}: no epoch is left; MNE rejected all of them")
    return scaled_by_type(values, epochs.get_channel_types()).astype(np.float32)


def scaled_by_type(values: np.ndarray, types: Sequence[str]) -> np.ndarray:
    """The values [N, C, T], in place, each of the C channels' types at a root mean square of one."""
    kinds = np.array(types)
    channels = values.swapaxes(0, 1)
    squares = np.array([np.nansum(np.square(channel, dtype=np.float64)) for channel in channels])
    counts = np.array([np.isfinite(channel).sum() for channel in channels])
    for channel, kind in zip(channels, kinds, strict=True):
        of_kind = kinds == kind
        channel /= np.sqrt(squares[of_kind].sum() / max(counts[of_kind].sum(), 1)) or 1.0
    return values


def rows_of_epochs(epochs: Any, n_words: int, path: Path) -> np.ndarray:
    """The word of each epoch: in order, or where some were rejected by MNE's selection among its events.

    Events of other kinds than words, which MNE ignored, are no words.
    """
    if len(epochs) == n_words:
        return np.arange(n_words)
    selection = np.asarray(epochs.selection)
    asked = np.flatnonzero([reasons != ("IGNORED",) for reasons in epochs.drop_log])
    if len(epochs.drop_log) == n_words:
        return selection
    if len(epochs) > n_words or len(asked) != n_words:
        raise ValueError(
            f"{path} holds {len(epochs)} epochs for {n_words} words, of {len(asked)} events; give one event "
            "a word, of whose epochs MNE may have rejected some"
        )
    return np.searchsorted(asked, selection)


def _facts(cut: Cut, from_raw: bool) -> dict:
    """What was asked for of the epochs, for the manifest."""
    asked = {name: value for name, value in cut._asdict().items() if value is not None}
    return {"made_of": "recordings" if from_raw else "saved epochs", **asked}
