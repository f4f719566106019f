import zipfile

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from brainalign_jax.neural.formats import arrays
from brainalign_jax.neural.formats.text import delimited
from brainalign_jax.neural.formats.text.tables import ArrayTable, ColumnTable, npz_names

TEXT = "pos,b,word,subject,a,onset\nDT,1,the,S2,5,0\nNN,2,NA,S1,,1\nVB,3,1984,S1,7,1.5\n"


def test_columns_are_told_apart_and_rows_chosen(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(TEXT)
    table = ColumnTable(path)
    assert table.features == ("b", "a") and table.ignored == ("pos",)
    assert table.timing == ("onset",) and table.subject_column == "subject"
    items = table.items()
    assert items.words == ["the", "NA", "1984"] and items.subjects == ["S2", "S1", "S1"]
    assert list(items.timing) == ["onsets"]
    np.testing.assert_array_equal(items.timing["onsets"], [0, 1, 1.5])
    values, problem, _ = table.values()
    np.testing.assert_array_equal(values, np.float32([[1, 5], [2, np.nan], [3, 7]]))
    assert problem == "column 'a' has no value in row 2" and values.dtype == np.float32
    values, problem, _ = table.values(np.array([True, False, True]))
    np.testing.assert_array_equal(values, np.float32([[1, 5], [3, 7]]))
    assert problem == ""
    dropped = ColumnTable(path, drop_columns=("a", "subject", "onset"))
    assert dropped.features == ("b",) and dropped.items().subjects is None
    assert dropped.timing == ()


def test_numbers_and_rows_beyond_the_first_hundred(tmp_path):
    # Columns are told apart by their first rows; what comes later must agree.
    path = tmp_path / "t.csv"
    lines = [f"w{i},{i},{'?' if i > 150 else i},{'n' if i % 3 else i}" for i in range(200)]
    path.write_text("\n".join(["word,a,b,c", *lines]) + "\n")
    table = ColumnTable(path)
    assert table.features == ("a", "b") and table.ignored == ("c",)
    assert len(table.items().words) == 200
    with pytest.raises(ValueError, match=r"t\.csv.*column 'b' holds '\?' in row 152"):
        table.values()
    values, _, _ = ColumnTable(path, drop_columns=("b",)).values()
    np.testing.assert_array_equal(values[:, 0], np.arange(200))


def test_numbers_are_rounded_to_the_nearest(tmp_path):
    numbers = np.random.default_rng(0).standard_normal(500) * 10.0 ** np.arange(-25, 25).repeat(10)
    path = tmp_path / "t.tsv"
    path.write_text("word\tv\n" + "".join(f"w\t{float(x)!r}\n" for x in numbers))
    values, _, _ = ColumnTable(path).values()
    np.testing.assert_array_equal(values[:, 0], numbers.astype(np.float32))


def test_arrays_and_their_names(tmp_path):
    path = tmp_path / "t.npz"
    values = np.arange(6.0).reshape(2, 3)
    np.savez(path, words=np.array(["a", " b "]), values=values, run=np.array([0, 1]))
    assert npz_names(path) == ("words", "values", "run")
    table = ArrayTable(path)
    items = table.items()
    assert items.words == ["a", "b"] and items.timing["run"].tolist() == [0, 1]
    got, problem, _ = table.values(np.array([False, True]))
    np.testing.assert_array_equal(got, values[1:])
    assert problem == "" and table.features == ("feature 0", "feature 1", "feature 2")
    with pytest.raises(FileNotFoundError, match=r"none\.npz"):
        npz_names(tmp_path / "none.npz")
    with pytest.raises(FileNotFoundError, match=r"none\.csv"):
        ColumnTable(tmp_path / "none.csv")


def test_a_wide_table_of_text_is_read_row_by_row(tmp_path):
    path, n = tmp_path / "t.csv", 5000
    numbers = np.random.default_rng(0).standard_normal((3, n)).round(4)
    rows = [",".join(map(str, row)) for row in numbers]
    head = "word," + ",".join(f"v{column}" for column in range(n))
    path.write_text("\n".join([head, *(f"w,{row}" for row in rows)]) + "\n")
    table = ColumnTable(path)
    assert table.items().words == ["w"] * 3
    values, problem, _ = table.values(np.array([True, False, True]))
    np.testing.assert_array_equal(values, numbers[[0, 2]].astype(np.float32))
    assert problem == ""
    path.write_text("\n".join([head, f"w,NA,{rows[0].split(',', 1)[1]}", f"w,{rows[1]}"]) + "\n")
    assert ColumnTable(path).values()[1] == "column 'v0' has no value in row 1"
    for bad, message in (("1_0", "holds '1_0' in row 2"), ("x", "'v0' holds 'x' in row 2")):
        broken = f"w,{bad},{rows[1].split(',', 1)[1]}"
        path.write_text("\n".join([head, *[f"w,{rows[0]}", broken] * 2, f"w,{rows[0]}"]) + "\n")
        with pytest.raises(ValueError, match=f"t\\.csv.*{message}"):
            ColumnTable(path).values()
    path.write_text("\n".join([head, f"w,{rows[0]}", f"w,{rows[1]},1"]) + "\n")
    with pytest.raises(ValueError, match=r"row 2 has 5002 fields for 5001 columns"):
        ColumnTable(path).values()


def test_what_is_packed_too_far_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(arrays, "_SMALL", 2**16)  # small files, for the time that they take
    count = 400_000
    packed = pa.DictionaryArray.from_arrays(pa.array(np.zeros(count, np.int8)), pa.array(["a"]))
    table = pa.table({"word": packed, "v": pa.array(np.zeros(count, np.float32))})
    parquet.write_table(table, tmp_path / "t.parquet", compression="zstd")
    with pytest.raises(ValueError, match=r"t\.parquet: its words would take .* times the file"):
        ColumnTable(tmp_path / "t.parquet").items()
    long = pa.table({"word": ["x" * 2_000_000, "b"], "v": [1.0, 2.0]})
    parquet.write_table(long, tmp_path / "l.parquet", compression="zstd", use_dictionary=False)
    with pytest.raises(
        ValueError, match=r"l\.parquet: its columns .* would take .* times the file"
    ):
        ColumnTable(tmp_path / "l.parquet").items()
    path = tmp_path / "t.npz"
    np.savez_compressed(path, words=np.array(["a", "b"]), values=np.zeros((2, 100_000)))
    with pytest.raises(ValueError, match=r"t\.npz: values\.npy .* would take .* times the file"):
        ArrayTable(path).values()
    # A header that declares more than its member holds.
    with zipfile.ZipFile(path, "w") as archive, archive.open("words.npy", "w") as file:
        np.lib.format.write_array_header_1_0(
            file, {"descr": "<U100000000", "fortran_order": False, "shape": (10**6,)}
        )
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("values.npy", b"")
    with pytest.raises(ValueError, match=r"t\.npz: words cannot be read .*length of its shape"):
        ArrayTable(path).items()


def test_a_line_without_end_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(delimited, "_LONGEST", 1000)
    path = tmp_path / "t.csv"
    path.write_text("word,v\na,1\n" + "b" * 2000)
    with pytest.raises(ValueError, match=r"t\.csv: line 3 is longer than 1,000 characters"):
        ColumnTable(path)
