"""What a user imports and types: `import brainalign_jax as ba` and the command `brainalign`."""

import dataclasses
import inspect
import os
import re
import subprocess
import sys
import typing

import pytest

import brainalign_jax as ba
from brainalign_jax import cli
from brainalign_jax.commands.command import Command, help_text, pairs, read, run
from brainalign_jax.embedding import Embedding
from brainalign_jax.options import NUMBERS, Option, options_of, range_text
from brainalign_jax.studies.options import Encoding
from brainalign_jax.study.computation import Computation
from brainalign_jax.study.options import EvidencePlan, Scoring
from brainalign_jax.study.protocol import Protocol

PROMISED = (
    "open_dataset", "list_datasets", "fetch", "register", "Dataset", "Stimulus",
    "WordResponses", "embed", "surprisal", "list_models", "Embeddings", "run_study",
    "protocol", "Scoring", "EvidencePlan", "ResultTable", "RidgeAligner", "ProcrustesAligner",
    "BandedRidgeAligner", "align", "studies",
)  # fmt: skip
# What takes long to import, and what starts a JAX backend.
HEAVY = (
    "jax", "flax", "transformers", "nilearn", "nibabel", "pandas", "scipy", "sklearn", "matplotlib", "h5py",
    "numpy", "jinja2", "jaxtyping", "beartype",
)  # fmt: skip


def python(code: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


def loaded(code: str) -> list[str]:
    """Heavy packages that a fresh Python has after the code."""
    done = python(f"import sys\n{code}\nprint(*[m for m in {HEAVY} if m in sys.modules])")
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1].split()


def test_the_front_door_has_every_name_that_is_promised():
    assert set(PROMISED) <= set(ba.__all__) <= set(dir(ba))
    for name in PROMISED:
        assert getattr(ba, name) is not None


@pytest.mark.parametrize("name", PROMISED)
def test_every_name_of_the_front_door_says_what_it_is(name):
    assert len(inspect.getdoc(getattr(ba, name)) or "") > 40


def of_studies() -> dict[str, object]:
    """The functions of studies that begin with run_, by name."""
    modules = [(name, getattr(ba.studies, name)) for name in dir(ba.studies)]
    return {
        f"studies.{study}.{name}": function
        for study, module in modules
        for name, function in vars(module).items()
        if name.startswith("run_") and inspect.isfunction(function)
    }


def test_every_argument_is_in_the_docstring():
    named = {name: getattr(ba, name) for name in ba.__all__} | of_studies()
    assert len(of_studies()) > 12
    missing = {}
    for name, part in named.items():
        members = vars(part).items() if inspect.isclass(part) else [("", part)]
        for member, function in members:
            if not inspect.isfunction(function) or member.startswith("_"):
                continue
            text = inspect.getdoc(inspect.unwrap(function)) or ""
            if re.search(r"The (others|rest)\s+as\s+(in|of)\s+`run_", text):
                continue
            own = [p for p in inspect.signature(function).parameters if p not in ("self", "cls")]
            if absent := [p for p in own if not re.search(rf"\b{p}\b", text)]:
                missing[f"{name}.{member}"] = absent
    assert missing == {}


@pytest.mark.parametrize("name", sorted(set(ba.__all__) - {"__version__", "align", "studies"}))
def test_types_can_be_read_off_every_name(name):
    named = getattr(ba, name)
    members = vars(named).values() if inspect.isclass(named) else ()
    for part in (named, *filter(inspect.isfunction, members)):
        assert isinstance(typing.get_type_hints(part), dict)


