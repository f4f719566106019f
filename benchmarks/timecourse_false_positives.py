"""How often does a study over time find in noise what is not there? Simulated epochs without any signal.

    python -m benchmarks.timecourse_false_positives --n_studies=200 --output=out/false_positives.json

Studies of two people (--n_people), four windows and three layers, 99 draws each. "items": isolated words,
epochs of noise that is smooth in time. "text": words 0.3 s apart in one smooth recording, so that neighbours'
epochs overlap, and vectors that are alike from word to word, as a model's that share a context. Each person
lacks words of their own (--rejected, a share of the epochs), and has noise of their own (or --one_noise). A
study counts where any window and layer has p_max < .05: exact p-values do so in .04 of the studies; the share
must lie between .02 and .09.

Prints a Markdown table and writes JSON with all p. RSA and encoding take some tenths of a second of processor
time a study, ridge 1 s of items and 5 s of a text.
"""

import numpy as np
from absl import app, flags

from benchmarks.false_positives import define_flags, finish, p_by_test, share_lines
from brainalign_jax.language import Embeddings
from brainalign_jax.neural.readers import Dataset
from brainalign_jax.neural.readout import EpochedResponses
from brainalign_jax.stimulus import Stimulus
from brainalign_jax.studies.options import TimeCourse
from brainalign_jax.studies.timecourse import run_timecourse
from brainalign_jax.study.options import Scoring
from brainalign_jax.study.protocol import protocol

KINDS = ("items", "text")
METHODS = ("ridge", "rsa", "encoding")
STEP, N_TIMES = 0.05, 12  # s between samples, of an epoch from -0.1 s
N_WORDS = {"items": 48, "text": 120}
WIDTH, N_LAYERS, N_CHANNELS = 4, 3, 5
APART = 0.3  # seconds from word to word of a text


def smooth(noise: np.ndarray, share: float) -> np.ndarray:
    """Noise [time, ...] of which each value keeps a share of the one before."""
    kept = noise.copy()
    for place in range(1, len(kept)):
        kept[place] = share * kept[place - 1] + np.sqrt(1 - share**2) * kept[place]
    return kept


def simulated(
    kind: str, seed: int, *, n_people: int = 2, rejected: float = 0.0, one_noise: bool = False
) -> tuple[Dataset, Embeddings]:
    """A study in which nothing is to be found.

    rejected: the share of epochs that each person lacks. one_noise: all people have the same.
    """
    rng = np.random.default_rng(seed)
    n_words = N_WORDS[kind]
    names = tuple(f"word{number}" for number in range(n_words))
    onsets = APART * np.arange(n_words)
    words = Stimulus(names, onsets=onsets) if kind == "text" else Stimulus(names)
    times = -0.1 + STEP * np.arange(N_TIMES)
    epochs: dict[str, EpochedResponses] = {}
    common = None
    for number in range(1, n_people + 1):
        person = f"S{number}"
        if kind == "text" and common is None:
            length = round(onsets[-1] / STEP) + N_TIMES
            recorded = smooth(rng.standard_normal((length, N_CHANNELS)), 0.8)
            starts = np.round(onsets / STEP).astype(int)
            values = np.stack([recorded[start : start + N_TIMES].T for start in starts])
        elif common is None:
            noise = smooth(rng.standard_normal((N_TIMES, n_words, N_CHANNELS)), 0.8)
            values = np.moveaxis(noise, 0, 2)
        common = values if one_noise else None
        channels = tuple(f"E{number}" for number in range(N_CHANNELS))
        valid = None
        if rejected:
            valid = np.ones(n_words, bool)
            valid[rng.permutation(n_words)[: round(rejected * n_words)]] = False
        epochs[person] = EpochedResponses(person, values, times, words, channels, valid=valid)
    vectors = rng.standard_normal((n_words, N_LAYERS, WIDTH))
    vectors = smooth(vectors, 0.5) if kind == "text" else vectors
    dataset = Dataset(
        "noise", tuple(epochs), words, lambda name: epochs[name].mean(), epochs=epochs.__getitem__
    )
    values = np.moveaxis(vectors, 1, 0).astype(np.float32)
    return dataset, Embeddings("noise", words.types()[0], values, None, {"family": "static"})


def p_values(
    kind: str,
    seed: int,
    *,
    n_nulls: int = 99,
    methods=METHODS,
    hold_alpha: bool = False,
    **people,
) -> dict[str, float]:
    """Method -> the least p_max of all windows and layers in one study of a kind; people: of `simulated`."""
    dataset, model = simulated(kind, seed, **people)
    plan = TimeCourse(
        window=0.15,
        step=0.15,
        methods=methods,
        n_nulls=n_nulls,
        n_bootstraps=100,
        n_flips=0,
        hold_alpha=hold_alpha,
    )
    choices = protocol(
        "audited", timed=kind == "text", n_folds=4, n_inner_folds=3, purge=1.0 * (kind == "text")
    )
    scoring = Scoring(protocol=choices, seed=seed)
    table = run_timecourse(dataset, [model], plan=plan, scoring=scoring, progress=False)
    group = table.rows[table.rows["subject"] == "group"]
    return group.groupby("method")["p_max"].min().to_dict()


def main(argv: list[str]) -> None:
    del argv
    asked = flags.FLAGS
    options = dict(
        methods=tuple(asked.methods),
        hold_alpha=asked.hold_alpha,
        n_people=asked.n_people,
        rejected=asked.rejected,
        one_noise=asked.one_noise,
    )

    def of_kind(kind: str, seed: int) -> dict[str, float]:
        p = p_values(kind, seed, **options)
        return {f"{kind}, {method}": value for method, value in p.items()}

    by_test = p_by_test(of_kind)
    finish(share_lines(by_test), p=by_test)


if __name__ == "__main__":
    define_flags(KINDS)
    flags.DEFINE_list("methods", list(METHODS), "Of ridge, procrustes, rsa and encoding.")
    flags.DEFINE_bool("hold_alpha", False, "Keep ridge's penalty in draws that exchange words.")
    flags.DEFINE_integer("n_people", 2, "Of each study.", 1)
    flags.DEFINE_float("rejected", 0.0, "Share of the epochs that each person lacks.", 0.0, 0.5)
    flags.DEFINE_bool("one_noise", False, "All people have the same noise.")
    app.run(main)
