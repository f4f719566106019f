"""The fenced blocks of a Markdown page, and how they are run: in order, as they are printed.

```bash and ```python are run unless the line above says `<!-- not run: REASON -->`; ```text and ```bibtex
are output and data. Blocks of a page share one shell; a Python block is a program of its own.
"""

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

RUN, SHOWN = ("bash", "python"), ("text", "bibtex")
_FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})\s*(.*?)\s*$")
_REASON = re.compile(r"^<!-- not run: (\S.*?) -->$")
_CLONE = re.compile(r"-m (experiments|benchmarks)\.")
_OUTPUT = re.compile(r"\bout/\w+")
REAL_DATA = "../shared/data"


@dataclass(frozen=True)
class Block:
    """line: of its opening fence, from 1. reason: why it is not run; empty where it is."""

    page: str
    line: int
    language: str
    text: str
    reason: str = ""

    @property
    def runs(self) -> bool:
        return self.language in RUN and not self.reason

    @property
    def needs_clone(self) -> bool:
        return bool(_CLONE.search(self.text))


def blocks(text: str, page: str = "page") -> list[Block]:
    """The fenced blocks of a page.

    Raises: ValueError with page and line for a block of an unknown language, one that is never closed, a
    reason that stands above nothing, and code that is only indented.
    """
    fenced_blocks, lines, at = [], text.splitlines(), 0
    while at < len(lines):
        fence, reason = _FENCE.match(lines[at]), _REASON.match(lines[at])
        if reason and not (at + 1 < len(lines) and _FENCE.match(lines[at + 1])):
            raise ValueError(f"{page}:{at + 1}: a reason must stand directly above a block")
        if not fence:
            blank = at == 0 or not lines[at - 1].strip()
            if blank and re.match(r"( {4,}|\t)\S", lines[at]):
                raise ValueError(f"{page}:{at + 1}: indented code is not run: fence it")
            at += 1
            continue
        begin, (mark, language) = at, fence.groups()
        if language not in RUN + SHOWN:
            raise ValueError(f"{page}:{at + 1}: {language!r} is none of {', '.join(RUN + SHOWN)}")
        at += 1
        while at < len(lines) and lines[at].strip() != mark:
            at += 1
        if at == len(lines):
            raise ValueError(f"{page}:{begin + 1}: the block is never closed")
        above = _REASON.match(lines[begin - 1]) if begin else None
        inside = "\n".join(lines[begin + 1 : at]) + "\n"
        fenced_blocks.append(Block(page, begin + 1, language, inside, above[1] if above else ""))
        at += 1
    return fenced_blocks


def without_data(chosen: Sequence[Block]) -> list[Block]:
    """The blocks that need no real recordings, nor what a block that needs them has written."""
    kept, missing = [], set()
    for block in chosen:
        outputs = set(_OUTPUT.findall(block.text))
        if REAL_DATA in block.text or outputs & missing:
            missing |= outputs
        else:
            kept.append(block)
    return kept


def run_blocks(
    chosen: Sequence[Block], elsewhere: Path, clone: Path, scratch: Path
) -> tuple[str, str]:
    """Run the blocks of a page; those that need a clone there, the others elsewhere.

    Returns: where the first failure is, as PAGE:LINE, and what was printed; ("", output) if there is none.
    """
    script = ["set -euo pipefail"]
    for number, block in enumerate(block for block in chosen if block.runs):
        folder = clone if block.needs_clone else elsewhere
        script += [f"cd '{folder}'", f"echo '@@ {block.page}:{block.line}'"]
        if block.language == "bash":
            script.append(block.text)
            continue
        program = scratch / f"block{number}.py"
        # As typed into a file of the working folder.
        program.write_text(f"import sys\nsys.path[0] = ''\n{block.text}", "utf-8")
        script.append(f"python '{program}'")
    file = scratch / "page.sh"
    file.write_text("\n".join(script), "utf-8")
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        ["bash", file],
        env={**os.environ, "PATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
    )
    if done.returncode == 0:
        return "", done.stdout
    begun = re.findall(r"^@@ (.+)$", done.stdout, re.MULTILINE)
    return (begun or ["before the first block"])[-1], done.stdout
