"""The record of what was downloaded: written whole, read with care, files verified by need."""

import hashlib
import json
import os
import threading

import pytest

from brainalign_jax.neural.downloads.records import FIRST, Record, lock


def keep(record, name, body):
    (record.folder / name).write_bytes(body)
    digest = hashlib.sha256(body).hexdigest()
    record.remember(name, digest, FIRST, "http://x", {name: digest})
    return record.entry(name)


def test_an_entry_tells_what_the_file_is(tmp_path):
    record = Record(tmp_path)
    assert record.entry("a.mat") is None
    entry = keep(record, "a.mat", b"body")
    assert entry["sha256"] == hashlib.sha256(b"body").hexdigest()
    assert entry["checksum"] == "first download" and entry["url"] == "http://x"
    assert entry["files"]["a.mat"]["size"] == 4
    written = json.loads((tmp_path / "downloads.json").read_text())
    assert written["files"]["a.mat"] == entry


def test_a_file_is_read_again_where_its_size_or_time_changed(tmp_path):
    record = Record(tmp_path)
    stamp = keep(record, "a.mat", b"body")["files"]["a.mat"]
    path = tmp_path / "a.mat"
    os.utime(path, ns=(1, 1))
    assert record.unchanged("a.mat", stamp, verify=False)  # another time, the same bytes
    path.write_bytes(b"BODY")
    assert not record.unchanged("a.mat", stamp, verify=False)
    os.utime(path, ns=(stamp["mtime_ns"], stamp["mtime_ns"]))
    assert record.unchanged("a.mat", stamp, verify=False)  # what only reading it would tell
    assert not record.unchanged("a.mat", stamp, verify=True)
    path.unlink()
    assert not record.unchanged("a.mat", stamp, verify=False)


def test_many_writers_lose_no_entry(tmp_path):
    names = [f"subject_{n}.mat" for n in range(12)]
    threads = [
        threading.Thread(target=keep, args=(Record(tmp_path), name, name.encode()))
        for name in names
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(Record(tmp_path).entry(name) for name in names)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"format": 1}',
        '{"format": 9, "files": {}}',
        '{"format": 1, "files": {"a": {}}}',
        '{"format": 1, "files": {"a": {"sha256": "x", "checksum": "y", "url": null, '
        '"files": {"a": {"size": 1}}}}}',
        '{"format": 1, "files": {"a": ',
        "[" * 10**5,
    ],
)
def test_a_damaged_record_is_an_error_that_says_what_to_do(tmp_path, text):
    (tmp_path / "downloads.json").write_text(text)
    with pytest.raises(ValueError, match=rf"{tmp_path}.*downloads\.json is not .*; delete it"):
        Record(tmp_path).entry("a")


def test_a_lock_is_held_by_one_at_a_time(tmp_path):
    held, order = threading.Event(), []

    def second():
        held.wait(5)
        with lock(tmp_path, "deep/a.mat"):
            order.append("second")

    thread = threading.Thread(target=second)
    thread.start()
    with lock(tmp_path, "deep/a.mat"):
        held.set()
        thread.join(0.1)  # time enough for it to go wrong
        order.append("first")
    thread.join(5)
    assert order == ["first", "second"]
