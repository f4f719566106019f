"""The examples in the docstrings of the front door, as a user types them."""

import ast
import dataclasses
import doctest
import inspect
import io
import operator

import numpy as np
import pytest
from release_server import ReleaseServer
from small_models import add_letter_tokenizer, save_checkpoint

import brainalign_jax as ba
from brainalign_jax.neural.downloads import releases
from brainalign_jax.neural.readers import registry

NAMES = (
    *(name for name in ba.__all__ if name != "__version__"),
    "ResultTable.verdict",
    "ResultTable.summary",
)
N_WORDS = 40
# What an example may use without making it; each is a fixture below, and explained in the docstring.
GIVEN = ("recordings", "vectors", "study", "checkpoint", "causal_checkpoint")


def parsed(name: str) -> doctest.DocTest:
    """The examples in the docstring of a name of the front door."""
    text = inspect.getdoc(operator.attrgetter(name)(ba)) or ""
    return doctest.DocTestParser().get_doctest(text, {}, name, None, None)


def used_names(test: doctest.DocTest) -> set[str]:
    """Names that the examples use and do not make."""
    tree = ast.parse("".join(example.source for example in test.examples))
    names = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
    made = {node.id for node in names if isinstance(node.ctx, ast.Store)}
    return {node.id for node in names} - made


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Two subjects' tables of recordings and a file of word vectors, which are in the recordings."""
    folder, rng = tmp_path_factory.mktemp("examples"), np.random.default_rng(0)
    words = [f"word{i}" for i in range(N_WORDS)]
    vectors = rng.standard_normal((N_WORDS, 6))

    def write(path, values, separator):
        rows = (
            separator.join([word, *(f"{x:.4f}" for x in row)])
            for word, row in zip(words, values, strict=True)
        )
        path.write_text("\n".join(rows) + "\n")

    write(folder / "vectors.txt", vectors, " ")
    (folder / "recordings").mkdir()
    for subject in ("S1", "S2"):
        values = vectors @ rng.standard_normal((6, 8)) + 0.3 * rng.standard_normal((N_WORDS, 8))
        path = folder / "recordings" / f"{subject}.csv"
        write(path, values, ",")
        header = ",".join(["word", *(f"region{i}" for i in range(8))])
        path.write_text(f"{header}\n{path.read_text()}")
    return folder


@pytest.fixture
def recordings(data):
    return data / "recordings"


@pytest.fixture
def vectors(data):
    return data / "vectors.txt"


@pytest.fixture(scope="module")
def study(data):
    folder = data / "study"
    if not folder.exists():
        ba.run_study(
            ba.open_dataset("table", data / "recordings"),
            [f"static:{data / 'vectors.txt'}"],
            ba.Scoring(methods=("procrustes",), ks=(1, 10)),
            folder,
            evidence=ba.EvidencePlan(n_nulls=39, n_bootstraps=100, controls=()),
            progress=False,
        )
    return folder


@pytest.fixture
def checkpoint(minilm):
    return minilm


@pytest.fixture
def causal_checkpoint(tmp_path):
    folder = save_checkpoint("gpt2", tmp_path / "gpt2", n_layers=1)
    add_letter_tokenizer(folder)
    return folder


@pytest.fixture
def server(monkeypatch):
    """The release harry_potter lies on a server of this machine."""
    release = releases.HARRY_POTTER
    with ReleaseServer() as running:
        files = [
            dataclasses.replace(file, urls=(running.add(f"/{file.path}", b"recording"),))
            for file in release.files
        ]
        here = dataclasses.replace(release, files=tuple(files))
        monkeypatch.setitem(releases.RELEASES, "harry_potter", here)
        yield running


@pytest.fixture(autouse=True)
def clean(tmp_path, monkeypatch):
    """A working folder of its own, and no data set that an example registers stays."""
    ba.list_datasets()  # the readers that come with the package register when they are first asked for
    monkeypatch.setattr(registry, "_READERS", dict(registry._READERS))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


@pytest.mark.filterwarnings("ignore:harry_potter. no published checksum")
@pytest.mark.parametrize("name", NAMES)
def test_every_name_has_an_example_that_runs(name, request):
    test = parsed(name)
    assert len(test.examples) > 1, f"the docstring of {name} has no example (>>>)"
    assert test.examples[0].source == "import brainalign_jax as ba\n"
    assert any(example.want for example in test.examples), "the example shows no result"
    assert not any(example.options.get(doctest.SKIP) for example in test.examples)
    if name == "fetch":
        request.getfixturevalue("server")
    for given in used_names(test) & set(GIVEN):
        assert f"`{given}`" in test.docstring, f"{name} does not say what `{given}` is"
        test.globs[given] = str(request.getfixturevalue(given))
    said = io.StringIO()
    doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(test, out=said.write)
    assert said.getvalue() == ""


def test_an_example_that_is_wrong_fails():
    said = io.StringIO()
    wrong = doctest.DocTestParser().get_doctest(">>> 1 + 1\n3\n", {}, "wrong", None, None)
    assert doctest.DocTestRunner().run(wrong, out=said.write).failed == 1 and said.getvalue()
