import json
import os
import tracemalloc

import nibabel as nib
import numpy as np
import pytest

from brainalign_jax.neural import fields as response_fields
from brainalign_jax.neural.responses import WordResponses, intersubject_correlation
from brainalign_jax.neural.space import VoxelSpace
from brainalign_jax.neural.voxels import check_voxels
from brainalign_jax.stimulus import Stimulus

SPACE = VoxelSpace.volume([[0, 0, 0], [1, 2, 0], [0, 1, 1]], (2, 3, 2), np.diag([2.0, 2, 2, 1]))


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
        ({"space": SPACE.select([0, 1])}, "the space describes 2 of 3 columns"),
    ],
)
def test_bad_fields(changes, message):
    with pytest.raises(ValueError, match=message):
        example(**changes)


def test_round_trip_keeps_every_field(tmp_path):
    before = example(space=SPACE)
    path = before.save(tmp_path / "s1.npz")
    after = WordResponses.load(path)
    np.testing.assert_array_equal(after.values, before.values)
    np.testing.assert_array_equal(after.valid, before.valid)
    assert after.values.dtype == np.float32 and after.meta == before.meta
    assert after.subject == "s1" and after.stimulus.words == before.stimulus.words
    for name in ("onsets", "durations", "sentence", "run"):
        np.testing.assert_array_equal(getattr(after.stimulus, name), getattr(before.stimulus, name))
    assert after.space.same_as(SPACE) and type(after.values) is np.memmap
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
        example(space=SPACE),
        example(space=SPACE.select([2, 1, 0])),
        example(values=base.values[:, [1, 0, 2]]),
    ]
    prints = {item.fingerprint() for item in [base, *others]}
    assert len(prints) == 9 and all(len(text) == 64 for text in prints)
    assert example().fingerprint() == base.fingerprint()


def test_fingerprint_does_not_depend_on_memory_order_or_blocks(tmp_path, monkeypatch):
    rng = np.random.default_rng(4)
    values = rng.standard_normal((4, 600)).astype(np.float32)
    values[2, 5] = 0.0
    stimulus = example().stimulus
    base = WordResponses("s", values, stimulus)
    negative = values.copy()
    negative[2, 5] = -0.0
    mapped = WordResponses.load(base.save(tmp_path / "s.npz"))
    others = [
        WordResponses("s", np.asfortranarray(values), stimulus),
        WordResponses("s", np.repeat(values, 2, axis=1)[:, ::2], stimulus),
        WordResponses("s", values.astype(np.float64), stimulus),
        WordResponses("s", negative, stimulus),
        mapped,
    ]
    assert {responses.fingerprint() for responses in others} == {base.fingerprint()}
    monkeypatch.setattr(response_fields, "_BLOCK_BYTES", 100)
    assert {responses.fingerprint() for responses in others} == {base.fingerprint()}


@pytest.mark.parametrize("order", ["C", "F"])
def test_large_values_are_never_copied_as_a_whole(tmp_path, monkeypatch, order):
    monkeypatch.setattr(response_fields, "_BLOCK_BYTES", 2**18)
    values = np.ones((500, 10_000), np.float32, order=order)
    values[7] = 0
    stimulus = Stimulus(("word",) * 500)
    valid = np.arange(500) != 7

    def peak(job):
        tracemalloc.start()
        result = job()
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return result, most / values.nbytes

    made, used = peak(lambda: WordResponses("s", values, stimulus, valid))
    assert np.shares_memory(made.values, values)
    path, saving = peak(lambda: made.save(tmp_path / "s.npz"))
    loaded, loading = peak(lambda: WordResponses.load(path))
    _, verifying = peak(lambda: WordResponses.load(path, verify=True))
    _, hashing = peak(loaded.fingerprint)
    assert max(used, saving, loading, hashing) < 0.1 and verifying < 0.2


