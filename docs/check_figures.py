"""Whether the measured numbers that README.md and docs/*.md print are those of docs/figures/*.json.

python docs/check_figures.py

A comment directly above a paragraph, a list or a table names a file and its part:

    <!-- figures: pereira180.scores -->

The numbers below it, to the next blank line, are then the part's values, in this order, each rounded as it
is printed. Of a table that holds of every number of its body but for the first column, elsewhere of numbers
with a decimal point; whole numbers between them may be values, or not. A value that is a text stands in the
page as it is. What has measured numbers (two decimals or more) and no such comment is a fault, unless

    <!-- no figures: what the numbers are instead -->

stands above it. `python docs/make_figures.py` writes the files.
"""

import json
import math
import re
import sys
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
FOLDER = REPOSITORY / "docs" / "figures"
# Pages that a command writes, and a test compares with what it would write.
WRITTEN = ("columns.md", "measured.md", "options.md")
MARK = re.compile(r"^<!-- figures: ([\w-]+)\.([\w-]+) -->$")
NO_MARK = re.compile(r"^<!-- no figures: \S.* -->$")
_CLAIMS = re.compile(r"<!-- claims -->.*?<!-- end of claims -->", re.DOTALL)
_FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})")
# What has digits and is no number of its own: code, links, versions, commits, levels of significance, P@10.
_OTHER = re.compile(
    r"`[^`]*`|\]\([^)]*\)|https?://\S+|\b\d+\.\d+\.\d+\b|\b(?=[a-f]*\d)(?=\d*[a-f])[0-9a-f]{7}\b"
    r"|\(3\.\d+ to 3\.\d+\)|\bp ?[<>≤] ?\d*\.\d+|\b[A-Za-z]+@?\d+\b|(?<=below )\.05\b|10[⁻⁰-⁹]+"
)
_NUMBER = re.compile(
    r"(?<![\w.,])[−-]?(?:\d{1,3}(?:,\d{3})+|\d+|(?=\.\d))(?:\.\d+)?(?:e-?\d+)?(?![\w]*\d)"
)
_MEASURED = re.compile(r"\.\d\d")


@dataclass(frozen=True)
class Passage:
    """lines: a paragraph, list or table. line: of its first, from 1. mark: the one above."""

    page: str
    line: int
    lines: tuple[str, ...]
    mark: str = ""

    @property
    def is_table(self) -> bool:
        return len(self.lines) > 1 and set(self.lines[1]) <= set("|-: ")

    def numbers(self) -> list[tuple[str, bool]]:
        """(number as printed, whether it has to be a value) in the order of reading."""
        if self.is_table:
            cells = [row.strip().strip("|").split("|")[1:] for row in self.lines[2:]]
            return [(text, True) for row in cells for cell in row for text in numbers(cell)]
        return [(text, "." in text) for text in numbers("\n".join(self.lines))]

    def is_measured(self) -> bool:
        """Whether it prints a number of two decimals or more, but for levels of significance."""
        return any(
            _MEASURED.search(text) and text not in (".05", "0.05", ".95", "0.95")
            for text in numbers("\n".join(self.lines))
        )


def numbers(text: str) -> list[str]:
    """The numbers of a text as they are printed, without those of code, links, versions and names."""
    return _NUMBER.findall(_OTHER.sub(" ", text))


def passages(text: str, page: str = "page") -> list[Passage]:
    """Paragraphs, lists and tables of a page, without headings, code and what `brainalign claims` writes."""
    text = _CLAIMS.sub(lambda found: "\n" * found[0].count("\n"), text)
    split, lines, mark, fence, start = [], [], "", "", 0
    for number, row in enumerate([*text.splitlines(), ""], 1):
        opened = _FENCE.match(row)
        if fence or opened:
            fence = "" if fence and row.strip() == fence else fence or (opened[1] if opened else "")
            row = ""
        is_mark = bool(MARK.match(row) or NO_MARK.match(row))
        if lines and (is_mark or not row.strip() or row.startswith("#")):
            split.append(Passage(page, start, tuple(lines), mark))
            lines, mark = [], ""
        if is_mark:
            mark = row
        elif row.strip() and not row.startswith(("#", "<!--")):
            start = start if lines else number
            lines.append(row)
        elif mark and not row.strip():
            raise ValueError(f"{page}:{number}: {mark} stands above nothing")
    return split


