"""Would noise have scored that too? The whole pipeline on smooth noise, under both protocols.

    python -m experiments.noise_check --output_dir=out/noise

Writes simulated Harry Potter recordings (5,176 words, 1,351 volumes, autoregressive noise of .7 without any
response to the words; with and without gaps between the runs), reads them as real ones and decodes
random word vectors that share half of a sentence vector. Expect P@10 far above the uniform chance of .007
under the paper's protocol by Procrustes, and scores inside the 99 % interval of their own null under the
audited one. See docs/evidence.md for the figures and the time.

Writes OUT/noise.parquet; a second call computes only what is missing.
"""

import sys

from absl import app, flags, logging

from brainalign_jax.study import noise_study
from brainalign_jax.study.noise_study import METHODS, check_noise, make_story

_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "Folder to write to.", required=True)
_N_SUBJECTS = flags.DEFINE_integer("n_subjects", 2, "Simulated subjects.", lower_bound=1)
_N_VOXELS = flags.DEFINE_integer("n_voxels", 2000, "Voxels of each.", lower_bound=2)
_WIDTHS = flags.DEFINE_list("widths", ["512", "1351"], "Dimensions of the word vectors.")
_METHODS = flags.DEFINE_list("methods", list(METHODS), "Of procrustes, ridge and rsa.")
_PROTOCOLS = flags.DEFINE_list("protocols", ["paper", "audited"], "Of paper and audited.")
_TIMING = flags.DEFINE_list(
    "timing", ["gapless", "gaps"], "Runs that follow one another, or with 28.5 s between them."
)
_N_NULLS = flags.DEFINE_integer(
    "n_nulls", 20, "Draws of the audited protocol's null.", lower_bound=0
)
_AUTOCORRELATION = flags.DEFINE_float(
    "autocorrelation", 0.7, "Of the noise from volume to volume.", lower_bound=0, upper_bound=0.99
)
_SEED = flags.DEFINE_integer("seed", 0, "Seed of everything.")
_SMALL = flags.DEFINE_bool("small", False, "An eighth of the text, for a first look.")
_PROGRESS = flags.DEFINE_bool("progress", True, "Show progress bars.")


def main(argv: list[str]) -> None:
    logging.set_verbosity(logging.WARNING)
    if len(argv) > 1:
        raise app.UsageError(f"unknown argument {argv[1]!r}: write flags as --name=value")
    unknown = set(_TIMING.value) - {"gapless", "gaps"}
    if unknown:
        raise app.UsageError(f"--timing={','.join(_TIMING.value)}: choose of gapless and gaps")
    try:
        story = make_story(640, 600, 260, seed=_SEED.value) if _SMALL.value else None
        found = check_noise(
            _OUTPUT_DIR.value,
            story=story,
            gaps=[name == "gaps" for name in _TIMING.value],
            widths=[int(width) for width in _WIDTHS.value],
            protocols=_PROTOCOLS.value,
            methods=_METHODS.value,
            n_subjects=_N_SUBJECTS.value,
            n_voxels=_N_VOXELS.value,
            autocorrelation=_AUTOCORRELATION.value,
            n_nulls=_N_NULLS.value,
            csls_k=10 if _SMALL.value else None,
            seed=_SEED.value,
            show=_PROGRESS.value,
        )
    except (ValueError, FileNotFoundError) as error:
        print(f"noise_check: {error}", file=sys.stderr)
        sys.exit(2)
    print(noise_study.text(found))


if __name__ == "__main__":
    app.run(main)
