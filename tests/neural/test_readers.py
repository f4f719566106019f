import json
import warnings

import numpy as np
import pytest
import scipy.io

from brainalign_jax.neural import intersubject_correlation
from brainalign_jax.neural.readers import (
    _READERS,
    Dataset,
    alice,
    list_datasets,
    open_dataset,
    register,
)
from brainalign_jax.neural.readers.harry_potter import read_recording
from brainalign_jax.neural.simulate import simulate_harry_potter, story_words
from brainalign_jax.stimulus import Stimulus, split_sentences

# ---------------------------------------------------------------- the registry


def test_registry_knows_the_readers_and_lists_them():
    assert {"alice", "harry_potter", "pereira180"} <= set(list_datasets())
    with pytest.raises(
        ValueError, match="unknown data set 'alica'; known: alice, harry_potter, per"
    ):
        open_dataset("alica", ".")


def test_register_one_more_and_refuse_a_taken_name(monkeypatch):
    monkeypatch.setattr("brainalign_jax.neural.readers._READERS", dict(_READERS))
    list_datasets()

    @register("toy")
    def read_toy(data_dir, *, subjects=None, scale=1):
        return Dataset("toy", ("a",), Stimulus(("x",)), lambda name: (name, scale), {})

    dataset = open_dataset("toy", ".", scale=3)
    assert dataset.load("a") == ("a", 3) and dataset.vectors == {}
    with pytest.raises(ValueError, match="unknown subject 'b' of toy; known: a"):
        dataset.load("b")
    with pytest.raises(ValueError, match="unknown option 'scala'.*its options are scale"):
        open_dataset("toy", ".", scala=3)
    with pytest.raises(ValueError, match="'toy' is taken"):
        register("toy")(lambda data_dir: None)


# ---------------------------------------------------------------- pereira180


def write_pereira(folder, **changes):
    rng = np.random.default_rng(0)
    n = 8
    values = rng.standard_normal((2, n, n)) * np.geomspace(100, 10, n)
    values[:, :, -1] = 1e-27 * rng.standard_normal((2, n))
    arrays = {
        "fmri_pca": values,
        "words": np.array([f"word{i}" for i in range(n)]),
        "subjects": np.array(["M01", "M02"]),
        "glove42B_300": rng.standard_normal((n, 300)),
        "concreteness": rng.uniform(1, 5, n),
    }
    folder.mkdir(exist_ok=True)
    np.savez(folder / "pereira180.npz", **{**arrays, **changes})
    return arrays


def test_pereira_drops_the_zero_component_and_offers_vectors(tmp_path):
    arrays = write_pereira(tmp_path / "pereira180")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dataset = open_dataset("pereira180", tmp_path)  # the parent
        responses = dataset.load("M02")
    assert dataset.subjects == ("M01", "M02") and dataset.stimulus.onsets is None
    np.testing.assert_array_equal(responses.values, arrays["fmri_pca"][1, :, :7].astype(np.float32))
    assert responses.meta["zero_components"] == [7] and responses.valid.all()
    assert dataset.vectors["glove42B_300"].shape == (8, 300)
    np.testing.assert_allclose(dataset.vectors["concreteness"][:, 0], arrays["concreteness"])
    assert open_dataset("pereira180", tmp_path / "pereira180", subjects="M02").subjects == ("M02",)


