"""`fetch`: what is missing is downloaded, what is there is verified, what is wrong is said."""

import dataclasses
import errno
import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import time
import warnings
import zipfile

import numpy as np
import pytest
from release_server import ReleaseServer

from brainalign_jax.neural.downloads.fetching import fetch
from brainalign_jax.neural.downloads.records import Record
from brainalign_jax.neural.downloads.releases import (
    Listing,
    Release,
    ReleaseFile,
    list_releases,
    release_info,
)
from brainalign_jax.neural.downloads.transfer import DownloadError, DownloadTimeout
from brainalign_jax.neural.readers import open_dataset

BODIES = {n: np.random.default_rng(n).bytes(50_000 + n) for n in (1, 2, 3)}
OTHER = np.random.default_rng(9).bytes(50_001)
QUICK = {"progress": False, "timeout": 0.3, "retries": 1, "backoff": 0.01}

pytestmark = pytest.mark.filterwarnings("ignore:.*no published checksum")


def sha256(body):
    return hashlib.sha256(body).hexdigest()


@pytest.fixture(autouse=True)
def no_environment(monkeypatch):
    for name in ("BRAINALIGN_DATA", "BRAINALIGN_OFFLINE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server():
    with ReleaseServer() as running:
        yield running


@pytest.fixture
def release(server):
    """Three subjects on the server; checksums are not published."""
    files = tuple(
        ReleaseFile(
            f"subject_{n}.mat", (server.add(f"/subject_{n}.mat", body),), None, subject=str(n)
        )
        for n, body in BODIES.items()
    )
    return Release("tiny", "A test", "http://home", "Author 2020", "CC0", "ask the author", files)


def official(release):
    return dataclasses.replace(
        release,
        files=tuple(
            dataclasses.replace(file, sha256=sha256(BODIES[int(file.subject)]))
            for file in release.files
        ),
    )


def names(folder):
    return {path.name for path in folder.iterdir()} - {".downloads", "downloads.json"}


def test_a_release_is_downloaded_once_and_recorded(server, release, tmp_path, capsys):
    with pytest.warns(UserWarning, match="no published checksum") as caught:
        folder = fetch(release, tmp_path, **QUICK)
    assert len(caught) == 1 and caught[0].filename == __file__
    assert folder == tmp_path / "tiny"
    for n, body in BODIES.items():
        assert (folder / f"subject_{n}.mat").read_bytes() == body
        assert sha256(body) in str(caught[0].message)
    assert names(folder) == {f"subject_{n}.mat" for n in BODIES}
    recorded = json.loads((folder / "downloads.json").read_text())["files"]["subject_1.mat"]
    assert recorded["sha256"] == sha256(BODIES[1])
    assert recorded["checksum"] == "first download"
    assert recorded["url"] == f"{server.url}/subject_1.mat"
    printed = capsys.readouterr().err
    assert printed.count("Author 2020") == 1 and printed.count("CC0") == 1

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert fetch(release, tmp_path, **QUICK) == folder
    assert len(server.requests) == 3
    assert "Author 2020" in capsys.readouterr().err


def test_progress_names_the_file_and_its_address(server, release, tmp_path, capsys):
    fetch(release, tmp_path, subjects=1, **QUICK | {"progress": True})
    printed = capsys.readouterr().err
    assert f"downloading subject_1.mat from {server.url}/subject_1.mat" in printed
    assert "50.0k" in printed  # the bar
    fetch(release, tmp_path, subjects=2, **QUICK)
    assert "subject_2.mat" not in capsys.readouterr().err


def test_published_checksums_need_no_warning(release, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        folder = fetch(official(release), tmp_path, **QUICK)
    assert (
        json.loads((folder / "downloads.json").read_text())["files"]["subject_1.mat"]["checksum"]
        == "official"
    )


def test_subjects_are_chosen_as_in_the_reader(server, release, tmp_path):
    folder = fetch(release, tmp_path, subjects=["subject_1", 3], **QUICK)
    assert names(folder) == {"subject_1.mat", "subject_3.mat"}
    fetch(release, tmp_path, subjects=2, **QUICK)
    assert len(server.requests) == 3
    with pytest.raises(ValueError, match="unknown subject '9' of tiny; known: 1, 2, 3"):
        fetch(release, tmp_path, subjects="9", **QUICK)
    with pytest.raises(ValueError, match="no subject of tiny is asked for; name some, or None"):
        fetch(release, tmp_path, subjects=[], **QUICK)


def test_the_folder_is_the_argument_the_environment_or_the_cache(release, tmp_path, monkeypatch):
    chosen = {"subjects": 1, **QUICK}
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    cache = "Library/Caches" if sys.platform == "darwin" else ".cache"
    assert fetch(release, **chosen) == tmp_path / cache / "brainalign_jax" / "tiny"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert fetch(release, **chosen) == tmp_path / "cache" / "brainalign_jax" / "tiny"
    monkeypatch.setenv("BRAINALIGN_DATA", str(tmp_path / "env"))
    assert fetch(release, **chosen) == tmp_path / "env" / "tiny"
    assert fetch(release, tmp_path / "given", **chosen) == tmp_path / "given" / "tiny"
    monkeypatch.chdir(tmp_path)
    assert fetch(release, "given", **chosen).is_absolute()


def test_offline_gives_what_is_there_and_names_what_is_not(server, release, tmp_path, monkeypatch):
    monkeypatch.setenv("BRAINALIGN_OFFLINE", "1")
    with pytest.raises(FileNotFoundError) as caught:
        fetch(release, tmp_path, **QUICK)
    message = str(caught.value)
    assert f"subject_2.mat (from {server.url}/subject_2.mat)" in message
    assert str(tmp_path / "tiny") in message and "by hand: ask the author" in message
    assert not list(tmp_path.iterdir()) and not server.requests

    fetch(release, tmp_path, subjects=[1], offline=False, **QUICK)
    fetch(release, tmp_path, subjects=[1], **QUICK)
    with pytest.raises(FileNotFoundError, match="subject_2.mat") as caught:
        fetch(release, tmp_path, subjects=[1, 2], **QUICK)
    assert "subject_1.mat" not in str(caught.value)
    assert len(server.requests) == 1
    monkeypatch.setenv("BRAINALIGN_OFFLINE", "0")
    fetch(release, tmp_path, subjects=[2], **QUICK)
    monkeypatch.setenv("BRAINALIGN_OFFLINE", "perhaps")
    with pytest.raises(ValueError, match="BRAINALIGN_OFFLINE is 'perhaps'; use 1 or 0"):
        fetch(release, tmp_path, **QUICK)


def test_a_damaged_file_is_an_error_offline_and_fetched_again_online(release, tmp_path):
    folder = fetch(release, tmp_path, subjects=1, **QUICK)
    path = folder / "subject_1.mat"
    path.write_bytes(OTHER)
    with pytest.raises(ValueError, match=r"subject_1\.mat has SHA-256") as caught:
        fetch(release, tmp_path, subjects=1, offline=True, **QUICK)
    assert sha256(OTHER) in str(caught.value) and sha256(BODIES[1]) in str(caught.value)
    assert path.read_bytes() == OTHER
    with pytest.warns(UserWarning, match=r"subject_1\.mat has SHA-256.*Now it is fetched"):
        fetch(release, tmp_path, subjects=1, **QUICK)
    assert path.read_bytes() == BODIES[1]


def test_damage_that_keeps_size_and_time_is_found_by_verify(release, tmp_path):
    folder = fetch(release, tmp_path, subjects=1, **QUICK)
    path = folder / "subject_1.mat"
    before = path.stat()
    path.write_bytes(OTHER)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    fetch(release, tmp_path, subjects=1, offline=True, **QUICK)
    with pytest.raises(ValueError, match="has SHA-256"):
        fetch(release, tmp_path, subjects=1, offline=True, verify=True, **QUICK)


def test_wrong_bytes_are_an_error_with_both_checksums_and_nothing_stays(server, release, tmp_path):
    server.add("/subject_1.mat", OTHER)
    with pytest.raises(ValueError, match="checksum is published") as caught:
        fetch(official(release), tmp_path, subjects=1, **QUICK)
    message = str(caught.value)
    assert sha256(OTHER) in message and sha256(BODIES[1]) in message
    assert "By hand: ask the author" in message
    assert not names(tmp_path / "tiny")


def test_a_later_download_must_be_the_recorded_one(server, release, tmp_path):
    folder = fetch(release, tmp_path, subjects=1, **QUICK)
    (folder / "subject_1.mat").unlink()
    server.add("/subject_1.mat", OTHER)
    with pytest.raises(ValueError, match=r"recorded in .*downloads\.json") as caught:
        fetch(release, tmp_path, subjects=1, **QUICK)
    message = str(caught.value)
    assert sha256(OTHER) in message and sha256(BODIES[1]) in message
    assert f"delete 'subject_1.mat' in {folder / 'downloads.json'}" in message
    assert not names(folder)
    # What the message says to do helps.
    record = json.loads((folder / "downloads.json").read_text())
    del record["files"]["subject_1.mat"]
    (folder / "downloads.json").write_text(json.dumps(record))
    fetch(release, tmp_path, subjects=1, **QUICK)
    assert (folder / "subject_1.mat").read_bytes() == OTHER


def test_a_new_official_checksum_replaces_what_was_recorded(release, tmp_path):
    folder = fetch(release, tmp_path, subjects=1, **QUICK)
    (folder / "subject_1.mat").write_bytes(OTHER)
    (folder / "downloads.json").unlink()
    fetch(release, tmp_path, subjects=1, **QUICK)  # taken as put there by hand
    with pytest.warns(UserWarning, match="instead of"):
        fetch(official(release), tmp_path, subjects=1, **QUICK)
    assert (folder / "subject_1.mat").read_bytes() == BODIES[1]


def test_a_wrong_part_of_an_earlier_call_is_not_the_end(server, release, tmp_path):
    part = tmp_path / "tiny" / "subject_1.mat.part"
    part.parent.mkdir()
    part.write_bytes(OTHER[:20_000])
    state = {"url": f"{server.url}/subject_1.mat", "etag": server.files["/subject_1.mat"].tag}
    part.with_name(part.name + ".json").write_text(json.dumps(state))
    folder = fetch(official(release), tmp_path, subjects=1, **QUICK)
    assert (folder / "subject_1.mat").read_bytes() == BODIES[1]
    assert server.ranges("/subject_1.mat") == ["bytes=20000-", None]
    assert names(folder) == {"subject_1.mat"}


def test_a_mirror_is_asked_where_the_first_address_fails(server, release, tmp_path):
    file = release.files[0]
    mirror = server.add("/mirror/subject_1.mat", BODIES[1])
    for status in ([404], [500] * 5):
        server.add("/subject_1.mat", BODIES[1], statuses=status)
        two = dataclasses.replace(file, urls=(*file.urls, mirror))
        changed = dataclasses.replace(release, files=(two,))
        folder = fetch(changed, tmp_path / str(status[0]), **QUICK)
        assert (folder / "subject_1.mat").read_bytes() == BODIES[1]
    server.add("/mirror/subject_1.mat", statuses=[403])
    server.add("/subject_1.mat", statuses=[404])
    with pytest.raises(DownloadError, match=r"answered 404.*; .*answered 403.*By hand: ask the"):
        fetch(changed, tmp_path / "none", **QUICK)


def test_a_stalled_server_is_a_timeout_that_says_what_to_do(server, release, tmp_path):
    server.add("/subject_1.mat", BODIES[1], stall=40_000)
    with pytest.raises(DownloadTimeout, match=r"no byte for 0\.2 s.*By hand") as caught:
        fetch(release, tmp_path, subjects=1, progress=False, timeout=0.2, retries=0)
    assert isinstance(caught.value, OSError | TimeoutError)
    assert "subject_1.mat" not in names(tmp_path / "tiny")


def test_files_put_there_by_hand_are_taken_and_recorded(server, release, tmp_path):
    folder = tmp_path / "tiny"
    folder.mkdir()
    (folder / "subject_1.mat").write_bytes(BODIES[1])
    with pytest.warns(UserWarning, match=r"subject_1\.mat \(placed by hand, SHA-256"):
        fetch(release, tmp_path, subjects=1, offline=True, **QUICK)
    (folder / "subject_1.mat").write_bytes(OTHER)
    with pytest.raises(ValueError, match="instead of.*To accept the new bytes"):
        fetch(release, tmp_path, subjects=1, offline=True, **QUICK)
    with pytest.raises(ValueError, match="has SHA-256"):
        (folder / "subject_2.mat").write_bytes(OTHER)
        fetch(official(release), tmp_path, subjects=2, offline=True, **QUICK)
    assert not server.requests


def test_a_folder_for_reading_only_is_verified_without_a_record(release, tmp_path, monkeypatch):
    def refuse(*arguments):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Record, "remember", refuse)
    folder = tmp_path / "tiny"
    folder.mkdir()
    (folder / "subject_1.mat").write_bytes(BODIES[1])
    assert fetch(official(release), tmp_path, subjects=1, offline=True, **QUICK) == folder
    (folder / "subject_1.mat").write_bytes(OTHER)
    with pytest.raises(ValueError, match="has SHA-256"):
        fetch(official(release), tmp_path, subjects=1, offline=True, **QUICK)


# Archives.


def tarred(files):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, body in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(body)
            archive.addfile(info, io.BytesIO(body))
    return stream.getvalue()


@pytest.fixture
def packed(server):
    """A release of one archive: P01.tar with two files."""
    body = tarred({"P01/a_words.mat": BODIES[1], "P01/b_words.mat": BODIES[2]})
    file = ReleaseFile(
        "P01.tar",
        (server.add("/P01.tar", body),),
        subject="P01",
        unpack_to="P01",
        provides=("P01/*_words.mat",),
    )
    return Release("packed", "A test", "http://home", "Author 2020", "CC0", "ask", (file,))


def test_an_archive_is_unpacked_deleted_and_verified_by_its_files(server, packed, tmp_path):
    folder = fetch(packed, tmp_path, **QUICK)
    assert names(folder) == {"P01"}
    assert (folder / "P01" / "a_words.mat").read_bytes() == BODIES[1]
    fetch(packed, tmp_path, offline=True, verify=True, **QUICK)
    assert len(server.requests) == 1
    (folder / "P01" / "b_words.mat").unlink()
    with pytest.raises(FileNotFoundError, match=r"P01\.tar \(from"):
        fetch(packed, tmp_path, offline=True, **QUICK)
    fetch(packed, tmp_path, **QUICK)
    assert (folder / "P01" / "b_words.mat").read_bytes() == BODIES[2]
    (folder / "P01" / "b_words.mat").write_bytes(OTHER)
    with pytest.warns(UserWarning, match=r"b_words\.mat is not what it was.*Now it is fetched"):
        fetch(packed, tmp_path, **QUICK)
    assert (folder / "P01" / "b_words.mat").read_bytes() == BODIES[2]


def test_an_archive_put_there_by_hand_is_unpacked_and_kept(server, packed, tmp_path):
    folder = tmp_path / "packed"
    folder.mkdir()
    (folder / "P01.tar").write_bytes(server.files["/P01.tar"].body)
    fetch(packed, tmp_path, offline=True, **QUICK)
    assert names(folder) == {"P01", "P01.tar"}
    (folder / "P01" / "a_words.mat").unlink()
    fetch(packed, tmp_path, offline=True, **QUICK)
    assert (folder / "P01" / "a_words.mat").read_bytes() == BODIES[1]
    assert not server.requests


def test_what_was_unpacked_by_hand_is_taken(server, packed, tmp_path):
    folder = tmp_path / "packed" / "P01"
    folder.mkdir(parents=True)
    (folder / "a_words.mat").write_bytes(BODIES[1])
    with pytest.warns(UserWarning, match="placed by hand"):
        fetch(packed, tmp_path, offline=True, **QUICK)
    (folder / "a_words.mat").write_bytes(OTHER)
    with pytest.raises(ValueError, match=r"a_words\.mat is not what it was"):
        fetch(packed, tmp_path, offline=True, **QUICK)
    assert not server.requests


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (tarred({"../evil.mat": b"evil"}), "may lead out of the folder"),
        (tarred({"P01/a_words.mat": BODIES[1]})[:20_000], "is damaged"),
        (b"Sorry, this file was moved.", "is damaged, or no .zip"),
    ],
)
def test_an_archive_that_cannot_be_trusted_leaves_nothing(server, packed, tmp_path, body, message):
    server.add("/P01.tar", body)
    with pytest.raises(ValueError, match=rf"{message}.*\(it was removed\)\. By hand: ask"):
        fetch(packed, tmp_path, **QUICK)
    assert not names(tmp_path / "packed") and {p.name for p in tmp_path.iterdir()} == {"packed"}
    assert not (tmp_path / "packed" / "downloads.json").exists()


