"""Is predicted power what simulated studies find? Plans from a pilot against other people and words.

    python -m benchmarks.plan_calibration --output=out/plan_calibration.json

"summary": people's and words' values vary normally, in two cases; a pilot of 200 people and 400 words plans
settings that it does not have, and studies of those are simulated and tested by the package's own tests,
2,000 each, with the pilot's effect. "small": pilots of 12 people and 120 words, 20 of each case, and how
often the true power is in the interval that their own error leaves.

"score", "gap" and "ablation" go through the whole pipeline: pilots of 40 people, --n_pilots of them, are run
and read as `brainalign plan-study` does, and held-out settings are studies of other people and words, 40
each. What is predicted is the mean over the pilots that show the effect, each of words of its own, as the
studies are; one pilot says what its words have, and its interval is to hold what is found. "score":
isolated words whose vectors are in the voxels of people with a strength of their own, decoded by ridge and
tested against 39 exchanges of the words. "gap": words of two kinds that people hold by maps which differ.
"ablation": responses made of what one head of a small GPT-2 alone writes.

Prints a Markdown table of predicted and simulated power with exact intervals, and the largest and the mean
difference; writes JSON. "summary" and "small" take minutes of processor time, the others longer. Expect the
summary to differ by .01 in the mean and by .03 at most, intervals to hold the true power in .95 of pilots.
"""

import dataclasses
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from absl import app, flags

from benchmarks.ablation_false_positives import LETTERS, study_of, write_model, written
from benchmarks.false_positives import finish
from brainalign_jax.language import Embeddings
from brainalign_jax.neural.readers import Dataset
from brainalign_jax.neural.responses import WordResponses
from brainalign_jax.stimulus import Stimulus
from brainalign_jax.studies.ablation.table import AblationTable
from brainalign_jax.studies.ablation.verdict import judged_lines, named
from brainalign_jax.studies.checks.power import p_values
from brainalign_jax.studies.generalisation import GeneralisationTable, run_generalisation
from brainalign_jax.studies.generalisation.table import ALL, GAP
from brainalign_jax.studies.options import Generalisation, Planning
from brainalign_jax.studies.planning import run_pilots, run_planning
from brainalign_jax.studies.planning.components import Components, components_of_items, drawn
from brainalign_jax.studies.planning.planning import of_words, part_of
from brainalign_jax.studies.planning.power import DRAWS, FLIPS, INTERVAL, GroupTest, power_of
from brainalign_jax.studies.planning.simulate import simulated_p
from brainalign_jax.study.evidence.chance import rejected_share
from brainalign_jax.study.options import Scoring
from brainalign_jax.study.report.wording import listed
from brainalign_jax.study.results import GROUP, SELECTED

_HIGHEST = np.random.default_rng(0).standard_normal((999, 4)).max(axis=1)
TESTS = {
    "layers or size": GroupTest(FLIPS, sides=2, n_flips=4999),
    "ablation, one part": GroupTest(FLIPS, words_too=True, n_flips=999),
    "ablation, ten parts": GroupTest(FLIPS, words_too=True, n_flips=999, n_tests=10),
    "gap": GroupTest(INTERVAL),
    "score": GroupTest(
        DRAWS,
        critical=float(np.quantile(_HIGHEST, 0.95)),
        null_words=0.01,
        null_noise=0.08,
        highest=_HIGHEST,
    ),
}
# Of rank accuracy, as people and words differ in pereira180: between, words and noise in standard deviations.
PLANTED = (
    Components(0.02, 0.03**2, 0.03**2, 0.25**2, 0, 0, 0.0, 1.0),
    Components(0.03, 0.01**2, 0.08**2, 0.25**2, 0, 0, 0.0, 1.0),
)
HELD_OUT = ((6, 90), (10, 60), (16, 180), (24, 90), (40, 60))
N_VOXELS, WIDTH = 12, 6
# Through the whole pipeline: what varies between people, and held-out numbers of people and words.
PIPELINE = ", pipeline"
GAP_ANGLE = (0.6, 0.3)
HEAD, HEAD_STRENGTH = (1, 2), (0.4, 0.2)
SETTINGS = {
    "score": ((3, 48), (8, 48), (3, 72), (6, 72)),
    "gap": ((3, 48), (6, 48), (6, 72)),
    "ablation": ((6, 60), (8, 60), (10, 60), (12, 60)),
}


