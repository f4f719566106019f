"""Relative and empty paths at every place where a user's path enters.

A relative path starts from the working folder of the call that takes it, whatever the working folder
is when something is read or written. The studies' own tests write to relative folders, too.
"""

import jax
import numpy as np
import pandas as pd
import pytest
from recordings import make_embeddings, make_responses, write_vectors
from simulate.alice import simulate_alice
from simulate.bids import simulate_bids
from small_models import add_letter_tokenizer, save_checkpoint
from small_releases import write_tables

from brainalign_jax.language import Embeddings, embed, resolve, surprisal
from brainalign_jax.language.cache import EmbeddingCache
from brainalign_jax.language.models import checkpoint
from brainalign_jax.language.static import read_vectors
from brainalign_jax.neural import Processing, WordResponses, fetch, open_dataset
from brainalign_jax.neural import simulate as sim
from brainalign_jax.neural.downloads.releases import Release
from brainalign_jax.neural.readers import Dataset
from brainalign_jax.neural.store import ResponseWriter
from brainalign_jax.stimulus import Stimulus
from brainalign_jax.studies.checks.noise import check_noise
from brainalign_jax.studies.checks.power import power
from brainalign_jax.studies.contrastive.checkpoints import Checkpoints
from brainalign_jax.studies.contrastive.maps import run_comparison, score_subject
from brainalign_jax.studies.demo import run_demo
from brainalign_jax.studies.ladder.ladder import run_ladder
from brainalign_jax.studies.regions.encoding import run_region_encoding
from brainalign_jax.studies.regions.recordings import alice_regions
from brainalign_jax.studies.regions.table import RegionTable
from brainalign_jax.studies.replication.replication import Grid, replicate
from brainalign_jax.study import computation, outputs
from brainalign_jax.study.protocol import protocol
from brainalign_jax.study.results import ResultTable
from brainalign_jax.study.run import run_study
from brainalign_jax.study.score.sweep import Scoring

