"""Word vectors on disk: found again, never wrong, whatever happens to the files."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from brainalign_jax.language import cache as caching
from brainalign_jax.language.cache import EmbeddingCache, Partial, entry_name
from brainalign_jax.language.embeddings import Embeddings

FIELDS = {"model": "owner/model", "context": "sentence", "weights": "abc"}


def vectors(seed=0, final=True):
    rng = np.random.default_rng(seed)
    return Embeddings(
        "owner/model",
        ("a", "b\u0301", "c"),
        rng.standard_normal((2, 3, 4)),
        rng.standard_normal((3, 5)) if final else None,
        {"level": "type", "n_layers": 2},
    )


def never(saver):
    raise AssertionError("the entry was there")


def same(first, second):
    return first.fingerprint() == second.fingerprint()


@pytest.mark.parametrize("final", [True, False])
def test_what_was_made_is_found_again(tmp_path, final):
    cache = EmbeddingCache(tmp_path / "new")
    made = cache.get(FIELDS, lambda saver: vectors(final=final))
    again = EmbeddingCache(tmp_path / "new").get(FIELDS, never)
    assert same(made, again)
    assert again.types == ("a", "b\u0301", "c")
    (entry,) = cache.entries()
    assert (entry.kind, entry.model, entry.words) == ("entry", "owner/model", 3)
    assert entry.settings == FIELDS
    assert entry.name.startswith("owner-model-")
    assert cache.faults() == {}


@pytest.mark.parametrize("field", FIELDS)
def test_any_other_setting_misses(tmp_path, field):
    cache = EmbeddingCache(tmp_path)
    cache.get(FIELDS, lambda saver: vectors())
    other = cache.get(FIELDS | {field: "other"}, lambda saver: vectors(1))
    assert same(other, vectors(1))
    assert same(cache.get(FIELDS, never), vectors())
    assert len(cache.entries()) == 2


def flipped(path, at, mask):
    content = bytearray(path.read_bytes())
    content[at] ^= mask
    path.write_bytes(content)


def test_every_damage_is_found_and_repaired(tmp_path):
    cache = EmbeddingCache(tmp_path)
    cache.get(FIELDS, lambda saver: vectors())
    path = cache.path(entry_name(FIELDS))
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    # The first and last byte, those around the seal, and any others; cut off, emptied, lengthened.
    places = [0, 1, len(content) - 1, len(content) - 70, *rng.integers(len(content), size=60)]
    for at in places:
        flipped(path, int(at), 1 << int(rng.integers(8)))
        assert list(cache.faults()) == [path.name]
        path.write_bytes(content)
    other = path.with_name(f"{entry_name(FIELDS | {'context': 'word'})}.vectors")
    other.write_bytes(content)
    assert list(cache.faults()) == [other.name]
    for harmed in (b"", content[:50], content[:-1], content + b"x", content[1:]):
        path.write_bytes(harmed)
        with pytest.warns(UserWarning, match=f"{path.name} is damaged .* made anew"):
            assert same(cache.get(FIELDS, lambda saver: vectors()), vectors())
        assert path.read_bytes() == content


def test_entries_of_an_earlier_version_are_made_anew_and_removed(tmp_path):
    cache = EmbeddingCache(tmp_path)
    earlier = tmp_path / entry_name(FIELDS)
    (earlier / "arrays").mkdir(parents=True)
    (earlier / "entry.json").write_text(json.dumps({"model": "owner/model", "types": ["a"]}))
    (tmp_path / f"{earlier.name}.partial.npz").write_bytes(b"PK")
    (tmp_path / f".{earlier.name}.abcd1234.tmp").mkdir()
    assert {entry.kind for entry in cache.entries()} == {"leftover"}
    assert same(cache.get(FIELDS, lambda saver: vectors()), vectors())
    assert [entry.kind for entry in cache.entries()] == ["entry"]
    earlier.mkdir()
    (earlier / "entry.json").write_text("{}")
    cache.remove(earlier.name)
    assert not earlier.exists() and same(cache.get(FIELDS, never), vectors())


def test_vectors_under_another_name_or_format_are_damage(tmp_path):
    cache = EmbeddingCache(tmp_path)
    path = cache.path(entry_name(FIELDS))
    for change in ({"format": "other"}, {"fields": FIELDS | {"context": "word"}}, {"types": None}):
        cache.get(FIELDS, lambda saver: vectors())
        header, arrays = caching.read_arrays(path)
        caching._write_arrays(path, header | change, arrays)
        assert list(cache.faults()) == [path.name]
        with pytest.warns(UserWarning, match="is damaged .* made anew"):
            assert same(cache.get(FIELDS, lambda saver: vectors()), vectors())


def test_a_failed_extraction_leaves_no_entry(tmp_path):
    cache = EmbeddingCache(tmp_path)

    def fail(saver):
        saver.save("plan", 1, {"states": np.zeros(3)})
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        cache.get(FIELDS, fail)
    assert [entry.kind for entry in cache.entries()] == ["interrupted"]
    assert same(cache.get(FIELDS, lambda saver: vectors()), vectors())
    assert [entry.kind for entry in cache.entries()] == ["entry"]


def test_the_state_of_an_extraction(tmp_path):
    partial = Partial(tmp_path / "x.partial")
    assert partial.load("plan") is None
    arrays = {"states": np.arange(6.0).reshape(2, 3), "bits": np.arange(3, dtype=np.uint16)}
    assert partial.due()
    partial.save("plan", 5, arrays)
    saved = Partial(partial.path).load("plan")
    assert saved.done == 5
    for name, array in arrays.items():
        np.testing.assert_array_equal(saved.arrays[name], array)
        assert saved.arrays[name].dtype == array.dtype
    # Other batches: what was summed is of no use.
    assert Partial(partial.path).load("other plan") is None
    content = partial.path.read_bytes()
    for broken in (content[:-50], content[:200] + b"\1" + content[201:], b"PK"):
        partial.path.write_bytes(broken)
        with pytest.warns(UserWarning, match="is damaged .* starting anew"):
            assert partial.load("plan") is None
    partial.remove()
    partial.remove()
    assert os.listdir(tmp_path) == []


def test_saving_takes_a_small_share_of_the_time(tmp_path, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(caching.time, "monotonic", lambda: clock[0])
    partial = Partial(tmp_path / "x.partial", share=0.05)
    write = caching._write_arrays

    def slow(*args):
        clock[0] += 2.0
        write(*args)

    monkeypatch.setattr(caching, "_write_arrays", slow)
    assert partial.due()
    partial.save("plan", 1, {"states": np.zeros(2)})
    clock[0] += 39
    assert not partial.due()
    clock[0] += 2
    assert partial.due()
    always = Partial(tmp_path / "x.partial", share=float("inf"))
    always.save("plan", 2, {"states": np.zeros(2)})
    assert always.due()


def test_fingerprints_are_remembered_until_a_file_is_touched(tmp_path):
    cache = EmbeddingCache(tmp_path / "cache")
    file = tmp_path / "weights"
    file.write_bytes(b"1")
    calls = []

    def compute():
        calls.append(file.read_bytes())
        return file.read_bytes().hex().zfill(64)

    first = cache.remember(file, compute, [file])
    assert cache.remember(file, compute, [file]) == first
    assert len(calls) == 1
    stat = file.stat()
    file.write_bytes(b"2")
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    # Same size and time of change, as some copies keep it: the inode's own time tells.
    assert cache.remember(file, compute, [file]) != first
    for note in (tmp_path / "cache" / "fingerprints").iterdir():
        note.write_text("")
    cache.remember(file, compute, [file])
    assert len(calls) == 3


def test_entries_are_removed_by_name(tmp_path):
    cache = EmbeddingCache(tmp_path / "cache")
    cache.get(FIELDS, lambda saver: vectors())
    (tmp_path / "precious").write_text("x")
    for name in ("../precious", "absent", "", ".."):
        with pytest.raises((FileNotFoundError, ValueError)):
            cache.remove(name)
    (entry,) = cache.entries()
    with cache._locked(entry_name(FIELDS)), pytest.raises(ValueError, match="another process"):
        EmbeddingCache(tmp_path / "cache").remove(entry.name)
    cache.remove(entry.name)
    assert cache.entries() == []
    assert (tmp_path / "precious").is_file()


WRITER = """
    import sys, time
    sys.path[:0] = {path!r}
    from test_cache import FIELDS, vectors
    from brainalign_jax.language.cache import EmbeddingCache

    def make(saver):
        print("made", flush=True)
        time.sleep(0.5)
        return vectors()

    kept = EmbeddingCache(sys.argv[1]).get(FIELDS, make)
    print(kept.fingerprint())
"""


def test_two_processes_make_an_entry_once(tmp_path):
    here = Path(__file__).resolve()
    code = textwrap.dedent(WRITER).format(path=[str(here.parent), str(here.parents[2])])
    commands = [[sys.executable, "-W", "ignore", "-c", code, str(tmp_path)]] * 2
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for command in commands]
    printed = [process.communicate(timeout=120)[0].split() for process in running]
    assert [process.returncode for process in running] == [0, 0]
    assert sum(lines.count("made") for lines in printed) == 1
    assert {lines[-1] for lines in printed} == {vectors().fingerprint()}
    assert EmbeddingCache(tmp_path).faults() == {}


def test_without_locks_the_first_writer_wins(tmp_path, monkeypatch):
    cache = EmbeddingCache(tmp_path)

    def make(saver):
        # As if a process that knows no lock wrote the same entry meanwhile.
        EmbeddingCache(tmp_path)._write(entry_name(FIELDS), FIELDS, vectors())
        return vectors()

    assert same(cache.get(FIELDS, make), vectors())
    assert same(cache.get(FIELDS, never), vectors())
    assert [entry.kind for entry in cache.entries()] == ["entry"]