def test_what_is_large_is_shown_in_one_line():
    words = ba.Stimulus(["sun", "moon"], onsets=[0, 1], language="en").with_attributes(rank=[1, 2])
    vectors = ba.Embeddings("gpt2", words.words, [[[0.1], [0.4]]], final=[[1, 2], [3, 4]])
    responses = ba.WordResponses("S1", [[0.1, 0.2], [0, 0]], words, valid=[True, False])
    dataset = ba.Dataset("mine", ("S1",), words, lambda subject: responses)
    assert [repr(shown) for shown in (words, vectors, responses, dataset)] == [
        "Stimulus(2 words, onsets, rank, language en)",
        "Embeddings('gpt2', 1 layers x 2 words x 1 + 1 x 2, float32)",
        "WordResponses('S1', 2 words x 2 columns, float32, 1 valid)",
        "Dataset('mine', 1 subjects, 2 words)",
    ]


def test_a_name_that_is_not_there_is_answered_with_the_nearest():
    with pytest.raises(AttributeError, match="run_study"):
        _ = ba.run_studies
    assert not hasattr(ba.align, "nothing")
    with pytest.raises(AttributeError, match="replication"):
        _ = ba.studies.replicating


def test_importing_the_package_loads_nothing_heavy():
    assert loaded("import brainalign_jax as ba; dir(ba); ba.__version__") == []


def test_help_and_errors_of_spelling_load_nothing_heavy():
    every = [["--help"], *([name, "--help"] for name in cli.COMMANDS)]
    code = f"""
from brainalign_jax.cli import main
for arguments in {[*every, ["algin"], ["align", "--n_nul=3"]]}:
    main(arguments)
    assert not [package for package in {HEAVY} if package in sys.modules], arguments
"""
    assert loaded(code) == []


def test_a_study_and_its_report_load_what_few_need_only_when_it_is_used():
    """Half a second each, and a study that asks for no evidence needs neither."""
    code = "import sys, brainalign_jax.study.run, brainalign_jax.study.report.report"
    done = python(f"{code}\nprint([m for m in ('sklearn', 'scipy.stats') if m in sys.modules])")
    assert done.stdout == "[]\n", done.stderr


def test_datasets_and_the_protocol_are_known_without_a_backend():
    code = (
        "import brainalign_jax as ba; ba.list_datasets(); ba.list_models(); ba.protocol('audited')"
    )
    code += "\nimport sys; xla = sys.modules.get('jax._src.xla_bridge')"
    done = python(f"{code}\nprint(xla is not None and bool(xla._backends))")
    assert done.stdout.split() == ["False"], done.stderr


