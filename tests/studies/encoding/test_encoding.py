import json
import re

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

import brainalign_jax as ba
from brainalign_jax.cli import main
from brainalign_jax.neural.readout import TimeCourses
from brainalign_jax.neural.simulate import story_words
from brainalign_jax.neural.simulate.bold import schedule_runs, simulate_bold
from brainalign_jax.neural.simulate.images import (
    AFFINE,
    run_starts,
    simulate_nifti,
    write_mask,
    write_table,
    write_volumes,
)
from brainalign_jax.neural.space import VoxelSpace
from brainalign_jax.stimulus import clean_word
from brainalign_jax.studies.encoding import EncodingTable, headline, run_encoding, verdicts
from brainalign_jax.studies.encoding.encoding import _check_delays
from brainalign_jax.studies.encoding.table import COLUMNS
from brainalign_jax.studies.options import VoxelEncoding

FEW = VoxelEncoding(
    n_folds=3, n_inner=2, purge=10.0, n_shifts=39, alphas=(1.0, 10.0, 100.0),
    nuisances=("rate", "length", "frequency"), n_bootstrap=200,
)  # fmt: skip
WORDS, SHAPE = story_words()[:270], (4, 4, 3)
PLANTED = {"one": slice(0, 12), "two": slice(12, 22)}  # columns; layer 1 of the one, 2 of the other
DEAD = 40  # a voxel that is constant in the second person


def write_scans(folder, vectors, weights, *, n_people, seed=0, n_runs=3, snr=4.0):
    """NIfTI files of people whose 48 voxels respond to the vectors of the words, with weights [D, 48]."""
    schedule = schedule_runs(len(WORDS), n_runs=n_runs)
    space = VoxelSpace.volume(np.indices(SHAPE).reshape(3, -1).T, SHAPE, AFFINE)
    onsets = schedule.onsets - run_starts(schedule)[schedule.word_run - 1]
    columns = {"onset": onsets, "duration": [0.5] * len(onsets), "run": schedule.word_run}
    write_table(folder / "words.tsv", columns | {"word": WORDS})
    write_mask(folder / "mask.nii.gz", space)
    for person in range(n_people):
        rng = np.random.default_rng([seed, person])
        bold = simulate_bold(vectors, weights, schedule, snr=snr, rng=rng, drift=0.2)
        if person == 1:
            bold[:, DEAD] = 100.0
        for run in range(1, n_runs + 1):
            rows = bold[schedule.volume_run == run]
            path = folder / f"sub-{person + 1}_run-{run}_bold.nii.gz"
            write_volumes(path, rows, space, len(rows), tr=2.0, dtype="float32")
    return ba.open_dataset("nifti", folder, image="sub-{subject}_run-*_bold.nii.gz", language="en")


def cleaned(words):
    """Each word once, as static vectors have it."""
    return [word for word in dict.fromkeys(clean_word(word).lower() for word in words) if word]


def models(seed=0, n_features=5):
    rng = np.random.default_rng(seed)
    layers = {name: rng.standard_normal((3, len(WORDS), n_features)) for name in PLANTED}
    token = {"level": "token"}
    return layers, [ba.Embeddings(name, WORDS, own, None, token) for name, own in layers.items()]


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scans")
    layers, embeddings = models()
    vectors = np.concatenate([layers["one"][1], layers["two"][2]], axis=1)
    weights = np.zeros((10, 48))
    rng = np.random.default_rng(5)
    weights[:5, PLANTED["one"]] = rng.standard_normal((5, 12))
    weights[5:, PLANTED["two"]] = rng.standard_normal((5, 10))
    dataset = write_scans(folder, vectors - vectors.mean(axis=0), weights, n_people=2)
    labels = np.zeros(48, np.int16)
    labels[PLANTED["one"]], labels[PLANTED["two"]], labels[22:40] = 2, 5, 7
    nib.Nifti1Image(labels.reshape(SHAPE), AFFINE).to_filename(folder / "atlas.nii.gz")
    (folder / "names.tsv").write_text("index\tname\n2\tfirst\n5\tsecond\n7\t<idle>\n")
    return folder, dataset, embeddings


@pytest.fixture(scope="module")
def written(scans, tmp_path_factory):
    folder, dataset, embeddings = scans
    output = tmp_path_factory.mktemp("encoding") / "out"
    with pytest.warns(UserWarning, match="subject 2.*1 of 48 voxels.*constant"):
        table = run_encoding(
            dataset, embeddings, output, plan=FEW, atlas=folder / "atlas.nii.gz",
            labels=folder / "names.tsv", command="as typed", progress=False,
        )  # fmt: skip
    return output, table


