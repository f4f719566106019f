"""How often the audited protocol finds what is there, and what is not: power and false-positive rate.

Each simulated study is a short story that some subjects read. Their voxels respond to the vectors of one
layer of a model (`strength` times the noise's standard deviation), through the haemodynamic response; with
strength zero there is nothing to find. The study asks for the p-value of its best layer, corrected over
layers, from circular shifts of the recording through the whole pipeline.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats
from tqdm import tqdm

from brainalign_jax import __version__
from brainalign_jax.files import output_folder, remove_leftovers
from brainalign_jax.language import Embeddings
from brainalign_jax.neural.readout import Processing, word_responses
from brainalign_jax.neural.recording import BoldRecording
from brainalign_jax.neural.responses import WordResponses
from brainalign_jax.neural.simulate import schedule_runs, simulate_bold
from brainalign_jax.stimulus import Stimulus
from brainalign_jax.studies.checks.noise import make_story, story_vectors
from brainalign_jax.study.computation import Computation
from brainalign_jax.study.evidence.chance import LEVEL, permutation_p, rejected_share
from brainalign_jax.study.evidence.nulls import NullPlan, score_nulls
from brainalign_jax.study.protocol import protocol
from brainalign_jax.study.registry import DEFAULT, check_decoders
from brainalign_jax.study.results import read_cell, write_cell
from brainalign_jax.study.score import sweep

COLUMNS = ("strength", "method", "metric", "n_studies", "share", "lower", "upper", "mean_score")


def power(
    strengths: Sequence[float] = (0.0, 0.1, 0.2, 0.4),
    *,
    n_studies: int = 50,
    n_null_studies: int | None = None,
    methods: Sequence[str] = DEFAULT,
    n_draws: int = 99,
    seed: int = 0,
    cells: str | Path | None = None,
    show: bool = False,
    computation: Computation | None = None,
    **design,
) -> pd.DataFrame:
    """Share of studies with p < .05 at each strength and method, with COLUMNS.

    At strength 0 it is the false-positive rate, else the power; lower and upper: its exact 95 % interval.
    With exact p-values the false-positive rate is `exact_rate(n_draws)`, or less where scores are tied.
    metric: P@10 by CSLS, or rank accuracy, which uses all ranks. n_null_studies: at strength 0, where a
    small share is to be told from another; as many as elsewhere if None. design: of `simulated_study`. cells:
    folder where the p-values of each finished study are kept, and read again.

    Raises: ValueError where so few draws give no p below .05.
    """
    check_decoders(methods, "the power check")
    if not exact_rate(n_draws):
        raise ValueError(f"n_draws={n_draws} give no p below {LEVEL}: draw 20 or more")
    if cells is not None:
        cells = output_folder(cells, "cells")
        remove_leftovers(cells)
    scored = []
    counts = [n_studies if strength else n_null_studies or n_studies for strength in strengths]
    with tqdm(total=sum(counts), desc="simulated studies", unit="study", disable=not show) as bar:
        for strength, count in zip(strengths, counts, strict=True):
            for index in range(count):
                path = _cell(cells, strength, seed + index, methods, n_draws, design)
                p = read_cell(path)
                if p is None:
                    study = simulated_study(strength, seed=seed + index, **design)
                    options = dict(seed=seed + index, computation=computation)
                    p = p_values(*study, methods, n_draws=n_draws, **options)
                    if path is not None:
                        write_cell(p, path)
                scored.append(p.assign(strength=strength))
                bar.update()
    rows = pd.concat(scored, ignore_index=True)
    lines = []
    for (strength, method, metric), part in rows.groupby(
        ["strength", "method", "metric"], sort=False
    ):
        share = rejected_share(part["p"])
        lines.append((strength, method, metric, len(part), *share, part["score"].mean()))
    return pd.DataFrame(lines, columns=list(COLUMNS))


def _cell(cells, strength, seed, methods, n_draws, design) -> Path | None:
    if cells is None:
        return None
    parts = [__version__, float(strength), seed, list(methods), n_draws, sorted(design.items())]
    return cells / f"{hashlib.sha256(json.dumps(parts).encode()).hexdigest()}.cell"


def simulated_study(
    strength: float,
    *,
    n_words: int = 360,
    n_types: int = 200,
    n_subjects: int = 2,
    n_voxels: int = 40,
    width: int = 24,
    word_duration: float = 1.0,
    autocorrelation: float = 0.7,
    seed: int = 0,
) -> tuple[list[WordResponses], Embeddings]:
    """(responses of the subjects, a model of two layers): its layer 1 is in the brain.

    Words share their vectors' sentences, voxels their noise from volume to volume. strength: standard
    deviation of the response over that of the noise.
    """
    story = make_story(n_words, n_words, n_types, seed=seed)
    schedule = schedule_runs(n_words, n_runs=1, word_duration=word_duration)
    stimulus = Stimulus.from_words(
        story.words, onsets=schedule.onsets, sentence=story.sentence, run=schedule.word_run
    )
    layers = np.stack([story_vectors(story, stimulus, width, seed=s) for s in (seed, seed + 10**6)])
    types, token_to_type = stimulus.types(lower=False)
    planted = layers[1] - layers[1].mean(axis=0)
    rng = np.random.default_rng((seed, 7))
    responses = []
    for index in range(n_subjects):
        bold = simulate_bold(
            planted[token_to_type],
            rng.standard_normal((width, n_voxels)),
            schedule,
            snr=strength,
            rng=rng,
            autocorrelation=autocorrelation,
            drift=0.0,
        )
        recording = BoldRecording(
            f"S{index}", bold, schedule.volume_times, schedule.volume_run, source="simulation"
        )
        responses.append(word_responses(recording, stimulus, Processing(), meta={}))
    meta = {"family": "simulated", "n_params": None, "n_layers": 1, "weights": f"seed {seed}"}
    return responses, Embeddings("planted", types, layers.astype(np.float32), None, meta)


def p_values(
    responses: Sequence[WordResponses],
    model: Embeddings,
    methods: Sequence[str],
    *,
    n_draws: int,
    k: int = 10,
    seed: int = 0,
    kind: str = "shift",
    computation: Computation | None = None,
) -> pd.DataFrame:
    """method, metric, score, p: best layer in the mean over subjects, against the best of each draw.

    kind: of the draws; "items" for words that are isolated.
    """
    chosen = protocol("audited", timed=kind != "items", layer_selection="test")
    scoring = sweep.Scoring(tuple(methods), chosen, (k,), seed=seed)
    rows = sweep.score_subjects("simulation", responses, model, scoring, computation=computation)
    nulls = score_nulls(
        "simulation",
        responses,
        model,
        scoring,
        NullPlan(kind, n_draws, seed, hold_alpha=kind == "items"),
        k=k,
        computation=computation,
    )
    rows = rows[(rows["fold"] == -1) & rows["metric"].isin(nulls["metric"].unique())]
    keys = ["method", "metric"]
    real = rows.groupby([*keys, "layer"])["value"].mean().groupby(keys).max()
    null = nulls.groupby([*keys, "draw", "layer"])["value"].mean().groupby([*keys, "draw"]).max()
    lines = []
    for place, score in real.items():
        lines.append((*place, score, permutation_p(score, null.loc[place].to_numpy())))
    return pd.DataFrame(lines, columns=["method", "metric", "score", "p"])


def exact_rate(n_draws: int) -> float:
    """Share of exact p-values, multiples of 1 / (1 + n_draws), that are below .05: .04 with 99 draws."""
    p = np.arange(1, n_draws + 2) / (n_draws + 1)
    return float((p < LEVEL).sum() / (n_draws + 1))


def false_positive_interval(
    n_studies: int, n_draws: int, *, confidence: float = 0.95
) -> tuple[float, float]:
    """Where the share of p < .05 lies, if p-values are exact, in so many studies."""
    low, high = stats.binom.interval(confidence, n_studies, exact_rate(n_draws))
    return low / n_studies, high / n_studies
