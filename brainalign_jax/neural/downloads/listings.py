"""What the official lists say of a release's files: addresses and, at the OSF, checksums."""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import NamedTuple
from urllib.parse import parse_qsl, unquote, urlencode, urljoin, urlsplit, urlunsplit

from brainalign_jax.names import check_known
from brainalign_jax.neural.downloads.releases import Listing, Release, ReleaseFile
from brainalign_jax.neural.downloads.transfer import DownloadError, Patience, read_url

_MOST_PAGES = 1000  # of one listing; more is a server that repeats itself
_PAGE_SIZE = "?page%5Bsize%5D=100"


class Listed(NamedTuple):
    """A file of a listing: its path there, its address and, where told, its SHA-256."""

    path: str
    url: str
    sha256: str | None = None


def read_listing(listing: Listing, patience: Patience) -> tuple[Listed, ...]:
    """All files that the listing names, those in folders and components too.

    Raises DownloadError where it cannot be had, ValueError where it is not what it should be.
    """
    readers = {"osf": _osf_files, "links": _page_links}
    check_known("kind", listing.kind, readers, of="listing")
    return tuple(readers[listing.kind](listing.url, patience))


def find_listed(file: ReleaseFile, listed: tuple[Listed, ...]) -> Listed | None:
    """The entry that is this file; None if there is none. Raises ValueError for several."""
    pattern = file.listed_as or rf"(.*/)?{re.escape(posixpath.basename(file.path))}"
    entries = [entry for entry in listed if re.fullmatch(pattern, entry.path)]
    if len({entry.url for entry in entries}) > 1:
        names = ", ".join(entry.path for entry in entries[:5])
        raise ValueError(f"several files of the listing may be {file.path}: {names}")
    return entries[0] if entries else None


class Addresses:
    """Where the files of a release are now: its listings are asked, each once, then the registry."""

    def __init__(self, release: Release, patience: Patience):
        self._release, self._patience = release, patience
        self._read: dict[Listing, tuple[Listed, ...] | Exception] = {}

    def of(self, file: ReleaseFile) -> tuple[list[str], str | None, list[Exception]]:
        """(addresses to try in this order, the official SHA-256 if any, what failed so far)."""
        failures: list[Exception] = []
        for listing in self._release.listings:
            if not re.fullmatch(listing.files, file.path):
                continue
            try:
                listed = self._listed(listing)
                entry = find_listed(file, listed)
            except (DownloadError, ValueError) as error:
                failures.append(error)
                continue
            if entry is not None:
                urls = dict.fromkeys((entry.url, *file.urls))
                return list(urls), file.sha256 or entry.sha256, failures
            names = ", ".join(entry.path for entry in listed[:8]) or "nothing"
            failures.append(DownloadError(f"{listing.url} lists {names}, not {file.path}"))
        return list(file.urls), file.sha256, failures

    def _listed(self, listing: Listing) -> tuple[Listed, ...]:
        if listing not in self._read:
            try:
                self._read[listing] = read_listing(listing, self._patience)
            except (DownloadError, ValueError) as error:
                self._read[listing] = error  # not to be waited for at each file
        if isinstance(listed := self._read[listing], Exception):
            raise listed
        return listed


def _osf_files(node: str, patience: Patience) -> Iterator[Listed]:
    """Files of an OSF node and its components (API version 2: JSON, in pages)."""
    nodes, folders, seen = [node], [], set()
    while nodes or folders:
        if not folders:
            base = nodes.pop().rstrip("/")
            folders.append(f"{base}/files/osfstorage/{_PAGE_SIZE}")
            nodes += [
                f"{base.rpartition('/')[0]}/{_text(child, 'id')}/"
                for child in _osf_items(f"{base}/children/{_PAGE_SIZE}", patience, seen)
            ]
        for item in _osf_items(folders.pop(), patience, seen):
            if _value(item, "attributes", "kind") == "folder":
                folders.append(_text(item, "relationships", "files", "links", "related", "href"))
                continue
            path = _value(item, "attributes", "materialized_path")
            if not isinstance(path, str):
                path = _text(item, "attributes", "name")
            digest = _value(item, "attributes", "extra", "hashes", "sha256")
            yield Listed(path.lstrip("/"), _text(item, "links", "download"), _sha256(digest, path))


def _osf_items(url: str | None, patience: Patience, seen: set[str]) -> Iterator[dict]:
    while url:
        if url in seen or len(seen) >= _MOST_PAGES:
            raise ValueError(f"the listing does not end: {url} comes again; try again later")
        seen.add(url)
        body = read_url(url, patience)
        try:
            page = json.loads(body)
            items, url = list(page["data"]), (page.get("links") or {}).get("next")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(
                f"{url} is no list of the OSF's API ({error!r}); try again later, or get the files "
                "by hand"
            ) from error
        yield from items


def _value(item: object, *keys: str) -> object:
    for key in keys:
        item = item.get(key) if isinstance(item, dict) else None
    return item


def _text(item: object, *keys: str) -> str:
    value = _value(item, *keys)
    if not isinstance(value, str):
        raise ValueError(
            f"an entry of the OSF's list has no {'.'.join(keys)}; try again later, or get the files "
            "by hand"
        )
    return value


def _sha256(value: object, path: str) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or not re.fullmatch(r"[0-9a-fA-F]{64}", value):
        raise ValueError(f"the OSF's list gives {value!r} as SHA-256 of {path}; get it by hand")
    return value.lower()


class _Links(HTMLParser):
    def __init__(self):
        super().__init__()
        self.targets: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.targets += [value for name, value in attrs if tag == "a" and name == "href" and value]


def _page_links(url: str, patience: Patience) -> Iterator[Listed]:
    """The links of a page; those to Dropbox as direct downloads instead of its preview."""
    parser = _Links()
    parser.feed(read_url(url, patience).decode("utf-8", "replace"))
    for target in parser.targets:
        parts = urlsplit(urljoin(url, target.strip()))
        if parts.scheme not in ("http", "https") or not posixpath.basename(parts.path):
            continue
        if parts.netloc.endswith("dropbox.com"):
            query = dict(parse_qsl(parts.query)) | {"dl": "1"}
            parts = parts._replace(query=urlencode(query))
        yield Listed(unquote(posixpath.basename(parts.path)), urlunsplit(parts))