TEXT = Stimulus.from_words(["the", "dog", "sat", "on", "a", "bank"], sentence=[0] * 6)
SCORING = Scoring(("procrustes",), protocol("audited", timed=False, n_folds=3), (1, 10))


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working folder; beside it lies another one, "elsewhere"."""
    for name in ("here", "elsewhere"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


@pytest.fixture
def away(here, monkeypatch):
    """Changes to the other working folder, in which nothing must appear."""
    yield lambda: monkeypatch.chdir(here.parent / "elsewhere")
    assert not list((here.parent / "elsewhere").iterdir())


@pytest.fixture
def model(here):
    add_letter_tokenizer(save_checkpoint("gpt2", here / "model", shards=2))
    return "./model"


def vectors_file(folder, words):
    values = np.random.default_rng(0).standard_normal((len(words), 4))
    write_vectors(folder / "vectors.txt", values, words)


def test_a_model_and_a_cache_by_relative_paths(here, model, away, monkeypatch):
    first = embed(TEXT, model, cache_dir="cache")
    assert first.model == model and first.meta["source"] == str(here / "model")
    assert [entry.model for entry in EmbeddingCache(here / "cache").entries()] == [model]
    untrained = embed(TEXT, "untrained:model", cache_dir="cache")
    assert untrained.meta["source"] == str(here / "model")
    np.testing.assert_array_equal(surprisal(TEXT, "model"), surprisal(TEXT, str(here / "model")))
    spec = resolve(model)
    away()
    with pytest.raises(FileNotFoundError, match=f"no folder {here.parent}/elsewhere/model"):
        embed(TEXT, model, cache_dir=here / "cache")
    assert embed(TEXT, "../here/model").fingerprint() != first.fingerprint()  # another name
    monkeypatch.setattr(checkpoint, "open_weights", None)
    assert embed(TEXT, spec, cache_dir="../here/cache").fingerprint() == first.fingerprint()


def test_a_cache_stays_where_it_was_opened(here, away):
    cache = EmbeddingCache("cache")
    away()
    vectors = Embeddings("m", ("a",), np.ones((1, 1, 2)), meta={"level": "type"})
    cache.get({"model": "m"}, lambda partial: vectors)
    assert [entry.model for entry in EmbeddingCache("../here/cache").entries()] == ["m"]


def test_static_vectors_by_a_relative_path(here, away):
    vectors_file(here, TEXT.words)
    spec, vectors = resolve("static:vectors.txt"), embed(TEXT, "static:vectors.txt", cache_dir="c")
    assert (spec.name, spec.source) == ("static:vectors.txt", str(here / "vectors.txt"))
    away()
    assert embed(TEXT, spec, cache_dir=here / "c").fingerprint() == vectors.fingerprint()
    assert read_vectors("../here/vectors.txt", ["dog"]).values.shape == (1, 4)


def test_files_of_vectors_and_responses(here, away):
    vectors = Embeddings("m", ("a",), np.ones((1, 1, 2)), meta={"level": "type"})
    assert vectors.save("sub/v.npz") == here / "sub" / "v.npz"
    responses = make_responses(Stimulus.from_words(["a", "b"]), [[1, 2], [3, 4]])
    assert responses.save("r.npz") == here / "r.npz"
    loaded = WordResponses.load("r.npz")
    writer = ResponseWriter("w.npz", subject="S", stimulus=responses.stimulus, n_columns=2)
    away()
    with writer:
        writer.write(responses.values)
    assert Embeddings.load("../here/sub/v.npz").fingerprint() == vectors.fingerprint()
    assert WordResponses.load("../here/w.npz").values.tolist() == loaded.values.tolist()


def test_a_data_set_stays_where_it_was_opened(here, away):
    write_tables(here / "tables", ".csv")
    (here / "data").mkdir()
    settings = {"words": list(sim.story_words()[:60]), "vectors": np.ones((60, 1)), "n_subjects": 1}
    assert simulate_bids("data/bids", outputs=("volume",), n_voxels=12, **settings)
    moved = here / "derivatives-only"
    (here / "data" / "bids" / "derivatives").rename(moved)
    table = open_dataset("table", "tables")
    options = {"events_dir": "data/bids", "responses_dir": "kept", "bad_voxels": "drop"}
    bids = open_dataset("bids", "derivatives-only/fmriprep", **options)
    away()
    for dataset in (table, bids):
        assert len(dataset.load(dataset.subjects[0]).stimulus) == 60
    assert [path.name for path in (here / "kept").iterdir()] == ["bids-01.npz"]


def test_files_that_options_name_start_from_the_data_or_from_home(here, away, monkeypatch):
    settings = {"words": list(sim.story_words()[:60]), "vectors": np.ones((60, 1)), "n_subjects": 1}
    sim.simulate_nifti("scans", n_voxels=12, **settings)
    monkeypatch.setenv("HOME", str(here))
    image = "sub-{subject}/run-*_bold.nii.gz"
    options = {"image": f"~/scans/{image}", "mask": "mask.nii.gz", "bad_voxels": "drop"}
    dataset = open_dataset("nifti", "scans", **options)
    assert dataset.subjects == ("1",)
    away()
    assert dataset.load("1").values.shape[1]
    for name in ("mask", "atlas", "confounds", "words"):
        with pytest.raises(ValueError, match=f"{name}=? is ('':|empty|'')|words= is ''"):
            dataset = open_dataset("nifti", here / "scans", **{"image": image, name: ""})
            dataset.load("1")


def test_a_release_is_fetched_into_a_relative_folder(here, away, monkeypatch):
    monkeypatch.delenv("BRAINALIGN_DATA", raising=False)
    release = Release("tiny", "A test", "http://home", "A 2020", "CC0", "ask", ())
    assert fetch(release, "data") == here / "data" / "tiny"
    monkeypatch.setenv("BRAINALIGN_DATA", "other")
    assert fetch(release) == here / "other" / "tiny"
    for value in ("", " "):
        monkeypatch.setenv("BRAINALIGN_DATA", value)
        with pytest.raises(ValueError, match="BRAINALIGN_DATA is empty .*or unset the variable"):
            fetch(release)
    away()


def test_a_study_by_relative_paths(here, away, dataset_of_words):
    vectors_file(here, dataset_of_words.stimulus.words)
    options = dict(evidence=None, progress=False)
    table = run_study(dataset_of_words, ["static:vectors.txt"], SCORING, "out", **options)
    run_study(
        dataset_of_words, ["static:vectors.txt"], SCORING, "two", cache_dir="shared", **options
    )
    for file in ("out/results.parquet", "out/cells", "two/report.html", "shared/cells"):
        assert (here / file).exists()
    assert not (here / "two" / "cells").exists()
    assert table.save("saved") == here / "saved" / "results.parquet"
    regions = RegionTable(pd.DataFrame({"value": [1.0]}), {})
    assert regions.save("regions").parent == here / "regions"
    away()
    assert len(ResultTable.load("../here/saved").rows) == len(table.rows)
    assert len(RegionTable.load("../here/regions").rows) == 1


def test_compiled_programs_by_a_relative_path(here, monkeypatch):
    before = jax.config.jax_compilation_cache_dir
    try:
        for variable, folder in (
            ("BRAINALIGN_COMPILATION_CACHE", here / "x"),
            ("XDG_CACHE_HOME", here / "x" / "brainalign_jax" / "programs"),
        ):
            jax.config.update("jax_compilation_cache_dir", None)
            monkeypatch.setenv(variable, "x")
            assert computation.keep_compiled_programs() == folder
            monkeypatch.delenv(variable)
        jax.config.update("jax_compilation_cache_dir", None)
        monkeypatch.setenv("BRAINALIGN_COMPILATION_CACHE", " ")
        with pytest.raises(ValueError, match="BRAINALIGN_COMPILATION_CACHE is empty"):
            computation.keep_compiled_programs()
    finally:
        jax.config.update("jax_compilation_cache_dir", before)


@pytest.fixture(scope="session")
def dataset_of_words():
    words = Stimulus.from_words([f"word{i}" for i in range(60)])
    rng = np.random.default_rng(0)
    by_name = {s: make_responses(words, rng.standard_normal((60, 8)), subject=s) for s in "AB"}
    return Dataset("words", tuple(by_name), words, by_name.__getitem__)


def noise_of(dataset):
    rng = np.random.default_rng(0)
    return make_embeddings(dataset.stimulus, rng.standard_normal((1, 60, 4)))


EMPTY = [
    ("cache_dir", lambda d: embed(TEXT, "gpt2", cache_dir="")),
    ("folder of the cache", lambda d: EmbeddingCache(" ")),
    ("path", lambda d: Embeddings("m", ("a",), np.ones((1, 1, 2)), meta={}).save("")),
    ("path", lambda d: Embeddings.load("")),
    ("path", lambda d: WordResponses.load("")),
    ("path", lambda d: d.load("A").save("")),
    ("path", lambda d: read_vectors("", ["a"])),
    ("data_dir", lambda d: open_dataset("alice", "")),
    ("data_dir", lambda d: fetch("alice", "")),
    ("data_dir", lambda d: alice_regions("")),
    ("data_dir", lambda d: simulate_alice("", n_subjects=1)),
    ("responses_dir", lambda d: Processing(responses_dir="")),
    ("folder", lambda d: ResultTable(pd.DataFrame(), {}).save("")),
    ("folder", lambda d: ResultTable.load("")),
    ("folder", lambda d: RegionTable(pd.DataFrame(), {}).save("")),
    ("folder", lambda d: RegionTable.load("")),
    ("folder", lambda d: Checkpoints("", "key")),
    ("folder", lambda d: score_subject("d", d.load("A"), noise_of(d), SCORING, {}, folder="")),
    ("output_dir", lambda d: run_study(d, ["gpt2"], SCORING, "")),
    ("cache_dir", lambda d: run_study(d, ["gpt2"], SCORING, "out", cache_dir="")),
    ("output_dir", lambda d: run_demo("gpt2", "")),
    ("output_dir", lambda d: run_ladder(d, ["gpt2"], "")),
    ("output_dir", lambda d: check_noise("")),
    ("output_dir", lambda d: replicate([d], Grid(("gpt2",), ("rsa",)), "")),
    ("output_dir", lambda d: run_comparison(d, "gpt2", SCORING, {}, "")),
    ("output_dir", lambda d: run_region_encoding(None, "gpt2", "")),
    ("cells", lambda d: power(cells="")),
]


@pytest.mark.parametrize(("name", "call"), EMPTY)
def test_an_empty_path_is_refused_by_name(name, call, here, dataset_of_words):
    with pytest.raises(ValueError, match=rf"^{name} is empty \(' ?'\): give a"):
        call(dataset_of_words)
    assert not list(here.iterdir())


def test_empty_paths_of_models_and_events_are_refused(here, dataset_of_words):
    for name in ("static:", "static: ", "untrained:", "", " "):
        with pytest.raises(ValueError, match="lacks the path|unknown model"):
            resolve(name)
    simulate_bids("b", words=["a", "b"] * 30, vectors=np.ones((60, 1)), outputs=("raw",))
    with pytest.raises(ValueError, match="events_dir is empty"):
        open_dataset("bids", "b", events_dir="")


def test_the_cache_of_a_study_is_a_folder_that_can_be_written_to(here, monkeypatch):
    output, cache = outputs.output_and_cache("out", "shared")
    monkeypatch.chdir(here.parent)
    assert (output, cache) == (here / "out", here / "shared")
    with pytest.raises(ValueError, match="cache_dir is empty"):
        outputs.output_and_cache(None, " ")
