"""Responses to words with a time axis: an epoch of every channel around each word, and its windows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from brainalign_jax.neural.responses import WordResponses
from brainalign_jax.stimulus import Stimulus

APART = "onsets_apart"  # in the facts of a data set: seconds, see `onsets_apart`
BAD_EPOCHS = ("raise", "drop")
_SAME_STEP = 1e-3  # of a sampling step, by which times may be off it: rounding in text


class Window(NamedTuple):
    """Seconds from the word's onset, the end left out."""

    start: float
    stop: float

    @property
    def middle(self) -> float:
        return (self.start + self.stop) / 2


@dataclass(frozen=True, eq=False)
class EpochedResponses:
    """One subject's responses to every word of a stimulus, over time.

    values: [N, C, T] float32, one epoch a word of `stimulus`. times: [T] seconds from the word's onset.
    channels: names of the C channels. valid: [N] bool, False for an epoch that was rejected, whose values
    are then zero; None means that all are valid.

    Raises ValueError for fewer than two times or times that do not increase in equal steps, other numbers of
    epochs than words or of channels than names, or values that are not finite.
    """

    subject: str
    values: np.ndarray
    times: np.ndarray
    stimulus: Stimulus
    channels: tuple[str, ...]
    valid: np.ndarray | None = None
    meta: dict = field(default_factory=dict)

    def __post_init__(self) -> None:
        who, values = f"subject {self.subject}", np.asarray(self.values)
        if values.ndim != 3 or not values.size or values.dtype.kind not in "fiu":
            raise ValueError(
                f"{who}: responses have shape {values.shape} and dtype {values.dtype}; give numbers "
                "[words, channels, times]"
            )
        n_words = len(self.stimulus)
        if len(values) != n_words:
            raise ValueError(
                f"{who}: {len(values)} epochs for {n_words} words; give one epoch a word, in the order of "
                "the words, and mark those that were rejected in `valid`"
            )
        if len(self.channels) != values.shape[1]:
            raise ValueError(
                f"{who}: {len(self.channels)} names for {values.shape[1]} channels; give one a channel"
            )
        times = checked_times(self.times, values.shape[2], who)
        valid = np.ones(n_words, bool) if self.valid is None else np.asarray(self.valid)
        if valid.shape != (n_words,) or valid.dtype != bool:
            raise ValueError(
                f"{who}: valid has shape {valid.shape} and dtype {valid.dtype}; give a boolean for each of "
                f"the {n_words} words"
            )
        with np.errstate(over="ignore"):  # an overflow is reported below, with its word
            values = values.astype(np.float32)
        finite = np.isfinite(values).all(axis=(1, 2))
        if not finite[valid].all():
            row = int(np.flatnonzero(valid & ~finite)[0])
            raise ValueError(
                f"{who}: {int((valid & ~finite).sum())} of {n_words} epochs hold NaN or infinite values, the "
                f"first is that of word {row + 1} ({self.stimulus.words[row]!r}); mend them, or leave them "
                "out with bad_epochs=drop"
            )
        values[~valid] = 0
        for name, array in (("values", values), ("times", times), ("valid", valid)):
            array = array.view()
            array.flags.writeable = False
            object.__setattr__(self, name, array)

    @property
    def step(self) -> float:
        """Seconds from sample to sample."""
        return float(self.times[-1] - self.times[0]) / (len(self.times) - 1)

    @property
    def length(self) -> float:
        """Seconds from the first sample to the end of the last."""
        return self.step * len(self.times)

    def windows(self, width: float, step: float) -> list[Window]:
        """The windows of `width` seconds, every `step` seconds, that lie in the epoch as a whole.

        Raises ValueError where a window is longer than the epoch, or shorter than a sampling step.
        """
        slack = _SAME_STEP * self.step
        if width > self.length + slack:
            raise ValueError(
                f"subject {self.subject}: a window of {width:g} s is longer than the epoch, which is "
                f"{self.length:g} s ({self.times[0]:g} to {self.times[-1]:g} s): give a shorter window"
            )
        if min(width, step) < self.step - slack:
            raise ValueError(
                f"subject {self.subject}: windows of {width:g} s every {step:g} s are finer than the "
                f"samples, which are {self.step:g} s apart: give a larger window and step"
            )
        count = int(np.floor((self.length - width + slack) / step)) + 1
        starts = self.times[0] + step * np.arange(count)
        return [Window(float(start), float(start + width)) for start in starts]

    def mean(self, window: tuple[float, float] | None = None) -> WordResponses:
        """The mean of each channel over the samples of a window (None: the epoch) as word responses.

        Raises ValueError where no sample lies in the window.
        """
        chosen = np.ones(len(self.times), bool)
        if window is not None:
            slack = _SAME_STEP * self.step
            chosen = (self.times >= window[0] - slack) & (self.times < window[1] - slack)
        if not chosen.any():
            raise ValueError(
                f"subject {self.subject}: no sample lies in the window from {window[0]:g} to {window[1]:g} "
                f"s; the epoch is {self.times[0]:g} to {self.times[-1]:g} s"
            )
        meta = {**self.meta, "feature_names": list(self.channels)}
        if window is not None:
            meta["window"] = [float(edge) for edge in window]
        values = self.values[:, :, chosen].mean(axis=2, dtype=np.float64).astype(np.float32)
        return WordResponses(self.subject, values, self.stimulus, self.valid, meta)

    def with_attributes(self, **arrays) -> EpochedResponses:
        """The epochs with these attributes of their words, see `Stimulus.with_attributes`."""
        return replace(self, stimulus=self.stimulus.with_attributes(**arrays))

    def with_language(self, language: str | None) -> EpochedResponses:
        """The epochs of words of this language, see `Stimulus`."""
        return replace(self, stimulus=replace(self.stimulus, language=language))


