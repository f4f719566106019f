"""Claims as files: outcomes on planted data, numbers of tables, files that are refused, those that ship."""

import dataclasses
import doctest
import functools
import re

import numpy as np
import pandas as pd
import pytest
from recordings import make_embeddings, make_responses

import brainalign_jax as ba
from benchmarks.ablation_false_positives import write_model
from brainalign_jax import cli
from brainalign_jax.neural.readers import Dataset
from brainalign_jax.stimulus import Stimulus
from brainalign_jax.studies.claims import (
    ClaimsTable,
    Expected,
    Quantity,
    claim_files,
    outcome_of,
    outcomes,
    quantities,
    read_claims,
    run_claims,
)
from brainalign_jax.studies.claims.asked_studies import STUDIES
from brainalign_jax.studies.claims.claim_files import PUBLISHED_CLAIMS
from brainalign_jax.studies.claims.claims import with_names
from brainalign_jax.studies.claims.outcomes import Checked
from brainalign_jax.studies.claims.quantities import Value

PLANTED = """
title = "Words are decoded"
statement = "Layer 1 is in the brain."

[citation]
authors = "Nobody et al."
year = 2023
source = "arXiv 0000.00000"

[data]
name = "planted"

[models]
names = ["model"]

[published]
study = "align"
options = { evidence = false, protocol = "audited", methods = ["ridge"], n_folds = 3, alphas = [1.0] }
expected = { direction = "above", than = 0.6 }

[published.quantity]
table = "results"
column = "value"
aggregate = "max"
where = { metric = "rank_accuracy", subject = "group", fold = -1 }

[audited]
quantity = { table = "evidence", column = "score", where = { role = "model" } }

[audited.options]
methods = ["ridge"]
n_folds = 3
alphas = [1.0]
n_nulls = 39
hold_alpha = true
untrained_seeds = 0
controls = []
ceilings = false
n_bootstraps = 100

[[audited.checks]]
name = "p of rank accuracy"
quantity = { table = "evidence", column = "p_rank_accuracy", where = { role = "model" } }
expected = { direction = "below", than = 0.05 }
"""
OWN = {"datasets": ("planted",), "models": ("model",)}


def claims_of(folder, **texts):
    """Claims of files with these names and texts."""
    folder.mkdir(exist_ok=True)
    for name, text in texts.items():
        (folder / f"{name}.toml").write_text(text, "utf-8")
    return read_claims([folder], **OWN)


@pytest.fixture(scope="module")
def leaking():
    """(data set, vectors): smooth noise on both sides of 160 words in time, which have nothing in common."""
    rng = np.random.default_rng(3)
    words = Stimulus(tuple(f"word{i}" for i in range(160)), onsets=0.5 * np.arange(160))
    kernel = np.hanning(17)

    def smooth(width):
        noise = rng.standard_normal((200, width))
        return np.stack([np.convolve(column, kernel, "same") for column in noise.T])[:, 20:180].T

    people = {name: make_responses(words, smooth(30), subject=name) for name in ("S1", "S2")}
    dataset = Dataset("planted", tuple(people), words, people.__getitem__)
    return dataset, make_embeddings(words, smooth(20)[None], name="model")


# What becomes of a claim.


@pytest.mark.parametrize(
    ("expected", "value", "checks", "outcome"),
    [
        (Expected(value=0.25, tolerance=0.05), 0.30, [True], "reproduced"),
        (Expected(value=0.25, tolerance=0.05), 0.30, [], "reproduced"),
        (
            Expected(value=0.5, tolerance=0.03),
            0.53,
            [True],
            "reproduced",
        ),  # the edge, but for rounding
        (Expected(value=0.25, tolerance=0.05), 0.31, [True], "not reproduced"),
        (Expected(value=0.25, tolerance=0.05), 0.24, [True, False], "explained by a control"),
        (Expected(value=0.25, tolerance=0.05), 0.31, [False], "not reproduced"),
        (Expected(direction="above", than=0.0), 0.1, [True], "reproduced"),
        (Expected(direction="above", than=0.0), 0.0, [True], "not reproduced"),
        (Expected(direction="below", than=0.0), -0.1, [False], "explained by a control"),
        (Expected(direction="below", than=0.0), float("nan"), [True], "not reproduced"),
    ],
)
def test_the_published_protocol_decides_and_checks_only_take_away(expected, value, checks, outcome):
    held = Expected(direction="below", than=0.05)
    checked = [Checked("null", 0.01 if holds else 0.05, held) for holds in checks]
    assert outcome_of(expected, Value(value, np.nan, np.nan, 1), checked) == outcome