def test_pereira_errors(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"pereira180\.npz.*osf\.io"):
        open_dataset("pereira180", tmp_path)
    arrays = write_pereira(tmp_path)
    with pytest.raises(ValueError, match="unknown subject 'M99' of pereira180; known: M01, M02"):
        open_dataset("pereira180", tmp_path, subjects=["M99"])
    with pytest.raises(ValueError, match="each subject of pereira180 once"):
        open_dataset("pereira180", tmp_path, subjects=["M01", "M01"])
    with pytest.raises(ValueError, match="once"):
        open_dataset("pereira180", tmp_path, subjects=[])
    broken = arrays["fmri_pca"].copy()
    broken[0, 2, 4] = np.nan
    write_pereira(tmp_path, fmri_pca=broken)
    with pytest.raises(ValueError, match="subject M01.*1 of 7 voxels.*column 4.*bad_voxels='drop'"):
        open_dataset("pereira180", tmp_path).load("M01")
    with pytest.warns(UserWarning, match="1 of 7 voxels"):
        responses = open_dataset("pereira180", tmp_path, bad_voxels="drop").load("M01")
    assert responses.values.shape == (8, 6) and responses.meta["dropped_voxels"] == 1
    write_pereira(tmp_path, words=arrays["words"][:5])
    with pytest.raises(ValueError, match=r"fmri_pca has shape \(2, 8, 8\) for 2 subjects and 5"):
        open_dataset("pereira180", tmp_path)
    write_pereira(tmp_path, glove42B_300=np.zeros((3, 300)))
    with pytest.raises(ValueError, match="glove42B_300"):
        open_dataset("pereira180", tmp_path)
    write_pereira(tmp_path, words=np.array([object()], dtype=object))
    with pytest.raises(ValueError, match=r"pereira180\.npz is not the pereira180 file"):
        open_dataset("pereira180", tmp_path)
    write_pereira(tmp_path)
    path = tmp_path / "pereira180.npz"
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ValueError, match=r"pereira180\.npz.*truncated.*get it again"):
        open_dataset("pereira180", tmp_path)


def test_pereira_real(shared_data):
    dataset = open_dataset("pereira180", shared_data)
    assert len(dataset.subjects) == 15 and len(dataset.stimulus) == 180
    assert len(dataset.stimulus.types()[0]) == 180
    responses = dataset.load("M02")
    assert responses.values.shape == (180, 179) and responses.meta["zero_components"] == [179]
    # Concrete words differ from abstract ones in the vectors that ship with the words.
    glove, concreteness = dataset.vectors["glove42B_300"], dataset.vectors["concreteness"][:, 0]
    assert glove.shape == (180, 300) and 1 <= concreteness.min() < concreteness.max() <= 5
    close = glove[dataset.stimulus.words.index("apartment")]
    assert np.corrcoef(close, glove[dataset.stimulus.words.index("bag")])[0, 1] < 0.9


# ---------------------------------------------------------------- alice

WORDS = ["Alice", "sp", "was", "not", 'a ""rabbit""', "", "she", "said ", "sp"]


def textgrid(entries, tier="word", size=None):
    lines = [
        'File type = "ooTextFile"',
        'Object class = "TextGrid"',
        "",
        f"xmin = {entries[0][0]}",
        f"xmax = {entries[-1][1]}",
        "tiers? <exists>",
        "size = 1",
        "item []:",
        "    item [1]:",
        '        class = "IntervalTier"',
        f'        name = "{tier}"',
        f"        xmin = {entries[0][0]}",
        f"        xmax = {entries[-1][1]}",
        f"        intervals: size = {len(entries) if size is None else size}",
    ]
    for number, (start, end, text) in enumerate(entries, 1):
        lines += [
            f"        intervals [{number}]:",
            f"            xmin = {start}",
            f"            xmax = {end}",
            f'            text = "{text}"',
        ]
    return "\n".join(lines) + "\n"


def entries():
    return [(20.0 + 0.5 * i, 20.5 + 0.5 * i, text) for i, text in enumerate(WORDS * 4)]


def write_alice(folder, n_volumes=40, subjects=("s18", "s22", "s33")):
    rng = np.random.default_rng(0)
    for radius in ("10mm", "6mm"):
        path = folder / "alice_data_shared" / radius
        path.mkdir(parents=True)
        for subject in subjects:
            table = rng.standard_normal((n_volumes, 6)) + 100
            np.savetxt(path / f"{subject}-timecourses.txt", table * (subject != "s33"))
    (folder / "alice_stim_shared").mkdir()
    (folder / alice.TEXTGRID).write_text(textgrid(entries()))
    return folder


def test_alice_reads_words_and_leaves_s33_out(tmp_path):
    write_alice(tmp_path / "alice")
    with pytest.warns(UserWarning, match="s33 is left out: the recording is all zeros"):
        dataset = open_dataset("alice", tmp_path)
    assert dataset.subjects == ("s18", "s22")
    assert dataset.stimulus.words[:6] == ("Alice", "was", "not", 'a "rabbit"', "she", "said")
    np.testing.assert_allclose(dataset.stimulus.onsets[:6], [20, 21, 21.5, 22, 23, 23.5])
    np.testing.assert_allclose(dataset.stimulus.durations, 0.5)
    responses = dataset.load("s22")
    assert responses.values.shape == (24, 6) and responses.valid.all()
    assert responses.meta["feature_names"] == list(alice.REGIONS)
    assert "pseudo-sentences" in dataset.meta["notes"]
    with pytest.raises(ValueError, match="subject 's33' of alice cannot be used: .*all zeros"):
        open_dataset("alice", tmp_path, subjects=["s33"])
    with pytest.raises(ValueError, match="unknown subject 's33'"):
        dataset.load("s33")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        open_dataset("alice", tmp_path / "alice", subjects=["s18"], radius="6mm")