def pilot_of(planted: Components, n_people: int, n_words: int, seed: int) -> Components:
    """The components that a pilot of so many people and words would say."""
    rng = np.random.default_rng((seed, n_people, n_words))
    values = planted.effect + rng.standard_normal((n_people, 1)) * np.sqrt(planted.between)
    values = values + rng.standard_normal((1, n_words)) * np.sqrt(planted.words)
    noise = rng.standard_normal((n_people, n_words)) * np.sqrt(planted.noise)
    return components_of_items(values + noise)


def summary_lines(n_studies: int, seed: int) -> list[dict]:
    """Predicted from a large pilot and simulated power of every test, planted case and held-out setting."""
    lines = []
    for case, planted in enumerate(PLANTED):
        pilot = pilot_of(planted, 200, 400, seed)
        # The effect itself is as the pilot has it: what its error does is the interval's to say.
        planted = planted._replace(effect=pilot.effect)
        for name, test in TESTS.items():
            for n_people, n_words in HELD_OUT:
                p = simulated_p(planted, n_people, n_words, test, n_studies, seed=seed + 1)
                predicted = power_of(pilot, n_people, n_words, test)
                lines.append(_line(f"{name}, {case + 1}", n_people, n_words, predicted, p))
    return lines


def covered_by_small(n_pilots: int, seed: int) -> float:
    """Share of small pilots and settings whose 95 % interval of power holds the true power."""
    inside = []
    for planted in PLANTED:
        for study in range(n_pilots):
            pilot = pilot_of(planted, 12, 120, seed + study)
            draws = drawn(pilot, 400, np.random.default_rng((seed, study)))
            for n_people, n_words in HELD_OUT:
                powers = power_of(draws, n_people, n_words, TESTS["layers or size"])
                low, high = np.quantile(powers, [0.025, 0.975])
                true = power_of(planted, n_people, n_words, TESTS["layers or size"])
                inside.append(low <= true <= high)
    return float(np.mean(inside))


def simulated_people(n_people: int, n_words: int, seed: int) -> tuple[list, Embeddings]:
    """(responses of people with strengths of their own, a model whose layer 1 is in them)."""
    rng = np.random.default_rng((seed, n_people, n_words))
    words = Stimulus.from_words([f"word{i}" for i in range(n_words)])
    vectors = rng.standard_normal((2, n_words, WIDTH))
    responses = []
    for person in range(n_people):
        signal = (
            vectors[1] @ rng.standard_normal((WIDTH, N_VOXELS)) * max(rng.normal(0.13, 0.06), 0)
        )
        values = signal + rng.standard_normal(signal.shape)
        responses.append(WordResponses(f"S{person:02d}", values.astype(np.float32), words))
    meta = {"family": "static", "n_params": 10, "n_layers": 1}
    types = words.types()[0]
    return responses, Embeddings("planted", types, vectors.astype(np.float32), None, meta)


def score_lines(n_studies: int, n_pilots: int, seed: int) -> list[dict]:
    """Score above the null: predicted from a pilot that is run, and found by whole studies."""

    def found(n_people: int, n_words: int, study: int) -> float:
        rows = p_values(
            *simulated_people(n_people, n_words, study), ("ridge",), n_draws=39, k=1, seed=study,
            kind="items",
        )  # fmt: skip
        return float(rows.set_index("metric").loc["rank_accuracy", "p"])

    plan = Planning(n_nulls=99, n_simulations=0, n_bootstraps=100)
    pilots = []
    for pilot in pilot_seeds(seed, n_pilots):
        responses, model = simulated_people(40, 96, pilot)
        pilots.append(run_pilots(dataset_of(responses), [model], plan=plan, progress=False))
    return held_out("score", pilots, plan, SETTINGS["score"], found, n_studies, seed)


def pilot_seeds(seed: int, n_pilots: int) -> range:
    """Of pilots: none is a study's."""
    return range(seed + 10**6, seed + 10**6 + n_pilots)


def dataset_of(responses: Sequence[WordResponses]) -> Dataset:
    """The data set of these people."""
    by_name = {person.subject: person for person in responses}
    return Dataset("simulated", tuple(by_name), responses[0].stimulus, by_name.__getitem__)


