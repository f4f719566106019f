"""A continuous recording to word responses, in blocks of voxels: check, clean, read out, keep.

Every reader of scans goes through `word_responses`. It reads the recording in order, a few thousand
voxels at a time, so that a subject of many gigabytes needs little more than its result, and
decompresses or reads ahead in a second thread. It reads once; twice or three times where usable voxels,
a penalty or offsets that float32 cannot hold must be known beforehand.
"""

from __future__ import annotations

import hashlib
import re
import warnings
from contextlib import closing
from pathlib import Path

import numpy as np

from brainalign_jax.neural.formats.arrays import centred, float32_holds, offsets_cost_digits
from brainalign_jax.neural.readout import deconvolution
from brainalign_jax.neural.readout.cleaning import Cleaner
from brainalign_jax.neural.readout.options import Processing
from brainalign_jax.neural.readout.readout import Readout
from brainalign_jax.neural.recording import BoldRecording, Scan, repetition_times, trimmed
from brainalign_jax.neural.responses import WordResponses
from brainalign_jax.neural.space import VoxelSpace
from brainalign_jax.neural.store import ResponseWriter
from brainalign_jax.stimulus import Stimulus

_GAP = 1.5  # TRs between two volumes of a run, above which volumes are missing


def word_responses(
    recording: BoldRecording, stimulus: Stimulus, processing: Processing, *, meta: dict
) -> WordResponses:
    """One subject's word responses [N, V] from the scans; the stimulus must have onsets.

    meta: facts about the data set. Added: "kernel", "cleaning", "tr", "timing_error" (s),
    "dropped_voxels", "feature_names" and, for "deconvolution", the penalty "alpha".
    A recording that takes longer than some seconds shows a progress bar on a terminal.
    Raises ValueError naming the recording's source for shapes that disagree, times that are not on
    the clock of the onsets, unusable voxels (under bad_voxels="raise"), and runs too short to clean.
    """
    if stimulus.onsets is None:
        raise ValueError(f"{recording.source}: the words have no onsets; scans cannot be read out")
    n_volumes, n_voxels = recording.bold.shape
    rows, times, run, confounds = trimmed(recording, processing.trim)
    warn_of_gaps(stimulus, times, run, recording.source)
    try:
        readout = Readout(stimulus, times, run, processing)
    except ValueError as error:
        raise ValueError(f"{recording.source}: {error}") from error
    trs = repetition_times(times, run)
    cleaner = cleaner_of(recording, run, trs, confounds, processing)

    level = False  # whether offsets that float32 cannot hold are still to be taken off

    def clean(block: np.ndarray) -> np.ndarray:
        try:
            cleaned = cleaner(block)
        except ValueError as error:
            raise ValueError(f"{recording.source}: {error}") from error
        return centred(cleaned) if level else cleaned

    scan = Scan(
        recording,
        rows,
        run,
        constant=processing.standardize,
        emptied=cleaner.emptied if processing.bad_voxels == "drop" else None,
    )
    about = {
        "tr": float(np.median(list(trs.values()))),
        "timing_error": readout.error,
        "kernel": readout.settings,
        "cleaning": cleaning_facts(processing, confounds),
    }
    reporting = {"subject": recording.subject, "bad_voxels": processing.bad_voxels}
    kept = None
    offset = not (processing.detrend or processing.standardize) and not float32_holds(
        np.dtype(recording.bold.dtype)
    )
    dropped = processing.responses_dir and processing.bad_voxels == "drop"
    if readout.needs_gram or dropped or offset:
        # A reading before: which voxels are usable decides the penalty, and a file's width; and one
        # voxel's offset decides whether all are centred.
        for _, block in scan.read(check=True, progress=False):
            level = level or (offset and offsets_cost_digits(block))
        kept = scan.conclude(**reporting)
        if level:
            about["cleaning"]["centred"] = True
    if readout.needs_gram:
        gram = 0
        for _, block in scan.read(check=False, known=kept, progress=False):
            gram = deconvolution.run_gram(clean(block), run) + gram
        about["kernel"]["alpha"] = readout.choose_alpha(gram)
        about["timing_error"] = readout.error
    space, names = recording.space, recording.feature_names
    n_words, per_voxel = len(stimulus), readout.features_per_voxel

    def described(kept: np.ndarray) -> tuple[dict, VoxelSpace | None]:
        facts = {**meta, **about, "dropped_voxels": int((~kept).sum())}
        if names is not None:
            chosen = [name for name, keep in zip(names, kept, strict=True) if keep]
            facts["feature_names"] = readout.feature_names(chosen)
        spaced = space is not None and per_voxel == 1
        return facts, space.select(kept) if spaced else None

    if processing.responses_dir is None:
        width, filled = int((kept if kept is not None else np.ones(n_voxels, bool)).sum()), 0
        values = np.empty((n_words, width * per_voxel), np.float32)
        usable = []
        with closing(scan.read(check=kept is None, known=kept)) as blocks:
            for good, block in blocks:
                features = readout(clean(block))
                values[:, filled : filled + features.shape[1]] = features
                filled += features.shape[1]
                usable.append(good)
        if kept is None:
            kept = scan.conclude(**reporting)
            usable = np.concatenate(usable)
            values = values[:, :filled]
            if (late := usable & ~kept).any():  # found unusable by a later block's range
                values = values[:, np.repeat(~late[usable], per_voxel)]
        facts, space = described(kept)
        return WordResponses(recording.subject, values, stimulus, readout.valid, facts, space)

    folder = Path(processing.responses_dir)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / _file_name(recording.subject, meta.get("dataset"))
    facts, space = described(np.ones(n_voxels, bool) if kept is None else kept)
    with ResponseWriter(
        path,
        subject=recording.subject,
        stimulus=stimulus,
        valid=readout.valid,
        n_columns=(n_voxels if kept is None else int(kept.sum())) * per_voxel,
        meta=facts,
        space=space,
    ) as writer:
        with closing(scan.read(check=kept is None, known=kept)) as blocks:
            for good, block in blocks:
                if good.all() or kept is not None:
                    writer.write(readout(clean(block)))
                else:  # under "raise": go on only to say how many voxels there are
                    scan.exhaust(**reporting)
        if kept is None:
            scan.conclude(**reporting)
    return WordResponses.load(path)


