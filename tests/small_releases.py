"""Small sound data sets in every layout that a reader knows, for tests of what corruption does to them."""

import functools
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from potter_files import written
from simulate.alice import simulate_alice
from simulate.bids import simulate_bids
from simulate.kriegeskorte2008 import simulate_kriegeskorte2008
from simulate.lebel2023 import simulate_lebel2023
from simulate.little_prince import simulate_little_prince
from simulate.narratives import simulate_narratives
from simulate.natural_stories import simulate_natural_stories
from simulate.pereira import simulate_pereira
from simulate.smn4lang import simulate_smn4lang
from simulate.smn4lang_meg import simulate_smn4lang_meg

from brainalign_jax.neural import WordResponses
from brainalign_jax.neural import simulate as sim
from brainalign_jax.neural.inner_products import products_of
from brainalign_jax.neural.readers.stories.alice_files import DATA, TEXTGRID
from brainalign_jax.neural.simulate.images import run_starts
from brainalign_jax.stimulus import Stimulus

WORDS = list(sim.story_words()[:60])
STUDY = {
    "words": WORDS,
    "vectors": np.random.default_rng(0).standard_normal((len(WORDS), 3)),
    "n_subjects": 2,
    "n_runs": 2,
    "n_voxels": 20,
}
PRINCE_SCAN = (
    "derivatives/sub-EN057/func/"
    "sub-EN057_task-lppEN_run-15_space-MNIColin27_desc-preproc_bold.nii.gz"
)
PRINCE_WORDS = "annotation/EN/lppEN_word_information.csv"
LEBEL_STORY = "derivative/preprocessed_data/UTS02/souls.hf5"
LEBEL_WORDS = "derivative/TextGrids/souls.TextGrid"
SMN_SCAN = "derivatives/preprocessed_data/sub-01/CIFTI/sub-01_task-RDR_run-2_bold.dtseries.nii"
SMN_WORDS = "derivatives/annotations/time_align/word-level/story_2_word_time.mat"
SMN_MEG = "derivatives/preprocessed_data/sub-01/MEG/sub-01_task-RDR_run-2"
SMN_TRIGGERS = f"{SMN_MEG}_events.tsv"
NARRATIVES_SCAN = (
    "derivatives/afni-nosmooth/sub-002/func/"
    "sub-002_task-black_space-fsaverage6_hemi-L_desc-clean.func.gii"
)
NARRATIVES_WORDS = "stimuli/gentle/black/align.csv"
NARRATIVES_EVENTS = "sub-002/func/sub-002_task-black_events.tsv"
CONCEPTS, SENTENCES = "180concepts", "243sentences"
DERIVED = "derivatives/fmriprep"


class Release(NamedTuple):
    """A sound data set. files: those whose bytes are damaged, the first one in every way; head: bytes
    that its header takes; words: as they are planted, without what the reader documents to drop."""

    reader: str
    write: Callable[[Path], Any]
    files: tuple[str, ...]
    head: int
    words: int = len(WORDS)
    options: dict[str, Any] = {}
    inner: str = ""


def write_pereira(folder, matlab, experiment):
    items = {
        CONCEPTS: [f"concept{index}" for index in range(9)],
        SENTENCES: [f"This is sentence {index}." for index in range(9)],
    }
    size = {"n_voxels": 60, "shape": (5, 6, 5)}
    simulate_pereira(
        folder,
        subjects=["M02", "P01"],
        experiments=[experiment],
        items=items,
        matlab=matlab,
        **size,
    )


def write_pereira180(folder):
    rng = np.random.default_rng(0)
    folder.mkdir()
    np.savez(
        folder / "pereira180.npz",
        fmri_pca=rng.standard_normal((2, 12, 11)),
        words=np.array([f"concept{index}" for index in range(12)]),
        subjects=np.array(["M01", "M02"]),
        glove42B_300=rng.standard_normal((12, 300)),
        concreteness=rng.uniform(1, 5, 12),
    )


