"""The demonstration: simulated subjects with a planted layer, through the path of real data."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from brainalign_jax.files import output_folder
from brainalign_jax.language import embed
from brainalign_jax.neural.readers import open_dataset
from brainalign_jax.neural.simulate import simulate_harry_potter, story_words
from brainalign_jax.stimulus import Stimulus, split_sentences
from brainalign_jax.study.evidence.table import EvidencePlan
from brainalign_jax.study.protocol import protocol
from brainalign_jax.study.registry import DEFAULT
from brainalign_jax.study.report.wording import short_names
from brainalign_jax.study.results import GROUP, ResultTable
from brainalign_jax.study.run import run_study
from brainalign_jax.study.score.sweep import Scoring

# Seconds a word. Read slowly: at the two words a second of the Harry Potter recordings neighbouring
# words share their scans, and RSA then prefers the layer whose vectors share most with their sentence
# over the layer that was planted.
WORD_DURATION = 2.0
# The strongest of those that fit: vectors that know the words' places only.
CONTROL = "nuisance:autocorrelated"


class DemoResult(NamedTuple):
    """table; planted: the layer that the recordings were made from; best_layers: method -> layer."""

    table: ResultTable
    planted: int
    best_layers: dict[str, int]


def run_demo(
    model: str,
    output_dir: str | Path,
    *,
    layer: int = 2,
    n_subjects: int = 3,
    seed: int = 0,
    n_nulls: int = 99,
    n_words: int = 190,
    command: str = "",
    progress: bool = True,
    **simulation,
) -> DemoResult:
    """Plant a layer of the model in simulated subjects, save, read back, and search for it.

    Each word of the story is represented by its vector in `layer`; the recordings are written to
    OUT/recordings as Harry Potter files. The model and its untrained twin are then scored on them.

    Args:
      model: as `embed` takes it. output_dir: OUT. layer: that is planted. n_subjects: simulated people.
      n_words: of the story, from its beginning. n_nulls: draws of the evidence. seed: of recordings, draws.
      simulation: further arguments of `simulate_harry_potter`. The others as of `run_study`.

    Raises: ValueError for a layer that the model does not have, and what the wings raise.
    """
    output = output_folder(output_dir, "output_dir")
    words = story_words()[:n_words]
    stimulus = Stimulus.from_words(words, sentence=split_sentences(words))
    vectors = embed(stimulus, model, level="token", seed=seed)
    if layer not in range(len(vectors.values)):
        raise ValueError(f"{model} has no layer {layer}: layers 0 to {len(vectors.values) - 1}")
    # Unit variance in every direction of the layer: it is the geometry that is planted, not the
    # few dimensions of outlying size that transformers have.
    planted = vectors.values[layer]
    planted = (planted - planted.mean(axis=0)) / np.maximum(planted.std(axis=0), 1e-6)
    options = {"snr": 6.0, "n_voxels": 32, "word_duration": WORD_DURATION} | simulation
    simulate_harry_potter(
        output / "recordings",
        words=words,
        vectors=planted,
        n_subjects=n_subjects,
        seed=seed,
        **options,
    )
    dataset = open_dataset(
        "harry_potter", output / "recordings", word_duration=options["word_duration"]
    )
    methods = DEFAULT
    table = run_study(
        dataset,
        (model,),
        Scoring(methods, protocol("audited", n_folds=4, n_inner_folds=3), seed=seed),
        output,
        evidence=EvidencePlan(n_nulls=n_nulls, n_permutations=300, controls=(CONTROL,), seed=seed),
        command=command,
        simulated=True,
        notes=(
            f"The {n_subjects} subjects are simulated: their responses were made from layer {layer} "
            f"of {short_names([model])[model]}, with haemodynamics, scanner noise and gaps between runs.",
        ),
        progress=progress,
    )
    return DemoResult(table, layer, {name: _best_layer(table, model, name) for name in methods})


def _best_layer(table: ResultTable, model: str, method: str) -> int:
    """Layer of the highest group score: rank accuracy, which is finer than precision at one k."""
    metric = "rsa" if method == "rsa" else "rank_accuracy"
    rows = table.pooled(metric, model=model, method=method, subject=GROUP)
    return int(rows.loc[rows["value"].idxmax(), "layer"])
