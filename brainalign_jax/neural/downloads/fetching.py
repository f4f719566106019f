"""`fetch`: a public release, downloaded once, verified, in the layout its reader expects."""

from __future__ import annotations

import errno
import os
import sys
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import platformdirs

from brainalign_jax.files import user_path
from brainalign_jax.names import check_known
from brainalign_jax.neural.downloads.archives import unpack
from brainalign_jax.neural.downloads.listings import Addresses
from brainalign_jax.neural.downloads.records import (
    BY_HAND,
    FIRST,
    OFFICIAL,
    Record,
    lock,
    sha256_of,
)
from brainalign_jax.neural.downloads.releases import Release, ReleaseFile, release_info
from brainalign_jax.neural.downloads.transfer import (
    ChecksumError,
    DownloadError,
    DownloadTimeout,
    Patience,
    ResumingDownloader,
    WrongBytes,
)

DATA = "BRAINALIGN_DATA"
OFFLINE = "BRAINALIGN_OFFLINE"
_Names = str | int | Iterable[str | int] | None
_MOST_NAMED = 20  # files of a release in one message


def fetch(
    name: str | Release,
    data_dir: str | os.PathLike | None = None,
    *,
    subjects: _Names = None,
    stories: _Names = None,
    progress: bool = True,
    offline: bool | None = None,
    verify: bool = False,
    timeout: float = 30.0,
    retries: int = 3,
    backoff: float = 1.0,
) -> Path:
    """Download what is missing of a release and return its folder, for `open_dataset`.

    name: one of `list_releases()`, or a Release of your own. data_dir: the folder in which the
    release's folder is, or is to be; by default the environment variable BRAINALIGN_DATA, else the
    user's cache folder. subjects: names, None for all; a release that is one archive comes whole.
    stories: names as of the reader's `stories`, None for all, of a release that has a file a story.
    progress: show bars. offline: try no connection (default: BRAINALIGN_OFFLINE=1).
    verify: read all files again, also those whose size and time have not changed.
    timeout: seconds without a byte before a connection is given up. retries: further tries after a
    failed one that brought nothing new. backoff: seconds before the first, doubled for each more.

    A cut download goes on where it ended, now or at the next call. A file is put in place when it
    is complete and its SHA-256 right. Where its authors published none, the first download is
    recorded in downloads.json in the folder, with a warning, and later ones must be the same.
    Files that were put there by hand are taken, and recorded likewise. Archives are unpacked, and
    deleted if they were downloaded. Licence and citation are printed on standard error.

    Raises ValueError for an unknown release, subject or story, for a subject who heard none of the
    stories, and for wrong bytes (both checksums are named, nothing of them stays); FileNotFoundError for
    a file that is missing offline; DownloadError (an OSError; DownloadTimeout for a stalled server) where
    no address gives a file, saying what to do by hand; OSError for a full disk.

    >>> import brainalign_jax as ba
    >>> folder = ba.fetch("harry_potter", "data", subjects=[1, 2], progress=False)
    >>> sorted(path.name for path in folder.glob("*.mat"))
    ['subject_1.mat', 'subject_2.mat']
    """
    release = name if isinstance(name, Release) else release_info(name)
    wanted = _wanted(release, subjects, stories)
    record = Record(data_folder(data_dir) / release.name)
    patience = Patience(timeout, retries, backoff)
    offline = _is_offline() if offline is None else offline
    addresses = Addresses(release, patience)
    fetching = _Fetch(release, record, addresses, patience, offline, verify, progress)
    print(release.describe(), file=sys.stderr)
    fetching.run(wanted)
    return record.folder


def data_folder(data_dir: str | os.PathLike | None) -> Path:
    """The folder of releases' folders: the one given, that of BRAINALIGN_DATA, or the user's cache folder."""
    if data_dir is not None:
        return user_path(data_dir, "data_dir", "a folder, or None for the usual one")
    if DATA in os.environ:
        return user_path(os.environ[DATA], DATA, "a folder, or unset the variable")
    return user_path(platformdirs.user_cache_dir("brainalign_jax"), "the user's cache folder")


def _is_offline() -> bool:
    value = os.environ.get(OFFLINE, "").strip().lower()
    if value not in ("", "0", "false", "no", "1", "true", "yes"):
        raise ValueError(f"the environment variable {OFFLINE} is {value!r}; use 1 or 0")
    return value in ("1", "true", "yes")


