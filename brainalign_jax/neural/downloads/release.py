"""What is known of a public release: its files, addresses, licence and citation."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ReleaseFile:
    """One file of a release.

    path: where it lies in the release's folder, as the reader expects it ("/" between folders).
    urls: its addresses, the official one first; any other must serve the same bytes. May be empty
    where a listing tells the address. sha256: the official checksum, None where there is none.
    subject: whose data it holds; None for a file that every subject needs. stories: those that it is of, one
    or another; none for a file that every story needs.
    listed_as: regular expression of its path in a listing; its own file name if None.
    unpack_to: for a .zip or .tar(.gz), the folder its members go to; None for any other file.
    provides: glob patterns of what an archive brings; a folder that has them was unpacked by hand.
    required: whether the reader needs it; without it the fetch goes on with a warning.
    """

    path: str
    urls: tuple[str, ...] = ()
    sha256: str | None = None
    subject: str | None = None
    stories: tuple[str, ...] = ()
    listed_as: str | None = None
    unpack_to: str | None = None
    provides: tuple[str, ...] = ()
    required: bool = True


@dataclass(frozen=True)
class Listing:
    """An official list of files that is read when a file is fetched.

    kind: "osf", a node of the OSF's API (addresses and SHA-256), or "links", the links of a page.
    url: the address. files: regular expression of the release's paths it may tell of.
    """

    kind: str
    url: str
    files: str = ".*"


@dataclass(frozen=True)
class Release:
    """A public release.

    name: of its folder, and of the reader that opens it. title, homepage, citation, licence: as its
    authors give them. by_hand: how to get it without this function. notes: what else to know.
    """

    name: str
    title: str
    homepage: str
    citation: str
    licence: str
    by_hand: str
    files: tuple[ReleaseFile, ...]
    listings: tuple[Listing, ...] = ()
    notes: str = ""

    @property
    def subjects(self) -> tuple[str, ...]:
        """The subjects that can be fetched apart from the others; empty if they come together."""
        return tuple(dict.fromkeys(file.subject for file in self.files if file.subject))

    @property
    def stories(self) -> tuple[str, ...]:
        """The stories that can be fetched apart from the others; empty if they come together."""
        return tuple(dict.fromkeys(story for file in self.files for story in file.stories))

    def describe(self) -> str:
        """Title, source, citation and licence in a few lines."""
        lines = [
            f"{self.name}: {self.title} ({self.homepage})",
            f"  citation: {self.citation}",
            f"  licence:  {self.licence}",
        ]
        return "\n".join(lines + ([f"  note:     {self.notes}"] if self.notes else []))
