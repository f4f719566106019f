"""Archives are unpacked into their folder, all or nothing, and never outside it."""

import copy
import errno
import gzip
import hashlib
import io
import shutil
import stat
import tarfile
import tracemalloc
import zipfile

import pytest

from brainalign_jax.neural.downloads import archives
from brainalign_jax.neural.downloads.archives import unpack
from brainalign_jax.neural.downloads.transfer import ChecksumError

FILES = {"a.mat": b"first", "deep/b.txt": b"second" * 1000}


def tar(path, files, *, mode="w", links=()):
    with tarfile.open(path, mode) as archive:
        for name, body in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(body)
            archive.addfile(info, io.BytesIO(body))
        for name, target, kind in links:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, target
            archive.addfile(info)
    return path


def zipped(path, files):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, body in files.items():
            archive.writestr(name, body)
    return path


def content(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix not in (".tar", ".zip", ".gz")
    }


@pytest.mark.parametrize("make", [tar, zipped])
@pytest.mark.parametrize("prefix", ["", "P01/", "P01/P01/", "./P01/"])
def test_members_come_to_the_folder_of_the_archive(tmp_path, make, prefix):
    archive = make(tmp_path / "archive", {prefix + name: body for name, body in FILES.items()})
    digests = unpack(archive, tmp_path, "P01")
    archive.unlink()
    expected = {f"P01/{name}": body for name, body in FILES.items()}
    assert content(tmp_path) == expected
    assert digests == {name: hashlib.sha256(body).hexdigest() for name, body in expected.items()}


def test_a_compressed_tar_is_unpacked(tmp_path):
    unpack(tar(tmp_path / "a.tar.gz", FILES, mode="w:gz"), tmp_path, "P01")
    assert content(tmp_path) == {f"P01/{name}": body for name, body in FILES.items()}


def test_files_that_are_there_are_replaced_and_others_stay(tmp_path):
    (tmp_path / "P01").mkdir()
    (tmp_path / "P01" / "a.mat").write_bytes(b"old")
    (tmp_path / "P01" / "own.txt").write_bytes(b"own")
    unpack(tar(tmp_path / "a.tar", FILES), tmp_path, "P01")
    assert content(tmp_path)["P01/a.mat"] == b"first"
    assert content(tmp_path)["P01/own.txt"] == b"own"


def test_what_operating_systems_add_is_left_out(tmp_path):
    junk = {"__MACOSX/P01/._a.mat": b"", "P01/.DS_Store": b"", "P01/._a.mat": b""}
    archive = zipped(tmp_path / "a.zip", {f"P01/{n}": b for n, b in FILES.items()} | junk)
    assert set(unpack(archive, tmp_path, "P01")) == {f"P01/{name}" for name in FILES}


@pytest.mark.parametrize("make", [tar, zipped])
@pytest.mark.parametrize(
    "name", ["../evil", "P01/../../evil", "/tmp/evil", "..\\evil", "C:/evil", "\\evil"]
)
def test_a_path_that_leads_outside_is_refused_before_anything_is_written(tmp_path, make, name):
    folder = tmp_path / "inner"
    folder.mkdir()
    archive = make(tmp_path / "archive", {**FILES, name: b"evil"})
    with pytest.raises(ValueError, match="may lead out of the folder; nothing was unpacked"):
        unpack(archive, folder, "P01")
    assert not list(folder.iterdir()) and [path.name for path in tmp_path.iterdir()] != ["evil"]
    assert {path.name for path in tmp_path.iterdir()} == {"archive", "inner"}


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_in_a_tar_are_refused(tmp_path, kind):
    archive = tar(tmp_path / "a.tar", FILES, links=[("P01/link", "/etc/passwd", kind)])
    with pytest.raises(ValueError, match="'P01/link' is a link or a device"):
        unpack(archive, tmp_path, "P01")
    assert not content(tmp_path)


def test_links_in_a_zip_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        info = zipfile.ZipInfo("P01/link")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(ValueError, match="is a link or a device"):
        unpack(tmp_path / "a.zip", tmp_path, "P01")
    assert not content(tmp_path)


def test_two_members_of_one_path_are_refused(tmp_path):
    archive = tar(tmp_path / "a.tar", {"P01/a.mat": b"one", "./P01/a.mat": b"two"})
    with pytest.raises(ValueError, match="two files of one path"):
        unpack(archive, tmp_path, "P01")


def damaged(body, at):
    changed = bytearray(body)
    changed[at] ^= 0xFF
    return bytes(changed)


