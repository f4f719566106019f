import struct
import tracemalloc
import zlib

import numpy as np
import pytest
import scipy.io

from brainalign_jax.neural.formats import arrays
from brainalign_jax.neural.formats.matlab import open_matlab

TYPES = {"i1": 1, "u1": 2, "i2": 3, "u2": 4, "i4": 5, "u4": 6, "f4": 7, "f8": 9, "i8": 12, "u8": 13}
CLASSES = {"f8": 6, "f4": 7, "i1": 8, "u1": 9, "i2": 10, "u2": 11, "i4": 12, "u4": 13, "i8": 14}
CELL, STRUCT, CHAR = 1, 2, 4


def element(kind, content, order="<", small=True):
    if small and 0 < len(content) <= 4:
        return struct.pack(f"{order}I", len(content) << 16 | kind) + content.ljust(4, b"\0")
    return struct.pack(f"{order}2I", kind, len(content)) + content + bytes(-len(content) % 8)


def array(cls, shape, content, *, name="", order="<", flags=0):
    body = element(6, struct.pack(f"{order}2I", cls | flags, 0), order)
    body += element(5, struct.pack(f"{order}{len(shape)}i", *shape), order)
    body += element(1, name.encode(), order) + content
    return element(14, body, order)


def numbers(values, stored, *, cls="f8", name="", order="<", flags=0):
    values = np.asarray(values)
    content = element(TYPES[stored], values.astype(order + stored).tobytes(order="F"), order)
    return array(CLASSES[cls], values.shape, content, name=name, order=order, flags=flags)


def compress(variable, order="<"):
    content = zlib.compress(variable, 1)
    return struct.pack(f"{order}2I", 15, len(content)) + content


def write(path, *variables, order="<"):
    version = b"\x00\x01IM" if order == "<" else b"\x01\x00MI"
    path.write_bytes(b"MATLAB 5.0 MAT-file, written by a test".ljust(124) + version)
    with path.open("ab") as file:
        file.write(b"".join(variables))
    return path


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("stored", TYPES)
@pytest.mark.parametrize("cls", ["f8", "f4", "i2"])
def test_integers_stored_in_fewer_bytes_come_in_the_class_of_their_array(
    tmp_path, stored, cls, order, packed
):
    matrix = np.arange(15).reshape(5, 3) * 8
    variable = numbers(matrix, stored, cls=cls, name="data", order=order)
    variable = compress(variable, order) if packed else variable
    with open_matlab(write(tmp_path / "x.mat", variable, order=order)) as file:
        for read_values in (file.read("data"), *file.columns("data").blocks(3)):
            assert read_values.dtype == np.dtype(cls) and read_values.dtype.isnative
            np.testing.assert_array_equal(read_values, matrix)
        single = [block[:, 0] for block in file.columns("data").blocks(1)]
        np.testing.assert_array_equal(np.stack(single, axis=1), matrix)


@pytest.mark.parametrize("order", "<>")
def test_values_within_a_tag(tmp_path, order):
    path = write(tmp_path / "x.mat", numbers([[3, 1]], "i2", name="data", order=order), order=order)
    with open_matlab(path) as file:
        np.testing.assert_array_equal(file.read("data"), [[3.0, 1.0]])
        np.testing.assert_array_equal(
            np.concatenate(list(file.columns("data").blocks(1)), axis=1), [[3.0, 1.0]]
        )


def test_the_last_padding_of_a_variable_may_be_missing(tmp_path):
    body = numbers(np.arange(5)[None], "u1", name="data")[8:-3]
    path = write(tmp_path / "x.mat", compress(struct.pack("<2I", 14, len(body)) + body))
    with open_matlab(path) as file:
        np.testing.assert_array_equal(file.read("data"), np.arange(5.0)[None])


def test_logical_values_are_boolean(tmp_path):
    path = write(tmp_path / "x.mat", numbers([[1, 0, 2]], "u1", cls="u1", name="a", flags=0x200))
    with open_matlab(path) as file:
        assert file.read("a").dtype == bool
        assert file.read("a").tolist() == [[True, False, True]]


def test_a_small_variable_is_read_without_the_large_one(tmp_path):
    rng = np.random.default_rng(0)
    data = compress(numbers(rng.normal(size=(50, 400)), "f8", name="data"))
    broken = data[:5000] + bytes(1000) + data[6000:]
    word = array(CHAR, (1, 3), element(16, b"the"), name="word")
    path = write(tmp_path / "x.mat", broken, compress(word))
    with open_matlab(path) as file:
        assert file.shape("data") == (50, 400)
        assert file.read("word").tolist() == ["the"]
        with pytest.raises(ValueError, match=r"x\.mat is truncated or damaged"):
            file.read("data")
        with pytest.raises(ValueError, match=r"x\.mat is truncated or damaged"):
            list(file.columns("data").blocks(10))