def value(printed: str) -> float:
    """The number that is printed."""
    return float(printed.replace("−", "-").replace(",", ""))


def is_rounded(printed: str, exact: float, *, whole: bool = True) -> bool:
    """Whether a number is what is printed, rounded as it is; one without decimals exactly, unless `whole`."""
    digits, _, power = printed.partition("e")
    decimals = len(digits.partition(".")[2]) - int(power or 0)
    half = 0.5 * 10.0**-decimals if whole or "." in printed else 0.0
    return math.isfinite(exact) and abs(value(printed) - exact) <= half * (1 + 1e-6) + 1e-12


def compare(passage: Passage, values: dict[str, float | str]) -> list[str]:
    """What differs between a passage and its values, in lines."""
    where = f"{passage.page}:{passage.line}"
    text = " ".join(passage.lines)
    said = [
        f"{where} does not say '{exact}' ({name})"
        for name, exact in values.items()
        if isinstance(exact, str) and exact not in text
    ]
    named = [(name, exact) for name, exact in values.items() if not isinstance(exact, str)]
    # How many values may have been read so far: a whole number between them is one, or is not.
    counts = {0}
    for printed, is_value in passage.numbers():
        before = counts
        counts = {
            count + 1
            for count in before
            if count < len(named) and is_rounded(printed, named[count][1], whole=is_value)
        } | (set() if is_value else before)
        if not counts:
            name, exact = [*named, ("none is left", "nothing")][max(before)]
            return [*said, f"{where} prints {printed}, where the file has {exact} ({name})"]
    if len(named) not in counts:
        name, exact = named[max(counts)]
        said.append(f"{where} lacks {exact} ({name})")
    return said


def read(folder: Path) -> dict[str, dict]:
    """The files of a folder, by name. Raises: ValueError of one that is none."""
    files = {}
    for path in sorted(folder.glob("*.json")):
        content = json.loads(path.read_text("utf-8"))
        lacking = {"origin", "commands", "version", "machine", "figures"} - set(content)
        if lacking:
            raise ValueError(f"{path.name} lacks {', '.join(sorted(lacking))}")
        files[path.stem] = content
    return files


def faults(repository: Path) -> list[str]:
    """What is wrong with the numbers of README.md and docs/*.md, each in a line."""
    files, said = read(repository / "docs" / "figures"), []
    unused = {(name, part) for name, content in files.items() for part in content["figures"]}
    for path in (repository / "README.md", *sorted((repository / "docs").glob("*.md"))):
        if path.name in WRITTEN:
            continue
        for passage in passages(path.read_text("utf-8"), str(path.relative_to(repository))):
            named = MARK.match(passage.mark)
            if named:
                name, part = named.groups()
                values = files.get(name, {"figures": {}})["figures"].get(part)
                if values is None:
                    said.append(f"{passage.page}:{passage.line}: docs/figures has no {name}.{part}")
                    continue
                unused.discard((name, part))
                said += compare(passage, values)
            elif not passage.mark and passage.is_measured():
                said.append(
                    f"{passage.page}:{passage.line} prints measured numbers without <!-- figures: … -->"
                )
    return said + [
        f"docs/figures/{name}.json: no page prints {part}" for name, part in sorted(unused)
    ]


if __name__ == "__main__":
    all_faults = faults(REPOSITORY)
    print(*all_faults, sep="\n", end="\n" if all_faults else "")
    sys.exit(bool(all_faults))