@pytest.mark.parametrize(("number", "name", "layer"), [(1, "one", 1), (2, "two", 2)])
def test_place_and_layer_of_what_was_planted_are_found(written, number, name, layer):
    _, table = written
    other = PLANTED["two" if name == "one" else "one"]
    for subject in ("1", "2"):
        values = table.maps[number, subject].values
        own, elsewhere = values["unique_r"][PLANTED[name]], values["unique_r"][other]
        assert np.median(own) > 0.3 > 0.1 > np.median(elsewhere)
        assert (values["layer"][PLANTED[name]] == layer).mean() > 0.7
        assert (values["p_max"][PLANTED[name]] < 0.05).mean() > 0.4
        assert (values["p_max"][22:] < 0.05).sum() <= 1
        assert np.nanmedian(values["omega"][PLANTED[name]]) < 0.3
        np.testing.assert_allclose(
            values["unique_r"], values["r"] - values["r_nuisances"], atol=1e-5
        )
    # The people heard the same: they predict one another where something was planted.
    ceiling = table.maps[number, "1"].values["ceiling"]
    assert np.median(ceiling[PLANTED[name]]) > 0.4 > np.nanmedian(ceiling[22:]) + 0.2
    assert np.isnan(ceiling).sum() == 1  # where the other has no voxel


def test_the_table_has_a_row_a_region_and_person(written):
    _, table = written
    rows = table.rows
    assert list(rows.columns) == list(COLUMNS)
    assert len(rows) == 2 * 3 * 3 and not rows.duplicated(["model", "region", "subject"]).any()
    assert list(rows["region"].unique()) == ["first", "second", "<idle>"]
    values = table.maps[1, "2"].values["unique_r"]
    row = table.line(model="one", region="first", subject="2")
    assert row["unique_r"] == pytest.approx(values[PLANTED["one"]].mean(), abs=1e-6)
    assert row["n_voxels"] == 12 and row["n_left_out"] == 1 and row["layer"] == 1
    assert row["p"] == row["p_max"] == 1 / 40 and row["n_null"] == 39
    assert table.line(model="one", region="<idle>", subject="1")["p_max"] > 0.05
    group = table.line(model="one", region="first", subject="group")
    assert group["p"] == 0.25 and group["n_null"] == 3  # all flips of two people
    assert group["low"] <= group["unique_r"] <= group["high"]
    assert group["unique_r"] == pytest.approx(
        table.of("one")[lambda r: r["region"] == "first"]["unique_r"].mean()
    )


def test_maps_are_in_the_space_of_the_scans(scans, written):
    output, table = written
    image = nib.load(output / "maps" / "model-1_2_unique_r.nii.gz")
    np.testing.assert_allclose(image.affine, AFFINE)
    data = image.get_fdata().ravel()
    kept = np.arange(48) != DEAD
    assert np.isnan(data[DEAD]) and image.shape == SHAPE
    np.testing.assert_allclose(data[kept], table.maps[1, "2"].values["unique_r"], atol=1e-6)
    group = nib.load(output / "maps" / "model-1_group_unique_r.nii.gz").get_fdata().ravel()
    both = [
        nib.load(output / "maps" / f"model-1_{who}_unique_r.nii.gz").get_fdata() for who in "12"
    ]
    np.testing.assert_allclose(group, np.mean(both, axis=0).ravel(), atol=1e-6)
    page = (output / "map.html").read_text()
    assert len(page) < 10 * 2**20 and not re.findall(r"""(?:src|href)=["']https?:""", page)


def test_files_are_saved_and_the_report_opens_with_verdict_and_map(written):
    output, table = written
    again = EncodingTable.load(output)
    pd.testing.assert_frame_equal(again.rows, table.rows)
    assert again.manifest == json.loads(json.dumps(table.manifest))
    page = (output / "report.html").read_text()
    assert page.index("Yes: one and two") < page.index("<img") < page.index("<table")
    assert page.count("<script") == 1 and "&lt;idle&gt;" in page and "map.html" in page
    assert "as typed" in page and "(1 in all left out" in page
    text = re.sub('base64,[^"]*|<script>.*</script>', "", page, flags=re.DOTALL).lower()
    assert "nan" not in text.replace("nuisan", "") and page.count("<img") == 2
    assert (output / "figures" / "unique_r_2.png").stat().st_size > 1000
    assert again.manifest["folds"] == "3 folds of whole runs (3 runs)"
    assert headline(again) == "Yes: one and two." and again.verdict() == table.verdict()
    for judged in verdicts(again):
        assert judged.level == "real" and judged.n_people == 2
        assert "adds to word rate, word length and log frequency in 2 of 2 people" in judged.text


