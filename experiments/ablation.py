"""Which part of the model carries the alignment?

    python -m experiments.ablation --dataset=pereira180 --data_dir=../shared/data/pereira180 \
        --models=FOLDER --context=word --components=heads,attention,ffn --output_dir=out/ablation

Writes OUT/ablation.parquet (a row for each part, way, read-out, layer, metric and person), OUT/figures,
OUT/manifest.json and OUT/report.html. docs/ablation.md has what is to be expected, and how long it takes. The
same as `brainalign ablate`.
"""

import dataclasses

from absl import app

from brainalign_jax.commands.ablate import ABLATE
from brainalign_jax.commands.command import absl_main

COMMAND = dataclasses.replace(ABLATE, name="ablation")

main = absl_main(COMMAND, __name__, "python -m experiments.ablation")

if __name__ == "__main__":
    app.run(main)