def _file_name(subject: str, dataset: str | None) -> str:
    """DATASET-SUBJECT.npz; names that a file cannot bear, shortened and told apart by a digest."""
    name = subject if dataset is None else f"{dataset}-{subject}"
    plain = re.sub(r"[^\w.-]+", "_", name)[:80]
    if plain != name:
        plain += "-" + hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{plain}.npz"


def cleaner_of(
    recording: BoldRecording,
    run: np.ndarray,
    trs: dict,
    confounds: np.ndarray | None,
    processing: Processing,
) -> Cleaner:
    """The cleaner of a recording's rows, as `trimmed` left them. Raises ValueError naming the source."""
    try:
        return Cleaner(
            run,
            tr=trs,
            detrend=processing.detrend,
            high_pass=processing.high_pass,
            standardize=processing.standardize,
            confounds=confounds,
        )
    except ValueError as error:
        raise ValueError(f"{recording.source}: {error}") from error


def cleaning_facts(processing: Processing, confounds: np.ndarray | None) -> dict:
    """How a recording was cleaned, for the record."""
    return {
        "detrend": processing.detrend,
        "standardize": processing.standardize,
        "high_pass": processing.high_pass,
        "confounds": 0 if confounds is None else confounds.shape[1],
        "trim": list(processing.trim),
    }


def warn_of_gaps(stimulus: Stimulus, times: np.ndarray, run: np.ndarray, source: str) -> None:
    """Warn of what damaged or doubled tables of words and volumes look like, and sound ones hardly ever."""
    word_run = np.full(len(stimulus), run[0]) if stimulus.run is None else stimulus.run
    if (twice := (np.diff(stimulus.onsets) == 0) & (np.diff(word_run) == 0)).any():
        word = int(np.argmax(twice)) + 1
        warnings.warn(
            f"{source}: {int(twice.sum())} words begin together with the word before, the first is "
            f"word {word} ({stimulus.words[word]!r}, {stimulus.onsets[word]:g} s): are they listed "
            "twice?",
            UserWarning,
            stacklevel=3,
        )
    if (silent := np.setdiff1d(run, word_run)).size:
        warnings.warn(
            f"{source}: no word was presented in run {', '.join(map(str, silent))} of "
            f"{len(np.unique(run))}: is the table of words complete?",
            UserWarning,
            stacklevel=3,
        )
    for label, tr in repetition_times(times, run).items():
        own_times = times[run == label]
        steps = np.diff(own_times)
        if (wide := steps > _GAP * tr).any():
            at = int(np.argmax(wide))
            warnings.warn(
                f"{source}: run {label} has a gap, its volumes at {own_times[at]:g} and "
                f"{own_times[at + 1]:g} s are {steps[at] / tr:.1f} TR apart ({int(wide.sum())} such "
                "gaps), and is detrended, filtered and scaled as if it had none: label the parts as "
                "runs of their own",
                UserWarning,
                stacklevel=3,
            )
