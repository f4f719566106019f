"""The elements of MATLAB level-5 files: tags, headers, and a proof that a variable is whole.

SciPy indexes tables by the types it finds, recurses as deep as a file nests and allocates what a
file declares. On damaged content it may crash rather than raise, so everything is checked here
before it sees a byte. Source: "MAT-File Format", The MathWorks.
"""

from __future__ import annotations

import math
import struct
from typing import NamedTuple

MATRIX, COMPRESSED = 14, 15
# Numbers as they are stored, by the type in their tag.
STORED = {
    1: "i1",
    2: "u1",
    3: "i2",
    4: "u2",
    5: "i4",
    6: "u4",
    7: "f4",
    9: "f8",
    12: "i8",
    13: "u8",
}
# Numbers as MATLAB holds them, by the class of their array.
CLASSES = {
    6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"
}  # fmt: skip
CELL, STRUCT, OBJECT, CHAR, SPARSE, FUNCTION, OPAQUE = 1, 2, 3, 4, 5, 16, 17
UNSUPPORTED = {
    OBJECT: "an object of a MATLAB class",
    SPARSE: "a sparse matrix",
    FUNCTION: "a function handle",
    OPAQUE: "an object of a MATLAB class (a string, table or the like)",
}
LOGICAL, COMPLEX = 0x200, 0x800
# Bytes a character, by the type in its tag; UTF-8 (16) varies.
_CHARACTERS = {1: 1, 2: 1, 4: 2, 17: 2, 18: 4}
# Compiled: a table of words has some 100,000 tags.
_TAG = {order: struct.Struct(f"{order}2I").unpack_from for order in "<>"}
_PLAIN = {order: struct.Struct(f"{order}10I").unpack_from for order in "<>"}
_MAX_DEPTH = 64  # of nested cells and structs
_MAX_BARE = 65536  # elements of an array that are not stored: structs without fields, blank text


class Malformed(ValueError):
    """A variable contradicts itself; the message says where, the file is named by the caller."""


class Unsupported(ValueError):
    """A variable is, or contains, something that is not read here; the message says what."""


class Tag(NamedTuple):
    """type: of the stored data; start, count: bytes of the data; next: of the element after it."""

    type: int
    start: int
    count: int
    next: int


class Header(NamedTuple):
    """What precedes the content of an array: its class, flags, shape and name; position: behind it."""

    cls: int
    flags: int
    shape: tuple[int, ...]
    name: str
    position: int


def read_tag(buffer, position: int, end: int, order: str) -> Tag:
    """The tag at `position`, in the full or the small format; its data must end before `end`."""
    if position + 8 > min(end, len(buffer)):
        raise Malformed(f"it ends within the tag at byte {position}")
    kind, count = _TAG[order](buffer, position)
    if kind >> 16:  # up to four bytes of data, within the tag itself
        kind, count = kind & 0xFFFF, kind >> 16
        if count > 4:
            raise Malformed(f"a small element of {count} bytes at byte {position}")
        return Tag(kind, position + 4, count, position + 8)
    start = position + 8
    if start + count > end:
        raise Malformed(f"{count} bytes declared at byte {position} where {end - start} are left")
    return Tag(kind, start, count, start + count + -count % 8)


def read_header(buffer, position: int, end: int, order: str) -> Header:
    """Flags, dimensions and name of the array whose content starts at `position`."""
    if position + 40 <= min(end, len(buffer)):
        # The header of a matrix without a name, which is what cells and structs hold.
        *tags, rows, columns, name, letters = _PLAIN[order](buffer, position)
        usual = (tags[:2], tags[4:], name, letters) == ([6, 8], [5, 8], 1, 0)
        bits = tags[2]
        if usual and max(rows, columns) < 2**31 and bits & 0xFF != OPAQUE:
            return Header(bits & 0xFF, bits & 0xFF00, (rows, columns), "", position + 40)
    flags = read_tag(buffer, position, end, order)
    if flags[:3] != (6, position + 8, 8) or flags.next > len(buffer):
        raise Malformed(f"no array flags at byte {position}")
    bits = struct.unpack_from(f"{order}I", buffer, flags.start)[0]
    cls, shape, place = bits & 0xFF, (), flags.next
    if cls != OPAQUE:
        dims = read_tag(buffer, place, end, order)
        rank = dims.count // 4
        if dims.type not in (5, 6) or dims.count % 4 or not 2 <= rank <= 32:
            raise Malformed(f"no dimensions of an array at byte {place}")
        if dims.start + dims.count > len(buffer):
            raise Malformed(f"it ends within the dimensions at byte {place}")
        shape = struct.unpack_from(f"{order}{rank}i", buffer, dims.start)
        if min(shape) < 0:
            raise Malformed(f"dimensions {shape} at byte {place}")
        place = dims.next
    name = read_tag(buffer, place, end, order)
    text = bytes(buffer[name.start : name.start + name.count])
    if name.type not in (1, 16) or len(text) != name.count or not text.isascii():
        raise Malformed(f"no name of an array at byte {place}")
    return Header(cls, bits & 0xFF00, shape, text.decode("ascii"), name.next)


