"""Word vectors without a language model: what words' places, rates, lengths and frequencies alone score.

Each control is an `Embeddings` of one layer, and goes through the whole pipeline as a model does. A
model whose score no control reaches has something that they lack; the reverse explains the score.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence

import numpy as np

from brainalign_jax.language import Embeddings
from brainalign_jax.names import check_known, unknown
from brainalign_jax.neural.readers import Dataset
from brainalign_jax.stimulus import Stimulus
from brainalign_jax.study.words import (
    GROUPS,
    UNTIMED_NOTE,
    is_isolated,
    language_frequencies,
    token_features,
)

NUISANCE, SHIPPED = "nuisance:", "shipped:"
AUTOCORRELATED = "autocorrelated"
LANGUAGE_FREQUENCY = "language_frequency"
NAMES = tuple(f"{NUISANCE}{name}" for name in ("all", *GROUPS, AUTOCORRELATED))
DEFAULT_WIDTH = 4.0  # words: as many as share a scan of 2 s in a story read at 0.5 s a word
_MOST_AXES = 2048


def is_control(name: str) -> bool:
    """Whether a model's name is one of `control_vectors`, not of `language.embed`."""
    return name.startswith((NUISANCE, SHIPPED))


def control_names(dataset: Dataset) -> tuple[str, ...]:
    """The names that `control_vectors` knows for a data set."""
    by_language = [f"{NUISANCE}{LANGUAGE_FREQUENCY}"] * bool(dataset.stimulus.known_language())
    return (*NAMES, *by_language, *(f"{SHIPPED}{name}" for name in dataset.vectors))


def control_vectors(name: str, dataset: Dataset, *, lower: bool, seed: int = 0) -> Embeddings:
    """The vectors of a control by name.

    name: "nuisance:all", "nuisance:" and a group of `word_features.GROUPS`;
        "nuisance:autocorrelated", or "nuisance:autocorrelated:8" for another width in words;
        "nuisance:language_frequency", how often the words are used in their language;
        "shipped:" and a name of dataset.vectors.
    lower: word types without regard to case, as everywhere in the study.

    Raises: ValueError for an unknown name, with those that are known, or for a control that makes no
    sense for these words.
    """
    kind, _, rest = name.partition(":")
    what, _, width = rest.partition(":")
    if kind == "shipped" and rest in dataset.vectors:
        return shipped_vectors(dataset, rest, lower=lower)
    if kind == "nuisance" and what == AUTOCORRELATED:
        try:
            width = float(width) if width else DEFAULT_WIDTH
        except ValueError:
            raise ValueError(
                f"{name!r} has the width {width!r}; give words, as {NUISANCE}{AUTOCORRELATED}:8"
            ) from None
        return autocorrelated_vectors(
            dataset.stimulus, lower=lower, width=width, random_state=seed, name=name
        )
    groups = {"all": tuple(GROUPS), LANGUAGE_FREQUENCY: ("frequency",)}
    groups |= {group: (group,) for group in GROUPS}
    if kind == "nuisance" and rest in groups:
        counted = language_frequencies(dataset.stimulus) if rest == LANGUAGE_FREQUENCY else None
        return nuisance_vectors(
            dataset.stimulus,
            lower=lower,
            features=groups[rest],
            frequencies=counted,
            random_state=seed,
            name=name,
        )
    known = control_names(dataset)
    raise ValueError(
        unknown("control", name, known, of=dataset.name, listing="controls.control_names(dataset)")
    )


