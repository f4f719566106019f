import shutil
import warnings

import numpy as np
import pytest
from recordings import PEAKED, assert_peaked
from simulate.little_prince import simulate_little_prince

from brainalign_jax.neural.readers import open_dataset
from brainalign_jax.neural.readers.corpora.little_prince import find_images
from brainalign_jax.neural.readout.cleaning import clean_runs
from brainalign_jax.neural.readout.kernels import apply_kernel, word_kernel
from brainalign_jax.neural.simulate.bold import story_words

WORDS = {
    "en": story_words()[:180],
    "fr": tuple(f"mot{index % 40}" for index in range(189)),
    "zh": tuple("他说星星很美我想去看"[index % 10] for index in range(162)),
}
TEXTS = {
    language: (words, np.random.default_rng(1).standard_normal((len(words), 3)))
    for language, words in WORDS.items()
}
RAW = {"detrend": False, "standardize": False}
ANNOTATION = "annotation/EN/lppEN_word_information.csv"


def opened(folder, **options):
    # The volume is small: nilearn would find no brain in it.
    return open_dataset("little_prince", folder, **{"mask": "mask.nii.gz", **options})


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    """Three languages, two subjects each, that no test changes."""
    folder = tmp_path_factory.mktemp("corpus") / "ds003643"
    return folder, simulate_little_prince(folder, texts=TEXTS, seed=4)


@pytest.fixture
def english(simulated, tmp_path):
    """A copy of the English part to change."""
    for part in ("annotation/EN", "derivatives/sub-EN057", "derivatives/sub-EN058"):
        shutil.copytree(simulated[0] / part, tmp_path / part)
    shutil.copy(simulated[0] / "mask.nii.gz", tmp_path)
    return tmp_path


def edit(path, row, **changes):
    """Give fields of a row (from 1) of an annotation other texts."""
    lines = path.read_text("utf-8").splitlines()
    names, fields = lines[0].split(","), lines[row].split(",")
    for name, text in changes.items():
        fields[names.index(name)] = text
    lines[row] = ",".join(fields)
    path.write_text("\n".join(lines) + "\n", "utf-8")


