"""The reader of torch.save files: both formats, views, damage, and refusal to run anything.

The files come from torch (tests/fixtures/export_models.py) or are pickled here by hand.
"""

import os
import pickle
import zipfile

import numpy as np
import pytest
from safetensors.numpy import load_file

from brainalign_jax.language.models.torch_file import TorchFile

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
