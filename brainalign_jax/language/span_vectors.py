"""The vectors of spans of words, pooled from those that the words have in their sentences."""

from __future__ import annotations

import numpy as np

from brainalign_jax.language.embed import embed
from brainalign_jax.language.embeddings import Embeddings
from brainalign_jax.language.geometry import described, geometry
from brainalign_jax.spans import Spans


def embed_spans(spans: Spans, model, *, lower: bool = False, **options) -> Embeddings:
    """The vectors of spans in every layer of a model, rows as `spans.items().types(lower=lower)[0]`.

    Each is pooled from the vectors of its words in their sentences, as `Spans.pooling` says; spans of the
    same words are one type, unless they are `apart`, whose vector is the mean over them, as of words.

    Args:
      model: as of `embed`. options: of `embed`, but for level and surprisal.

    The vectors of all words of the sentences are in memory at once.

    `checkpoint` is the folder of a BERT of 6 layers and width 384:

    >>> import brainalign_jax as ba
    >>> spans = ba.Spans.of_sentences(["She spilled the beans .", "He left ."], [1, 1], [4, 2])
    >>> vectors = ba.embed_spans(spans, checkpoint)
    >>> vectors.types, vectors.values.shape
    (('spilled the beans', 'left'), (7, 2, 384))
    """
    for name in ("level", "surprisal"):
        if name in options:
            raise ValueError(f"{name}= is not for spans, whose vectors are types: leave it out")
    items = spans.items()
    types, item_to_type = items.types(lower=lower)
    words = embed(spans.stimulus, model, level="token", lower=lower, **options)

    def of_types(values: np.ndarray) -> np.ndarray:
        pooled = spans.pooled(values)
        means = np.zeros((*pooled.shape[:-2], len(types), pooled.shape[-1]), np.float32)
        np.add.at(means, (..., item_to_type, slice(None)), pooled)
        return means / np.bincount(item_to_type).astype(np.float32)[:, None]

    final = None if words.final is None else of_types(words.final)
    meta = words.meta | {
        "level": "type",
        "stimulus": items.fingerprint(attributes=False),
        "spans": {
            "pooling": spans.pooling,
            "sentences": spans.stimulus.fingerprint(attributes=False),
        },
    }
    vectors = Embeddings(words.model, types, of_types(words.values), final, meta)
    layer_geometry = geometry([values for _, values in vectors.blocks()], None)
    meta["geometry"] = described(layer_geometry, types)
    return Embeddings(words.model, types, vectors.values, final, meta)