def nuisance_vectors(
    stimulus: Stimulus,
    *,
    lower: bool,
    features: Sequence[str] = tuple(GROUPS),
    frequencies: Mapping[str, float] | None = None,
    tuning: int = 8,
    random_state: int = 0,
    name: str | None = None,
) -> Embeddings:
    """Nuisance features of the word types [1, T, D], each standardised over the types.

    tuning: every feature becomes the responses of so many Gaussian tuning curves, evenly spaced over
        its middle 96 %: words of like values then have like vectors by cosine, which one column cannot
        say but for its sign. 0 leaves the standardised columns, fit for encoding only.
    random_state: of the noise, a thousandth of a curve's height, that breaks ties at random: words of
        equal features would have equal vectors, all of the same middling rank and never among the first.
    features: groups of `word_features.GROUPS`. A feature is the mean over a type's tokens; those that
    the stimulus does not have, or that are the same for all types, are left out and named in
    meta["notes"]. Isolated words have no position, rate or sentence.

    Raises: ValueError for an unknown group, a tuning of one or below zero, or if no feature is left.
    """
    for group in features:
        check_known("feature", group, GROUPS)
    if not features:
        raise ValueError(f"no feature is given: name some of {', '.join(GROUPS)}")
    if tuning < 0 or tuning == 1:
        raise ValueError(f"tuning is {tuning}; give 0, or at least two curves a feature")
    name = name or NUISANCE + ("all" if set(features) == set(GROUPS) else "+".join(features))
    types, token_to_type = _types(stimulus, lower)
    known = token_features(stimulus, frequencies=frequencies)
    columns, kept, notes = [], [], []
    for feature in dict.fromkeys(feature for group in features for feature in GROUPS[group]):
        if feature not in known:
            notes.append(f"{feature}: not known for these words")
            continue
        column = _type_means(known[feature][:, None], token_to_type, len(types))[:, 0]
        column = column - column.mean()
        if np.abs(column).max() <= 1e-9 * max(1.0, np.abs(known[feature]).max()):
            notes.append(f"{feature}: the same for all word types")
            continue
        columns.append(column / column.std())
        kept.append(feature)
    if is_isolated(stimulus):
        notes.append(UNTIMED_NOTE)
    if not columns:
        raise ValueError(f"{name!r} has no feature left for these words ({'; '.join(notes)})")
    values = np.stack(columns, axis=1)
    if tuning:
        values = _tuned(values, tuning)
        values += 1e-3 * np.random.default_rng(random_state).standard_normal(values.shape)
    details = {
        "features": kept,
        "tuning": int(tuning),
        "seed": int(random_state) if tuning else None,
        "notes": notes,
        "frequencies": "stimulus" if frequencies is None else "external table",
    }
    return _embeddings(name, "nuisance", values, types, stimulus, lower, details)


def autocorrelated_vectors(
    stimulus: Stimulus,
    *,
    lower: bool,
    width: float = DEFAULT_WIDTH,
    random_state: int = 0,
    name: str | None = None,
) -> Embeddings:
    """The orthogonal autocorrelated sequence of Hadidi et al. (OASM), averaged over types: [1, T, D].

    The identity matrix over the words, blurred by a Gaussian within each block (sentences where they
    hold more than one word, else runs, else the text): words near one another in a block have similar
    vectors, words of different blocks have orthogonal ones, and nothing of what the words mean is in
    them. They score where neighbours fall on both sides of a split.

    width: standard deviation of the Gaussian in words.
    random_state: of the projection to 2,048 axes where there are more words: inner products are kept
        to a few per cent then. With fewer words there are as many axes as words, and nothing is drawn.

    Raises: ValueError for a width that is not positive, or isolated words without runs: the
    order of isolated words in a file is no order of presentation.
    Reference: Hadidi et al. 2025, Illusions of alignment between large language models and brains
    emerge from fragile methods and overlooked confounds.
    """
    if not (width > 0 and np.isfinite(width)):
        raise ValueError(f"width is {width}; give a positive number of words")
    types, token_to_type = _types(stimulus, lower)
    rows = np.flatnonzero(token_to_type >= 0)
    blocks, labels = _blocks(stimulus)
    # Blocks are stretches of the text: a label that comes back later is another block.
    block = np.cumsum(np.r_[False, (labels[rows][1:] != labels[rows][:-1]).any(axis=1)])
    vectors = np.zeros((len(types), len(rows)))
    counts = np.bincount(token_to_type[rows], minlength=len(types))
    for label in range(block[-1] + 1):
        inside = np.flatnonzero(block == label)
        lag = inside[:, None] - inside
        blurred = np.exp(-0.5 * (lag / width) ** 2)
        # Each axis is a blurred impulse of unit mass, cut off at the block's ends.
        blurred /= blurred.sum(axis=0)
        share = np.zeros((len(types), len(inside)))
        np.add.at(share, token_to_type[rows[inside]], blurred)
        vectors[:, inside] = share
    vectors /= counts[:, None]
    n_axes = vectors.shape[1]
    if n_axes > _MOST_AXES:
        rng = np.random.default_rng(random_state)
        projection = rng.standard_normal((n_axes, _MOST_AXES)) / np.sqrt(_MOST_AXES)
        vectors = vectors @ projection
    details = {
        "width": float(width),
        "blocks": blocks,
        "n_blocks": int(block[-1] + 1),
        "projected_from": n_axes if n_axes > _MOST_AXES else None,
        "seed": int(random_state) if n_axes > _MOST_AXES else None,
    }
    name = name or f"{NUISANCE}{AUTOCORRELATED}:{width:g}"
    return _embeddings(name, "nuisance", vectors, types, stimulus, lower, details)


