"""What is given away: sdist and wheel are whole, and the wheel works in an environment of its own."""

import os
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from email import message_from_bytes, policy
from pathlib import Path
from shutil import copy, copytree, ignore_patterns

import numpy as np
import pytest
from recordings import write_table, write_vectors

import brainalign_jax

pytest.importorskip("setuptools", reason="building needs setuptools: pip install setuptools")

REPOSITORY = Path(__file__).resolve().parents[1]
VERSION = brainalign_jax.__version__
PACKAGE = "brainalign_jax"
# What a clone has. Building writes beside the sources, therefore into a copy.
FILES = (
    "setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE",
    "CITATION.cff", "Makefile",
)  # fmt: skip
FOLDERS = (PACKAGE, "experiments", "benchmarks", "tests")
BUILD = "import sys; from setuptools import build_meta; print(getattr(build_meta, sys.argv[1])(sys.argv[2]))"


def run(command, cwd, **variables) -> subprocess.CompletedProcess:
    """Run it as a user does who has no clone: the repository is on no path."""
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME")}
    done = subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env=environment | variables,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def build(kind: str, source: Path, output: Path) -> Path:
    """The sdist or wheel of a source folder, by setuptools as pip and build call it, offline."""
    done = run([sys.executable, "-c", BUILD, f"build_{kind}", output], source)
    return output / done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def distributions(tmp_path_factory):
    """(sdist, wheel from the clone, wheel from the sdist)."""
    folder = tmp_path_factory.mktemp("distributions")
    clone = folder / "clone"
    clone.mkdir()
    for name in FILES:
        copy(REPOSITORY / name, clone)
    for name in FOLDERS:
        copytree(REPOSITORY / name, clone / name, ignore=ignore_patterns("__pycache__"))
    wheel = build("wheel", clone, folder)
    sdist = build("sdist", clone, folder)
    with tarfile.open(sdist) as archive:
        archive.extractall(folder / "unpacked", filter="data")
    (unpacked,) = (folder / "unpacked").iterdir()
    (folder / "again").mkdir()
    return sdist, wheel, build("wheel", unpacked, folder / "again")


def test_the_sdist_holds_what_a_build_needs(distributions):
    sdist = distributions[0]
    assert sdist.name == f"brainalign_jax-{VERSION}.tar.gz"
    with tarfile.open(sdist) as archive:
        paths = [Path(member.name) for member in archive if member.isfile()]
    held = {path.relative_to(f"brainalign_jax-{VERSION}") for path in paths}
    made = {"PKG-INFO", "setup.cfg", "MANIFEST.in", "setup.py", "pyproject.toml"}
    texts = {"README.md", "CHANGELOG.md", "LICENSE", "CITATION.cff"}
    assert {path.parts[0] for path in held} == made | texts | {PACKAGE, f"{PACKAGE}.egg-info"}
    package = {
        path.relative_to(REPOSITORY)
        for path in (REPOSITORY / PACKAGE).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {path for path in held if path.parts[0] == PACKAGE} == package


def test_the_wheel_of_the_sdist_is_the_wheel_of_the_clone(distributions):
    contents = []
    for path in distributions[1:3]:
        with zipfile.ZipFile(path) as wheel:
            contents.append({name: wheel.read(name) for name in wheel.namelist()})
    assert contents[0] == contents[1]
    tops = {name.partition("/")[0] for name in contents[0]}
    assert tops == {PACKAGE, f"{PACKAGE}-{VERSION}.dist-info"}
    assert {f"{PACKAGE}/py.typed", f"{PACKAGE}/data/story.txt"} <= set(contents[0])


def test_the_metadata_say_what_is_installed(distributions):
    with zipfile.ZipFile(distributions[1]) as wheel:
        info = f"brainalign_jax-{VERSION}.dist-info"
        metadata = message_from_bytes(wheel.read(f"{info}/METADATA"), policy=policy.default)
        assert any(name.endswith("LICENSE") for name in wheel.namelist())
        assert b"brainalign = brainalign_jax.cli:main" in wheel.read(f"{info}/entry_points.txt")
    assert (metadata["Name"], metadata["Version"]) == ("brainalign_jax", VERSION)
    assert metadata["Requires-Python"] == ">=3.11" and metadata["License"] == "Apache-2.0"
    assert metadata["Description-Content-Type"] == "text/markdown"
    readme = (REPOSITORY / "README.md").read_text("utf-8")
    assert metadata.get_payload(decode=True).decode().strip() == readme.strip()
    extras = {"test", "languages", "norms", "gguf", "mne", "bench", "docs", "cuda", "cuda13", "tpu"}
    assert set(metadata.get_all("Provides-Extra")) == extras
    pythons = {
        text.rpartition(" :: ")[2] for text in metadata.get_all("Classifier") if "Python ::" in text
    }
    assert {"3.11", "3.12", "3.13"} <= pythons


@pytest.fixture(scope="module")
def installed(distributions, tmp_path_factory):
    """An environment with the wheel, which borrows the packages of this one but not the package."""
    pytest.importorskip("pip", reason="installing needs pip")
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    paths = sysconfig.get_paths(vars={"base": str(folder), "platbase": str(folder)})
    # The .pth files in a folder that a .pth file names are not read: an editable install is not seen.
    lent = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (Path(paths["purelib"]) / "lent.pth").write_text("\n".join(sorted(lent)) + "\n")
    pip = [sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check", "-q"]
    # An older or editable brainalign_jax among what is lent is no reason to leave this one out.
    run(
        [*pip, "install", "--no-deps", "--no-index", "--ignore-installed", distributions[1]], folder
    )
    where = run([python, "-c", "import brainalign_jax; print(brainalign_jax.__file__)"], folder)
    assert Path(where.stdout.strip()).is_relative_to(folder)
    return folder / "bin"


def test_the_installed_command_answers(installed, tmp_path):
    command, python = installed / "brainalign", installed / "python"
    assert run([command, "--version"], tmp_path).stdout.strip() == VERSION
    assert "brainalign demo" in run([command, "--help"], tmp_path).stdout
    asked = run([python, "-m", "brainalign_jax", "align", "--help"], tmp_path)
    assert "--dataset" in asked.stdout
    assert "gpt2" in run([command, "models"], tmp_path).stdout
    assert not list(tmp_path.iterdir())


def test_the_installed_command_scores_a_table(installed, tmp_path):
    rng = np.random.default_rng(0)
    words = [f"word{i}" for i in range(24)]
    vectors = rng.standard_normal((24, 4))
    responses = vectors @ rng.standard_normal((4, 6)) + 0.3 * rng.standard_normal((24, 6))
    write_table(tmp_path / "data" / "S1.csv", words, responses)
    write_vectors(tmp_path / "vectors.txt", vectors)
    options = (
        "--dataset=table --data_dir=data/S1.csv --models=static:vectors.txt --methods=procrustes"
    )
    options += " --ks=1,10 --evidence=false --progress=false --output_dir=out/table"
    done = run([installed / "brainalign", "align", *options.split()], tmp_path)
    assert "procrustes" in done.stdout and "out/table/report.html" in done.stdout
    assert (tmp_path / "out" / "table" / "report.html").stat().st_size > 1000
    assert "Traceback" not in done.stderr
