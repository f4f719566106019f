"""The names of the data sets, without importing their readers."""

from __future__ import annotations

import re
from pathlib import Path


def dataset_names() -> tuple[str, ...]:
    """The data sets that come with the package: `NAME = "..."` above `@register(NAME)` in `readers`.

    `list_datasets` also knows those that a user registered, but imports every reader.
    """
    sources = (
        path.read_text("utf-8") for path in Path(__file__).with_name("readers").rglob("*.py")
    )
    registered = re.compile(r'^NAME = "(\w+)"$.*^@register\(NAME\)$', re.MULTILINE | re.DOTALL)
    matches = map(registered.search, sources)
    return tuple(sorted(match.group(1) for match in matches if match))
