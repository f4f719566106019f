"""Downloads over HTTP that go on where they were cut, and tell what failed."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import NamedTuple, TypeVar

import requests
from tqdm import tqdm
from urllib3.exceptions import ReadTimeoutError

from brainalign_jax import __version__
from brainalign_jax.neural.downloads.records import sha256_of

# A part that was cut keeps all but the last of these: no more than this many bytes come twice.
_CHUNK = 32 * 1024
_LONGEST_PAGE = 2**26  # bytes of a listing
_LONGEST_WAIT = 60.0  # seconds between two tries
_PASSING = (408, 425, 429, 500, 502, 503, 504)  # another try may bring the file
_BROKEN = (
    requests.ConnectionError,
    requests.exceptions.ChunkedEncodingError,
    requests.exceptions.ContentDecodingError,
)
# Bodies are counted and continued as stored: no compression on the way.
_HEADERS = {"Accept-Encoding": "identity", "User-Agent": f"brainalign_jax/{__version__}"}
_T = TypeVar("_T")


class DownloadError(OSError):
    """An address that did not give the file.

    passing: another try may bring it. wait: the seconds before it that the server asks for.
    """

    passing = False
    wait: float | None = None


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


class _PartState(NamedTuple):
    """What the server said of the file that a part belongs to; length is that of the whole file."""

    url: str
    etag: str | None = None
    modified: str | None = None
    length: int | None = None

    @property
    def validator(self) -> str | None:
        """What If-Range may name: a strong ETag, or a date."""
        strong = self.etag if self.etag and not self.etag.startswith("W/") else None
        return strong or self.modified

    def differs(self, other: _PartState) -> bool:
        """Whether anything that both say is not the same."""
        return any(
            None not in said and said[0] != said[1] for said in zip(self, other, strict=True)
        )


def read_url(url: str, patience: Patience) -> bytes:
    """The body behind an address, for pages and listings. Raises DownloadError."""

    def attempt() -> bytes:
        body = bytearray()
        with _answer(url, patience, {}) as response:
            # Unpacked in small pieces, as a server's few bytes may be packed for many.
            for piece in response.iter_content(2**14):
                body += piece
                if len(body) > _LONGEST_PAGE:
                    raise DownloadError(
                        f"{url} does not end after {_LONGEST_PAGE:,} bytes: it is no list of files; "
                        "try again later, or get the files by hand"
                    )
        return bytes(body)

    return _persist(attempt, patience)


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
        _persist(lambda: self._attempt(url), self.patience, lambda: self._size(url))
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
    def _name(self) -> str:
        return self.part.name.removesuffix(".part")

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
        if not self._continue(url):
            self.discard()
            self._continue(url)

    def _continue(self, url: str) -> bool:
        """Get what is missing; False where the part does not continue in what the server has."""
        state, size, headers = self._state(), self._size(url), {}
        if size:
            if not (state.validator or self.sha256):
                return False  # nothing would tell a mixture of two versions
            if size == state.length:
                self.resumed = True
                return True
            headers["Range"] = f"bytes={size}-"
            if state.validator:
                headers["If-Range"] = state.validator
        with _answer(url, self.patience, headers) as response:
            if response.status_code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                return False
            kind = response.headers.get("Content-Type", "")
            if kind.startswith("text/html") and not self._name.endswith((".html", ".htm")):
                # An error page or a form, sent as if it were the file.
                raise DownloadError(f"{url} answered with a web page instead of {self._name}")
            now, start = _state_of(response, url)
            self.resumed = response.status_code == HTTPStatus.PARTIAL_CONTENT
            # Servers exist that ignore If-Range, so that what was said is compared here too.
            if self.resumed and (start != size or state.differs(now)):
                return False
            total = state.length if self.resumed and now.length is None else now.length
            size = size if self.resumed else 0
            if total is not None:
                need = f"{self._name} needs {(total - size) / 1e9:.2f} GB more"
                remedy = ", or name another folder by data_dir or BRAINALIGN_DATA"
                check_space(self.part.parent, total - size, need, remedy)
            if not self.resumed:
                # In this order: a part never stands beside what was said of another file.
                self.part.unlink(missing_ok=True)
                self._state_file.write_text(json.dumps(now._asdict()), "utf-8")
            self._receive(response, size, total)
        size = self._size(url)
        if total is not None and size != total:
            error = DownloadError(f"{url} was cut after {size:,} of {total:,} bytes")
            if size > total:
                self.discard()
                error = DownloadError(f"{url} sent more than the {total:,} bytes it announced")
            error.passing = True
            raise error
        return True

    def _receive(self, response: requests.Response, size: int, total: int | None) -> None:
        bar = tqdm(
            total=total, initial=size, unit="B", unit_scale=True, desc=self._name, leave=False,
            disable=not self.progress,
        )  # fmt: skip
        with bar, open(self.part, "ab") as stream:
            for chunk in response.iter_content(_CHUNK):
                stream.write(chunk)
                bar.update(len(chunk))
            stream.flush()
            os.fsync(stream.fileno())


def _persist(
    attempt: Callable[[], _T], patience: Patience, size: Callable[[], int] = lambda: 0
) -> _T:
    """`attempt()`, again where it may pass. size: how much is there, to tell what is new."""
    failures, most = 0, size()
    while True:
        try:
            return attempt()
        except DownloadError as error:
            failures = 1 if size() > most else failures + 1
            most = max(most, size())
            if not error.passing or failures > patience.retries:
                raise
            wait = patience.backoff * 2 ** (failures - 1) if error.wait is None else error.wait
            time.sleep(min(wait, _LONGEST_WAIT))


@contextmanager
def _answer(url: str, patience: Patience, headers: dict[str, str]) -> Iterator[requests.Response]:
    """The open answer that brings the file, or the part that is asked for.

    Raises DownloadError for any other, and where the reading of the answer fails.
    """
    asked = _HEADERS | headers
    try:
        with requests.get(url, headers=asked, stream=True, timeout=patience.timeout) as answer:
            status = answer.status_code
            if status not in ((200, 206, 416) if "Range" in headers else (200,)):
                failure = DownloadError(f"{url} answered {status} {answer.reason or ''}".rstrip())
                wait = answer.headers.get("Retry-After", "")
                failure.passing = status in _PASSING
                failure.wait = float(wait) if wait.isdecimal() else None
                raise failure
            yield answer
    except requests.RequestException as error:
        raise _diagnosed(error, url, patience) from error


def _diagnosed(error: requests.RequestException, url: str, patience: Patience) -> DownloadError:
    """What an error of requests means: some may pass, others not."""
    cause = error.args[0] if error.args else error
    reason = getattr(cause, "reason", None) or cause  # without the pool and its retries
    if isinstance(error, requests.Timeout) or isinstance(reason, ReadTimeoutError):
        failure = DownloadTimeout(
            f"{url} sent no byte for {patience.timeout:g} s; try again later, or allow more with "
            "timeout="
        )
    elif isinstance(error, _BROKEN) and not isinstance(error, requests.exceptions.SSLError):
        failure = DownloadError(f"the connection to {url} failed: {reason}")
    else:
        return DownloadError(f"{url} cannot be read: {error}")
    failure.passing = True
    return failure


def _state_of(response: requests.Response, url: str) -> tuple[_PartState, int | None]:
    """What the server says of the file, and with which byte of it a part begins, if it says so."""
    if response.headers.get("Content-Encoding", "identity") != "identity":
        return _PartState(url), None  # the numbers are those of the compressed body
    said = re.fullmatch(
        r"bytes (\d{1,18})-\d+/(\d{1,18}|\*)", response.headers.get("Content-Range", "")
    )
    length = said[2] if said else response.headers.get("Content-Length", "")
    state = _PartState(
        url,
        response.headers.get("ETag"),
        response.headers.get("Last-Modified"),
        int(length) if length.isdecimal() else None,
    )
    return state, int(said[1]) if said else None


def check_space(folder: Path, size: int, need: str, remedy: str) -> None:
    """Raises OSError where the folder's disk has less left. need, remedy: the message's two ends."""
    free = shutil.disk_usage(folder).free
    if size > free:
        left = f"{folder} has {free / 1e9:.2f} GB left"
        raise OSError(errno.ENOSPC, f"{need} and {left}; free some{remedy}")