def test_columns_take_a_few_megabytes(tmp_path):
    matrix = np.zeros((1000, 8000))
    matrix[:, ::7] = 1.5
    path = write(tmp_path / "x.mat", compress(numbers(matrix, "f8", name="data")))
    source = open_matlab(path).columns("data")
    tracemalloc.start()
    total = sum(float(block.sum()) for block in source.blocks(100))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total == matrix.sum()
    assert peak < matrix.nbytes / 3


def test_the_last_block_comes_after_the_checksum(tmp_path):
    matrix = np.random.default_rng(0).normal(size=(1000, 600))
    variable = compress(numbers(matrix, "f8", name="data"))
    wrong = variable[:-1] + bytes([variable[-1] ^ 1])
    blocks = open_matlab(write(tmp_path / "x.mat", wrong)).columns("data").blocks(200)
    np.testing.assert_array_equal(next(blocks), matrix[:, :200])
    assert next(blocks).shape == (1000, 200)
    with pytest.raises(ValueError, match="check"):
        next(blocks)


GOOD = numbers(np.arange(12.0).reshape(3, 4), "f8", name="data")


def patched(variable, position, *values):
    content = bytearray(variable)
    struct.pack_into(f"<{len(values)}I", content, position, *values)
    return bytes(content)


# GOOD: tag 0, flags 8 (value 16), dimensions 24 (values 32), name 40 (small: 56), values.
@pytest.mark.parametrize(
    "variables",
    {
        "cut": [GOOD[:-8]],
        "cut within a tag": [GOOD, GOOD[:5]],
        "unknown element": [patched(GOOD, 0, 99)],
        "no bytes": [GOOD, bytes(8)],
        "huge": [patched(GOOD, 4, 2**32 - 8)],
        "no flags": [patched(GOOD, 8, 7)],
        "unknown type": [patched(GOOD, 48, 200)],
        "dimensions of doubles": [patched(GOOD, 24, 9)],
        "negative dimensions": [patched(GOOD, 32, 2**32 - 3)],
        "other dimensions": [patched(GOOD, 32, 4)],
        "dimensions beyond 64 bits": [patched(GOOD, 32, 2**31 - 1, 2**31 - 1)],
        "compressed, cut": [compress(GOOD)[:-9]],
        "compressed, inner length": [compress(patched(GOOD, 4, len(GOOD)))],
        "compressed, more than declared": [compress(GOOD + bytes(64))],
        "compressed, huge": [compress(patched(GOOD, 4, 2**31))],
        "compressed twice": [compress(compress(GOOD))],
        "not compressed": [struct.pack("<2I", 15, len(GOOD)) + GOOD],
        "bytes after the end": [struct.pack("<2I", 15, len(compress(GOOD))) + compress(GOOD)[8:] + bytes(8)],
    }.items(),
    ids=lambda item: item[0],
)  # fmt: skip
def test_contradictions_of_a_matrix(tmp_path, variables):
    path = write(tmp_path / "x.mat", *variables[1])
    with pytest.raises(ValueError, match=r"x\.mat is truncated or damaged.*get it again from here"):
        open_matlab(path, source="here").read("data")
    with pytest.raises(ValueError, match=r"x\.mat"):
        list(open_matlab(path).columns("data").blocks(2))


def nested(depth):
    """Cells within cells, the innermost empty; written at once, since each holds its length."""
    head = len(array(CELL, (1, 1), b""))
    levels = [
        struct.pack("<2I", 14, head * (depth - level) - 8) + array(CELL, (1, 1), b"")[8:]
        for level in range(depth)
    ]
    return b"".join(levels)[:-head] + array(CELL, (0, 0), b"")


WORD = array(CHAR, (1, 3), element(16, b"the"))
FIELD, NAMES = element(5, struct.pack("<i", 8)), element(1, b"a".ljust(8, b"\0"))


@pytest.mark.parametrize(
    "content",
    {
        "text: fewer letters": array(CHAR, (1, 4), element(16, b"the"), name="x"),
        "text: more letters": array(CHAR, (1, 2), element(4, b"t\0h\0e\0"), name="x"),
        "text: of doubles": array(CHAR, (1, 1), element(9, bytes(8)), name="x"),
        "text: endless blank": array(CHAR, (2**30, 1), element(16, b""), name="x"),
        "text: endless nothing": array(CHAR, (2**30, 0), element(16, b""), name="x"),
        "cell: too few": array(CELL, (1, 3), WORD + WORD, name="x"),
        "cell: too many": array(CELL, (1, 1), WORD + WORD, name="x"),
        "cell: absurdly many": array(CELL, (2**31 - 1, 2**31 - 1), WORD, name="x"),
        "cell: no array": array(CELL, (1, 1), element(1, b"letters of no array"), name="x"),
        "cell: child too long": array(CELL, (1, 2), patched(WORD, 4, len(WORD)) + WORD, name="x"),
        "cell: child too short": array(CELL, (1, 2), patched(WORD, 4, len(WORD) - 16) + WORD, name="x"),
        "cell: unknown type": array(CELL, (1, 1), patched(numbers([[1.0]], "f8"), 48, 19), name="x"),
        "cell: unknown class": array(CELL, (1, 1), array(40, (1, 1), b""), name="x"),
        "struct: no names": array(STRUCT, (1, 1), WORD, name="x"),
        "struct: names of no length": array(STRUCT, (1, 1), patched(FIELD, 4, 0) + NAMES + WORD, name="x"),
        "struct: name without end": array(STRUCT, (1, 1), FIELD + element(1, b"abcdefgh") + WORD, name="x"),
        "struct: too few": array(STRUCT, (1, 2), FIELD + NAMES + WORD, name="x"),
        "struct: endless without fields": array(STRUCT, (2**30, 2), FIELD + element(1, b""), name="x"),
        "deep": array(CELL, (1, 1), nested(100), name="x"),
        "deeper than a stack": array(CELL, (1, 1), nested(50_000), name="x"),
    }.items(),
    ids=lambda item: item[0],
)  # fmt: skip
@pytest.mark.parametrize("packed", [False, True])
def test_contradictions_within_cells_structs_and_text(tmp_path, content, packed):
    # A crash of SciPy on any of these would take the whole run of tests with it.
    variable = compress(content[1]) if packed else content[1]
    path = write(tmp_path / "x.mat", variable)
    with pytest.raises(ValueError, match=r"x\.mat is truncated or damaged"):
        open_matlab(path).read("x")


