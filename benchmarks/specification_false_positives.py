"""How often does the joint test of a specification curve find in noise what is not there?

    python -m benchmarks.specification_false_positives --n_studies=200 --output=out/false_positives.json

Studies of two people (--n_people), 40 isolated words and three layers, 99 draws each, 192 specifications.
"noise": responses of each person's own. "one_noise": all people have the same, so that they agree on what is
not there.

Of each study the joint p by mean z (that of the verdict), by median z and by the share of specifications with
p < .05: exact p-values are below .05 in .04 of the studies, the share must lie between .02 and .09. For
comparison, the share of studies in which some specification alone has p < .05, which is what picking gives.

Prints a Markdown table and writes JSON with all p. A study takes nine tenths of a second of processor time.
"""

import json
from pathlib import Path

import numpy as np
from absl import app, flags

from benchmarks.measure import machine
from brainalign_jax.language import Embeddings
from brainalign_jax.neural.readers import Dataset
from brainalign_jax.neural.responses import WordResponses
from brainalign_jax.stimulus import Stimulus
from brainalign_jax.studies.options import Specifications
from brainalign_jax.studies.specifications import run_specifications
from brainalign_jax.study.evidence.chance import LEVEL

KINDS = ("noise", "one_noise")
N_WORDS, WIDTH, N_LAYERS, N_VOXELS = 40, 8, 3, 12
CHOICES = {"metric": "p5:rank_accuracy", "csls_k": "5:none", "penalty": "error:fixed"}
TESTS = ("mean z", "median z", "share", "some specification alone")


def simulated(kind: str, seed: int, *, n_people: int = 2) -> tuple[Dataset, Embeddings]:
    """A study in which nothing is to be found."""
    rng = np.random.default_rng(seed)
    words = Stimulus.from_words([f"word{number}" for number in range(N_WORDS)])
    people: dict[str, WordResponses] = {}
    values = rng.standard_normal((N_WORDS, N_VOXELS))
    for number in range(1, n_people + 1):
        if kind != "one_noise":
            values = rng.standard_normal((N_WORDS, N_VOXELS))
        valid = np.ones(N_WORDS, bool)
        people[f"S{number}"] = WordResponses(
            f"S{number}", values.astype(np.float32), words, valid=valid, meta={}
        )
    vectors = rng.standard_normal((N_LAYERS, N_WORDS, WIDTH)).astype(np.float32)
    dataset = Dataset("noise", tuple(people), words, people.__getitem__)
    return dataset, Embeddings("noise", words.types()[0], vectors, None, {"family": "static"})


def p_values(kind: str, seed: int, *, n_nulls: int = 99, n_people: int = 2) -> dict[str, float]:
    """The p of each of `TESTS` in one study of a kind."""
    dataset, model = simulated(kind, seed, n_people=n_people)
    table = run_specifications(
        dataset,
        [model],
        choices=CHOICES,
        plan=Specifications(n_nulls=n_nulls),
        seed=seed,
        progress=False,
    )
    joint = table.manifest["curves"]["noise"]["joint"]
    p = joint["p_mean"], joint["p_median"], joint["p_share"], float(table.rows["p"].min())
    return dict(zip(TESTS, p, strict=True))


def main(argv: list[str]) -> None:
    del argv
    asked = flags.FLAGS
    by_test: dict[str, list[float]] = {}
    for kind in asked.kinds:
        for study in range(asked.n_studies):
            p = p_values(kind, asked.seed + study, n_nulls=asked.draws, n_people=asked.n_people)
            for test, value in p.items():
                by_test.setdefault(f"{kind}, {test}", []).append(value)
    lines = ["| test | studies | share with p < .05 |", "|---|---|---|"]
    for test, values in by_test.items():
        lines.append(f"| {test} | {len(values)} | {np.mean(np.array(values) < LEVEL):.3f} |")
    print("\n".join(lines))
    if asked.output:
        path = Path(asked.output)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"machine": machine(), "p": by_test}, indent=2))


if __name__ == "__main__":
    # Here, as tests import the studies in one process with the commands, which have flags of these names.
    flags.DEFINE_integer("n_studies", 200, "Of each kind.", 1)
    flags.DEFINE_list("kinds", list(KINDS), "Of noise and one_noise.")
    flags.DEFINE_integer("draws", 99, "Of each study.", 20)
    flags.DEFINE_integer("n_people", 2, "Of each study.", 1)
    flags.DEFINE_integer("seed", 0, "Of the first study.")
    flags.DEFINE_string("output", None, "JSON file to write.")
    app.run(main)
