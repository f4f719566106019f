"""Features of the words at the volumes: a model's layers, and what is known of words without a model."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from brainalign_jax.language import Embeddings, embed, resolve
from brainalign_jax.language.models import checkpoint
from brainalign_jax.names import check_known
from brainalign_jax.neural.readout import TimeCourses
from brainalign_jax.stimulus import Stimulus
from brainalign_jax.studies.options import VoxelEncoding
from brainalign_jax.study.names import UNTRAINED, seed_of, without_seed
from brainalign_jax.study.score.volumes import at_volumes
from brainalign_jax.study.words import GROUPS, token_features

SURPRISAL = "surprisal"
NUISANCES = ("rate", "length", "frequency", "position", SURPRISAL)


@dataclass(frozen=True, eq=False)
class WordVectors:
    """A model's vectors of the words.

    layers: [W, D] each; numbers: which layers they are; surprisal: [W], None where the model gives none.
    """

    model: str
    layers: tuple[np.ndarray, ...]
    numbers: tuple[int, ...]
    surprisal: np.ndarray | None
    fingerprint: str


def word_vectors(
    stimulus: Stimulus, model: str | Embeddings, plan: VoxelEncoding, *, cache: Path | None
) -> WordVectors:
    """The vectors of the words in their context, layer by layer.

    model: a name as `embed` takes it, or vectors in memory of the words or of their types.

    Raises: as `embed`; ValueError for vectors in memory of other words, or layers that there are not.
    """
    if isinstance(model, Embeddings):
        vectors, rows = model, _rows_of(model, stimulus)
    else:
        vectors = embed(
            stimulus,
            without_seed(model),
            context=plan.context,
            window=plan.window,
            pooling=plan.pooling,
            level="token",
            seed=plan.seed if seed_of(model) is None else seed_of(model),
            surprisal=SURPRISAL in plan.nuisances and _predicts_words(model),
            cache_dir=cache,
        )
        rows = np.arange(len(stimulus))
    every = [layer for _, block in vectors.blocks() for layer in block]
    numbers = tuple(range(len(every))) if plan.layers is None else plan.layers
    if missing := [number for number in numbers if number >= len(every)]:
        raise ValueError(
            f"{vectors.model} has no layer {missing[0]}: it has {len(every)}, from 0 to {len(every) - 1}"
        )
    surprisal = vectors.surprisal
    return WordVectors(
        model if isinstance(model, str) else model.model,
        tuple(every[number][rows] for number in numbers),
        numbers,
        None if surprisal is None or len(surprisal) != len(stimulus) else surprisal,
        vectors.fingerprint(),
    )


def _rows_of(vectors: Embeddings, stimulus: Stimulus) -> np.ndarray:
    """The row of each word in vectors that were handed in."""
    if vectors.types == stimulus.words:
        return np.arange(len(stimulus))
    place = {word: row for row, word in enumerate(vectors.types)}
    types, index = stimulus.types()
    known = [types[number] if number >= 0 else "" for number in index]
    if missing := [word for word in known if word and word not in place]:
        raise ValueError(
            f"{vectors.model} has no vector of {missing[0]!r} ({len(set(missing))} words lack one): give one "
            "for each word of the data set, or each type"
        )
    if "" in known:
        raise ValueError(
            f"{vectors.model} has no vector of word {known.index('')} "
            f"({stimulus.words[known.index('')]!r}), which is no word type: give one for each word"
        )
    return np.array([place[word] for word in known])


def _predicts_words(model: str) -> bool:
    """Whether the model is trained and causal, so that one pass gives vectors and surprisal."""
    name = without_seed(model)
    if name.startswith(UNTRAINED):
        return False
    spec = resolve(name)
    if spec.kind != "checkpoint":
        return False
    folder = checkpoint.locate(spec.source, weights=True)
    return checkpoint.read_architecture(folder, family=spec.family).causal


def check_nuisances(stimulus: Stimulus, plan: VoxelEncoding) -> None:
    """Raise ValueError for a nuisance that is neither known nor a numeric attribute of the words."""
    attributes = [name for name, values in stimulus.attributes.items() if _numeric(values)]
    for name in plan.nuisances:
        check_known("nuisance", name, (*NUISANCES, *attributes))


def _numeric(values) -> bool:
    return np.asarray(values).dtype.kind in "iuf"


def nuisance_features(
    courses: TimeCourses, vectors: WordVectors, plan: VoxelEncoding
) -> dict[str, np.ndarray]:
    """Nuisance -> [N, K] at the volumes, through the very design of the model's features.

    Words of which a nuisance is not known have its mean.
    """
    stimulus = courses.stimulus
    tokens = token_features(stimulus)
    of_words: dict[str, Sequence[np.ndarray]] = {
        "rate": [np.ones(len(stimulus))],
        "length": [tokens["letters"]],
        "frequency": [tokens["log_frequency"]],
        "position": [tokens[name] for name in GROUPS["position"] if name in tokens],
    }
    if vectors.surprisal is not None:
        of_words[SURPRISAL] = [vectors.surprisal]
    made = {}
    for name in plan.nuisances:
        if name == SURPRISAL and name not in of_words:
            continue
        given = of_words[name] if name in of_words else [stimulus.attributes[name]]
        columns = np.stack([np.asarray(values, np.float64) for values in given], axis=1)
        if name != "rate":
            # About the mean: what all words have in common is the rate.
            columns = columns - np.nanmean(columns, axis=0)
            columns = np.where(np.isfinite(columns), columns, 0.0)
        made[name] = at_volumes(stimulus, courses.times, courses.run, columns, plan)
    return made


def model_features(
    courses: TimeCourses, vectors: WordVectors, plan: VoxelEncoding
) -> list[np.ndarray]:
    """The layers of a model at the volumes, [N, D] each."""
    return [
        at_volumes(courses.stimulus, courses.times, courses.run, layer, plan)
        for layer in vectors.layers
    ]
