"""Does it hold for people of other languages? Planted truth in three languages, noise, bad input."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from recordings import write_vectors
from simulate.little_prince import simulate_little_prince

from brainalign_jax import cli
from brainalign_jax.align.stats.bootstrap import draw_stratified
from brainalign_jax.language import Embeddings
from brainalign_jax.neural.readers import Dataset
from brainalign_jax.neural.responses import WordResponses
from brainalign_jax.stimulus import Stimulus
from brainalign_jax.studies.languages import (
    LanguageTable,
    headline,
    languages,
    run_languages,
    spaces,
    verdicts,
)
from brainalign_jax.studies.languages.cells import Scores
from brainalign_jax.studies.languages.maps import ALPHAS
from brainalign_jax.studies.languages.matched import matched_effects
from brainalign_jax.studies.languages.sections import Text
from brainalign_jax.studies.languages.table import Drawn, mean_draws, rows_of
from brainalign_jax.studies.options import Languages
from brainalign_jax.study.evidence.chance import permutation_p
from brainalign_jax.study.options import Scoring

WIDTH, V, N_PARTS = 6, 16, 8
LANGUAGES = {"en": 30, "fr": 34, "zh": 26}  # words a section
N_SECTIONS = 4
QUICK = Languages(n_nulls=60, n_bootstraps=200, n_bins=8, audited=False, purge=0.0)
RIDGE = Scoring(methods=("ridge",), ks=(1, 3))


def story(kind, *, n_people=3, noise=0.7, seed=0, names=True, topic=0.0, only=None):
    """(data sets, vectors by language) of one story in three languages.

    kind: "shared", one map from meanings to columns for everybody; "languages", one for each language;
    "people", one for each person; "noise". The meanings of the words of a part of a section have in common
    `topic` times what is told there, in all languages. only: some of the languages.
    Layer 1 is the meanings, layer 0 is not.
    """
    rng = np.random.default_rng(seed)
    told = rng.standard_normal((N_SECTIONS, N_PARTS, WIDTH))
    shared = rng.standard_normal((WIDTH, V))
    datasets, vectors = [], {}
    for language, n in LANGUAGES.items():
        if language not in (only or LANGUAGES):
            continue
        words = [f"{language}{s}x{i}" for s in range(N_SECTIONS) for i in range(n)]
        part = np.tile(np.arange(n) * N_PARTS // n, N_SECTIONS)
        section = np.repeat(np.arange(N_SECTIONS), n)
        stimulus = Stimulus(
            words,
            onsets=np.tile(np.linspace(0, 60, n), N_SECTIONS),
            run=section,
            attributes={"section": section + 1.0, "story": ["prince"] * len(words)},
            language=language,
        )
        meaning = rng.standard_normal((len(words), WIDTH)) + topic * told[section, part]
        # Where a language's vectors lie is of no account.
        layers = np.stack(
            [rng.standard_normal(meaning.shape), meaning + 5 * rng.standard_normal(WIDTH)]
        )
        fertility = {"en": 1.1, "fr": 1.3, "zh": 1.9}[language]
        meta = {"family": "planted", "fertility": fertility}
        vectors[language] = Embeddings("planted", stimulus.types()[0], layers, None, meta)
        own = rng.standard_normal((WIDTH, V))
        loaded = {}
        for person in range(n_people):
            mapped = {"shared": shared, "languages": own, "noise": 0 * own}.get(
                kind, rng.standard_normal((WIDTH, V))
            )
            values = meaning @ mapped + noise * np.sqrt(WIDTH) * rng.standard_normal(
                (len(words), V)
            )
            facts = {"feature_names": [f"region{v}" for v in range(V)]} if names else {}
            subject = f"{language}{person}"
            loaded[subject] = WordResponses(subject, values, stimulus, meta=facts)
        dataset = Dataset(f"prince_{language}", tuple(loaded), stimulus, loaded.__getitem__)
        datasets.append(dataset)
    return datasets, vectors


def study(kind, *, plan=QUICK, scoring=RIDGE, **options):
    datasets, vectors = story(kind, **options)
    return run_languages(datasets, [vectors], plan=plan, scoring=scoring, progress=False)


def accuracy(table, trained, tested, subject="group", layer=-1, method="ridge"):
    return table.line(
        trained_on=trained, tested_on=tested, subject=subject, layer=layer, method=method,
        metric="rank_accuracy",
    )  # fmt: skip


@pytest.fixture(scope="module")
def shared():
    return study("shared", scoring=Scoring(methods=("ridge", "procrustes"), ks=(1, 3)))


def test_shared_meanings_are_decoded_across_languages(shared):
    for method in ("ridge", "procrustes"):
        for trained in LANGUAGES:
            for tested in LANGUAGES:
                line = accuracy(shared, trained, tested, method=method)
                assert line["p"] == 1 / 61 and line["value"] > 0.7
                assert abs(line["null_mean"] - 0.5) < 0.03 and line["ceiling"] > 0.7
                assert line["lower"] <= line["value"] <= line["upper"]
        assert accuracy(shared, "others", "zh", method=method)["p"] == 1 / 61
        assert accuracy(shared, "across", "all", method=method)["value"] > 0.7
        # The layer that is not in the brain carries nothing, and is not the one chosen.
        assert abs(accuracy(shared, "en", "fr", layer=0, method=method)["value"] - 0.5) < 0.08
    assert {verdict.answer for verdict in verdicts(shared)} == {"holds"}
    assert headline(shared).startswith("Yes: a map fitted on people of one language")
    assert accuracy(shared, "en", "zh")["fertility"] == 1.9
    assert accuracy(shared, "en", "zh")["candidates"] == LANGUAGES["zh"]
    assert accuracy(shared, "en", "zh")["n_train"] == 3 * LANGUAGES["en"]


def test_meanings_that_each_language_has_its_own_place_for_are_not():
    table = study("languages")
    for language in LANGUAGES:
        assert accuracy(table, language, language)["p"] == 1 / 61
    assert accuracy(table, "across", "all")["p"] > 0.05
    (verdict,) = verdicts(table)
    assert verdict.answer == "ends" and table.verdict().startswith("No: a map fitted on people")


def test_noise_is_silent():
    table = study("noise")
    (verdict,) = verdicts(table)
    assert verdict.answer == "nothing" and table.verdict().startswith(
        "There is nothing to carry over"
    )
    rows = table.rows[
        (table.rows["metric"] == "rank_accuracy") & (table.rows["subject"] == "group")
    ]
    assert (rows["p"] < 0.05).mean() < 0.12 and abs(rows["value"] - 0.5).max() < 0.1


def test_people_whose_columns_differ_are_hyperaligned_by_the_other_sections():
    plan = replace(QUICK, space="hyperaligned")
    options = dict(noise=0.3, names=False, n_people=4, only=("en", "zh"))
    table = study("people", topic=2.0, plan=plan, **options)
    assert table.manifest["space"] == "hyperaligned"
    assert accuracy(table, "across", "all")["p"] == 1 / 61
    assert accuracy(table, "across", "all")["value"] > 0.6
    # Without anything told at the same time in all languages there is nothing to align them by. Maps that
    # have nothing to do with one another still agree by chance; of 60 seeds three have p below .05.
    apart = study("people", topic=0.0, plan=plan, seed=1, **options)
    line = accuracy(apart, "across", "all")
    assert line["p"] > 0.05 and abs(line["value"] - 0.5) < 0.2


def by_numpy(datasets, vectors, trained, tested, alpha):
    """Rank accuracy of each person of a language by ridge on the people of another, by plain loops."""
    source, target = (
        next(d for d in datasets if d.stimulus.language == x) for x in (trained, tested)
    )

    def centred(values, section):
        return np.concatenate(
            [values[section == s] - values[section == s].mean(axis=0) for s in range(N_SECTIONS)]
        )

    def person(dataset, name):
        section = dataset.stimulus.run
        values = centred(dataset.load(name).values.astype(float), section)
        return values / values.std(axis=0)

    scores = np.zeros((len(target.subjects), N_SECTIONS))
    for held in range(N_SECTIONS):
        rows = source.stimulus.run != held
        x = np.mean([person(source, name) for name in source.subjects], axis=0)[rows]
        y = centred(vectors[trained].values[1].astype(float), source.stimulus.run)[rows]
        penalty = alpha * (x**2).sum() / len(x)
        weights = np.linalg.solve(x.T @ x + penalty * np.eye(V), x.T @ y)
        here = target.stimulus.run == held
        candidates = centred(vectors[tested].values[1].astype(float), target.stimulus.run)[here]
        for index, name in enumerate(target.subjects):
            predicted = person(target, name)[here] @ weights
            for word, guess in enumerate(predicted):
                cosines = [
                    guess @ other / np.linalg.norm(guess) / np.linalg.norm(other)
                    for other in candidates
                ]
                above = sum(cosine > cosines[word] for cosine in cosines)
                scores[index, held] += 1 - above / (len(candidates) - 1)
        scores[:, held] /= here.sum()
    return scores.mean(axis=1)


def test_transfer_equals_an_independent_ridge():
    datasets, vectors = story("shared", noise=1.5, n_people=2)
    options = dict(plan=replace(QUICK, n_nulls=1), scoring=RIDGE, progress=False)
    table = run_languages(datasets, [vectors], **options)
    assert verdicts(table)[0].answer == "untested"  # by one draw no p is below .05
    # The penalty is chosen in inner folds: the scores are those of one that was tried.
    by_alpha = np.array([by_numpy(datasets, vectors, "en", "fr", alpha) for alpha in ALPHAS])
    own = [accuracy(table, "en", "fr", f"fr{i}", layer=1)["value"] for i in range(2)]
    assert np.abs(by_alpha - own).max(axis=1).min() < 0.01
    assert by_alpha.mean(axis=1).max() - np.mean(own) < 0.01


def test_columns_are_found_by_name_and_reduced_to_their_axes():
    datasets, vectors = story("shared", n_people=2, only=("en", "fr"))
    order = np.random.default_rng(0).permutation(V)

    def mixed(subject):
        responses = datasets[1].load(subject)
        values = np.concatenate([responses.values[:, order], responses.values[:, :1] ** 2], axis=1)
        names = [f"region{v}" for v in order] + ["elsewhere"]
        return WordResponses(subject, values, responses.stimulus, meta={"feature_names": names})

    def values(datasets, **choices):
        plan = replace(QUICK, n_nulls=5, **choices)
        return run_languages(datasets, [vectors], plan=plan, scoring=RIDGE, progress=False).rows[
            "value"
        ]

    other = [datasets[0], replace(datasets[1], load=mixed)]
    np.testing.assert_allclose(values(other), values(datasets), atol=1e-6)
    # Six axes hold the meanings; what is left out is noise.
    few = values(datasets, n_axes=8)
    assert abs(few - values(datasets)).mean() < 0.05 and few.mean() > 0.55

    def lacking(subject):
        return (
            mixed(subject) if subject == "fr0" else mixed(subject).select_columns(np.arange(V - 1))
        )

    with pytest.raises(ValueError, match="person 'fr1' lacks the column 'region"):
        values([datasets[0], replace(datasets[1], load=lacking)])


def test_runs_of_a_section_come_one_after_another_in_its_parts():
    section, run = np.zeros(12, int), np.repeat([3, 1, 2], 4)
    onsets = np.tile(np.arange(4.0), 3) + 10 * run
    text = Text("en", None, (), np.arange(12), section, section, run, onsets)
    # Each run lasts three seconds of nine.
    part = spaces._parts_of(text, 1, 3)
    np.testing.assert_array_equal(part, [0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 2])
    by_place = spaces._parts_of(text._replace(run=None, onsets=None), 1, 3)
    np.testing.assert_array_equal(by_place, np.repeat([0, 1, 2], 4))


def test_turns_keep_all_covariances(monkeypatch):
    rng = np.random.default_rng(0)
    rows = (rng.standard_normal((3, 200, 12)) * np.linspace(3, 1, 12)).astype(np.float32)
    turns = spaces.axis_turns(rows, 50, rng)
    np.testing.assert_array_equal(turns[0], np.eye(12))
    covariance = rows.reshape(-1, 12).T @ rows.reshape(-1, 12)
    for turn in turns[1:]:
        moved = turn.T @ covariance @ turn
        np.testing.assert_allclose(moved, covariance, atol=1e-4 * covariance.max())
    assert abs(np.trace(turns[1:], axis1=1, axis2=2).mean()) < 1
    monkeypatch.setattr(spaces, "_TURN_BYTES", 1000)
    with pytest.raises(ValueError, match="n_nulls=50 turns of 12 axes"):
        spaces.axis_turns(rows, 50, rng)


def test_draws_of_a_mean_over_both_directions_vary_as_much_as_the_mean():
    """A map of the first on the second and one of the second on the first agree by chance alike."""
    rng = np.random.default_rng(0)
    first, second, apart, other = rng.standard_normal((4, 20_000, 8))
    mean = ((first * second).sum(axis=1) + (second * first).sum(axis=1)) / 2
    drawn = ((first * apart).sum(axis=1) + (second * other).sum(axis=1)) / 2
    widened = mean_draws(drawn)
    assert widened.mean() == pytest.approx(drawn.mean())
    assert drawn.std() / mean.std() == pytest.approx(np.sqrt(0.5), abs=0.02)
    assert widened.std() / mean.std() == pytest.approx(1, abs=0.03)
    assert len(mean_draws(np.zeros(0))) == 0


def test_draws_of_each_person_within_a_language_are_widened():
    """People of a language share what the words do not explain, as in a mean over people."""
    sums = 0.5 + 0.1 * np.random.default_rng(0).standard_normal((200, 2, 2, 1))
    sums[0] = 0.65  # the study's own scores
    people = {language: (f"{language}0", f"{language}1") for language in ("en", "fr")}
    cells = {
        pair: Scores(sums, np.ones(2), 1, 10, np.full(2, 0.8)) for pair in (("en", "en"), ("en", "fr"))
    }  # fmt: skip
    plan = replace(QUICK, n_bootstraps=100)
    names, fertility = dict(en="english", fr="french"), dict(en=1.0, fr=1.0)
    rows = rows_of(cells, people, names, (-1, 1), (), fertility, Drawn(people, plan, 0))
    for language in ("en", "fr"):
        for person in range(2):
            null = sums[1:, person, 0, 0]
            p = permutation_p(0.65, mean_draws(null) if language == "en" else null)
            line = rows[(rows["subject"] == f"{language}{person}") & (rows["layer"] == -1)]
            assert line["p"].tolist() == [p]


def test_people_are_resampled_within_their_languages():
    strata = ["en", "fr", "en", "zh", "fr", "en"]
    counts = draw_stratified(strata, 3000, random_state=3)
    assert counts.shape == (3000, 6) and (counts[:, 3] == 1).all()
    assert (counts[:, [0, 2, 5]].sum(axis=1) == 3).all() and (
        counts[:, [1, 4]].sum(axis=1) == 2
    ).all()
    values = np.array([1.0, 4.0, 2.0, 7.0, 8.0, 6.0])
    rng = np.random.default_rng(0)
    looped = []
    for _ in range(3000):
        means = []
        for language in ("en", "fr", "zh"):
            people = [i for i, label in enumerate(strata) if label == language]
            means.append(np.mean([values[rng.choice(people)] for _ in people]))
        looped.append(np.mean(means))
    sizes = np.array([strata.count(label) for label in strata])
    drawn = (counts * values / sizes).sum(axis=1) / 3
    assert drawn.mean() == pytest.approx(np.mean(looped), abs=0.05)
    np.testing.assert_allclose(
        np.quantile(drawn, [0.05, 0.95]), np.quantile(looped, [0.05, 0.95]), atol=0.2
    )


def test_models_of_the_peoples_language_are_compared_beside_fertility(tmp_path):
    datasets, vectors = story("shared", n_people=2, only=("en", "zh"))
    rng = np.random.default_rng(1)
    models, of = [], {}
    for own in vectors:
        blurred = {}
        for language, known in vectors.items():
            values = known.values + (0 if language == own else 2) * rng.standard_normal(
                known.values.shape
            )
            meta = {"fertility": 1 + rng.random()}
            blurred[language] = Embeddings(f"m_{own}", known.types, values, None, meta)
        models.append(blurred)
        of[f"m_{own}"] = own
    table = run_languages(
        datasets, models, tmp_path, plan=QUICK, scoring=RIDGE, model_languages=of, progress=False
    )
    (effect,) = table.manifest["matched"]
    assert effect["lower"] > 0.1 and effect["difference"] > effect["lower"]
    # Every word occurs once: the languages do not differ in how frequent theirs are.
    assert effect["covariates"] == ["fertility"] and effect["n_cells"] == 4
    report = (tmp_path / "report.html").read_text()
    assert "a model of the people's own language scores" in report.replace("&#39;", "'")
    assert "beside fertility (4 cells" in report
    assert report.index("Does it hold for people of other languages?") < report.index("<img")
    loaded = LanguageTable.load(tmp_path)
    assert loaded.manifest["model_languages"] == of and len(loaded.rows) == len(table.rows)


def test_the_models_difference_is_what_covariates_do_not_explain():
    rng = np.random.default_rng(0)
    people, frequency = {"en": ("A", "B"), "fr": ("C", "D")}, {"en": 3.0, "fr": 5.0}
    models = {"m1": "en", "m2": "fr", "m3": "fr"}
    lines = []
    for model, of in models.items():
        for language, names in people.items():
            fertility = 1 + rng.random()
            value = 0.4 + 0.1 * (of == language) + 0.05 * fertility + 0.02 * frequency[language]
            for subject in (*names, "group"):
                lines.append((subject, model, "ridge", language, value, fertility))
    rows = pd.DataFrame(
        lines, columns=["subject", "model", "method", "tested_on", "value", "fertility"]
    ).assign(metric="rank_accuracy", layer=-1, trained_on=lambda table: table["tested_on"])
    (effect,) = matched_effects(rows, models, people, frequency, Drawn(people, QUICK, 0), 0.95)
    assert effect["covariates"] == ["fertility", "log_frequency"] and effect["n_cells"] == 6
    assert effect["difference"] == pytest.approx(0.1) and effect["lower"] == pytest.approx(0.1)


def test_what_cannot_be_compared_is_refused_in_a_line():
    datasets, vectors = story("shared", n_people=1)

    def refused(said, datasets=datasets, plan=QUICK, scoring=RIDGE, **options):
        with pytest.raises(ValueError, match=said) as error:
            run_languages(
                datasets, [vectors], plan=plan, scoring=scoring, progress=False, **options
            )
        assert "\n" not in str(error.value)

    first, second, third = datasets

    def told(dataset, **changes):
        return replace(dataset, stimulus=replace(dataset.stimulus, **changes))

    refused("1 data set cannot be compared: give 2 to 20, one a language", [first])
    refused(
        "prince_en: the language of its words is not known", [told(first, language=None), second]
    )
    refused("are both in 'fr'", [told(first, language="fr"), second])
    refused(r"prince_fr \(fr\) has no people", [first, replace(second, subjects=())])
    refused("unknown attribute 'chapter'", plan=replace(QUICK, section="chapter"))
    refused("1 section of 'story' is in all data sets", plan=replace(QUICK, section="story"))
    late = second.stimulus.attribute("section") + 10
    moved = replace(second, stimulus=second.stimulus.with_attributes(section=late))
    refused("no section is in all data sets.*'en' has 1, 2, 3, 4, 'fr' 11, 12", [first, moved])
    same = Stimulus(["one"] * len(second.stimulus), run=second.stimulus.run, language="fr")
    same = same.with_attributes(section=second.stimulus.attribute("section"))
    refused(
        "section '1' has 0 recorded words that occur in no other",
        [first, replace(second, stimulus=same)],
    )
    unnamed, _ = story("shared", n_people=1, names=False)
    refused("share no columns: they have 16 and 16", unnamed, replace(QUICK, space="columns"))
    refused(
        "section 1 has 30 words for 31 parts", plan=replace(QUICK, space="hyperaligned", n_bins=31)
    )
    refused("ks=30 must be below the 26", scoring=Scoring(methods=("ridge",), ks=(30,)))
    refused("unknown method of a study of languages 'rsa'", scoring=Scoring(methods=("rsa",)))
    refused("unknown model of model_languages 'other'", model_languages={"other": "fr"})


def test_each_language_has_its_own_audited_study(tmp_path, monkeypatch):
    asked = []

    class Judged:
        def verdict(self):
            return f"Yes. On {asked[-1][0].name} words are decoded."

    def judged(dataset, models, scoring, folder, **options):
        asked.append((dataset, models, scoring, folder))
        if dataset.name == "prince_en":
            raise ValueError("3 blocks leave nothing to exchange")
        return Judged()

    monkeypatch.setattr(languages, "run_study", judged)
    datasets, vectors = story("shared", n_people=1, only=("en", "fr"))
    untimed = replace(datasets[1].stimulus, onsets=None)
    datasets[1] = replace(datasets[1], stimulus=untimed)
    plan = replace(QUICK, audited=True, n_nulls=0)
    with pytest.warns(UserWarning, match=r"prince_en \(en\) by itself: 3 blocks leave nothing"):
        table = run_languages(
            datasets, [vectors], tmp_path, plan=plan, scoring=RIDGE, progress=False, simulated=True
        )
    assert [folder for *_, folder in asked] == [tmp_path / "within" / x for x in ("en", "fr")]
    timed, runs = (scoring.protocol for _, _, scoring, _ in asked)
    assert timed.name == runs.name == "audited" and timed.folds == "contiguous"
    assert (runs.folds, runs.n_folds, runs.n_inner_folds) == ("shuffled_runs", 4, 3)
    assert asked[0][1] == [vectors["en"]]
    # One person a language: its own words are trained on, and nobody else's tell the ceiling.
    assert np.isnan(accuracy(table, "en", "en")["ceiling"]) and np.isnan(
        accuracy(table, "en", "fr")["p"]
    )
    assert verdicts(table)[0].answer == "untested"
    report = (tmp_path / "report.html").read_text()
    assert "Yes. On prince_fr words are decoded." in report and "SIMULATED" in report
    assert "Not judged: 3 blocks leave nothing to exchange" in report


@pytest.fixture(scope="module")
def tables_of_words(tmp_path_factory):
    """Folders of tables of words x regions, and a file of vectors of all their words."""
    folder = tmp_path_factory.mktemp("prince")
    datasets, vectors = story("shared", n_people=2)
    lines = []
    for dataset in datasets:
        language = dataset.stimulus.language
        (folder / language).mkdir()
        for subject in dataset.subjects:
            values = dataset.load(subject).values
            header = ",".join(["word", "run", *(f"region{v}" for v in range(V))])
            rows = [
                f"{word},{run}," + ",".join(f"{x:.4f}" for x in row)
                for word, run, row in zip(
                    dataset.stimulus.words, dataset.stimulus.run, values, strict=True
                )
            ]
            (folder / language / f"{subject}.csv").write_text("\n".join([header, *rows]) + "\n")
        for word, row in zip(vectors[language].types, vectors[language].values[1], strict=True):
            lines.append(f"{word} " + " ".join(f"{x:.4f}" for x in row))
    (folder / "vectors.txt").write_text("\n".join(lines) + "\n")
    return folder


def test_the_command_writes_the_study(tables_of_words, tmp_path, capsys):
    folders = ",".join(f"{language}={tables_of_words / language}" for language in ("en", "fr"))
    arguments = [
        "languages", "--dataset=table", f"--data_dirs={folders}", "--section=run", "--methods=ridge",
        f"--models=static:{tables_of_words / 'vectors.txt'}", "--n_nulls=20", "--n_bootstraps=100",
        f"--output_dir={tmp_path / 'out'}", "--progress=false",
        "--audited=false",
    ]  # fmt: skip
    assert cli.main(arguments) == 0
    said = capsys.readouterr().out
    assert said.startswith("Yes: a map fitted on people of one language") and "report.html" in said
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["languages"]["fr"]["audited"] is None and manifest["plan"]["section"] == "run"
    assert (tmp_path / "out" / "languages.parquet").is_file()
    wrong = {
        f"--data_dirs=english={tables_of_words / 'en'}": "unknown language='english'",
        "--dataset=": "--dataset is empty",
        "--reader_options=language=fr": "--data_dirs names the languages; leave it out",
        "--model_languages=foo=fr": "unknown model of model_languages 'foo'",
        "--methods=rsa": "unknown method of a study of languages 'rsa'",
        "--models=a,a": "models are given twice: a; give each once",
    }
    for text, message in wrong.items():
        others = [
            given for given in arguments if not given.startswith(f"{text.partition('=')[0]}=")
        ]
        assert cli.main([*others, text]) == 2
        assert message in capsys.readouterr().err
    assert cli.main([*arguments, "--section=chapter"]) == 1
    assert "unknown attribute 'chapter'" in capsys.readouterr().err


@pytest.mark.parametrize("shared", [True, False])
def test_the_little_prince_in_three_languages_from_its_files(tmp_path, capsys, shared):
    """Words of all languages have vectors of one space, read by one map or by a map a language."""
    rng = np.random.default_rng(2)
    lines = []
    for place, (language, script) in enumerate(
        {"en": "abcde", "fr": "vwxyz", "zh": "星说他很美"}.items()
    ):
        words = [f"{a}{b}{c}" for a in script for b in script for c in script][: 108 + 9 * place]
        vectors = rng.standard_normal((len(words), 4))
        simulate_little_prince(
            tmp_path / "ds003643", texts={language: (words, vectors)}, n_subjects=1, n_voxels=20,
            word_duration=3.0, snr=3.0, drift=0.2, responsive=1.0, seed=5 if shared else place,
        )  # fmt: skip
        write_vectors(tmp_path / language, vectors, words)
        lines.append((tmp_path / language).read_text("utf-8"))
    (tmp_path / "vectors.txt").write_text("".join(lines), "utf-8")
    folders = ",".join(f"{language}={tmp_path}" for language in LANGUAGES)
    arguments = [
        "languages", "--dataset=little_prince", f"--data_dirs={folders}", "--methods=ridge",
        "--reader_options=mask=mask.nii.gz", f"--models=static:{tmp_path / 'vectors.txt'}",
        "--n_nulls=60", "--n_bootstraps=100", f"--output_dir={tmp_path / 'out'}", "--noprogress",
        "--audited=false",
    ]  # fmt: skip
    assert cli.main(arguments) == 0
    table = LanguageTable.load(tmp_path / "out")
    assert table.manifest["space"] == "columns" and len(table.manifest["sections"]) == 9
    across, within = (accuracy(table, kind, "all") for kind in ("across", "within"))
    assert within["p"] == 1 / 61 and within["value"] > 0.6
    said = capsys.readouterr().out
    if shared:
        assert across["p"] == 1 / 61 and across["value"] > 0.6
        assert abs(across["null_mean"] - 0.5) < 0.05 and said.startswith("Yes: a map fitted")
    else:
        assert across["p"] > 0.05 and said.startswith("No: a map fitted")
