"""What experiments make of flags."""

import pytest

from experiments.study_flags import numbers, pairs, protocol_fields


def test_pairs_keep_what_is_escaped_and_refuse_the_rest():
    # As absl parts --reader_options=drop_columns=a\,b:c,word_column=0
    assert pairs("x", ["drop_columns=a\\", "b:c", "word_column=0"]) == {
        "drop_columns": r"a\,b:c",
        "word_column": "0",
    }
    assert pairs("x", ["a=b=c"]) == {"a": "b=c"}
    for values, message in (
        (["a"], "takes name=value, not 'a'"),
        (["a="], "takes name=value"),
        (["a=1", "a=2"], "names 'a' twice"),
    ):
        with pytest.raises(ValueError, match=f"--x {message}"):
            pairs("x", values)


def test_protocol_fields_have_their_types():
    found = protocol_fields("fixed", ["alphas=0.1:1", "center=false", "csls_k=5", "pca=none"])
    assert found == {"alphas": (0.1, 1.0), "center": False, "csls_k": 5, "pca": "none"}
    for item, message in (
        ("cslsk=5", "unknown field 'cslsk' of --fixed; the nearest: csls_k"),
        ("name=x", "unknown field 'name'"),
        ("csls_k=x", "csls_k=x is no whole number"),
        ("center=maybe", "center=maybe is no true or false"),
    ):
        with pytest.raises(ValueError, match=message):
            protocol_fields("fixed", [item])
    with pytest.raises(ValueError, match="--ks=ten must be numbers"):
        numbers("ks", ["ten"], int)