def held_out(
    test: str,
    pilots: Sequence[Sequence],
    plan: Planning,
    settings: Sequence[tuple[int, int]],
    found: Callable[[int, int, int], float],
    n_studies: int,
    seed: int,
) -> list[dict]:
    """A line a setting of people and words.

    pilots: tables of each. found: p of a whole study of so many people, words and a seed.
    """
    lines = []
    for n_people, n_words in settings:
        asked = dataclasses.replace(plan, people=(n_people,), words=(n_words,))
        rows = pd.concat([run_planning(tables, plan=asked).rows for tables in pilots])
        rows = rows[rows["power"].notna()]
        p = np.array([found(n_people, n_words, seed + study) for study in range(n_studies)])
        line = _line(f"{test}{PIPELINE}", n_people, n_words, rows["power"].mean(), p)
        holds = (rows["power_low"] <= line["simulated"]) & (rows["power_high"] >= line["simulated"])
        powers = {
            "power_least": float(rows["power"].min()),
            "power_most": float(rows["power"].max()),
        }
        lines.append(line | powers | {"n_pilots": len(rows), "holds": float(holds.mean())})
    return lines


def people_with_gap(n_people: int, n_words: int, seed: int) -> tuple[Dataset, Embeddings]:
    """Words of two kinds, which every person holds by maps that differ by as much as the person's own."""
    rng = np.random.default_rng((seed, n_people, n_words, 1))
    words = Stimulus.from_words([f"word{i}" for i in range(n_words)])
    second = np.arange(n_words) % 4 >= 2
    words = words.with_attributes(kind=np.where(second, "b", "a"))
    vectors = rng.standard_normal((1, n_words, WIDTH))
    responses = []
    for person in range(n_people):
        first, other = rng.standard_normal((2, WIDTH, N_VOXELS))
        angle = np.clip(rng.normal(*GAP_ANGLE), 0, np.pi / 2)
        by_kind = vectors[0] @ first, vectors[0] @ (np.cos(angle) * first + np.sin(angle) * other)
        values = np.where(second[:, None], *by_kind[::-1]) + 2.0 * rng.standard_normal(
            by_kind[0].shape
        )
        responses.append(WordResponses(f"S{person:02d}", values.astype(np.float32), words))
    meta = {"family": "static"}
    model = Embeddings("planted", words.types()[0], vectors.astype(np.float32), None, meta)
    return dataset_of(responses), model


def gap_study(dataset: Dataset, model: Embeddings, seed: int) -> GeneralisationTable:
    """What `brainalign generalise --conditions` makes of it."""
    plan = Generalisation(n_folds=3, n_splits=1, n_nulls=1, n_bootstraps=200)
    scoring = Scoring(methods=("ridge",), ks=(1,), seed=seed)
    return run_generalisation(
        dataset, [model], "kind=a;kind=b", plan=plan, scoring=scoring, progress=False
    )


def gap_lines(n_studies: int, n_pilots: int, seed: int) -> list[dict]:
    """A gap between conditions: predicted from pilots of half and all of the words, and found."""

    def found(n_people: int, n_words: int, study: int) -> float:
        rows = gap_study(*people_with_gap(n_people, n_words, study), study).rows
        rows = rows[
            (rows["subject"] == GROUP) & (rows["layer"] == SELECTED) & (rows["tested_on"] == ALL)
        ]
        row = rows[rows["metric"] == f"{GAP}rank_accuracy"].iloc[0]
        return 0.0 if row["lower"] > 0 else 1.0

    pilots = []
    for pilot in pilot_seeds(seed, n_pilots):
        whole, model = people_with_gap(40, 96, pilot)
        half = part_of(whole, np.flatnonzero(np.arange(96) % 8 < 4))
        pilots.append([gap_study(each, of_words(model, each), seed) for each in (half, whole)])
    plan = Planning(test="gap", n_simulations=0, n_bootstraps=100)
    return held_out("gap", pilots, plan, SETTINGS["gap"], found, n_studies, seed)


