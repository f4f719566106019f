"""What the XML of GIFTI and CIFTI-2 files declares, looked at before nibabel decodes any of it."""

from __future__ import annotations

import base64
import math
import zlib
from pathlib import Path
from typing import Any
from xml.parsers import expat

from brainalign_jax.machine import free_memory

_MOST_AXES = 6  # GIFTI 1.0: Dimensionality
_PIECE = 2**20


def gifti_problem(path: Path) -> str:
    """Why a GIFTI file must not be decoded; "" if it may.

    Its arrays must be in the file (an external one may be any file of this machine), hold no more
    than their dimensions say, and fit into the memory that is free. Raises what the XML parser does.
    """
    from nibabel.openers import ImageOpener

    walk = _Walk(free_memory())
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = walk.start
    parser.EndElementHandler = walk.end
    parser.CharacterDataHandler = walk.text
    parser.EntityDeclHandler = walk.entity
    with ImageOpener(str(path)) as file:
        while not walk.problem and (piece := file.read(_PIECE)):
            walk.take(len(piece))
            parser.Parse(piece)
        if not walk.problem:
            parser.Parse(b"", True)
    return walk.problem


def cifti_problem(header: bytes, most: int) -> str:
    """Why the XML of a CIFTI-2 file must not be read; "" if it may.

    most: bytes that the file can hold; a grayordinate has one or more, and nibabel takes memory for
    each. Raises what the XML parser does.
    """
    counts, problems = [], []

    def start(name: str, attributes: dict[str, str]) -> None:
        if name == "BrainModel":
            counts.append(int(attributes.get("IndexCount", 0)))

    parser = expat.ParserCreate()
    parser.StartElementHandler = start
    parser.EntityDeclHandler = lambda *_: problems.append("declares entities; get it again")
    parser.Parse(header.rstrip(b"\0"), True)
    if min(counts, default=0) < 0 or sum(counts) > most:
        problems.append(
            f"declares {sum(counts)} grayordinates, more than it has bytes for; get it again"
        )
    return problems[0] if problems else ""


class _Walk:
    """The handlers of one parse. problem: the first thing wrong; left: bytes of memory that are free."""

    def __init__(self, free: int) -> None:
        self.problem = ""
        self._free = self._left = free
        self._packed = False
        self._declared = 0  # bytes of the array that is open
        self._data: list[str] | None = None

    def take(self, n_bytes: int) -> None:
        self._left -= n_bytes
        if self._left < 0 and not self.problem:
            self.problem = (
                f"declares more than the {self._free / 2**30:.1f} GiB of memory that are free: it is "
                "damaged, or needs a larger machine"
            )

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if name == "Data":
            self._data = []
        if name != "DataArray" or self.problem:
            return
        from nibabel.gifti.util import gifti_encoding_codes
        from nibabel.nifti1 import data_type_codes

        n_axes = int(attributes.get("Dimensionality", 0))
        if not 0 <= n_axes <= _MOST_AXES:
            self.problem = f"declares an array of {n_axes} axes, more than GIFTI has; get it again"
            return
        kind = gifti_encoding_codes.label[attributes.get("Encoding", "GIFTI_ENCODING_B64GZ")]
        if kind == "External":
            self.problem = (
                "keeps its values in another file (ExternalFileBinary); save it with the values inside, "
                "as Base64Binary or GZipBase64Binary"
            )
            return
        sizes = [int(attributes[f"Dim{axis}"]) for axis in range(n_axes)]
        stored: Any = data_type_codes.dtype[attributes.get("DataType", "NIFTI_TYPE_FLOAT32")]
        self._packed, self._declared = kind == "B64GZ", math.prod(sizes) * stored.itemsize
        if min(sizes, default=0) < 0:
            self.problem = f"declares an array of shape {sizes}; get it again"
        # Decoded, copied into an array of its own, and joined with the others.
        self.take(3 * self._declared)

    def text(self, text: str) -> None:
        if self._data is not None:
            self._data.append(text)

    def end(self, name: str) -> None:
        if name != "Data":
            return
        text, self._data = "".join(self._data or ()), None
        if self._packed and not self.problem:
            self._inflate(base64.b64decode(text.encode("ascii")))

    def _inflate(self, packed: bytes) -> None:
        inflate, count = zlib.decompressobj(), 0
        while packed and not inflate.eof:
            count += len(inflate.decompress(packed, _PIECE))
            packed = inflate.unconsumed_tail
            if count > self._declared:
                self.problem = (
                    f"holds more than the {self._declared} bytes that an array's dimensions declare: "
                    "it is damaged; get it again"
                )
                return

    def entity(self, *declaration: Any) -> None:
        self.problem = self.problem or "declares entities, which GIFTI has no use for; get it again"
