import csv
import re
import warnings

import numpy as np
import pandas as pd
import pytest

from brainalign_jax.neural import WordResponses
from brainalign_jax.neural.readers import open_dataset
from brainalign_jax.stimulus import Stimulus

WORDS = ["The", "null", "NA", "nan", "café,", 'say "hi"', "None", "'s", "1", "end."]
VALUES = np.random.default_rng(0).standard_normal((10, 3)).astype(np.float32)
FEATURES = ["LATL", "a.b", "voxel 3"]


def frame(values=VALUES, words=WORDS, timing=True):
    table = {"word": words}
    if timing:
        n = len(words)
        table |= {
            "onset": 0.1 * np.arange(n),
            "duration": np.full(n, 0.1),
            "run": 1 + np.arange(n) // 5,
            "sentence": np.arange(n) // 4,
        }
    return pd.DataFrame(table | dict(zip(FEATURES, np.asarray(values, np.float64).T, strict=True)))


def write(table, path):
    if path.suffix == ".parquet":
        table.to_parquet(path, index=False)
    elif path.suffix == ".npz":
        names = {"word": "words", "onset": "onsets", "duration": "durations"}
        arrays = {
            names.get(name, name): table[name].to_numpy()
            for name in table
            if name not in (*FEATURES, "word")
        }
        np.savez(
            path,
            words=np.array(list(table["word"])),
            values=table[FEATURES].to_numpy(),
            feature_names=np.array(FEATURES),
            **arrays,
        )
    else:
        table.to_csv(path, index=False, sep="\t" if path.suffix == ".tsv" else ",")
    return path


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet", ".npz"])
def test_one_file_comes_back_exactly(tmp_path, suffix):
    path = write(frame(), tmp_path / f"P01{suffix}")
    for place in (path, tmp_path):
        dataset = open_dataset("table", place)
        assert dataset.subjects == ("P01",) and dataset.name == "table"
        stimulus = dataset.stimulus
        assert stimulus.words == tuple(WORDS)
        np.testing.assert_array_equal(stimulus.onsets, 0.1 * np.arange(10))
        np.testing.assert_array_equal(stimulus.durations, np.full(10, 0.1))
        assert stimulus.run.tolist() == [1] * 5 + [2] * 5
        assert stimulus.sentence.tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 2, 2]
        responses = dataset.load("P01")
        np.testing.assert_array_equal(responses.values, VALUES)
        assert responses.subject == "P01" and responses.valid.all()
        assert responses.meta["feature_names"] == FEATURES
        assert responses.meta["dataset"] == "table" and responses.meta["files"] == [path.name]


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet", ".npz"])
def test_words_alone_are_isolated_items(tmp_path, suffix):
    dataset = open_dataset("table", write(frame(timing=False), tmp_path / f"P01{suffix}"))
    stimulus = dataset.stimulus
    assert stimulus.onsets is None and stimulus.run is None and stimulus.sentence is None
    np.testing.assert_array_equal(dataset.load("P01").values, VALUES)


