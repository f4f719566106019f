"""What is known of the items of a stimulus, by name."""

import copy
import pickle

import numpy as np
import pandas as pd
import pytest

from brainalign_jax.attributes import Attributes, known
from brainalign_jax.stimulus import Stimulus

WORDS = ("sun", "idea", "moon")
# Of versions without attributes: what was kept under it must be found again.
PLAIN = "30fc0cfa647ee1ccd758a011747b0eda3dcb711f4966e55e25cbdf2fb05531ac"


def test_numbers_and_text_are_kept_read_only_with_unknown_values():
    made = Stimulus(
        WORDS, attributes={"concreteness": [4.8, None, 5], "topic": ["sky", None, "sky"]}
    )
    numbers, topics = made.attribute("concreteness"), made.attribute("topic")
    np.testing.assert_array_equal(numbers, [4.8, np.nan, 5])
    assert numbers.dtype == np.float64 and topics.tolist() == ["sky", "", "sky"]
    assert known(numbers).tolist() == known(topics).tolist() == [True, False, True]
    with pytest.raises(ValueError, match="read-only"):
        numbers[0] = 1
    with pytest.raises(TypeError):
        made.attributes["topic"] = topics
    assert list(Stimulus(WORDS).attributes) == []


@pytest.mark.parametrize(
    "values",
    [
        pd.Series([1, 2, None], dtype="Int64"),
        pd.Series(["a", "b", None], dtype="string"),
        pd.Series(["a", None, "b"]),
        np.array([True, False, True]),
        np.array([1, 2, 3], np.int8),
        (1, 2.5, float("nan")),
    ],
)
def test_what_tables_hold_is_understood(values):
    values_kept = Attributes({"x": values}, 3)["x"]
    assert values_kept.shape == (3,) and values_kept.dtype.kind in "fU"
    assert known(values_kept).sum() == pd.notna(pd.Series(values)).sum()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"x": [1, 2]}, "attribute 'x' has 2 values for 3 words"),
        ({"x": np.ones((3, 2))}, r"attribute 'x' has shape \(3, 2\) for 3 words"),
        ({"x": "abc"}, "attribute 'x' is 'abc'; give one value a word"),
        ({"x": 3.0}, "attribute 'x' is '3.0'; give one value a word"),
        ({"x": [1, "a", 2]}, "attribute 'x' has numbers and text: row 2 is 'a'"),
        ({"x": [1, np.inf, 2]}, "attribute 'x' is inf in row 2"),
        ({"x": [1, [], 2]}, "attribute 'x' is of type list in row 2"),
        ({"x": np.ones(3, complex)}, "attribute 'x' has dtype complex128"),
        ({"x": ["a" * 201, "", ""]}, "attribute 'x' has 201 characters .*row 1"),
        ({"x": np.array(["a" * 201, "", ""])}, "attribute 'x' has 201 characters .*row 1"),
        ({"x": ["a\0", "", ""]}, "a NUL in row 1"),
        ({"a b": [1, 2, 3]}, "cannot be named 'a b': use letters, digits, _ and -"),
        ({"1st": [1, 2, 3]}, "cannot be named '1st'"),
        ({"x" * 65: [1, 2, 3]}, "cannot be named 'xxx.*at most 64"),
        ({3: [1, 2, 3]}, "cannot be named '3'"),
        ({f"x{i}": [1, 2, 3] for i in range(257)}, "there are 257 attributes; give at most 256"),
        ([1, 2, 3], "attributes is a list; give a mapping"),
    ],
)
def test_bad_attributes_are_one_line(given, message):
    with pytest.raises(ValueError, match=message) as error:
        Stimulus(WORDS, attributes=given)
    assert "\n" not in str(error.value)


def test_an_unknown_name_is_answered_with_the_known_ones():
    made = Stimulus(WORDS, attributes={"concreteness": [1, 2, 3]})
    with pytest.raises(ValueError, match="unknown attribute 'topic' of the words; known: concret"):
        made.attribute("topic")
    with pytest.raises(ValueError, match="known: none"):
        Stimulus(WORDS).attribute("topic")


def test_attributes_go_with_their_words():
    made = Stimulus.from_words(WORDS, run=[0, 0, 1]).with_attributes(a=[1, 2, 3])
    made = made.with_attributes(b=["x", "y", "z"], a=[4, 5, 6])
    chosen = made.select([True, False, True])
    assert chosen.attribute("a").tolist() == [4, 6] and chosen.attribute("b").tolist() == ["x", "z"]
    assert chosen.words == ("sun", "moon") and chosen.run.tolist() == [0, 1]
    for again in (copy.deepcopy(made), pickle.loads(pickle.dumps(made))):
        assert again.fingerprint() == made.fingerprint()


def test_the_fingerprint_is_that_of_earlier_versions_where_there_are_no_attributes():
    plain = Stimulus(("a", "bc"), onsets=[0.0, 1.0], durations=[1, 1], sentence=[0, 0], run=[0, 0])
    assert plain.fingerprint() == PLAIN
    described = [
        plain.with_attributes(a=[1, 2]),
        plain.with_attributes(a=[1, np.nan]),
        plain.with_attributes(b=[1, 2]),
        plain.with_attributes(a=["1", "2"]),
        plain.with_attributes(a=["12", ""]),
        plain.with_attributes(a=[1, 2], b=[1, 2]),
    ]
    prints = [stimulus.fingerprint() for stimulus in described]
    assert len({PLAIN, *prints}) == 7
    assert {stimulus.fingerprint(attributes=False) for stimulus in described} == {PLAIN}
    in_turn = plain.with_attributes(b=[1, 2]).with_attributes(a=[1, 2])
    assert in_turn.fingerprint() == prints[-1]
    assert plain.with_attributes(a=[0.0, 1]).fingerprint() == (
        plain.with_attributes(a=[-0.0, 1]).fingerprint()
    )