def test_a_file_that_the_reader_can_do_without_only_warns(server, packed, tmp_path):
    extra = ReleaseFile("more.zip", (server.url + "/more.zip",), unpack_to="more", required=False)
    wider = dataclasses.replace(packed, files=(*packed.files, extra))
    with pytest.warns(UserWarning, match=r"more\.zip.*404.*can do without it"):
        folder = fetch(wider, tmp_path, **QUICK)
    assert names(folder) == {"P01"}
    fetch(wider, tmp_path, offline=True, **QUICK)


# Listings.


def test_the_osf_tells_addresses_and_checksums(server, tmp_path):
    node = server.add_osf_node(
        "abcde", {"": {}, "fmri": {f"sub{n}.mat": body for n, body in BODIES.items()}}
    )
    files = tuple(
        ReleaseFile(f"subject_{n}.mat", subject=str(n), listed_as=rf".*sub{n}\.mat")
        for n in (1, 2, 3, 4)
    )
    release = Release("tiny", "", "http://osf", "", "", "ask", files, (Listing("osf", node),))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # every checksum is published
        folder = fetch(release, tmp_path, subjects=[1, 2, 3], **QUICK)
    assert (folder / "subject_3.mat").read_bytes() == BODIES[3]
    listed = [path for path, _ in server.requests if path.startswith("/v2/")]
    assert len(listed) == len(set(listed))  # asked for once
    with pytest.raises(DownloadError, match=r"lists fmri/sub1\.mat.*, not subject_4\.mat"):
        fetch(release, tmp_path, subjects=4, **QUICK)

    (folder / "subject_1.mat").unlink()
    server.add("/download/abcde/fmri/sub1.mat", OTHER)
    with pytest.raises(ValueError, match="checksum is published") as caught:
        fetch(release, tmp_path, subjects=1, **QUICK)
    assert sha256(OTHER) in str(caught.value) and sha256(BODIES[1]) in str(caught.value)
    server.add_osf_node("abcde", {"": {}, "fmri": {"sub1.mat": OTHER}})
    with pytest.raises(ValueError, match="listed with SHA-256") as caught:
        fetch(release, tmp_path, subjects=1, **QUICK)
    assert sha256(OTHER) in str(caught.value) and sha256(BODIES[1]) in str(caught.value)


