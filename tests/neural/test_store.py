"""The file of word responses: streamed, mapped, whole or not at all."""

import io
import json
import os
import resource
import stat
import zipfile

import numpy as np
import pytest

from brainalign_jax.neural import fields as response_fields
from brainalign_jax.neural import store
from brainalign_jax.neural.responses import WordResponses
from brainalign_jax.neural.space import VoxelSpace
from brainalign_jax.neural.store import ResponseWriter, read_responses
from brainalign_jax.stimulus import Stimulus

N, V = 6, 50


def fields(**changes):
    """Arguments of WordResponses but the values."""
    indices = np.stack(np.unravel_index(np.arange(V), (4, 4, 4)), axis=1)
    own = {
        "subject": "s1",
        "stimulus": Stimulus(
            ("One", "two", "thrée", "four", "five", "six."),
            onsets=0.5 * np.arange(N),
            durations=np.full(N, 0.5),
            run=np.repeat([1, 2], 3),
        ),
        "valid": np.array([True] * 5 + [False]),
        "meta": {"dataset": "toy", "tr": 2.0},
        "space": VoxelSpace.volume(indices, (4, 4, 4), np.diag([3.0, 3.0, 3.0, 1.0])),
    }
    return own | changes


@pytest.fixture
def values():
    array = np.random.default_rng(0).standard_normal((N, V)).astype(np.float32)
    array[5] = 0
    return array


def stream(path, values, widths, **changes):
    with ResponseWriter(path, n_columns=V, **fields(**changes)) as writer:
        start = 0
        for width in widths:
            writer.write(values[:, start : start + width])
            start += width
    return path


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_streamed_and_saved_files_are_the_same_bytes(tmp_path, values):
    single_block = stream(tmp_path / "one.npz", values, [V])
    many = stream(tmp_path / "many.npz", values, [7, 1, 0, 30, 12])
    saved = WordResponses(values=values, **fields()).save(tmp_path / "saved.npz")
    columns = WordResponses(values=np.asfortranarray(values), **fields())
    columns.save(tmp_path / "columns.npz")
    doubles = stream(tmp_path / "doubles.npz", values.astype(np.float64), [20, 30])
    assert len({path.read_bytes() for path in (single_block, many, saved, doubles)}) == 1
    assert (tmp_path / "columns.npz").read_bytes() == single_block.read_bytes()
    assert len(names(tmp_path)) == 5


def test_values_are_mapped_and_aligned(tmp_path, values):
    # Words and subjects of any length in front of the values move them.
    for extra in range(0, 130, 13):
        path = stream(tmp_path / "s.npz", values, [V], subject="s" * extra, meta={"a": "b" * extra})
        loaded = WordResponses.load(path)
        assert type(loaded.values) is np.memmap and loaded.values.flags.f_contiguous
        assert loaded.values.offset % 64 == 0 and loaded.values.ctypes.data % 64 == 0
        np.testing.assert_array_equal(loaded.values, values)
        assert not loaded.values.flags.writeable
        raw = np.fromfile(path, "<f4", N * V, offset=loaded.values.offset)
        np.testing.assert_array_equal(raw.reshape(V, N).T, values)


def test_plain_numpy_and_zip_read_the_file(tmp_path, values):
    path = stream(tmp_path / "s.npz", values, [25, 25])
    with np.load(path, allow_pickle=False) as file:
        assert {"header", "valid", "onsets", "durations", "run", "values"} <= set(file.files)
        np.testing.assert_array_equal(file["values"], values)
        assert file["values"].dtype == np.float32
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert all(info.compress_type == zipfile.ZIP_STORED for info in archive.infolist())


