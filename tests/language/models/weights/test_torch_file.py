"""The reader of torch.save files: both formats, views, damage, and refusal to run anything.

The files come from torch (tests/fixtures/export_models.py) or are pickled here by hand.
"""

import os
import pickle
import tracemalloc
import zipfile

import numpy as np
import pytest
from safetensors.numpy import load_file

from brainalign_jax.language.models.weights.torch_file import TorchFile

BASE = np.arange(24, dtype=np.float32)


class _Named:
    """Pickles as a global name, or as a call of it, whatever that name is here."""

    def __init__(self, module, name, *args):
        self.module, self.name, self.args = module, name, args


def pickled(value) -> bytes:
    """Protocol 2 bytes of nested dicts, tuples, strings, ints and `_Named` calls."""

    def emit(v) -> bytes:
        if isinstance(v, _Named):
            name = f"c{v.module}\n{v.name}\n".encode()
            return name if v.args == () else name + emit(v.args[0]) + b"R"
        if isinstance(v, dict):
            return b"}" + b"".join(emit(k) + emit(x) + b"s" for k, x in v.items())
        if isinstance(v, tuple):
            return b"(" + b"".join(map(emit, v)) + b"t"
        if isinstance(v, Stored):
            return emit(v.pid) + b"Q"
        return plain(v)

    def plain(v) -> bytes:
        if isinstance(v, bool):
            return b"\x88" if v else b"\x89"
        if isinstance(v, int):
            return b"I%d\n" % v
        return b"X" + len(v.encode()).to_bytes(4, "little") + v.encode()

    return b"\x80\x02" + emit(value) + b"."


class Stored:
    """A reference to a storage."""

    def __init__(self, kind="FloatStorage", key="0", n=24):
        self.pid = ("storage", _Named("torch", kind), key, "cpu", n)


def tensor(size, stride, offset=0, storage=None):
    args = (
        storage or Stored(),
        offset,
        size,
        stride,
        False,
        _Named("collections", "OrderedDict", ()),
    )
    return _Named("torch._utils", "_rebuild_tensor_v2", args)


def write_zip(path, value, **members):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", value if isinstance(value, bytes) else pickled(value))
        archive.writestr("archive/data/0", BASE.tobytes())
        for name, content in members.items():
            archive.writestr(f"archive/{name}", content)
    return path


@pytest.mark.parametrize("form", ["zip", "legacy"])
def test_views_of_one_storage(form, models_dir):
    file = TorchFile(models_dir / f"views.{form}.bin")
    assert set(file) == {"turned", "sliced", "parameter", "empty", "whole"} and len(file) == 5
    np.testing.assert_array_equal(file["turned"], BASE.reshape(4, 6).T)
    np.testing.assert_array_equal(file["sliced"], BASE[5:11])
    np.testing.assert_array_equal(file["parameter"], BASE.reshape(2, 12)[:, ::3])
    assert file["empty"].shape == (0, 3) and file["empty"].dtype == np.float32
    assert file["whole"].shape == () and file["whole"] == 7 and file["whole"].dtype == np.int64


def test_legacy_file_equals_the_safetensors_of_the_same_model(models_dir):
    file = TorchFile(models_dir / "bert-mlm.legacy.bin")
    for name, expected in load_file(models_dir / "bert-mlm" / "model.safetensors").items():
        np.testing.assert_array_equal(file[name], expected)


def test_hand_written_file_is_read(tmp_path):
    """The writer of these tests makes what the reader takes, so its refusals mean something."""
    file = TorchFile(write_zip(tmp_path / "m.bin", {"w": tensor((2, 3), (3, 1), 4)}))
    np.testing.assert_array_equal(file["w"], BASE[4:10].reshape(2, 3))


@pytest.mark.parametrize(
    "module, name",
    [
        ("os", "system"),
        ("builtins", "eval"),
        ("torch", "load"),
        ("torch._utils", "_rebuild_tensor_v3"),
        ("collections", "OrderedDict.fromkeys"),
        ("numpy", "ndarray"),
    ],
)
@pytest.mark.parametrize("form", ["zip", "legacy"])
def test_any_other_name_is_refused(form, module, name, tmp_path):
    content = pickled({"w": _Named(module, name, ("touch ran",))})
    path = tmp_path / "m.bin"
    if form == "zip":
        write_zip(path, content)
    else:
        header = (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})
        path.write_bytes(b"".join(pickle.dumps(v, 2) for v in header) + content)
    with pytest.raises(ValueError, match=f"asks for {module}.{name}.*nothing was run") as error:
        TorchFile(path)
    assert str(path) in str(error.value)