def test_sound_nesting_is_not_refused(tmp_path):
    path = write(tmp_path / "x.mat", array(CELL, (1, 1), nested(60), name="x"))
    value = open_matlab(path).read("x")
    for _ in range(60):
        value = value[0, 0]
    assert value.shape == (0, 0)


def test_an_empty_cell_may_have_no_content(tmp_path):
    path = write(tmp_path / "x.mat", array(CELL, (1, 2), WORD + element(14, b""), name="x"))
    value = open_matlab(path).read("x")
    assert value[0, 0].tolist() == ["the"] and value[0, 1].size == 0


@pytest.mark.parametrize(
    ("value", "what"),
    [
        (np.array([[1 + 2j]]), "complex"),
        ({"z": np.array([[1 + 2j]])}, "complex"),
        (scipy.sparse.csc_array(np.eye(3)), "sparse"),
        ({"s": scipy.sparse.csc_array(np.eye(3))}, "sparse"),
    ],
)
def test_what_is_not_read_is_said(tmp_path, value, what):
    path = tmp_path / "x.mat"
    scipy.io.savemat(path, {"x": value, "y": 1.0})
    with open_matlab(path) as file:
        with pytest.raises(ValueError, match=rf"x\.mat: 'x' .*{what}.*plain array"):
            file.read("x")
        assert file.read("y") == 1.0


@pytest.mark.parametrize("cls", [3, 5, 16, 17])
def test_objects_of_matlab_are_refused(tmp_path, cls):
    path = write(tmp_path / "x.mat", array(cls, (1, 1), b"", name="x"))
    if cls == 17:  # these have no dimensions
        body = element(6, struct.pack("<2I", 17, 0)) + element(1, b"x") + element(1, b"MCOS")
        path = write(tmp_path / "x.mat", element(14, body))
    with open_matlab(path) as file, pytest.raises(ValueError, match="plain array"):
        file.read("x")


def test_variables_without_a_name_are_no_variables(tmp_path):
    path = write(tmp_path / "x.mat", GOOD, numbers(np.ones((1, 40)), "u1", cls="u1"))
    assert open_matlab(path).names == ("data",)


def header_of(shape, n_bytes, *, cls=6, kind=9, name="x"):
    """A numeric array up to its values, of which there are `n_bytes`."""
    body = element(6, struct.pack("<2I", cls, 0)) + element(5, struct.pack("<2i", *shape))
    body += element(1, name.encode()) + struct.pack("<2I", kind, n_bytes)
    return struct.pack("<2I", 14, len(body) + n_bytes) + body


@pytest.mark.parametrize("kind", ["numbers", "columns", "integers", "cells"])
def test_what_the_memory_cannot_hold_is_refused_by_its_header(tmp_path, monkeypatch, kind):
    """64 MB of zeros in 64 KB: as many as deflate can make, so that nothing contradicts them."""
    n = 2**23
    variable = header_of((n, 1), 8 * n) + bytes(8 * n)
    if kind == "integers":
        variable = header_of((n, 1), n, kind=TYPES["i1"]) + bytes(n)
    if kind == "cells":
        empties = struct.pack("<2I", 14, 0) * 2**18
        variable = array(CELL, (2**18, 1), empties, name="x")
    path = write(tmp_path / "x.mat", compress(variable))
    assert path.stat().st_size < 2**19
    with open_matlab(path) as file:
        monkeypatch.setattr(arrays, "free_memory", lambda: 2**25)
        tracemalloc.start()
        try:
            with pytest.raises(ValueError, match=r"x\.mat: 'x' needs 0\.\d GiB of memory"):
                list(file.columns("x").blocks(7)) if kind == "columns" else file.read("x")
            assert tracemalloc.get_traced_memory()[1] < 2**24
        finally:
            tracemalloc.stop()
