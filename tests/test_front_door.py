"""What a user imports and types: `import brainalign_jax as ba` and the command `brainalign`."""

import dataclasses
import inspect
import subprocess
import sys

import pytest

import brainalign_jax as ba
from brainalign_jax import cli
from brainalign_jax.commands.command import Command, help_text, pairs, read, run
from brainalign_jax.options import Option, options_of
from brainalign_jax.study.computation import Computation
from brainalign_jax.study.options import Embedding, EvidencePlan, Scoring
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
    "numpy",
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


def test_a_name_that_is_not_there_is_answered_with_the_nearest():
    with pytest.raises(AttributeError, match="run_study"):
        _ = ba.run_studies
    assert not hasattr(ba.align, "nothing")
    with pytest.raises(AttributeError, match="replication"):
        _ = ba.studies.replicating


def test_importing_the_package_loads_nothing_heavy():
    assert loaded("import brainalign_jax as ba; dir(ba); ba.__version__") == []


@pytest.mark.parametrize(
    "arguments",
    [["--help"], *[[name, "--help"] for name in cli.COMMANDS], ["algin"], ["align", "--n_nul=3"]],
)
def test_help_and_errors_of_spelling_load_nothing_heavy(arguments):
    assert loaded(f"from brainalign_jax.cli import main; main({arguments})") == []


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
    assert cli.main(arguments) == 2
    printed = capsys.readouterr().err
    assert printed.startswith("brainalign: ") and expected in printed
    assert printed.count("\n") == 1 and "Traceback" not in printed
    assert not list(tmp_path.iterdir())


def test_every_field_of_the_choices_is_described_and_documented():
    for cls in (Embedding, Scoring, EvidencePlan, Computation, Protocol):
        for field in dataclasses.fields(cls):
            if (cls, field.name) == (Scoring, "protocol"):
                continue
            assert field.metadata["help"].endswith(".")
            assert f"  {field.name}: {field.metadata['help']}" in cls.__doc__
    flags = {option.name for option in cli.command("align").options}
    for cls in (Embedding, Scoring, EvidencePlan, Computation, Protocol):
        assert {option.name for option in options_of(cls, "any")} <= flags


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
    assert run(command, []) == 2
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
