"""Would noise have scored that too? The whole pipeline on recordings that know nothing of the words.

The recordings are written as Harry Potter files and read like real ones: the words' timing, the scanner,
the kernel. Voxels are autoregressive noise; a word's vector is one of its own plus half a vector of its
sentence, as contextual vectors share their sentence. Nothing ties the two but time.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from brainalign_jax.files import output_folder, write_parquet
from brainalign_jax.language import Embeddings
from brainalign_jax.neural.readers import open_dataset
from brainalign_jax.neural.simulate import release_schedule, schedule_runs, simulate_harry_potter
from brainalign_jax.stimulus import Stimulus
from brainalign_jax.study.computation import Computation, keep_compiled_programs
from brainalign_jax.study.evidence.nulls import NullPlan, score_nulls
from brainalign_jax.study.protocol import protocol
from brainalign_jax.study.registry import DEFAULT, check_decoders
from brainalign_jax.study.report.wording import number, span
from brainalign_jax.study.results import POOLED
from brainalign_jax.study.score import sweep

COLUMNS = (
    "timing", "width", "protocol", "method", "k", "n_subjects", "score", "score_types", "chance",
    "null_mean", "null_low", "null_high", "n_draws",
)  # fmt: skip


class Story(NamedTuple):
    """words [N] text, sentence [N] numbers; types are word000, word001, ..., "--" is no word."""

    words: tuple[str, ...]
    sentence: np.ndarray


def make_story(
    n_words: int = 5176, n_tokens: int = 4898, n_types: int = 1405, *, seed: int = 0
) -> Story:
    """A text with the counts of the Harry Potter chapter: Zipf's law, sentences of about 13 words.

    n_words: shown; n_tokens: of them with a letter; n_types: different ones. Every type occurs.
    """
    if not n_types <= n_tokens <= n_words:
        raise ValueError(
            f"{n_types} types, {n_tokens} tokens and {n_words} words must not fall in this order"
        )
    rng = np.random.default_rng(seed)
    share = 1 / np.arange(1, n_types + 1)
    drawn = rng.choice(n_types, n_tokens - n_types, p=share / share.sum())
    tokens = rng.permutation(np.concatenate([np.arange(n_types), drawn]))
    words = np.full(n_words, "--", dtype=object)
    places = np.sort(rng.choice(n_words, n_tokens, replace=False))
    words[places] = [f"word{_letters(token)}" for token in tokens]
    ends = np.zeros(n_words, bool)
    stops = np.cumsum(rng.integers(6, 21, n_words))
    ends[stops[stops < n_words]] = True
    return Story(tuple(words.tolist()), np.cumsum(ends))


def _letters(number: int) -> str:
    """A number as letters, so that cleaning leaves it a word."""
    return "".join(chr(ord("a") + int(digit)) for digit in str(number))


def story_vectors(
    story: Story, stimulus: Stimulus, width: int, *, share: float = 0.5, seed: int = 0
) -> np.ndarray:
    """Random vectors [T, width] of the stimulus' types: means over tokens of word + share * sentence.

    stimulus: what the reader made of the story's words; its tokens follow the story's.
    """
    rng = np.random.default_rng((seed, 1))
    types, token_to_type = stimulus.types(lower=False)
    of_type = rng.standard_normal((len(types), width))
    of_sentence = rng.standard_normal((int(story.sentence.max()) + 1, width))
    used = np.flatnonzero(token_to_type >= 0)
    tokens = of_type[token_to_type[used]] + share * of_sentence[story.sentence[used]]
    total = np.zeros((len(types), width))
    np.add.at(total, token_to_type[used], tokens)
    return total / np.bincount(token_to_type[used], minlength=len(types))[:, None]


def check_noise(
    output_dir: str | Path,
    *,
    story: Story | None = None,
    gaps: Sequence[bool] = (False, True),
    widths: Sequence[int] = (512, 1351),
    protocols: Sequence[str] = ("paper", "audited"),
    methods: Sequence[str] = DEFAULT,
    n_subjects: int = 2,
    n_voxels: int = 2000,
    autocorrelation: float = 0.7,
    n_nulls: int = 20,
    k: int = 10,
    csls_k: int | None = None,
    n_folds: int | None = None,
    seed: int = 0,
    computation: Computation | None = None,
) -> pd.DataFrame:
    """Score noise under both protocols; rows with COLUMNS, also written to noise.parquet.

    gaps: runs that follow one another without a gap, as in the release, or with 28.5 s between them.
    widths: of the vectors. n_nulls: further draws of the same pipeline (circular shifts), for the audited
      protocol only. score: P@k (CSLS), mean over subjects, over types if the protocol decodes types, else
      over tokens (score_types beside it). null_low, null_high: 99 % prediction interval of one more draw.

    Raises: ValueError as the readers and the study do.
    """
    check_decoders(methods, "the noise check")
    computation = computation or Computation()
    keep_compiled_programs()
    output, story = output_folder(output_dir, "output_dir"), story or make_story(seed=seed)
    lines = []
    for gap in gaps:
        dataset = _recordings(
            output / f"recordings_{'gaps' if gap else 'gapless'}",
            story,
            gap=gap,
            n_subjects=n_subjects,
            n_voxels=n_voxels,
            autocorrelation=autocorrelation,
            seed=seed,
        )
        responses = [dataset.load(subject) for subject in dataset.subjects]
        types, _ = dataset.stimulus.types(lower=False)
        for width in widths:
            vectors = story_vectors(story, dataset.stimulus, width, seed=seed)
            meta = {"family": "noise", "n_params": None, "n_layers": 0, "weights": f"seed {seed}"}
            model = Embeddings(f"noise{width}", types, vectors[None].astype(np.float32), None, meta)
            for name in protocols:
                chosen = protocol(name, csls_k=csls_k, n_folds=n_folds)
                chosen = dataclasses.replace(chosen, layer_selection="test")
                scoring = sweep.Scoring(tuple(methods), chosen, (k,), seed=seed)
                options = dict(cells=output / "cells", computation=computation)
                rows = sweep.score_subjects("noise", responses, model, scoring, **options)
                nulls = None
                if n_nulls and name == "audited":
                    plan = NullPlan("shift", n_nulls, seed)
                    nulls = score_nulls("noise", responses, model, scoring, plan, k=k, **options)
                lines += [
                    {
                        "timing": "gaps" if gap else "gapless",
                        "width": width,
                        "protocol": name,
                        "k": k,
                        "n_subjects": n_subjects,
                        **_line(rows, nulls, method, k),
                    }
                    for method in methods
                ]
    table = pd.DataFrame(lines).reindex(columns=list(COLUMNS))
    write_parquet(table, output / "noise.parquet")
    return table


def _recordings(folder, story, *, gap, n_subjects, n_voxels, autocorrelation, seed):
    n_words = len(story.words)
    if n_words == 5176 and not gap:
        schedule = release_schedule()
    else:
        schedule = schedule_runs(n_words, gap=28.5 if gap else 2.0, rest=(20.0, 8.5))
    simulate_harry_potter(
        folder,
        words=story.words,
        vectors=np.zeros((n_words, 1)),
        n_subjects=n_subjects,
        n_voxels=n_voxels,
        schedule=schedule,
        snr=0.0,
        autocorrelation=autocorrelation,
        drift=0.0,
        seed=seed,
        dtype="float32",
    )
    return open_dataset("harry_potter", folder)


def _line(rows: pd.DataFrame, nulls: pd.DataFrame | None, method: str, k: int) -> dict:
    rows = rows[(rows["method"] == method) & (rows["fold"] == POOLED) & (rows["k"] == k)]
    mean = rows.groupby("metric")["value"].mean()
    line = {
        "method": method,
        "score": mean["precision_csls"],
        "score_types": mean.get("precision_csls_types", mean["precision_csls"]),
        "chance": rows["chance"].iloc[0],
    }
    if nulls is None:
        return line
    drawn = nulls[(nulls["method"] == method) & (nulls["metric"] == "precision_csls")]
    drawn = drawn.groupby("draw")["value"].mean().to_numpy()
    half = stats.t.ppf(0.995, len(drawn) - 1) * drawn.std(ddof=1) * np.sqrt(1 + 1 / len(drawn))
    return line | {
        "null_mean": drawn.mean(),
        "null_low": drawn.mean() - half,
        "null_high": drawn.mean() + half,
        "n_draws": len(drawn),
    }


def text(table: pd.DataFrame) -> str:
    """The table as aligned text, with a sentence on what it shows."""
    shown = table.copy()
    for name in ("score", "score_types", "chance", "null_mean", "null_low", "null_high"):
        shown[name] = shown[name].map(number)
    shown["n_draws"] = shown["n_draws"].map(lambda x: "–" if pd.isna(x) else f"{x:.0f}")
    sentences = []
    paper = table[(table["protocol"] == "paper") & (table["method"] == "procrustes")]
    if len(paper):
        low, high = paper["score"].min(), paper["score"].max()
        sentences.append(
            f"Under the paper's protocol noise scores {span(low, high)} by Procrustes, where uniform "
            f"chance is {number(paper['chance'].mean())}."
        )
    audited = table[(table["protocol"] == "audited") & table["null_low"].notna()]
    if len(audited):
        inside = audited["score"].between(audited["null_low"], audited["null_high"])
        sentences.append(
            f"Audited, {int(inside.sum())} of {len(inside)} scores lie inside the 99 % interval of their "
            "null."
        )
    return shown.to_string(index=False) + "\n\n" + " ".join(sentences) + "\n"
