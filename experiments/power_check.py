"""Does the audited protocol find what is there, and only that? Power and false-positive rate.

    python -m experiments.power_check --output_dir=out/power

50 simulated studies at each strength of a planted layer, 200 without any (strength 0), 99 shifts of the
recording each. Of exact p-values, which are multiples of .01 then, .04 lie below .05: expect a false-positive
rate between .015 and .07 at strength 0 and a power that grows to one; see docs/evidence.md for the figures.
Writes OUT/power.parquet; a second call goes on where the first one stopped.
"""

import sys
from pathlib import Path

from absl import app, flags, logging

from brainalign_jax.study.computation import keep_compiled_programs
from brainalign_jax.study.power import METHODS, power
from brainalign_jax.study.results import write_parquet

_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "Folder to write to.", required=True)
_STRENGTHS = flags.DEFINE_list(
    "strengths", ["0", "0.1", "0.2", "0.4"], "Response over noise, in standard deviations."
)
_N_STUDIES = flags.DEFINE_integer("n_studies", 50, "Studies at each strength.", lower_bound=1)
_N_NULL_STUDIES = flags.DEFINE_integer(
    "n_null_studies", 200, "Studies at strength 0.", lower_bound=1
)
_N_DRAWS = flags.DEFINE_integer("n_draws", 99, "Null draws of each study.", lower_bound=20)
_METHODS = flags.DEFINE_list("methods", list(METHODS), "Of procrustes, ridge and rsa.")
_SEED = flags.DEFINE_integer("seed", 0, "Seed of the first study.")
_PROGRESS = flags.DEFINE_bool("progress", True, "Show a progress bar.")


def main(argv: list[str]) -> None:
    logging.set_verbosity(logging.WARNING)
    if len(argv) > 1:
        raise app.UsageError(f"unknown argument {argv[1]!r}: write flags as --name=value")
    keep_compiled_programs()
    try:
        found = power(
            [float(strength) for strength in _STRENGTHS.value],
            n_studies=_N_STUDIES.value,
            n_null_studies=_N_NULL_STUDIES.value,
            methods=_METHODS.value,
            n_draws=_N_DRAWS.value,
            seed=_SEED.value,
            cells=Path(_OUTPUT_DIR.value) / "cells",
            show=_PROGRESS.value,
        )
    except ValueError as error:
        print(f"power_check: {error}", file=sys.stderr)
        sys.exit(2)
    write_parquet(found, Path(_OUTPUT_DIR.value) / "power.parquet")
    print(found.round(3).to_string(index=False))


if __name__ == "__main__":
    app.run(main)
