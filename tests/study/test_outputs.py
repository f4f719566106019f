"""A study's files in a folder: of one study at any moment, whatever was there and wherever it stops."""

import errno
import io
import json
import os
import warnings
from dataclasses import dataclass

import pandas as pd
import pytest

from brainalign_jax import files
from brainalign_jax.study import outputs
from brainalign_jax.study.outputs import CONTENTS, MANIFEST, new_outputs
from brainalign_jax.study.results import COLUMNS, ResultTable


def parquet(tag):
    content = io.BytesIO()
    pd.DataFrame([dict.fromkeys(COLUMNS, tag)]).to_parquet(content)
    return content.getvalue()


def files_of(tag, *names):
    """Name -> content, each of which tells which study it is of."""
    text = json.dumps({"study": tag}).encode()
    return {
        "results.parquet": parquet(tag),
        "evidence.parquet": parquet(f"{tag} evidence"),
        MANIFEST: text,
        "report.html": f"<p>{tag}</p>".encode(),
        **{name: f"{name} of {tag}".encode() for name in names},
    }


FIRST = files_of("first", "figures/rsa_by_layer.png", "figures/both.png")
SECOND = files_of("second", "figures/both.png", "figures/new.png")
THIRD = files_of("third", "figures/third.png")


def write(folder, content, pointer=MANIFEST):
    with new_outputs(folder, pointer) as new:
        for name, data in content.items():
            with files.new_file(new / name) as file:
                file.write(data)


def seen(folder):
    """Name -> content of what is not hidden; of a manifest without the names of files."""
    contents = {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not any(p.startswith(".") for p in path.relative_to(folder).parts)
    }
    if MANIFEST in contents:
        content = json.loads(contents[MANIFEST])
        del content["files"]
        contents[MANIFEST] = json.dumps(content).encode()
    return contents


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda handle: None)


class Stopped(BaseException):
    """Nothing that may be caught as an error."""


def stop_at(monkeypatch, number, stop):
    """Call `stop` in place of the file operation of this number; the list counts the operations."""
    done = []

    def counted(name, function):
        def call(*args, **kwargs):
            done.append(name)
            if len(done) == number:
                stop()
            return function(*args, **kwargs)

        return call

    for name in ("replace", "rename", "unlink", "mkdir", "rmdir"):  # all that change a folder
        monkeypatch.setattr(os, name, counted(name, getattr(os, name)))
    return done


