"""Windows of the epochs as recordings of their own, and the protocol by which overlapping epochs cannot leak.

Epochs of neighbouring words overlap: what is in a training word's epoch may be in a tested word's, too, a
little earlier or later. No word is trained on whose epoch overlaps that of a tested word: the purge gap is at
least the length of an epoch.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from brainalign_jax.machine import free_memory
from brainalign_jax.neural.readers import Dataset
from brainalign_jax.neural.readout import EpochedResponses, Window
from brainalign_jax.neural.readout.epochs import APART
from brainalign_jax.neural.responses import WordResponses
from brainalign_jax.stimulus import Stimulus
from brainalign_jax.studies.options import TimeCourse
from brainalign_jax.study.context import fitting_scoring
from brainalign_jax.study.evidence.draws import default_kind
from brainalign_jax.study.options import Scoring

_MOST_WINDOWS = 10_000
_HELD = 2**31  # bytes of windows of all people


class Recording(NamedTuple):
    """One person's windows: means of the channels as word responses, named by the window's number.

    fingerprint: of all of them. channels: their names. completed: [N] words that the person's mean stands for
    (see `filled`), else None.
    """

    subject: str
    responses: list[WordResponses]
    channels: tuple[str, ...]
    fingerprint: str
    completed: np.ndarray | None = None

    @property
    def values(self) -> np.ndarray:
        """[W, N, C]."""
        return np.stack([response.values for response in self.responses])

    @property
    def valid(self) -> np.ndarray:
        return self.responses[0].valid


def read_epochs(dataset: Dataset, subject: str) -> EpochedResponses:
    """A person's epochs. Raises ValueError where the data set has no time axis."""
    if dataset.epochs is None:
        raise ValueError(
            f"the recordings of {dataset.name} have no time axis: each word has one response; open epochs "
            "(--dataset=epochs or --dataset=mne), or ask `brainalign align`"
        )
    return dataset.epochs(subject)