def test_every_field_comes_back(tmp_path, values):
    own = fields()
    stored = read_responses(stream(tmp_path / "s.npz", values, [V]))
    assert stored.checked and stored.subject == "s1" and stored.meta == own["meta"]
    assert stored.stimulus.fingerprint() == own["stimulus"].fingerprint()
    assert stored.space.same_as(own["space"])
    np.testing.assert_array_equal(stored.valid, own["valid"])
    plain = stream(
        tmp_path / "p.npz",
        values[:5],
        [V],
        space=None,
        valid=None,
        stimulus=Stimulus(tuple("abcde")),
    )
    stored = read_responses(plain)
    assert stored.space is None and stored.valid.all() and stored.stimulus.onsets is None


@pytest.mark.parametrize(
    ("changes", "n_columns", "message"),
    [
        ({}, 0, "s1: 0 columns"),
        ({}, V + 1, "the space describes 50 of 51 columns"),
        ({"valid": np.ones(3, bool)}, V, r"valid has shape \(3,\)"),
        ({"meta": {"x": np.zeros(2)}}, V, "JSON"),
    ],
)
def test_fields_are_checked_before_anything_is_written(tmp_path, changes, n_columns, message):
    with pytest.raises(ValueError, match=message):
        ResponseWriter(tmp_path / "s.npz", n_columns=n_columns, **fields(**changes))
    assert not names(tmp_path)


def test_the_place_is_checked_before_anything_is_written(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere does not exist; create it"):
        ResponseWriter(tmp_path / "nowhere" / "s.npz", n_columns=V, **fields())
    with pytest.raises(ValueError, match="is a folder"):
        ResponseWriter(tmp_path, n_columns=V, **fields())


def spoilt(values, row, column, value):
    values = values.copy()
    values[row, column] = value
    return values


@pytest.mark.parametrize(
    ("change", "widths", "message"),
    [
        (lambda v: v, [20, 20], "s1: 40 of 50 columns were written"),
        (lambda v: v, [], "s1: 0 of 50 columns were written"),
        (lambda v: np.hstack([v, v]), [40, 20], "s1: 60 columns were written of the 50"),
        (lambda v: v[:4], [50], r"shape \(4, 50\).*\[6, voxels\]"),
        (lambda v: v[:, :, None], [50], r"shape \(6, 50, 1\)"),
        (lambda v: v.astype("U8"), [50], "dtype <U8"),
        (lambda v: spoilt(v, 3, 33, np.nan), [20, 30], "s1.*1 of 30 voxels.*NaN.*is column 33"),
        (lambda v: spoilt(v, 0, 0, np.inf), [20, 30], "infinite values, the first is column 0"),
        (lambda v: spoilt(v.astype(float), 0, 49, 1e300), [50], "the first is column 49"),
        (lambda v: spoilt(v, 5, 44, 1.0), [20, 30], r"row 5 \('six.'\) is marked as not covered"),
    ],
)
def test_bad_blocks_leave_nothing(tmp_path, values, change, widths, message):
    with pytest.raises(ValueError, match=message):
        stream(tmp_path / "s.npz", change(values), widths)
    assert not names(tmp_path)


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, GeneratorExit])
def test_an_exception_leaves_the_old_file(tmp_path, values, error):
    path = stream(tmp_path / "s.npz", values, [V])
    old = path.read_bytes()
    with (
        pytest.raises(error),
        ResponseWriter(path, n_columns=V, **fields(subject="s2")) as writer,
    ):
        writer.write(values[:, :10])
        assert len(names(tmp_path)) == 2
        raise error
    assert path.read_bytes() == old and names(tmp_path) == ["s.npz"]


def test_an_interrupt_at_the_end_leaves_the_old_file(tmp_path, values, monkeypatch):
    path = stream(tmp_path / "s.npz", values, [V])
    old = path.read_bytes()

    def interrupt(*arguments):
        raise KeyboardInterrupt

    for module, name in ((os, "replace"), (store, "_padding")):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(module, name, interrupt)
            stream(path, values, [V], subject="s2")
        assert path.read_bytes() == old and names(tmp_path) == ["s.npz"]


