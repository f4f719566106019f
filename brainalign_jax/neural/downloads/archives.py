"""Unpacking of downloaded archives, so that nothing can be written outside their folder."""

from __future__ import annotations

import errno
import lzma
import os
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

from brainalign_jax.neural.downloads.records import sha256_of
from brainalign_jax.neural.downloads.transfer import ChecksumError, check_space

_BLOCK = 1 << 20
# Python unpacks what it reads of other kinds of .zip in one go, whatever comes of it.
_IN_PIECES = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_MOST_MEMBERS = 100_000
_LONGEST_HEADER = 1 << 20  # bytes of a member's long name or attributes in a .tar
# What operating systems put into archives beside the data.
_JUNK = {"__MACOSX", ".DS_Store", "Thumbs.db"}
_DAMAGE = (
    tarfile.TarError,
    zipfile.BadZipFile,
    lzma.LZMAError,
    zlib.error,
    EOFError,
    RuntimeError,  # an encrypted .zip, or a compression that this Python lacks
    MemoryError,  # a dictionary of .xz as large as its header says
    RecursionError,
)
_NAMING = (
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
)


class Member(NamedTuple):
    """A file in an archive: its path there, its length in bytes, and what gives its bytes."""

    name: str
    size: int
    is_file: bool
    open: Callable[[], IO[bytes]]


class _Header(tarfile.TarInfo):
    """The header of a member of a .tar: its long names and the map of a sparse file, which tarfile
    reads into memory whole, are bounded and refused."""

    def _proc_member(self, archive):
        if self.type in _NAMING and not 0 <= self.size <= _LONGEST_HEADER:
            raise tarfile.ReadError(f"a header of {self.size} bytes")
        return super()._proc_member(archive)

    def _proc_sparse(self, archive):
        raise tarfile.ReadError(f"{self.name} is a sparse file")

    def _proc_gnusparse_10(self, next, pax_headers, archive):
        raise tarfile.ReadError(f"{next.name} is a sparse file")


def unpack(archive: Path, folder: Path, unpack_to: str) -> dict[str, str]:
    """Unpack a .zip or .tar(.gz) to folder / unpack_to and return {path in folder: SHA-256}.

    Folders of the name `unpack_to` that hold the whole archive are left out of the paths, so that
    P01.tar with P01/a.mat, or with a.mat alone, gives P01/a.mat. All is unpacked to a folder of its
    own and moved when it is complete; files of the same path are replaced.
    Raises ValueError, before anything is written, for a member with an absolute path, "..", a
    drive letter or a link, and for two members of one path; ChecksumError (a ValueError) for a
    damaged archive; OSError where the disk is too small.
    """
    with _members(archive) as members:
        places = _places(archive, members, unpack_to)
        size = sum(member.size for member in members)
        check_space(folder, size, f"{archive} unpacks to {size / 1e9:.2f} GB", " and fetch again")
        scratch = folder / f".unpack-{archive.name}"
        shutil.rmtree(scratch, ignore_errors=True)  # of a process that was ended here
        scratch.mkdir()
        try:
            digests = {
                place: _copy(archive, member, scratch / place)
                for member, place in zip(members, places, strict=True)
                if place is not None
            }
            for place in digests:
                (folder / place).parent.mkdir(parents=True, exist_ok=True)
                os.replace(scratch / place, folder / place)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return digests


@contextmanager
def _members(archive: Path) -> Iterator[list[Member]]:
    """The archive's members without its folders. Damage that shows while it is open raises too."""
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as zipped:
                yield _of_zip(archive, zipped)
        else:
            with tarfile.open(archive, tarinfo=_Header) as tarred:
                yield _of_tar(tarred)
    except (*_DAMAGE, OSError) as error:
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise  # of the disk; a length beyond all files is an invalid argument
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ChecksumError(
            f"{archive} is damaged, or no .zip or .tar file ({reason}); delete it and fetch again"
        ) from error


def _of_zip(archive: Path, zipped: zipfile.ZipFile) -> list[Member]:
    infos = zipped.infolist()
    if sum(info.compress_size for info in infos) > archive.stat().st_size:
        raise zipfile.BadZipFile("its members overlap")
    for info in infos:
        if info.compress_type not in _IN_PIECES:
            kind = info.compress_type
            packing = getattr(zipfile, "compressor_names", {}).get(kind, f"method {kind}")
            raise ValueError(
                f"{archive}: {info.filename!r} is packed by {packing}, of which some bytes may "
                "unpack to gigabytes at once; unpack it by hand into the folder"
            )
    return [
        Member(
            info.filename,
            info.file_size,
            not stat.S_ISLNK(info.external_attr >> 16),
            partial(zipped.open, info),
        )
        for info in infos
        if not info.is_dir()
    ]


def _of_tar(tarred: tarfile.TarFile) -> list[Member]:
    # Some KB of zeros may unpack to more headers than memory holds.
    infos = list(islice(tarred, _MOST_MEMBERS + 1))
    if len(infos) > _MOST_MEMBERS:
        raise tarfile.ReadError(f"more than {_MOST_MEMBERS} members")
    return [
        Member(info.name, info.size, info.isreg(), partial(tarred.extractfile, info))
        for info in infos
        if not info.isdir()
    ]


def _places(archive: Path, members: list[Member], unpack_to: str) -> list[str | None]:
    """Where each member goes, relative to the release's folder; None for junk."""
    refused = "nothing was unpacked: do not use this archive"
    kept: list[tuple[str, ...] | None] = []
    for member in members:
        path = PurePosixPath(member.name.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts or set(member.name) & {":", "\0"}:
            raise ValueError(
                f"{archive}: the path {member.name!r} may lead out of the folder; {refused}"
            )
        if not member.is_file:
            raise ValueError(f"{archive}: {member.name!r} is a link or a device; {refused}")
        junk = _JUNK & set(path.parts) or path.name.startswith("._") or not path.parts
        kept.append(None if junk else path.parts)
    files = [parts for parts in kept if parts]
    if not files:
        raise ChecksumError(f"{archive} holds no files; delete it and fetch again")
    depth = 0
    while all(len(parts) > depth + 1 and parts[depth] == unpack_to for parts in files):
        depth += 1
    places = ["/".join((unpack_to, *parts[depth:])) if parts else None for parts in kept]
    if len(set(places) - {None}) < len(files):
        raise ValueError(f"{archive} holds two files of one path; {refused}")
    return places


def _copy(archive: Path, member: Member, target: Path) -> str:
    target.parent.mkdir(parents=True, exist_ok=True)
    # Both kinds of readers end at the announced length, for which the space was checked.
    with member.open() as source, open(target, "wb") as stream:
        shutil.copyfileobj(source, stream, _BLOCK)
    if target.stat().st_size != member.size:
        raise ChecksumError(
            f"{archive}: {member.name} is not {member.size:,} bytes long as announced; delete the "
            "archive and fetch again"
        )
    return sha256_of(target)
