"""Small recordings and models, as the study sees them."""

import numpy as np

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


def write_vectors(path, values):
    """A file of word vectors [N, D], of word0, word1 and so on."""
    lines = (" ".join(f"{x:.4f}" for x in row) for row in values)
    path.write_text("".join(f"word{i} {line}\n" for i, line in enumerate(lines)), "utf-8")


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
