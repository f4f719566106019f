"""The order of a struct's fields in a MATLAB 7.3 file, read past the HDF5 library.

MATLAB keeps it in an attribute of strings of variable length, which lie in a global heap without
checksum. On a damaged heap the library loops for ever or follows wild pointers, so the bytes are
parsed here. Source: "HDF5 File Format Specification", version 3.0 (The HDF Group): object header
version 1, attribute message, global heap.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

_NAME = b"MATLAB_fields"
_ATTRIBUTE, _CONTINUATION = 0x0C, 0x10
_MAX_BLOCKS, _MAX_BLOCK, _MAX_HEAP = 256, 2**17, 2**24  # of a header, bytes of one; of a heap
_REFERENCE = struct.Struct("<IQI")  # letters, address of the heap, index in it


class HeapReader:
    """path: the file; base: where its HDF5 starts, which all addresses count from."""

    def __init__(self, path: Path, base: int) -> None:
        self._path, self._base = path, base
        self._heaps: dict[int, dict[int, bytes]] = {}

    def field_names(self, address: int, count: int) -> list[str] | None:
        """The `count` names in MATLAB_fields of the object at `address`.

        None for a header of a newer version, which MATLAB does not write. Raises ValueError where
        the header or the heap contradicts itself.
        """
        if self._read(address, 1) != b"\x01":
            return None
        for message in self._attributes(address):
            version, _, *sizes = struct.unpack_from("<2B3H", message)
            start = {1: 8, 2: 8, 3: 9}.get(version)
            if start is None:
                raise ValueError(f"an attribute of version {version}")
            if message[start : start + sizes[0]].rstrip(b"\0") != _NAME:
                continue
            # Name, type and extent precede the values; the first version pads them to 8 bytes.
            start += sum(size + (-size % 8 if version == 1 else 0) for size in sizes)
            if start + count * _REFERENCE.size > len(message):
                raise ValueError("field names beyond their attribute")
            return [
                self._text(*_REFERENCE.unpack_from(message, start + index * _REFERENCE.size))
                for index in range(count)
            ]
        raise ValueError("no field names in the header of a struct")

    def _attributes(self, address: int) -> Iterator[bytes]:
        """The attribute messages of an object header of version 1."""
        size = struct.unpack("<8xI", self._read(address, 12))[0]
        blocks = [(address + 16, size)]
        for number, (place, length) in enumerate(blocks):
            if number > _MAX_BLOCKS or length > _MAX_BLOCK:
                raise ValueError(f"an object header of {number} blocks, {length} bytes in one")
            block, position = self._read(place, length), 0
            while position + 8 <= length:
                kind, size, flags = struct.unpack_from("<2HB", block, position)
                message = block[position + 8 : position + 8 + size]
                if len(message) < size:
                    raise ValueError("a message beyond its object header")
                if kind == _CONTINUATION and size >= 16:
                    blocks.append(struct.unpack_from("<2Q", message))
                elif kind == _ATTRIBUTE and size >= 8 and not flags & 2:  # 2: kept elsewhere
                    yield message
                position += 8 + size

    def _text(self, length: int, address: int, index: int) -> str:
        if address not in self._heaps:
            self._heaps[address] = self._read_heap(address)
        stored = self._heaps[address].get(index, b"")
        if not 0 < length <= len(stored):
            raise ValueError("a field name that its heap does not hold")
        return stored[:length].decode("ascii")

    def _read_heap(self, address: int) -> dict[int, bytes]:
        signature, version, size = struct.unpack("<4sB3xQ", self._read(address, 16))
        if signature != b"GCOL" or version != 1 or size > _MAX_HEAP:
            raise ValueError("no heap where field names should lie")
        heap, position, objects = self._read(address, size), 16, {}
        while position + 16 <= size:
            index, count = struct.unpack_from("<H6xQ", heap, position)
            if index == 0:  # the free space at the end
                break
            content = heap[position + 16 : position + 16 + count]
            if len(content) < count:
                raise ValueError("a heap whose objects exceed it")
            objects[index] = content
            position += 16 + count + -count % 8
        return objects

    def _read(self, address: int, size: int) -> bytes:
        if address + self._base > 2**62:
            raise ValueError(f"address {address}")
        with self._path.open("rb", buffering=0) as file:
            file.seek(self._base + address)
            content = file.read(size)
        if len(content) < size:
            raise ValueError(f"{size} bytes at {address} are beyond the end of the file")
        return content
