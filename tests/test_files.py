"""A user's path made absolute, and files and tables that are written completely or not at all."""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from brainalign_jax.files import (
    Damaged,
    leftovers,
    locked,
    new_file,
    new_folder,
    new_sealed_file,
    output_file,
    plain_text,
    read_parquet,
    remove_leftovers,
    sealed_bytes,
    spreadsheet_text,
    user_path,
    write_parquet,
)


def test_a_path_starts_from_the_working_folder(tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    monkeypatch.chdir(tmp_path / "a")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert user_path("x/./y", "it") == tmp_path / "a" / "x" / "y"
    assert user_path(Path("..") / "b", "it") == tmp_path / "b"
    assert user_path(".", "it") == tmp_path / "a"
    assert user_path("~/b", "it") == tmp_path / "home" / "b"
    assert user_path(" b ", "it") == tmp_path / "a" / " b "
    assert user_path("/x", "it") == Path("/x")


def test_links_stay_and_what_lies_around_them_is_what_the_system_says(tmp_path, monkeypatch):
    for name in ("far/inside", "far/beside", "near"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "near" / "link").symlink_to(tmp_path / "far" / "inside")
    monkeypatch.chdir(tmp_path / "near")
    assert user_path("link", "it") == tmp_path / "near" / "link"
    assert user_path("link/../beside", "it").samefile(tmp_path / "far" / "beside")


@pytest.mark.parametrize("value", ["", "  ", "\n"])
def test_an_empty_path_is_refused_by_name(value):
    with pytest.raises(ValueError, match=r"cache_dir is empty \('.*'\): give a folder"):
        user_path(value, "cache_dir")


@pytest.mark.parametrize("value", [None, 3, True, b"x"])
def test_what_is_no_path_is_refused_by_name(value):
    with pytest.raises(ValueError, match=f"table is {value!r}: give a file"):
        user_path(value, "table", "a file")


def test_a_file_is_there_whole_or_not_at_all(tmp_path):
    path = tmp_path / "new" / "x.bin"
    with new_file(path) as file:
        file.write(b"one")
        assert not path.exists()
    assert path.read_bytes() == b"one"
    assert path.stat().st_mode & 0o777 == 0o666 & ~_umask()
    with pytest.raises(KeyboardInterrupt), new_file(path) as file:
        file.write(b"two")
        raise KeyboardInterrupt
    assert path.read_bytes() == b"one" and os.listdir(path.parent) == ["x.bin"]


def seal(path, content=b"content"):
    with new_sealed_file(path) as file:
        file.write(content[:3])
        file.write(content[3:])
    return path.read_bytes()


def test_any_changed_bit_of_a_sealed_file_is_found(tmp_path):
    path = tmp_path / "x"
    sealed = seal(path)
    assert sealed_bytes(path) == b"content"
    for at in range(len(sealed)):
        changed = bytearray(sealed)
        changed[at] ^= 1 << at % 8
        path.write_bytes(bytes(changed))
        with pytest.raises(Damaged, match="changed or cut off"):
            sealed_bytes(path)
    for content in (b"", sealed[:-1], sealed[1:], sealed + b"x", b"content", sealed * 2):
        path.write_bytes(content)
        with pytest.raises(Damaged, match="cut off"):
            sealed_bytes(path)
    with pytest.raises(FileNotFoundError):
        sealed_bytes(tmp_path / "absent")
    # Sound, but another one's: it was copied or renamed.
    path.write_bytes(sealed)
    path.rename(tmp_path / "y")
    with pytest.raises(Damaged):
        sealed_bytes(tmp_path / "y")
    seal(path, b"")
    assert sealed_bytes(path) == b""


def test_what_a_dead_process_left_is_removed_and_what_is_being_written_is_not(tmp_path):
    dead = [".a.bin.0123456789abcdef.tmp", ".a.bin.abcd_123.tmp", ".b.0123456789abcdef.tmp"]
    for name in dead:
        (tmp_path / name).write_bytes(b"half")
    (tmp_path / ".folder.0123456789abcdef.tmp").mkdir()
    (tmp_path / ".folder.0123456789abcdef.tmp" / "x").write_bytes(b"half")
    others = [".notes.tmp", "x.0123456789abcdef.tmp", ".vimrc", ".a.0123456789abcdef.swp"]
    for name in others:
        (tmp_path / name).write_bytes(b"a user's")
    with new_file(tmp_path / "a.bin") as file, new_folder(tmp_path, "folder") as folder:
        file.write(b"new")
        assert [path.name for path in leftovers(tmp_path, "a.bin")] == dead[:2]
        remove_leftovers(tmp_path)
        assert leftovers(tmp_path) == [] and folder.is_dir()
    assert (tmp_path / "a.bin").read_bytes() == b"new"
    assert sorted(os.listdir(tmp_path)) == sorted([*others, "a.bin"])


def test_where_nothing_can_be_locked_age_tells_what_was_left(tmp_path, monkeypatch):
    from brainalign_jax import files

    def refuse(*_):
        raise OSError("no locks available")

    monkeypatch.setattr(files.fcntl, "flock", refuse)
    old, new = tmp_path / ".a.0123456789abcdef.tmp", tmp_path / ".b.0123456789abcdef.tmp"
    for path in (old, new):
        path.write_bytes(b"half")
    day_before_yesterday = time.time() - 2 * 86_400
    os.utime(old, (day_before_yesterday, day_before_yesterday))
    with new_file(tmp_path / "c") as file, locked(tmp_path):
        file.write(b"whole")
        remove_leftovers(tmp_path)
    assert sorted(os.listdir(tmp_path)) == [new.name, "c"]


def test_threads_and_processes_of_the_same_number_write_to_one_place(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "getpid", lambda: 1)  # as in two containers on one disk
    before = _umask()

    def write(number):
        content = bytes([number]) * 50_000
        with new_file(tmp_path / "x") as file:
            file.write(content[:20_000])
            remove_leftovers(tmp_path)
            file.write(content[20_000:])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(64)))
    (written,) = tmp_path.iterdir()
    content = written.read_bytes()
    assert len(content) == 50_000 and len({*content}) == 1
    assert written.stat().st_mode & 0o777 == 0o666 & ~before
    assert _umask() == before, "a thread took the mask of another for the process's own"


