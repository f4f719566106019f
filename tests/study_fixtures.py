"""Small recordings and models for the study's tests."""

import numpy as np
import pytest
from recordings import make_responses

from brainalign_jax.neural.readers import Dataset
from brainalign_jax.stimulus import Stimulus


@pytest.fixture(scope="session")
def words():
    """60 isolated words."""
    return Stimulus.from_words([f"word{i}" for i in range(60)])


@pytest.fixture(scope="session")
def planted(words):
    """(vectors [3, 60, 12], responses of 2 subjects): layer 1 is in the brain, 0 and 2 are not."""
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((3, 60, 12))
    responses = [
        make_responses(
            words,
            vectors[1] @ rng.standard_normal((12, 20)) + rng.standard_normal((60, 20)),
            subject=f"S{i}",
        )
        for i in range(2)
    ]
    return vectors, responses


@pytest.fixture(scope="session")
def dataset(words, planted):
    """The planted recordings as a data set."""
    _, responses = planted
    by_name = {person.subject: person for person in responses}
    return Dataset("planted", tuple(by_name), words, by_name.__getitem__)