def test_alice_responses_are_kernel_times_cleaned_columns(tmp_path):
    write_alice(tmp_path)
    options = {"detrend": False, "standardize": False, "kind": "delay"}
    dataset = open_dataset("alice", tmp_path, subjects=["s18"], **options)
    raw = alice.read_timecourses(tmp_path, "s18", "10mm")
    times = 20 + 2 * np.arange(len(raw))
    for region in range(6):
        want = np.interp(dataset.stimulus.onsets + 6, times, raw[:, region])
        np.testing.assert_allclose(dataset.load("s18").values[:, region], want, rtol=1e-6)


def test_alice_marks_words_that_the_recording_does_not_cover(tmp_path):
    write_alice(tmp_path, n_volumes=8)  # the last volume is at 34 s
    with pytest.warns(UserWarning, match=r"does not cover the response to 12 of 24 words"):
        responses = open_dataset("alice", tmp_path, subjects="s18").load("s18")
    late = responses.stimulus.onsets + 6.25 > 35
    assert late.sum() == 12
    np.testing.assert_array_equal(responses.valid, ~late)
    assert not responses.values[late].any()


def test_alice_errors(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"alice_data_shared.*deepblue"):
        open_dataset("alice", tmp_path)
    write_alice(tmp_path)
    with pytest.raises(ValueError, match="unknown subject 's99' of alice; known: s18, s22, s33"):
        open_dataset("alice", tmp_path, subjects=["s99"])
    with pytest.raises(ValueError, match="radius is '8mm'; the release has '10mm' and '6mm'"):
        open_dataset("alice", tmp_path, radius="8mm")
    path = tmp_path / "alice_data_shared" / "10mm" / "s18-timecourses.txt"
    text = path.read_text()
    path.write_text(text[: len(text) // 2 - 60])
    with pytest.raises(ValueError, match=r"s18-timecourses\.txt is not a complete table"):
        open_dataset("alice", tmp_path, subjects=["s18"])
    path.write_text("\n".join(text.splitlines()[:20]))
    with pytest.raises(ValueError, match=r"s18-timecourses\.txt has 20 volumes where s22 has 40"):
        open_dataset("alice", tmp_path, subjects=["s22", "s18"]).load("s18")
    path.write_text("1 2 3\n4 5 6\n")
    with pytest.raises(ValueError, match=r"shape \(2, 3\)"):
        alice.read_timecourses(tmp_path, "s18")
    table = np.loadtxt(text.splitlines())
    table[:, 2] = 5
    np.savetxt(path, table)
    with pytest.raises(ValueError, match="subject s18, alice: 1 of 6 voxels.*constant.*column 2"):
        open_dataset("alice", tmp_path, subjects=["s18"]).load("s18")
    dataset = open_dataset("alice", tmp_path, subjects=["s18"], bad_voxels="drop")
    with pytest.warns(UserWarning, match="1 of 6"):
        responses = dataset.load("s18")
    assert responses.meta["feature_names"] == ["LATL", "RATL", "LIPL", "LPreM", "LIFG"]
    (tmp_path / alice.TEXTGRID).unlink()
    with pytest.raises(FileNotFoundError, match=r"exp120_pad_1\.TextGrid.*deepblue"):
        open_dataset("alice", tmp_path, subjects=["s22"])
    path.parent.rename(tmp_path / "elsewhere")
    with pytest.raises(FileNotFoundError, match="10mm"):
        open_dataset("alice", tmp_path)


def test_textgrid_variants(tmp_path):
    path = tmp_path / "a.TextGrid"
    expected = [(s, e, t.replace('""', '"').strip()) for s, e, t in entries()]
    text = textgrid(entries())
    for content in (
        text.encode(),
        text.encode("utf-16"),
        b"\xef\xbb\xbf" + text.encode(),
        text.replace("\n", "\r\n").encode(),
        text.replace("]:", "]").encode(),
    ):
        path.write_bytes(content)
        assert alice.read_textgrid(path) == expected
    second = (
        textgrid(entries(), tier="phone").split("item []:\n")[1].replace("item [1]", "item [2]")
    )
    path.write_text(text + second)
    assert alice.read_textgrid(path, "phone") == expected == alice.read_textgrid(path, "word")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda text: text[: len(text) // 2],
            r"declares 36 intervals but 1\d can be read.*truncated",
        ),
        (lambda text: text[:-3], "declares 36 intervals but 35"),
        (lambda text: text[:250], "truncated"),
        (lambda text: "", "long text format"),
        (lambda text: "hello", "long text format"),
        (
            lambda text: text.replace('"word"', '"phone"'),
            r"no tier 'word'; its tiers are \['phone'\]",
        ),
        (lambda text: text.replace("xmax = 21.0", "xmax = 20.5"), "interval 2 .*from 20.5 to 20.5"),
        (lambda text: text.replace("xmax = 21.0", "xmax = 21.7"), "interval 3 .*without overlap"),
        (lambda text: text.replace("xmax = 21.0", "xmax = nan"), "interval 2"),
        (lambda text: text.replace("xmax = 21.0", "xmax = soon"), "interval 2"),
    ],
)
def test_textgrid_errors(tmp_path, change, message):
    path = tmp_path / "broken.TextGrid"
    path.write_text(change(textgrid(entries())))
    with pytest.raises(ValueError, match=message) as info:
        alice.read_textgrid(path)
    assert "broken.TextGrid" in str(info.value)