@pytest.mark.parametrize(("language", "first"), [("en", "EN057"), ("fr", "FR001"), ("zh", "CN001")])
def test_words_onsets_and_values_come_back(simulated, language, first):
    folder, simulation = simulated[0], simulated[1][language]
    dataset, schedule = opened(folder, language=language), simulation.schedule
    assert len(dataset.subjects) == 2 and dataset.subjects[0] == first
    stimulus = dataset.stimulus
    assert stimulus.words == WORDS[language]
    np.testing.assert_array_equal(stimulus.run, schedule.word_run)
    np.testing.assert_array_equal(stimulus.attribute("section"), schedule.word_run)
    assert set(stimulus.attribute("language")) == {language}
    assert set(stimulus.attribute("story")) == {"little_prince"}
    assert stimulus.attribute("logfreq")[3] == 1.5 and stimulus.attribute("pos")[0] == "NOUN"
    np.testing.assert_allclose(stimulus.durations, 0.4, atol=2e-4)
    assert (np.diff(stimulus.sentence) >= 0).all()
    starts = schedule.volume_times[np.searchsorted(schedule.volume_run, schedule.word_run)]
    np.testing.assert_allclose(stimulus.onsets, schedule.onsets - starts + 1.0, atol=1e-4)
    timing = {"run": schedule.word_run, "volume_run": schedule.volume_run}
    kernel = word_kernel(
        schedule.onsets, schedule.volume_times, durations=stimulus.durations, **timing
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        responses = dataset.load(dataset.subjects[1])
    cleaned = clean_runs(simulation.stored(1).astype(float), schedule.volume_run, tr=2.0)
    np.testing.assert_allclose(responses.values, apply_kernel(kernel, cleaned), atol=2e-3)
    assert responses.valid.all() and responses.space.same_as(simulation.space)
    assert responses.meta["tr"] == 2.0 and responses.meta["language"] == language
    assert responses.meta["licence"] == "CC0"


def test_volume_times_come_back_as_onset_and_delay_and_a_volume_too_late_does_not(tmp_path):
    """Voxel 0 recorded the time: what a word is read out of is its onset and the delay."""
    texts = {"en": TEXTS["en"]}
    simulation = simulate_little_prince(
        tmp_path, texts=texts, n_subjects=1, clock=True, dtype="float32"
    )
    onsets = simulation["en"].schedule.onsets

    def error(**options):
        responses = opened(tmp_path, kind="delay", **RAW, **options).load("EN057")
        return np.abs(responses.values[:, 0] - (onsets + 6.0))[responses.valid]

    assert error().max() < 1e-3
    assert error(first_volume=2.0).min() > 1.9 and error(slice_time_ref=0.0).min() > 0.9


def test_planted_responses_are_found_at_their_delay(tmp_path):
    simulate_little_prince(tmp_path, texts={"en": TEXTS["en"]}, n_subjects=1, **PEAKED)

    def load(delay):
        return opened(tmp_path, kind="delay", delay=delay).load("EN057")

    assert_peaked(load, TEXTS["en"][1])


def test_a_language_is_asked_for_or_follows_from_what_is_there(simulated, english):
    folder = simulated[0]
    with pytest.raises(ValueError, match=r"scans of several languages \(en, fr, zh\).* language="):
        opened(folder)
    with pytest.raises(ValueError, match=r"the subjects heard several languages \(en, fr\)"):
        opened(folder, subjects=["EN057", "FR001"])
    assert opened(folder, subjects="sub-FR002").subjects == ("FR002",)
    assert opened(english).subjects == ("EN057", "EN058")
    assert open_dataset("little_prince", folder.parent, language="zh").subjects[0] == "CN001"
    with pytest.raises(
        ValueError, match="unknown language 'de' of little_prince; known: en, fr, zh"
    ):
        opened(folder, language="de")
    with pytest.raises(ValueError, match=r"'FR001' of little_prince \(language en\); known: EN057"):
        opened(folder, language="en", subjects="FR001")
    with pytest.raises(FileNotFoundError, match=r"there is no .*lppFR_word_information\.csv"):
        shutil.copytree(folder / "derivatives" / "sub-FR001", english / "derivatives" / "sub-FR001")
        opened(english, language="fr")


def test_sections_are_read_alone_and_keep_their_numbers(simulated):
    folder, simulation = simulated[0], simulated[1]["en"]
    everything = opened(folder, language="en").load("EN057")
    some = opened(folder, language="en", sections=[7, 2]).load("EN057")
    rows = np.isin(simulation.schedule.word_run, [2, 7])
    assert set(some.stimulus.run.tolist()) == {2, 7}
    np.testing.assert_array_equal(some.values, everything.values[rows])
    for wrong in ([], [1, 1], [0], 10):
        with pytest.raises(ValueError, match="sections is .* numbers from 1 to 9, each once"):
            opened(folder, language="en", sections=wrong)


def test_regions_of_an_atlas_are_means_of_voxels(simulated):
    import nibabel as nib

    folder, simulation = simulated[0], simulated[1]["en"]
    codes = 1 + np.arange(30) % 2
    image = simulation.space.to_image(codes.astype(float))
    nib.Nifti1Image(image.get_fdata().astype(np.int16), image.affine).to_filename(
        folder / "atlas.nii.gz"
    )
    responses = opened(folder, language="en", atlas="atlas.nii.gz", mask=None).load("EN057")
    assert responses.meta["feature_names"] == ["region 1", "region 2"]
    stored, schedule = simulation.stored(0).astype(float), simulation.schedule
    means = np.stack([stored[:, codes == code].mean(axis=1) for code in (1, 2)], axis=1)
    cleaned = clean_runs(means, schedule.volume_run, tr=2.0)
    kernel = word_kernel(
        schedule.onsets,
        schedule.volume_times,
        durations=responses.stimulus.durations,
        run=schedule.word_run,
        volume_run=schedule.volume_run,
    )
    np.testing.assert_allclose(responses.values, apply_kernel(kernel, cleaned), atol=2e-3)


def test_a_missing_run_is_an_error_as_the_others_would_move_up(english):
    scan = find_images(english)["EN058"][4][1]
    scan.unlink()
    dataset = opened(english)
    dataset.load("EN057")
    with pytest.raises(
        ValueError,
        match=r"sub-EN058/func has 8 runs \(8, 9, 10, 11, 13, .*9 sections.*--subjects=EN058",
    ):
        dataset.load("EN058")
    scan.symlink_to("../../.git/annex/objects/none")
    with pytest.raises(FileNotFoundError, match="link of git-annex .* `datalad get`"):
        opened(english, subjects="EN058").load("EN058")
    with pytest.warns(UserWarning, match="1 of 2 people are left out, .* `datalad get`"):
        assert opened(english).subjects == ("EN057",)


def test_a_folder_without_scans_says_where_they_come_from(english):
    for scan in (english / "derivatives").rglob("*bold*"):
        scan.unlink()
    with pytest.raises(FileNotFoundError, match="brainalign fetch little_prince"):
        opened(english)
    with pytest.raises(
        FileNotFoundError, match=r"there is no .*derivatives.*; get the release from"
    ):
        opened(english / "annotation")


def test_two_files_of_one_run_are_refused(english):
    scan = find_images(english)["EN057"][0][1]
    shutil.copy(scan, scan.with_suffix(""))
    with pytest.raises(ValueError, match="run-15.* are of one run; move one away"):
        opened(english)


@pytest.mark.parametrize(
    ("row", "changes", "message"),
    [
        (3, {"onset": "x"}, r"row 3: column 'onset' holds 'x', which is not a number"),
        (3, {"onset": ""}, r"row 3 \('.*'\) goes from nan to .* s; both must be numbers"),
        (4, {"offset": "1"}, r"row 4 \('.*'\) ends at 1 s, before it begins"),
        (4, {"onset": "1"}, r"row 4 \('.*'\) begins at 1 s, before the word above it at 5.8 s"),
        (4, {"offset": "9"}, r"row 4 \('.*'\) ends at 9 s and the next word begins at 6.6 s"),
        (4, {"section": "12"}, r"row 4 is of section 12; sections are numbered from 1 to 9"),
        (4, {"section": ""}, r"row 4 is of section nan"),
        (4, {"word": "a,b"}, r"row 4 has 9 fields for 8 columns"),
        (
            20,
            {"onset": "90", "offset": "90.3"},
            r"csv: 1 words of run 1 begin after its last volume",
        ),
    ],
)
def test_damaged_annotations_are_named_with_their_row(english, row, changes, message):
    edit(english / ANNOTATION, row, **changes)
    with pytest.raises(ValueError, match=message):
        opened(english).load("EN057")


def test_rows_without_a_word_are_left_out_and_small_overlaps_cut(english):
    edit(english / ANNOTATION, 3, word="")
    edit(english / ANNOTATION, 6, offset="7.6")
    with pytest.warns(
        UserWarning, match="section 1 has 1 rows without a word.* the first is row 3"
    ):
        stimulus = opened(english).stimulus
    assert stimulus.words == WORDS["en"][:2] + WORDS["en"][3:]
    np.testing.assert_allclose(stimulus.onsets[4] + stimulus.durations[4], stimulus.onsets[5])


def test_a_row_that_is_there_twice_is_told(english):
    path = english / ANNOTATION
    lines = path.read_text("utf-8").splitlines(keepends=True)
    path.write_text("".join([*lines[:5], lines[4], *lines[5:]]), "utf-8")
    with pytest.warns(UserWarning, match=r"row 5 \('.*'\) says the same as the word above it"):
        assert len(opened(english).stimulus) == len(WORDS["en"]) + 1


def test_a_column_or_a_section_that_is_not_there_is_named(english):
    path = english / ANNOTATION
    text = path.read_text("utf-8")
    path.write_text(text.replace("onset", "start", 1), "utf-8")
    with pytest.raises(ValueError, match="no column 'onset'; its columns are word, lemma, start"):
        opened(english)
    lines = text.splitlines(keepends=True)
    path.write_text("".join(line for line in lines if not line.endswith(",5\n")), "utf-8")
    with pytest.raises(ValueError, match="section 5 holds no words"):
        opened(english)
    assert len(set(opened(english, sections=[1, 2]).stimulus.run.tolist())) == 2


def test_a_wrong_tr_is_refused(tmp_path):
    simulate_little_prince(tmp_path, texts={"en": TEXTS["en"]}, n_subjects=1, header_tr=1.5)
    with pytest.raises(
        ValueError, match=r"run-15.* has a TR of 1.5 s where the release has 2 s.*give tr="
    ):
        opened(tmp_path).load("EN057")
    assert opened(tmp_path, tr=2.0).load("EN057").meta["tr"] == 2.0
    with pytest.raises(ValueError, match="first_volume is nan"):
        opened(tmp_path, first_volume=float("nan")).load("EN057")
    with pytest.raises(ValueError, match="has a TR of 99 s; it must be in seconds"):
        opened(tmp_path, tr=99.0).load("EN057")