def test_a_planted_claim_holds_a_wrong_number_does_not_and_what_is_absent_is_said(
    tmp_path, dataset, words, planted, monkeypatch
):
    monkeypatch.setenv("BRAINALIGN_DATA", str(tmp_path / "nothing"))
    wrong = PLANTED.replace('direction = "above", than = 0.6', "value = 0.999, tolerance = 0.0005")
    undecided = PLANTED.replace("p_rank_accuracy", "static_lower")
    claims = claims_of(
        tmp_path / "claims",
        a_true=PLANTED,
        b_wrong=wrong,
        c_data=PLANTED.replace('name = "planted"', 'name = "harry_potter"'),
        d_model=PLANTED.replace('["model"]', '["bert-tiny", "model"]'),
        e_undecided=undecided,
    )
    models = {"model": make_embeddings(words, planted[0], name="model")}
    table = run_claims(
        claims, tmp_path / "out", datasets={"planted": dataset}, models=models, progress=False
    )
    rows = table.rows.set_index("claim")
    assert list(rows["outcome"]) == [
        "reproduced", "not reproduced", "data absent", "model absent", "refused",
    ]  # fmt: skip
    assert rows.loc["a_true", "value"] == rows.loc["b_wrong", "value"] > 0.6
    assert (
        rows.loc["a_true", "audited"] > 0.17
        and "p of rank accuracy 0.025" in rows.loc["a_true", "checks"]
    )
    assert rows.loc["b_wrong", "checks"] == ""  # no control is asked for what is not reproduced
    assert "`brainalign fetch harry_potter`" in rows.loc["c_data", "why"]
    assert "google/bert_uncased_L-2_H-128_A-2: `hf download` it" in rows.loc["d_model", "why"]
    assert "have no static_lower" in rows.loc["e_undecided", "why"]
    said = "Of 5 claims 2 could be tried: 1 is reproduced, 1 is not reproduced, 1 lacks its data, 1 lacks "
    assert table.verdict().startswith(said)
    page = (tmp_path / "out" / "report.html").read_text("utf-8")
    assert page.index(said) < page.index("<table") and "<img" in page
    assert (tmp_path / "out" / "figures" / "claims.png").is_file()
    loaded = ClaimsTable.load(tmp_path / "out")
    pd.testing.assert_frame_equal(loaded.rows, table.rows)
    assert (tmp_path / "out" / "claims.md").read_text("utf-8") == table.markdown()
    assert (tmp_path / "out" / rows.loc["b_wrong", "folder"] / "results.parquet").is_file()


def test_a_claim_of_a_leaking_protocol_is_explained_by_a_control(tmp_path, leaking):
    dataset, vectors = leaking
    leak = PLANTED.replace('protocol = "audited"', 'folds = "shuffled_types", purge = 0.0')
    (claim,) = claims_of(tmp_path / "claims", leak=leak)
    given = dict(datasets={"planted": dataset}, models={"model": vectors}, progress=False)
    row = run_claims([claim], **given).rows.iloc[0]
    assert row["value"] > 0.7 and row["outcome"] == "explained by a control"
    assert "p of rank accuracy" in row["why"]
    # The same claim by blocks in order gives nothing that would need an explanation.
    (claim,) = claims_of(tmp_path / "sound", sound=PLANTED)
    assert run_claims([claim], **given).rows["outcome"][0] == "not reproduced"