def test_select_columns_reduces_everything_alike(tmp_path):
    base = example(space=SPACE)
    for responses in (base, WordResponses.load(base.save(tmp_path / "s.npz"))):
        for columns, expected in (
            (np.array([True, False, True]), [0, 2]),
            ([2, 0], [2, 0]),
            (np.array([-1], np.int8), [2]),
            (range(1, 3), [1, 2]),
        ):
            chosen = responses.select_columns(columns)
            np.testing.assert_array_equal(chosen.values, base.values[:, expected])
            assert chosen.meta == base.meta | {"feature_names": ["abc"[i] for i in expected]}
            assert chosen.space.same_as(SPACE.select(expected))
            assert chosen.subject == "s1" and chosen.stimulus is responses.stimulus
            np.testing.assert_array_equal(chosen.valid, base.valid)
            assert not chosen.values.flags.writeable
            rebuilt = example(values=chosen.values, meta=chosen.meta, space=chosen.space)
            assert chosen.fingerprint() == rebuilt.fingerprint()
        assert np.shares_memory(responses.select_columns([1, 2]).values, responses.values)
    assert example(meta={"tr": 2.0}).select_columns([1]).meta == {"tr": 2.0}


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ([3], "column 3 is outside the 3 columns"),
        ([0, -4], "column -4 is outside"),
        ([1, 1], "twice"),
        ([1, -2], "twice"),
        ([], "one or more"),
        ([0.5], "dtype float64"),
        ([[0]], r"shape \(1, 1\)"),
        (np.ones(2, bool), "2 entries, 2 of them True, for 3"),
        (np.zeros(3, bool), "at least one"),
    ],
)
def test_select_columns_errors(columns, message):
    with pytest.raises(ValueError, match=message):
        example().select_columns(columns)


def test_to_image_puts_scores_where_the_voxels_were():
    image = example(space=SPACE).to_image(np.array([1.0, 2.0, 3.0]), fill=-1)
    assert isinstance(image, nib.Nifti1Image) and image.shape == (2, 3, 2)
    expected = np.full((2, 3, 2), -1.0)
    expected[0, 0, 0], expected[1, 2, 0], expected[0, 1, 1] = 1, 2, 3
    np.testing.assert_array_equal(image.get_fdata(), expected)
    assert example(space=SPACE).to_image(np.zeros((5, 3))).shape == (2, 3, 2, 5)
    with pytest.raises(ValueError, match="give real numbers"):
        example(space=SPACE).to_image(np.zeros(4))
    with pytest.raises(ValueError, match="subject s1.*reader that keeps a space"):
        example().to_image(np.zeros(3))


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = example().save(tmp_path / "s1.npz")
    old = path.read_bytes()

    def fail(*arguments):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
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
    at = data.find(example().values.T.tobytes())
    data[at : at + 4] = b"\0\0\0\0"
    path.write_bytes(data)
    assert WordResponses.load(path).values[0, 0] == 0  # the values are only mapped
    with pytest.raises(ValueError, match=r"s1\.npz is not a readable"):
        WordResponses.load(path, verify=True)


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
    with pytest.raises(ValueError, match="unknown bad_voxels='.*'; known: raise, drop"):
        check_voxels(values, subject="s7", bad_voxels="keep")


def test_constant_means_to_rounding_and_within_a_run():
    rng = np.random.default_rng(2)
    values = rng.standard_normal((20, 40))
    values[:, 0] = 1000 + 1e-13 * values[:, 0]
    values[:, 1] *= 1e-20  # variance zero to rounding beside the other columns
    with pytest.raises(ValueError, match="2 of 40 voxels.*constant, the first is column 0"):
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


def test_offsets_that_float32_cannot_hold_are_taken_off():
    """All columns are centred over the valid words; what float32 holds stays as it is."""
    words = Stimulus(tuple("abcdef"))
    signal = np.random.default_rng(0).standard_normal((6, 4))
    given = signal + [0, 3e7, 0, -3e9]
    valid = np.array([True] * 5 + [False])
    given[5] = 0
    values = WordResponses("s", given, words, valid).values
    np.testing.assert_allclose(values[:5], (signal - signal[:5].mean(axis=0))[:5], atol=1e-6)
    assert not values[5].any() and given[0, 1] > 2e7
    near = signal + 1000
    np.testing.assert_array_equal(WordResponses("s", near, words).values, near.astype(np.float32))
    same = np.float32(3e7) * np.ones((6, 4), np.float32)
    np.testing.assert_array_equal(WordResponses("s", same, words).values, same)
    np.testing.assert_array_equal(WordResponses("s", same.astype(float), words).values, same)
