"""How often does a study of languages see what is not there? Simulated studies of noise, or of maps apart.

    python -m benchmarks.language_false_positives --n_studies=200 --output=out/language_false_positives.json

A story of four sections in three languages, two people each, ridge, 99 draws. "noise": responses that carry
nothing; "smooth": noise that is smooth in time; "shared": noise most of which the people of a language share;
"languages": each language has a map of its own from meanings to columns, so that nothing holds across;
"people": each person has one, and they are hyperaligned though nothing that is told goes together. Tested are
one person and one language within, one pair, and the means within, across and of all others together. Exact
p-values are below .05 in .04 of the studies (99 draws); the share must lie between .02 and .09, the middle
95 % of .05 for 200 studies being .02 to .08. One person within is tested strictly where nothing is shared.

Prints a Markdown table with exact intervals and writes JSON with all p. A second of processor time a study.
"""

import numpy as np
from absl import app

from benchmarks.false_positives import define_flags, finish, p_by_test, share_lines
from brainalign_jax.language import Embeddings
from brainalign_jax.neural.readers import Dataset
from brainalign_jax.neural.responses import WordResponses
from brainalign_jax.stimulus import Stimulus
from brainalign_jax.studies.languages import run_languages
from brainalign_jax.studies.options import Languages
from brainalign_jax.study.options import Scoring

KINDS = ("noise", "smooth", "shared", "languages", "people")
_OF_NOISE = ("noise", "smooth", "shared")
N_SECTIONS, WIDTH, N_COLUMNS, N_PEOPLE = 4, 6, 16, 2
N_WORDS = {"en": 30, "fr": 34, "zh": 26}  # a section
NOISE, SMOOTHING = 1.5, np.array([1.0, 2.0, 3.0, 2.0, 1.0])
OWN = 0.3  # of a person's noise, beside one of that which is shared
# What is tested: (trained on, tested on, who); what is there within a language is no test of noise.
_TESTS = {
    "one person within": ("en", "en", "en0"),
    "within one": ("en", "en", "group"),
    "one pair": ("en", "fr", "group"),
    "within": ("within", "all", "group"),
    "across": ("across", "all", "group"),
    "others": ("others", "all", "group"),
}


def simulated(kind: str, seed: int) -> tuple[list[Dataset], dict[str, Embeddings]]:
    """(data sets, vectors by language) of a story of which nothing holds across languages."""
    rng = np.random.default_rng(seed)
    datasets, vectors = [], {}
    for language, count in N_WORDS.items():
        section = np.repeat(np.arange(N_SECTIONS), count)
        stimulus = Stimulus(
            [f"{language}{place}" for place in range(len(section))],
            onsets=np.tile(np.linspace(0, 60, count), N_SECTIONS),
            run=section,
            attributes={"section": section + 1.0},
            language=language,
        )
        meaning = rng.standard_normal((len(section), WIDTH))
        layers = meaning[None].astype(np.float32)
        vectors[language] = Embeddings("planted", stimulus.types()[0], layers, None, {})
        of_language = rng.standard_normal((WIDTH, N_COLUMNS))
        responses: dict[str, WordResponses] = {}
        shared = rng.standard_normal((len(section), N_COLUMNS)) if kind == "shared" else 0.0
        for person in (f"{language}{index}" for index in range(N_PEOPLE)):
            of_person = rng.standard_normal((WIDTH, N_COLUMNS))
            mapped = {"languages": of_language, "people": of_person}.get(kind, 0 * of_person)
            noise = rng.standard_normal((len(section), N_COLUMNS))
            if kind == "smooth":
                noise = np.apply_along_axis(np.convolve, 0, noise, SMOOTHING, "same")
            if kind == "shared":
                noise = shared + OWN * noise
            values = (meaning @ mapped + NOISE * np.sqrt(WIDTH) * noise).astype(np.float32)
            names = [f"region{column}" for column in range(N_COLUMNS)]
            responses[person] = WordResponses(
                person, values, stimulus, meta={"feature_names": names}
            )
        datasets.append(
            Dataset(f"story_{language}", tuple(responses), stimulus, responses.__getitem__)
        )
    return datasets, vectors


def p_values(kind: str, seed: int, *, n_nulls: int = 99) -> dict[str, float]:
    """What is tested -> its p in one study of a kind."""
    datasets, vectors = simulated(kind, seed)
    plan = Languages(
        n_nulls=n_nulls, n_bootstraps=100, n_bins=8, audited=False, purge=0.0,
        space="hyperaligned" if kind == "people" else "columns",
    )  # fmt: skip
    scoring = Scoring(methods=("ridge",), ks=(1,), seed=seed)
    table = run_languages(datasets, [vectors], plan=plan, scoring=scoring, progress=False)
    return {
        f"{kind}: {name}": float(
            table.line(
                trained_on=trained, tested_on=tested, subject=who, layer=-1, metric="rank_accuracy"
            )["p"]
        )
        for name, (trained, tested, who) in _TESTS.items()
        if "within" not in name or kind in _OF_NOISE
    }  # fmt: skip


def main(argv: list[str]) -> None:
    del argv
    by_test = p_by_test(p_values)
    finish(share_lines(by_test), p=by_test)


if __name__ == "__main__":
    define_flags(KINDS)
    app.run(main)