def test_a_listing_that_is_gone_leaves_the_addresses_of_the_registry(server, release, tmp_path):
    gone = dataclasses.replace(release, listings=(Listing("osf", server.url + "/v2/nodes/x/"),))
    folder = fetch(gone, tmp_path, **QUICK)
    assert (folder / "subject_1.mat").read_bytes() == BODIES[1]
    assert len([path for path, _ in server.requests if path.startswith("/v2/")]) == 1


def test_the_links_of_the_page_go_before_those_of_the_registry(server, release, tmp_path):
    body = b'<a href="/new/subject_1.mat">one</a>'
    page = server.add("/page.html", body, kind="text/html")
    server.add("/new/subject_1.mat", BODIES[1])
    server.add("/subject_1.mat", OTHER)
    linked = dataclasses.replace(release, listings=(Listing("links", page),))
    folder = fetch(linked, tmp_path, subjects=1, **QUICK)
    assert (folder / "subject_1.mat").read_bytes() == BODIES[1]
    assert not server.ranges("/subject_1.mat")


# Several processes.

FETCH = """
import sys
from pathlib import Path
from brainalign_jax.neural.downloads.fetching import fetch
from brainalign_jax.neural.downloads.releases import Release, ReleaseFile
url, folder = sys.argv[1:]
file = ReleaseFile("subject_1.mat", (url,))
print(fetch(Release("tiny", "", "", "", "", "", (file,)), folder, progress=False, timeout=20))
"""


