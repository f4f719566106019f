"""What a study asks of one recording: which words are trained on, asked for and may be answered."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import jax
import numpy as np

from brainalign_jax.language import Embeddings
from brainalign_jax.neural.inner_products import MARK
from brainalign_jax.neural.responses import WordResponses
from brainalign_jax.study.options import KS, Scoring
from brainalign_jax.study.protocol import Protocol
from brainalign_jax.study.score.folds import Folds, Split, inner_folds, outer_folds, split_arrays
from brainalign_jax.study.score.methods import FoldProblem


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

    def trained_words(self, index: int | slice) -> np.ndarray:
        """Training tokens [T] of each word type in a fold, or [F, T] in a slice of them."""
        if isinstance(index, slice):
            folds = range(len(self.folds.outer.train))[index]
            return np.stack([self.trained_words(fold) for fold in folds])
        trained = self.folds.token_to_type[self.folds.outer.train[index] > 0]
        return np.bincount(trained, minlength=len(self.counts)).astype(np.float32)

    def fold(self, index: int | slice) -> FoldProblem:
        """One fold of them, without the leading axis, or a slice of them."""
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


def check_columns(responses: WordResponses, protocol: Protocol) -> None:
    """Raises: ValueError where the protocol asks for voxels, which inner products do not have."""
    if MARK not in responses.meta:
        return
    asked = {
        "n_voxels": protocol.n_voxels > 0,
        "scaling": protocol.scaling != "none",
        "pca": protocol.pca
        != "none",  # whose axes get their signs, and their number, from the voxels
        "rdm_metric": protocol.rdm_metric in ("spearman", "crossnobis"),
    }
    for field, needs_voxels in asked.items():
        if needs_voxels:
            raise ValueError(
                f"subject {responses.subject!r}: {field}={getattr(protocol, field)} asks for single voxels, "
                "which kernels do not hold: choose another, or score where the recording is"
            )


def check_axes(protocol: Protocol, widths: Sequence[int]) -> None:
    """Raises: ValueError where vector_axes is above the width of every model, and would do nothing."""
    if widths and protocol.vector_axes > max(widths):
        raise ValueError(
            f"vector_axes={protocol.vector_axes} is above the width of the models' vectors, {max(widths)}: "
            "lower it, or 0 for all (--vector_axes)"
        )


def fitting_ks(
    responses: WordResponses, scoring: Scoring, report_k: int
) -> tuple[Scoring, int, str]:
    """The scoring, of whose ks, if they are the default ones, those are left out that are above the words.

    Returns: scoring; report_k, or the largest k that is left; what was left out in a sentence, else "".
    """
    if not scoring.decoders:  # nothing has a k
        return scoring, report_k, ""
    vocabulary, token_to_type = responses.stimulus.types(lower=scoring.lower)
    eligible = responses.valid & (token_to_type >= 0)
    n_candidates = len(np.unique(token_to_type[eligible]))
    left = tuple(k for k in scoring.ks if k <= n_candidates)
    if scoring.ks != KS or left == KS or not left:
        return scoring, report_k, ""
    out = ", ".join(str(k) for k in KS if k not in left)
    said = f"Of precision@k, k = {out} is left out: there are {n_candidates} words to choose from."
    scoring = dataclasses.replace(scoring, ks=left)
    return scoring, report_k if report_k in left else left[-1], said


def folds_of(responses: WordResponses, scoring: Scoring, *, inner: bool = True) -> Problem:
    """Folds, with or without inner ones, and candidates of one recording.

    Where nothing decodes words, folds and ks are of no account: there are two folds of words then.

    Raises: ValueError, naming the subject, if there are too few words for the folds, if k or csls_k is above
    the number of candidates, or if the protocol asks kernels for voxels.
    """
    protocol, ks = scoring.protocol, scoring.ks
    check_columns(responses, protocol)
    if not scoring.decoders:
        folds = {"folds": "shuffled_types", "n_folds": 2, "n_inner_folds": 2, "purge": 0.0}
        protocol, ks, inner = dataclasses.replace(protocol, **folds, csls_k=1), (1,), False
    vocabulary, token_to_type = responses.stimulus.types(lower=scoring.lower)
    eligible = responses.valid & (token_to_type >= 0)
    counts = np.bincount(token_to_type[eligible], minlength=len(vocabulary))
    candidates = counts > 0
    n_candidates = int(candidates.sum())
    if n_candidates < 2:
        raise ValueError(
            f"subject {responses.subject!r} has a response to {n_candidates} words with a letter or digit, "
            f"of {len(vocabulary)} different ones: a study needs two or more, and decoding many"
        )
    for name, value, option in (
        ("k", max(ks), "ks"),
        ("csls_k", protocol.csls_k, "csls_k"),
    ):
        if value > n_candidates:
            raise ValueError(
                f"{name}={value} is above the number of candidate words, {n_candidates}, of subject "
                f"{responses.subject!r}: lower {option} (--{option})"
            )
    _, groups = responses.stimulus.types(lower=True)
    drawn = responses.stimulus, groups
    try:
        outer = outer_folds(*drawn, eligible, protocol, seed=scoring.seed)
        within = inner_folds(*drawn, outer.train, protocol, seed=scoring.seed) if inner else None
    except ValueError as error:
        raise ValueError(f"subject {responses.subject!r}: {error}") from error
    arrays = split_arrays(
        outer,
        token_to_type,
        queries=protocol.queries,
        candidates=candidates,
        least=protocol.csls_k,
    )
    inner_arrays = None
    if within is not None:
        inner_arrays = _inner_arrays(within, outer.train, token_to_type, protocol)
    token_to_type = np.maximum(token_to_type, 0).astype(np.int32)
    return Problem(eligible, counts, FoldProblem(arrays, inner_arrays, token_to_type), n_candidates)


def left_out_words(responses: WordResponses, scoring: Scoring) -> dict[str, object]:
    """Of the words that one recording covers, those that a fold neither trains on nor tests, where any are.

    Returns: {} or subject; words: how many there are in all; purged: of each fold, too near to a tested word;
    not_tested: of each, in its block, but of a type that occurs outside of it.

    Raises: ValueError as `outer_folds`.
    """
    if not scoring.decoders:
        return {}
    protocol, stimulus = scoring.protocol, responses.stimulus
    eligible = responses.valid & (stimulus.types(lower=scoring.lower)[1] >= 0)
    _, groups = stimulus.types(lower=True)
    plain = dataclasses.replace(protocol, purge=0.0, hold_out_types=False)
    used, every = (
        outer_folds(stimulus, groups, eligible, choices, seed=scoring.seed)
        for choices in (protocol, plain)
    )
    lost = {
        "purged": (every.train & ~used.train).sum(axis=1).tolist(),
        "not_tested": (every.test & ~used.test).sum(axis=1).tolist(),
    }
    known = {"subject": responses.subject, "words": int(eligible.sum())}
    return known | lost if any(map(any, lost.values())) else {}


def said_of_left_out(left_out: dict[str, object]) -> list[str]:
    """What `left_out_words` counted, in a sentence; none where nothing is left out."""
    kinds = {
        "purged": "too near to a tested word to train on",
        "not_tested": "in the tested block but of a type that occurs outside of it",
    }
    said = [
        f"{sum(left_out[name]) / len(left_out[name]):,.0f} {why}"
        for name, why in kinds.items()
        if left_out and any(left_out[name])
    ]
    if not said:
        return []
    return [
        f"Of {left_out['words']:,} words of {left_out['subject']} a fold neither trains on nor tests, in the "
        f"mean over folds, {' and '.join(said)}."
    ]


def _inner_arrays(
    within: list[Folds],
    train: np.ndarray,
    token_to_type: np.ndarray,
    protocol: Protocol,
    *,
    least: int = 1,
) -> Split:
    """The inner folds as arrays [F, I, ...]; the words of each outer training set are the candidates."""
    types = np.arange(token_to_type.max() + 1)
    known = [np.isin(types, token_to_type[mask]) for mask in train]
    # All inner folds at once, so that they have as many query slots as the largest needs.
    flat = split_arrays(
        Folds(*(np.concatenate(masks) for masks in zip(*within, strict=True))),
        token_to_type,
        queries=protocol.queries,
        candidates=np.repeat(known, protocol.n_inner_folds, axis=0),
        least=least,
    )
    return Split(*(part.reshape(len(within), -1, *part.shape[1:]) for part in flat))


def words_leave_rows(protocol: Protocol) -> bool:
    """Whether the training rows of every fold are the same whatever words are at them."""
    drawn = protocol.inner_shuffle and protocol.folds != "shuffled_runs"
    return protocol.folds != "shuffled_types" and not drawn


def reworded(
    responses: WordResponses, problem: Problem, scoring: Scoring, words: np.ndarray
) -> FoldProblem:
    """The folds of a problem with other words at its tokens; leaves [P, F, ...], token_to_type [P, N].

    words: [P, N] the token whose word each token takes, a permutation of the eligible ones.

    The training rows stay (see `words_leave_rows`); which words are tested, and in which inner folds, is
    worked out anew. A fold without a word to test asks for none.
    """
    protocol, stimulus, eligible = scoring.protocol, responses.stimulus, problem.eligible
    _, token_to_type = stimulus.types(lower=scoring.lower)
    _, groups = stimulus.types(lower=True)
    inner = problem.folds.inner is not None
    folds = []
    for order in words:
        options = dict(seed=scoring.seed, may_be_empty=True)
        outer = outer_folds(stimulus, groups[order], eligible, protocol, **options)
        within = []
        if inner:
            within = inner_folds(stimulus, groups[order], outer.train, protocol, **options)
        folds.append((outer, within))

    def slots(of_draws: list[list[Folds]]) -> int:
        """Queries of the largest fold of all draws, so that all have arrays of one shape."""
        tests = [
            token_to_type[order][mask] if protocol.queries == "types" else np.flatnonzero(mask)
            for order, several in zip(words, of_draws, strict=True)
            for fold in several
            for mask in fold.test
        ]
        return max(len(np.unique(tested)) for tested in tests)

    least = max(protocol.csls_k, slots([[outer] for outer, _ in folds]))
    most = slots([within for _, within in folds]) if inner else 1
    problems = []
    for order, (outer, within) in zip(words, folds, strict=True):
        moved = token_to_type[order]
        arrays = split_arrays(
            outer, moved, queries=protocol.queries, candidates=problem.counts > 0, least=least
        )
        inside = _inner_arrays(within, outer.train, moved, protocol, least=most) if inner else None
        problems.append(
            FoldProblem(_small(arrays), _small(inside), np.maximum(moved, 0, dtype=np.int32))
        )
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *problems)
    return FoldProblem(
        _with_rows(stacked.outer, problem.folds.outer, len(words)),
        _with_rows(stacked.inner, problem.folds.inner, len(words)),
        stacked.token_to_type,
    )


def _small(split: Split | None) -> Split | None:
    """The split with its masks over words as bits, and without training rows: there may be many."""
    if split is None:
        return None
    masks = dict(test=split.test > 0, candidates=split.candidates > 0)
    return split._replace(train=np.zeros(0), **masks)


def _with_rows(split: Split | None, real: Split | None, n_draws: int) -> Split | None:
    """The split of many draws with the training rows of the real one, as a view."""
    if split is None:
        return None
    return split._replace(train=np.broadcast_to(real.train, (n_draws, *real.train.shape)))
