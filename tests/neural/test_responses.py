import json

import numpy as np
import pytest

from brainalign_jax.neural import responses as module
from brainalign_jax.neural.responses import (
    WordResponses,
    check_voxels,
    intersubject_correlation,
)
from brainalign_jax.stimulus import Stimulus


def example(**changes):
    rng = np.random.default_rng(0)
    fields = {
        "subject": "s1",
        "values": rng.standard_normal((4, 3)).astype(np.float32),
        "stimulus": Stimulus(
            ("The", "café", "was", "closed."),
            onsets=np.array([0.0, 0.5, 1.0, 1.5]),
            durations=np.full(4, 0.5),
            sentence=np.zeros(4, np.int32),
            run=np.ones(4, np.int32),
        ),
        "valid": np.array([True, True, True, False]),
        "meta": {"dataset": "toy", "feature_names": ["a", "b", "c"], "tr": 2.0},
    }
    fields["values"][3] = 0
    return WordResponses(**{**fields, **changes})


def test_defaults_types_and_read_only():
    rng = np.random.default_rng(0)
    source = rng.standard_normal((4, 3))
    responses = WordResponses("s1", source, example().stimulus)
    assert responses.values.dtype == np.float32 and responses.valid.all() and responses.meta == {}
    with pytest.raises(ValueError, match="read-only"):
        responses.values[0, 0] = 1
    source[0, 0] = 5  # the caller's array stays writable


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"values": np.zeros((3, 2))}, "3 response rows for 4 words"),
        ({"values": np.zeros(4)}, r"shape \(4,\)"),
        ({"values": np.zeros((4, 0))}, "at least one voxel"),
        ({"values": np.array([["a"]] * 4)}, "numeric"),
        ({"values": np.full((4, 2), np.nan)}, "s1.*2 of 2 voxels.*NaN or infinite.*column 0"),
        ({"values": np.full((4, 2), 1e300)}, "infinite"),
        ({"valid": np.ones(3, bool)}, r"valid has shape \(3,\)"),
        ({"valid": np.ones(4)}, "dtype float64"),
        ({"values": np.ones((4, 2))}, r"row 3 \('closed.'\) is marked as not covered"),
        ({"meta": {"x": np.zeros(2)}}, "JSON"),
        ({"meta": {"x": float("nan")}}, "JSON"),
    ],
)
def test_bad_fields(changes, message):
    with pytest.raises(ValueError, match=message):
        example(**changes)


def test_round_trip_keeps_every_field(tmp_path):
    before = example()
    path = before.save(tmp_path / "s1.npz")
    after = WordResponses.load(path)
    np.testing.assert_array_equal(after.values, before.values)
    np.testing.assert_array_equal(after.valid, before.valid)
    assert after.values.dtype == np.float32 and after.meta == before.meta
    assert after.subject == "s1" and after.stimulus.words == before.stimulus.words
    for name in ("onsets", "durations", "sentence", "run"):
        np.testing.assert_array_equal(getattr(after.stimulus, name), getattr(before.stimulus, name))
    assert after.fingerprint() == before.fingerprint()
    isolated = WordResponses("s2", np.ones((2, 1)), Stimulus(("a", "b")))
    again = WordResponses.load(isolated.save(tmp_path / "s2.npz"))
    assert again.stimulus.onsets is None and again.stimulus.run is None
    assert sorted(p.name for p in tmp_path.iterdir()) == ["s1.npz", "s2.npz"]


def test_fingerprint_follows_every_field():
    base = example()
    values = np.array(base.values)
    values[0, 0] += 1e-3
    others = [
        example(subject="s2"),
        example(values=values),
        example(valid=None),
        example(meta={}),
        example(stimulus=Stimulus(("The", "cafe", "was", "closed."))),
    ]
    prints = {item.fingerprint() for item in [base, *others]}
    assert len(prints) == 6 and all(len(text) == 64 for text in prints)
    assert example().fingerprint() == base.fingerprint()


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = example().save(tmp_path / "s1.npz")
    old = path.read_bytes()

    def fail(file, **arrays):
        file.write(b"half a file")
        raise OSError("disk full")

    monkeypatch.setattr(module.np, "savez", fail)
    with pytest.raises(OSError, match="disk full"):
        example(subject="s9").save(path)
    assert path.read_bytes() == old and [p.name for p in tmp_path.iterdir()] == ["s1.npz"]


def test_save_needs_the_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        example().save(tmp_path / "nowhere" / "s1.npz")


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.99])
def test_truncated_file(tmp_path, share):
    path = example().save(tmp_path / "s1.npz")
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(ValueError, match=r"s1\.npz is not a readable.*write it again"):
        WordResponses.load(path)