def start(url, folder):
    command = [sys.executable, "-W", "ignore", "-c", FETCH, url, str(folder)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_killed_process_leaves_a_part_that_others_go_on_with(server, release, tmp_path):
    """One process is killed in the middle; then two at once fetch the same file."""
    url = f"{server.url}/subject_1.mat"
    server.add("/subject_1.mat", BODIES[1], stall=40_000)
    killed = start(url, tmp_path)
    part = tmp_path / "tiny" / "subject_1.mat.part"
    end = time.monotonic() + 30
    while not (part.is_file() and part.stat().st_size >= 32_768):
        assert killed.poll() is None and time.monotonic() < end, killed.communicate()
        time.sleep(0.01)
    killed.kill()
    killed.communicate()
    assert not (part.parent / "subject_1.mat").exists()

    server.add("/subject_1.mat", BODIES[1])
    both = [start(url, tmp_path) for _ in range(2)]
    for process in both:
        out, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
        assert out.strip() == str(tmp_path / "tiny")
    assert (tmp_path / "tiny" / "subject_1.mat").read_bytes() == BODIES[1]
    assert server.ranges("/subject_1.mat") == [None, f"bytes={32_768}-"]  # none came twice
    assert names(tmp_path / "tiny") == {"subject_1.mat"}
    assert all(path.suffix == ".lock" for path in (tmp_path / "tiny" / ".downloads").iterdir())


# The registry.


def test_the_registry_knows_the_releases_and_their_subjects():
    counts = {name: len(release_info(name).subjects) for name in list_releases()}
    assert counts == {
        "alice": 0,
        "harry_potter": 8,
        "kriegeskorte2008": 0,
        "lebel2023": 9,
        "little_prince": 112,
        "narratives": 345,
        "natural_stories": 19,
        "pereira2018": 16,
        "smn4lang": 12,
        "smn4lang_meg": 12,
    }
    assert tuple(counts) == tuple(sorted(counts))
    with pytest.raises(ValueError, match="unknown release 'narrative'; the nearest: narratives"):
        release_info("narrative")


def test_people_of_narratives_have_the_scans_of_the_release():
    files = release_info("narratives").files
    assert sum(file.path.endswith("_events.tsv") for file in files) == 873
    own = [file.path for file in files if file.subject == "001"]
    scans = "pieman_run-1", "pieman_run-2", "tunnel"
    assert [path for path in own if path.endswith("tsv")] == [
        f"sub-001/func/sub-001_task-{scan}_events.tsv" for scan in scans
    ]
    assert len(own) == 9 and {len(file.urls) for file in files if file.subject} == {1}


def test_chosen_stories_of_chosen_people_are_fetched_and_opened(server, tmp_path):
    (tmp_path / "made").mkdir()
    release = served(server, release_info("lebel2023"), make_lebel2023(tmp_path / "made"))
    first, second, _ = release.stories
    options = dict(subjects="UTS03", stories=[first, second], **QUICK)
    folder = fetch(release, tmp_path / "cache", **options)
    names = {path.stem for kind in ("TextGrid", "hf5") for path in folder.rglob(f"*.{kind}")}
    assert names == {first, second}
    dataset = open_dataset("lebel2023", folder)
    assert dataset.subjects == ("UTS03",) and set(dataset.stimulus.attribute("story")) == names


@pytest.mark.parametrize(
    ("name", "subjects", "stories", "message"),
    [
        ("lebel2023", None, "sols", "unknown story 'sols' of lebel2023; the nearest of 84: souls"),
        (
            "lebel2023",
            ["UTS04", "UTS05"],
            "life",
            "UTS04 of lebel2023 heard none of the stories life",
        ),
        ("narratives", 1, "milkywayvodka", "unknown subject '1' of narratives"),
        (
            "narratives",
            "001",
            ["merlin", "sherlock"],
            "001 of narratives heard none of the stories",
        ),
        ("smn4lang", "01", 61, "unknown story '61' of smn4lang"),
        ("smn4lang", "01", [], "no story of smn4lang is asked for"),
        ("alice", None, "alice", "alice comes with all of its stories together: leave stories out"),
    ],
)
def test_stories_that_are_not_there_are_told_before_anything_is_fetched(
    name, subjects, stories, message, tmp_path
):
    with pytest.raises(ValueError, match=message):
        fetch(name, tmp_path, subjects=subjects, stories=stories, offline=True)
    assert not list(tmp_path.iterdir())


def test_a_story_of_a_task_with_several_comes_with_the_scans_of_all(tmp_path):
    with pytest.raises(FileNotFoundError) as raised:
        fetch("narratives", tmp_path, subjects="030", stories="milkywayvodka", offline=True)
    missing = str(raised.value)
    assert "sub-030_task-milkyway_events.tsv" in missing and "prettymouth" not in missing


@pytest.mark.parametrize("name", list_releases())
def test_every_release_says_what_a_user_must_know(name):
    release = release_info(name)
    described = release.describe()
    assert release.name == name and release.citation in described and release.licence in described
    assert release.homepage.startswith("http") and "download" in release.by_hand
    paths = [file.path for file in release.files]
    assert len(set(paths)) == len(paths)
    for file in release.files:
        assert file.urls or release.listings
        assert all(url.startswith(("https://", "http://")) for url in file.urls)
        assert file.sha256 is None or len(file.sha256) == 64


def served(server, release, files):
    """The release with its files on the server: files is {path: body}; listings lead there too."""
    nodes = {listing.url: listing for listing in release.listings if listing.kind == "osf"}
    if nodes and not release.files[0].urls:  # the OSF alone has the addresses
        node = server.add_osf_node("eq2ba", {"": files})
        return dataclasses.replace(release, listings=(Listing("osf", node),))
    kept = tuple(
        dataclasses.replace(file, urls=(server.add(f"/{file.path}", files[file.path]),))
        for file in release.files
        if file.path in files
    )
    return dataclasses.replace(release, files=kept, listings=())


def zip_folder(folder):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for path in sorted(folder.rglob("*")):
            archive.write(path, path.relative_to(folder.parent))
    return stream.getvalue()


def tar_folder(folder):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        archive.add(folder, folder.name)
    return stream.getvalue()


def story():
    words = ("Alice was beginning to get very tired of sitting by her sister . " * 10).split()
    return words, np.random.default_rng(0).standard_normal((len(words), 4))


def make_harry_potter(folder):
    from brainalign_jax.neural.simulate.harry_potter import simulate_harry_potter

    words, vectors = story()
    simulate_harry_potter(folder, words=words, vectors=vectors, n_voxels=20, n_subjects=2)
    return {path.name: path.read_bytes() for path in folder.glob("*.mat")}


def make_natural_stories(folder):
    from simulate.natural_stories import simulate_natural_stories

    words, vectors = story()
    simulate_natural_stories(folder, words=words, vectors=vectors, n_voxels=20, n_subjects=2)
    return {path.name: path.read_bytes() for path in folder.glob("*.mat")}


def make_pereira2018(folder):
    from simulate.pereira import simulate_pereira

    simulate_pereira(
        folder, subjects=("P01", "M01"), experiments=("180concepts",), n_voxels=50, shape=(9, 9, 9)
    )
    return {f"{name}.tar": tar_folder(folder / name) for name in ("P01", "M01")}


def make_alice(folder):
    from simulate.alice import simulate_alice

    simulate_alice(folder, n_subjects=2)
    return {
        f"{name}.zip": zip_folder(folder / name)
        for name in ("alice_data_shared", "alice_stim_shared")
    }


def files_below(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def make_little_prince(folder):
    from simulate.little_prince import simulate_little_prince

    words, vectors = story()
    simulate_little_prince(folder, texts={"en": (words, vectors)})
    return files_below(folder)


def make_lebel2023(folder):
    from simulate.lebel2023 import simulate_lebel2023

    words, vectors = story()
    simulate_lebel2023(folder, words=[word for word in words if word != "."], vectors=vectors[:120])
    return files_below(folder)


def make_narratives(folder):
    from simulate.narratives import simulate_narratives

    words, vectors = story()
    simulate_narratives(folder, words=words, vectors=vectors, n_subjects=1)
    return files_below(folder)


def make_smn4lang(folder):
    from simulate.smn4lang import simulate_smn4lang

    words, vectors = story()
    simulate_smn4lang(folder, words=words, vectors=vectors)
    return files_below(folder)


# The volumes are too small for nilearn to find a brain in them.
OPTIONS = {"little_prince": {"mask": "all", "bad_voxels": "drop"}}


@pytest.mark.filterwarnings("ignore:.* voxels .* dropped", "ignore:.*constant")
@pytest.mark.parametrize(
    ("make", "subjects"),
    [
        (make_harry_potter, ("1", "2")),
        (make_natural_stories, ("1", "2")),
        (make_pereira2018, ("M01", "P01")),
        (make_alice, None),
        (make_little_prince, ("EN057", "EN058")),
        (make_lebel2023, ("UTS02", "UTS03")),
        (make_narratives, ("001",)),
        (make_smn4lang, ("01", "02")),
    ],
)
def test_the_reader_opens_what_was_fetched(server, tmp_path, make, subjects):
    name = make.__name__.removeprefix("make_")
    folder = tmp_path / "made"
    folder.mkdir()
    release = served(server, release_info(name), make(folder))
    fetched = fetch(release, tmp_path / "cache", subjects=subjects, **QUICK)
    dataset = open_dataset(name, fetched, **OPTIONS.get(name, {}))
    assert sorted(dataset.subjects) == sorted(subjects or dataset.subjects)
    assert np.isfinite(dataset.load(dataset.subjects[0]).values).any()
    assert open_dataset(name, fetched.parent).subjects == dataset.subjects
    fetch(release, tmp_path / "cache", subjects=subjects, offline=True, **QUICK)
