"""Studies of smooth noise by which `null_p_values` shows what p-values of noise say."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from brainalign_jax.align import rsa
from brainalign_jax.align.rsa import partial_rsa
from brainalign_jax.neural.responses import WordResponses
from brainalign_jax.stimulus import Stimulus
from brainalign_jax.study.evidence.chance import permutation_p, score_interval
from brainalign_jax.study.evidence.confounds import NEAR, confound_rdms, mantel_permutations
from brainalign_jax.study.evidence.draws import draw_nulls
from brainalign_jax.study.options import Scoring
from brainalign_jax.study.protocol import protocol
from brainalign_jax.study.score import preparation, programs
from brainalign_jax.study.score.decoding import LayerVectors
from brainalign_jax.study.score.methods import FoldProblem, method_of
from brainalign_jax.study.score.problem import folds_of, reworded

LEVELS = (0.02, 0.04, 0.05, 0.1, 0.2)
LEAST = 20  # words, and seconds, of the shifts that were drawn up to version 0.2.0
N_DRAWS = 99


class Scorer(NamedTuple):
    """orders: kind -> [P, N] the words in the order of a draw. score: (responses, vectors, all orders, the
    real one first) -> [1 + P, metrics]. floor: the kind whose p is no smaller than 1 / the number of
    independent draws."""

    metrics: tuple[str, ...]
    orders: dict[str, np.ndarray]
    score: Callable
    floor: str = ""


def story(n_words: int, n_runs: int) -> Stimulus:
    """Words that all differ, a word a second."""
    onsets = np.concatenate([np.arange(len(x)) for x in np.array_split(np.arange(n_words), n_runs)])
    run = np.cumsum(onsets == 0)
    return Stimulus.from_words(
        [f"word{i}" for i in range(n_words)], onsets=onsets.astype(float), run=run
    )


def smooth_noise(rng: np.random.Generator, stimulus: Stimulus, width: int, smoothness: float):
    """Noise [N, width] of unit variance, each run by itself."""
    reach = int(np.ceil(5 * smoothness))
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / max(smoothness, 1e-9)) ** 2)
    weights /= np.sqrt((weights**2).sum())
    runs = []
    for label in np.unique(stimulus.run):
        white = rng.standard_normal(((stimulus.run == label).sum() + 2 * reach, width))
        runs.append(np.apply_along_axis(np.convolve, 0, white, weights, "valid"))
    return np.concatenate(runs).astype(np.float32)


def far_shifts(stimulus: Stimulus, n_draws: int) -> np.ndarray:
    """Shifts [P, N] of each run by LEAST words or more, as they were drawn up to version 0.2.0."""
    rng = np.random.default_rng(1)
    drawn = []
    for _ in range(n_draws):
        parts = []
        for label in np.unique(stimulus.run):
            rows = np.flatnonzero(stimulus.run == label)
            least = min(LEAST, len(rows) // 4)
            parts.append(np.roll(rows, int(rng.integers(least, len(rows) - least + 1))))
        drawn.append(np.concatenate(parts))
    return np.stack(drawn)


def decoder(name: str, stimulus: Stimulus, width: int, purge: float, n_draws: int) -> Scorer:
    """P@10 and rank accuracy of a method, with the words moved by each draw."""
    n_words = len(stimulus)
    chosen = protocol("audited", purge=purge, layer_selection="test")
    scoring = Scoring((name,), chosen, (10,))
    method = method_of(name, chosen)
    every = np.ones(n_words, bool)
    empty = WordResponses("noise", np.zeros((n_words, width), np.float32), stimulus, every, {})
    problem = folds_of(empty, scoring, inner=method.uses_inner_folds)
    orders = {"shift_far": far_shifts(stimulus, n_draws)}
    for kind in ("shift", "blocks"):
        draws = draw_nulls(kind, stimulus, every, stimulus.types()[1], n_draws)
        orders[kind] = np.stack([np.argsort(draw.rows) for draw in draws])
    words = np.concatenate([np.arange(n_words)[None], *orders.values()])
    outer, inner, moved = reworded(empty, problem, scoring, words)
    asked = np.asarray(outer.query_mask).sum(axis=(1, 2))[:, None]

    @jax.jit
    def score(source, vectors):
        layers = LayerVectors(vectors[None], None)
        total = 0.0
        for index in range(len(problem.folds.outer.train)):
            folds = FoldProblem(*(_fold(x, index) for x in (outer, inner)), moved)
            factors = None
            if name == "ridge":
                real = problem.fold(index)
                factors = method.factor(source, real)
            options = dict(method=method, k=10, batch=1)
            total += programs.reworded_sums(factors, source, layers, folds, **options)[:, :, 0]
        return total

    def scores(responses, vectors):
        if method.form == "centred":
            responses = preparation.row_centred(responses)
        return np.asarray(score(responses, vectors)) / asked

    return Scorer(("precision_csls", "rank_accuracy"), orders, scores)


def _fold(split, index: int):
    return None if split is None else type(split)(*(x[:, index] for x in split))


def comparison(stimulus: Stimulus, n_draws: int) -> Scorer:
    """Correlation of RDMs, plain and with the distance in time held constant in steps."""
    types = np.arange(len(stimulus))
    held = confound_rdms(stimulus, names=("temporal_distance", *NEAR)).rdms
    orders = {"shift_far": far_shifts(stimulus, n_draws)}
    for kind, name in (("shift", "shifts"), ("blocks", "blocks")):
        orders[kind] = mantel_permutations(stimulus, types, n_draws, kind=name)
    every = np.concatenate([types[None], *orders.values()]).astype(np.int32)

    @jax.jit
    def score(responses, vectors):
        pair = [rsa.rdm(x)[None] for x in (responses, vectors)]

        def correlations_beside(confounds):
            problem = partial_rsa.mantel_problem(*pair, confounds)
            return jax.lax.map(
                lambda order: partial_rsa.permuted_correlations(problem, order)[0, 0], every
            )

        return correlations_beside(held[:0]), correlations_beside(held)

    return Scorer(
        ("rdm", "rdm_partial"),
        orders,
        lambda *both: np.stack([np.asarray(x) for x in score(*both)], axis=1),
        "shift",
    )


def p_values(
    scorer: Scorer, stimulus: Stimulus, smoothness: float, n_studies: int, *, seed: int = 0
) -> dict[str, np.ndarray]:
    """kind -> p-values [S, metrics] of studies of noise."""
    rng = np.random.default_rng((seed, int(10 * smoothness)))
    p_by_kind: dict[str, list] = {kind: [] for kind in scorer.orders}
    for _ in range(n_studies):
        pair = (smooth_noise(rng, stimulus, width, smoothness) for width in (10, 12))
        scores = scorer.score(*pair)
        start = 1
        for kind, orders in scorer.orders.items():
            null = scores[start : start + len(orders)]
            start += len(orders)
            p_by_kind[kind].append(
                [
                    permutation_p(scores[0, i], null[:, i], shifts=kind == scorer.floor)
                    for i in range(scores.shape[1])
                ]
            )
    return {kind: np.array(values) for kind, values in p_by_kind.items()}


def row(p: np.ndarray, **place) -> dict:
    """Shares of studies with a p-value no higher than each of LEVELS, with the exact 95 % interval."""
    shares = {}
    for level in LEVELS:
        hits = int((p <= level + 1e-9).sum())
        bounds = score_interval(hits, len(p))
        shares[str(level)] = [hits / len(p), float(bounds.lower), float(bounds.upper)]
    deciles = np.histogram(p, np.arange(11) / 10 + 1e-9)[0]
    return {**place, "n_studies": len(p), "share": shares, "deciles": deciles.tolist()}


def markdown(rows: list[dict]) -> str:
    """Share of studies with p <= .04, method and metric by smoothness and kind."""
    kinds = ("shift", "shift_far", "blocks")
    lines = ["| method | metric | smooth over | " + " | ".join(kinds) + " |", "|---" * 6 + "|"]
    by_case = {(r["method"], r["metric"], r["smoothness"], r["kind"]): r for r in rows}
    for method, metric, smoothness in dict.fromkeys(key[:3] for key in by_case):
        shares = [by_case[method, metric, smoothness, kind]["share"]["0.04"][0] for kind in kinds]
        told = " | ".join(f"{share:.3f}" for share in shares)
        lines.append(f"| {method} | {metric} | {smoothness:g} words | {told} |")
    return "\n".join(lines)
