"""Features at the volumes: a model's layers, what is known of words without a model, and other spaces."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from brainalign_jax.files import user_path
from brainalign_jax.language import Embeddings, embed, resolve, surprisal
from brainalign_jax.language.models import checkpoint
from brainalign_jax.names import check_known
from brainalign_jax.neural.formats.text.sidecars import read_confounds
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
    for name in plan.nuisances:
        check_known("nuisance", name, _of_words(stimulus))


def _of_words(stimulus: Stimulus) -> tuple[str, ...]:
    """What is known of words without a model's vectors: `NUISANCES`, and attributes that are numbers."""
    attributes = stimulus.attributes.items()
    return *NUISANCES, *(
        name for name, given in attributes if np.asarray(given).dtype.kind in "iuf"
    )


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
            columns = _about_mean(columns)
        made[name] = at_volumes(stimulus, courses.times, courses.run, columns, plan)
    return made


def _about_mean(columns: np.ndarray) -> np.ndarray:
    columns = columns - np.nanmean(columns, axis=0)
    return np.where(np.isfinite(columns), columns, 0.0)


class FeatureSpace(NamedTuple):
    """Features beside a model's: names of what `nuisance_features` knows, vectors of the words [W, D], or a
    table of the volumes; the others are empty or None.
    """

    name: str
    features: tuple[str, ...] = ()
    layers: tuple[np.ndarray, ...] = ()
    path: Path | None = None

    @property
    def in_place_of(self) -> tuple[str, ...]:
        """The nuisances that it takes the place of: beside them little or nothing of it is left."""
        return (SURPRISAL,) if self.name.startswith(f"{SURPRISAL}:") else self.features


def feature_spaces(
    stimulus: Stimulus,
    models: Sequence[str],
    spaces: Sequence[str | Embeddings],
    plan: VoxelEncoding,
    *,
    cache: Path | None,
) -> list[FeatureSpace]:
    """The spaces that stand beside each model.

    spaces: features of the words by name, several with "+" ("rate+length"); "surprisal:MODEL";
    "volumes:FILE", a
      table with a row a volume; or a model, with "#6" of its layer 6 and else of all its layers side by side.

    Raises: ValueError for more than three, those given twice, and names of nothing.
    """
    names = [space.model if isinstance(space, Embeddings) else space for space in spaces]
    if len(names) > 3:
        raise ValueError(f"{len(names)} spaces beside the model: give three at most")
    if twice := [name for name in names if [*names, *models].count(name) > 1]:
        raise ValueError(
            f"the space {twice[0]!r} is given twice, or is a model of --models: give each once"
        )
    known = _of_words(stimulus)
    made = []
    for name, space in zip(names, spaces, strict=True):
        parts, (kind, _, source) = tuple(name.split("+")), name.partition(":")
        if isinstance(space, Embeddings):
            made.append(FeatureSpace(name, layers=_layers_of(stimulus, space, None, plan, cache)))
        elif all(part in known for part in parts):
            made.append(FeatureSpace(name, features=parts))
        elif kind == SURPRISAL:
            values = surprisal(stimulus, source, context=plan.context, window=plan.window)
            made.append(FeatureSpace(name, layers=(_about_mean(values[:, None]),)))
        elif kind == "volumes":
            made.append(FeatureSpace(name, path=user_path(source, "spaces", "a table of volumes")))
        else:
            base, mark, layer = name.rpartition("#") if "#" in name else (name, "", "")
            if mark and not layer.isdecimal():
                raise ValueError(
                    f"the space {name!r} has no number of a layer behind #: as {base}#6"
                )
            try:
                resolve(without_seed(base))
            except ValueError as error:
                raise ValueError(
                    f"the space {name!r} is neither of features of the words ({', '.join(known)}; several "
                    f"with +), surprisal:MODEL, volumes:FILE, nor a model: {error}"
                ) from error
            number = int(layer) if mark else None
            made.append(FeatureSpace(name, layers=_layers_of(stimulus, base, number, plan, cache)))
    return made


def _layers_of(stimulus, model, number: int | None, plan: VoxelEncoding, cache):
    layers = None if number is None else (number,)
    own = replace(plan, layers=layers, nuisances=())
    return word_vectors(stimulus, model, own, cache=cache).layers


def space_features(
    courses: TimeCourses, space: FeatureSpace, vectors: WordVectors, plan: VoxelEncoding
) -> np.ndarray:
    """The space at the volumes, [N, D]; a table's columns as they are.

    vectors: of the model that it stands beside, whose surprisal it may hold.

    Raises: ValueError for a table of other volumes, and surprisal of a model that gives none.
    """
    if space.path is not None:
        return read_confounds(space.path, None, len(courses.values))[0]
    if space.features:
        made = nuisance_features(courses, vectors, replace(plan, nuisances=space.features))
        if missing := [name for name in space.features if name not in made]:
            raise ValueError(
                f"{vectors.model} gives no {missing[0]}, which the space {space.name!r} asks for: name a "
                f"causal model in its place, as {SURPRISAL}:gpt2"
            )
        return np.concatenate(list(made.values()), axis=1)
    return np.concatenate(model_features(courses, space, plan), axis=1)


def model_features(
    courses: TimeCourses, vectors: WordVectors | FeatureSpace, plan: VoxelEncoding
) -> list[np.ndarray]:
    """The layers of a model at the volumes, [N, D] each."""
    return [
        at_volumes(courses.stimulus, courses.times, courses.run, layer, plan)
        for layer in vectors.layers
    ]
