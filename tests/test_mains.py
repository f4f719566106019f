"""The mains in experiments/: their options, and what is wrong on their command lines."""

import importlib
import sys

import pytest
from absl import flags

from brainalign_jax.commands.command import pairs
from brainalign_jax.commands.fixed import protocol_fields
from brainalign_jax.options import NUMBERS, range_text
from brainalign_jax.studies.replication import replication

NAMES = (
    "abilities",
    "ablation",
    "claims",
    "comparison",
    "contrastive_maps",
    "encoding",
    "figurative",
    "generalisation",
    "languages",
    "noise_check",
    "performance",
    "plan_study",
    "power_check",
    "protocol_ladder",
    "region_encoding",
    "replicate_paper",
    "specifications",
    "timecourse",
)


@pytest.fixture
def typed(monkeypatch, capsys):
    """(name of a main, arguments) -> exit status and standard error, with flags of its own."""

    def run(name, *arguments):
        monkeypatch.setattr(flags, "FLAGS", flags.FlagValues())
        monkeypatch.delitem(sys.modules, f"experiments.{name}", raising=False)
        main = importlib.import_module(f"experiments.{name}").main
        flags.FLAGS([name, *arguments])
        with pytest.raises(SystemExit) as stop:
            main([name])
        return stop.value.code, capsys.readouterr().err

    return run


def command(name, monkeypatch):
    monkeypatch.setattr(flags, "FLAGS", flags.FlagValues())
    monkeypatch.delitem(sys.modules, f"experiments.{name}", raising=False)
    return importlib.import_module(f"experiments.{name}").COMMAND


@pytest.mark.parametrize("name", NAMES)
def test_every_main_describes_its_options(name, monkeypatch):
    options = command(name, monkeypatch).options
    assert len({option.name for option in options}) == len(options)
    for option in options:
        assert len(option.help) > 10 and option.help.endswith(".")
        assert option.kind not in NUMBERS or range_text(**option.bounds())