def test_a_full_disk_leaves_the_old_file(tmp_path, values):
    path = stream(tmp_path / "s.npz", values, [V])
    old = path.read_bytes()
    wide = np.tile(values, (1, 2000))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with (
        pytest.raises(OSError, match="too large"),
        ResponseWriter(path, n_columns=wide.shape[1], **fields(space=None)) as writer,
    ):
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
        try:
            writer.write(wide)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == old and names(tmp_path) == ["s.npz"]


def test_a_replaced_file_can_still_be_read_where_it_was_loaded(tmp_path, values):
    path = stream(tmp_path / "s.npz", values, [V])
    loaded = WordResponses.load(path)
    stream(path, -values, [V])
    np.testing.assert_array_equal(loaded.values, values)
    loaded.save(path)  # onto itself
    np.testing.assert_array_equal(WordResponses.load(path).values, values)


def test_the_umask_is_respected(tmp_path, values):
    before = os.umask(0o027)
    try:
        path = stream(tmp_path / "s.npz", values, [V])
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_writer_is_used_once_and_inside_its_block(tmp_path, values):
    writer = ResponseWriter(tmp_path / "s.npz", n_columns=V, **fields())
    with pytest.raises(ValueError, match="inside the with-block"):
        writer.write(values)
    with writer:
        writer.write(values)
    with pytest.raises(ValueError, match="inside the with-block"):
        writer.write(values)
    with pytest.raises(ValueError, match="used once"), writer:
        pass
    assert names(tmp_path) == ["s.npz"]


def test_values_are_looked_through_only_on_demand(tmp_path, values):
    path = stream(tmp_path / "s.npz", values, [V])
    at = WordResponses.load(path).values.offset + 4 * (N * 33 + 2)
    data = bytearray(path.read_bytes())
    data[at : at + 4] = np.float32(np.nan).tobytes()
    path.write_bytes(data)
    assert np.isnan(WordResponses.load(path).values[2, 33])
    with pytest.raises(ValueError, match=r"s\.npz is not.*values\.npy does not have its checksum"):
        WordResponses.load(path, verify=True)
    # With a checksum that fits, the values themselves are refused.
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo("values.npy")
    start = at - 4 * (N * 33 + 2) - 128
    content = bytes(data[start : start + info.file_size])
    sums = (info.CRC, zipfile.crc32(content))
    path.write_bytes(bytes(data).replace(*(number.to_bytes(4, "little") for number in sums)))
    with pytest.raises(ValueError, match=r"s\.npz is not.*NaN.*the first is column 33"):
        WordResponses.load(path, verify=True)


@pytest.mark.parametrize("mask", [0xFF, 0x04])
def test_any_damaged_byte_is_an_error_or_changes_nothing(tmp_path, values, mask):
    path = stream(tmp_path / "s.npz", values, [V], space=None)
    good, data = WordResponses.load(path), path.read_bytes()
    in_values = range(good.values.offset, good.values.offset + values.nbytes)
    expected, errors = good.fingerprint(), 0
    for at in range(0, len(data), 3 if mask == 0xFF else 7):
        damaged = bytearray(data)
        damaged[at] ^= mask
        path.write_bytes(damaged)
        if at not in in_values:
            try:
                assert WordResponses.load(path).fingerprint() == expected
            except ValueError as error:
                assert "s.npz is not a readable" in str(error)
                errors += 1
        elif at % 20 == 0:
            with pytest.raises(ValueError, match=r"s\.npz is not a readable"):
                WordResponses.load(path, verify=True)
    assert errors > 100


def test_every_truncation_is_an_error(tmp_path, values):
    path = stream(tmp_path / "s.npz", values, [V])
    data = path.read_bytes()
    for length in range(0, len(data), 17):
        path.write_bytes(data[:length])
        with pytest.raises(ValueError, match=r"s\.npz is not a readable.*write it again"):
            WordResponses.load(path)


