import pytest

from brainalign_jax.neural.formats.text.delimited import DelimitedText, is_number


def delimited(tmp_path, text, name="t.csv", **options):
    path = tmp_path / name
    path.write_text(text)
    return DelimitedText(path, **options)


def test_header_rows_and_separators(tmp_path):
    table = delimited(tmp_path, 'word,v\n\n"a,b",1\n"c ""d""",x\n')
    assert table.n_rows == 2
    assert list(table.rows()) == [["word", "v"], ["a,b", "1"], ['c "d"', "x"]]
    assert table.header() == (["word", "v"], {"v"})  # half of the values are enough
    tabs = delimited(tmp_path, "word\tv\na,b\t1\n", "t.TSV")
    assert list(tabs.rows()) == [["word", "v"], ["a,b", "1"]]
    raw = delimited(tmp_path, 'word;v\n"a;1\n', quotes=False, separator=";")
    assert list(raw.rows())[1] == ['"a', "1"]
    assert delimited(tmp_path, "").header() == ([], set())
    assert delimited(tmp_path, "word,v\n").header() == (["word", "v"], {"word", "v"})


def test_first_bad_row_is_found(tmp_path):
    assert delimited(tmp_path, "word,v\na,1\nb,NA\n").locate(["v"]) == ""
    assert delimited(tmp_path, "word,v\na,1\nb,\n").locate(["v"]) == ""
    complaint = delimited(tmp_path, "word,v\na,1\nb,two\n").locate(["v"])
    assert complaint == "column 'v' holds 'two' in row 2, which is not a number"
    assert delimited(tmp_path, "word,v\na,1\nb,two\n").locate(["word"]).startswith("column 'word'")
    complaint = delimited(tmp_path, "word,v\na,1\nb\n").locate(["v"])
    assert complaint == "row 2 has 1 fields for 2 columns"
    complaint = delimited(tmp_path, 'word,v\na,1\n"b,1\nc",2\n').locate(["v"])
    assert complaint.startswith("row 2 holds a line break within quotes")


def test_a_field_without_end(tmp_path):
    table = delimited(tmp_path, 'word,v\n"a,' + "x" * 200_000 + "\n")
    with pytest.raises(
        ValueError, match=r"t\.csv cannot be read as a table: field larger.*quotes="
    ):
        list(table.rows())


@pytest.mark.parametrize(
    ("text", "yes"),
    [("1", True), (" -2.5e3 ", True), ("inf", True), ("", False), ("1,5", False), ("1_0", False)],
)
def test_is_number(text, yes):
    assert is_number(text) is yes