@pytest.mark.filterwarnings("ignore:.*constant")
def test_one_run_and_one_person_without_space_or_maps(scans, tmp_path):
    """Regions of a release that keeps no space: contiguous folds, each a region, bars for a map."""
    _, dataset, embeddings = scans
    whole = dataset.time_courses("1")
    words = ba.Stimulus(WORDS, onsets=np.arange(len(WORDS)) * 0.5 + 10)
    courses = TimeCourses(
        "S", whole.values[:110, :5], 2.0 * np.arange(110), np.zeros(110, int), words,
        feature_names=tuple("abcde"),
    )  # fmt: skip
    single = ba.Dataset("mine", ("S",), words, None, time_courses={"S": courses}.__getitem__)
    few = VoxelEncoding(n_folds=2, n_inner=2, n_shifts=5, alphas=(10.0,), nuisances=())
    table = run_encoding(single, embeddings[:1], tmp_path / "out", plan=few, progress=False)
    assert "one run" in table.manifest["folds"] and list(table.rows["region"]) == [*"abcde"]
    assert table.line(region="c")["unique_r"] == table.maps[1, "S"].values["unique_r"][2]
    assert table.rows["ceiling"].isna().all() and (table.rows["r_nuisances"] == 0).all()
    page = (tmp_path / "out" / "report.html").read_text()
    assert "no space is known: there are no maps" in page and "Not tested: fewer than 20" in page
    assert "Does a model predict voxels?" in page and "nothing with" not in page
    assert "One bar for each column" in page and "line of sight" not in page
    assert not (tmp_path / "out" / "maps").exists()
    assert "Whether one predicts anything is not tested" in page
    assert "Does a model predict voxels?" in page and "nuisances reach" not in table.verdict()


@pytest.mark.parametrize("kind", ["surface", "cifti"])
def test_recordings_on_surfaces_have_maps_there(tmp_path, kind, capsys):
    """From the command: an image a quantity, on the vertices or grayordinates of the recording."""
    rng = np.random.default_rng(0)
    words = WORDS[:120]
    vectors = rng.standard_normal((120, 3))
    simulate_nifti(tmp_path, words=words, vectors=vectors, kind=kind, n_voxels=24, n_runs=3)
    lines = [f"{word} {rng.random():.3f} {rng.random():.3f}\n" for word in cleaned(words)]
    (tmp_path / "vectors.txt").write_text("".join(lines))
    sides = "left=sub-{subject}/*hemi-L_bold.func.gii,right=sub-{subject}/*hemi-R_bold.func.gii"
    given = sides if kind == "surface" else "image=sub-{subject}/run-*_bold.dtseries.nii"
    asked = [
        "encode", "--dataset=nifti", f"--data_dir={tmp_path}", f"--reader_options={given},tr=2.0",
        f"--models=static:{tmp_path / 'vectors.txt'}", "--n_folds=3", "--n_inner=2", "--alphas=10",
        "--n_shifts=1", "--nuisances=rate", f"--output_dir={tmp_path / 'out'}", "--progress=false",
    ]  # fmt: skip
    assert main(asked) == 0
    assert "report.html" in capsys.readouterr().out
    row = EncodingTable.load(tmp_path / "out").rows.iloc[0]
    maps = tmp_path / "out" / "maps"
    if kind == "cifti":
        image = nib.load(maps / "model-1_1_unique_r.dscalar.nii")
        source = nib.load(tmp_path / "sub-1" / "run-1_bold.dtseries.nii")
        assert image.header.get_axis(1) == source.header.get_axis(1)
        values = image.get_fdata()[0]
    else:
        images = [nib.load(maps / f"model-1_1_unique_r_hemi-{side}.func.gii") for side in "LR"]
        for side, image in zip("LR", images, strict=True):
            source = nib.load(tmp_path / "sub-1" / f"run-1_hemi-{side}_bold.func.gii")
            assert image.darrays[0].data.shape == source.darrays[0].data.shape
        values = np.concatenate([image.darrays[0].data for image in images])
    known = values[np.isfinite(values)]
    assert len(known) == row["n_voxels"] and known.mean() == pytest.approx(
        row["unique_r"], abs=1e-5
    )


