"""Do p-values of noise say what they should? Simulated studies of noise of several smoothnesses.

    python -m benchmarks.null_p_values --n_studies=300 --output=out/null_p_values.json

Recording and word vectors are noise that knows nothing of one another; both are smooth over as many words
(standard deviation of a Gaussian) and not periodic. 120 words, a word a second, decoded by each method in
the folds of the audited protocol with the purge asked for, and compared by RSA. Each study has p-values of
99 draws of each kind: of circular shifts, of shifts of 20 s and more alone (up to version 0.2.0), and of
blocks of 30 s. Exact p-values have p <= .04 in .04 of the studies. Expect .02 to .06 of shifts in the
scores that decode, at every smoothness, and .05 to .10 of shifts of 20 s and more from 2.5 words on; of RDMs
no more than .04 of shifts, and none from 2.5 words on, where 120 words hold too few independent ones.

Prints a Markdown table and writes JSON with the distribution of p. An hour on 2 cores with 300 studies.
"""

import json
from pathlib import Path

from absl import app, flags

from benchmarks.measure import machine
from benchmarks.smooth_noise import N_DRAWS, comparison, decoder, markdown, p_values, row, story
from brainalign_jax.study.score.methods import METHODS

_N_STUDIES = flags.DEFINE_integer("n_studies", 300, "Of each method and smoothness.", 1)
_SMOOTHNESS = flags.DEFINE_list("smoothness", ["0", "2.5", "5"], "In words.")
_METHODS = flags.DEFINE_list("methods", [*METHODS, "rdm"], "Of procrustes, ridge, rsa and rdm.")
_PURGE = flags.DEFINE_float("purge", 0.0, "Seconds left out around test blocks.", 0.0)
_RUNS = flags.DEFINE_integer("runs", 1, "Runs that the words are shared out to.", 1)
_WORDS = flags.DEFINE_integer("words", 120, "Words of a study, all different.", 40)
_SEED = flags.DEFINE_integer("seed", 0, "Of the noise.")
_OUTPUT = flags.DEFINE_string("output", None, "JSON file to write.")


def main(argv: list[str]) -> None:
    del argv
    stimulus = story(_WORDS.value, _RUNS.value)
    rows = []
    for name in _METHODS.value:
        if name == "rdm":
            scorer = comparison(stimulus, N_DRAWS)
        else:
            scorer = decoder(name, stimulus, 10, _PURGE.value, N_DRAWS)
        for smoothness in map(float, _SMOOTHNESS.value):
            by_kind = p_values(scorer, stimulus, smoothness, _N_STUDIES.value, seed=_SEED.value)
            for kind, p in by_kind.items():
                for i, metric in enumerate(scorer.metrics):
                    place = dict(method=name, metric=metric, kind=kind, smoothness=smoothness)
                    rows.append(row(p[:, i], **place))
    print(markdown(rows))
    if _OUTPUT.value:
        design = dict(n_words=_WORDS.value, runs=_RUNS.value, purge=_PURGE.value, n_draws=N_DRAWS)
        path = Path(_OUTPUT.value)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            json.dumps({"machine": machine(), "design": design, "rows": rows}, indent=2)
        )


if __name__ == "__main__":
    app.run(main)
