"""Would noise have scored that too? The whole pipeline on smooth noise, under both protocols.

    python -m experiments.noise_check --output_dir=out/noise

Writes simulated Harry Potter recordings (5,176 words, 1,351 volumes, autoregressive noise of .7 without any
response to the words; with and without gaps between the runs), reads them as real ones and decodes
random word vectors that share half of a sentence vector. Expect P@10 far above the uniform chance of .007
under the paper's protocol by Procrustes, and scores inside the 99 % interval of their own null under the
audited one. See docs/evidence.md for the figures and the time.

Writes OUT/noise.parquet; a second call computes only what is missing.
"""

from absl import app

from brainalign_jax.commands.align import EVIDENCE, OUTPUT_DIR, PLAN, SCORING
from brainalign_jax.commands.command import Command, absl_main
from brainalign_jax.commands.fixed import PROTOCOL_NAMES
from brainalign_jax.options import Option, picked

OPTIONS = (
    OUTPUT_DIR,
    Option("n_subjects", "int", 2, "Simulated subjects.", "data", least=1),
    Option("n_voxels", "int", 2000, "Voxels of each.", "data", least=2),
    Option("widths", "ints", (512, 1351), "Dimensions of the word vectors.", "data", least=1),
    Option(
        "timing",
        "list",
        ("gapless", "gaps"),
        "Runs that follow one another, or with 28.5 s between them.",
        "data",
        ("gapless", "gaps"),
    ),
    Option(
        "autocorrelation",
        "float",
        0.7,
        "Of the noise from volume to volume.",
        "data",
        least=0.0,
        most=0.99,
    ),
    Option("small", "bool", False, "An eighth of the text, for a first look.", "data"),
    *picked(SCORING, "methods"),
    PROTOCOL_NAMES,
    *picked(PLAN, "n_nulls", default=20, help="Draws of the audited protocol's null; 0 for none."),
    *picked(SCORING, "seed", help="Seed of everything.", group=EVIDENCE),
)


def _check(values: dict[str, object], text: str) -> None:
    from brainalign_jax.studies.checks import noise

    small, passed = values["small"], ("widths", "protocols", "methods", "n_subjects", "n_voxels")
    noise_scores = noise.check_noise(
        values["output_dir"],
        story=noise.make_story(640, 600, 260, seed=values["seed"]) if small else None,
        gaps=[name == "gaps" for name in values["timing"]],
        csls_k=10 if small else None,
        **{name: values[name] for name in (*passed, "autocorrelation", "n_nulls", "seed")},
    )
    print(noise.text(noise_scores))


COMMAND = Command(
    "noise_check", "the whole pipeline on smooth noise, under both protocols", (), OPTIONS, _check
)

main = absl_main(COMMAND, __name__, "python -m experiments.noise_check")

if __name__ == "__main__":
    app.run(main)