def checked_times(times: np.ndarray, n_samples: int, source: str) -> np.ndarray:
    """Times [T] of the samples of an epoch as float64. Raises ValueError naming the source."""
    times = np.asarray(times)
    if times.shape != (n_samples,) or times.dtype.kind not in "fiu":
        raise ValueError(
            f"{source}: the times have shape {times.shape} and dtype {times.dtype} for {n_samples} samples; "
            "give a number of seconds for each"
        )
    times = times.astype(np.float64)
    if n_samples < 2:
        raise ValueError(
            f"{source}: an epoch of one sample has no time axis; give two samples or more, or use the data "
            "set `table`"
        )
    steps = np.diff(times)
    if not np.isfinite(times).all() or (steps <= 0).any():
        place = int(np.argmax(~(steps > 0)))
        raise ValueError(
            f"{source}: the times do not increase: {times[place]:g} s is followed by {times[place + 1]:g} s; "
            "give the seconds of the samples in order"
        )
    if np.abs(steps - steps.mean()).max() > 0.05 * steps.mean():
        raise ValueError(
            f"{source}: the times are {steps.min():g} to {steps.max():g} s apart; resample the epochs to "
            "equal steps"
        )
    return times


def without_bad_epochs(
    values: np.ndarray, valid: np.ndarray | None, bad_epochs: str
) -> np.ndarray | None:
    """valid [N] without the epochs of values [N, C, T] that are not finite, where bad_epochs is "drop"."""
    if bad_epochs != "drop":
        return valid
    finite = np.isfinite(values).all(axis=(1, 2))
    return finite if valid is None else np.asarray(valid, bool) & finite


def check_same_words(labels: Sequence[str], stimuli: Sequence[Stimulus]) -> None:
    """Raise ValueError where subjects, by what messages call them, have other words than the first."""
    remedy = "all subjects must have the same words in the same order; or open them one by one"
    first = stimuli[0]
    for label, stimulus in zip(labels, stimuli, strict=True):
        if len(stimulus) != len(first):
            raise ValueError(
                f"{label} has {len(stimulus)} words and {labels[0]} {len(first)}; {remedy}"
            )
        for row, (word, other) in enumerate(zip(stimulus.words, first.words, strict=True), 1):
            if word != other:
                raise ValueError(
                    f"{label}: word {row} is {word!r} where {labels[0]} has {other!r}; {remedy}"
                )


def onsets_apart(labels: Sequence[str], stimuli: Sequence[Stimulus]) -> float:
    """Seconds, at most, by which the time between two words of a run differs from the first subject's.

    Recordings may begin at other times. Raises ValueError where some subjects' words have no onsets.
    """
    first, apart = stimuli[0], 0.0
    for label, stimulus in zip(labels, stimuli, strict=True):
        if (stimulus.onsets is None) != (first.onsets is None):
            untimed, timed = (label, labels[0]) if stimulus.onsets is None else (labels[0], label)
            raise ValueError(
                f"{untimed} has no onsets and {timed} has: give them for all subjects, or for none"
            )
        if first.onsets is None:
            continue
        later = np.asarray(stimulus.onsets, np.float64) - first.onsets
        run = np.zeros(len(later), int) if first.run is None else first.run
        apart = max(apart, *(float(np.ptp(later[run == label])) for label in np.unique(run)))
    return apart


def check_window(window: tuple[float, float] | None) -> None:
    """Raise ValueError for a window that ends before it starts."""
    if window is not None and not window[0] < window[1]:
        raise ValueError(
            f"window={window[0]:g}:{window[1]:g} ends before it starts; give START:STOP in seconds"
        )


def mean_loader(
    load_epochs: Callable[[str], EpochedResponses], window: tuple[float, float] | None
) -> Callable[[str], WordResponses]:
    """`Dataset.load` of recordings with a time axis: the mean over a window, or over the epoch."""

    def load(subject: str) -> WordResponses:
        return load_epochs(subject).mean(window)

    return load