def test_help_is_grouped_and_begins_with_three_examples():
    text = help_text(cli.command("align"))
    lines = text.splitlines()
    assert lines[2] == "Examples:" and all(x.startswith("  brainalign align ") for x in lines[3:6])
    groups = [line for line in lines[6:] if line and not line.startswith(" ")]
    assert groups == ["data:", "model:", "protocol:", "evidence:", "machine:"]
    for option in cli.command("align").options:
        assert f"--{option.name}" in text


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_has_examples_whose_options_exist(name):
    command = cli.command(name)
    known = {option.name for option in command.options}
    assert command.examples and command.summary
    for example in command.examples:
        assert example.split()[0] == name
        given = [x[2:].partition("=")[0] for x in example.split() if x.startswith("--")]
        assert set(given) <= known


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["aligne"], "unknown command 'aligne'; the nearest: align"),
        (["align", "--n_nuls=3"], "unknown option '--n_nuls'; the nearest: n_nulls"),
        (["align", "extra"], "unknown argument 'extra'"),
        (["align", "--models=gpt2"], "--dataset is missing"),
        (
            ["align", "--dataset=alise", "--data_dir=x", "--models=gpt2", "--output_dir=y"],
            "unknown data set 'alise'",
        ),
        (["align", "--data_dir="], "--data_dir is empty"),
        (["align", "--protocol=papper"], "unknown --protocol='papper'; known: audited, paper"),
        (["align", "--ks=1,ten"], "--ks=1,ten must be whole numbers, as --ks=1,5,10"),
        (["align", "--n_nulls=-1"], "--n_nulls=-1 must be at least 0"),
        (["align", "--alphas=1,inf"], "--alphas=1,inf must be finite, at least 1e-12 and at most"),
        (["align", "--alphas=1e300"], "--alphas=1e300 must be at least 1e-12 and at most 1e+12"),
        (["align", "--alphas=nan"], "--alphas=nan must be finite"),
        (["align", "--alphas=0"], "--alphas=0 must be at least 1e-12"),
        (["align", "--purge=nan"], "--purge=nan must be finite"),
        (["align", "--confidence=1"], "--confidence=1 must be above 0 and below 1"),
        (["align", "--max_memory_gb=inf"], "--max_memory_gb=inf must be finite, above 0"),
        (["align", "--max_memory_gb=0"], "--max_memory_gb=0 must be above 0"),
        (["align", "--seed=-1"], "--seed=-1 must be at least 0"),
        (["align", "--seed=99999999999"], "must be at least 0 and at most 2147483647"),
        (["align", "--layers=-1"], "--layers=-1 must be at least 0"),
        (["align", "--layers="], "--layers is empty"),
        (["align", "--models="], "--models is empty"),
        (["align", "--models=a,,b"], "--models=a,,b has an empty item"),
        (["align", "--output_dir="], "--output_dir is empty"),
        (["align", "--methods=dcca"], "unknown method 'dcca'"),
        (["align", "--ks=1,5"], "--report_k=10 is not among --ks"),
        (["fetch", "alice", "--timeout=0"], "--timeout=0 must be above 0"),
        (["align", "--n_nulls=1,2"], "--n_nulls=1,2 must be one number"),
        (["align", "--reader_options=radius"], "--reader_options takes name=value, not 'radius'"),
        (["models", "gtp2"], "unknown model 'gtp2'; the nearest: gpt2"),
        (["datasets", "alic"], "unknown data set 'alic'"),
        (["fetch", "alise"], "unknown release 'alise'"),
        (["evidence", "nowhere"], "nowhere holds no finished study"),
        (["embed", "--cache_dir=c"], "--models is missing"),
        (["surprisal", "--output=o.csv", "--models=gpt2"], "--dataset is missing"),
        (["cache"], "--cache_dir is missing"),
    ],
)
def test_what_is_wrong_is_one_line_that_names_it(
    arguments, expected, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    # What is missing is only told once what is given was understood.
    rest = {
        "--dataset": "alice", "--data_dir": "data", "--models": "gpt2", "--output_dir": "out",
    }  # fmt: skip
    if arguments[0] == "align" and "missing" not in expected:
        given = {x.partition("=")[0] for x in arguments}
        arguments = [*arguments, *(f"{k}={v}" for k, v in rest.items() if k not in given)]
    assert cli.main(arguments) == (1 if "no finished study" in expected else 2)
    printed = capsys.readouterr().err
    assert printed.startswith("brainalign: ") and expected in printed
    assert printed.count("\n") == 1 and "Traceback" not in printed
    assert not list(tmp_path.iterdir())


def test_every_field_of_the_choices_is_described_and_documented():
    for cls in (Embedding, Encoding, Scoring, EvidencePlan, Computation, Protocol):
        for field in dataclasses.fields(cls):
            if (cls, field.name) == (Scoring, "protocol"):
                continue
            assert field.metadata["help"].endswith(".")
            assert f"  {field.name}: {field.metadata['help']}" in cls.__doc__
    flags = {option.name for option in cli.command("align").options}
    for cls in (Embedding, Scoring, EvidencePlan, Computation, Protocol):
        assert {option.name for option in options_of(cls, "any")} <= flags


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_number_has_a_range_that_help_shows(name):
    text = " ".join(help_text(cli.command(name)).split())
    for option in cli.command(name).options:
        if option.kind in NUMBERS:
            said = range_text(**option.bounds())
            assert said and f"{said[:1].upper()}{said[1:]}." in text, option.name


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: ba.protocol("audited", alphas=(1.0, float("inf"))), "alphas=.* must be finite"),
        (lambda: ba.protocol("audited", alphas=(1e300,)), "alphas=.* at most 1e.12"),
        (lambda: ba.protocol("audited", alphas=2.0), "alphas=2.0 must be a tuple of numbers"),
        (lambda: ba.protocol("audited", purge=float("nan")), "purge=nan must be finite"),
        (lambda: ba.protocol("audited", n_folds=2.5), "n_folds=2.5 must be a whole number"),
        (lambda: ba.protocol("audited", csls_k=True), "csls_k=True must be a whole number"),
        (lambda: Scoring(ks=(0,)), "ks=.* at least 1"),
        (lambda: Scoring(ks=()), "ks=.* one number or more"),
        (lambda: Scoring(seed=-1), "seed=-1 must be at least 0"),
        (lambda: Scoring(seed=2**40), "at most 2147483647"),
        (lambda: Scoring(layers=(-1,)), "layers=.* at least 0"),
        (lambda: EvidencePlan(confidence=float("nan")), "confidence=nan must be finite"),
        (lambda: EvidencePlan(n_nulls="3"), "n_nulls='3' must be a number"),
        (lambda: Computation(threads=0), "threads=0 must be at least 1"),
        (lambda: Encoding(lambdas=(float("inf"),)), "lambdas=.* must be finite"),
        (lambda: ba.protocol("audited", purge=10**400), "must be at least 0 and at most 86400"),
        (lambda: ba.protocol("audited", center="no"), "center='no' must be True or False"),
        (lambda: Scoring(methods="ridge"), "methods='ridge' must be a tuple of texts"),
        (lambda: Embedding(context=None), "context=None must be given"),
        (lambda: Embedding(window=-1), "window=-1 must be at least 0"),
    ],
)
def test_a_number_out_of_its_range_is_refused_from_python(make, expected):
    with pytest.raises(ValueError, match=expected):
        make()


