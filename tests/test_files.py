"""A user's path made absolute, and files that are written completely or not at all."""

import os
from pathlib import Path

import pytest

from brainalign_jax.files import new_file, plain_text, spreadsheet_text, user_path


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
