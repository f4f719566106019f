"""Attributes of items from a table, by word or by row, and where they go from there."""

import numpy as np
import pytest

from brainalign_jax.neural.attributes import join_attributes
from brainalign_jax.neural.readers import open_dataset
from brainalign_jax.neural.responses import WordResponses
from brainalign_jax.stimulus import Stimulus

STORY = Stimulus.from_words(["The", "sun,", "the", "Moon", "and", "“the”", "idea."])


def table(tmp_path, text, name="norms.csv"):
    path = tmp_path / name
    path.write_text(text)
    return path


def test_a_table_is_joined_by_cleaned_word_whatever_its_case(tmp_path):
    path = table(tmp_path, "Word,Conc.M,kind\nSUN,4.8,sky\nmoon,NA,sky\nidea,1.6,\nstone,5,earth\n")
    joined, coverage = join_attributes(STORY, path)
    np.testing.assert_array_equal(
        joined.attribute("Conc_M"), [np.nan, 4.8, np.nan, np.nan, np.nan, np.nan, 1.6]
    )
    assert joined.attribute("kind").tolist() == ["", "sky", "", "sky", "", "", ""]
    assert coverage == {"Conc_M": 2 / 7, "kind": 2 / 7}
    assert joined.words == STORY.words and joined.fingerprint() != STORY.fingerprint()


def test_a_table_is_joined_by_row_and_held_against_the_words(tmp_path):
    text = "row\tword\tcondition\n7\tidea\tb\n2\tsun\ta\n"
    joined, coverage = join_attributes(STORY, table(tmp_path, text, "norms.tsv"))
    assert joined.attribute("condition").tolist() == ["", "a", "", "", "", "", "b"]
    assert coverage == {"condition": 2 / 7}


def test_the_table_takes_the_place_of_what_the_release_says(tmp_path):
    known = STORY.with_attributes(x=np.arange(7), y=np.arange(7))
    joined, _ = join_attributes(known, table(tmp_path, "row,x\n1,9\n"))
    assert joined.attribute("x")[0] == 9 and joined.attribute("y").tolist() == list(range(7))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no rows below its header"),
        ("lemma,x\nsun,1\n", "no column named word or row, but lemma, x"),
        ("word,x\n", "has no rows below its header"),
        ("word\nsun\n", "has 0 columns beside word"),
        ("word,x,X\nsun,1,2\n", "two columns named 'x'"),
        ("word,a b,a.b\nsun,1,2\n", "differ in blanks and dots only"),
        ("word,x y%\nsun,1\n", r"norms.csv: an attribute cannot be named 'x_y%'"),
        ("word,x\nsun\n", "row 1 has 1 fields for 2 columns"),
        ("word,x\nsun,1\nmoon,2\nidea,one\n", "column 'x' of numbers holds 'one' in row 3"),
        ("word,x\nsun,1\nmoon,inf\n", "column 'x' of numbers holds 'inf' in row 2"),
        ('word,x\nsun,"1,5"\nmoon,2\n', "'1,5' in row 1: decimal commas"),
        (
            "word,x\nsun,1\nSun,2\n",
            "rows 1 and 2 are both of the word 'sun' and differ in column 2",
        ),
        ("word,x\n--,1\n", "column 'word' holds '--' in row 1, which is no word"),
        ("word,x\nstone,1\n", "column 'x' is known of none of the 7 words"),
        ("word,x\nsun,NA\n", "column 'x' is known of none of the 7 words"),
        ("row,x\n0,1\n", "column 'row' holds '0' in row 1; .* from 1 to 7"),
        ("row,x\n8,1\n", "column 'row' holds '8' in row 1; .* from 1 to 7"),
        ("row,x\n1.0,1\n", "column 'row' holds '1.0' in row 1"),
        ("row,x\n0000000000019,1\n", "column 'row' holds '0000000000019' in row 1"),
        ("row,x\n1,1\n1,1\n", "rows 1 and 2 are both of row 1"),
        ("row,word,x\n1,sun,1\n", "holds 'sun' in row 1, where row 1 of the data set is 'The'"),
        ("word,x\nsun," + "a" * 201 + "\n", "column 'x' has 201 characters in row 1"),
    ],
)
def test_bad_tables_name_file_row_and_column(tmp_path, text, message):
    with pytest.raises(ValueError, match=message) as error:
        join_attributes(STORY, table(tmp_path, text))
    assert "norms.csv" in str(error.value) and "\n" not in str(error.value)


def test_what_is_no_table_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no table of attributes at .*gone.csv"):
        join_attributes(STORY, tmp_path / "gone.csv")
    with pytest.raises(ValueError, match="norms.xlsx is no table of attributes: give a .csv"):
        join_attributes(STORY, table(tmp_path, "x", "norms.xlsx"))


def test_words_listed_twice_with_the_same_values_are_one(tmp_path):
    joined, _ = join_attributes(STORY, table(tmp_path, "word,x\nsun,1\nSun,1\n"))
    assert np.nansum(joined.attribute("x")) == 1


def test_a_data_set_is_opened_with_a_table_and_its_responses_keep_it(tmp_path):
    (tmp_path / "data").mkdir()
    features = "word,a,b\nsun,1,2.5\nmoon,2,0.5\nidea,3,1.5\n"
    recorded = table(tmp_path / "data", features, "S1.csv")
    norms = table(tmp_path, "word,concreteness\nmoon,4.9\nidea,1.6\n")
    dataset = open_dataset("table", recorded, attributes=norms)
    np.testing.assert_array_equal(dataset.stimulus.attribute("concreteness"), [np.nan, 4.9, 1.6])
    assert dataset.meta["attributes"] == {"file": "norms.csv", "known_of": {"concreteness": 2 / 3}}
    responses = dataset.load("S1")
    assert responses.stimulus.fingerprint() == dataset.stimulus.fingerprint()
    # Scores that were kept without the table are those with it.
    assert responses.fingerprint() == open_dataset("table", recorded).load("S1").fingerprint()
    again = WordResponses.load(responses.save(tmp_path / "kept.npz"), verify=True)
    assert again.stimulus.fingerprint() == dataset.stimulus.fingerprint()


def test_text_and_numbers_come_back_from_a_file_of_responses(tmp_path):
    words = Stimulus(("a", "b"), attributes={"größe": [1.5, None], "topic-1": ["", "tools"]})
    saved = WordResponses("S", np.eye(2), words).save(tmp_path / "S.npz")
    stimulus = WordResponses.load(saved).stimulus
    assert stimulus.fingerprint() == words.fingerprint()
    assert stimulus.attribute("topic-1").tolist() == ["", "tools"]