class _Attack:
    def __reduce__(self):
        return os.mkdir, ("attacked",)


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_an_attack_does_not_run(protocol, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path in (tmp_path / "zip.bin", tmp_path / "raw.bin"):
        content = pickle.dumps({"w": _Attack()}, protocol)
        write_zip(path, content) if path.name == "zip.bin" else path.write_bytes(content)
        with pytest.raises(ValueError, match="mkdir.*refused"):
            TorchFile(path)
    assert not (tmp_path / "attacked").exists()


HALF = np.arange(24, dtype=np.float16)
SET_NAME = b"}X\x04\x00\x00\x00nameX\x0f\x00\x00\x00BFloat16Storagesb"
SET_CODE = b"N}X\x0c\x00\x00\x00__defaults__)s\x86b"
SET_SHAPE = b"}X\x05\x00\x00\x00shape(J\xff\xff\xff\x7ftsX\x07\x00\x00\x00strides(K\x01tsb"


@pytest.mark.parametrize(
    "hostile",
    [
        b"\x80\x02ctorch\nHalfStorage\n" + SET_NAME + b".",
        b"\x80\x02ctorch.storage\nHalfStorage\n" + SET_NAME + b".",
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n" + SET_CODE + b".",
        b"\x80\x02ccollections\nOrderedDict\n" + SET_CODE + b".",
        pickled(Stored())[:-1] + SET_NAME + b".",
        pickled(tensor((2,), (1,)))[:-1] + SET_SHAPE + b".",
    ],
    ids=["dtype", "dtype-of-storage", "function", "class", "storage", "tensor"],
)
def test_a_hostile_file_changes_nothing_for_the_next(hostile, tmp_path):
    with pytest.raises(ValueError, match=r"hostile\.bin asks for a change of .*nothing was run"):
        TorchFile(write_zip(tmp_path / "hostile.bin", hostile))
    benign = {"w": tensor((24,), (1,), 0, Stored("HalfStorage", "half"))}
    file = TorchFile(write_zip(tmp_path / "m.bin", benign, **{"data/half": HALF.tobytes()}))
    np.testing.assert_array_equal(file["w"], HALF)
    assert file["w"].dtype == np.float16


def bomb_memo(path):
    path.write_bytes(b"\x80\x02}r\xff\xff\xff\x7f.")


def bomb_zip(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", pickled({"w": tensor((9,), (1,), 0, Stored(n=9))}))
        archive.writestr("archive/data/0", bytes(1 << 25))


def bomb_pickle(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        text = b"X\x00\x00\x00\x01" + bytes(1 << 24)
        archive.writestr("archive/data.pkl", b"\x80\x02" + text + b".")


def bomb_string(path):
    path.write_bytes(b"\x80\x04\x8d" + (1 << 40).to_bytes(8, "little") + b"a")


def bomb_storages(path):
    """One stored megabyte, named by 40 members."""
    names = [f"data/{i}" for i in range(40)]
    value = {name: tensor((1 << 18,), (1,), 0, Stored(key=name[5:], n=1 << 18)) for name in names}
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickled(value))
        archive.writestr("archive/data/0", bytes(1 << 20))
        first = archive.getinfo("archive/data/0")
        for name in names[1:]:
            again = zipfile.ZipInfo(f"archive/{name}")
            again.header_offset, again.CRC = first.header_offset, first.CRC
            again.file_size = again.compress_size = first.file_size
            archive.filelist.append(again)
            archive.NameToInfo[again.filename] = again


def bomb_strides(path):
    write_zip(path, {"w": tensor((10**6, 10**6), (0, 0))})


@pytest.mark.parametrize(
    "bomb", [bomb_memo, bomb_zip, bomb_pickle, bomb_string, bomb_storages, bomb_strides]
)
def test_what_a_file_says_allocates_no_more_than_the_file_has(bomb, tmp_path):
    path = tmp_path / "bomb.bin"
    bomb(path)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"bomb\.bin is not a readable torch\.save file"):
            TorchFile(path)
        assert tracemalloc.get_traced_memory()[1] < 6e6
    finally:
        tracemalloc.stop()


def test_strings_of_python_2_are_read(tmp_path):
    """`torch.save` there wrote names as byte strings, and dictionaries as a call with pairs."""
    named = pickled(tensor((2,), (1,), 1))[2:-1]
    content = b"\x80\x02ccollections\nOrderedDict\n(]]q\x01(U\x03w\xc3\xa9" + named + b"eatR."
    file = TorchFile(write_zip(tmp_path / "m.bin", content))
    np.testing.assert_array_equal(file["wé"], [1, 2])


def test_a_whole_module_is_refused(models_dir):
    with pytest.raises(ValueError, match=r"asks for torch\.nn.*state_dict"):
        TorchFile(models_dir / "whole_module.bin")


@pytest.mark.parametrize(
    "size, stride, offset",
    [
        ((5, 5), (5, 1), 0),
        ((24,), (1,), 1),
        ((2, 2), (100, 1), 0),
        ((3,), (-1,), 5),
        ((-1,), (1,), 0),
        ((3,), (1,), -2),
        ((2, 2), (1,), 0),
    ],
)
def test_a_tensor_outside_its_storage_is_refused(size, stride, offset, tmp_path):
    path = write_zip(tmp_path / "m.bin", {"w": tensor(size, stride, offset)})
    with pytest.raises(ValueError, match=r"m\.bin.*a tensor .*Download it again"):
        TorchFile(path)


def test_a_storage_of_another_length_than_it_says_is_refused(tmp_path):
    path = write_zip(tmp_path / "m.bin", {"w": tensor((2,), (1,), 0, Stored(n=25))})
    with pytest.raises(ValueError, match="storage 0 has 96 bytes"):
        TorchFile(path)


def test_two_storages_under_one_key_are_refused(tmp_path):
    value = {"a": tensor((2,), (1,)), "b": tensor((2,), (1,), 0, Stored("HalfStorage"))}
    with pytest.raises(ValueError, match="two different storages"):
        TorchFile(write_zip(tmp_path / "m.bin", value))


def test_big_endian_numbers_are_refused(tmp_path):
    path = write_zip(tmp_path / "m.bin", {"w": tensor((2,), (1,))}, byteorder="big")
    with pytest.raises(ValueError, match="big-endian"):
        TorchFile(path)


@pytest.mark.parametrize("value", [{"epoch": 3}, {"model": {"w": tensor((2,), (1,))}}])
def test_what_is_not_a_flat_state_dict_is_an_error(value, tmp_path):
    path = write_zip(tmp_path / "m.bin", value)
    with pytest.raises(ValueError, match="entries that are not tensors.*state_dict"):
        TorchFile(path)


def test_a_single_tensor_is_not_a_state_dict(tmp_path):
    with pytest.raises(ValueError, match="not a dictionary of named tensors"):
        TorchFile(write_zip(tmp_path / "m.bin", tensor((2,), (1,))))


@pytest.mark.parametrize("name", ["views.zip.bin", "views.legacy.bin", "bert-mlm.legacy.bin"])
@pytest.mark.parametrize("kept", [0.0, 0.02, 0.3, 0.7, 0.99])
def test_a_truncated_file_is_an_error(name, kept, models_dir, tmp_path):
    whole = (models_dir / name).read_bytes()
    path = tmp_path / "cut.bin"
    path.write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(ValueError, match=r"cut\.bin is not a readable .*Download it again"):
        TorchFile(path)


def test_a_flipped_bit_in_the_weights_is_an_error(models_dir, tmp_path):
    whole = bytearray((models_dir / "views.zip.bin").read_bytes())
    whole[whole.index(BASE.tobytes()) + 40] ^= 1
    path = tmp_path / "flipped.bin"
    path.write_bytes(whole)
    with pytest.raises(ValueError, match=r"flipped\.bin.*Download it again"):
        TorchFile(path)["sliced"]


def test_random_bytes_are_an_error(tmp_path):
    path = tmp_path / "noise.bin"
    rng = np.random.default_rng(0)
    for _ in range(50):
        path.write_bytes(rng.bytes(200))
        with pytest.raises(ValueError, match="Download it again"):
            TorchFile(path)


def test_torch_reads_the_same(models_dir):
    torch = pytest.importorskip("torch")
    for name in ("views.zip.bin", "views.legacy.bin", "bert-mlm.legacy.bin"):
        expected = torch.load(models_dir / name, weights_only=True)
        file = TorchFile(models_dir / name)
        assert list(file) == list(expected)
        for key, value in expected.items():
            np.testing.assert_array_equal(file[key], value.detach().numpy())
