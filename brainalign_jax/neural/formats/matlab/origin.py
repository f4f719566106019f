"""What the readers of MATLAB files say about a file that they refuse."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from brainalign_jax.neural.formats.arrays import check_memory


class MatlabError(ValueError):
    """A MATLAB file is damaged or holds what cannot be read; the message names it and the remedy."""


class Origin(NamedTuple):
    """path: the file; source: where to get it again, for messages, or ''."""

    path: Path
    source: str = ""

    def damaged(self, what: object) -> MatlabError:
        """The error for a file whose content contradicts itself."""
        again = f"get it again from {self.source}" if self.source else "get or save it again"
        return MatlabError(f"{self.path} is truncated or damaged ({what}); delete it and {again}")

    def unsupported(self, what: str, remedy: str) -> MatlabError:
        """The error for a sound file with content that is not read here."""
        return MatlabError(f"{self.path}: {what}; {remedy}")

    def check_memory(self, n_bytes: int, name: str) -> None:
        """Raise MatlabError where a variable needs more memory than is free, before it is taken."""
        try:
            check_memory(n_bytes, self.path, f"{name!r}")
        except ValueError as error:
            raise MatlabError(str(error)) from None

    def no_matrix(self, name: str, shape: tuple[int, ...]) -> MatlabError:
        """The error for a variable that has no columns of numbers."""
        size = " x ".join(map(str, shape))
        return self.unsupported(f"{name!r} ({size}) is no matrix of numbers", "use read()")

    def missing(self, name: str, names: Iterable[str]) -> MatlabError:
        """The error for a variable that the file does not hold."""
        held = ", ".join(names) or "no variable"
        again = f", get it again from {self.source}" if self.source else ""
        return MatlabError(
            f"{self.path} has no variable {name!r}, it holds {held}; "
            f"it is of another release or was saved in part{again}"
        )