def test_folder_of_subjects_in_mixed_formats(tmp_path):
    for number, suffix in ((2, ".csv"), (10, ".parquet"), (1, ".npz"), (3, ".tsv")):
        write(frame(VALUES + number), tmp_path / f"{number}{suffix}")
    (tmp_path / "README.txt").write_text("notes")
    (tmp_path / ".hidden.csv").write_text("junk")
    dataset = open_dataset("table", tmp_path)
    assert dataset.subjects == ("1", "2", "3", "10")
    for number in (1, 2, 3, 10):
        got = dataset.load(str(number)).values
        np.testing.assert_array_equal(got, (VALUES + number).astype(np.float32))
    assert open_dataset("table", tmp_path, subjects=["3", 1]).subjects == ("3", "1")
    with pytest.raises(ValueError, match="unknown subject '4' of table; known: 1, 2, 3, 10"):
        open_dataset("table", tmp_path, subjects="4")
    write(frame(), tmp_path / "2.npz")
    with pytest.raises(ValueError, match="two tables named '2'"):
        open_dataset("table", tmp_path)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_one_long_table_of_several_subjects(tmp_path, suffix):
    parts = [frame(VALUES + 10 * k).assign(subject=f"S{k}") for k in (2, 1)]
    # Rows of the subjects may alternate; each one's order counts.
    long = pd.concat(parts).sort_index(kind="stable")
    path = write(long, tmp_path / f"all{suffix}")
    dataset = open_dataset("table", path)
    assert dataset.subjects == ("S2", "S1") and dataset.stimulus.words == tuple(WORDS)
    for k in (1, 2):
        values = (VALUES + 10 * k).astype(np.float32)
        np.testing.assert_array_equal(dataset.load(f"S{k}").values, values)
    assert open_dataset("table", tmp_path, subjects="S1").subjects == ("S1",)
    other = write(long.rename(columns={"subject": "who"}), tmp_path / f"b{suffix}")
    assert open_dataset("table", other, subject_column="who").subjects == ("S2", "S1")
    with pytest.raises(ValueError, match=f"all{suffix} holds 2 subjects and lies beside other"):
        open_dataset("table", tmp_path, drop_columns=[], subjects="all")
    parts[1] = parts[1].iloc[:-1]
    write(pd.concat(parts), path)
    with pytest.raises(ValueError, match=r"subject S1 has 9 words and .*subject S2 10"):
        open_dataset("table", path)


def test_large_table_is_read_in_several_blocks(tmp_path):
    rng = np.random.default_rng(1)
    words = [f"w{index % 700}" for index in range(20_000)]
    table = pd.DataFrame(
        {"subject": np.tile(["a", "b"], 10_000), "word": np.repeat(words[:10_000], 2)}
    )
    values = rng.standard_normal((20_000, 8)).astype(np.float32)
    for column in range(8):
        table[f"v{column}"] = values[:, column].astype(np.float64)
    for suffix in (".csv", ".parquet"):
        dataset = open_dataset("table", write(table, tmp_path / f"long{suffix}"))
        np.testing.assert_array_equal(dataset.load("b").values, values[1::2])
        np.testing.assert_array_equal(dataset.load("a").values, values[::2])
        (tmp_path / f"long{suffix}").unlink()


def test_saved_responses_are_loaded_as_they_are(tmp_path):
    stimulus = Stimulus(tuple(WORDS), onsets=np.arange(10.0))
    values = VALUES.copy()
    values[9] = 0
    saved = WordResponses("P01", values, stimulus, np.arange(10) < 9, {"kernel": "mine"})
    saved.save(tmp_path / "P01.npz")
    loaded = open_dataset("table", tmp_path).load("P01")
    np.testing.assert_array_equal(loaded.values, values)
    np.testing.assert_array_equal(loaded.valid, saved.valid)
    assert loaded.meta == {"kernel": "mine"} and loaded.subject == "P01"
    assert loaded.stimulus.fingerprint() == stimulus.fingerprint()
    saved.save(tmp_path / "other.npz")
    dataset = open_dataset("table", tmp_path)
    assert dataset.subjects == ("P01", "other") and dataset.load("other").subject == "other"


def test_columns_word_column_and_dropped_columns(tmp_path):
    table = frame().rename(columns={"word": "token"}).assign(pos=["NOUN"] * 6 + ["7"] * 4, rating=2)
    path = write(table, tmp_path / "P01.csv")
    with pytest.raises(ValueError, match="no column 'word'; the nearest of 10: .*token"):
        open_dataset("table", path)
    with pytest.warns(UserWarning, match=r"P01\.csv: the columns pos hold text and are left out"):
        dataset = open_dataset("table", path, word_column="token", drop_columns="rating")
    assert dataset.load("P01").meta["feature_names"] == FEATURES
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for drop in ("rating,pos, onset", ["rating", "pos", "onset"]):
            dataset = open_dataset("table", path, word_column="token", drop_columns=drop)
            assert dataset.stimulus.onsets is None and dataset.stimulus.run is not None
            assert dataset.load("P01").values.shape == (10, 3)
    with pytest.raises(ValueError, match="no column 'ratng' to drop"):
        open_dataset("table", path, word_column="token", drop_columns="ratng")