def people_with_head(model: str, n_people: int, n_words: int, seed: int) -> Dataset:
    """People in whose responses is what one head alone writes, with a strength of each person's own."""
    rng = np.random.default_rng((seed, n_people, n_words, 2))
    letters = list(LETTERS[2:])
    words = {"".join(rng.choice(letters, 3)): None for _ in range(4 * n_words)}
    stimulus = Stimulus(tuple(words)[:n_words], sentence=np.arange(n_words) // 5)
    _, alone = written(stimulus, model, *HEAD)
    alone = alone / alone.std()
    responses = []
    for person in range(n_people):
        signal = alone @ rng.standard_normal((alone.shape[1], N_VOXELS)) / np.sqrt(alone.shape[1])
        values = max(rng.normal(*HEAD_STRENGTH), 0) * signal + rng.standard_normal(signal.shape)
        responses.append(WordResponses(f"S{person:02d}", values.astype(np.float32), stimulus))
    return dataset_of(responses)


def ablation_lines(n_studies: int, n_pilots: int, seed: int) -> list[dict]:
    """A head that is missed, the largest fall of all eight: predicted from a pilot, and found."""
    part = "head {}.{}".format(*HEAD)
    with tempfile.TemporaryDirectory() as folder:
        model = write_model(Path(folder) / "model", 0)

        def table_of(n_people: int, n_words: int, study: int) -> AblationTable:
            dataset = people_with_head(model, n_people, n_words, study)
            return study_of("nothing", dataset, model, study, 999)

        def found(n_people: int, n_words: int, study: int) -> float:
            table = table_of(n_people, n_words, study)
            (name,) = table.rows["model"].unique()
            lines = judged_lines(table, name, "ridge")
            return float(next(x["p_max"] for _, x in lines.iterrows() if named(x) == part))

        plan = Planning(
            test="ablation", component=part.replace(" ", ":"), n_simulations=0, n_bootstraps=100
        )
        pilots = [[table_of(40, 60, pilot)] for pilot in pilot_seeds(seed, n_pilots)]
        return held_out("ablation", pilots, plan, SETTINGS["ablation"], found, n_studies, seed)


def _line(test: str, n_people: int, n_words: int, predicted: float, p: np.ndarray) -> dict:
    share = rejected_share(p)
    return {
        "test": test, "n_people": n_people, "n_words": n_words, "predicted": float(predicted),
        "simulated": share.share, "lower": share.lower, "upper": share.upper, "n_studies": len(p),
    }  # fmt: skip


WHOLE = {"score": score_lines, "gap": gap_lines, "ablation": ablation_lines}


def _kind_of(test: str) -> str:
    return test.removesuffix(PIPELINE) if test.endswith(PIPELINE) else "summary"


def main(argv: list[str]) -> None:
    del argv
    asked = flags.FLAGS
    lines: list[dict] = []
    if "summary" in asked.kinds:
        lines += summary_lines(asked.n_studies, asked.seed)
    covered = covered_by_small(20, asked.seed) if "small" in asked.kinds else None
    for kind, of_kind in WHOLE.items():
        if kind in asked.kinds:
            lines += of_kind(asked.n_pipeline, asked.n_pilots, asked.seed)
    text = [
        "| test | people | words | predicted | simulated | 95 % interval |",
        "|---|---|---|---|---|---|",
    ]
    text += [
        f"| {x['test']} | {x['n_people']} | {x['n_words']} | {x['predicted']:.3f} | {x['simulated']:.3f} | "
        f"{x['lower']:.3f} to {x['upper']:.3f} |"
        for x in lines
    ]
    text += [
        f"\n{x['test']}, {x['n_people']} people, {x['n_words']} words: of {x['n_pilots']} pilots' intervals "
        f"{x['holds']:.2f} hold it, powers {x['power_least']:.3f} to {x['power_most']:.3f}"
        for x in lines
        if "holds" in x
    ]
    for kind in ("summary", *WHOLE):
        of_kind = [x for x in lines if _kind_of(x["test"]) == kind]
        gaps = [abs(x["predicted"] - x["simulated"]) for x in of_kind]
        if gaps:
            text.append(f"\n{kind}: largest difference {max(gaps):.3f}, mean {np.mean(gaps):.3f}")
    if covered is not None:
        text.append(f"\nsmall pilots: the true power is in .95 intervals of {covered:.3f}")
    finish(text, settings=lines, covered_by_small=covered)


if __name__ == "__main__":
    flags.DEFINE_integer("n_studies", 2000, "Simulated at the level of people and words.", 1)
    flags.DEFINE_integer(
        "n_pipeline", 40, "Simulated through the whole pipeline, of each setting.", 1
    )
    flags.DEFINE_integer("n_pilots", 10, "Run through the whole pipeline, of each kind.", 1)
    kinds = ["summary", "small", *WHOLE]
    flags.DEFINE_list("kinds", kinds, f"Of {listed(kinds)}.")
    flags.DEFINE_integer("seed", 0, "Of the first study.")
    flags.DEFINE_string("output", None, "JSON file to write.")
    sys.exit(app.run(main))
