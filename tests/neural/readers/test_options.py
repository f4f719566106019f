r"""Options as text: converted by the types that readers declare, described from their docstrings."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest

from brainalign_jax.neural.catalog import dataset_names
from brainalign_jax.neural.readers import (
    Dataset,
    list_datasets,
    open_dataset,
    reader_options,
    register,
)
from brainalign_jax.neural.readers.images.image_files import file_names, split_names
from brainalign_jax.neural.readers.options import (
    Whole,
    convert_options,
    describe_options,
    split_items,
    written_items,
)
from brainalign_jax.neural.readers.registry import _READERS
from brainalign_jax.stimulus import Stimulus


@pytest.fixture(autouse=True)
def toy(monkeypatch):
    """A reader with an option of every type; gives what it was opened with."""
    list_datasets()  # so that all others are registered before
    monkeypatch.setattr("brainalign_jax.neural.readers.registry._READERS", dict(_READERS))
    given = {}

    @register("toy")
    def read_toy(
        data_dir: Path,
        *,
        subjects: str | None = None,
        switch: bool = False,
        count: int = 2,
        size: float | None = None,
        title: str | None = None,
        folder: str | Path | None = None,
        columns: str | Iterable[str] = (),
        labels: Sequence[str] = ("a", "b"),
        starts: float | Sequence[float] = 0.0,
        pair: tuple[int, int] = (1, 2),
        region: Whole | Iterable[str] | None = None,
        bare=3,
        numbers: list[int] | None = None,
        odd: dict[str, int] | None = None,
    ) -> Dataset:
        """A toy.

        switch, count (words): what both do. size: how large, as
          a number. More of it.
        title: its name; folder: where `x.gz` is.
        """
        given.update(locals())
        return Dataset("toy", ("a",), Stimulus(("x",)), lambda subject: None, {})

    return given


GOOD = [
    ("switch", "true", True),
    ("switch", "False", False),
    ("count", "-3", -3),
    ("size", "6", 6.0),
    ("size", " 1e-3 ", 0.001),
    ("size", "none", None),
    ("title", "none", "none"),
    ("title", "0", "0"),
    ("title", "true", "true"),
    ("title", "a:b", "a:b"),
    ("title", " two words ", " two words "),
    ("folder", "../x", "../x"),
    ("columns", "0", "0"),
    ("columns", "1.5", "1.5"),
    ("columns", "a b", "a b"),
    ("columns", "a:b", ("a", "b")),
    ("columns", "true:1", ("true", "1")),
    ("columns", r"a\:b", ("a:b",)),
    ("columns", r"a\,b:c", ("a,b", "c")),
    ("columns", ":", ("", "")),
    ("columns", "a,b", "a,b"),
    ("labels", "a", ("a",)),
    ("starts", "2", 2.0),
    ("starts", "0:2.5", (0.0, 2.5)),
    ("pair", "-2:3", (-2, 3)),
    ("region", "aal:Temporal_Mid_L", "aal:Temporal_Mid_L"),
    ("bare", "4", 4),
    ("numbers", "1:2:3", (1, 2, 3)),
    ("numbers", "None", None),
]


@pytest.mark.parametrize(("name", "text", "value"), GOOD)
def test_a_text_becomes_what_the_reader_declares(toy, name, text, value):
    options = convert_options("toy", {name: text})
    assert options == {name: value} and type(options[name]) is type(value)
    open_dataset("toy", ".", **options)
    assert toy[name] == value


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("switch", "yes", "is not true or false; give it as switch=false"),
        ("switch", "1", "is not true or false"),
        ("count", "2.5", "is not a whole number; give it as count=2"),
        ("count", "none", "is not a whole number"),
        ("count", "1_0", "is not a whole number"),
        ("size", "big", "is not a number, or none; give it as size="),
        ("size", "nan", "is not a number, or none"),
        ("size", "1:2", "is not a number, or none"),
        ("starts", "0:a", "is not a number, or several with : between them; give it as starts=0"),
        ("starts", "0,1", "is not a number, or several"),
        ("pair", "1", "is not 2 whole numbers with : between them; give it as pair=1:2"),
        ("pair", "1:2:3", "is not 2 whole numbers"),
        ("numbers", "", "is not whole numbers with : between them, or none"),
        (
            "odd",
            "a",
            r"declared as dict\[str, int\] | None, which no text can give; use open_dataset",
        ),
        (
            "colums",
            "a",
            "unknown option 'colums' of toy; the nearest: columns; `brainalign datasets t",
        ),
    ],
)
def test_what_is_not_of_the_type_is_named_with_an_example(name, text, message):
    with pytest.raises(ValueError, match=message) as caught:
        convert_options("toy", {name: text})
    assert name in str(caught.value)


def test_an_unknown_data_set_is_an_error():
    for call in (lambda: convert_options("tou", {}), lambda: describe_options("tou")):
        with pytest.raises(ValueError, match="unknown data set 'tou'; the nearest: toy"):
            call()


def test_options_are_described_in_their_order_from_docstring_and_signature():
    described = {option.name: option for option in describe_options("toy")}
    assert list(described) == list(reader_options("toy"))
    assert described["switch"][1:] == ("true or false", "false", "what both do")
    assert described["count"][1:] == ("a whole number", "2", "what both do")
    assert described["size"][1:] == ("a number, or none", "none", "how large, as a number")
    assert described["title"][1:] == ("text", "", "its name")
    assert described["folder"].help == "where `x.gz` is"
    assert described["columns"][1:] == ("text, or several with : between them", "", "")
    assert described["labels"][1:3] == ("texts with : between them", "a:b")
    assert described["pair"][1:3] == ("2 whole numbers with : between them", "1:2")
    assert described["odd"][1:3] == ("only in Python", "")


@pytest.mark.parametrize("name", dataset_names())
def test_every_option_of_a_built_in_reader_is_described_and_its_default_can_be_typed(name):
    options = describe_options(name)
    # What was exported has its options in it; RDMs have none.
    assert options or name in ("kernels", "kriegeskorte2008")
    for option in options:
        assert option.help and "\n" not in option.help, option
        assert option.type != "only in Python"
    typed = {option.name: option.default for option in options if option.default}
    convert_options(name, typed)


def test_the_names_without_the_readers(monkeypatch):
    monkeypatch.undo()
    built_in = {key for key, reader in _READERS.items() if "brainalign_jax" in reader.__module__}
    assert dataset_names() == tuple(sorted(built_in))


@pytest.mark.parametrize("items", [["a"], ["a", "b"], ["a:b", "c,d"], [""], ["0", "x y"]])
def test_items_are_written_as_they_are_read(items):
    assert split_items(written_items(items))[: len(items)] == items
    assert not re.search(r"(?<!\\)[:,]", written_items(items[:1])) or items == [""]


def test_readers_split_their_own_strings_in_the_same_way():
    assert split_names(r"a:b\:c, d") == ("a", "b:c", "d")
    assert split_names(["a:b", "c,d", 2]) == ("a:b", "c,d", "2")
    assert file_names(r"a,1.nii:b\:c.nii") == ["a,1.nii", "b:c.nii"]
    assert file_names(("b:c.nii", Path("d"))) == ["b:c.nii", "d"]


def test_what_a_warning_tells_to_give_can_be_given_as_it_is(tmp_path):
    table = '"a:b","pos, tag",word,0\n1,noun,dog,2\n3,verb,ran,5\n4,noun,far,1\n'
    (tmp_path / "S.csv").write_text(table)
    with pytest.warns(UserWarning, match="hold text and are left out") as caught:
        open_dataset("table", tmp_path)
    (text,) = re.search("give drop_columns=(.*) to silence", str(caught[0].message)).groups()
    assert text == r"pos\, tag"
    for dropped in (convert_options("table", {"drop_columns": text})["drop_columns"], text):
        dataset = open_dataset("table", tmp_path, drop_columns=dropped)
        assert dataset.load("S").meta["feature_names"] == ["a:b", "0"]
    options = {"drop_columns": r"a\:b:pos\, tag:word", "word_column": "0"}
    with pytest.raises(ValueError, match="has no feature columns"):
        open_dataset("table", tmp_path, **convert_options("table", options))


def test_separators_have_names_that_can_be_typed(tmp_path):
    for name, sign in (("tab", "\t"), ("comma", ","), ("semicolon", ";"), ("space", " ")):
        (tmp_path / "S.csv").write_text("word,v\na,1\nb,2\n".replace(",", sign))
        options = convert_options("table", {"separator": name})
        assert open_dataset("table", tmp_path, **options).load("S").values.tolist() == [[1], [2]]