def test_people_are_correlated_with_the_mean_of_the_others(tmp_path):
    rng = np.random.default_rng(0)
    words = Stimulus(("a", "b"), onsets=np.array([1.0, 2.0]))
    shared = rng.standard_normal((50, 2))
    values = {f"S{i}": shared + rng.standard_normal((50, 2)) for i in range(3)}

    def courses(subject):
        times, run = np.arange(50.0), np.zeros(50, int)
        names = ("left", "right")
        return ba.neural.readout.TimeCourses(
            subject, values[subject], times, run, words, feature_names=names
        )

    people = Dataset("planted", tuple(values), words, None, time_courses=courses)
    expected = []
    for subject, own in values.items():
        others = [(v - v.mean(0)) / v.std(0) for name, v in values.items() if name != subject]
        expected.append(np.corrcoef(own[:, 1], sum(others)[:, 1])[0, 1])
    text = (
        re.sub(r"\[models\]\nnames.*\n|(?s:\[published\].*)", "", PLANTED)
        + f"""
[published]
study = "intersubject"
quantity = {{ table = "intersubject", aggregate = "mean", each = "subject", where = {{ region = "right" }} }}
expected = {{ value = {np.mean(expected)}, tolerance = 1e-6 }}
[audited]
not_needed = "it describes the recordings"
"""
    )
    (claim,) = claims_of(tmp_path / "claims", people=text)
    row = run_claims([claim], datasets={"planted": people}, progress=False).rows.iloc[0]
    assert row["outcome"] == "reproduced" and row["lower"] < row["value"] < row["upper"]

    def other_order(subject, names=("right", "left")):
        person = courses(subject)
        if subject != "S1":
            return person
        return dataclasses.replace(person, values=person.values[:, ::-1], feature_names=names)

    people = dataclasses.replace(people, time_courses=other_order)
    again = run_claims([claim], datasets={"planted": people}, progress=False).rows.iloc[0]
    assert again["value"] == pytest.approx(row["value"])
    others = functools.partial(other_order, names=("right", "middle"))
    people = dataclasses.replace(people, time_courses=others)
    refused = run_claims([claim], datasets={"planted": people}, progress=False).rows.iloc[0]
    assert (
        refused["outcome"] == "refused"
        and "S1 and S0 do not have the same regions" in refused["why"]
    )


def test_tables_have_the_names_that_the_claim_has_for_models():
    rows = pd.DataFrame({"model": ["/m/gpt2", "/m/gpt2-xl", "untrained:/m/gpt2-xl", "static:x"]})
    named = with_names(rows, {"small": "/m/gpt2", "large": "/m/gpt2-xl"})
    assert list(named["model"]) == ["small", "large", "untrained:large", "static:x"]


def test_names_of_models_inside_other_names_are_left(words, planted):
    given = [
        "own",
        "own (seed 1)",
        "untrained:gpt2 (seed 1)",
        "nuisance:own",
        "gpt2-xl",
        "static:gpt2",
        None,
    ]
    own = make_embeddings(words, planted[0], name="own")
    named = with_names(pd.DataFrame({"control": given}), {"vectors": own, "small": "gpt2"})[
        "control"
    ]
    assert list(named)[:-1] == ["vectors", "own (seed 1)", "untrained:small (seed 1)", *given[3:-1]]


def test_a_mean_rank_is_among_the_candidates_not_the_words_that_are_tested():
    """Of the group n_items counts the words of all people, of a fold its own, of tokens each time."""
    cells = pd.DataFrame({"subject": ["S1", "S1", "S2", "group"], "fold": [-1, 0, -1, -1]})
    hits = cells.assign(metric="precision_nn", k=10, chance=[0.25, 0.25, 0.5, 0.375], value=0.5)
    accuracy = cells.assign(
        metric="rank_accuracy", k=0, chance=0.5, value=0.9, n_items=[40, 10, 20, 60]
    )
    rows = pd.concat([hits, hits.assign(k=20, chance=2 * hits["chance"]), accuracy])

    def mean_rank(**where):
        where = {"metric": "rank_accuracy", **where}
        return Quantity("rows", where=where, transform="mean_rank").of({"rows": rows}).value

    for fold in (-1, 0):
        assert mean_rank(subject="S1", fold=fold) == pytest.approx(1 + 39 * 0.1)
    assert mean_rank(subject="S2", fold=-1) == pytest.approx(1 + 19 * 0.1)
    with pytest.raises(ValueError, match="not as many for all people"):
        mean_rank(subject="group")
    with pytest.raises(ValueError, match='metric="rank_accuracy" alone'):
        mean_rank(subject="S1", fold=0, metric="precision_nn", k=10)


