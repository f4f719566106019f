"""Files of one JSON object a line: foreign text, bounded before it is read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_MOST_BYTES = 1 << 28
_MOST_LINE = 1 << 20


def json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(number from 1, object) of each line that is not empty.

    Raises: FileNotFoundError; ValueError with file and line, where one is too long, no JSON object, or no
      Unicode.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}; give one with a JSON object a line")
    if path.stat().st_size > _MOST_BYTES:
        raise ValueError(
            f"{path} has {path.stat().st_size / 1e6:.0f} MB, more than the {_MOST_BYTES / 1e6:.0f} MB that "
            "are read at once; give a part of it"
        )
    with path.open("rb") as stream:
        number = 0
        while line := stream.readline(_MOST_LINE + 1):
            number += 1
            if len(line) > _MOST_LINE:
                raise ValueError(f"{path}:{number} is longer than {_MOST_LINE} bytes; correct it")
            if not line.strip():
                continue
            try:
                content = json.loads(line)
                json.dumps(content, ensure_ascii=False).encode()
            except UnicodeEncodeError:
                raise ValueError(
                    f"{path}:{number} has half a character (a surrogate, \\ud800 to \\udfff); correct it"
                ) from None
            except (ValueError, RecursionError) as error:
                raise ValueError(
                    f"{path}:{number} is no JSON ({str(error)[:80]}); correct it"
                ) from None
            if not isinstance(content, dict):
                raise ValueError(f"{path}:{number} is no JSON object; give one a line")
            yield number, content


def text_of(content: dict[str, Any], name: str, place: str, *, most: int = 20_000) -> str:
    """The text under a name, its white space made single blanks.

    Raises: ValueError, with the place, where there is none, or a longer one.
    """
    text = content.get(name)
    if not isinstance(text, str) or not text.strip() or len(text) > most:
        raise ValueError(f"{place} has no text {name!r} of up to {most} characters; correct it")
    return " ".join(text.split())
