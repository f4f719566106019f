"""Windows of the epochs as recordings of their own, and the protocol by which overlapping epochs cannot leak.

Epochs of neighbouring words overlap: what is in a training word's epoch may be in a tested word's, too, a
little earlier or later. No word is trained on whose epoch overlaps that of a tested word: the purge gap is at
least the length of an epoch.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from brainalign_jax.neural.readers import Dataset
from brainalign_jax.neural.readout import EpochedResponses, Window
from brainalign_jax.neural.responses import WordResponses
from brainalign_jax.studies.options import TimeCourse
from brainalign_jax.study.context import fitting_scoring
from brainalign_jax.study.options import Scoring

_MOST_WINDOWS = 10_000


class Recording(NamedTuple):
    """One person's windows: means of the channels as word responses, named by the window's number.

    fingerprint: of all of them. channels: their names.
    """

    subject: str
    responses: list[WordResponses]
    channels: tuple[str, ...]
    fingerprint: str

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


def words_of_anyone(dataset: Dataset, reference: EpochedResponses) -> np.ndarray:
    """Words [N] that anybody has an epoch of. Each recording is read for it."""
    others = [subject for subject in dataset.subjects if subject != reference.subject]
    valid = [reference.valid, *(read_epochs(dataset, subject).valid for subject in others)]
    return np.any(valid, axis=0)


def chosen_windows(epochs: EpochedResponses, plan: TimeCourse) -> list[Window]:
    """The windows of a study. Raises ValueError where they do not fit the epoch, or are too many."""
    windows = epochs.windows(plan.window, plan.step)
    if len(windows) > _MOST_WINDOWS:
        raise ValueError(
            f"window={plan.window:g} and step={plan.step:g} make {len(windows):,} windows of an epoch of "
            f"{epochs.length:g} s: give a larger step"
        )
    return windows


def recording_of(
    epochs: EpochedResponses, windows: list[Window], reference: EpochedResponses
) -> Recording:
    """A person's windows. Raises ValueError where the epochs are at other times than the reference's."""
    slack = epochs.step + 1e-6
    if abs(epochs.times[0] - reference.times[0]) > slack or (
        abs(epochs.times[-1] - reference.times[-1]) > slack
    ):
        raise ValueError(
            f"subject {epochs.subject}: the epoch is {epochs.times[0]:g} to {epochs.times[-1]:g} s, that of "
            f"{reference.subject} {reference.times[0]:g} to {reference.times[-1]:g} s; cut all alike "
            "(tmin=, tmax=)"
        )
    responses = [
        replace(epochs.mean(window), subject=f"{epochs.subject} window {number}")
        for number, window in enumerate(windows)
    ]
    fingerprint = epochs.mean().fingerprint()
    return Recording(epochs.subject, responses, epochs.channels, fingerprint)


def scoring_over_time(
    dataset: Dataset, scoring: Scoring | None, epochs: EpochedResponses
) -> tuple[Scoring, list[str]]:
    """The scoring of every window, and what is to be said of it.

    The audited protocol that fits the words where none is given; layers are compared on the tested words, as
    each has its own time course. In a text the purge gap is at least as long as an epoch.
    """
    chosen = fitting_scoring(dataset, scoring)
    protocol = replace(chosen.protocol, layer_selection="test")
    notes = []
    if dataset.stimulus.onsets is not None:
        if protocol.purge < epochs.length:
            protocol = replace(protocol, purge=float(np.ceil(1000 * epochs.length) / 1000))
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