def test_a_missing_package_leaves_the_other_claims(tmp_path, dataset):
    def lacking(subject):
        raise ImportError("h5py is missing: pip install h5py")

    claims = claims_of(
        tmp_path / "claims", a=PLANTED, b=PLANTED.replace('["model"]', '["bert-tiny"]')
    )
    given = dict(
        models={"model": make_embeddings(dataset.stimulus, np.eye(60)[None], name="model")}
    )
    broken = Dataset("planted", ("S1", "S2"), dataset.stimulus, lacking)
    rows = run_claims(claims, datasets={"planted": broken}, progress=False, **given).rows
    assert list(rows["outcome"]) == ["refused", "model absent"]
    assert rows["why"][0].endswith("pip install h5py")


# One number of tables.

ROWS = pd.DataFrame(
    {
        "model": ["small", "small", "large", "large", "both"],
        "n_params": [10.0, 10.0, 1000.0, 1000.0, np.nan],
        "subject": ["S1", "S2", "S1", "S2", "group"],
        "value": [0.1, 0.2, 0.5, 0.2, 0.25],
        "lower": [0.0] * 5,
        "score": [0.5, np.nan, 0.5, 0.5, 0.5],
        "upper": [1.0] * 5,
    }
)
PEOPLE = {"subject": ("S1", "S2")}


@pytest.mark.parametrize(
    ("choices", "expected"),
    [
        (dict(where={"subject": "group"}), 0.25),
        (dict(where=PEOPLE, aggregate="mean"), 0.25),
        (dict(where=PEOPLE, aggregate="median"), 0.2),
        (dict(where={"model": "large"}, aggregate="max"), 0.5),
        (dict(where=PEOPLE, aggregate="min"), 0.1),
        (dict(where=PEOPLE, aggregate="log_slope", along="n_params"), 0.1),
        (dict(where=PEOPLE, aggregate="slope", along="n_params"), 0.2 / 990),
        (dict(where=PEOPLE, aggregate="peak", along="n_params"), 1000.0),
        (dict(aggregate="mean", each="subject"), 0.25),
        (dict(where={"model": "large"}, aggregate="difference", minus={"model": "small"}), 0.2),
        (dict(aggregate="log_slope", along="n_params", each="subject"), 0.1),
    ],
)
def test_numbers_of_a_table(choices, expected):
    value = Quantity("rows", **choices).of({"rows": ROWS})
    np.testing.assert_allclose(value.value, expected, rtol=1e-12)
    assert np.isfinite(value.lower) == ("each" in choices)


@pytest.mark.parametrize("module", [claim_files, outcomes, quantities])
def test_examples_run(module):
    ran = doctest.testmod(module)
    assert ran.attempted > 0 == ran.failed


def test_spearman_is_that_of_ranks_and_a_score_has_the_interval_of_its_row():
    rows = pd.DataFrame({"layer": range(6), "value": [0.1, 0.2, 0.15, 0.4, 0.3, 0.5]})
    value = Quantity("rows", aggregate="spearman", along="layer").of({"rows": rows}).value
    np.testing.assert_allclose(value, rows["layer"].corr(rows["value"], method="spearman"))
    own = Quantity("rows", where={"subject": "group"}, column="score").of({"rows": ROWS})
    assert own == Value(0.5, 0.0, 1.0, 1)
    choices = dict(where={"subject": "S1", "model": "large"}, minus={"model": "small"})
    of_two = Quantity("rows", column="score", aggregate="difference", **choices).of({"rows": ROWS})
    assert of_two.value == 0 and np.isnan(
        of_two.lower
    )  # one row's interval is none of a difference


@pytest.mark.parametrize(
    ("choices", "said"),
    [
        (dict(where={"subject": "S9"}), "no row of the table 'rows' has subject='S9'"),
        (dict(where={"model": "small"}), "2 rows have what is asked for"),
        (dict(aggregate="mean", column="score"), "1 of 5 rows .* have no score"),
        (dict(where={"modle": "small"}), "unknown column 'modle' of the table 'rows'"),
        (dict(aggregate="mean", column="values"), "unknown column 'values'"),
        (dict(aggregate="eval"), "unknown aggregate='eval'"),
        (dict(aggregate="slope"), "takes a column along="),
        (dict(along="layer"), "takes no along="),
        (dict(aggregate="difference"), "takes rows minus="),
        (dict(transform="log"), "unknown transform='log'"),
        (dict(aggregate="slope", along="n_params", where={"model": "large"}), "two or more values"),
        (dict(aggregate="mean", where={"subject": "group"}, each="subject"), "no row of the table"),
        (dict(aggregate="log_slope", along="n_params"), "n_params is not known of all rows"),
        (
            dict(aggregate="mean", each="n_params", where={"model": ("large", "both")}),
            "n_params is not known",
        ),
        (dict(transform="mean_rank", column="score"), "is of the column 'value'"),
    ],
)
def test_numbers_that_are_none_are_refused(choices, said):
    with pytest.raises(ValueError, match=said):
        Quantity("rows", **choices).of({"rows": ROWS})