N_ROWS = 24  # enough for the order of a column to say something


def lines(header, *columns, separator=","):
    """A table of 24 words in text; a column is a function of the row."""
    rows = [separator.join(str(column(row)) for column in columns) for row in range(N_ROWS)]
    return "\n".join([header, *rows]) + "\n"


def word(row):
    return f"w{row}"


def value(row):
    return (row * 7919 % 101) / 8 - 3


@pytest.mark.parametrize(
    "header",
    ["word, onset, f1", "Word,Onset,f1", "\ufeff WORD ,\u00a0onset\u00a0, f1 ", "word,ONSET ,f1"],
)
def test_names_count_without_blanks_and_case(tmp_path, header):
    path = tmp_path / "P01.csv"
    path.write_text(lines(header, word, lambda row: f" {row / 2}", lambda row: f" {value(row)}"))
    dataset = open_dataset("table", path)
    np.testing.assert_array_equal(dataset.stimulus.onsets, np.arange(N_ROWS) / 2)
    responses = dataset.load("P01")
    assert responses.meta["feature_names"] == ["f1"] and dataset.meta["features"] == "1 (f1)"
    np.testing.assert_array_equal(responses.values[:, 0], [value(row) for row in range(N_ROWS)])


def test_capitals_blanks_and_subjects_of_all_formats(tmp_path):
    for suffix in (".csv", ".tsv", ".parquet"):
        columns = {"word": "Word", "onset": "Onset", "duration": "duration ", "run": "Run"}
        columns |= {"sentence": " SENTENCE"}
        table = pd.concat([frame().assign(Subject=number) for number in (1, 2)])
        path = write(table.rename(columns=columns), tmp_path / f"all{suffix}")
        dataset = open_dataset("table", path, drop_columns="latl")
        assert dataset.subjects == ("1", "2") and len(dataset.stimulus) == 10
        assert dataset.stimulus.durations is not None and dataset.stimulus.sentence is not None
        assert dataset.stimulus.run.tolist() == [1] * 5 + [2] * 5
        assert dataset.load("2").meta["feature_names"] == FEATURES[1:]
    path.unlink()
    with pytest.raises(ValueError, match="two columns for 'onset', 'onset' and 'Onset'; keep one"):
        open_dataset("table", write(frame().assign(Onset=1), tmp_path / "two.csv"))
    with pytest.raises(ValueError, match="two columns 'LATL'; name each column once"):
        open_dataset("table", write(frame().assign(**{"LATL ": 1}), tmp_path / "two.csv"))


@pytest.mark.parametrize("name", ["Unnamed: 0", "", "index", "level_0"])
def test_an_index_that_was_written_with_the_table_is_no_feature(tmp_path, name):
    path = tmp_path / "P01.csv"
    path.write_text(lines(f"{name},word,f1", lambda row: 3 * row, word, value))
    with pytest.warns(UserWarning, match="hold an index and are left out"):
        dataset = open_dataset("table", path)
    assert dataset.load("P01").meta["feature_names"] == ["f1"]
    path.write_text(lines(f"word,{name or 'Unnamed: 7'},f1", word, value, value))
    with pytest.raises(ValueError, match="looks like a row number by its name.*feature_columns="):
        open_dataset("table", path)


