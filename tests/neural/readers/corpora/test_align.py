"""`brainalign align` on the simulated corpora, with a tiny random checkpoint."""

import numpy as np
import pytest
from simulate.lebel2023 import simulate_lebel2023
from simulate.little_prince import simulate_little_prince
from simulate.narratives import simulate_narratives
from simulate.smn4lang import simulate_smn4lang
from small_models import add_letter_tokenizer, save_checkpoint

from brainalign_jax import cli
from brainalign_jax.study.results import ResultTable

WORDS = tuple(f"{a}{b}{c}" for a in "bdkm" for b in "aeio" for c in "bdklnprstv")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = save_checkpoint("gpt2", tmp_path_factory.mktemp("checkpoint") / "model", n_layers=1)
    add_letter_tokenizer(folder)
    return folder


def little_prince(folder):
    rng = np.random.default_rng(0)
    texts = {language: (WORDS, rng.standard_normal((len(WORDS), 3))) for language in ("en", "fr")}
    simulate_little_prince(folder, texts=texts, snr=3.0)
    return "mask=mask.nii.gz,language=fr", "FR001,FR002"


def lebel2023(folder):
    vectors = np.random.default_rng(0).standard_normal((len(WORDS), 3))
    simulate_lebel2023(folder, words=WORDS, vectors=vectors, snr=3.0)
    return "stories=souls:adollshouse:wheretheressmoke", "UTS02"


def smn4lang(folder):
    vectors = np.random.default_rng(0).standard_normal((len(WORDS), 3))
    simulate_smn4lang(folder, words=WORDS, vectors=vectors, snr=3.0)
    return "stories=1:2:3", "01"


def narratives(folder):
    vectors = np.random.default_rng(0).standard_normal((len(WORDS), 3))
    simulate_narratives(folder, words=WORDS, vectors=vectors, snr=3.0, word_duration=0.8)
    return "stories=pieman:black", "001"


@pytest.mark.parametrize("write", [little_prince, lebel2023, narratives, smn4lang])
def test_a_study_of_a_corpus_scores_its_subjects(tmp_path, write, model):
    options, subjects = write(tmp_path / "release")
    name = write.__name__
    arguments = [
        "align",
        f"--dataset={name}",
        f"--data_dir={tmp_path / 'release'}",
        f"--models={model}",
        f"--subjects={subjects}",
        f"--reader_options={options}",
        "--methods=rsa",
        "--context=word",
        "--layers=1",
        "--n_folds=3",
        "--evidence=false",
        f"--output_dir={tmp_path / 'out'}",
        "--progress=false",
    ]
    assert cli.main(arguments) == 0
    table = ResultTable.load(tmp_path / "out")
    assert set(table.rows["subject"]) >= set(subjects.split(","))
    assert np.isfinite(table.rows["value"]).all()


def test_bad_input_is_one_line_and_status_1(tmp_path, model, capsys):
    little_prince(tmp_path)
    arguments = [f"--data_dir={tmp_path}", f"--models={model}", f"--output_dir={tmp_path / 'out'}"]
    assert cli.main(["align", "--dataset=little_prince", *arguments, "--reader_options="]) == 1
    message = capsys.readouterr().err
    assert "several languages (en, fr)" in message and message.count("\n") == 1