# Files.


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("[citation]", "[citation", "is no TOML"),
        ('title = "Words are decoded"', "", "title: is missing"),
        ('title = "Words are decoded"', 'titel = "x"', "titel: unknown key 'titel'"),
        ('title = "Words are decoded"', 'title = " "', "title: is empty"),
        ("in the brain.", "in the brain", "statement: takes a sentence"),
        ("year = 2023", 'year = "2023"', "citation.year: takes a whole number"),
        ('name = "planted"', 'name = "alise"', "data.name: unknown data set 'alise'"),
        ('name = "planted"', 'name = "alice"\noptions = { radios = 1 }', "unknown option 'radios' of alice"),
        ('name = "planted"', 'name = "planted"\nsubjects = []', "data.subjects: takes a list"),
        ('["model"]', "[]", "models.names: takes a list of texts"),
        ('["model"]', '["bert-tinny"]', "models.names: unknown model 'bert-tinny'"),
        ('["model"]', '["model", "model"]', "models.names: names one twice"),
        ('study = "align"', 'study = "os.system"', "published.study: unknown study 'os.system'"),
        ('study = "align"', 'study = "intersubject"', "published.options: unknown option"),
        ("n_folds = 3, alphas = [1.0] }", "n_folds = 1 }", "published.options: n_folds=1 must be at least 2"),
        ("n_folds = 3, alphas = [1.0] }", "folds_n = 3 }", "published.options: unknown option 'folds_n'"),
        ('["ridge"], n_folds', '["rigde"], n_folds', "published.options: unknown method 'rigde'"),
        ("evidence = false, ", 'evidence = "no", ', "evidence='no' must be true or false"),
        ("evidence = false, ", "evidence = false, n_nulls = 3, ", "n_nulls=3 is of evidence, which is false"),
        ('table = "results"', 'table = "result"', "published.quantity: unknown table 'result' of align"),
        ('metric = "rank', 'metrik = "rank', "published.quantity: unknown column 'metrik'"),
        ('metric = "rank_accuracy"', "metric = { a = 1 }", "where.metric: takes texts or numbers"),
        ('aggregate = "max"', 'aggregate = "exp"', "published.quantity: unknown aggregate='exp'"),
        ("than = 0.6", "than = nan", "published.expected.than: takes a finite number"),
        ("than = 0.6", "than = -inf", "published.expected.than: takes a finite number"),
        ("than = 0.6", f"than = 1{'0' * 400}", "published.expected.than: takes a finite number"),
        ('direction = "above", than = 0.6', "value = 0.5, tolerance = inf", "tolerance: takes a finite"),
        ('column = "p_rank_accuracy"', 'column = "score", transform = "mean_rank"', "of the column 'value'"),
        ("than = 0.6", "than = 0.6, tolerance = 0.1", "takes either value and tolerance"),
        ('"above", than = 0.6', '"up", than = 0.6', "unknown direction='up'"),
        ('direction = "above", than = 0.6', "tolerance = 0.1", "published.expected: takes a value"),
        ("[[audited.checks]]", "[[audited.tests]]", "audited.tests: unknown key 'tests'"),
        ('"p_rank_accuracy"', '"p_rank"', "audited.checks[1].quantity: unknown column 'p_rank'"),
    ],
)  # fmt: skip
def test_a_bad_file_is_refused_in_a_line_with_file_and_key(tmp_path, old, new, said):
    assert PLANTED.count(old) == 1 or old.startswith(('["', "study", "name", "table"))
    with pytest.raises(ValueError, match=re.escape(said)) as caught:
        claims_of(tmp_path, bad=PLANTED.replace(old, new, 1))
    assert str(caught.value).startswith(str(tmp_path / "bad.toml")) and "\n" not in str(
        caught.value
    )


