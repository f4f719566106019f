"""Null draws: recordings that know nothing of the words, made of the real ones.

Every draw keeps what makes noise score (smoothness in time, spread of frequencies, the model's own
geometry) and breaks the pairing of responses and words. All subjects share a draw, as they share the
words: a group's null then has the dependence between subjects that the real scores have. So it is where
subjects lack different words, too: a draw is of the words that anybody has, and who lacks one passes it over.
With draws of each subject's own words, six people with one noise, each without other 10 % of the words, had
p < .05 in 15 % of studies.

Shifts are drawn from the whole circle of each run, none and the shortest ones among them. Where noise is
smooth, scores at neighbouring shifts are alike: a study whose noise happens to fit the words at no shift
fits them at the shortest ones as well, and without these in the null nothing is left that scores as
high. With shifts of 20 s and more alone, noise that is smooth over 2.5 words had p <= .04 in 5 to 8 % of
studies; with the whole circle, a group in which the study itself is one of equals, in 3 to 5 %
(benchmarks/null_p_values.py). The price is paid by short recordings of one run, where a response that lasts
for seconds scores at the shortest shifts, too.

References: Hemerik & Goeman (2018), TEST 27:811-825, for p-values from random members of a group;
Good (2005), Permutation, Parametric, and Bootstrap Tests of Hypotheses; Winkler et al. (2015), NeuroImage
123:253-268, for permutations within and of whole blocks.
"""

from typing import NamedTuple

import numpy as np

from brainalign_jax.names import check_known
from brainalign_jax.stimulus import Stimulus
from brainalign_jax.study.evidence.surrogate_noise import surrogate_values
from brainalign_jax.study.options import NULLS as KINDS

_BLOCK = 30.0  # seconds


class Draw(NamedTuple):
    """One null draw. Exactly one is set.

    types: [T] the word type whose vector each type takes. rows: [N] the token whose response each token
    takes. noise: seed of a noise recording.
    """

    types: np.ndarray | None = None
    rows: np.ndarray | None = None
    noise: int | None = None


def default_kind(stimulus: Stimulus) -> str:
    """ "shift" for timed words, "blocks" for items in runs (sentences in passages), else "items"."""
    if stimulus.onsets is not None:
        return "shift"
    return "items" if stimulus.run is None else "blocks"


def draw_nulls(
    kind: str,
    stimulus: Stimulus,
    eligible: np.ndarray,
    token_to_type: np.ndarray,
    n_draws: int,
    *,
    seed: int = 0,
    among: np.ndarray | None = None,
) -> list[Draw]:
    """`n_draws` null draws for the eligible tokens [N].

    kind: "items", the word types exchange their vectors; "shift", the responses of each run move against
      its words in a circle, by any number of words; "blocks", pieces of 30 s (or whole runs, where words
      have no onsets) change places; "noise", a recording of smooth noise.
    token_to_type: [N].
    among: [N] tokens that any subject has, the eligible ones with them. Draws are of these and pass over
      what a subject lacks, so that subjects who lack different words share a draw; None: the eligible ones.

    Draw i is the same whatever n_draws. Raises: ValueError for an unknown kind, or where the words leave
    nothing to shift or exchange.
    """
    check_known("null", kind, KINDS)
    if kind == "noise":
        return [Draw(noise=int(_rng(seed, i).integers(2**31))) for i in range(n_draws)]
    if kind == "items":
        n_types = int(token_to_type.max()) + 1
        used = np.unique(token_to_type[eligible])
        draws = []
        for i in range(n_draws):
            draws.append(Draw(types=within(_rng(seed, i).permutation(n_types), used)))
        return draws
    circle = eligible if among is None else among
    pieces = _runs(stimulus, circle) if kind == "shift" else _blocks(stimulus, circle)
    order, draws = np.concatenate(pieces), []
    for i in range(n_draws):
        rows = np.arange(len(stimulus))
        if kind == "shift":
            rows[order] = _shifted(pieces, seed, i)
        else:
            rows[order] = _exchanged(pieces, _rng(seed, i))
        draws.append(Draw(rows=within(rows, np.flatnonzero(eligible))))
    return draws


def within(permutation: np.ndarray, used: np.ndarray) -> np.ndarray:
    """The permutation [T] among the used places alone: others are passed over, and stay.

    A uniform permutation gives a uniform one, and subjects who lack a few words share the rest.
    """
    among = np.isin(np.arange(len(permutation)), used)
    moved = np.where(among, permutation, np.arange(len(permutation)))
    while not among[moved[used]].all():
        moved[used] = np.where(among[moved[used]], moved[used], permutation[moved[used]])
    return moved


def _rng(seed: int, index: int) -> np.random.Generator:
    return np.random.default_rng((seed, index, 0x6E756C6C))


def _runs(stimulus: Stimulus, eligible: np.ndarray) -> list[np.ndarray]:
    """Eligible tokens of each run, in order."""
    rows = np.flatnonzero(eligible)
    if stimulus.run is None:
        return [rows]
    return [rows[stimulus.run[rows] == run] for run in dict.fromkeys(stimulus.run[rows].tolist())]


def _shifted(runs: list[np.ndarray], seed: int, index: int) -> np.ndarray:
    """Each run turned by a step of its own: all steps of its circle come once before any comes again."""
    moved = []
    for number, rows in enumerate(runs):
        if len(rows) < 4:
            raise ValueError(
                f"a run of {len(rows)} words leaves nothing to shift: choose null=blocks or items"
            )
        cycle, place = divmod(index, len(rows))
        rng = np.random.default_rng((seed, cycle, number, 0x6E756C6C))
        moved.append(np.roll(rows, int(rng.permutation(len(rows))[place])))
    return np.concatenate(moved)


def _blocks(stimulus: Stimulus, eligible: np.ndarray) -> list[np.ndarray]:
    """Runs, cut into pieces of 30 s where words have onsets."""
    runs = _runs(stimulus, eligible)
    if stimulus.onsets is not None:
        cut = []
        for rows in runs:
            piece = ((stimulus.onsets[rows] - stimulus.onsets[rows[0]]) // _BLOCK).astype(int)
            cut += [rows[piece == block] for block in np.unique(piece)]
        runs = cut
    if len(runs) < 4:
        raise ValueError(f"{len(runs)} blocks leave nothing to exchange: choose another null")
    return runs


def _exchanged(blocks: list[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    return np.concatenate([blocks[i] for i in rng.permutation(len(blocks))])


def moved_rows(
    values: np.ndarray, draw: Draw, stimulus: Stimulus, eligible: np.ndarray
) -> np.ndarray:
    """Responses [N, R] in the order of a draw, or noise with their autocorrelation and covariance."""
    if draw.rows is not None:
        return values[draw.rows]
    noise = surrogate_values(values, stimulus.run, eligible, kind="noise", random_state=draw.noise)
    return noise.astype(values.dtype, copy=False)
