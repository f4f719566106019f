import numpy as np
import pytest
from nilearn.interfaces.fmriprep import load_confounds
from simulate.bids import simulate_bids

from brainalign_jax.neural.formats.text.sidecars import (
    CONFOUND_STRATEGIES,
    check_covered,
    join_confounds,
    read_confounds,
    read_labels,
    read_table,
    read_words,
    words_of_runs,
)

GOOD = "onset\tduration\tword\n0.5\t0.4\tHarry\n1.0\t0.5\thad\n1.0\t0.5\tnever.\n"


def write(tmp_path, text, name="words.tsv", **options):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8", **options)
    return path


def test_words_onsets_and_durations(tmp_path):
    table = read_words(write(tmp_path, GOOD))
    assert table.words == ("Harry", "had", "never.") and table.left_out == 0
    np.testing.assert_array_equal(table.onsets, [0.5, 1, 1])
    np.testing.assert_array_equal(table.durations, [0.4, 0.5, 0.5])
    assert table.run is None and table.sentence is None


@pytest.mark.parametrize("column", ["word", "text", "token"])
def test_a_comma_table_and_names_of_the_word_column(tmp_path, column):
    text = f'run,{column},onset\n1,"yes, sir",0\n1,null,1\n2,NA,0.25\n'
    table = read_words(write(tmp_path, text, "words.csv"))
    assert table.words == ("yes, sir", "null", "NA") and table.durations is None
    np.testing.assert_array_equal(table.run, [1, 1, 2])
    with pytest.raises(ValueError, match=r"no column 'other'; known: run"):
        read_words(tmp_path / "words.csv", word_column="other")


def test_words_that_begin_with_a_quote_stay_words(tmp_path):
    """Nobody quoted this table: a quote may not swallow the rows up to the next one."""
    words = ['"Hello', "there,", 'said"', '"', "he", '"Go"']
    text = "onset\tword\n" + "".join(f"{row}\t{word}\n" for row, word in enumerate(words))
    assert read_words(write(tmp_path, text)).words == tuple(words)
    quoted = 'onset\tword\n0\t"""Hello"\n1\t"a, b"\n'
    assert read_words(write(tmp_path, quoted)).words == ('"Hello', "a, b")


def test_events_without_a_word_are_left_out(tmp_path):
    text = (
        "onset\tduration\ttrial_type\tword\n0\t9\trest\tn/a\n9\t1\tword\tOne\n10\tn/a\tword\ttwo\n"
    )
    table = read_words(write(tmp_path, text))
    assert table.words == ("One", "two") and table.left_out == 1 and table.durations is None
    plain = "onset\tduration\ttrial_type\n9\t1\tOne\n10\t1\ttwo\n"
    assert read_words(write(tmp_path, plain), fallback=("trial_type",)).words == ("One", "two")
    conditions = "onset\ttrial_type\n" + "".join(f"{n}\tword\n" for n in range(60))
    with pytest.raises(ValueError, match=r"holds word only.*word_column="):
        read_words(write(tmp_path, conditions), fallback=("trial_type",))