def test_a_direction_without_a_control_is_refused(tmp_path):
    text = PLANTED[: PLANTED.index("[audited]")] + '[audited]\nnot_needed = "so it is"\n'
    with pytest.raises(ValueError, match="right half of the time by chance"):
        claims_of(tmp_path, bad=text)


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"a = [" * 5000, b"x" * 300_000])
def test_bytes_that_are_no_claim_are_refused(tmp_path, content):
    (tmp_path / "bad.toml").write_bytes(content)
    with pytest.raises(ValueError, match=r"bad\.toml (is no TOML|has more than)"):
        read_claims([tmp_path / "bad.toml"])


def test_a_file_that_begins_with_a_byte_order_mark_is_read(tmp_path):
    (tmp_path / "marked.toml").write_bytes(b"\xef\xbb\xbf" + PLANTED.encode())
    (claim,) = read_claims([tmp_path / "marked.toml"], **OWN)
    assert claim.title == "Words are decoded"


def test_places_without_claims_are_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    for place, said in (("empty", "holds no claim file"), ("none", "does not exist")):
        with pytest.raises(FileNotFoundError, match=said):
            read_claims([tmp_path / place])
    (tmp_path / "folder.toml" / "inner.toml").mkdir(parents=True)
    with pytest.raises(ValueError, match="inner.toml is no file that can be read"):
        read_claims([tmp_path / "folder.toml"])
    claims_of(tmp_path / "one", same=PLANTED)
    claims_of(tmp_path / "two", same=PLANTED)
    with pytest.raises(ValueError, match="has this name, too: rename one"):
        read_claims([tmp_path / "one", tmp_path / "two"], **OWN)


# Those of the package.


def test_the_claims_of_the_package_are_listed_and_shown(capsys):
    claims = read_claims()
    assert len(claims) == len(list(PUBLISHED_CLAIMS.glob("*.toml"))) > 10
    assert cli.main(["claims", "list"]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in listed] == [claim.name for claim in claims]
    assert cli.main(["claims", "show", claims[0].name]) == 0
    assert f'title = "{claims[0].title}"' in capsys.readouterr().out


def test_claims_are_named_with_commas_or_blanks(capsys):
    names = ["pereira180_glove_m01", "pereira180_glove_m13"]
    printed = []
    for given in ([",".join(names)], names):
        assert cli.main(["claims", "list", *given]) == 0
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1] and len(printed[0].splitlines()) == 2
    assert cli.main(["claims", "list", names[0], "none"]) == 2
    assert "unknown claim 'none'" in capsys.readouterr().err
    assert cli.main(["claims", "list", names[0], f"--names={names[1]}"]) == 2
    assert f"{names[0]!r} and --names are given" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run"], "--output_dir is missing"),
        (["show"], "takes the name of one claim"),
        (["show", "pereira180_glove_m1"], "unknown claim 'pereira180_glove_m1'; the nearest"),
        (["try"], "unknown --action='try'"),
    ],
)
def test_a_wrong_command_line_is_told(capsys, arguments, said):
    assert cli.main(["claims", *arguments]) == 2
    assert said in capsys.readouterr().err