def test_the_presets_are_those_that_there_are(monkeypatch):
    options = {option.name: option for option in command("replicate_paper", monkeypatch).options}
    assert options["preset"].choices == tuple(replication.PRESETS)


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("noise_check", (), "noise_check: --output_dir is missing"),
        (
            "specifications",
            (
                "--dataset=d",
                "--data_dir=d",
                "--models=m",
                "--output_dir=o",
                "--choices=fold=audited",
            ),
            "unknown choice 'fold' of --choices; the nearest of 12: folds",
        ),
        ("noise_check", ("--output_dir=",), "--output_dir is empty"),
        ("noise_check", ("--output_dir=o", "--timing=gap"), "known: gapless, gaps"),
        (
            "noise_check",
            ("--output_dir=o", "--timing=gaps", "--timing=gapless"),
            "--timing is given 2 times: give it once, as --timing='A,B@{1,2}' (in quotes",
        ),
        (
            "noise_check",
            ("--output_dir=o", "--widths=8", "--widths=16"),
            "--widths is given 2 times: give it once, as --widths=1,2",
        ),
        (
            "replicate_paper",
            ("--data_dirs=alice=a", "--data_dirs=table=b", "--output_dir=o"),
            "--data_dirs is given 2 times: give it once, as --data_dirs=NAME=FOLDER,NAME=FOLDER",
        ),
        ("noise_check", ("--output_dir=o", "--autocorrelation=1"), "at least 0 and at most 0.99"),
        ("power_check", ("--output_dir=o", "--n_draws=5"), "--n_draws=5 must be at least 20"),
        ("power_check", ("--output_dir=o", "--strengths=0,nan"), "=0,nan must be finite"),
        (
            "protocol_ladder",
            (
                "--dataset=alice",
                "--data_dir=d",
                "--models=m",
                "--output_dir=o",
                "--fixed=alphas=inf",
            ),
            "--fixed: alphas=inf must be finite",
        ),
        (
            "run_alignment",
            (
                "--dataset=alice",
                "--data_dir=d",
                "--models=m",
                "--output_dir=o",
                "--methods=cka",
                "--group_decoding=summed",
            ),
            "cka decode no words: add a method for group decoding",
        ),
        (
            "protocol_ladder",
            ("--dataset=alice", "--data_dir=d", "--models=m", "--output_dir=o", "--steps=fold"),
            "unknown step 'fold'",
        ),
        (
            "protocol_ladder",
            ("--dataset=alice", "--data_dir=d", "--models=m", "--output_dir=o", "--methods=cka"),
            "cka gives a number and decodes no words, which the ladder needs",
        ),
        (
            "replicate_paper",
            ("--data_dirs=alice= ", "--output_dir=o"),
            "--data_dirs=alice is empty (' '): give a folder",
        ),
        (
            "replicate_paper",
            ("--data_dirs=alice", "--output_dir=o"),
            "takes name=value, not 'alice'",
        ),
        (
            "region_encoding",
            ("--data_dir=d", "--model=m", "--output_dir=o", "--radii=8mm"),
            "unknown --radii='8mm'; known: 10mm, 6mm",
        ),
        (
            "contrastive_maps",
            ("--data_dir=d", "--model=m", "--output_dir=o", "--methods=cca"),
            "known: infonce, infonce_procrustes, rcsls, rcsls_procrustes",
        ),
        (
            "generalisation",
            (
                "--dataset=alice",
                "--data_dir=d",
                "--models=m",
                "--output_dir=o",
                "--conditions=story",
            ),
            "1 condition in 'story': give two to 20",
        ),
        (
            "languages",
            ("--data_dirs=en=d,fr=e", "--datasets=fr=table", "--models=m", "--output_dir=o"),
            "no data set is named for en: give --dataset, or --datasets=en=NAME",
        ),
    ],
)
def test_what_is_wrong_is_one_line(name, arguments, expected, typed, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, message = typed(name, *arguments)
    assert status == 2 and expected in message and message.startswith(f"{name}: ")
    assert message.count("\n") == 1 and not list(tmp_path.iterdir())


def test_folders_of_data_sets_are_absolute(monkeypatch, tmp_path):
    from brainalign_jax.commands.command import read

    monkeypatch.chdir(tmp_path)
    options = command("replicate_paper", monkeypatch).options
    flags.FLAGS(["x", r"--data_dirs=alice=a\,b/c,table=~/d", "--output_dir=out"])
    values = read(options, flags.FLAGS)
    assert values["data_dirs"]["alice"] == tmp_path / "a,b" / "c"
    assert values["data_dirs"]["table"].is_absolute() and values["data_dirs"]["table"].name == "d"
    assert values["output_dir"] == tmp_path / "out"


def test_pairs_keep_what_is_escaped_and_refuse_the_rest():
    assert pairs("x", r"drop_columns=a\,b:c,word_column=0") == {
        "drop_columns": r"a\,b:c",
        "word_column": "0",
    }
    assert pairs("x", "a=b=c") == {"a": "b=c"}
    for text, message in (
        ("a", "takes name=value, not 'a'"),
        ("a=", "takes name=value"),
        ("a=1,a=2", "names 'a' twice"),
    ):
        with pytest.raises(ValueError, match=f"--x {message}"):
            pairs("x", text)


def test_protocol_fields_have_their_types():
    fields = protocol_fields({"alphas": "0.1:1", "center": "false", "csls_k": "5", "pca": "none"})
    assert fields == {"alphas": (0.1, 1.0), "center": False, "csls_k": 5, "pca": "none"}
    for item, message in (
        ("cslsk=5", "unknown field 'cslsk' of --fixed; the nearest: csls_k"),
        ("name=x", "unknown field 'name'"),
        ("csls_k=x", "csls_k=x is no whole number"),
        ("csls_k=0", "csls_k=0 must be at least 1"),
        ("center=maybe", "center=maybe is no true or false"),
        ("alphas=1::2", "alphas=1::2 is no list of numbers between colons"),
        ("alphas=1:nan", "alphas=1:nan must be finite"),
        ("pca=all", "known: none, model_width"),
    ):
        with pytest.raises(ValueError, match=message):
            protocol_fields(pairs("fixed", item))