@pytest.mark.parametrize(
    ("name", "column", "what"),
    [
        ("onset_ms", value, "looks like a time"),
        ("Start (s)", value, "looks like a time"),
        ("WordOnset", value, "looks like a time"),
        ("run_number", value, "looks like a run"),
        ("SubjectID", value, "looks like a subject"),
        ("sent_id", value, "looks like a run"),
        ("item", value, "looks like a row number"),
        ("Zeit", lambda row: 0.51 * row, "grows from word to word, as a time does"),
        ("Satz", lambda row: row // 5, "whole numbers that only grow"),
        ("Vp", lambda row: 101 + 7 * (row // 12), "whole numbers that only grow"),
        ("wn", lambda row: row + 1, "counts the rows"),
        ("Lauf", lambda row: 2001 + row // 12, "whole numbers that only grow"),  # centred, too
        ("left", lambda row: 99.5 - row, "falls from word to word"),
    ],
)
def test_what_looks_like_no_feature_is_refused_until_named(tmp_path, name, column, what):
    text = tmp_path / "P01.csv"
    text.write_text(lines(f"word,{name},f1", word, column, value))
    arrays = pd.read_csv(text, keep_default_na=False)
    np.savez(
        tmp_path / "P02.npz",
        words=arrays["word"].to_numpy(str),
        values=arrays[[name, "f1"]].to_numpy(),
        feature_names=np.array([name, "f1"]),
    )
    for path in (text, tmp_path / "P02.npz"):
        with pytest.raises(ValueError, match=re.escape(what)) as refused:
            open_dataset("table", path).load(path.stem)
        assert f"{path}: column {name!r}" in str(refused.value)
        without = open_dataset("table", path, drop_columns=[name]).load(path.stem)
        assert without.values.shape == (N_ROWS, 1)
        for named in ("*", [name, "f1"]):
            responses = open_dataset("table", path, feature_columns=named).load(path.stem)
            assert responses.meta["feature_names"] == [name, "f1"]
        only = open_dataset("table", path, feature_columns="f*").load(path.stem)
        assert only.meta["feature_names"] == ["f1"]
        np.testing.assert_array_equal(only.values, without.values)


def test_features_of_arrays_without_names_are_numbered(tmp_path):
    values = np.column_stack([VALUES, np.arange(10)])
    path = tmp_path / "P01.npz"
    values = np.tile(values, (3, 1))
    values[:, 3] = np.arange(30)
    np.savez(path, words=np.array(WORDS * 3), values=values)
    with pytest.raises(ValueError, match="column 'feature 3' counts the rows"):
        open_dataset("table", path).load("P01")
    kept = open_dataset("table", path, drop_columns="feature 3").load("P01")
    np.testing.assert_array_equal(kept.values, values[:, :3].astype(np.float32))
    for options, message in (
        ({"drop_columns": "feature 9"}, "no column 'feature 9' to drop"),
        ({"feature_columns": "v*"}, r"no column 'v\*' for a feature"),
        ({"drop_columns": [f"feature {i}" for i in range(4)]}, "leaves no features"),
    ):
        with pytest.raises(ValueError, match=message):
            open_dataset("table", path, **options).load("P01")
    np.savez(path, words=np.array(WORDS), values=VALUES, feature_names=np.array(["a", "b", "a"]))
    assert open_dataset("table", path).load("P01").meta["feature_names"] == ["a", "b", "a"]
    with pytest.raises(ValueError, match="names some features twice"):
        open_dataset("table", path, drop_columns="b").load("P01")


def test_several_times_of_a_response_are_features(tmp_path):
    path = tmp_path / "P01.csv"
    path.write_text(lines("word,time 1,time 2,length", word, value, value, lambda row: row % 5))
    assert open_dataset("table", path).load("P01").values.shape == (N_ROWS, 3)
    with pytest.raises(ValueError, match="no column 'tme' for a feature; known: time 1"):
        open_dataset("table", path, feature_columns="tme")


@pytest.mark.parametrize(
    ("text", "looks"),
    [
        ("0,5", "decimal commas, write decimal points"),
        ("12 ms", "a unit, write the number alone"),
        ("-", "for a missing value"),
        ("#DIV/0!", "for a missing value"),
        ("\u22121.5", "a dash for a minus"),
        ("NOUN", "'NOUN' in row 1"),
    ],
)
def test_a_column_of_text_says_what_it_looks_like(tmp_path, text, looks):
    path = tmp_path / "P01.csv"
    path.write_text(lines("word;f1;f2", word, lambda row: text, value, separator=";"))
    with pytest.warns(UserWarning, match=f"the columns f1 hold text and are left out .*{looks}"):
        open_dataset("table", path, separator=";")
    with pytest.raises(ValueError, match=f"'f1' is to be a feature and holds .*{looks}"):
        open_dataset("table", path, separator=";", feature_columns="f*")


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".npz"])
def test_times_in_another_unit_are_refused(tmp_path, suffix):
    for change, message in (
        ({"onset": 500.0 * np.arange(10)}, "median is 500 s.*divide milliseconds by 1000"),
        ({"onset": np.arange(10) / 120}, "120 words in a second.*multiply minutes by 60"),
        ({"duration": 300.0}, "durations: the median is 300 s"),
    ):
        path = write(frame().assign(**change, run=1), tmp_path / f"P01{suffix}")
        with pytest.raises(ValueError, match=message) as refused:
            open_dataset("table", path)
        assert path.name in str(refused.value)


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".npz"])
def test_an_offset_costs_no_precision(tmp_path, suffix):
    offsets = np.array([3e7, -5e6, 0])
    shifted = VALUES.astype(np.float64) + offsets
    path = write(frame(shifted), tmp_path / f"P01{suffix}")
    responses = open_dataset("table", path).load("P01")
    exact = shifted - shifted.mean(axis=0)
    np.testing.assert_allclose(responses.values, exact, atol=1e-6)
    np.testing.assert_allclose(responses.values, VALUES - VALUES.mean(axis=0), atol=1e-6)
    assert responses.meta["centred"] is True
    # Of one subject in a table of several the mean is its own.
    if suffix != ".npz":
        both = pd.concat([frame(shifted).assign(subject="a"), frame(-shifted).assign(subject="b")])
        second = open_dataset("table", write(both, path)).load("b")
        np.testing.assert_allclose(second.values, -exact, atol=1e-6)
    constant = shifted.copy()
    constant[:, 1] = 3e7
    with pytest.raises(ValueError, match="1 of 3 voxels .* are constant, the first is column 1"):
        open_dataset("table", write(frame(constant), path)).load("P01")


