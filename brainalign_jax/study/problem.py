"""What a study asks of one recording: which words are trained on, asked for and may be answered."""

import functools
from dataclasses import dataclass

import numpy as np

from brainalign_jax.language import Embeddings
from brainalign_jax.names import check_known
from brainalign_jax.neural.responses import WordResponses
from brainalign_jax.study.fold_arrays import Split, split_arrays
from brainalign_jax.study.folds import Folds, inner_folds, outer_folds
from brainalign_jax.study.methods import METHODS, FoldProblem
from brainalign_jax.study.protocol import Protocol


@dataclass(frozen=True)
class Scoring:
    """What to score: methods, protocol, ks of precision@k, layers (None: all), lower-cased types."""

    methods: tuple[str, ...]
    protocol: Protocol
    ks: tuple[int, ...] = (1, 5, 10, 30, 50, 100)
    layers: tuple[int, ...] | None = None
    lower: bool = False
    seed: int = 0

    def __post_init__(self):
        for name in self.methods:
            check_known("method", name, METHODS)
        if not self.methods:
            raise ValueError(f"no method is given: name one or more of {', '.join(METHODS)}")
        object.__setattr__(self, "methods", tuple(dict.fromkeys(self.methods)))
        if "rsa" in self.methods and self.protocol.n_voxels:
            raise ValueError(
                "the RSA score compares all words at once, so that no words are left to select voxels "
                "by: leave rsa out of the methods, or set n_voxels=0"
            )
        object.__setattr__(self, "ks", tuple(dict.fromkeys(self.ks)))
        if not self.ks or min(self.ks) < 1:
            raise ValueError(f"ks={self.ks} must be one or more positive numbers")


@dataclass(frozen=True, eq=False)
class Problem:
    """The folds of the subjects that share them.

    eligible: [N] tokens that take part. counts: [T] how many there are of each type.
    folds: with a leading fold axis but for its token -> type [N].
    """

    eligible: np.ndarray
    counts: np.ndarray
    folds: FoldProblem
    n_candidates: int

    def trained_words(self, index: int) -> np.ndarray:
        """Training tokens [T] of each word type in a fold."""
        trained = self.folds.token_to_type[self.folds.outer.train[index] > 0]
        return np.bincount(trained, minlength=len(self.counts)).astype(np.float32)

    def fold(self, index: int) -> FoldProblem:
        """One fold of them, without the leading axis."""
        outer, inner, token_to_type = self.folds
        return FoldProblem(
            Split(*(x[index] for x in outer)),
            None if inner is None else Split(*(x[index] for x in inner)),
            token_to_type,
        )


def build_problem(
    responses: WordResponses, embeddings: Embeddings, scoring: Scoring, *, inner: bool = True
) -> Problem:
    """`folds_of` one recording, for a model of the same words.

    Raises: ValueError on words that do not match, and as `folds_of`.
    """
    check_words(responses, embeddings, scoring)
    return folds_of(responses, scoring, inner=inner)


def check_words(responses: WordResponses, embeddings: Embeddings, scoring: Scoring) -> None:
    """Raises: ValueError if the model's word types are not those of the recording, in their order."""
    vocabulary, _ = responses.stimulus.types(lower=scoring.lower)
    if embeddings.types != vocabulary:
        raise ValueError(
            f"the {len(embeddings.types)} word types of {embeddings.model} are not the {len(vocabulary)} "
            f"of subject {responses.subject!r}: embed the same stimulus with the same `lower`"
        )


def folds_of(responses: WordResponses, scoring: Scoring, *, inner: bool = True) -> Problem:
    """Folds, with or without inner ones, and candidates of one recording.

    Raises: ValueError if there are too few words for the folds, or if k or csls_k is above the
    number of candidates.
    """
    protocol = scoring.protocol
    vocabulary, token_to_type = responses.stimulus.types(lower=scoring.lower)
    eligible = responses.valid & (token_to_type >= 0)
    counts = np.bincount(token_to_type[eligible], minlength=len(vocabulary))
    candidates = counts > 0
    n_candidates = int(candidates.sum())
    for name, value in (("k", max(scoring.ks)), ("csls_k", protocol.csls_k)):
        if value > n_candidates:
            raise ValueError(
                f"{name}={value} is above the number of candidate words, {n_candidates}: lower it"
            )
    _, groups = responses.stimulus.types(lower=True)
    outer = outer_folds(responses.stimulus, groups, eligible, protocol, seed=scoring.seed)
    split = functools.partial(split_arrays, token_to_type=token_to_type, queries=protocol.queries)
    arrays = split(outer, candidates=candidates, least=protocol.csls_k)
    inner_arrays = None
    if inner:
        within = inner_folds(responses.stimulus, groups, outer.train, protocol, seed=scoring.seed)
        known = [np.isin(np.arange(len(vocabulary)), token_to_type[mask]) for mask in outer.train]
        # All inner folds at once, so that they have as many query slots as the largest needs.
        flat = split(
            Folds(*(np.concatenate(masks) for masks in zip(*within, strict=True))),
            candidates=np.repeat(known, protocol.n_inner_folds, axis=0),
        )
        inner_arrays = Split(*(part.reshape(len(within), -1, *part.shape[1:]) for part in flat))
    token_to_type = np.maximum(token_to_type, 0).astype(np.int32)
    return Problem(eligible, counts, FoldProblem(arrays, inner_arrays, token_to_type), n_candidates)
