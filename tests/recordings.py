"""Small recordings and models, as the study sees them."""

import numpy as np
import pandas as pd

from brainalign_jax.language import Embeddings
from brainalign_jax.neural.responses import WordResponses
from brainalign_jax.stimulus import Stimulus


def make_embeddings(stimulus, values, *, name="model", final=None, lower=False):
    meta = {"family": "static", "n_params": 10, "n_layers": len(values) - 1}
    types = stimulus.types(lower=lower)[0]
    return Embeddings(name, types, np.asarray(values, np.float32), final, meta)


def make_responses(stimulus, values, *, subject="S1"):
    values = np.asarray(values, np.float32)
    return WordResponses(subject, values, stimulus, np.ones(len(values), bool), {})


def write_vectors(path, values, words=None):
    """A file of word vectors [N, D] of words, by default word0, word1 and so on; its name as a model."""
    words = words or [f"word{i}" for i in range(len(values))]
    rows = (" ".join(f"{x:.9g}" for x in row) for row in values)
    lines = (f"{word} {row}\n" for word, row in zip(words, rows, strict=True))
    path.write_text("".join(lines), "utf-8")
    return f"static:{path}"


def write_table(path, words, values):
    """A person's responses [N, V] as a table of a row a word; its folder is made if need be."""
    path.parent.mkdir(exist_ok=True)
    frame = pd.DataFrame(values).add_prefix("v")
    frame.insert(0, "word", words)
    frame.to_csv(path, index=False)


# Of a simulated release: its words are answered strongly, 5 s after they begin.
PEAKED = {"word_duration": 3.0, "snr": 3.0, "drift": 0.2, "responsive": 1.0}


def assert_peaked(load, vectors):
    """Responses of load(delay) carry the words' vectors [N, D] after 5 s, more than after 2 s or 9 s."""

    def fit(delay):
        responses = load(delay)
        kept = responses.valid
        design, values = np.c_[vectors[kept], np.ones(kept.sum())], responses.values[kept]
        rest = values - design @ np.linalg.lstsq(design, values, rcond=None)[0]
        return 1 - rest.var() / values.var()

    at_peak = fit(5.0)
    assert at_peak > 0.3 and at_peak > fit(2.0) + 0.1 and at_peak > fit(9.0) + 0.1


def planted_study(n_layers=5, n_words=60, n_subjects=2, width=12, seed=0):
    """(responses of some subjects, embeddings of one model): its layer 1 is in the brain."""
    rng = np.random.default_rng(seed)
    words = Stimulus.from_words([f"word{i}" for i in range(n_words)])
    vectors = rng.standard_normal((n_layers, n_words, width))
    responses = [
        make_responses(
            words,
            vectors[1] @ rng.standard_normal((width, 20)) + rng.standard_normal((n_words, 20)),
            subject=f"S{i}",
        )
        for i in range(n_subjects)
    ]
    return responses, make_embeddings(words, vectors)
