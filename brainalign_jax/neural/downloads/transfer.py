"""Downloads over HTTP that go on where they were cut, and tell what failed."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import NamedTuple, TypeVar

import requests
import urllib3
from tqdm import tqdm

from brainalign_jax import __version__
from brainalign_jax.neural.downloads.records import sha256_of

# A part that was cut keeps all but the last of these: no more than this many bytes come twice.
_CHUNK = 32 * 1024
_LONGEST_PAGE = 2**26  # bytes of a listing
_LONGEST_WAIT = 60.0  # seconds between two tries
_PASSING = {
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.TOO_EARLY,
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.INTERNAL_SERVER_ERROR,
    HTTPStatus.BAD_GATEWAY,
    HTTPStatus.SERVICE_UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT,
}
# Bodies are counted and continued as stored: no compression on the way.
_HEADERS = {"Accept-Encoding": "identity", "User-Agent": f"brainalign_jax/{__version__}"}
_T = TypeVar("_T")


class DownloadError(OSError):
    """An address that did not give the file."""


class DownloadTimeout(DownloadError, TimeoutError):
    """A server that sent no byte for longer than the timeout."""


class ChecksumError(ValueError):
    """A file that is not the one it should be."""


class WrongBytes(ChecksumError):
    """A download of `actual` SHA-256 where another was expected."""

    def __init__(self, message: str, actual: str):
        super().__init__(message)
        self.actual = actual


@dataclass(frozen=True)
class Patience:
    """How long to try.

    timeout: seconds without a byte before a connection is given up. retries: how many further tries
    follow a failed one; one that failed but brought something new starts the count again.
    backoff: seconds before the first of them, doubled for every further one.
    """

    timeout: float = 30.0
    retries: int = 3
    backoff: float = 1.0

    def __post_init__(self):
        if not self.timeout > 0 or self.retries < 0 or self.backoff < 0:
            raise ValueError(
                f"timeout is {self.timeout}, retries {self.retries}, backoff {self.backoff}; "
                "the timeout must be positive and the others not negative"
            )


class _Passing(Exception):
    """A failure that may pass, and the seconds the server asks to wait."""

    def __init__(self, failure: DownloadError, wait: float | None = None):
        super().__init__(str(failure))
        self.failure, self.wait = failure, wait


class _StartOver(Exception):
    """The part that is here does not continue in what the server has."""


class _PartState(NamedTuple):
    """What the server said of the file that a part belongs to."""

    url: str
    etag: str | None = None
    modified: str | None = None
    length: int | None = None

    @property
    def validator(self) -> str | None:
        """What If-Range may name: a strong ETag, or a date."""
        strong = self.etag if self.etag and not self.etag.startswith("W/") else None
        return strong or self.modified


def read_url(url: str, patience: Patience) -> bytes:
    """The body behind an address, for pages and listings. Raises DownloadError."""

    def attempt() -> bytes:
        with _get(url, patience) as response:
            body = bytearray()
            # Unpacked in small pieces, as a server's few bytes may be packed for many.
            for piece in response.iter_content(2**14):
                body += piece
                if len(body) > _LONGEST_PAGE:
                    raise DownloadError(
                        f"{url} does not end after {_LONGEST_PAGE:,} bytes: it is no list of files; "
                        "try again later, or get the files by hand"
                    )
            return bytes(body)

    return _persist(lambda: _diagnosed(attempt, url, patience), patience)


@dataclass
class ResumingDownloader:
    """Downloads a file, and goes on where an earlier, cut download ended.

    part: where the bytes are kept until all are here; what the server said of them is beside it in
    a .json. The rest is asked for by Range and If-Range, so that a file that changed meanwhile is
    got whole; a part without validator is continued only where a checksum will tell. The output
    appears by one rename, of the right length and SHA-256.
    sha256: the checksum it must have, None if unknown. After the call, `digest` holds the actual
    one and `resumed` whether a part of an earlier connection was used.
    Raises DownloadError, WrongBytes (a ValueError; the bytes are removed), OSError for a full disk.
    """

    part: Path
    sha256: str | None = None
    patience: Patience = field(default_factory=Patience)
    progress: bool = False
    digest: str | None = field(default=None, init=False)
    resumed: bool = field(default=False, init=False)

    def __call__(self, url: str, output_file: Path) -> None:
        self.resumed = False
        most = self._size(url)

        def progressed() -> bool:
            nonlocal most
            before, most = most, max(most, self._size(url))
            return most > before

        _persist(lambda: _diagnosed(lambda: self._attempt(url), url, self.patience),
                 self.patience, progressed)  # fmt: skip
        self.digest = sha256_of(self.part)
        if self.sha256 is not None and self.digest != self.sha256.lower():
            self.discard()
            raise WrongBytes(
                f"{url} sent a file of SHA-256 {self.digest} instead of {self.sha256}", self.digest
            )
        os.replace(self.part, output_file)
        self.discard()

    def discard(self) -> None:
        """Remove the part and what is known of it."""
        self.part.unlink(missing_ok=True)
        self._state_file.unlink(missing_ok=True)

    @property
    def _state_file(self) -> Path:
        return self.part.with_name(self.part.name + ".json")

    def _state(self) -> _PartState:
        try:
            return _PartState(**json.loads(self._state_file.read_text("utf-8")))
        except (OSError, ValueError, TypeError):
            return _PartState("")

    def _size(self, url: str) -> int:
        """Bytes that are here of this address; the part of another is kept until this one sends."""
        there = self.part.is_file() and self._state().url == url
        return self.part.stat().st_size if there else 0

    def _attempt(self, url: str) -> None:
        state, size = self._state(), self._size(url)
        if size and not (state.validator or self.sha256):
            self.discard()  # nothing would tell a mixture of two versions
            size = 0
        try:
            if not size or size != state.length:
                self._continue(url, size)
            else:
                self.resumed = True
        except _StartOver:
            self.discard()
            self._continue(url, 0)

    def _continue(self, url: str, size: int) -> None:
        state, headers = self._state(), {}
        if size:
            headers["Range"] = f"bytes={size}-"
            if state.validator:
                headers["If-Range"] = state.validator
        with _get(url, self.patience, headers) as response:
            if response.status_code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                raise _StartOver
            _refuse_page(response, url, self.part)
            now = _state_of(response, url)
            if response.status_code == HTTPStatus.PARTIAL_CONTENT:
                total = _checked_range(response, state, now, size)
                self.resumed = True
                _check_space(self.part, None if total is None else total - size)
            else:
                size, total, self.resumed = 0, now.length, False
                _check_space(self.part, total)
                # In this order: a part never stands beside what was said of another file.
                self.part.unlink(missing_ok=True)
                self._state_file.write_text(json.dumps(now._asdict()), "utf-8")
            self._receive(response, size, total)
        if total is not None and self._size(url) < total:
            raise _Passing(
                DownloadError(f"{url} was cut after {self._size(url):,} of {total:,} bytes")
            )
        if total is not None and self._size(url) > total:
            self.discard()
            raise _Passing(DownloadError(f"{url} sent more than the {total:,} bytes it announced"))

    def _receive(self, response: requests.Response, size: int, total: int | None) -> None:
        name = self.part.name.removesuffix(".part")
        bar = tqdm(
            total=total, initial=size, unit="B", unit_scale=True, desc=name, leave=False,
            disable=not self.progress,
        )  # fmt: skip
        with bar, open(self.part, "ab") as stream:
            for chunk in response.iter_content(_CHUNK):
                stream.write(chunk)
                bar.update(len(chunk))
            stream.flush()
            os.fsync(stream.fileno())


def _persist(
    attempt: Callable[[], _T], patience: Patience, progressed: Callable[[], bool] = lambda: False
) -> _T:
    failures = 0
    while True:
        try:
            return attempt()
        except _Passing as passing:
            failures = 1 if progressed() else failures + 1
            if failures > patience.retries:
                raise passing.failure from passing.__cause__
            wait = patience.backoff * 2 ** (failures - 1) if passing.wait is None else passing.wait
            time.sleep(min(wait, _LONGEST_WAIT))


def _diagnosed(attempt: Callable[[], _T], url: str, patience: Patience) -> _T:
    """`attempt()`, with the errors of requests told apart: those that may pass, and those not."""
    try:
        return attempt()
    except requests.RequestException as error:
        cause = error.args[0] if error.args else None
        if isinstance(error, requests.Timeout) or isinstance(
            cause, urllib3.exceptions.ReadTimeoutError
        ):
            stalled = f"{url} sent no byte for {patience.timeout:g} s; try again later, or allow "
            raise _Passing(DownloadTimeout(stalled + "more with timeout=")) from error
        if isinstance(error, requests.exceptions.SSLError) or not isinstance(
            error,
            requests.ConnectionError
            | requests.exceptions.ChunkedEncodingError
            | requests.exceptions.ContentDecodingError,
        ):
            raise DownloadError(f"{url} cannot be read: {error}") from error
        reason = getattr(cause, "reason", None) or error  # without the pool and its retries
        raise _Passing(DownloadError(f"the connection to {url} failed: {reason}")) from error


def _get(url: str, patience: Patience, headers: dict | None = None) -> requests.Response:
    """The open response; raises for every status that brings neither the file nor a part of it."""
    response = requests.get(
        url, headers=_HEADERS | (headers or {}), stream=True, timeout=patience.timeout
    )
    status, asked_part = response.status_code, "Range" in (headers or {})
    if status == HTTPStatus.OK:
        return response
    if asked_part and status in (
        HTTPStatus.PARTIAL_CONTENT,
        HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
    ):
        return response
    response.close()
    failure = DownloadError(f"{url} answered {status} {response.reason or ''}".rstrip())
    if status not in _PASSING:
        raise failure
    wait = response.headers.get("Retry-After", "")
    raise _Passing(failure, float(wait) if wait.isdecimal() else None)


def _state_of(response: requests.Response, url: str) -> _PartState:
    if response.headers.get("Content-Encoding", "identity") != "identity":
        return _PartState(url)  # the numbers are those of the compressed body
    length = response.headers.get("Content-Length", "")
    return _PartState(
        url,
        response.headers.get("ETag"),
        response.headers.get("Last-Modified"),
        int(length) if length.isdecimal() else None,
    )


def _checked_range(
    response: requests.Response, state: _PartState, now: _PartState, size: int
) -> int | None:
    """The file's whole length, or _StartOver where the answer does not continue the part.

    Servers exist that ignore If-Range, so that the validators are compared here too.
    """
    found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
    changed = any(
        old is not None and new is not None and old != new
        for old, new in ((state.etag, now.etag), (state.modified, now.modified))
    )
    if found is None or int(found[1]) != size or changed:
        raise _StartOver
    total = None if found[2] == "*" else int(found[2])
    if state.length is not None and total is not None and total != state.length:
        raise _StartOver
    return state.length if total is None else total


def _refuse_page(response: requests.Response, url: str, part: Path) -> None:
    """An error page or a form, sent as if it were the file."""
    name = part.name.removesuffix(".part")
    kind = response.headers.get("Content-Type", "")
    if kind.startswith("text/html") and not name.endswith((".html", ".htm")):
        raise DownloadError(f"{url} answered with a web page instead of {name}")


def _check_space(part: Path, needed: int | None) -> None:
    free = shutil.disk_usage(part.parent).free
    if needed is not None and needed > free:
        raise OSError(
            errno.ENOSPC,
            f"{part.name.removesuffix('.part')} needs {needed / 1e9:.2f} GB more and "
            f"{part.parent} has {free / 1e9:.2f} GB left; free some, or name another folder by "
            "data_dir or BRAINALIGN_DATA",
        )
