"""Does the audited protocol find what is there, and only that? Power and false-positive rate.

    python -m experiments.power_check --output_dir=out/power

50 simulated studies at each strength of a planted layer, 200 without any (strength 0), 99 shifts of the
recording each. Of exact p-values, which are multiples of .01 then, .04 lie below .05: expect a false-positive
rate between .015 and .07 at strength 0 and a power that grows to one; see docs/evidence.md for the figures.
Writes OUT/power.parquet; a second call goes on where the first one stopped.
"""

from absl import app

from brainalign_jax.commands.align import EVIDENCE, OUTPUT_DIR, PROGRESS, SCORING
from brainalign_jax.commands.command import Command, absl_main
from brainalign_jax.options import Option, picked

OPTIONS = (
    OUTPUT_DIR,
    Option(
        "strengths",
        "floats",
        (0.0, 0.1, 0.2, 0.4),
        "Response over noise, in standard deviations.",
        "data",
        least=0.0,
    ),
    Option("n_studies", "int", 50, "Studies at each strength.", "data", least=1),
    Option("n_null_studies", "int", 200, "Studies at strength 0.", "data", least=1),
    *picked(SCORING, "methods"),
    Option("n_draws", "int", 99, "Null draws of each study.", EVIDENCE, least=20),
    *picked(SCORING, "seed", help="Seed of the first study.", group=EVIDENCE),
    PROGRESS,
)


def _power(values: dict[str, object], text: str) -> None:
    from brainalign_jax.files import write_parquet
    from brainalign_jax.studies.checks.power import power
    from brainalign_jax.study.computation import keep_compiled_programs

    keep_compiled_programs()
    output = values["output_dir"]
    power_table = power(
        values["strengths"],
        cells=output / "cells",
        show=values["progress"],
        **{n: values[n] for n in ("n_studies", "n_null_studies", "methods", "n_draws", "seed")},
    )
    write_parquet(power_table, output / "power.parquet")
    print(power_table.round(3).to_string(index=False))


COMMAND = Command(
    "power_check", "power and false-positive rate of the audited protocol", (), OPTIONS, _power
)

main = absl_main(COMMAND, __name__, "python -m experiments.power_check")

if __name__ == "__main__":
    app.run(main)
