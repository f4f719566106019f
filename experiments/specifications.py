"""Does a finding hang on the choices that papers differ in? All combinations of them, and what decides.

    python -m experiments.specifications --dataset=pereira180 --data_dir=data/pereira180 --models=bert-base \
        --context=word --output_dir=out/specifications

Writes OUT/specifications.parquet (a row a specification, with its null), OUT/specification_draws.parquet,
OUT/figures/, OUT/manifest.json and OUT/report.html. The same as `brainalign specifications`.
"""

from absl import app

from brainalign_jax.commands.command import absl_main
from brainalign_jax.commands.specifications import SPECIFICATIONS as COMMAND

main = absl_main(COMMAND, __name__, "python -m experiments.specifications")

if __name__ == "__main__":
    app.run(main)
