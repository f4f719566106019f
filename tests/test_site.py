"""The site's sources: API pages, examples, columns, names and messages in pages; the check of what was built.

Examples are run by `make docs`, not here.
"""

import ast
import importlib
import importlib.util
import inspect
import operator
import pydoc
import re
from functools import cache
from pathlib import Path

import pytest

import brainalign_jax as ba

DOCS = Path(__file__).resolve().parents[1] / "docs"
PACKAGE = Path(ba.__file__).parent
EXAMPLES = sorted((DOCS / "examples").glob("*.py"))
ENTRY = re.compile(r"^\.\. auto(?:function|class):: (\S+)$", re.MULTILINE)


@cache
def tool(name: str):
    """A program of docs/, as a module."""
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def entries() -> list[str]:
    """What the API pages document, by the names in them."""
    pages = sorted((DOCS / "api").glob("*.rst"))
    return [name for page in pages for name in ENTRY.findall(page.read_text("utf-8"))]


def public(module) -> list:
    """Functions and classes that a user reaches through a module: of its `__all__`, else those it defines."""
    names = getattr(module, "__all__", None)
    if names is None:
        names = [
            name
            for name, value in vars(module).items()
            if name[0] != "_" and getattr(value, "__module__", None) == module.__name__
        ]
    values = [getattr(module, name) for name in names]
    values = [value for value in values if inspect.isclass(value) or inspect.isroutine(value)]
    return [value for value in values if value.__module__.startswith("brainalign_jax")]


def doors() -> list:
    """The modules behind the front door: those of align, the studies, and the modules that studies offer."""
    modules = [getattr(ba.align, name) for name in dir(ba.align)]
    studies = [getattr(ba.studies, name) for name in dir(ba.studies)]
    inside = [getattr(of, name) for of in studies for name in getattr(of, "__all__", ())]
    return modules + studies + [value for value in inside if inspect.ismodule(value)]


def test_every_public_name_has_one_entry_in_the_api():
    documented = [id(pydoc.locate(name)) for name in entries() if ".options" not in name]
    for name in set(ba.__all__) - {"__version__", "align", "studies"}:
        assert entries().count(f"brainalign_jax.{name}") == 1, name
        assert documented.count(id(getattr(ba, name))) == 1, name
    for module in doors():
        for value in public(module):
            times = documented.count(id(value))
            assert times == 1, f"{module.__name__}.{value.__name__} has {times} entries"
    assert len(set(entries())) == len(entries()) > 250


def test_the_table_of_every_study_is_on_the_page_of_columns():
    page = (DOCS / "columns.md").read_text("utf-8")
    modules = sorted((PACKAGE / "studies").glob("*/table.py"))
    files = {
        importlib.import_module(f"brainalign_jax.studies.{x.parent.name}.table").FILE
        for x in modules
    }
    assert len(files) > 10 and all(f"### {file}\n" in page for file in files)


@pytest.mark.parametrize("name", ["make_api", "make_columns"])
def test_pages_that_are_made_are_those_of_this_code(name):
    make = tool(name)
    if name == "make_columns":
        assert make.PAGE.read_text("utf-8") == make.page(), f"old: python docs/{name}.py"
        return
    made = make.pages()
    assert {path.stem for path in make.FOLDER.glob("*.rst")} == set(made)
    for page, text in made.items():
        assert (make.FOLDER / f"{page}.rst").read_text("utf-8") == text, (
            f"old: python docs/{name}.py"
        )


def test_there_are_twelve_examples():
    assert len(EXAMPLES) == 12 and all(path.name.startswith("plot_") for path in EXAMPLES)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_teaches(path):
    """Title and text; a paragraph before each step; a figure; a conclusion; what would make it wrong."""
    text = path.read_text("utf-8")
    title, line, blank, *rest = inspect.cleandoc(ast.get_docstring(ast.parse(text))).split("\n")
    assert title and line == "=" * len(title) and not blank and len(" ".join(rest)) > 100
    steps = text.split("\n# %%\n")[1:]
    assert len(steps) >= 4 and all(step.startswith("# **") for step in steps)
    assert "plt.subplots" in text and "print(" in text
    assert "# **The conclusion**" in text and "# **What would make it wrong.**" in steps[-1]
    for target in re.findall(r":doc:`[^`]*<([^>]+)>`", text):
        page = (DOCS / "gallery" / target).resolve()
        assert any(page.with_name(page.name + end).is_file() for end in (".md", ".rst")), target


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_uses_what_users_have(path):
    """Nothing of tests, experiments or a clone."""
    imported = {
        name.split(".")[0]
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    installed = {"brainalign_jax", "jax", "matplotlib", "nibabel", "numpy", "pandas", "sklearn"}
    assert imported <= installed | {"json", "os", "pathlib", "subprocess", "sys", "tempfile"}


def test_the_table_of_contents_has_every_page():
    text = (DOCS / "index.rst").read_text("utf-8")
    lines = {line.strip() for line in text.splitlines()}
    assert [page.stem for page in DOCS.glob("*.md") if page.stem not in lines] == []


def test_names_of_the_package_in_pages_exist():
    for page in ("coming_from", "reproducing", "troubleshooting"):
        for path in re.findall(r"`ba\.([\w.]+)", (DOCS / f"{page}.md").read_text("utf-8")):
            assert operator.attrgetter(path)(ba) is not None, path


def test_messages_that_are_explained_are_messages_of_the_package():
    texts = []
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(node.value)
            if isinstance(node, ast.JoinedStr):
                parts = [getattr(part, "value", "") for part in node.values]
                texts.append("".join(part if isinstance(part, str) else "…" for part in parts))
    whole = "\n".join(texts)
    quoted = re.findall(r"^\| `([^`]+)` \|", (DOCS / "troubleshooting.md").read_text("utf-8"), re.M)
    assert len(quoted) >= 25
    assert [message for message in quoted if message not in whole] == []


def test_docstrings_become_markup():
    markup = tool("docstrings").markup
    lines = ["Minimises |y - X b|^2 of `a_`s.", "Raises: ValueError for `x*y`,", "  or *.", ""]
    lines += [">>> a_ * b", "2", "", "Args:", "  alpha: of x_.", "    more"]
    assert markup(lines) == [
        r"Minimises \|y - X b\|^2 of ``a_``\ s.", "", "**Raises:** ValueError for ``x*y``,", "",
        r"  or \*.", "", ">>> a_ * b", "2", "", "Args:", r"  alpha: of x\_.", "    more",
    ]  # fmt: skip


def test_what_is_wrong_with_a_built_site_is_said(tmp_path):
    faults = tool("check_site").faults
    good = '<h1 id="top"></h1><a href="#top"></a><a href="https://x.org"></a><img src="a.png" alt="a line">'
    (tmp_path / "index.html").write_text(good)
    (tmp_path / "a.png").write_bytes(b"x")
    assert faults(tmp_path) == []
    (tmp_path / "bad.html").write_text(
        '<script src="https://cdn.org/x.js"></script><img src="a.png" alt=""><img src="b.png" alt="b">'
        '<a href="index.html#no"></a><a href="none.html"></a>' + "x" * 3_000_001
    )
    (tmp_path / "x.css").write_text("@font-face { src: url(https://fonts.org/f) }")
    assert faults(tmp_path) == [
        "bad.html loads https://cdn.org/x.js from elsewhere",
        "bad.html loads b.png, which is not there",
        "bad.html has 3.0 MB with what it loads: more than 3",
        "bad.html shows a.png without a text in its place",
        "bad.html links to index.html#no, where no such heading is",
        "bad.html links to none.html, which is not there",
        "x.css loads from elsewhere",
    ]
