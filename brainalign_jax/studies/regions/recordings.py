"""Time courses of few regions with their stimulus: what region encoding works on."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from brainalign_jax.files import user_path
from brainalign_jax.neural.readers import open_dataset
from brainalign_jax.neural.readers.stories import alice_files
from brainalign_jax.neural.readout.cleaning import clean_runs
from brainalign_jax.stimulus import Stimulus

ALICE_REGIONS = {
    "LATL": "the left anterior temporal lobe",
    "RATL": "the right anterior temporal lobe",
    "LPTL": "the left posterior temporal lobe",
    "LIPL": "the left inferior parietal lobe",
    "LPreM": "the left premotor cortex",
    "LIFG": "the left inferior frontal gyrus",
}


@dataclass(frozen=True, eq=False)
class RegionRecordings:
    """Recordings of all subjects on one clock.

    bold: [N, S, R] time courses; times: [N] seconds; run: [N] labels.
    regions: R names; parts: R labels of what belongs together, as the radius; a maximum or a false
    discovery rate is taken over the regions of one part.
    shipped: nuisance -> [N] or [N, K] at the volumes, as a release gives it, beside those that are
    computed from the stimulus.
    labels: region -> its name in a sentence.
    """

    dataset: str
    subjects: tuple[str, ...]
    bold: np.ndarray
    times: np.ndarray
    run: np.ndarray
    regions: tuple[str, ...]
    parts: tuple[str, ...]
    stimulus: Stimulus
    shipped: Mapping[str, np.ndarray] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    meta: dict = field(default_factory=dict)

    def __post_init__(self) -> None:
        n, s, r = np.shape(self.bold)
        sizes = {
            "subjects": (len(self.subjects), s),
            "times": (len(self.times), n),
            "run": (len(self.run), n),
            "regions": (len(self.regions), r),
            "parts": (len(self.parts), r),
        } | {f"shipped[{name!r}]": (len(rows), n) for name, rows in self.shipped.items()}
        for name, (length, wanted) in sizes.items():
            if length != wanted:
                raise ValueError(
                    f"{name} has {length} entries; bold {np.shape(self.bold)} needs {wanted}"
                )
        if not np.isfinite(self.bold).all() or not np.ptp(self.bold, axis=0).all():
            raise ValueError("bold holds NaN, infinite or constant time courses: leave them out")
        if self.stimulus.onsets is None:
            raise ValueError("the words have no onsets: encoding of time courses needs them")


def alice_regions(
    data_dir: str | Path,
    *,
    radii: Sequence[str] = ("10mm", "6mm"),
    subjects: str | Iterable[str] | None = None,
    high_pass: float | None = 0.008,
    motion: bool = True,
) -> RegionRecordings:
    """The six regions of Brennan et al. 2016 in one or both radii.

    Every subject's time courses are detrended, high-pass filtered (Hz) and rid of the six realignment
    parameters, run by run and without regard to the stimulus. The release's word rate and sound power
    are those of the first subject where they are the same but for rounding, as they are in the release.

    Raises: as the reader; ValueError where subjects heard the story on another clock.
    """
    data_dir = user_path(data_dir, "data_dir")
    dataset = open_dataset("alice", data_dir, subjects=subjects, radius=radii[0])
    courses = []
    for subject in dataset.subjects:
        raw = np.concatenate(
            [alice_files.read_timecourses(data_dir, subject, radius) for radius in radii], axis=1
        )
        confounds = alice_files.read_motion(data_dir, subject) if motion else None
        courses.append(
            clean_runs(
                raw,
                None,
                tr=alice_files.TR,
                high_pass=high_pass,
                confounds=confounds,
                subject=subject,
            )
        )
    lengths = {len(course) for course in courses}
    if len(lengths) > 1:
        raise ValueError(f"subjects have {sorted(lengths)} volumes: they must share one clock")
    shipped = {}
    for name, file in (("rate", "rate"), ("sound_power", "sndpwr")):
        regressors = np.array(
            [alice_files.read_regressor(data_dir, s, file) for s in dataset.subjects]
        )
        if np.corrcoef(regressors[0], regressors.mean(axis=0))[0, 1] < 0.999:
            raise ValueError(f"the {name} of {dataset.subjects[0]} is not that of the others")
        shipped[name] = regressors.mean(axis=0)
    shipped["frequency"] = alice_files.read_predictors(data_dir)["frq_conv_orth"]
    n = lengths.pop()
    return RegionRecordings(
        "alice",
        dataset.subjects,
        np.stack(courses, axis=1),
        alice_files.volume_times(n),
        np.zeros(n, np.int64),
        alice_files.REGIONS * len(radii),
        tuple(radius for radius in radii for _ in alice_files.REGIONS),
        dataset.stimulus,
        shipped,
        ALICE_REGIONS,
        dataset.meta
        | {"radius": ", ".join(radii), "high_pass": high_pass, "confounds": "motion" * motion},
    )
