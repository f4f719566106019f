"""How often does a generalisation study see what is not there? Simulated studies without a gap, or of noise.

    python -m benchmarks.gap_false_positives --n_studies=200 --output=out/gap_false_positives.json

Studies of 48 words and ridge, 99 draws each. "gap": one map for all words, two conditions, two people;
"joint": the same, of conditions that differ in the mean, among candidates of both; "matched": as "gap",
tested on words matched by an attribute in which the conditions differ; "reliability": matched, for each of
four people, by what the others agree on; "word", "topic", "person": the novelty ladder, of noise and four
people. Exact p-values are below .05 in .04 of the studies; the share must lie between .02 and .09, the middle
95 % of .05 for 200 studies being .02 to .08.

Prints a Markdown table with exact intervals and writes JSON with all p. A second or two of processor time a
study.
"""

import numpy as np
from absl import app

from benchmarks.false_positives import define_flags, finish, p_by_test, share_lines
from brainalign_jax.language import Embeddings
from brainalign_jax.neural.readers import Dataset
from brainalign_jax.neural.responses import WordResponses
from brainalign_jax.stimulus import Stimulus
from brainalign_jax.studies.generalisation import run_generalisation, run_novelty
from brainalign_jax.studies.options import Generalisation
from brainalign_jax.study.options import Scoring

KINDS = ("gap", "joint", "matched", "reliability", "ladder")
MATCHED = {"matched": ("rarity",), "reliability": ("reliability",)}
N_WORDS, WIDTH, N_VOXELS = 48, 6, 12


def simulated(kind: str, seed: int) -> tuple[Dataset, Embeddings]:
    """A study in which nothing is to be found: one map for all words, or noise for the ladder."""
    rng = np.random.default_rng(seed)
    half = np.arange(N_WORDS) < N_WORDS // 2
    words = Stimulus.from_words([f"word{i}" for i in range(N_WORDS)]).with_attributes(
        kind=np.where(half, "a", "b"),
        rarity=rng.standard_normal(N_WORDS) + half,
        **({"topic": [f"t{i // 6}" for i in range(N_WORDS)]} if kind == "ladder" else {}),
    )
    vectors = rng.standard_normal((1, N_WORDS, WIDTH))
    if kind == "joint":
        vectors += np.where(half[:, None], 0, 2 * rng.standard_normal(WIDTH))
    responses = {}
    n_people = 4 if kind in ("reliability", "ladder") else 2
    for person in (f"S{i}" for i in range(n_people)):
        signal = vectors[0] @ rng.standard_normal((WIDTH, N_VOXELS)) * (kind != "ladder")
        values = signal + 2.0 * rng.standard_normal(signal.shape)
        responses[person] = WordResponses(person, values.astype(np.float32), words)
    dataset = Dataset("simulated", tuple(responses), words, responses.__getitem__)
    meta = {"family": "static"}
    return dataset, Embeddings("planted", words.types()[0], vectors.astype(np.float32), None, meta)


def p_values(kind: str, seed: int, *, n_nulls: int = 99) -> dict[str, float]:
    """What is tested -> p of the group in one study of a kind."""
    dataset, model = simulated(kind, seed)
    plan = Generalisation(
        n_folds=3, n_splits=1, n_nulls=n_nulls, n_bootstraps=100, caliper=0.3,
        n_train=14 if kind in MATCHED else None, match=MATCHED.get(kind, ()),
        candidates=("joint",) if kind == "joint" else ("condition",),
    )  # fmt: skip
    options = dict(
        plan=plan, scoring=Scoring(methods=("ridge",), ks=(1,), seed=seed), progress=False
    )
    if kind == "ladder":
        rows = run_novelty(dataset, [model], **options).rows
        metric = "rank_accuracy"
    else:
        rows = run_generalisation(dataset, [model], "kind=a;kind=b", **options).rows
        rows = rows[rows["tested_on"] == "all"]
        metric = "gap_rank_accuracy"
    rows = rows[(rows["subject"] == "group") & (rows["layer"] == -1) & (rows["metric"] == metric)]
    if kind == "ladder":
        return dict(zip(rows["tested_on"], rows["p"], strict=True))
    return {kind: float(rows["p"].iloc[0])}


def main(argv: list[str]) -> None:
    del argv
    by_test = p_by_test(p_values)
    finish(share_lines(by_test), p=by_test)


if __name__ == "__main__":
    define_flags(KINDS)
    app.run(main)
