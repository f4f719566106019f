"""The download from the hub, against a server on this machine that speaks the hub's protocol."""

import hashlib
import json
import os
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from brainalign_jax.language.models import fingerprint
from brainalign_jax.names import expanded

COMMIT = "0123456789abcdef0123456789abcdef01234567"
REPO = "owner/tiny"
LOCATE = """
import sys
from brainalign_jax.language.models import checkpoint
for name in sys.argv[1:]:
    try:
        print(checkpoint.locate(name))
    except (ValueError, FileNotFoundError) as error:
        print(type(error).__name__, error)
"""


def commit_of(revision):
    """A made-up commit of a revision."""
    return hashlib.sha1(revision.encode()).hexdigest()


class Hub(BaseHTTPRequestHandler):
    """Answers what huggingface_hub asks of a model repository. Cuts the first downloads short."""

    files: dict[str, bytes] = {}
    revisions: dict[str, dict[str, bytes]] = {}  # of other revisions than the main one
    cuts_left = 0
    ranges: list[str] = []

    def log_message(self, *arguments):
        pass

    def answer(self, status, body=b"", **headers):
        self.send_response(status)
        for name, value in ({"Content-Length": len(body)} | headers).items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def do_HEAD(self):
        self.do_GET()

    def revision(self, path):
        """(commit, files) of what a path asks for; None where there is no such revision."""
        asked = re.match(f"/(?:api/models/{REPO}/(?:tree|revision)|{REPO}/resolve)/([^/]+)", path)
        if not asked or asked[1] in ("main", COMMIT):
            return COMMIT, self.files
        for name, files in self.revisions.items():
            if asked[1] in (name, commit_of(name)):
                return commit_of(name), files
        return None

    def do_GET(self):
        path = self.path.split("?")[0]
        if self.revision(path) is None:
            return self.answer(404, X_Error_Code="RevisionNotFound")
        commit, files = self.revision(path)
        siblings = [{"rfilename": name} for name in files]
        if path.startswith(f"/api/models/{REPO}/tree/"):
            listed = [
                {"type": "file", "path": name, "size": len(body), "oid": "0" * 40}
                for name, body in files.items()
            ]
            return self.answer(200, json.dumps(listed).encode(), Content_Type="application/json")
        if path.startswith(f"/api/models/{REPO}"):
            info = {"id": REPO, "modelId": REPO, "sha": commit, "siblings": siblings}
            return self.answer(200, json.dumps(info).encode(), Content_Type="application/json")
        match = re.fullmatch(f"/{REPO}/resolve/[^/]+/(.+)", path)
        if not match or match[1] not in files:
            return self.answer(404, X_Error_Code="RepoNotFound" if not match else "EntryNotFound")
        body = files[match[1]]
        headers = {"X_Repo_Commit": commit, "ETag": f'"{hashlib.sha256(body).hexdigest()}"'}
        start = 0
        if asked := re.match(r"bytes=(\d+)-", self.headers.get("Range", "")):
            start = int(asked[1])
            self.ranges.append(match[1])
            headers["Content_Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
        if self.command == "GET" and start == 0 and len(body) > 10_000 and Hub.cuts_left:
            Hub.cuts_left -= 1
            self.send_response(200)
            for name, value in (headers | {"Content-Length": len(body)}).items():
                self.send_header(name.replace("_", "-"), str(value))
            self.end_headers()
            self.wfile.write(body[: len(body) // 2])
            self.wfile.flush()
            self.connection.close()
            return None
        return self.answer(206 if start else 200, body[start:], **headers)


@pytest.fixture
def hub():
    """Address of the server, its files empty."""
    Hub.files, Hub.revisions, Hub.cuts_left, Hub.ranges = {}, {}, 0, []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def locate(endpoint, cache, *names, offline="0"):
    """What `checkpoint.locate` says of each name, in a fresh process whose hub is the server."""
    environment = os.environ | {
        "HF_ENDPOINT": endpoint,
        "HF_HOME": str(cache),
        "HF_HUB_OFFLINE": offline,
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "JAX_PLATFORMS": "cpu",
    }
    done = subprocess.run(
        [sys.executable, "-c", LOCATE, *names],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return done.stdout.splitlines()


def test_a_repository_is_downloaded_resumed_and_then_read_without_the_server(hub, tmp_path):
    weights = bytes(range(256)) * 100_000  # cut after more than one of the chunks that are kept
    Hub.files = {
        "config.json": b'{"model_type": "bert"}',
        "vocab.txt": b"a\nb\n",
        "model.safetensors": weights,
        "pytorch_model.bin": b"not wanted",
        "README.md": b"not wanted",
    }
    Hub.cuts_left = 1
    (folder,) = locate(hub, tmp_path, REPO)
    kept = {path.name: path.read_bytes() for path in Path(folder).iterdir()}
    assert kept == {
        name: Hub.files[name] for name in ("config.json", "vocab.txt", "model.safetensors")
    }
    assert Hub.cuts_left == 0 and Hub.ranges == ["model.safetensors"]
    assert locate("http://127.0.0.1:9", tmp_path, REPO, offline="1") == [folder]


def test_an_unknown_repository_and_an_unreachable_hub_are_told_apart(hub, tmp_path):
    (absent,) = locate(hub, tmp_path, "owner/absent")
    assert absent.startswith("FileNotFoundError")
    (unreachable,) = locate(hub, tmp_path, REPO, offline="1")
    assert "could not be reached" in unreachable


def test_steps_of_training_are_revisions_that_are_kept_apart(hub, tmp_path):
    def files(weights):
        return {"config.json": b'{"model_type": "gpt_neox"}', "model.safetensors": weights}

    Hub.files = files(b"last")
    Hub.revisions = {"step512": files(b"early"), "step1000": files(b"later")}
    steps = expanded([f"{REPO}@{{512,1000}}"])
    *folders, unknown = locate(hub, tmp_path, REPO, *steps, f"{REPO}@step3")
    last, early, later = map(Path, folders)
    assert [path.name for path in (last, early, later)] == [
        COMMIT,
        commit_of("step512"),
        commit_of("step1000"),
    ]
    assert [fingerprint(path) for path in (last, early, later)] == [
        hashlib.sha256(weights).hexdigest() for weights in (b"last", b"early", b"later")
    ]
    again = locate("http://127.0.0.1:9", tmp_path, f"{REPO}@step512", offline="1")
    assert again == [str(early)]
    assert unknown.startswith("ValueError") and "no revision 'step3'" in unknown
