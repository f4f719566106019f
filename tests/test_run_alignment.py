"""The main job from the command line: bad input ends in one clear line and leaves nothing behind."""

import json
import warnings

import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver

from brainalign_jax.study.protocol import PROTOCOLS
from brainalign_jax.study.results import ResultTable
from experiments import run_alignment

N_WORDS = 24


@pytest.fixture
def release(tmp_path):
    """A small recording in the layout of pereira180, with vectors for its words: (arrays, write)."""
    rng = np.random.default_rng(0)
    words = np.array([f"word{i}" for i in range(N_WORDS)])
    vectors = rng.standard_normal((N_WORDS, 8))
    responses = vectors @ rng.standard_normal((2, 8, 16)) + rng.standard_normal((2, N_WORDS, 16))
    arrays = {
        "fmri_pca": responses,
        "words": words,
        "subjects": np.array(["M01", "M02"]),
        "glove42B_300": vectors,
        "concreteness": rng.standard_normal(N_WORDS),
    }
    lines = [
        f"{word} " + " ".join(f"{x:.5f}" for x in row)
        for word, row in zip(words, vectors, strict=True)
    ]
    (tmp_path / "vectors.txt").write_text("\n".join(lines) + "\n")

    def write(**changes):
        np.savez(tmp_path / "pereira180.npz", **(arrays | changes))
        return tmp_path

    return arrays, write


def run(folder, *, models=None, **given):
    """Exit status of the main with these flags."""
    settings = {
        "dataset": "pereira180",
        "data_dir": str(folder),
        "models": models or f"static:{folder / 'vectors.txt'}",
        "methods": "procrustes,rsa",
        "ks": "1,10",
        "n_folds": 4,
        "output_dir": str(folder / "out"),
        "progress": False,
    } | given
    argv = ["run_alignment", *(f"--{name}={value}" for name, value in settings.items())]
    with flagsaver.flagsaver():
        flags.FLAGS(argv)
        with pytest.raises(SystemExit) as stop:
            run_alignment.main(argv[:1])
    return stop.value.code


def test_the_command_line_gives_table_and_report(release, capsys):
    _, write = release
    folder = write()
    assert run(folder, subjects="M02", layers="0", report_k=10) == 0
    printed = capsys.readouterr().out
    assert "procrustes" in printed and "report.html" in printed
    table = ResultTable.load(folder / "out")
    assert set(table.rows["subject"]) == {"M02", "group"}
    assert table.manifest["protocol"]["n_folds"] == 4
    assert table.manifest["command"].startswith("python -m experiments.run_alignment")


def fails(capsys, folder, *expected, status=1, **given):
    assert run(folder, **given) == status
    message = capsys.readouterr().err
    assert message.startswith("run_alignment: ")
    for text in expected:
        assert text in message
    assert not (folder / "out" / "results.parquet").exists()
    assert not list(folder.rglob("*.tmp"))


def test_missing_release(tmp_path, capsys):
    fails(capsys, tmp_path, "pereira180.npz")


@pytest.mark.parametrize("size", [0, 100, 3000])
def test_truncated_release(release, capsys, size):
    _, write = release
    folder = write()
    path = folder / "pereira180.npz"
    path.write_bytes(path.read_bytes()[:size])
    fails(capsys, folder, "pereira180.npz")


def test_pickled_release(release, capsys):
    arrays, write = release
    fails(capsys, write(words=arrays["words"].astype(object)), "pereira180.npz", "words")


def test_nan_and_constant_voxels(release, capsys):
    arrays, write = release
    damaged = arrays["fmri_pca"].copy()
    damaged[0, 3, 5] = np.nan
    fails(capsys, write(fmri_pca=damaged), "M01", "bad_voxels")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert run(write(), reader_options="bad_voxels=drop") == 0


def test_words_and_rows_differ_in_number(release, capsys):
    arrays, write = release
    fails(capsys, write(words=arrays["words"][:-1]), str(N_WORDS), str(N_WORDS - 1))


def test_requests_that_cannot_be_met(release, capsys):
    _, write = release
    folder = write()
    fails(capsys, folder, "30 folds", str(N_WORDS), n_folds=30)
    fails(capsys, folder, "k=100", str(N_WORDS), ks="10,100")
    fails(capsys, folder, "M99", subjects="M99")
    fails(capsys, folder, "--ks=ten", ks="ten", status=2)
    fails(capsys, folder, "name=value", reader_options="bad_voxels", status=2)
    fails(
        capsys,
        folder,
        "unknown option 'colour' of pereira180",
        reader_options="colour=red",
        status=2,
    )
    fails(capsys, folder, "unknown method", methods="dcca", status=2)
    fails(capsys, folder, "cka compares all words at once", methods="cka", n_voxels=5, status=2)


def test_models_that_cannot_be_loaded(release, capsys):
    _, write = release
    folder = write()
    model = folder / "model"
    model.mkdir()
    fails(capsys, folder, "config.json", models=str(model))
    (model / "config.json").write_text(json.dumps({"model_type": "mamba"}))
    fails(capsys, folder, "mamba", "bert", models=str(model))
    fails(capsys, folder, "no-such", models="no-such")


def test_help_explains_every_flag():
    own = [flag for flag in flags.FLAGS.flags_by_module_dict()[run_alignment.__name__] if flag.name]
    assert len(own) > 30
    assert all(len(flag.help.strip()) > 15 for flag in own)


def test_every_protocol_field_is_a_flag():
    by_others = {"name", "first_token"}  # --protocol and --bos
    assert set(PROTOCOLS["paper"].fields()) - by_others <= set(flags.FLAGS)