def repacked(path, *, version=None, change=None, compress=False, **arrays):
    """The file as plain NumPy writes it, in C order."""
    with np.load(path, allow_pickle=False) as file:
        members = {name: np.array(file[name], order="C") for name in file.files}
    header = json.loads(members["header"].tobytes())
    if version is not None:
        header["version"] = version
    members["header"] = np.frombuffer(json.dumps(header | (change or {})).encode(), np.uint8)
    members |= arrays
    (np.savez_compressed if compress else np.savez)(path, **members)
    return path


@pytest.mark.parametrize("options", [{"version": 1}, {"compress": True}, {}])
def test_files_of_other_writers_are_read_into_memory_and_checked(tmp_path, values, options):
    path = repacked(stream(tmp_path / "s.npz", values, [V]), **options)
    loaded = WordResponses.load(path)
    assert not isinstance(loaded.values, np.memmap)
    assert loaded.fingerprint() == WordResponses(values=values, **fields()).fingerprint()
    repacked(path, values=spoilt(values, 2, 7, np.nan), **options)
    with pytest.raises(ValueError, match=r"s\.npz is not.*NaN.*the first is column 7"):
        WordResponses.load(path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"version": 3}, "version 3, which this version of brainalign_jax does not know"),
        ({"change": {"format": "other"}}, "format 'other'"),
        ({"change": {"words": ["a"]}}, "6 words|for 1 words"),
        ({"onset": np.zeros(N)}, "it holds 'onset'"),
        ({"change": {"meta": [1e999]}}, "meta"),
        ({"values": np.zeros((N, V + 1), np.float32)}, "the space describes 50 of 51"),
        ({"values": np.zeros(N, np.float32)}, r"shape \(6,\)"),
        ({"valid": np.ones(N)}, "dtype float64"),
        ({"run": np.zeros((2, 2))}, "run has shape"),
        ({"space.kind": np.array("sphere")}, "kind 'sphere'"),
        ({"space.shape": np.array([1, 1, 1])}, "outside"),
    ],
)
def test_other_content_is_refused(tmp_path, values, options, message):
    path = repacked(stream(tmp_path / "s.npz", values, [V]), **options)
    with pytest.raises(ValueError, match=rf"s\.npz is not a readable.*({message})"):
        WordResponses.load(path)


def test_a_mapped_member_must_be_float32_in_columns(tmp_path, values):
    """A values member in the right order but of another type is read as what it is."""
    path = stream(tmp_path / "s.npz", values, [V])
    doubles = io.BytesIO()
    np.lib.format.write_array(doubles, np.asfortranarray(values.astype(np.float64)))
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    members["values.npy"] = doubles.getvalue()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    loaded = WordResponses.load(path)
    assert loaded.values.dtype == np.float32 and not isinstance(loaded.values, np.memmap)
    np.testing.assert_array_equal(loaded.values, values)


@pytest.mark.parametrize("order", ["C", "F"])
def test_blocks_cover_all_values_in_either_order(monkeypatch, values, order):
    monkeypatch.setattr(response_fields, "_BLOCK_BYTES", 4 * N * 7)
    array = np.asarray(values, order=order)
    parts = [array[:, columns] for columns, _ in response_fields.column_blocks(array)]
    assert [part.shape[1] for part in parts] == [7] * 7 + [1]
    np.testing.assert_array_equal(np.hstack(parts), values)
    valid, words = fields()["valid"], fields()["stimulus"].words
    response_fields.check_values(array, valid, words, subject="s")
    for column in (0, 6, 7, 49):
        with pytest.raises(ValueError, match=f"1 of 50.*column {column}"):
            response_fields.check_values(
                spoilt(array, 3, column, -np.inf), valid, words, subject="s"
            )
        with pytest.raises(ValueError, match="row 5 .*not covered"):
            response_fields.check_values(spoilt(array, 5, column, 1), valid, words, subject="s")