@pytest.mark.parametrize(
    ("make", "options", "harm"),
    [
        (tar, {}, lambda body: body[:700]),
        (tar, {"mode": "w:gz"}, lambda body: body[:-30]),
        (tar, {"mode": "w:xz"}, lambda body: body[: len(body) // 2]),
        (zipped, {}, lambda body: damaged(body, 36)),
        (zipped, {}, lambda body: body[:-30]),
        (tar, {}, lambda body: b"<html>not an archive</html>"),
    ],
)
def test_a_damaged_archive_is_named_and_leaves_nothing(tmp_path, make, options, harm):
    archive = make(tmp_path / "a.tar", FILES, **options)
    archive.write_bytes(harm(archive.read_bytes()))
    with pytest.raises(ChecksumError, match=rf"{archive}.*(damaged|as announced).*fetch again"):
        unpack(archive, tmp_path, "P01")
    assert [path.name for path in tmp_path.iterdir()] == ["a.tar"]


def test_an_archive_of_nothing_is_refused(tmp_path):
    with pytest.raises(ChecksumError, match="holds no files"):
        unpack(zipped(tmp_path / "a.zip", {}), tmp_path, "P01")


def test_a_zip_that_unpacks_to_more_than_the_disk_holds_is_refused(tmp_path, monkeypatch):
    archive = zipped(tmp_path / "a.zip", {"P01/a.mat": bytes(10**6)})
    usage = shutil.disk_usage(tmp_path)._replace(free=10**6 - 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(OSError, match="unpacks to 0.00 GB and .* has 0.00 GB left") as caught:
        unpack(archive, tmp_path, "P01")
    assert caught.value.errno == errno.ENOSPC and not content(tmp_path)


def test_a_length_beyond_all_files_is_damage(tmp_path):
    info = tarfile.TarInfo("P01/a.mat")
    info.size = 10**15
    path = tmp_path / "a.tar"
    path.write_bytes(info.tobuf(tarfile.PAX_FORMAT) + bytes(1024))
    with pytest.raises(ChecksumError, match="damaged"):
        unpack(path, tmp_path, "P01")
    assert not content(tmp_path)


def test_a_missing_archive_is_said_to_be_missing(tmp_path):
    with pytest.raises(FileNotFoundError):
        unpack(tmp_path / "a.tar", tmp_path, "P01")


def peak_of(call):
    """What a refused unpacking says, and the most memory that it took."""
    tracemalloc.start()
    try:
        with pytest.raises(ChecksumError, match="damaged") as caught:
            call()
        return str(caught.value), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("kind", "name"), [(zipfile.ZIP_BZIP2, "bzip2"), (zipfile.ZIP_LZMA, "lzma")]
)
def test_a_zip_that_python_unpacks_in_one_go_is_refused(tmp_path, kind, name):
    """Of .bz2 40 bytes may be 46 MB."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w", kind) as archive:
        archive.writestr("P01/a.mat", bytes(10))
    with pytest.raises(ValueError, match=rf"a.zip: 'P01/a.mat' is packed by {name}.*by hand"):
        unpack(tmp_path / "a.zip", tmp_path, "P01")
    assert not content(tmp_path)


def test_members_of_a_zip_that_overlap_are_refused(tmp_path):
    """One stretch of bytes that the directory lists many times."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("P01/a.mat", bytes(1000))
        archive.filelist += [copy.copy(archive.filelist[0]) for _ in range(99)]
        for number, info in enumerate(archive.filelist):
            info.filename = f"P01/{number:05}"
    said, _ = peak_of(lambda: unpack(tmp_path / "a.zip", tmp_path, "P01"))
    assert "its members overlap" in said and not content(tmp_path)


def long_name(n):
    info = tarfile.TarInfo("P01/a.mat")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, n
    return info.tobuf(tarfile.GNU_FORMAT) + bytes(n)


def attributes(n):
    info = tarfile.TarInfo("P01/a.mat")
    info.type, info.size = tarfile.XHDTYPE, n
    return info.tobuf(tarfile.GNU_FORMAT) + bytes(n)


def many(n):
    return tarfile.TarInfo("P01/a").tobuf(tarfile.GNU_FORMAT) * (n // 512)


def sparse(n):
    info = tarfile.TarInfo("P01/a.mat")
    info.size, info.pax_headers = n, {"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}
    return info.tobuf(tarfile.PAX_FORMAT) + b"999999999\n" + b"1\n" * (n // 2)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (long_name, "a header of 67108864 bytes"),
        (attributes, "a header of 67108864 bytes"),
        (many, "more than 1000 members"),
        (sparse, "a.mat is a sparse file"),
    ],
)
def test_headers_of_a_tar_take_no_memory(tmp_path, monkeypatch, make, message):
    monkeypatch.setattr(archives, "_MOST_MEMBERS", 1000)
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(make(2**26), 1))
    said, peak = peak_of(lambda: unpack(tmp_path / "a.tar.gz", tmp_path, "P01"))
    assert message in said and peak < 2**24 and not content(tmp_path)