class Recordings:
    """Everybody's windows: each recording is read once, and again only where memory does not hold them all.

    reference: the epochs of the first person. most_bytes: that the windows of all may take.
    """

    def __init__(
        self,
        dataset: Dataset,
        windows: list[Window],
        reference: EpochedResponses,
        most_bytes: int = _HELD,
    ):
        self._dataset, self._windows, self._reference = dataset, windows, reference
        self._left = min(most_bytes, free_memory() // 4)
        self._kept: dict[str, Recording] = {}

    def of(self, subject: str) -> Recording:
        """Raises: ValueError where the epochs are at other times than the reference's."""
        if subject in self._kept:
            return self._kept[subject]
        epochs = self._reference
        if subject != epochs.subject:
            epochs = read_epochs(self._dataset, subject)
        recording = recording_of(epochs, self._windows, self._reference)
        size = sum(response.values.nbytes for response in recording.responses)
        if size <= self._left:
            self._left -= size
            self._kept[subject] = recording
        return recording

    def words(self) -> np.ndarray:
        """Words [S, N] that each person has an epoch of."""
        return np.stack([self.of(subject).valid for subject in self._dataset.subjects])

    def every(self) -> list[Recording] | None:
        """Those of all people; None where memory does not hold them."""
        held = all(subject in self._kept for subject in self._dataset.subjects)
        return [self._kept[subject] for subject in self._dataset.subjects] if held else None


def check_draws(stimulus: Stimulus, words: np.ndarray, methods: tuple[str, ...]) -> None:
    """Raise ValueError where the words [N] of a text or of runs leave null draws nothing to move."""
    kind = default_kind(stimulus)
    if kind == "items" or methods == ("rsa",):  # whose draws have a rule of their own
        return
    run = np.zeros(len(words), int) if stimulus.run is None else stimulus.run
    labels, counts = np.unique(run[words], return_counts=True)
    remedy = "give --n_nulls=0, which tests nothing"
    if kind == "blocks" and len(labels) < 4:
        raise ValueError(
            f"the words have no onsets and {len(labels)} runs, of which draws exchange four or more: leave "
            f"the runs of isolated words out of the data, or {remedy}"
        )
    if kind == "shift" and len(labels) and counts.min() < 4:
        raise ValueError(
            f"run {labels[counts.argmin()]} has {counts.min()} words, too few to shift against its "
            f"responses: leave it out of the data, or {remedy}"
        )


def chosen_windows(epochs: EpochedResponses, plan: TimeCourse) -> list[Window]:
    """The windows of a study. Raises ValueError where they do not fit the epoch, or are too many."""
    windows = epochs.windows(plan.window, plan.step)
    if len(windows) > _MOST_WINDOWS:
        raise ValueError(
            f"window={plan.window:g} and step={plan.step:g} make {len(windows):,} windows of an epoch of "
            f"{epochs.length:g} s: give a larger step"
        )
    return windows


def check_times(epochs: EpochedResponses, reference: EpochedResponses) -> None:
    """Raise ValueError where a person's epochs are at other times than the reference's."""
    slack = epochs.step + 1e-6
    if abs(epochs.times[0] - reference.times[0]) > slack or (
        abs(epochs.times[-1] - reference.times[-1]) > slack
    ):
        raise ValueError(
            f"subject {epochs.subject}: the epoch is {epochs.times[0]:g} to {epochs.times[-1]:g} s, that of "
            f"{reference.subject} {reference.times[0]:g} to {reference.times[-1]:g} s; cut all alike "
            "(tmin=, tmax=)"
        )


def recording_of(
    epochs: EpochedResponses, windows: list[Window], reference: EpochedResponses
) -> Recording:
    """A person's windows. Raises ValueError where the epochs are at other times than the reference's."""
    check_times(epochs, reference)
    responses = [
        replace(epochs.mean(window), subject=f"{epochs.subject} window {number}")
        for number, window in enumerate(windows)
    ]
    fingerprint = epochs.mean().fingerprint()
    return Recording(epochs.subject, responses, epochs.channels, fingerprint)


def filled(recording: Recording, words: np.ndarray) -> Recording:
    """The windows with a response to each of the words [N] that anybody has, if need be the person's mean.

    So the words as they are, and every draw, are of the same rows for all people. Draws that passed over what
    a person lacks would be less smooth in time, and less alike in all people, than the words as they are: of
    studies of six people with one noise, each without other 20 % of the words of a text, .15 had p < .05.
    RSA takes their dissimilarities, not the mean, to be unknown (see `similarity.brain_rdms`).
    """
    if (recording.valid >= words).all():
        return recording
    lacking = words & ~recording.valid
    responses = []
    for response in recording.responses:
        values = np.array(response.values)
        values[lacking] = values[response.valid].mean(axis=0, dtype=np.float64)
        responses.append(replace(response, values=values, valid=response.valid | lacking))
    return recording._replace(responses=responses, completed=lacking)


def said_of_lacking(valid: np.ndarray) -> list[str]:
    """What p is of where people lack words that others have, in a sentence; valid: [S, N]."""
    lacking = int((valid.any(axis=0) & ~valid).any(axis=1).sum())
    if not lacking:
        return []
    return [
        f"{lacking} of {len(valid)} people lack{'s' * (lacking == 1)} words that others have: p is of "
        "recordings in which their mean stands there (for RSA, their middle dissimilarity), scores are of "
        "the words that there are."
    ]


def scoring_over_time(
    dataset: Dataset, scoring: Scoring | None, epochs: EpochedResponses
) -> tuple[Scoring, list[str]]:
    """The scoring of every window, and what is to be said of it.

    The audited protocol that fits the words where none is given; layers are compared on the tested words, as
    each has its own time course. In a text the purge gap is at least as long as an epoch, by everybody's
    onsets: it is as much longer as the time between two words differs between people.

    Raises: ValueError where that is more than an epoch.
    """
    chosen = fitting_scoring(dataset, scoring)
    protocol = replace(chosen.protocol, layer_selection="test")
    notes = []
    if dataset.stimulus.onsets is not None:
        apart = float(dataset.meta.get(APART, 0.0))
        if apart > epochs.length:
            raise ValueError(
                f"the time between two words of {dataset.name} differs by up to {apart:g} s between people, "
                f"more than an epoch ({epochs.length:g} s): no purge gap is the same for all; ask of the "
                "people one by one (--subjects)"
            )
        if apart > epochs.step:
            protocol = replace(protocol, purge=_rounded_up(protocol.purge + apart))
            notes.append(
                f"The time between two words differs by up to {apart:g} s between people: the purge gap is "
                "as much longer."
            )
        least = epochs.length + apart * (apart > epochs.step)
        if protocol.purge < least:
            protocol = replace(protocol, purge=_rounded_up(least))
            notes.append(
                f"The purge gap was raised to the length of an epoch, {protocol.purge:g} s: epochs of "
                "neighbouring words overlap."
            )
        else:
            notes.append(
                f"Epochs of neighbouring words overlap: no word within {protocol.purge:g} s of a tested one "
                f"is trained on, an epoch being {epochs.length:g} s."
            )
    return replace(chosen, protocol=protocol), notes


def _rounded_up(seconds: float) -> float:
    return float(np.ceil(1000 * seconds - 1e-6) / 1000)