def numbers_tag(buffer, header: Header, end: int, order: str) -> Tag:
    """The tag of a numeric array's values, checked against its class and shape."""
    if header.flags & COMPLEX:
        raise Unsupported("complex numbers")
    values = read_tag(buffer, header.position, end, order)
    if values.type not in STORED:
        raise Malformed(f"numbers of unknown type {values.type} at byte {header.position}")
    if values.count != math.prod(header.shape) * int(STORED[values.type][1]):
        raise Malformed(f"{values.count} bytes of type {values.type} for shape {header.shape}")
    return values


def check_variable(buffer, start: int, order: str) -> None:
    """Prove that the variable which fills `buffer` from byte `start` can be read by SciPy.

    Raises Malformed for a type, a length or a shape that contradicts the rest, Unsupported for
    what `open_matlab` does not read, however deep it is nested.
    """
    end = _check_matrix(buffer, start, len(buffer), order, 0)
    # The last padding of a variable may be missing.
    if not -8 < end - len(buffer) < 8:
        raise Malformed(f"its content ends at byte {end} of {len(buffer)}")


def _check_matrix(buffer, position: int, limit: int, order: str, depth: int) -> int:
    """Check the array at `position`; the position behind it."""
    if position + 8 > limit:
        raise Malformed(f"it ends where an array should start, at byte {position}")
    kind, count = _TAG[order](buffer, position)
    end = position + 8 + count
    if kind != MATRIX or end > limit:
        raise Malformed(f"no array of at most {limit - position} bytes at byte {position}")
    if depth > _MAX_DEPTH:
        raise Malformed(f"cells or structs nested {depth} deep")
    if count == 0 and depth:
        return end  # an empty cell
    header = read_header(buffer, position + 8, end, order)
    if header.cls in CLASSES:
        place = numbers_tag(buffer, header, end, order).next
    elif header.cls == CHAR:
        place = _check_characters(buffer, header, end, order)
    elif header.cls in (CELL, STRUCT):
        place, children = _children(buffer, header, end, order)
        if children * 8 > end - place:
            raise Malformed(f"{children} elements declared for {end - place} bytes")
        for _ in range(children):
            place = _check_matrix(buffer, place, end, order, depth + 1)
    elif header.cls in UNSUPPORTED:
        raise Unsupported(UNSUPPORTED[header.cls])
    else:
        raise Malformed(f"an array of unknown class {header.cls} at byte {position}")
    # SciPy goes on where the content ends, whatever the parent says.
    if depth and place != end:
        raise Malformed(f"an array of {count} bytes ends at byte {place}, not {end}")
    return place


def _check_characters(buffer, header: Header, end: int, order: str) -> int:
    text, length = read_tag(buffer, header.position, end, order), math.prod(header.shape)
    if text.type != 16 and text.type not in _CHARACTERS:
        raise Malformed(f"text of unknown type {text.type} at byte {header.position}")
    if text.type == 16:
        stored = bytes(buffer[text.start : text.start + text.count])
        # MATLAB counts UTF-16 units, SciPy writes code points.
        characters = stored.decode("utf-8", "replace")
        fits = length in (len(characters), len(characters.encode("utf-16-le")) // 2)
    else:
        fits = text.count == length * _CHARACTERS[text.type]
    # Some programs write blank text as no bytes; strings of no width still count as one letter each.
    rows = math.prod(header.shape[:-1])
    if not fits and (text.count or length > _MAX_BARE) or not length and rows > _MAX_BARE:
        raise Malformed(f"{text.count} bytes of text for shape {header.shape}")
    return text.next


def _children(buffer, header: Header, end: int, order: str) -> tuple[int, int]:
    """Where the elements of a cell or struct array start, and how many there are."""
    length = math.prod(header.shape)
    if header.cls == CELL:
        return header.position, length
    width = read_tag(buffer, header.position, end, order)
    if width.type not in (5, 6) or width.count != 4:
        raise Malformed(f"no length of field names at byte {header.position}")
    size = struct.unpack_from(f"{order}i", buffer, width.start)[0]
    names = read_tag(buffer, width.next, end, order)
    text = bytes(buffer[names.start : names.start + names.count])
    if names.type not in (1, 16) or size < 1 or names.count % size or not text.isascii():
        raise Malformed(f"no field names at byte {width.next}")
    fields = [text[first : first + size] for first in range(0, names.count, size)]
    if not all(b"\0" in field and field[0] for field in fields):
        raise Malformed(f"field names without an end at byte {width.next}")
    if not fields and length > _MAX_BARE:
        raise Malformed(f"{length} structs without fields")
    return names.next, length * len(fields)