def test_encodings_separators_and_line_ends(tmp_path):
    path = tmp_path / "P01.csv"
    text = frame().to_csv(index=False)
    for content in (
        b"\xef\xbb\xbf" + text.encode(),
        text.encode("utf-16"),
        text.replace("\n", "\r\n").encode(),
        text.replace("\n", "\n\n").encode(),
    ):
        path.write_bytes(content)
        dataset = open_dataset("table", path)
        assert dataset.stimulus.words == tuple(WORDS)
        np.testing.assert_array_equal(dataset.load("P01").values, VALUES)
    path.write_text(text.rstrip("\n"))
    with pytest.warns(UserWarning, match=r"P01\.csv does not end with a line break: it may be cut"):
        dataset = open_dataset("table", path)
    np.testing.assert_array_equal(dataset.load("P01").values, VALUES)
    path.write_text(frame().to_csv(index=False, sep=";"))
    with pytest.raises(ValueError, match="no column 'word'.*separator="):
        open_dataset("table", path)
    dataset = open_dataset("table", path, separator=";")
    np.testing.assert_array_equal(dataset.load("P01").values, VALUES)
    with pytest.raises(ValueError, match=r"P01\.csv.*separator must be one character"):
        open_dataset("table", path, separator="; ")


@pytest.mark.parametrize(
    "lines", [['"Hello', 'there"', '"', "he"], ['"Hello', 'there"', "he", "said"]]
)
def test_quotes_that_are_text(tmp_path, lines):
    path = tmp_path / "P01.tsv"
    rows = [f"{word}\t{index}\t{index % 3}" for index, word in enumerate(lines)]
    path.write_text("\n".join(["word\tv\tw", *rows]) + "\n")
    with pytest.raises(ValueError, match=r"P01\.tsv.*row 1 holds a line break.*quotes=false"):
        open_dataset("table", path)
    dataset = open_dataset("table", path, quotes=False)
    assert dataset.stimulus.words == tuple(lines)
    np.testing.assert_array_equal(dataset.load("P01").values[:, 0], np.arange(4))