def _wanted(release: Release, subjects: _Names, stories: _Names) -> list[ReleaseFile]:
    """The files of these subjects and stories, and those that all need."""
    if stories is not None and not release.stories:
        raise ValueError(
            f"{release.name} comes with all of its stories together: leave stories out"
        )
    people = _asked("subject", subjects, release.subjects, release.name)
    told = _asked("story", stories, release.stories, release.name)
    wanted = [
        file
        for file in release.files
        if (people is None or file.subject is None or file.subject in people)
        and (told is None or not file.stories or told & set(file.stories))
    ]
    lacking = sorted((people or set()) - {file.subject for file in wanted})
    if lacking:
        raise ValueError(
            f"{', '.join(lacking)} of {release.name} heard none of the stories "
            f"{', '.join(sorted(told or ()))}: name other subjects, or other stories"
        )
    return wanted


def _asked(what: str, given: _Names, known: tuple[str, ...], name: str) -> set[str] | None:
    """The names that are asked for; None for all, and where they come together."""
    if given is None or not known:
        return None
    several = [given] if isinstance(given, str | int) else given
    names = {str(each).removeprefix("subject_") for each in several}
    if not names:
        raise ValueError(f"no {what} of {name} is asked for; name some, or None for all")
    for each in sorted(names):
        check_known(what, each, known, of=name)
    return names


