"""The ladder of novelty: planted truth at each level, silence on noise, and what the data set lacks."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from recordings import make_embeddings, make_responses, write_table, write_vectors
from simulate.pereira import simulate_pereira

from brainalign_jax import cli
from brainalign_jax.neural.readers import Dataset, open_dataset
from brainalign_jax.stimulus import Stimulus
from brainalign_jax.studies.generalisation import NoveltyTable, run_generalisation, run_novelty
from brainalign_jax.studies.generalisation.levels import (
    draw_ladder,
    exchanged_items,
    find_levels,
)
from brainalign_jax.studies.generalisation.novelty_report import verdicts
from brainalign_jax.studies.options import Generalisation
from brainalign_jax.study.options import Scoring

N, TOPICS, WIDTH, V = 96, 8, 12, 30
PLAN = Generalisation(n_folds=4, n_splits=2, n_nulls=20, n_bootstraps=200)


def made(kind, *, n_subjects=4, seed=0):
    """(data set, embeddings) of words of eight topics.

    kind: "shared", a map for all words; "topics", a map of its own for each topic; "people", each person
    carries other dimensions of the vectors; "noise".
    """
    rng = np.random.default_rng(seed)
    topic = np.repeat(np.arange(TOPICS), N // TOPICS)
    words = Stimulus(
        tuple(f"word{i}" for i in range(N)),
        attributes={
            "topic": [f"topic {t}" for t in topic],
            "story": ["one"] * N,
            "section": [1.0] * 4 + [np.nan] * (N - 4),
        },
    )
    vectors = rng.standard_normal((1, N, WIDTH))
    loaded = {}
    for person in range(n_subjects):
        maps = rng.standard_normal((TOPICS, WIDTH, V))
        if kind != "topics":
            maps[:] = maps[0]
        if kind == "people":
            maps *= 2 * (np.arange(WIDTH) // 3 == person)[:, None]
        signal = np.einsum("nd,ndv->nv", vectors[0], maps[topic]) * (kind != "noise")
        noise = 0.5 * np.sqrt(WIDTH) * rng.standard_normal(signal.shape)
        loaded[f"S{person}"] = make_responses(words, signal + noise, subject=f"S{person}")
    dataset = Dataset("made", tuple(loaded), words, loaded.__getitem__)
    return dataset, make_embeddings(words, vectors)


def study(kind, plan=PLAN, **options):
    dataset, model = made(kind, **options)
    scoring = Scoring(methods=("ridge",), ks=(1,))
    return run_novelty(dataset, [model], plan=plan, scoring=scoring, progress=False)


def level(table, name, **wanted):
    columns = {"subject": "group", "layer": -1, "metric": "rank_accuracy", "tested_on": name}
    rows = table.rows
    for column, value in {**columns, **wanted}.items():
        rows = rows[rows[column] == value]
    (row,) = rows.to_dict("records")
    return row


@pytest.mark.parametrize(
    ("kind", "held"),
    [
        ("shared", ("word", "topic", "person")),
        ("topics", ("word",)),
        ("people", ("word", "topic")),
    ],
)
def test_the_ladder_holds_down_to_the_level_that_is_planted(kind, held):
    table = study(kind)
    assert table.levels == ["word", "topic", "person"]
    (verdict,) = verdicts(table)
    assert verdict.held == held and verdict.answer == ("holds" if kind == "shared" else "in part")
    for name in table.levels:
        row = level(table, name)
        assert (
            row["candidates"] == 12
            and row["n_train"] == 42
            and row["trained_on"] == f"other {name}"
        )
        assert row["null_lower"] < row["null_mean"] < row["null_upper"]
        if name in held:
            assert row["p"] == 1 / 21 and row["value"] > max(0.65, row["null_upper"])
        else:
            assert abs(row["value"] - 0.5) < 0.08
    if kind == "shared":
        assert table.verdict().startswith("It holds for new words, topics and people.")
        assert all(level(table, name)["ceiling"] > 0.9 for name in table.levels)
    if kind == "people":  # what people do not share has no ceiling
        assert abs(level(table, "person")["ceiling"] - 0.5) < 0.1


def test_noise_is_silent_at_every_level():
    # Of eight seeds none says that it holds at any level.
    table = study("noise")
    (verdict,) = verdicts(table)
    assert verdict.answer == "nothing" and verdict.held == ()
    assert all(abs(level(table, name)["value"] - 0.5) < 0.08 for name in table.levels)


@pytest.mark.parametrize("kind", ["shared", "noise"])
def test_scores_grow_with_model_size_where_they_are_planted_to(kind):
    dataset, model = made(kind)
    rng = np.random.default_rng(1)
    models = []
    for place, noise in enumerate((3.0, 1.5, 0.0)):  # the larger, the nearer to the brain
        vectors = np.asarray(model.values) + noise * rng.standard_normal((1, N, WIDTH))
        sized = make_embeddings(dataset.stimulus, vectors, name=f"model{place}")
        models.append(replace(sized, meta={**sized.meta, "n_params": 10 ** (6 + place)}))
    scoring, plan = Scoring(methods=("ridge",), ks=(1,)), replace(PLAN, n_nulls=0)
    table = run_novelty(dataset, models, plan=plan, scoring=scoring, progress=False)
    slopes = {x["level"]: x for x in table.manifest["scaling"] if x["scope"] == "across"}
    assert list(slopes) == ["word", "topic", "person"]
    for line in slopes.values():
        assert line["n_models"] == 3 and line["lower"] <= line["slope"] <= line["upper"]
        assert (line["lower"] > 0.05) == (kind == "shared")
    said = "ridge: per tenfold parameters (across all models, 3 models) rank accuracy for new words"
    assert said in table.verdict()


def test_words_of_one_vector_are_told_apart_at_chance():
    dataset, model = made("noise", n_subjects=3)
    alike = replace(model, values=np.ones_like(model.values))
    scoring, plan = Scoring(methods=("ridge",), ks=(1,)), replace(PLAN, n_nulls=1)
    table = run_novelty(dataset, [alike], plan=plan, scoring=scoring, progress=False)
    assert [level(table, name)["value"] for name in table.levels] == [0.5] * len(table.levels)


def test_what_the_data_set_lacks_is_said_with_the_reason():
    table = study("noise", PLAN.__class__(n_folds=4, n_splits=1, n_nulls=0), n_subjects=2)
    absent = table.manifest["absent"]
    assert absent["story"] == "it is the same for all words"
    assert absent["section"] == "it is known of 4% of the words"
    assert absent["passage"] == "the data set does not say it"
    assert absent["person"] == "there are 2: 3 are needed"
    assert verdicts(table)[0].answer == "untested"


def test_cells_train_on_nothing_of_the_tested_groups_and_on_the_nearest_first():
    dataset, _ = made("noise")
    ladder = find_levels(dataset.stimulus, np.ones(N, bool))
    assert ladder.levels == ("word", "topic")
    ladder, sizes, cells, aligning = draw_ladder(
        ladder, n_folds=4, n_splits=2, n_train=None, people=True, rng=np.random.default_rng(0)
    )
    topic = ladder.groups[1]
    tests = cells.test.reshape(3, 8, -1)
    assert (tests == tests[0]).all() and sizes.n_candidates == 12
    for train, test, at in zip(cells.train, cells.test, cells.trained, strict=True):
        assert not set(train) & set(test) and len(set(train)) == sizes.n_train
        near = np.isin(topic[train], topic[test]).sum()
        # Two of eight topics are tested, a word of them in two: the others are all trained on.
        assert near == (0 if at == 1 else 12)
    assert aligning.shape == (8, N - 12 - sizes.n_train)
    for words, train, test in zip(aligning, cells.train[-8:], cells.test[-8:], strict=True):
        assert not set(words) & (set(train) | set(test))


def test_words_in_time_begin_at_the_run_and_blocks_change_places_whole():
    run = np.repeat(np.arange(6), 10)
    words = Stimulus.from_words(
        [f"w{i}" for i in range(60)], onsets=np.tile(np.arange(10.0), 6), run=run
    ).with_attributes(section=run + 1)
    ladder = find_levels(words, np.ones(60, bool))
    assert ladder.levels == ("section",)
    assert ladder.absent["word"] == "words in time share scans with their neighbours"
    assert ladder.absent["run"] == "its groups are those of section"
    exchanged = exchanged_items(ladder, np.random.default_rng(0))
    assert sorted(exchanged) == list(range(60))
    assert (np.diff(exchanged.reshape(6, 10), axis=1) == 1).all()
    single = Stimulus.from_words(words.words, onsets=np.arange(60.0))
    with pytest.raises(ValueError, match="no level of novelty to be tested") as error:
        find_levels(single, np.ones(60, bool))
    assert "\n" not in str(error.value)


def test_too_few_words_and_choices_that_have_no_place_are_one_line():
    for plan, message in (
        (Generalisation(n_train=60, n_folds=4), "n_train=60 must be 10 to 42"),
        (Generalisation(match=("length",)), "match is for conditions"),
        (Generalisation(n_nulls=100_000, n_splits=1000), "more than can be held: lower one"),
    ):
        with pytest.raises(ValueError, match=message) as error:
            study("noise", plan)
        assert "\n" not in str(error.value)


@pytest.fixture(scope="module")
def sentences(tmp_path_factory):
    """The folder of a simulated release of pereira2018, and the planted vectors of its experiments."""
    folder = tmp_path_factory.mktemp("pereira2018")
    simulation = simulate_pereira(
        folder, subjects=("P01", "M02", "M04"), experiments=("384sentences", "243sentences"),
        n_voxels=60, shape=(6, 6, 6), snr=2.0, roi_tables="newer",
    )  # fmt: skip
    return folder, simulation


def test_sentences_of_pereira2018_hold_for_passages_topics_experiments_and_people(sentences):
    folder, simulation = sentences
    dataset = open_dataset("pereira2018", folder, experiment="627sentences", roi="languageLH")
    assert len(dataset.stimulus) == 627 and dataset.subjects == ("M02", "M04", "P01")
    loaded = dataset.load("P01")
    alone = open_dataset("pereira2018", folder, experiment="243sentences", roi="languageLH")
    assert (np.asarray(loaded.values)[384:] == np.asarray(alone.load("P01").values)).all()
    assert len(np.unique(dataset.stimulus.attribute("passage"))) == 168
    vectors = np.concatenate([simulation.vectors[name] for name in simulation.vectors])[None]
    model = make_embeddings(dataset.stimulus, vectors)
    plan = Generalisation(n_folds=4, n_splits=1, n_train=40, n_nulls=20, n_bootstraps=100)
    scoring = Scoring(methods=("ridge",), ks=(1,), layers=(0,))
    table = run_novelty(dataset, [model], plan=plan, scoring=scoring, progress=False)
    assert table.levels == ["word", "passage", "topic", "experiment", "person"]
    assert verdicts(table)[0].answer == "holds"
    assert table.manifest["n_groups"][1:] == [168, 24, 2, 3]


def test_what_is_fitted_on_one_experiment_of_pereira2018_holds_for_the_other(sentences):
    folder, simulation = sentences
    dataset = open_dataset("pereira2018", folder, experiment="627sentences", roi="languageLH")
    vectors = np.concatenate([simulation.vectors[name] for name in simulation.vectors])[None]
    names = ("experiment=384sentences", "experiment=243sentences")
    table = run_generalisation(
        dataset,
        [make_embeddings(dataset.stimulus, vectors)],
        names,
        plan=Generalisation(n_folds=4, n_splits=1, n_train=40, n_nulls=0, n_bootstraps=100),
        scoring=Scoring(methods=("ridge",), ks=(1,), layers=(0,)),
        progress=False,
    )
    assert table.manifest["conditions"] == {names[0]: 384, names[1]: 243}
    for trained, tested in (names, names[::-1], (names[0],) * 2, (names[1],) * 2):
        cell = table.line(
            subject="group", layer=0, metric="rank_accuracy", trained_on=trained, tested_on=tested
        )
        assert cell["lower"] > 0.5 and cell["n_train"] == 40


def test_the_command_writes_table_manifest_and_report(tmp_path, monkeypatch, capsys):
    dataset, model = made("topics", n_subjects=3)
    words = dataset.stimulus.words
    for subject in dataset.subjects:
        write_table(tmp_path / "data" / f"{subject}.csv", words, dataset.load(subject).values)
    topics = pd.DataFrame({"word": words, "topic": dataset.stimulus.attribute("topic")})
    topics.to_csv(tmp_path / "topics.csv", index=False)
    write_vectors(tmp_path / "vectors.txt", np.asarray(model.values[0]), model.types)
    monkeypatch.chdir(tmp_path)
    arguments = [
        "generalise", "--dataset=table", "--data_dir=data", "--attributes=topics.csv", "--novelty",
        "--models=static:vectors.txt", "--methods=ridge", "--n_folds=4", "--n_splits=1", "--n_nulls=4",
        "--n_bootstraps=100", "--output_dir=out",
    ]  # fmt: skip
    assert cli.main(arguments) == 0
    captured = capsys.readouterr()
    table = NoveltyTable.load(tmp_path / "out")
    assert "Whether it holds was not tested." in table.verdict()
    assert table.verdict() in captured.out and "report: out/report.html" in captured.out
    # Three levels, two layers, four people, three metrics.
    assert len(table.rows) == 3 * 2 * 4 * 3
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["levels"] == ["word", "topic", "person"] and "jax" in manifest["versions"]
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.index("Down to which level") < page.index("Levels that are not tested")
    assert (tmp_path / "out" / "figures" / "ladder_1.png").is_file()
    for wrong, message in (
        (["--conditions=topic=a;topic=b"], "--novelty stands in place of --conditions"),
        (["--match=length"], "--match is for --conditions"),
        (["--novelty=false"], "--conditions is missing, or --novelty"),
    ):
        assert cli.main([*arguments, *wrong]) == 2
        assert message in capsys.readouterr().err
