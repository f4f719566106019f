"""Says what is wrong with a built site, offline: `python docs/check_site.py docs/_build/html`.

Every link leads to a page and an anchor that are there, every picture has a text in its place, nothing is
loaded from elsewhere, and no page is larger than 3 MB with what it loads.
"""

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LARGEST = 3_000_000  # bytes of a page with its pictures, styles and scripts
_LOADED = {
    "img": "src",
    "script": "src",
    "link": "href",
    "source": "src",
    "iframe": "src",
    "video": "src",
}
_VOID = {
    "canonical",
    "next",
    "prev",
    "index",
    "search",
    "author",
    "help",
}  # links that load nothing


class Page(HTMLParser):
    """anchors: ids. links: targets of <a>. loaded: what the page loads. bare: pictures without a text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.bare: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Sorts what a tag points to."""
        given = {name: value or "" for name, value in attrs}
        self.anchors.update(given[name] for name in ("id", "name") if name in given)
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        if tag == "img" and not given.get("alt", "").strip():
            self.bare.append(given.get("src", ""))
        if (
            tag in _LOADED
            and _LOADED[tag] in given
            and not set(given.get("rel", "").split()) & _VOID
        ):
            self.loaded.append(given[_LOADED[tag]])


def faults(site: Path) -> list[str]:
    """What is wrong with the pages of a folder, each in a line."""
    pages = {path.resolve(): Page(path.read_text("utf-8")) for path in sorted(site.rglob("*.html"))}
    if not pages:
        return [f"{site} holds no page"]
    said = []
    for path, page in pages.items():
        name = path.relative_to(site.resolve())
        size = path.stat().st_size
        for target in dict.fromkeys(page.loaded):
            if target.startswith("data:"):
                continue
            if urlsplit(target).scheme or target.startswith("//"):
                said.append(f"{name} loads {target} from elsewhere")
                continue
            file = _file(path, target)
            if file.is_file():
                size += file.stat().st_size
            else:
                said.append(f"{name} loads {target}, which is not there")
        if size > LARGEST:
            said.append(
                f"{name} has {size / 1e6:.1f} MB with what it loads: more than {LARGEST / 1e6:.0f}"
            )
        said += [f"{name} shows {source} without a text in its place" for source in page.bare]
        for target in dict.fromkeys(page.links):
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                continue
            file = _file(path, target)
            anchor = unquote(parts.fragment)
            if not file.is_file():
                said.append(f"{name} links to {target}, which is not there")
            elif anchor and file in pages and anchor not in pages[file].anchors:
                said.append(f"{name} links to {target}, where no such heading is")
    for style in site.rglob("*.css"):
        text = style.read_text("utf-8")
        if any(
            sign in text
            for sign in ("@import url(http", "url(http", 'url("http', "url('http", "url(//")
        ):
            said.append(f"{style.relative_to(site)} loads from elsewhere")
    return said


def _file(page: Path, target: str) -> Path:
    """The file that a target of a page is."""
    path = unquote(urlsplit(target).path)
    return (page.parent / path).resolve() if path else page


if __name__ == "__main__":
    found_faults = faults(Path(sys.argv[1]))
    print(*found_faults, sep="\n", end="\n" if found_faults else "")
    sys.exit(bool(found_faults))
