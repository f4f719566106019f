"""What holds for the package as a whole: version, data, dependencies, the shape of its modules."""

import importlib.metadata
import re
import subprocess
import sys
from importlib import resources
from pathlib import Path

import pytest

import brainalign_jax

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGE = REPOSITORY / "brainalign_jax"
MODULES = sorted(PACKAGE.rglob("*.py"))
LONGEST = 500  # lines of a module

# PyTorch is made as if it were not installed: import and find_spec, which transformers asks, both
# do not find it.
IMPORT_ALL = """
import importlib, pkgutil, sys
from importlib.machinery import PathFinder

class WithoutTorch:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "torchvision", "tensorflow"):
            return None
        return PathFinder.find_spec(name, path, target)

    find_distributions = PathFinder.find_distributions

sys.meta_path[sys.meta_path.index(PathFinder)] = WithoutTorch

def fail(name):
    raise

import brainalign_jax
names = [m.name for m in pkgutil.walk_packages(brainalign_jax.__path__, "brainalign_jax.", fail)]
for name in names:
    importlib.import_module(name)
assert "torch" not in sys.modules and importlib.util.find_spec("torch") is None
print(len(names) + 1)
"""


def test_version_is_a_release_number():
    assert re.fullmatch(r"\d+\.\d+\.\d+([.-]?(a|b|rc|dev)\d+)?", brainalign_jax.__version__)


def test_installed_version_is_the_source_version():
    try:
        installed = importlib.metadata.version("brainalign_jax")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("brainalign_jax is not installed: pip install -e '.[test]'")
    assert installed == brainalign_jax.__version__


def test_changelog_has_the_version():
    changelog = (REPOSITORY / "CHANGELOG.md").read_text("utf-8")
    assert re.search(rf"^## \[{re.escape(brainalign_jax.__version__)}\]", changelog, re.MULTILINE)


def test_story_is_package_data():
    story = resources.files("brainalign_jax").joinpath("data/story.txt").read_text("utf-8")
    assert 700 < len(story.split()) < 1000


def test_every_module_imports_without_torch():
    """PyTorch is no dependency: transformers must not be asked for anything that needs it."""
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == len(MODULES)


def test_every_module_is_short_enough_to_read():
    n_lines = {str(path): len(path.read_text("utf-8").splitlines()) for path in MODULES}
    long = {path: n for path, n in n_lines.items() if n > LONGEST}
    assert not long, f"split these by what their parts are about: {long}"


def test_no_module_is_a_drawer():
    drawers = {"utils.py", "util.py", "helpers.py", "misc.py", "common.py"}
    assert not [str(path) for path in MODULES if path.name in drawers]