def test_values_are_read_by_kind(tmp_path, monkeypatch):
    from absl import flags

    monkeypatch.chdir(tmp_path)
    options = (
        Option("path", "path", None, "A file."),
        Option("several", "list", ("a",), "Names.", empty=True),
        Option("numbers", "floats", (1.0,), "Numbers."),
        Option("count", "int", 3, "How many."),
        Option("switch", "bool", False, "On or off."),
        Option("named", "pairs", (), "Pairs."),
    )
    from brainalign_jax.commands.command import define

    values = flags.FlagValues()
    define(options, values)
    values(
        ["x", "--path=a/b", "--several=", "--numbers=1e2,3", "--switch", r"--named=a=1\,2,b=x y"]
    )
    assert read(options, values) == {
        "path": tmp_path / "a" / "b",
        "several": (),
        "numbers": (100.0, 3.0),
        "count": 3,
        "switch": True,
        "named": {"a": r"1\,2", "b": "x y"},
    }
    with pytest.raises(ValueError, match="names 'a' twice"):
        pairs("named", "a=1,a=2")


def test_an_error_of_the_user_is_one_line_and_any_other_is_shown():
    def fails(values, text):
        raise values["kind"](text)

    command = Command("x", "x", ("x",), (), lambda values, text: fails({"kind": ValueError}, text))
    assert run(command, []) == 1
    broken = dataclasses.replace(
        command, act=lambda values, text: fails({"kind": RuntimeError}, text)
    )
    with pytest.raises(RuntimeError, match="brainalign x"):
        run(broken, [])


def test_the_module_is_the_command():
    done = subprocess.run(
        [sys.executable, "-m", "brainalign_jax", "--version"], capture_output=True, text=True
    )
    assert done.stdout.strip() == ba.__version__


@pytest.mark.parametrize("arguments", [["--help"], ["align", "--help"], ["--version"]])
def test_help_that_nobody_reads_on_ends_quietly(arguments):
    """As into `head`, which closes its end of the pipe."""
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "brainalign_jax", *arguments]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")