BASE = "word,onset,v1,v2\na,0,1,2\nb,1,3,4\nc,2,5,7\nd,3,7,5\n"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.replace("b,1,3", "b,1,x"), r"column 'v1' holds 'x' in row 2, which is not a n"),
        (lambda t: t.replace("a,0,1", "a,0,one"), r"column 'v1' holds 'one' in row 1"),
        (lambda t: t.replace("c,2,5", "c,2,1_0"), r"column 'v1' holds '1_0' in row 3"),
        (lambda t: t.replace("b,1,", "b,soon,"), r"column 'onset' holds 'soon' in row 2"),
        (lambda t: t.replace("b,1,", "b,NA,"), r"column 'onset' has no number in row 2"),
        (lambda t: t.replace("b,1,", "b,5,"), r"onsets decrease.*'b'.*sort the words"),
        (lambda t: t.replace("c,2,5", "c,2,"), r"column 'v1' has no value in row 3.*drop_columns"),
        (lambda t: t.replace("c,2,5", "c,2,n/a"), r"column 'v1' has no value in row 3"),
        (lambda t: t.replace("d,3,7", "d,3,inf"), r"column 'v1' has an infinite value in row 4"),
        (lambda t: t.replace("d,3,7", "d,3,1e60"), r"column 'v1' has an infinite value in row 4"),
        (lambda t: t.replace("b,1,3,4", "b,1,3"), r"row 2 has 3 fields for 4 columns"),
        (lambda t: t.replace("b,1,3,4", "b,1,3,4,5"), r"row 2 has 5 fields for 4 columns"),
        (lambda t: t.replace("\n", ",9\n").replace("v2,9", "v2"), r"row 1 has 5 fields for 4"),
        (lambda t: t.replace("v2", "v1"), "two columns 'v1'"),
        (lambda t: t.replace("v2", ""), r"column 4 has no name: an index"),
        (lambda t: t.replace("b,", ",", 1), r"row 2 has no 'word'"),
        (lambda t: t.replace("b,", " ,", 1), r"row 2 has no 'word'"),
        (lambda t: t.replace("b,", '"b,', 1), "fields for|rows: |not a complete table"),
        (lambda t: t.replace("3,4", "3,2").replace("5,7", "5,2").replace("7,5", "7,2"),
         r"2 of|1 of 2 voxels \(columns\) are constant.*column 1"),
        (lambda t: t[:17], "no rows: one row a word"),
        (lambda t: "", "is empty; the first line"),
        (lambda t: "\n\n", "is empty"),
        (lambda t: "word,onset\na,1\nb,2\n", "no feature columns"),
        (lambda t: "word,lemma\na,A\nb,B\n", "no feature columns.*'lemma'"),
        (lambda t: "word,v\n" + "a,\n" * 4, r"column 'v' has no value in row 1"),
        (lambda t: t.replace("b,1", "b\0,1"), "binary data in line 3"),
        (lambda t: t.replace("onset", "run").replace("b,1,", "b,0.5,"), r"run\[1\] is 0.5"),
    ],
)  # fmt: skip
def test_damaged_text_is_an_error_with_the_place(tmp_path, change, message):
    path = tmp_path / "P01.csv"
    path.write_text(change(BASE))
    with pytest.raises(ValueError, match=message) as info:
        open_dataset("table", path).load("P01")
    assert "P01.csv" in str(info.value)


def test_text_late_in_a_numeric_column_and_wrong_bytes(tmp_path):
    path = tmp_path / "P01.csv"
    lines = ["word,v1,v2"] + [f"w{index},{index},{index % 7}" for index in range(3000)]
    lines[2500] = "w,1,?"
    path.write_text("\n".join(lines) + "\n")
    dataset = open_dataset("table", path)
    with pytest.raises(ValueError, match=r"P01\.csv.*column 'v2' holds '\?' in row 2500"):
        dataset.load("P01")
    lines[2500] = "café,1,2"
    data = "\n".join(lines).encode() + "\nnaïve,1,2\n".encode("latin-1")
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"P01\.csv is not text in UTF-8 in line 3002"):
        open_dataset("table", path)
    path.write_bytes(BASE.encode("utf-16")[:-1])
    with pytest.raises(ValueError, match=r"P01\.csv is not text in UTF-8"):
        open_dataset("table", path)