@dataclass
class _Fetch:
    """One call of `fetch`: what it may do, and what it has learnt so far."""

    release: Release
    record: Record
    addresses: Addresses
    patience: Patience
    offline: bool
    verify: bool
    progress: bool
    unchecked: list[str] = field(default_factory=list)

    def run(self, wanted: list[ReleaseFile]) -> None:
        try:
            missing = [file for file in wanted if not self._provide(file)]
        finally:
            self._tell_unchecked()
        if missing:
            raise FileNotFoundError(self._missing_message(missing))

    def _provide(self, file: ReleaseFile) -> bool:
        """Have the file in place; False where it is missing and no connection may be tried."""
        folder = self.record.folder
        if self._is_recorded(file):
            return True
        if not folder.is_dir():
            if self.offline:
                return not file.required
            folder.mkdir(parents=True, exist_ok=True)
        with lock(folder, file.path):
            # Another process may have put it there while this one waited.
            if self._is_recorded(file):
                return True
            problem = self._adopt(file)
            if problem is None:
                return True
            if self.offline:
                if problem:
                    raise ChecksumError(f"{problem}. With a connection it is fetched.")
                return not file.required
            if problem:
                warnings.warn(f"{problem}. Now it is fetched.", UserWarning, stacklevel=5)
            try:
                self._download(file)
            except DownloadError as error:
                if file.required:
                    raise
                message = f"{error} The reader can do without it."
                warnings.warn(message, UserWarning, stacklevel=5)
        return True

    def _is_recorded(self, file: ReleaseFile) -> bool:
        entry = self.record.entry(file.path)
        return (
            entry is not None
            and (file.sha256 is None or entry["sha256"] in (None, file.sha256))
            and not self._changed(entry)
        )

    def _changed(self, entry: Mapping) -> list[str]:
        stamps = entry["files"].items()
        return [p for p, s in stamps if not self.record.unchanged(p, s, verify=self.verify)]

    def _adopt(self, file: ReleaseFile) -> str | None:
        """Take what lies there without a valid record: None if that is all, else what is wrong.

        An empty text says that the file is not there.
        """
        folder, entry = self.record.folder, self.record.entry(file.path)
        path = folder / file.path
        if path.is_file():
            actual, expected = sha256_of(path), file.sha256 or (entry and entry["sha256"])
            if expected not in (None, actual):
                remedy = "" if file.sha256 else f". {self._accept(file)}"
                return f"{path} has SHA-256 {actual} instead of {expected}{remedy}"
            kind = OFFICIAL if file.sha256 else entry["checksum"] if entry else BY_HAND
            self._settle(file, actual, kind, entry and entry["url"])
            return None
        if entry is not None:
            changed = [name for name in self._changed(entry) if (folder / name).exists()]
            what = "is not what it was when it was recorded"
            return f"{folder / changed[0]} {what}. {self._accept(file)}" if changed else ""
        matches = [sorted(folder.glob(pattern)) for pattern in file.provides]
        if not matches or not all(matches):
            return ""
        # Unpacked by hand: no checksum of the archive is known, but what is there is recorded.
        files = {path for paths in matches for path in paths}
        self._remember(file, None, BY_HAND, None, self.record.digests(files))
        return None

    def _settle(self, file: ReleaseFile, sha256: str, kind: str, url: str | None) -> None:
        """Unpack a verified file if it is an archive, and record what is there now."""
        path, files = self.record.folder / file.path, {file.path: sha256}
        if file.unpack_to is not None:
            try:
                files = unpack(path, self.record.folder, file.unpack_to)
            except ValueError as error:
                if kind == BY_HAND:
                    raise
                path.unlink()
                raise ChecksumError(f"{error} (it was removed). {self._by_hand(file)}") from error
        self._remember(file, sha256, kind, url, files)
        if file.unpack_to is not None and kind != BY_HAND:
            path.unlink()

    def _remember(
        self, file: ReleaseFile, sha256: str | None, kind: str, url: str | None, files: Mapping
    ) -> None:
        entry = self.record.entry(file.path)
        try:
            self.record.remember(file.path, sha256, kind, url, files)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise
            return  # a folder for reading only: what is there is looked at again each time
        if kind != OFFICIAL and (entry is None or entry["sha256"] != sha256):
            self.unchecked.append(f"{file.path} ({kind}, SHA-256 {sha256 or 'of its files'})")

    def _download(self, file: ReleaseFile) -> None:
        target = self.record.folder / file.path
        target.parent.mkdir(parents=True, exist_ok=True)
        urls, official, failures = self.addresses.of(file)
        expected = self._expected(file, official)
        for url in urls:
            if self.progress:
                print(f"downloading {file.path} from {url}", file=sys.stderr)
            part = target.with_name(target.name + ".part")
            downloader = ResumingDownloader(part, expected, self.patience, self.progress)
            try:
                try:
                    downloader(url, target)
                except WrongBytes:
                    if not downloader.resumed:
                        raise
                    # It may be the part of an earlier call that was wrong.
                    downloader(url, target)
            except (WrongBytes, DownloadError) as error:
                failures.append(error)
                continue
            self._settle(file, downloader.digest, OFFICIAL if official else FIRST, url)
            return
        raise self._failure(file, failures, official)

    def _expected(self, file: ReleaseFile, official: str | None) -> str | None:
        entry = self.record.entry(file.path)
        recorded = entry and entry["sha256"]
        if official and recorded and official != recorded and file.sha256 is None:
            raise ChecksumError(
                f"{file.path} of {self.release.name} is listed with SHA-256 {official} now, and "
                f"was {recorded} when it was recorded. {self._accept(file)}"
            )
        return official or recorded

    def _accept(self, file: ReleaseFile) -> str:
        return f"To accept the new bytes, delete {file.path!r} in {self.record.path}, fetch again"

    def _by_hand(self, file: ReleaseFile) -> str:
        return f"By hand: {self.release.by_hand}. {file.path} goes to {self.record.folder}"

    def _failure(
        self, file: ReleaseFile, failures: list[Exception], official: str | None
    ) -> Exception:
        reasons = "; ".join(dict.fromkeys(str(failure) for failure in failures)) or "no address"
        what = f"{file.path} of {self.release.name}"
        if any(isinstance(failure, WrongBytes) for failure in failures):
            remedy = "Try again later" if official else self._accept(file)
            known = "published" if official else f"recorded in {self.record.path}"
            return ChecksumError(
                f"{what} is not the one whose checksum is {known}: {reasons}. The wrong bytes were "
                f"removed. {remedy}. {self._by_hand(file)}"
            )
        stalled = failures and isinstance(failures[-1], DownloadTimeout)
        kind = DownloadTimeout if stalled else DownloadError
        return kind(f"{what} cannot be had: {reasons}. {self._by_hand(file)}")

    def _missing_message(self, missing: list[ReleaseFile]) -> str:
        named = [f"{f.path} (from {(*f.urls, self.release.homepage)[0]})" for f in missing[:4]]
        more = f" and {len(missing) - 4} more" if len(missing) > 4 else ""
        return (
            f"offline, and missing of {self.release.name} in {self.record.folder}: "
            f"{', '.join(named)}{more}. Fetch with a connection, or put them there by hand: "
            f"{self.release.by_hand}"
        )

    def _tell_unchecked(self) -> None:
        if self.unchecked:
            more = len(self.unchecked) - _MOST_NAMED
            shown = self.unchecked[:_MOST_NAMED] + [f"and {more} more"] * (more > 0)
            warnings.warn(
                f"{self.release.name}: no published checksum tells whether these files are the "
                f"authors': {'; '.join(shown)}. They are recorded in {self.record.path}, "
                "and what is fetched later must be the same",
                UserWarning,
                stacklevel=4,
            )