def features(number):
    return np.random.default_rng(number).standard_normal((len(WORDS), 5)).astype(np.float32)


def timing():
    place = np.arange(len(WORDS))
    return {
        "onsets": 0.5 * (place % 30),
        "durations": np.full(len(WORDS), 0.5),
        "run": 1 + place // 30,
        "sentence": place // 10,
    }


def write_tables(folder, ending):
    folder.mkdir()
    for number in (1, 2):
        path, values = folder / f"P0{number}{ending}", features(number)
        if ending == ".npz":
            names = np.array([f"voxel {column}" for column in range(5)])
            np.savez(path, words=np.array(WORDS), values=values, feature_names=names, **timing())
            continue
        columns = {"word": WORDS, **timing()}
        columns |= {f"voxel {column}": voxel for column, voxel in enumerate(values.T.astype(float))}
        table = pd.DataFrame(columns).rename(columns={"onsets": "onset", "durations": "duration"})
        if ending == ".parquet":
            table.to_parquet(path, index=False)
        else:
            table.to_csv(path, index=False, sep="\t" if ending == ".tsv" else ",")


def write_epochs(folder, ending):
    folder.mkdir()
    times = 0.01 * np.arange(-2, 8)
    for number in (1, 2):
        path = folder / f"P0{number}{ending}"
        values = np.random.default_rng(number).standard_normal((len(WORDS), 5, len(times)))
        values = values.astype(np.float32)
        if ending == ".npz":
            np.savez(path, words=np.array(WORDS), responses=values, times=times, **timing())
            continue
        rows = {"epoch": np.arange(len(WORDS)), "word": WORDS, **timing()}
        columns = {name: np.repeat(column, len(times)) for name, column in rows.items()}
        columns["time"] = np.tile(times, len(WORDS))
        columns |= {f"MEG{place}": values[:, place].ravel() for place in range(5)}
        table = pd.DataFrame(columns).rename(columns={"onsets": "onset", "durations": "duration"})
        table.to_parquet(path, index=False)


def write_saved(folder):
    folder.mkdir()
    for number in (1, 2):
        stimulus = Stimulus(tuple(WORDS), **timing())
        WordResponses(f"P0{number}", features(number), stimulus).save(folder / f"P0{number}.npz")


def write_kernels(folder):
    write_saved(folder)
    for path in folder.glob("*.npz"):
        products_of(WordResponses.load(path)).save(path)


def potter(folder, **settings):
    words = [*WORDS[:20], "+", *WORDS[21:]]  # a fixation cross, which the reader drops
    written(folder, **{**STUDY, "words": words}, **settings)


def one_clock(folder):
    """Scans of two runs, and a table of words without runs whose clock goes on between them."""
    simulation = sim.simulate_nifti(folder, kind="cifti", **STUDY)
    assert run_starts(simulation.schedule).tolist() == ONE_CLOCK["first_volume"]
    path = folder / "words.tsv"
    table = pd.read_csv(path, sep="\t", keep_default_na=False)
    table["onset"] = simulation.schedule.onsets
    table.drop(columns="run").to_csv(path, sep="\t", index=False)