def test_sentences_by_column_or_by_punctuation(tmp_path):
    text = "onset\tword\tsentence\n0\ta\ts9\n1\tb\ts9\n2\tc.\ts2\n3\td\ts9\n"
    table = read_words(write(tmp_path, text))
    np.testing.assert_array_equal(words_of_runs([table], [1]).sentence, [0, 0, 1, 2])
    # The same label in the next run is another sentence.
    both = words_of_runs([table, table], [2, 5])
    np.testing.assert_array_equal(both.sentence, [0, 0, 1, 2, 3, 3, 4, 5])
    np.testing.assert_array_equal(both.run, [2] * 4 + [5] * 4)
    np.testing.assert_array_equal(both.onsets, [0, 1, 2, 3] * 2)
    partly = read_words(write(tmp_path, text.replace("s2", "n/a")))
    np.testing.assert_array_equal(words_of_runs([partly], [1]).sentence, [0, 0, 0, 1])
    bare = read_words(write(tmp_path, "onset\tword\n0\ta\n1\tb\n2\tc.\n3\td\n"))
    np.testing.assert_array_equal(words_of_runs([bare], [1]).sentence, [0, 0, 0, 1])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "first line"),
        ("onset\tword\n", "holds no words"),
        ("onset\tword\n0\tn/a\n", "holds no words"),
        ("start\tword\n0\ta\n", r"no column 'onset'; known: start, word"),
        ("onset\tname\n0\ta\n", "no column 'word' or 'text' or 'token'"),
        ("onset\tword\n0\ta\nx\tb\n", r"'onset' holds 'x' in row 2"),
        ("onset\tword\n0\ta\nn/a\tb\n", r"row 2 \('b'\) has onset nan"),
        ("onset\tword\n0\ta\ninf\tb\n", r"row 2 \('b'\) has onset inf"),
        ("onset\tword\n5\ta\n4\tb\n", r"row 2 \('b'\) begins before.*sort"),
        ("onset\tword\trun\n5\ta\t2\n6\tb\t1\n", r"row 2 \('b'\) begins before"),
        ("onset\tword\trun\n5\ta\t1.5\n", "has run 1.5"),
        ("onset\tword\trun\n5\ta\tn/a\n", "has run nan"),
        ("onset\tword\n0\ta\n1\t\n", "row 2 has no word"),
        ("onset\tword\n0\ta\n1\t  \n", "row 2 has no word"),
        ("onset\tword\n0\ta\x14b\n", r"row 1 \('a\\x14b'\) holds a control character"),
        ("onset\tduration\tword\n0\t-1\ta\n", r"row 1 \('a'\) lasts -1 s"),
        ("onset\tword\n0\ta\n1\n", "row 2 has 1 fields for 2 columns"),
        ("onset\tonset\tword\n0\t0\ta\n", "name every column once"),
        ("onset\tword\n0\ta\0b\n", "binary data"),
    ],
)
def test_tables_that_cannot_be_meant(tmp_path, text, message):
    with pytest.raises(ValueError, match=message) as caught:
        read_words(write(tmp_path, text))
    assert "words.tsv" in str(caught.value)


def test_a_clock_that_restarts_needs_a_run(tmp_path):
    table = read_words(write(tmp_path, "onset\tword\trun\n5\ta\t1\n6\tb\t1\n0\tc\t2\n"))
    first = table.rows(table.run == 1)
    assert first.words == ("a", "b") and first.run.tolist() == [1, 1]
    assert table.rows(table.run == 2).onsets.tolist() == [0.0]


