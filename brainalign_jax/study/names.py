"""Names of models within a study: an untrained twin's prefix, and the seed of its weights."""

import re

UNTRAINED = "untrained:"
_SEED = re.compile(r" \(seed (\d+)\)$")


def with_seed(name: str, seed: int) -> str:
    """The name of the untrained twin with another seed of its weights."""
    return f"{name} (seed {seed})"


def without_seed(name: str) -> str:
    """An untrained twin's name as `language.embed` knows it."""
    return _SEED.sub("", name)


def seed_of(name: str) -> int | None:
    """The seed that is part of an untrained twin's name, or None."""
    match = _SEED.search(name)
    return int(match.group(1)) if match else None