def test_textgrid_missing_or_binary(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.TextGrid"):
        alice.read_textgrid(tmp_path / "none.TextGrid")
    (tmp_path / "b.TextGrid").write_bytes(b"\xff\x00\xfe\xfa")
    with pytest.raises(ValueError, match=r"b\.TextGrid is not UTF-8"):
        alice.read_textgrid(tmp_path / "b.TextGrid")


def test_sentences_by_pause():
    onsets = np.arange(10.0)
    offsets = onsets + 0.9
    offsets[3], offsets[6] = 3.3, 6.6  # pauses of 0.7 and 0.4 s
    assert alice.sentences_by_pause(onsets, offsets).tolist() == [0] * 4 + [1] * 6
    # Six words with a cap of five are cut at their longest pause, the one after word 6.
    capped = alice.sentences_by_pause(onsets, offsets, max_words=5)
    assert capped.tolist() == [0] * 4 + [1] * 3 + [2] * 3
    even = alice.sentences_by_pause(np.arange(8.0), np.arange(8.0) + 1, max_words=4)
    assert even.tolist() == [0] * 4 + [1] * 4
    single = alice.sentences_by_pause(onsets, offsets, max_words=1)
    assert single.tolist() == list(range(10))
    with pytest.raises(ValueError, match="must be positive"):
        alice.sentences_by_pause(onsets, offsets, pause=0.0)


def test_alice_real(shared_data):
    with pytest.warns(UserWarning) as caught:
        dataset = open_dataset("alice", shared_data)
    assert ["s33 is left out" in str(w.message) for w in caught] == [True, False]
    assert "response to 19 of 2127 words" in str(caught[1].message)
    assert len(dataset.subjects) == 27 and "s33" not in dataset.subjects
    stimulus = dataset.stimulus
    assert len(stimulus) == 2127
    assert stimulus.words[:6] == ("Alice", "was", "beginning", "to", "get", "very")
    assert stimulus.words[-2:] == ("eats", "cake")
    lengths = np.bincount(stimulus.sentence)
    assert lengths.max() <= 30 and lengths.min() >= 1 and 70 < len(lengths) < 250
    responses = dataset.load("s18")
    assert responses.values.shape == (2127, 6) and responses.meta["timing_error"] <= 1.0
    np.testing.assert_array_equal(
        responses.valid, stimulus.onsets + 6 + stimulus.durations / 2 <= 20 + 2 * 361 + 1
    )
    json.dumps(dataset.meta)


def test_alice_intersubject_correlation_is_the_published_release(shared_data):
    # On the volumes as released: z-scored by subject, neither detrended nor filtered.
    names = [f"s{n}" for n in range(18, 54)]
    folder = shared_data / "alice" / "alice_data_shared" / "10mm"
    names = [n for n in names if (folder / f"{n}-timecourses.txt").is_file() and n != "s33"]
    data = np.stack([alice.read_timecourses(shared_data, name, "10mm") for name in names])
    assert data.shape == (27, 362, 6)
    got = dict(zip(alice.REGIONS, intersubject_correlation(data).mean(axis=0), strict=True))
    expected = {
        "LPTL": 0.385,
        "LATL": 0.281,
        "LIPL": 0.268,
        "LPreM": 0.186,
        "RATL": 0.137,
        "LIFG": 0.120,
    }
    assert {name: round(float(value), 3) for name, value in got.items()} == expected


# ---------------------------------------------------------------- harry_potter


@pytest.fixture
def potter(tmp_path):
    words = list(story_words()[:60])
    words[20] = "+"
    vectors = np.random.default_rng(0).standard_normal((60, 3))
    simulate_harry_potter(
        tmp_path, words=words, vectors=vectors, n_subjects=2, n_voxels=7, n_runs=2
    )
    return tmp_path


def rewrite(path, **changes):
    content = {k: v for k, v in scipy.io.loadmat(path).items() if not k.startswith("__")}
    content.update(changes)
    scipy.io.savemat(path, {k: v for k, v in content.items() if v is not None})


def test_potter_fixations_sentences_and_runs(potter):
    dropped = open_dataset("harry_potter", potter)
    kept = open_dataset("harry_potter", potter, fixation="keep")
    assert len(kept.stimulus) == 60 and kept.stimulus.words[20] == "+"
    assert len(dropped.stimulus) == 59 and "+" not in dropped.stimulus.words
    rows = np.arange(60) != 20
    np.testing.assert_array_equal(kept.stimulus.onsets[rows], dropped.stimulus.onsets)
    np.testing.assert_array_equal(kept.load("1").values[rows], dropped.load("1").values)
    assert dropped.meta["notes"].startswith("1 fixation")
    stimulus = dropped.stimulus
    assert np.unique(stimulus.run).tolist() == [1, 2]
    np.testing.assert_array_equal(stimulus.sentence, split_sentences(stimulus.words, stimulus.run))
    with pytest.raises(ValueError, match="fixation is 'maybe'"):
        open_dataset("harry_potter", potter, fixation="maybe")


def test_potter_subject_names(potter):
    for asked in (2, "2", "subject_2", [2]):
        assert open_dataset("harry_potter", potter, subjects=asked).subjects == ("2",)
    with pytest.raises(ValueError, match="unknown subject '9' of harry_potter; known: 1, 2"):
        open_dataset("harry_potter", potter, subjects=[9])
    dataset = open_dataset("harry_potter", potter, subjects=[2])
    with pytest.raises(ValueError, match="unknown subject '1'"):
        dataset.load("1")


def test_potter_bad_voxels(potter):
    path = potter / "subject_1.mat"
    data = read_recording(path).bold.copy()
    data[3, 5] = np.nan
    data[:, 2] = 4.0
    rewrite(path, data=data)
    with pytest.raises(
        ValueError, match="subject 1.*1 of 7.*column 5 and 1 of 7.*column 2.*'drop'"
    ):
        open_dataset("harry_potter", potter).load("1")
    with pytest.warns(UserWarning, match="dropped"):
        responses = open_dataset("harry_potter", potter, bad_voxels="drop").load("1")
    assert responses.values.shape[1] == 5 and responses.meta["dropped_voxels"] == 2
    coordinates = read_recording(path).coordinates
    np.testing.assert_array_equal(responses.meta["coordinates"], coordinates[[0, 1, 3, 4, 6]])


def test_potter_typography_may_differ_but_words_may_not(potter):
    words = scipy.io.loadmat(potter / "subject_2.mat")["words"]
    cell = words[0][0][0]
    original = str(cell[0][0][0])
    for text, fine in ((f"{original}…", True), (f"@{original}@", True), ("Zebra", False)):
        changed = np.empty((1, 1), object)
        changed[0, 0] = text
        words[0][0][0] = changed
        rewrite(potter / "subject_2.mat", words=words)
        dataset = open_dataset("harry_potter", potter)
        assert dataset.stimulus.words[0] == original
        if fine:
            assert dataset.load("2").stimulus.words[0] == original
        else:
            with pytest.raises(ValueError, match=r"subject_2\.mat: word 0 is 'Zebra' where"):
                dataset.load("2")


def test_potter_other_length_or_onsets_between_subjects(potter):
    words = scipy.io.loadmat(potter / "subject_2.mat")["words"]
    rewrite(potter / "subject_2.mat", words=words[:, :50])
    with pytest.raises(ValueError, match=r"subject_2\.mat lists 50 words and .*subject_1\.mat 60"):
        open_dataset("harry_potter", potter).load("2")
    words[0][4][1] = np.array([[22.25]])
    rewrite(potter / "subject_2.mat", words=words)
    with pytest.raises(ValueError, match="word 4 .*begins at 22.25 s where"):
        open_dataset("harry_potter", potter).load("2")


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.7, 0.95])
def test_potter_truncated(potter, share, compressed):
    path = potter / "subject_1.mat"
    if not compressed:
        rewrite(path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(ValueError, match=r"subject_1\.mat .*truncated.*get it again"):
        read_recording(path)


def test_potter_garbage_and_missing(potter, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"subject_\*\.mat.*theo-73"):
        open_dataset("harry_potter", tmp_path / "empty")
    with pytest.raises(FileNotFoundError, match=r"subject_8\.mat"):
        read_recording(potter / "subject_8.mat")
    (potter / "subject_1.mat").write_bytes(b"<html>404</html>" * 100)
    with pytest.raises(ValueError, match=r"subject_1\.mat cannot be read as a MATLAB file"):
        read_recording(potter / "subject_1.mat")
    (potter / "subject_1.mat").write_bytes(
        b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + b"\x89HDF\r\n\x1a\n" * 50
    )
    with pytest.raises(ValueError, match=r"subject_1\.mat is a MATLAB 7\.3"):
        read_recording(potter / "subject_1.mat")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": None}, "no variable 'data'"),
        ({"words": None}, "no variable 'words'"),
        ({"time": None}, "no variable 'time'"),
        ({"time": np.zeros((5, 3))}, r"time has shape \(5, 3\)"),
        ({"time": np.full((5, 2), np.nan)}, "time holds NaN"),
        ({"data": np.zeros((5, 7))}, r"data has shape \(5, 7\) and dtype float64 for"),
        ({"words": np.zeros((1, 5176))}, r"words has shape \(1, 5176\) and dtype float64"),
        ({"words": {"text": "flat", "start": 1.0, "length": 0.5}}, "word 0 is nested in"),
    ],
)
def test_potter_other_layouts(potter, changes, message):
    path = potter / "subject_1.mat"
    rewrite(path, **changes)
    with pytest.raises(ValueError, match=message) as info:
        read_recording(path)
    assert "subject_1.mat" in str(info.value)