def killed_while_writing(folder, content, number):
    """Write in a process that dies (no handler runs) at a file operation; whether it died."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # JAX tells that its threads are missing: they are not used
        child = os.fork()
    if child == 0:
        with pytest.MonkeyPatch.context() as patch:
            stop_at(patch, number, lambda: os._exit(9))
            write(folder, content)
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9


def belongs_to_one(folder):
    contents = seen(folder)
    owners = [s for s in (FIRST, SECOND) if contents.items() <= s.items()]
    assert owners, f"of several studies: {sorted(contents)}"
    if MANIFEST in contents:
        assert contents in (FIRST, SECOND)
        assert ResultTable.load(folder).rows["subject"].item() in ("first", "second")
    else:
        with pytest.raises(FileNotFoundError, match="manifest.json is missing"):
            ResultTable.load(folder)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_at_any_moment_a_folder_holds_files_of_one_study(tmp_path):
    number, moments = 0, {True: 0, False: 0}
    while True:
        number += 1
        folder = tmp_path / str(number)
        write(folder, FIRST)
        (folder / "figures" / "mine.txt").write_text("a note")
        died = killed_while_writing(folder, SECOND, number)
        (folder / "figures" / "mine.txt").unlink()
        belongs_to_one(folder)
        if not died:
            break
        moments[(folder / MANIFEST).exists()] += 1
        write(folder, THIRD)
        assert seen(folder) == THIRD
        assert sorted(os.listdir(folder)) == sorted({name.split("/")[0] for name in THIRD})
    assert seen(folder) == SECOND
    assert min(moments.values()) > 8, "it was stopped neither before nor within the exchange"


def test_a_full_disk_at_any_moment_leaves_files_of_one_study(tmp_path, monkeypatch):
    error = OSError(errno.ENOSPC, "No space left on device")

    def stop():
        raise error

    for number in range(1, 200):
        folder = tmp_path / str(number)
        write(folder, FIRST)
        with monkeypatch.context() as patch:
            done = stop_at(patch, number, stop)
            try:
                write(folder, SECOND)
            except OSError as caught:
                assert caught is error
        belongs_to_one(folder)
        if len(done) < number:
            break
        write(folder, THIRD)
        assert seen(folder) == THIRD
        assert sorted(os.listdir(folder)) == sorted({name.split("/")[0] for name in THIRD})
    assert number > 20


def test_an_error_while_they_are_written_leaves_the_earlier_study(tmp_path):
    write(tmp_path, FIRST)
    with pytest.raises(Stopped), new_outputs(tmp_path) as new:
        (new / "results.parquet").write_bytes(b"half")
        raise Stopped
    assert seen(tmp_path) == FIRST
    assert not list(tmp_path.glob(".*"))
    write(tmp_path, SECOND)
    assert seen(tmp_path) == SECOND


def test_files_of_an_earlier_version_are_replaced_and_those_of_others_stay(tmp_path):
    earlier = {**FIRST, "figures/precision_by_k.png": b"old"}
    del earlier["figures/both.png"]
    for name, data in {**earlier, "figures/mine.png": b"mine", "notes.txt": b"mine"}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    assert ResultTable.load(tmp_path).rows["subject"].item() == "first"
    assert list(ResultTable.load(tmp_path).extras) == ["evidence"]
    write(tmp_path, THIRD)
    assert seen(tmp_path) == {**THIRD, "figures/mine.png": b"mine", "notes.txt": b"mine"}


def test_another_kind_of_study_replaces_all_files_too(tmp_path):
    write(tmp_path, FIRST)
    ladder = {"ladder.parquet": b"1", "report.html": b"2"}
    write(tmp_path, ladder, CONTENTS)
    names = json.loads((tmp_path / CONTENTS).read_text())["files"]
    assert sorted(names) == sorted(ladder)
    assert sorted(os.listdir(tmp_path)) == sorted([*ladder, CONTENTS])
    write(tmp_path, SECOND)
    assert seen(tmp_path) == SECOND


def test_a_file_of_another_study_or_a_changed_one_is_refused(tmp_path):
    write(tmp_path / "one", FIRST)
    write(tmp_path / "two", SECOND)
    for name in ("results.parquet", "evidence.parquet"):
        path = tmp_path / "one" / name
        kept = path.read_bytes()
        changed = bytearray(kept)
        changed[len(kept) // 2] ^= 4
        for content in (SECOND[name], kept[:40], bytes(changed)):
            path.write_bytes(content)
            with pytest.raises(ValueError, match=f"{name} is damaged or of another study than .*"):
                ResultTable.load(tmp_path / "one")
        path.unlink()
        with pytest.raises(FileNotFoundError, match=f"{name} is missing"):
            ResultTable.load(tmp_path / "one")
        path.write_bytes(kept)
    # Not of this study: it is not taken for its scaling.
    (tmp_path / "one" / "scaling.parquet").write_bytes(parquet("other"))
    assert list(ResultTable.load(tmp_path / "one").extras) == ["evidence"]


@pytest.mark.parametrize("names", [{"../precious": "x"}, {"/etc/precious": "x"}, ["results"], 3])
def test_a_manifest_cannot_have_other_folders_files_removed(tmp_path, names):
    (tmp_path / "precious").write_text("x")
    write(tmp_path / "out", FIRST)
    (tmp_path / "out" / MANIFEST).write_text(json.dumps({"files": names}))
    write(tmp_path / "out", SECOND)
    assert (tmp_path / "precious").read_text() == "x"
    for text in ("[1]", "[" * 100_000, "{"):
        (tmp_path / "out" / MANIFEST).write_text(text)
        with pytest.raises(ValueError, match="manifest.json is damaged .*run the study again"):
            ResultTable.load(tmp_path / "out")
        write(tmp_path / "out", THIRD)
        assert ResultTable.load(tmp_path / "out").rows["subject"].item() == "third"


def test_a_folder_where_a_file_belongs_is_an_error_before_anything_is_replaced(tmp_path):
    write(tmp_path, FIRST)
    (tmp_path / "figures" / "new.png").mkdir()
    with pytest.raises(IsADirectoryError, match="new.png is a folder"):
        write(tmp_path, SECOND)
    assert seen(tmp_path) == FIRST


def test_threads_that_write_to_one_folder_leave_one_study(tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda i: write(tmp_path, (FIRST, SECOND)[i % 2]), range(12)))
    belongs_to_one(tmp_path)
    assert MANIFEST in seen(tmp_path)
    assert not list(tmp_path.glob(".*"))


def test_what_is_loaded_and_saved_again_is_the_same(tmp_path):
    write(tmp_path / "one", FIRST)
    table = ResultTable.load(tmp_path / "one")
    table.save(tmp_path / "two")
    again = ResultTable.load(tmp_path / "two")
    assert again.manifest == table.manifest == {"study": "first"}
    pd.testing.assert_frame_equal(again.rows, table.rows)
    pd.testing.assert_frame_equal(again.extras["evidence"], table.extras["evidence"])
    assert (
        outputs.sha256_of(tmp_path / "two" / "results.parquet")
        in json.loads((tmp_path / "two" / MANIFEST).read_text())["files"].values()
    )


@dataclass(frozen=True)
class PartsTable(outputs.StudyTable):
    """A table with one that must be beside it, and one that may be."""

    parts: pd.DataFrame
    shares: pd.DataFrame | None = None
    file_name = "whole.parquet"
    kind = "study of parts"
    tables = {"parts": "parts.parquet", "shares": "shares.parquet"}
    optional = {"shares": lambda manifest: manifest["with_shares"]}


@pytest.mark.parametrize("shares", [None, pd.DataFrame({"share": [0.5]})])
def test_tables_beside_the_rows_are_saved_and_loaded_with_them(tmp_path, shares):
    rows, parts = pd.DataFrame({"value": [1.0, 2.0]}), pd.DataFrame({"part": ["head 0"]})
    pages = []
    table = PartsTable(rows, {"with_shares": shares is not None}, parts, shares)
    said = table.finished(
        tmp_path, lambda own, folder: pages.append((own, sorted(os.listdir(folder))))
    )
    assert said is table
    names = ["manifest.json", "parts.parquet", *["shares.parquet"] * (shares is not None)]
    assert pages == [(table, [*names, "whole.parquet"])]
    loaded = PartsTable.load(tmp_path)
    assert loaded.rows.equals(rows) and loaded.parts.equals(parts)
    assert loaded.shares is None if shares is None else loaded.shares.equals(shares)
    (tmp_path / "parts.parquet").unlink()
    with pytest.raises(FileNotFoundError, match=r"parts\.parquet is missing"):
        PartsTable.load(tmp_path)
    assert table.finished(None, None) is table


@pytest.mark.parametrize("named", ["all", "others", "none"])
def test_a_table_that_was_asked_for_is_not_loaded_without(tmp_path, named):
    rows, shares = pd.DataFrame({"value": [1.0]}), pd.DataFrame({"share": []}, dtype=float)
    PartsTable(rows, {"with_shares": True}, rows, shares).save(tmp_path)
    assert len(PartsTable.load(tmp_path).shares) == 0
    manifest = json.loads((tmp_path / MANIFEST).read_text())
    if named == "others":
        del manifest["files"]["shares.parquet"]
    elif named == "none":
        del manifest["files"]
    (tmp_path / MANIFEST).write_text(json.dumps(manifest))
    if named == "others":
        with pytest.raises(ValueError, match=r"shares\.parquet is damaged or of another study"):
            PartsTable.load(tmp_path)
    (tmp_path / "shares.parquet").unlink()
    with pytest.raises(FileNotFoundError, match=r"shares\.parquet is missing"):
        PartsTable.load(tmp_path)


def test_where_a_study_writes_and_keeps(tmp_path):
    assert outputs.output_and_cache(None, None) == (None, None)
    assert outputs.output_and_cache(None, tmp_path) == (None, tmp_path)
    assert outputs.output_and_cache(tmp_path, None) == (tmp_path, tmp_path / "cache")