def test_bad_input_is_told_in_a_line(scans, tmp_path):
    folder, dataset, embeddings = scans
    given = dict(plan=FEW, progress=False)
    words = ba.Stimulus.from_words(["sun", "moon"])
    with pytest.raises(
        ValueError, match=r"has responses to words and no time courses.*alice, bids"
    ):
        run_encoding(ba.Dataset("table", ("S",), words, None), embeddings, **given)
    with pytest.raises(ValueError, match="no model is given"):
        run_encoding(dataset, [], **given)
    with pytest.raises(ValueError, match="unknown nuisance 'pitch'"):
        run_encoding(dataset, embeddings, plan=VoxelEncoding(nuisances=("pitch",)), progress=False)
    with pytest.raises(ValueError, match="no atlas is given"):
        run_encoding(dataset, embeddings, labels=folder / "names.tsv", **given)
    other = tmp_path / "atlas.nii.gz"
    nib.Nifti1Image(np.ones((4, 4, 4), np.int16), AFFINE).to_filename(other)
    first_person = ba.open_dataset(
        "nifti", folder, image="sub-{subject}_run-*_bold.nii.gz", subjects=["1"]
    )
    with pytest.raises(ValueError, match=r"another grid \(shape \(4, 4, 4\)\).*resample the atlas"):
        run_encoding(first_person, embeddings, atlas=other, **given)
    moved = tmp_path / "moved.nii.gz"
    nib.Nifti1Image(np.ones(SHAPE, np.int16), AFFINE + np.eye(4)).to_filename(moved)
    with pytest.raises(ValueError, match="another grid"):
        run_encoding(first_person, embeddings, atlas=moved, **given)
    with pytest.raises(ValueError, match=r"needs \d.* GiB but may use 0.00.*fewer voxels"):
        run_encoding(first_person, embeddings, max_memory=1000, **given)
    with pytest.raises(ValueError, match="one has no layer 7: it has 3"):
        run_encoding(first_person, embeddings, plan=VoxelEncoding(layers=(7,)), progress=False)
    with pytest.raises(ValueError, match=r"leave a fold of \d: use fewer folds"):
        plan = VoxelEncoding(n_folds=20, folds="volumes", purge=0.0)
        run_encoding(first_person, embeddings, plan=plan, progress=False)


def test_runs_too_short_for_the_delays_are_told(scans):
    _, dataset, _ = scans
    courses = dataset.time_courses("1")
    with pytest.raises(ValueError, match="run 1 has 38 volumes, too few for a delay of 60 volumes"):
        _check_delays(courses, VoxelEncoding(delays=(1, 60)))
    _check_delays(courses, VoxelEncoding(design="lanczos"))


@pytest.mark.filterwarnings("ignore")
def test_noise_is_found_as_often_as_promised(tmp_path):
    """Twelve recordings of noise: the largest of all voxels is rarely above 95 % of the shifted ones."""
    _, embeddings = models(seed=3)
    words = ba.Stimulus(WORDS, onsets=np.arange(len(WORDS)) * 0.6 + 10)
    people = {}
    for seed in range(12):
        noise = np.random.default_rng(seed).standard_normal((120, 20)).cumsum(axis=0)
        noise = noise[4:] - noise[:-4]  # smooth over some volumes
        times, run = 2.0 * np.arange(len(noise)), np.zeros(len(noise), int)
        people[f"S{seed}"] = TimeCourses(f"S{seed}", noise.astype("f4"), times, run, words)
    dataset = ba.Dataset("noise", tuple(people), words, None, time_courses=people.__getitem__)
    plan = VoxelEncoding(
        n_folds=2, n_inner=2, purge=8.0, n_shifts=39, alphas=(1.0, 100.0), nuisances=("rate",)
    )
    table = run_encoding(dataset, embeddings[:1], plan=plan, progress=False)
    lowest = [table.maps[1, name].values["p_max"].min() for name in people]
    assert (np.array(lowest) < 0.05).sum() <= 3  # 4 or more of 12 have a probability of .002
    assert 0.25 < np.mean(lowest) < 0.8


@pytest.mark.filterwarnings("ignore:.*constant")
def test_the_command_says_what_it_found_and_what_is_wrong(scans, tmp_path, capsys, monkeypatch):
    folder, _, _ = scans
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    lines = [f"{word} {' '.join(map(str, rng.random(4).round(3)))}\n" for word in cleaned(WORDS)]
    (tmp_path / "vectors.txt").write_text("".join(lines))
    asked = [
        "encode", "--dataset=nifti", f"--data_dir={folder}", "--models=static:vectors.txt",
        "--reader_options=image=sub-1_run-*_bold.nii.gz", "--n_folds=3", "--n_inner=2", "--alphas=10",
        "--n_shifts=20", "--nuisances=rate", "--output_dir=out", "--progress=false",
    ]  # fmt: skip
    assert main(asked) == 0
    said = capsys.readouterr().out
    assert "word rate" in said and "report: out/report.html" in said
    assert EncodingTable.load(tmp_path / "out").manifest["command"].startswith("brainalign encode")
    assert main([*asked, f"--atlas={folder / 'no.nii.gz'}"]) == 1
    assert "no.nii.gz" in capsys.readouterr().err
    assert main([*asked, "--folds=blocks"]) == 2
    assert "--folds='blocks'; known: auto, runs, volumes" in capsys.readouterr().err
