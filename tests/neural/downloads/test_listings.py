"""Official lists of files: the OSF's API with its checksums, and the links of a page."""

import hashlib

import pytest
from release_server import ReleaseServer

from brainalign_jax.neural.downloads import transfer
from brainalign_jax.neural.downloads.listings import Listed, find_listed, read_listing
from brainalign_jax.neural.downloads.releases import Listing, ReleaseFile, release_info
from brainalign_jax.neural.downloads.transfer import DownloadError, Patience, read_url

QUICK = Patience(timeout=0.3, retries=1, backoff=0.01)


@pytest.fixture
def server():
    with ReleaseServer() as running:
        yield running


def osf(url):
    return {entry.path: entry for entry in read_listing(Listing("osf", url), QUICK)}


def test_an_osf_node_is_listed_over_pages_folders_and_components(server):
    bodies = {f"subject_{n}.mat": bytes([n]) * 10 for n in range(1, 8)}
    url = server.add_osf_node(
        "abcde", {"": {"README.txt": b"read"}, "fmri": bodies}, page=3, children=["child"]
    )
    server.add_osf_node("child", {"": {"more.zip": b"zip"}}, hashes=False)
    listing = osf(url)
    assert set(listing) == {"README.txt", "more.zip", *(f"fmri/{name}" for name in bodies)}
    for name, body in bodies.items():
        assert listing[f"fmri/{name}"].sha256 == hashlib.sha256(body).hexdigest()
        assert listing[f"fmri/{name}"].url == f"{server.url}/download/abcde/fmri/{name}"
    assert listing["more.zip"].sha256 is None


@pytest.mark.parametrize(
    "body", [b"<html>", b"[]", b'{"errors": []}', b'{"data": 3}', b"[" * 10**5]
)
def test_what_is_no_osf_list_is_an_error_that_names_the_address(server, body):
    url = server.add_osf_node("abcde", {"": {}})
    server.add("/v2/nodes/abcde/files/osfstorage/?page%5Bsize%5D=100", body)
    with pytest.raises(ValueError, match=rf"{url}files.* is no list of the OSF"):
        osf(url)


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ({"attributes": {"kind": "file", "name": "a"}}, "no links.download"),
        ({"attributes": {"kind": "folder"}}, "no relationships.files"),
        ("text", "no attributes.name"),
        (
            {"attributes": {"name": "a", "extra": {"hashes": {"sha256": "12"}}}, "links": {"download": "b"}},
            "gives '12' as SHA-256 of a",
        ),
    ],
)  # fmt: skip
def test_an_incomplete_entry_is_an_error(server, item, message):
    url = server.add_osf_node("abcde", {"": {}})
    path = "/v2/nodes/abcde/files/osfstorage/?page%5Bsize%5D=100"
    server.add_json(path, {"data": [item], "links": {"next": None}})
    with pytest.raises(ValueError, match=message):
        osf(url)


def test_a_list_that_leads_back_to_itself_ends(server):
    url = server.add_osf_node("abcde", {"": {}})
    path = "/v2/nodes/abcde/files/osfstorage/?page%5Bsize%5D=100"
    server.add_json(path, {"data": [], "links": {"next": server.url + path}})
    with pytest.raises(ValueError, match="does not end"):
        osf(url)


def test_a_node_that_is_gone_is_a_download_error(server):
    with pytest.raises(DownloadError, match="404"):
        osf(server.url + "/v2/nodes/gone/")


def test_links_of_a_page_are_listed_and_dropbox_gives_the_file(server):
    page = """<p><a href="data/P01.tar">P01</a> <A HREF='https://www.dropbox.com/s/k/M02.tar?dl=0'>M02
    </a> <a name="x">none</a> <a href="mailto:someone">mail</a> <a href="/top%20file.txt">top</a>"""
    url = server.add("/docs/index2.html", page.encode(), kind="text/html")
    assert read_listing(Listing("links", url), QUICK) == (
        Listed("P01.tar", f"{server.url}/docs/data/P01.tar"),
        Listed("M02.tar", "https://www.dropbox.com/s/k/M02.tar?dl=1"),
        Listed("top file.txt", f"{server.url}/top%20file.txt"),
    )


def test_an_unknown_kind_of_listing_is_refused():
    with pytest.raises(ValueError, match="unknown kind 'ftp' of listing; known: osf, links"):
        read_listing(Listing("ftp", "x"), QUICK)


def test_a_file_is_found_by_its_name_or_pattern():
    listed = (Listed("a/P01.tar", "1"), Listed("P011.tar", "2"), Listed("b.zip", "3"))
    assert find_listed(ReleaseFile("P01.tar"), listed).url == "1"
    assert find_listed(ReleaseFile("x.tar", listed_as=r"b\.zip"), listed).url == "3"
    assert find_listed(ReleaseFile("P02.tar"), listed) is None
    with pytest.raises(ValueError, match=r"several files.*a/P01.tar, P011.tar"):
        find_listed(ReleaseFile("x", listed_as=r".*P01.*"), listed)


@pytest.mark.parametrize(
    "pattern",
    ["subject_{}.mat", "fmri/sub{}.mat", "Subject{:02d}.mat", "sub-{:02d}.mat", "S{}.mat"],
)
def test_subjects_of_natural_stories_are_told_apart(pattern):
    listed = tuple(Listed(pattern.format(n), str(n)) for n in range(1, 20))
    files = release_info("natural_stories").files
    assert [find_listed(file, listed).url for file in files] == [str(n) for n in range(1, 20)]


def test_a_list_without_an_end_is_given_up(server, monkeypatch):
    monkeypatch.setattr(transfer, "_LONGEST_PAGE", 2**16)
    url = server.add("/page", b"<html>" + b" " * 2**17)
    with pytest.raises(DownloadError, match=rf"{url} does not end after 65,536 bytes"):
        read_url(url, Patience(retries=0))