def shipped_vectors(dataset: Dataset, name: str, *, lower: bool) -> Embeddings:
    """Vectors that a release ships with its words, as "glove42B_300" of pereira180: [1, T, D].

    A type's vector is the mean over its words. Raises: ValueError for an unknown name.
    """
    check_known("vectors", name, dataset.vectors, of=dataset.name)
    types, token_to_type = _types(dataset.stimulus, lower)
    values = np.asarray(dataset.vectors[name], np.float64).reshape(len(dataset.stimulus), -1)
    values = _type_means(values, token_to_type, len(types))
    return _embeddings(
        SHIPPED + name, "static", values, types, dataset.stimulus, lower, {"dataset": dataset.name}
    )


def _tuned(values: np.ndarray, n_curves: int) -> np.ndarray:
    """Gaussian tuning curves [T, D * n_curves] of features [T, D]; values beyond the ends are at the ends."""
    low, high = np.quantile(values, (0.02, 0.98), axis=0)
    low, high = np.where(low < high, (low, high), (values.min(axis=0), values.max(axis=0)))
    centres = np.linspace(low, high, n_curves)  # [n_curves, D]
    width = centres[1] - centres[0]
    lag = np.clip(values, low, high)[:, :, None] - centres.T
    return np.exp(-0.5 * (lag / width[:, None]) ** 2).reshape(len(values), -1)


def _types(stimulus: Stimulus, lower: bool) -> tuple[tuple[str, ...], np.ndarray]:
    types, token_to_type = stimulus.types(lower=lower)
    if not types:
        raise ValueError("no word of the stimulus has a letter or digit: there are no types")
    return types, token_to_type


def _type_means(values: np.ndarray, token_to_type: np.ndarray, n_types: int) -> np.ndarray:
    """Means [T, D] of the tokens' rows [N, D]; tokens that are no words are left out."""
    rows = token_to_type >= 0
    total = np.zeros((n_types, values.shape[1]))
    np.add.at(total, token_to_type[rows], values[rows])
    return total / np.bincount(token_to_type[rows], minlength=n_types)[:, None]


def _blocks(stimulus: Stimulus) -> tuple[str, np.ndarray]:
    """(kind of block, labels [N, 2]: words with equal labels are in one block)."""
    zeros = np.zeros(len(stimulus), np.int64)
    run = zeros if stimulus.run is None else stimulus.run
    sentences = stimulus.sentence
    if sentences is not None and len(np.unique(sentences)) < len(stimulus):
        return "sentence", np.stack([run, sentences], axis=1)
    if stimulus.run is None and stimulus.onsets is None:
        raise ValueError(
            "an autocorrelated sequence over blocks of a run needs words with run labels"
            + (f"; {UNTIMED_NOTE}" if is_isolated(stimulus) else "")
        )
    return "text" if stimulus.run is None else "run", np.stack([run, run], axis=1)


def _embeddings(
    name: str,
    family: str,
    values: np.ndarray,
    types: tuple[str, ...],
    stimulus: Stimulus,
    lower: bool,
    details: dict,
) -> Embeddings:
    values = np.asarray(values, np.float32)
    weights = hashlib.sha256(json.dumps(list(types)).encode())
    weights.update(np.ascontiguousarray(values, "<f4"))
    meta = {
        "kind": "control",
        "source": name,
        "level": "type",
        "lower": bool(lower),
        "stimulus": stimulus.fingerprint(attributes=False),
        "family": family,
        "n_params": None,
        "n_layers": 0,
        "weights": weights.hexdigest(),
        "seed": None,
        "context": "word",
        **details,
    }
    return Embeddings(name, types, values[None], None, meta)
