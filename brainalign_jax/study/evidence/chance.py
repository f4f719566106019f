"""What P@k a guess reaches, exactly where that can be said: intervals, bands, word frequency.

Three guesses, from blind to sly:

- each query answered at random: hits are binomial with k / candidates;
- the same random ranking for every query of a fold: the tested types among its first k are
  hypergeometric, and folds add up;
- the most frequent words first, whatever was heard. No interval: it is one number, and on a story it is
  far above the uniform chance wherever frequent words are tested.

References: Clopper & Pearson (1934), Biometrika 26:404-413; Benjamini & Hochberg (1995).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import scipy  # scipy.stats is slow to import: it is loaded when it is used

from brainalign_jax.names import check_known
from brainalign_jax.study.score.folds import Split

LEVEL = 0.05  # what is less likely by chance is taken for evidence
_TIE = 1e-6  # float32 rounding of a share or a correlation, less than one hit


class Bounds(NamedTuple):
    """Lower and upper bound, fractions in 0..1, of the shape of what was asked."""

    lower: np.ndarray
    upper: np.ndarray


def score_interval(
    hits: np.ndarray | int, n_items: np.ndarray | int, *, confidence: float = 0.95
) -> Bounds:
    """Clopper-Pearson interval of a score of `hits` out of `n_items` independent queries.

    Exact in that it never covers less than it says. Tested words are not independent where neighbours
    share scans: then the bootstrap over items, or a null distribution, is what counts.

    Raises: ValueError for hits that are no whole number between 0 and n_items.
    """
    hits, n_items = np.broadcast_arrays(np.asarray(hits, float), np.asarray(n_items, float))
    rounded = np.round(hits)
    if (np.abs(hits - rounded) > 1e-6).any() or (hits < 0).any() or (hits > n_items).any():
        raise ValueError(
            f"hits={hits} out of n_items={n_items} must be whole numbers between 0 and n_items: "
            "multiply a fraction by its number of items"
        )
    tail = (1 - confidence) / 2
    with np.errstate(invalid="ignore"):
        lower = np.where(
            rounded == 0, 0, scipy.stats.beta.ppf(tail, rounded, n_items - rounded + 1)
        )
        upper = np.where(
            rounded == n_items, 1, scipy.stats.beta.ppf(1 - tail, rounded + 1, n_items - rounded)
        )
    return Bounds(lower, upper)


def mean_band(values: np.ndarray, weights: np.ndarray, *, confidence: float = 0.95) -> Bounds:
    """Normal interval of weighted means of values [..., T] over words, as if words were independent.

    weights: of the same shape, 0 for a word that is not tested, whose value may be NaN. NaN for fewer than
    two words.
    """
    weights = np.broadcast_to(np.asarray(weights, np.float64), np.shape(values))
    values = np.where(weights > 0, np.asarray(values, np.float64), 0.0)
    count, total = (weights > 0).sum(axis=-1), weights.sum(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = (values * weights).sum(axis=-1) / total
        squares = np.square((values - mean[..., None]) * weights).sum(axis=-1) / np.square(total)
        error = np.where(count > 1, np.sqrt(squares * count / (count - 1)), np.nan)
    half = scipy.stats.norm.isf((1 - confidence) / 2) * error
    return Bounds(mean - half, mean + half)


def guess_band(
    n_items: int, k: np.ndarray | int, n_candidates: int, *, confidence: float = 0.95
) -> Bounds:
    """Where P@k lies, with at least this probability, if every query is answered at random.

    Central interval of the binomial distribution of n_items queries with k / n_candidates each.
    """
    _check_k(k, n_candidates)
    low, high = scipy.stats.binom.interval(confidence, n_items, np.asarray(k) / n_candidates)
    return Bounds(low / n_items, high / n_items)


def constant_guess_band(
    n_items: Sequence[int], k: int, n_candidates: int, *, confidence: float = 0.95
) -> Bounds:
    """As `guess_band`, if all queries of a fold get the same answer: a random ranking of the candidates.

    n_items: distinct types tested in each fold, all of them candidates. Hits of a fold are
    hypergeometric, those of all folds their sum; for k = n_candidates nothing is left to chance.
    """
    _check_k(k, n_candidates)
    if min(n_items) < 0 or max(n_items) > n_candidates:
        raise ValueError(
            f"n_items={tuple(n_items)} must lie between 0 and n_candidates={n_candidates}"
        )
    total = np.ones(1)
    for count in n_items:
        fold = scipy.stats.hypergeom.pmf(np.arange(count + 1), n_candidates, k, count)
        total = np.convolve(total, fold)
    cumulative, tail = np.cumsum(total), (1 - confidence) / 2
    # Rounding must not move a bound by a whole hit.
    low = np.searchsorted(cumulative, tail - 1e-12)
    high = np.searchsorted(cumulative, 1 - tail - 1e-12)
    queries = sum(n_items)
    return Bounds(low / queries, high / queries)


def _check_k(k, n_candidates: int) -> None:
    if np.min(k) < 1 or np.max(k) > n_candidates:
        raise ValueError(f"k={k} must lie between 1 and n_candidates={n_candidates}")


class FrequencyGuess(NamedTuple):
    """P@k [K] of guessing by frequency: mean over tested tokens, and over tested types."""

    tokens: np.ndarray
    types: np.ndarray


def frequency_guess(
    split: Split,
    token_to_type: np.ndarray,
    ks: tuple[int, ...],
    *,
    known: str = "training",
) -> FrequencyGuess:
    """P@k of a guess that ranks all candidates by frequency and never looks at the brain.

    Args:
      split: folds with a leading axis F, as `Problem.folds.outer`. token_to_type: [N].
      ks: of P@k.
      known: what the guess counts: "training" tokens of the fold, in which a held-out type occurs zero
        times, or the tokens of the whole "stimulus" that take part in any fold, as word vectors of a
        trained model know them: vectors of frequent words differ from those of rare ones.

    Ties score their expectation: of m candidates at one frequency each is as likely as any to come
    first. Pooled over the folds; a type is tested once in each fold in which it has tested tokens.

    Raises: ValueError for an unknown `known`.
    """
    check_known("known=", known, ("training", "stimulus"))
    train, test, candidates = (
        np.asarray(x) > 0 for x in (split.train, split.test, split.candidates)
    )
    n_types = candidates.shape[-1]
    everything = np.bincount(token_to_type[(train | test).any(axis=0)], minlength=n_types)
    hits = np.zeros((2, len(ks)))
    totals = np.zeros(2)
    for fit, tested, allowed in zip(train, test, candidates, strict=True):
        counts = everything
        if known == "training":
            counts = np.bincount(token_to_type[fit], minlength=n_types)
        asked, n_tokens = np.unique(token_to_type[tested], return_counts=True)
        competing = np.sort(counts[allowed])
        above = len(competing) - np.searchsorted(competing, counts[asked], side="right")
        level = len(competing) - np.searchsorted(competing, counts[asked], side="left") - above
        chance = np.clip((np.asarray(ks)[:, None] - above) / np.maximum(level, 1), 0, 1)
        chance = chance * allowed[asked]
        hits += chance @ n_tokens, chance.sum(axis=1)
        totals += n_tokens.sum(), len(asked)
    return FrequencyGuess(*(hits / np.maximum(totals, 1)[:, None]))


def chance_rows(
    split: Split, token_to_type: np.ndarray, ks: tuple[int, ...], *, confidence: float = 0.95
) -> pd.DataFrame:
    """Every guess side by side, one row for each k.

    Columns: k, uniform (k / candidates), its binomial band `lower` and `upper` over the tested types,
    `constant_lower` and `constant_upper` of one ranking a fold, and the frequency guess, known from the
    training words (`training_*`) or the whole stimulus (`stimulus_*`), over types and over tokens. All of
    `split` needs a leading fold axis. The number of candidates is that of the smallest fold.
    """
    n_candidates = int((np.asarray(split.candidates) > 0).sum(axis=-1).min())
    tested = [len(np.unique(token_to_type[mask > 0])) for mask in np.asarray(split.test)]
    rows = []
    guesses = {
        known: frequency_guess(split, token_to_type, ks, known=known)
        for known in ("training", "stimulus")
    }
    for index, k in enumerate(ks):
        band = guess_band(sum(tested), k, n_candidates, confidence=confidence)
        constant = constant_guess_band(tested, k, n_candidates, confidence=confidence)
        row = {
            "k": k,
            "uniform": k / n_candidates,
            "lower": float(band.lower),
            "upper": float(band.upper),
            "constant_lower": float(constant.lower),
            "constant_upper": float(constant.upper),
        }
        for known, guess in guesses.items():
            row[f"{known}_types"] = guess.types[index]
            row[f"{known}_tokens"] = guess.tokens[index]
        rows.append(row)
    return pd.DataFrame(rows)


def permutation_p(
    observed: np.ndarray | float, null: np.ndarray, *, shifts: bool = False, tie: float = _TIE
) -> np.ndarray | float:
    """(1 + draws [P] that reach each observed score [R]) / (1 + P); or draws [P, R], of each score its own.

    A draw reaches a score that it equals but for rounding, of up to `tie`: shares of hits are often tied. NaN
    for a score that is no finite number, or one of whose draws is none.
    shifts: the draws are of ever larger shifts in time; p is then no smaller than 1 / `independent_draws`.
    """
    null, scores = np.asarray(null, float), np.ravel(np.asarray(observed, float))
    draws = null if null.ndim == 2 else null[:, None]
    reached = draws >= scores - tie
    p = (1 + reached.sum(axis=0)) / (1 + len(reached))
    if shifts and len(null) > 1:
        p = np.maximum(p, 1 / independent_draws(null))
    p = np.where(np.isfinite(scores) & np.isfinite(draws).all(axis=0), p, np.nan)
    return p.reshape(np.shape(observed)) if np.ndim(observed) else float(p[0])


class Share(NamedTuple):
    """How many p-values are below .05, of how many, with the exact interval."""

    share: float
    lower: float
    upper: float


def rejected_share(p_values: np.ndarray) -> Share:
    """The share of studies whose p [R] is below .05.

    >>> rejected_share([0.01, 0.2, 0.04, 0.8]).share
    0.5
    """
    p_values = np.asarray(p_values, float)
    hits = int((p_values < LEVEL).sum())
    bounds = score_interval(hits, len(p_values))
    return Share(hits / len(p_values), float(bounds.lower), float(bounds.upper))


def floors(values: np.ndarray, null: np.ndarray, *, own_null: bool) -> np.ndarray:
    """What unrelated vectors come to at each place, for values [L] and draws [P, L].

    Where places have nulls of their own, the mean of each over the draws and the value itself, so that these
    are treated alike; zero where they share one, or nothing was drawn.
    """
    if not own_null or not len(null):
        return np.zeros(len(values))
    return np.concatenate([null, np.asarray(values)[None]]).mean(axis=0)


def best_place(values: np.ndarray, null: np.ndarray, *, own_null: bool) -> tuple[int, np.ndarray]:
    """(the place of the best of values [L], what the best of each draw [P, L] would be there [P]).

    The best is what most exceeds the `floors`: raw values would favour the place whose null is highest.
    """
    values, floor = np.asarray(values), floors(values, null, own_null=own_null)
    place = int((values - floor).argmax())
    return place, floor[place] + (null - floor).max(axis=1, initial=-np.inf)


def independent_draws(scores: np.ndarray) -> float:
    """How many independent draws the scores [P] of ever larger shifts are worth, 1 to P.

    Neighbouring shifts of what is smooth in time score alike: P / (1 + 2 sum of autocorrelations), up to the
    first that is not positive. References: Bartlett (1946), Suppl. J. R. Stat. Soc. 8:27-41; Geyer (1992),
    Statistical Science 7:473-483, for where the sum ends.

    >>> independent_draws([0.1, 0.3, 0.2, 0.1, 0.3, 0.2]), independent_draws([0.1, 0.1, 0.1, 0.3, 0.3, 0.3])
    (6.0, 3.0)
    """
    centred = np.asarray(scores, float) - np.mean(scores)
    products = np.correlate(centred, centred, "full")[len(centred) - 1 :]
    if not products[0] > 0:
        return 1.0
    lags = products[1:] / products[0]
    ends = np.flatnonzero(lags <= 0)
    count = len(centred) / (1 + 2 * lags[: ends[0] if len(ends) else None].sum())
    return float(np.clip(count, 1, len(centred)))


def mean_interval(
    values: np.ndarray, *, n_bootstrap: int, confidence: float = 0.95, seed: int = 0
) -> Bounds:
    """Percentile interval of the mean over subjects of values [S, ...], subjects drawn anew."""
    n = len(values)
    drawn = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), n_bootstrap)
    tails = [(1 - confidence) / 2, (1 + confidence) / 2]
    return Bounds(*np.quantile(drawn @ np.asarray(values, float) / n, tails, axis=0))


def adjusted_p(p_values: np.ndarray) -> np.ndarray:
    """p-values adjusted to control the false discovery rate (Benjamini-Hochberg), of the same shape.

    NaN stays NaN and is no test.
    """
    p_values = np.asarray(p_values, float)
    adjusted, known = np.full(p_values.shape, np.nan), ~np.isnan(p_values)
    if known.any():
        adjusted[known] = scipy.stats.false_discovery_control(p_values[known])
    return adjusted