ONE_CLOCK = {"image": "sub-{subject}/run-*_bold.dtseries.nii", "first_volume": [0.0, 72.5]}
MAT = ("subject_1.mat", "subject_2.mat")
TIMECOURSES = tuple(f"{DATA}/10mm/s{number}-timecourses.txt" for number in (18, 22))
RUN = "sub-1/run-1"
SCAN = "sub-01/func/sub-01_task-story_run-1"
DERIVED_SCAN = f"{DERIVED}/{SCAN}_space-MNI152NLin2009cAsym_res-2_desc-preproc"
RELEASES = {
    "potter": Release("harry_potter", potter, MAT, 1500, len(WORDS) - 1),
    "potter 7.3": Release(
        "harry_potter", functools.partial(potter, layout="mat73"), MAT, 2**12, len(WORDS) - 1
    ),
    "potter npy": Release(
        "harry_potter",
        functools.partial(potter, layout="numpy"),
        ("data_subject_F.npy", "time_words_fmri.npy", "words_fmri.npy", "runs_fmri.npy"),
        128,
        len(WORDS) - 1,
    ),
    "stories": Release(
        "natural_stories",
        lambda folder: simulate_natural_stories(folder, tr=2.0, compress=0, **STUDY),
        MAT,
        200,
    ),
    "stories 7.3": Release(
        "natural_stories",
        lambda folder: simulate_natural_stories(folder, tr=2.0, layout="mat73", **STUDY),
        MAT,
        2**12,
    ),
    "pereira": Release(
        "pereira2018",
        lambda folder: write_pereira(folder, "5", CONCEPTS),
        ("P01/examples_180concepts_sentences.mat", "M02/examples_180concepts_pictures.mat"),
        1500,
        9,
    ),
    "pereira 7.3": Release(
        "pereira2018",
        lambda folder: write_pereira(folder, "7.3", SENTENCES),
        ("M02/examples_243sentences.mat", "P01/examples_243sentences.mat"),
        2**12,
        9,
        {"experiment": SENTENCES, "roi": "aal"},
    ),
    "pereira180": Release("pereira180", write_pereira180, ("pereira180.npz",), 160, 12),
    "kriegeskorte": Release(
        "kriegeskorte2008",
        simulate_kriegeskorte2008,
        ("92_brainRDMs.mat",),
        200,
        92,
        {"subjects": ("BE", "KO")},
    ),
    "alice": Release(
        "alice",
        lambda folder: simulate_alice(folder, n_subjects=2),
        (TEXTGRID, *TIMECOURSES),
        400,
        2127,
        {"confounds": "motion,rate"},
    ),
    "lebel": Release(
        "lebel2023",
        lambda folder: simulate_lebel2023(
            folder, **{key: STUDY[key] for key in ("words", "vectors", "n_voxels")}
        ),
        (LEBEL_STORY, LEBEL_WORDS),
        2**11,
    ),
    "smn4lang": Release(
        "smn4lang",
        lambda folder: simulate_smn4lang(
            folder, **{key: STUDY[key] for key in ("words", "vectors", "n_voxels")}
        ),
        (SMN_SCAN, SMN_WORDS),
        2000,
    ),
    "narratives": Release(
        "narratives",
        lambda folder: simulate_narratives(
            folder, **{key: STUDY[key] for key in ("words", "vectors", "n_voxels")}
        ),
        (NARRATIVES_SCAN, NARRATIVES_WORDS, NARRATIVES_EVENTS),
        600,
        options={"stories": "pieman:black"},
    ),
    "prince": Release(
        "little_prince",
        lambda folder: simulate_little_prince(
            folder, texts={"en": (WORDS, STUDY["vectors"])}, n_voxels=STUDY["n_voxels"]
        ),
        (PRINCE_SCAN, PRINCE_WORDS),
        60,
        options={"mask": "mask.nii.gz"},
    ),
    "nifti gz": Release(
        "nifti",
        lambda folder: sim.simulate_nifti(folder, **STUDY),
        (f"{RUN}_bold.nii.gz", "mask.nii.gz", "words.tsv"),
        60,
        options={"image": "sub-{subject}/run-*_bold.nii.gz"},
    ),
    "nifti": Release(
        "nifti",
        lambda folder: sim.simulate_nifti(folder, compressed=False, dtype="float32", **STUDY),
        (f"{RUN}_bold.nii", "words.tsv"),
        352,
        options={"image": "sub-{subject}/run-*_bold.nii"},
    ),
    "gifti": Release(
        "nifti",
        lambda folder: sim.simulate_nifti(folder, kind="surface", **STUDY),
        (f"{RUN}_hemi-L_bold.func.gii", f"{RUN}_hemi-R_bold.func.gii"),
        600,
        options={
            "left": "sub-{subject}/*_hemi-L_bold.func.gii",
            "right": "sub-{subject}/*_hemi-R_bold.func.gii",
            "tr": 2.0,
        },
    ),
    "cifti": Release(
        "nifti",
        lambda folder: sim.simulate_nifti(folder, kind="cifti", **STUDY),
        (f"{RUN}_bold.dtseries.nii",),
        2000,
        options={"image": "sub-{subject}/run-*_bold.dtseries.nii"},
    ),
    "nifti one clock": Release("nifti", one_clock, (), 0, options=ONE_CLOCK),
    "bids raw": Release(
        "bids",
        lambda folder: simulate_bids(folder, outputs=("raw",), **STUDY),
        (f"{SCAN}_bold.nii.gz", "task-story_bold.json"),
        60,
        options={"mask": "all", "bad_voxels": "drop"},
    ),
    "bids": Release(
        "bids",
        lambda folder: simulate_bids(folder, outputs=("volume",), **STUDY),
        (f"{SCAN}_events.tsv", f"{DERIVED}/{SCAN}_desc-confounds_timeseries.tsv"),
        30,
        options={"confounds": "motion6"},
        inner=DERIVED,
    ),
    **{
        f"table {ending[1:]}": Release(
            "table",
            functools.partial(write_tables, ending=ending),
            (f"P01{ending}", f"P02{ending}"),
            100,
        )
        for ending in (".csv", ".tsv", ".parquet", ".npz")
    },
    **{
        f"epochs {ending[1:]}": Release(
            "epochs",
            functools.partial(write_epochs, ending=ending),
            (f"P01{ending}", f"P02{ending}"),
            100,
        )
        for ending in (".npz", ".parquet")
    },
    "table saved": Release("table", write_saved, ("P01.npz", "P02.npz"), 200),
    "kernels": Release("kernels", write_kernels, ("P01.npz", "P02.npz"), 200),
}