def test_potter_words_outside_the_runs(potter):
    path = potter / "subject_1.mat"
    words = scipy.io.loadmat(path)["words"]
    words[0][59][1] = np.array([[9000.0]])
    rewrite(path, words=words)
    with pytest.raises(ValueError, match="1 words begin outside every run, the first is word 58"):
        open_dataset("harry_potter", potter)


def test_potter_needs_one_clock(potter):
    path = potter / "subject_1.mat"
    time = scipy.io.loadmat(path)["time"]
    time[time[:, 1] == 2, 0] -= 70
    rewrite(path, time=time)
    with pytest.raises(ValueError, match=r"subject_1\.mat: the runs overlap.*one clock"):
        open_dataset("harry_potter", potter)


def test_potter_accepts_files_without_meta_and_length(potter):
    path = potter / "subject_1.mat"
    words = scipy.io.loadmat(path)["words"]
    short = np.empty((1, 60), [("text", object), ("start", object)])
    for i in range(60):
        short[0, i] = (words[0][i][0], words[0][i][1])
    rewrite(path, words=short, meta=None, data=read_recording(path).bold.astype(np.float32))
    dataset = open_dataset("harry_potter", potter, word_duration=0.4)
    np.testing.assert_allclose(dataset.stimulus.durations, 0.4)
    assert "coordinates" not in dataset.load("1").meta
