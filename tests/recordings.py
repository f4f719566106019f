"""Small recordings and models, as the study sees them."""

import numpy as np

from brainalign_jax.language import Embeddings
from brainalign_jax.neural.responses import WordResponses


def make_embeddings(stimulus, values, *, name="model", final=None, lower=False):
    meta = {"family": "static", "n_params": 10, "n_layers": len(values) - 1}
    types = stimulus.types(lower=lower)[0]
    return Embeddings(name, types, np.asarray(values, np.float32), final, meta)


def make_responses(stimulus, values, *, subject="S1"):
    values = np.asarray(values, np.float32)
    return WordResponses(subject, values, stimulus, np.ones(len(values), bool), {})