def test_claims_without_data_and_models_end_well(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("BRAINALIGN_DATA", str(tmp_path / "none"))
    assert cli.main(["claims", "run", f"--output_dir={tmp_path / 'out'}"]) == 0
    out = capsys.readouterr().out
    assert "0 could be tried" in out and "lack their data" in out
    assert set(ClaimsTable.load(tmp_path / "out").rows["outcome"]) == {"data absent"}


def test_a_damaged_release_is_refused_with_status_1(tmp_path, capsys):
    (tmp_path / "pereira180").mkdir()
    (tmp_path / "pereira180" / "pereira180.npz").write_bytes(b"no archive")
    arguments = [
        "pereira180_glove_m01",
        f"--data_dir={tmp_path}",
        f"--output_dir={tmp_path / 'out'}",
    ]
    assert cli.main(["claims", "run", *arguments]) == 1
    assert "pereira180_glove_m01: refused: " in capsys.readouterr().out


def test_a_ceiling_of_rdms_is_rsatoolbox_s_and_leaves_out_words_that_one_lacks(tmp_path):
    rng = np.random.default_rng(5)
    words = Stimulus.from_words([f"word{i}" for i in range(12)])
    shared = rng.standard_normal((12, 8))
    people = {}
    for name in ("S1", "S2", "S3"):
        valid = np.arange(12) != (3 if name == "S2" else 12)
        values = (shared + rng.standard_normal((12, 8))) * valid[:, None]
        people[name] = dataclasses.replace(make_responses(words, values, subject=name), valid=valid)
    dataset = Dataset("planted", tuple(people), words, people.__getitem__)
    study = STUDIES["rdm_ceiling"]
    rows = study.run(dataset, [], study.asked({"rdm_comparison": "pearson"}), None, False)
    rows = rows["rdm_ceiling"]
    kept = [person.values[np.arange(12) != 3] for person in people.values()]
    rdms = [1 - np.corrcoef(values)[np.triu_indices(11, 1)] for values in kept]
    z = [(rdm - rdm.mean()) / rdm.std() for rdm in rdms]
    for bound, others in (("lower", lambda i: np.delete(z, i, axis=0)), ("upper", lambda i: z)):
        expected = [np.corrcoef(z[i], np.mean(others(i), axis=0))[0, 1] for i in range(3)]
        np.testing.assert_allclose(rows[rows["bound"] == bound]["value"], expected, atol=1e-5)
    assert set(rows["n_items"]) == {11}
    with pytest.raises(ValueError, match="unknown rdm_comparison='tau'"):
        study.asked({"rdm_comparison": "tau"})


@pytest.mark.parametrize("read", [{}, {"context": "window", "window": 2, "bos": "never"}])
def test_next_words_stand_beside_scores(read, tmp_path):
    rng = np.random.default_rng(6)
    words = Stimulus(
        tuple("".join(rng.choice(list("abcdefgh"), 3)) for _ in range(40)),
        sentence=np.arange(40) // 5,
    )
    people = {
        name: make_responses(words, rng.standard_normal((40, 6)), subject=name)
        for name in ("S1", "S2")
    }
    dataset = Dataset("planted", tuple(people), words, people.__getitem__)
    models = [write_model(tmp_path / f"model{seed}", seed) for seed in (1, 2)]
    study = STUDIES["next_word"]
    options = {
        "methods": ("ridge",), "n_folds": 3, "alphas": (1.0,), "n_nulls": 0, "untrained_seeds": 0,
        "controls": (), "ceilings": False, "n_bootstraps": 100,
    }  # fmt: skip
    tables = study.run(dataset, models, study.asked(options | read), None, False)
    rows, evidence = tables["next_word"], tables["evidence"].set_index("model")["score"]
    assert list(rows["model"]) == models
    for row in rows.itertuples():
        expected = -np.nanmean(ba.surprisal(words, row.model, **read))
        assert row.log_likelihood == pytest.approx(expected) and row.score == evidence[row.model]
    for given, said in (
        ({"evidence": False}, "leaves out the scores"),
        ({"folds": "x"}, "unknown"),
    ):
        with pytest.raises(ValueError, match=said):
            study.asked(given)
    vectors = make_embeddings(words, np.ones((1, len(words.types(lower=False)[0]), 2)))
    with pytest.raises(ValueError, match="name checkpoints"):
        study.run(dataset, [vectors], study.asked(options), None, False)


def test_on_the_real_recordings_the_rows_are_those_of_the_docs(shared_data, tmp_path):
    names = ["alice_intersubject_lptl", "alice_intersubject_lifg", "pereira180_glove_m13"]
    claims = [claim for claim in read_claims() if claim.name in names]
    with pytest.warns(UserWarning, match="s33"):
        table = run_claims(claims, data_dir=shared_data, progress=False)
    assert list(table.rows["outcome"]) == ["reproduced"] * 3
    assert round(table.rows.set_index("claim")["value"]["pereira180_glove_m13"], 2) == 48.03
    page = (PUBLISHED_CLAIMS.parents[3] / "docs" / "claims.md").read_text("utf-8")
    for line in table.markdown().splitlines()[4:]:
        assert line in page
