"""The download from the command line: one clear line for what is wrong, the folder for what is right."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from release_server import ReleaseServer

BODY = bytes(range(256)) * 100
# The mains define flags of the same names: each needs a process of its own. The registry is led to the
# server of the test.
PROGRAM = """
import dataclasses, os
from absl import app
from brainalign_jax.neural.downloads import releases
from experiments import fetch_data

release, url = releases.HARRY_POTTER, os.environ["SERVER"]
files = tuple(dataclasses.replace(file, urls=(f"{url}/{file.path}",)) for file in release.files)
releases.RELEASES["harry_potter"] = dataclasses.replace(release, files=files)
app.run(fetch_data.main)
"""


@pytest.fixture
def server():
    """A server that has the subjects 1 and 2 of harry_potter."""
    with ReleaseServer() as running:
        for n in "12":
            running.add(f"/subject_{n}.mat", BODY)
        yield running


def run(url="", **given):
    """Exit status, standard output and error of the main with these flags."""
    settings = {"name": "harry_potter", "progress": False, "retries": 0} | given
    environment = {k: v for k, v in os.environ.items() if not k.startswith("BRAINALIGN_")}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *(f"--{name}={value}" for name, value in settings.items())],
        env=environment | {"SERVER": url},
        cwd=Path(__file__).resolve().parents[1],
        capture_output=True,
        text=True,
        timeout=120,
    )
    return done.returncode, done.stdout, done.stderr


def test_the_folder_alone_is_on_standard_output(server, tmp_path):
    status, out, err = run(server.url, data_dir=tmp_path, subjects="1,2")
    assert status == 0 and out == f"{tmp_path / 'harry_potter'}\n"
    assert (tmp_path / "harry_potter" / "subject_2.mat").read_bytes() == BODY
    assert "Wehbe" in err and "licence" in err
    assert "fetch_data: warning: harry_potter: no published checksum" in err
    again = run(server.url, data_dir=tmp_path, subjects="1,2", offline=True, verify=True)
    assert again[:2] == (0, out)
    assert len(server.requests) == 2


def test_what_is_wrong_is_one_line_and_a_status(server, tmp_path):
    server.add("/subject_2.mat", BODY, stall=1000)
    for given, message in (
        ({"subjects": "9"}, "fetch_data: unknown subject '9' of harry_potter; known: 1, 2"),
        ({"subjects": "1", "offline": True}, "fetch_data: offline, and missing of harry_potter"),
        ({"subjects": "3"}, "fetch_data: subject_3.mat of harry_potter cannot be had"),
        ({"subjects": "2", "timeout": 0.2}, "sent no byte for 0.2 s"),
    ):
        status, out, err = run(server.url, data_dir=tmp_path, **given)
        assert status == 1 and message in err and not out and "Traceback" not in err
        assert "By hand: download subject_1.mat" in err or given["subjects"] != "3"


def test_the_releases_are_listed():
    status, printed, _ = run(name="list")
    assert status == 0
    for name in ("alice", "harry_potter", "natural_stories", "pereira2018"):
        assert f"{name}: " in printed
