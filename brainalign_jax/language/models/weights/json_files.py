"""The JSON files of a checkpoint, which are foreign text: bounded in size and in nesting."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_MOST_MEGABYTES = 64  # the index of the largest checkpoints has about ten


def read_json(path: Path, *, kind: type = dict) -> Any:
    """What a JSON file holds, an object unless another `kind` is given.

    Raises: ValueError, with the file and the remedy, where it is none, is damaged, nested deeper than
    a reader can follow, or larger than such a file can be.
    """
    megabytes = path.stat().st_size / 1e6
    if megabytes > _MOST_MEGABYTES:
        raise ValueError(
            f"{path} has {megabytes:.0f} MB, more than the {_MOST_MEGABYTES} MB that such a file can "
            "need; it is another file under this name. Download it again."
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except RecursionError:
        raise ValueError(
            f"{path} is nested deeper than the file of a checkpoint ever is. Download it again."
        ) from None
    except ValueError as error:
        raise ValueError(f"{path} is truncated or corrupt ({error}). Download it again.") from error
    if not isinstance(content, kind):
        raise ValueError(
            f"{path} is truncated or corrupt (a {type(content).__name__}, not a JSON "
            f"{'object' if kind is dict else 'list'}). Download it again."
        )
    return content