def test_bad_features_can_be_dropped(tmp_path):
    table = frame()
    table.loc[3, "a.b"] = np.nan
    for suffix in (".csv", ".parquet", ".npz"):
        path = write(table, tmp_path / f"P01{suffix}")
        with pytest.raises(ValueError, match=r"'a\.b' (has no value|is nan) in row 4.*bad_voxels"):
            open_dataset("table", path).load("P01")
        dataset = open_dataset("table", path, bad_voxels="drop")
        with pytest.warns(UserWarning, match="1 of 3"):
            responses = dataset.load("P01")
        assert responses.meta["feature_names"] == ["LATL", "voxel 3"]
        assert responses.meta["dropped_voxels"] == 1
        np.testing.assert_array_equal(responses.values, VALUES[:, [0, 2]])
        path.unlink()
    with pytest.raises(ValueError, match="unknown bad_voxels='keep'"):
        open_dataset("table", write(frame(), tmp_path / "P01.csv"), bad_voxels="keep")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.assign(word=[*WORDS[:6], "other", *WORDS[7:]]),
         r"B\.csv: word 7 is 'other' where .*A\.csv has 'None'.*same words in the same order"),
        (lambda t: t.iloc[:-2], r"B\.csv has 8 words and .*A\.csv 10"),
        (lambda t: t.assign(onset=t["onset"] + 1.0 * (t.index > 8)),
         r"B\.csv: onsets of word 10 \('end\.'\) is 1\.9 where .*A\.csv has 0\.9"),
        (lambda t: t.drop(columns="sentence"), r"A\.csv has sentence and .*B\.csv has none"),
        (lambda t: t.assign(run=1), r"B\.csv: run of word 6 .* is 1 where .*A\.csv has 2"),
    ],
)  # fmt: skip
def test_subjects_must_share_words_and_times(tmp_path, change, message):
    write(frame(), tmp_path / "A.csv")
    write(change(frame()), tmp_path / "B.csv")
    with pytest.raises(ValueError, match=message):
        open_dataset("table", tmp_path)
    assert open_dataset("table", tmp_path, subjects="B").subjects == ("B",)


def test_features_may_differ_and_times_may_be_rounded(tmp_path):
    write(frame(), tmp_path / "A.csv")
    table = frame().drop(columns="a.b")
    write(table.assign(onset=table["onset"] + 2e-4), tmp_path / "B.csv")
    dataset = open_dataset("table", tmp_path)
    assert dataset.load("A").values.shape == (10, 3) and dataset.load("B").values.shape == (10, 2)
    stimuli = {dataset.load(name).stimulus.fingerprint() for name in "AB"}
    assert stimuli == {dataset.stimulus.fingerprint()}


def test_parquet_details(tmp_path):
    path = tmp_path / "P01.parquet"
    table = frame()
    table["word"] = table["word"].astype("category")
    table["flag"] = VALUES[:, 0] > 0
    table["count"] = np.arange(10, dtype=np.int16)
    table["when"] = pd.Timestamp("2024-01-01")
    table.index = np.arange(10) + 3  # an index without a name is no feature
    table.to_parquet(path)
    with pytest.warns(UserWarning, match="columns when hold text"):
        dataset = open_dataset("table", path)
    assert dataset.stimulus.words == tuple(WORDS)
    responses = dataset.load("P01")
    assert responses.meta["feature_names"] == [*FEATURES, "flag", "count"]
    np.testing.assert_array_equal(responses.values[:, 4], np.arange(10))
    frame().set_index("word").to_parquet(path)
    assert open_dataset("table", path).stimulus.words == tuple(WORDS)
    frame().assign(word=[*WORDS[:4], None, *WORDS[5:]]).to_parquet(path)
    with pytest.raises(ValueError, match=r"P01\.parquet: row 5 has no 'word'"):
        open_dataset("table", path)
    frame().assign(word=[[1]] * 10).to_parquet(path)
    with pytest.raises(ValueError, match=r"P01\.parquet: column 'word' is no text"):
        open_dataset("table", path)
    frame().assign(onset=["a"] * 10).to_parquet(path)
    with pytest.raises(ValueError, match=r"P01\.parquet: column 'onset' does not hold numbers"):
        open_dataset("table", path)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"values": VALUES}, "has no array 'words'"),
        ({"words": np.array(WORDS)}, "has no array 'values'"),
        ({"words": np.array(WORDS), "values": VALUES, "onset": np.arange(10)}, "an array 'onset'"),
        ({"words": np.array(WORDS, object), "values": VALUES}, "words cannot be read.*pickled"),
        ({"words": np.arange(10), "values": VALUES}, "words has shape .* dtype int64"),
        ({"words": np.array(WORDS), "values": VALUES[:9]}, "9 rows of values for 10 words"),
        ({"words": np.array(WORDS), "values": VALUES[0]}, r"values has shape \(3,\)"),
        ({"words": np.array(["a", ""]), "values": VALUES[:2]}, "row 2 has no word"),
        ({"words": np.array(WORDS), "values": VALUES.astype(str)}, "values has shape .* dtype <U"),
        ({"words": np.array(WORDS), "values": VALUES, "onsets": np.arange(9)}, "onsets has shape"),
        ({"words": np.array(WORDS), "values": VALUES, "run": np.full(10, np.nan)}, "run is nan in"),
        ({"words": np.array(WORDS), "values": VALUES, "feature_names": np.array(["a"])},
         r"feature_names has shape \(1,\)"),
    ],
)  # fmt: skip
def test_arrays_that_do_not_fit(tmp_path, arrays, message):
    np.savez(tmp_path / "P01.npz", **arrays)
    with pytest.raises(ValueError, match=message) as info:
        open_dataset("table", tmp_path / "P01.npz").load("P01")
    assert "P01.npz" in str(info.value)


