"""How often does an encoding see what is not there? Simulated recordings in which the model has no part.

    python -m benchmarks.encoding_false_positives --n_recordings=200 --output=out/false_positives.json

Recordings of 20 voxels of noise that is smooth in time, 99 shifts each, layer and penalty chosen among two of
each. "noise": one run, folds of volumes; "rate": the same, on top of a response to the word rate, which is a
nuisance; "runs": noise of three runs, folds of whole runs. Beside the word rate, and beside rate, length,
frequency and position of the words (`--nuisances`). Of each recording the smallest p_max of its voxels, which
is below .05 in .04 of them where it is exact, and the p of all voxels as one region; the shares must not lie
above .09, the middle 95 % of .05 for 200 being .02 to .08.

Prints a Markdown table with exact intervals and writes JSON with all p. Half a second of processor time a
recording.
"""

import numpy as np
from absl import app, flags
from scipy.signal import lfilter

from benchmarks.false_positives import define_flags, finish, share_lines
from brainalign_jax.language import Embeddings
from brainalign_jax.neural.readers import Dataset
from brainalign_jax.neural.readout import TimeCourses
from brainalign_jax.neural.readout.encoding import design_matrix
from brainalign_jax.stimulus import Stimulus
from brainalign_jax.studies.encoding import run_encoding
from brainalign_jax.studies.options import VoxelEncoding

KINDS = ("noise", "rate", "runs")
N_VOLUMES, N_VOXELS, N_WORDS, TR = 120, 20, 300, 2.0
_TOGETHER = 25  # recordings that share a model


def simulated(kind: str, seed: int, n_recordings: int) -> tuple[Dataset, Embeddings]:
    """Recordings [120, 20] of people on one clock, and a model of two layers that has no part in them."""
    rng = np.random.default_rng([seed, KINDS.index(kind)])
    pace = np.exp(np.cumsum(rng.standard_normal(N_WORDS)) * 0.05)
    onsets = 5 + np.cumsum(pace / pace.sum()) * (TR * N_VOLUMES - 10)
    times, run = TR * np.arange(N_VOLUMES), np.zeros(N_VOLUMES, int)
    word_run = None
    if kind == "runs":
        run = np.repeat([1, 2, 3], N_VOLUMES // 3)
        word_run = np.minimum(onsets // (TR * N_VOLUMES / 3), 2).astype(int) + 1
    names = tuple(f"word{index % 40}" for index in range(N_WORDS))
    words = Stimulus(names, onsets=onsets, run=word_run)
    each = np.ones((len(onsets), 1))
    clock = dict(run=word_run, volume_run=run)
    rate = design_matrix(onsets, each, times, method="hrf", delays=(0,), **clock)
    people = {}
    for person in range(n_recordings):
        steps = rng.standard_normal((N_VOLUMES + 50, N_VOXELS))
        values = lfilter([1], [1, -0.6], steps, axis=0)[50:]
        values = values + 2 * (kind == "rate") * (rate - rate.mean()) / rate.std()
        courses = TimeCourses(f"S{person}", values.astype(np.float32), times, run, words)
        people[courses.subject] = courses
    layers = rng.standard_normal((2, N_WORDS, 8)).astype(np.float32)
    model = Embeddings("noise", names, layers, None, {"level": "token"})
    return Dataset(kind, tuple(people), words, None, time_courses=people.__getitem__), model


def p_values(
    kind: str,
    seed: int,
    n_recordings: int,
    *,
    n_shifts: int = 99,
    nuisances: tuple[str, ...] = ("rate",),
) -> tuple[list[float], list[float]]:
    """(the smallest p_max, p of all voxels as a region) of each recording of a kind."""
    dataset, model = simulated(kind, seed, n_recordings)
    plan = VoxelEncoding(
        n_folds=3, n_inner=2, purge=8.0, n_shifts=n_shifts, alphas=(1.0, 100.0), n_flips=9,
        nuisances=nuisances, n_bootstrap=10, seed=seed,
    )  # fmt: skip
    table = run_encoding(dataset, [model], plan=plan, progress=False)
    smallest = [float(table.maps[1, name].values["p_max"].min()) for name in dataset.subjects]
    rows = table.rows.set_index("subject")["p"]
    return smallest, [float(rows[name]) for name in dataset.subjects]


def main(argv: list[str]) -> None:
    del argv
    asked = flags.FLAGS
    by_test: dict[str, list[float]] = {}
    for kind in asked.kinds:
        voxels, regions = (
            by_test.setdefault(f"{kind}: {what}", []) for what in ("largest voxel", "region")
        )
        while len(voxels) < asked.n_recordings:
            count = min(_TOGETHER, asked.n_recordings - len(voxels))
            drawn = p_values(
                kind, asked.seed + len(voxels), count, nuisances=tuple(asked.nuisances)
            )
            voxels += drawn[0]
            regions += drawn[1]
    finish(share_lines(by_test), p=by_test)


if __name__ == "__main__":
    define_flags(KINDS, count="n_recordings")
    flags.DEFINE_list("nuisances", ["rate"], "Nuisances of the words that are always in.")
    app.run(main)