def test_a_name_may_be_as_long_as_the_system_allows(tmp_path):
    path = tmp_path / ("é" * 127 + "x")
    assert output_file(path, "path") == path
    with new_file(path) as file:
        file.write(b"x")
    assert path.read_bytes() == b"x" and list(tmp_path.iterdir()) == [path]
    with pytest.raises(OSError, match="path: the name is too long"):
        output_file(path.with_name(path.name + "x"), "path")


def test_what_is_left_is_found_by_a_long_name(tmp_path):
    for name in ("a" * 100 + "1", "a" * 100 + "2"):
        (tmp_path / f".{name}.{'0' * 16}.tmp").write_bytes(b"")
    assert [path.name[:103] for path in leftovers(tmp_path, "a" * 100 + "2")] == [
        "." + "a" * 100 + "2."
    ]
    with new_file(tmp_path / ("b" * 100)) as file:
        names = [path.name for path in tmp_path.glob(".b*")]
        assert len(names) == 1 and names[0].startswith("." + "b" * 100 + ".")
        file.write(b"x")


def test_a_table_is_written_whole_and_read_back(tmp_path):
    rows = pd.DataFrame({"model": ["a", None], "k": [1, 2], "value": [0.5, np.nan]}, index=[7, 8])
    write_parquet(rows, tmp_path / "x.parquet")
    write_parquet(rows, tmp_path / "x.cell", sealed=True)
    for content in ((tmp_path / "x.parquet").read_bytes(), sealed_bytes(tmp_path / "x.cell")):
        pd.testing.assert_frame_equal(read_parquet(content), rows.reset_index(drop=True))
        for end in (0, 3, 100, len(content) - 1):
            with pytest.raises(Damaged):
                read_parquet(content[:end])
    with pytest.raises(Exception, match="k"):
        write_parquet(rows.assign(k=[1, "b"]), tmp_path / "x.parquet")
    assert read_parquet((tmp_path / "x.parquet").read_bytes())["k"].tolist() == [1, 2]
    assert len(list(tmp_path.iterdir())) == 2


def test_a_table_larger_than_its_bytes_can_hold_is_not_unpacked():
    content = pd.DataFrame({"k": np.zeros(10_000_000, np.int8)}).to_parquet(index=False)
    with pytest.raises(Damaged, match=r"bytes declare 10,000,000 rows"):
        read_parquet(content)


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


@pytest.mark.parametrize(
    "text",
    [
        "=1+1",
        "+cmd",
        "-x",
        "@a",
        "\tb",
        "\rc",
        "'=1",
        "''@b",
        "'tis",
        "word",
        "",
        "'",
        "a=b",
        "\uff1d1",
    ],
)
def test_a_cell_is_no_formula_and_reads_back(text):
    cell = spreadsheet_text(text)
    assert not cell or cell[0] not in "=+-@\t\r\uff1d"
    assert plain_text(cell) == text
    assert cell == text or text.lstrip("'")[0] in "=+-@\t\r\uff1d"
