"""What lies near what: by a model's layers, an untrained twin's, word vectors, and words in common."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from brainalign_jax.language import Embeddings, embed, resolve
from brainalign_jax.language.static import read_vectors
from brainalign_jax.stimulus import Stimulus
from brainalign_jax.studies.figurative.pairs import Pairs, length_likeness, overlap, words_of
from brainalign_jax.studies.figurative.scores import nearer, pair_scores
from brainalign_jax.studies.options import Figurative
from brainalign_jax.study.names import UNTRAINED, seed_of, with_seed, without_seed

STATIC = "static:"
MODEL, TWIN, WORD_VECTORS, TEXT = "model", "untrained", "static", "text"
OVERLAP, LENGTH = "overlap", "length"
CENTRINGS = ("mean", "none")
_SHOWN = 60  # characters of a text in a message


class Scorer(NamedTuple):
    """What tells two rewordings apart. name; role: of the four above; pairs: centring -> scores [P, L]."""

    name: str
    role: str
    pairs: dict[str, np.ndarray]


def names_of(
    models: Sequence[str | Embeddings], static: Path | None, plan: Figurative
) -> list[str]:
    """The names of all that is scored with vectors: models, their untrained twins, word vectors."""
    names: list[str] = []
    for model in models:
        if isinstance(model, Embeddings):
            names.append(model.model)
            continue
        names.append(model)
        if role_of(model) == MODEL and resolve(model).kind == "checkpoint":
            twin = UNTRAINED + model
            names += [
                twin if seed == 0 else with_seed(twin, plan.seed + seed)
                for seed in range(plan.untrained_seeds)
            ]
    if static is not None:
        names.append(f"{STATIC}{static}")
    return list(dict.fromkeys(names))


def role_of(name: str) -> str:
    """What a name stands for."""
    return (
        TWIN if name.startswith(UNTRAINED) else WORD_VECTORS if name.startswith(STATIC) else MODEL
    )


def is_twin_of(name: str, model: str) -> bool:
    """Whether a name is of the untrained twin of a model, of whatever seed."""
    return without_seed(name) == UNTRAINED + model


def sentence_vectors(
    texts: tuple[str, ...],
    name: str,
    plan: Figurative,
    *,
    given: Embeddings | None = None,
    bos: str = "auto",
    cache: Path | None = None,
    progress: Callable[[float], None] | bool = False,
) -> Embeddings:
    """A vector a text, in every layer: of a model that reads each alone, or the mean of its words' vectors.

    given: vectors in memory, whose `types` are the texts. Words that a file of word vectors lacks do not
    count.
    """
    if given is not None:
        return _chosen(given, texts)
    if role_of(name) == WORD_VECTORS:
        return _of_words(texts, name)
    stimulus = Stimulus(texts, sentence=np.arange(len(texts)))
    own_seed = seed_of(name)
    vectors = embed(
        stimulus,
        without_seed(name),
        context="sentence",
        level="token",
        pooling=plan.pooling,
        bos=bos,
        seed=plan.seed if own_seed is None else own_seed,
        cache_dir=cache,
        progress=progress,
    )
    return dataclasses.replace(vectors, model=name)


def scorer(vectors: Embeddings, pairs: Pairs) -> Scorer:
    """The scores of all pairs by the cosines of vectors, about their mean and as they are."""
    rows = _chosen(vectors, pairs.texts)
    layers = [layer for _, block in rows.blocks() for layer in block]
    scores = {
        centring: np.stack(
            [pair_scores(layer, pairs, centring=centring) for layer in layers], axis=1
        )
        for centring in CENTRINGS
    }
    return Scorer(vectors.model, role_of(vectors.model), scores)


def text_scorers(pairs: Pairs) -> list[Scorer]:
    """The scores of all pairs by words in common, and by likeness in length."""
    likeness = {OVERLAP: overlap(pairs), LENGTH: length_likeness(pairs)}
    return [
        Scorer(name, TEXT, {"none": nearer(*values)[:, None]}) for name, values in likeness.items()
    ]


def _of_words(texts: Iterable[str], name: str) -> Embeddings:
    words = [words_of(text) for text in texts]
    vocabulary = sorted({word for text in words for word in text})
    known = read_vectors(name.removeprefix(STATIC), vocabulary, missing="zero")
    missing = set(known.missing)
    row = {word: index for index, word in enumerate(vocabulary)}
    values = np.zeros((1, len(words), known.values.shape[1]), np.float32)
    for text, text_words in enumerate(words):
        rows = [row[word] for word in text_words if word not in missing]
        if rows:
            values[0, text] = known.values[rows].mean(axis=0)
    meta = {"family": "static", "n_layers": 0, "level": "token", "unknown_words": len(missing)}
    return Embeddings(name, tuple(texts), values, None, meta)


def _chosen(vectors: Embeddings, texts: tuple[str, ...]) -> Embeddings:
    """The rows of the texts. Raises ValueError for a text without a vector."""
    if vectors.types == texts:
        return vectors
    row = {text: index for index, text in enumerate(vectors.types)}
    lacking = [text for text in texts if text not in row]
    if lacking:
        raise ValueError(
            f"{vectors.model} has no vector of {len(lacking)} of {len(texts)} texts, as "
            f"{lacking[0][:_SHOWN]!r}; give one of each of `Pairs.texts`"
        )
    rows = [row[text] for text in texts]
    final = None if vectors.final is None else vectors.final[rows]
    return dataclasses.replace(
        vectors, types=texts, values=vectors.values[:, rows], final=final, surprisal=None
    )
