"""Is predicted power what simulated studies find? Plans from a pilot against other people and words.

    python -m benchmarks.plan_calibration --output=out/plan_calibration.json

"summary": people's and words' values vary normally, in two cases; a pilot of 200 people and 400 words plans
settings that it does not have, and studies of those are simulated and tested by the package's own tests, 400
each, with the pilot's effect. "small": pilots of 12 people and 120 words, 20 of each case, and how often the
true power is in the interval that their own error leaves.
"pipeline": isolated words whose vectors are in the voxels of people with a strength of their own, decoded by
ridge and tested against 39 exchanges of the words, as `brainalign align` does; the pilots, of 40 people and
half and all of 96 words, are run and read as `brainalign plan-study` does, and held-out settings are 40
studies each, run through the whole pipeline.

Prints a Markdown table of predicted and simulated power with exact intervals, and the largest and the mean
difference; writes JSON. "summary" and "small" take minutes of processor time, "pipeline" longer. Expect the
summary to differ by .02 in the mean and by .06 at most, intervals to hold the true power in .95 of pilots.
"""

import dataclasses
import sys

import numpy as np
from absl import app, flags

from benchmarks.false_positives import finish
from brainalign_jax.language import Embeddings
from brainalign_jax.neural.readers import Dataset
from brainalign_jax.neural.responses import WordResponses
from brainalign_jax.stimulus import Stimulus
from brainalign_jax.studies.checks.power import p_values
from brainalign_jax.studies.options import Planning
from brainalign_jax.studies.planning import run_pilots, run_planning
from brainalign_jax.studies.planning.components import Components, components_of_items, drawn
from brainalign_jax.studies.planning.power import DRAWS, FLIPS, INTERVAL, GroupTest, power_of
from brainalign_jax.studies.planning.simulate import simulated_p
from brainalign_jax.study.evidence.chance import rejected_share

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


def pipeline_lines(n_studies: int, seed: int) -> list[dict]:
    """Predicted from a pilot that is run, and found by whole studies in held-out settings."""
    responses, model = simulated_people(40, 96, seed + 10**6)
    by_name = {person.subject: person for person in responses}
    stimulus = responses[0].stimulus
    dataset = Dataset("simulated", tuple(by_name), stimulus, by_name.__getitem__)
    plan = Planning(n_nulls=99, n_simulations=0, n_bootstraps=100)
    tables = run_pilots(dataset, [model], plan=plan, progress=False)
    lines = []
    for n_people, n_words in ((3, 48), (8, 48), (3, 72), (6, 72)):
        setting = dataclasses.replace(plan, people=(n_people,), words=(n_words,))
        row = run_planning(tables, plan=setting).rows.iloc[0]
        found = []
        for study in range(n_studies):
            rows = p_values(
                *simulated_people(n_people, n_words, seed + study), ("ridge",), n_draws=39, k=1,
                seed=seed + study, kind="items",
            )  # fmt: skip
            found.append(float(rows.set_index("metric").loc["rank_accuracy", "p"]))
        lines.append(
            _line("score, pipeline", n_people, n_words, row["power"], np.array(found))
            | {"power_low": row["power_low"], "power_high": row["power_high"]}
        )
    return lines


def _line(test: str, n_people: int, n_words: int, predicted: float, p: np.ndarray) -> dict:
    share = rejected_share(p)
    return {
        "test": test, "n_people": n_people, "n_words": n_words, "predicted": float(predicted),
        "simulated": share.share, "lower": share.lower, "upper": share.upper, "n_studies": len(p),
    }  # fmt: skip


def main(argv: list[str]) -> None:
    del argv
    asked = flags.FLAGS
    lines: list[dict] = []
    if "summary" in asked.kinds:
        lines += summary_lines(asked.n_studies, asked.seed)
    covered = covered_by_small(20, asked.seed) if "small" in asked.kinds else None
    if "pipeline" in asked.kinds:
        lines += pipeline_lines(asked.n_pipeline, asked.seed)
    text = [
        "| test | people | words | predicted | simulated | 95 % interval |",
        "|---|---|---|---|---|---|",
    ]
    text += [
        f"| {x['test']} | {x['n_people']} | {x['n_words']} | {x['predicted']:.3f} | {x['simulated']:.3f} | "
        f"{x['lower']:.3f} to {x['upper']:.3f} |"
        for x in lines
    ]
    for kind in ("summary", "pipeline"):
        gaps = [
            abs(x["predicted"] - x["simulated"])
            for x in lines
            if ("pipeline" in x["test"]) == (kind == "pipeline")
        ]
        if gaps:
            text.append(f"\n{kind}: largest difference {max(gaps):.3f}, mean {np.mean(gaps):.3f}")
    if covered is not None:
        text.append(f"\nsmall pilots: the true power is in .95 intervals of {covered:.3f}")
    finish(text, settings=lines, covered_by_small=covered)


if __name__ == "__main__":
    flags.DEFINE_integer("n_studies", 400, "Simulated at the level of people and words.", 1)
    flags.DEFINE_integer(
        "n_pipeline", 40, "Simulated through the whole pipeline, of each setting.", 1
    )
    flags.DEFINE_list("kinds", ["summary", "small", "pipeline"], "Of summary, small and pipeline.")
    flags.DEFINE_integer("seed", 0, "Of the first study.")
    flags.DEFINE_string("output", None, "JSON file to write.")
    sys.exit(app.run(main))
