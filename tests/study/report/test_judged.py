"""What is said of several models and methods together."""

import pandas as pd

from brainalign_jax.study.report.judged import Judged, by_answer, labelled_pairs


def test_pairs_are_in_the_order_of_the_rows_with_short_names():
    rows = pd.DataFrame(
        {"model": ["gpt2", "/x/models/bert", "gpt2"], "method": ["rsa", "rsa", "rsa"]}
    )
    assert labelled_pairs(rows) == [
        ("gpt2", "rsa", "gpt2"),
        ("/x/models/bert", "rsa", "…/models/bert"),
    ]


def test_methods_and_models_are_told_by_their_answer():
    judged = [
        Judged("gpt2", "rsa", "holds", ""),
        Judged("/x/models/bert", "rsa", "ends", ""),
        Judged("gpt2", "ridge", "holds", ""),
    ]
    assert by_answer(judged) == {
        "holds": ["rsa, gpt2", "ridge, gpt2"],
        "ends": ["rsa, …/models/bert"],
    }