def test_other_encodings_and_missing_files(tmp_path):
    wide = tmp_path / "wide.tsv"
    wide.write_bytes(GOOD.encode("utf-16"))
    assert read_words(wide).words == ("Harry", "had", "never.")
    latin = tmp_path / "latin.tsv"
    latin.write_bytes("onset\tword\n0\tcafé\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"latin.tsv is not text in UTF-8"):
        read_words(latin)
    with pytest.raises(FileNotFoundError, match=r"no table at .*none.tsv"):
        read_table(tmp_path / "none.tsv")


def test_words_after_the_last_volume(tmp_path):
    table = read_words(write(tmp_path, GOOD))
    stimulus = words_of_runs([table, table], [1, 2])
    times, run = np.array([0, 0.2, 0.4, 0.6, 0.8, 5, 5.2]), np.array([1] * 5 + [2] * 2)
    paths = {1: tmp_path / "one.tsv", 2: tmp_path / "two.tsv"}
    check_covered(stimulus, times, run, paths)
    kept = [0, 1, 2, 5, 6]
    with pytest.raises(
        ValueError, match=r"one.tsv: 2 words of run 1 begin after .*\(0.4 s\).*'had' at 1 s"
    ):
        check_covered(stimulus, times[kept], run[kept], paths)


def test_confounds_are_those_of_nilearn(tmp_path):
    rng = np.random.default_rng(0)
    simulate_bids(
        tmp_path, words=["a"] * 40, vectors=rng.standard_normal((40, 2)), outputs=("volume",)
    )
    (image, *_) = sorted((tmp_path / "derivatives").rglob("*run-1*_bold.nii.gz"))
    (path, *_) = sorted((tmp_path / "derivatives").rglob("*run-1*_timeseries.tsv"))
    for ours, options in (
        ("motion6", {"strategy": ["motion"], "motion": "basic"}),
        ("motion24", {"strategy": ["motion"], "motion": "full"}),
        ("acompcor", {}),
    ):
        columns = CONFOUND_STRATEGIES[ours]
        n = len(read_table(path).columns["trans_x"])
        values, names = read_confounds(path, columns, n)
        if options:
            expected, _ = load_confounds(str(image), demean=False, **options)
            assert sorted(names) == sorted(expected.columns)
            np.testing.assert_allclose(values, expected[list(names)].to_numpy(), atol=1e-12)
        else:
            assert names == (
                *CONFOUND_STRATEGIES["motion6"],
                *(f"a_comp_cor_0{k}" for k in range(6)),
                "cosine00",
                "cosine01",
            )
            assert values.shape == (n, 14)


def test_confounds_of_several_runs(tmp_path):
    first = write(tmp_path, "a\tb\tspike0\n1\tn/a\t1\n2\t5\t0\n", "1.tsv")
    second = write(tmp_path, "b\ta\n7\t3\n8\t4\n9\t5\n", "2.tsv")
    parts = [
        read_confounds(first, ["a", "b", "spike*"], 2),
        read_confounds(second, ["a", "spike*"], 3),
    ]
    assert [names for _, names in parts] == [("a", "b", "spike0"), ("a",)]
    joined = join_confounds(parts)
    np.testing.assert_array_equal(joined[:2], [[1, 5, 1], [2, 5, 0]])
    np.testing.assert_array_equal(joined[2:], [[3, 0, 0], [4, 0, 0], [5, 0, 0]])
    assert join_confounds([]) is None and join_confounds([(np.empty((3, 0)), ())]) is None
    everything, names = read_confounds(second, None, 3)
    assert names == ("b", "a") and everything[0].tolist() == [7, 3]
    for columns, n, message in (
        (["c"], 2, r"1.tsv has no column 'c'; known: a, b, spike0"),
        (["a"], 3, "1.tsv has 2 rows for 3 volumes"),
    ):
        with pytest.raises(ValueError, match=message):
            read_confounds(first, columns, n)
    gap = write(tmp_path, "a\n1\nn/a\n3\n", "gap.tsv")
    with pytest.raises(ValueError, match=r"gap.tsv: column 'a' has no finite value in row 2"):
        read_confounds(gap, None, 3)
    text = write(tmp_path, "a\nx\n2\n", "text.tsv")
    with pytest.raises(ValueError, match=r"text.tsv: column 'a' holds 'x' in row 1"):
        read_confounds(text, None, 2)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("labels.tsv", "index\tname\tcolor\n40\tPallidum\t#fff\n3\tCaudate\t#000\n7\tElse\t#111\n"),
        ("labels.csv", "label,region\n3,Caudate\n40,Pallidum\n"),
        (
            "labels.txt",
            "# FreeSurfer\n0 Unknown 0 0 0 0\n3 Caudate 1 2 3 0\n40   Pallidum 4 5 6 0\n",
        ),
        ("labels.txt", "3: Caudate\n40: Pallidum\n"),
        ("labels.txt", "Caudate\nPallidum\n"),
    ],
)
def test_labels_of_regions(tmp_path, name, text):
    path = write(tmp_path, text, name)
    assert read_labels(path, [3, 40]) == ("Caudate", "Pallidum")
    assert read_labels(path, [40, 3]) == ("Pallidum", "Caudate")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("l.tsv", "index\tname\n3\tCaudate\n", "no name for region 40"),
        ("l.tsv", "index\tname\nx\tCaudate\n", "number 'x'"),
        ("l.tsv", "number\tname\n3\tCaudate\n", "no column 'index' or 'label'"),
        ("l.txt", "Caudate\n", "1 names for 2 regions"),
    ],
)
def test_labels_that_do_not_fit(tmp_path, name, text, message):
    with pytest.raises(ValueError, match=message) as caught:
        read_labels(write(tmp_path, text, name), [3, 40])
    assert name in str(caught.value)