def test_missing_files_and_unknown_formats(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no .*nowhere; give a \.csv, "):
        open_dataset("table", tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="there is no table in"):
        open_dataset("table", tmp_path)
    (tmp_path / "a.xlsx").write_bytes(b"PK")
    with pytest.raises(ValueError, match=r"a\.xlsx is not a table: give a \.csv"):
        open_dataset("table", tmp_path / "a.xlsx")
    for name in ("P01.parquet", "P01.npz"):
        (tmp_path / name).write_bytes(b"PAR1 or PK, and then nothing of it")
        with pytest.raises(ValueError, match=re.escape(name) + ".*truncated"):
            open_dataset("table", tmp_path / name)


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet", ".npz", ".saved.npz"])
def test_fuzzed_files_end_in_an_error_or_a_warning(tmp_path, suffix):
    path = tmp_path / f"P01{suffix}"
    if suffix == ".saved.npz":
        WordResponses("P01", VALUES, Stimulus(tuple(WORDS))).save(path)
    else:
        write(frame(), path)
    whole, rng = path.read_bytes(), np.random.default_rng(3)
    refused = 0
    for round_ in range(40):
        broken = bytearray(whole)
        if round_ % 4 == 0:
            del broken[int(rng.integers(len(whole))) :]
        else:
            for at in rng.integers(len(whole), size=4):
                broken[at] ^= 1 << int(rng.integers(8))
        path.write_bytes(bytes(broken))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                dataset = open_dataset("table", path)
                responses = dataset.load(path.stem)
            assert np.isfinite(responses.values).all()
            # A file cut at a line's end, or with a changed line end, is another whole table.
            rows = len(path.read_bytes().splitlines()) - 1 if suffix in (".csv", ".tsv") else 10
            assert len(responses.values) == len(responses.stimulus) <= rows
        except ValueError as error:
            refused += 1
            assert path.name in str(error)
    assert refused >= 10


def test_written_with_the_csv_module_and_by_hand(tmp_path):
    with (tmp_path / "P01.csv").open("w", newline="") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_ALL)
        writer.writerow(["word", "v1", "v2"])
        writer.writerows([[word, index, -index] for index, word in enumerate(WORDS)])
    responses = open_dataset("table", tmp_path).load("P01")
    assert responses.stimulus.words == tuple(WORDS)
    np.testing.assert_array_equal(responses.values[:, 0], np.arange(10))
    (tmp_path / "P01.csv").write_text("word,v1\n a , 1.5 \nb,-2e-3\n")
    responses = open_dataset("table", tmp_path).load("P01")
    assert responses.stimulus.words == ("a", "b")
    np.testing.assert_array_equal(responses.values[:, 0], np.float32([1.5, -2e-3]))