def test_flipped_bytes_are_noticed(tmp_path):
    path = example().save(tmp_path / "s1.npz")
    data = bytearray(path.read_bytes())
    at = data.find(example().values.tobytes())
    data[at : at + 4] = b"\0\0\0\0"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"s1\.npz is not a readable"):
        WordResponses.load(path)


def test_pickles_are_never_read(tmp_path):
    path = tmp_path / "evil.npz"

    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "owned"), "w"))

    header = np.frombuffer(
        json.dumps({"format": "brainalign_jax.WordResponses"}).encode(), np.uint8
    )
    np.savez(path, header=header, values=np.array([Evil()], dtype=object))
    with pytest.raises(ValueError, match=r"evil\.npz.*pickled.*write it again"):
        WordResponses.load(path)
    np.save(tmp_path / "evil.npy", np.array([Evil()], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match=r"evil\.npy"):
        WordResponses.load(tmp_path / "evil.npy")
    assert not (tmp_path / "owned").exists()


def test_other_files_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.npz"):
        WordResponses.load(tmp_path / "none.npz")
    np.savez(tmp_path / "other.npz", values=np.zeros((2, 2)))
    with pytest.raises(ValueError, match=r"other\.npz"):
        WordResponses.load(tmp_path / "other.npz")
    np.save(tmp_path / "plain.npy", np.zeros(3))
    with pytest.raises(ValueError, match=r"plain\.npy"):
        WordResponses.load(tmp_path / "plain.npy")
    (tmp_path / "text.npz").write_text("hello")
    with pytest.raises(ValueError, match=r"text\.npz"):
        WordResponses.load(tmp_path / "text.npz")


def test_check_voxels_reports_what_is_wrong():
    rng = np.random.default_rng(1)
    values = rng.standard_normal((20, 6)) + 100
    same, kept = check_voxels(values, subject="s7")
    assert same is values and kept.all()
    values[4, 1] = np.nan
    values[5, 4] = np.inf
    values[:, 3] = 8.25
    message = r"subject s7.*2 of 6 voxels.*column 1 and 1 of 6 voxels.*constant.*column 3.*drop"
    with pytest.raises(ValueError, match=message):
        check_voxels(values, subject="s7")
    with pytest.warns(UserWarning, match="2 of 6.*1 of 6.*dropped"):
        left, kept = check_voxels(values, subject="s7", bad_voxels="drop")
    assert kept.tolist() == [True, False, True, False, False, True] and left.shape == (20, 3)
    with pytest.raises(ValueError, match="no voxel is left"):
        check_voxels(values[:, [1, 3]], subject="s7", bad_voxels="drop")
    with pytest.raises(ValueError, match="use 'raise' or 'drop'"):
        check_voxels(values, subject="s7", bad_voxels="keep")


def test_constant_means_to_rounding_and_within_a_run():
    rng = np.random.default_rng(2)
    values = rng.standard_normal((20, 3))
    values[:, 0] = 1000 + 1e-13 * values[:, 0]
    values[:, 1] *= 1e-20  # variance zero to rounding beside the third column
    with pytest.raises(ValueError, match="2 of 3 voxels.*constant, the first is column 0"):
        check_voxels(values, subject="s")
    check_voxels(values[:, 1:2], subject="s")  # alone, the scale says nothing
    half = rng.standard_normal((20, 2))
    half[:10, 1] = 3.0
    check_voxels(half, subject="s")
    with pytest.raises(ValueError, match="constant within a run"):
        check_voxels(half, subject="s", run=np.repeat([1, 2], 10))
    check_voxels(half, subject="s", run=np.repeat([1, 2], 10), constant=False)


def test_intersubject_correlation_is_the_loop():
    rng = np.random.default_rng(3)
    shared = rng.standard_normal((50, 4))
    data = shared + rng.standard_normal((5, 50, 4)) * [[[1]], [[2]], [[3]], [[1]], [[50]]] + 100
    got = intersubject_correlation(data)
    assert got.shape == (5, 4)
    for subject in range(5):
        for voxel in range(4):
            others = [
                (data[k, :, voxel] - data[k, :, voxel].mean()) / data[k, :, voxel].std()
                for k in range(5)
                if k != subject
            ]
            want = np.corrcoef(data[subject, :, voxel], np.mean(others, axis=0))[0, 1]
            assert abs(got[subject, voxel] - want) < 1e-12


def test_intersubject_correlation_errors():
    with pytest.raises(ValueError, match="at least two"):
        intersubject_correlation(np.zeros((1, 5, 2)))
    with pytest.raises(ValueError, match="shape"):
        intersubject_correlation(np.zeros((5, 2)))
    with pytest.raises(ValueError, match="number 0.*constant"):
        intersubject_correlation(np.zeros((3, 5, 2)))
