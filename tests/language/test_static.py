"""Word vectors from text files."""

from __future__ import annotations

import gzip

import numpy as np
import pytest

from brainalign_jax.language.static import read_vectors

GLOVE = "the 0.1 0.2 -0.3\ndog 1 2 3\nI 4e-1 5 6\n. . . 7 8 9\ndon't 1 1 1\ndog 9 9 9\n"
FASTTEXT = "3 3\nthe 0.1 0.2 -0.3 \ndog 1 2 3 \nDog 5 5 5 \n"


def write(folder, text, name="vectors.txt"):
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_rows_follow_the_words_asked_for(tmp_path):
    values, missing = read_vectors(write(tmp_path, GLOVE), ["dog", "the", "dog", "I"])
    expected = [[1, 2, 3], [0.1, 0.2, -0.3], [1, 2, 3], [0.4, 5, 6]]
    np.testing.assert_array_equal(values, np.array(expected, np.float32))
    assert values.dtype == np.float32
    assert missing == ()


def test_header_trailing_spaces_and_case(tmp_path):
    path = write(tmp_path, FASTTEXT)
    values, _ = read_vectors(path, ["THE", "Dog", "DOG", "dog"])
    np.testing.assert_allclose(values, [[0.1, 0.2, -0.3], [5, 5, 5], [1, 2, 3], [1, 2, 3]])


def test_the_exact_form_wins_wherever_it_stands(tmp_path):
    path = write(tmp_path, "dog 1 1\nDog 2 2\n")
    np.testing.assert_array_equal(read_vectors(path, ["Dog"]).values, [[2, 2]])
    path = write(tmp_path, "Dog 2 2\ndog 1 1\n")
    np.testing.assert_array_equal(read_vectors(path, ["Dog"]).values, [[2, 2]])


def test_typographic_apostrophes_and_words_with_spaces(tmp_path):
    path = write(tmp_path, GLOVE)
    np.testing.assert_array_equal(
        read_vectors(path, ["Don’t", ". . ."]).values, [[1, 1, 1], [7, 8, 9]]
    )


def test_either_unicode_form_of_a_word_is_found(tmp_path):
    path = write(tmp_path, "cafe\u0301 1 2\nnaïve 3 4\nwell-known 5 6\n")
    asked = ["café", "Cafe\u0301", "nai\u0308ve", "well\u2011known"]
    values, missing = read_vectors(path, asked)
    np.testing.assert_array_equal(values, [[1, 2], [1, 2], [3, 4], [5, 6]])
    assert missing == ()


def test_gzip_is_recognised_by_content(tmp_path):
    path = tmp_path / "vectors.vec"
    path.write_bytes(gzip.compress(FASTTEXT.encode()))
    np.testing.assert_array_equal(read_vectors(path, ["dog"]).values, [[1, 2, 3]])
    big = "\n".join(f"w{i} {i} {i * 7919 % 104729}" for i in range(20000))
    path.write_bytes(gzip.compress(big.encode())[:-2000])
    with pytest.raises(ValueError, match="broken gzip"):
        read_vectors(path, ["w19999"])


def test_byte_order_mark_and_non_latin_words(tmp_path):
    path = tmp_path / "vectors.txt"
    path.write_bytes("\ufeff名前 1 2\nnaïve 3 4\n".encode())
    np.testing.assert_array_equal(read_vectors(path, ["名前", "Naïve"]).values, [[1, 2], [3, 4]])


def test_missing_words(tmp_path):
    path = write(tmp_path, GLOVE)
    with pytest.raises(ValueError, match="lacks 2 of 3 words: 'zebra', 'ibex'") as error:
        read_vectors(path, ["zebra", "dog", "ibex"])
    assert "missing='zero'" in str(error.value)
    values, missing = read_vectors(path, ["zebra", "dog", "zebra"], missing="zero")
    np.testing.assert_array_equal(values, [[0, 0, 0], [1, 2, 3], [0, 0, 0]])
    assert missing == ("zebra",)
    with pytest.raises(ValueError, match="lacks 1 of 1 words: 'zebra'; use vectors") as error:
        read_vectors(path, ["zebra"], missing="zero")
    assert "missing='zero'" not in str(error.value)
    with pytest.raises(ValueError, match="missing='drop'"):
        read_vectors(path, ["dog"], missing="drop")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("the 1 2 3\ndog 1 2\nlast 1 2 3\n", r"line 2 \('dog 1 2'...\) has 2 numbers, not 3"),
        ("the 1 2 3\ndog 1 2 3 4\nlast 1 2 3\n", "line 2 .* has more than 3 numbers"),
        ("2 3\nthe 1 2 3\nlast 1 2 x\n", "line 3 .* is not numeric"),
        ("2 4\nthe 1 2 3\n", "line 2 .* has 3 numbers, not 4"),
        ("the 1 2\nlast 1 nan\n", "line 2: .*'last' is not finite"),
        ("the\n", "line 1 .* has no numbers"),
        ("", "is empty"),
        ("\n\n", "is empty"),
    ],
)
def test_malformed_lines_are_named(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        read_vectors(write(tmp_path, text), ["last"])


def test_no_such_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing\.vec"):
        read_vectors(tmp_path / "nothing.vec", ["dog"])