def write_mne(folder):
    """Recordings of 60 s and epochs of their words, of two people, with a table of the words."""
    import mne

    folder.mkdir()
    info = mne.create_info(["M1", "M2", "E1"], 20.0, ["mag", "mag", "eeg"])
    onsets = 1 + 0.9 * np.arange(len(WORDS))
    samples = np.round(20 * onsets).astype(int)
    events = np.column_stack([samples, 0 * samples, 0 * samples + 1])
    for number in (1, 2):
        values = np.random.default_rng(number).standard_normal((3, 1200))
        raw = mne.io.RawArray(values * [[1e-13], [1e-13], [1e-6]], info, verbose="error")
        raw.save(folder / f"S{number}_raw.fif", verbose="error")
        options = dict(tmin=-0.1, tmax=0.5, baseline=None, preload=True, verbose="error")
        epochs = mne.Epochs(raw, events, **options)
        epochs.save(folder / f"S{number}-epo.fif", verbose="error")
    table = pd.DataFrame({"onset": onsets, "word": WORDS})
    table.to_csv(folder / "words.tsv", sep="\t", index=False)


if importlib.util.find_spec("mne"):
    MNE_WORDS = "words.tsv"
    RELEASES |= {
        "mne epochs": Release(
            "mne", write_mne, ("S1-epo.fif", MNE_WORDS), 3000, options={"words": MNE_WORDS}
        ),
        "mne raw": Release(
            "mne",
            write_mne,
            ("S1_raw.fif", MNE_WORDS),
            3000,
            options={"words": MNE_WORDS, "raw": "{subject}_raw.fif"},
        ),
        "smn4lang meg": Release(
            "smn4lang_meg",
            lambda folder: simulate_smn4lang_meg(
                folder, words=WORDS, vectors=STUDY["vectors"], noise=0.1
            ),
            (f"{SMN_MEG}_meg.fif", SMN_WORDS, SMN_TRIGGERS),
            3000,
            options={"decim": 1},
        ),
    }
