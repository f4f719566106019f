"""Which models are alike, layer by layer, and in the words that brains agree on?

    python -m experiments.comparison --dataset=pereira180 --data_dir=../shared/data/pereira180 \
        --models=FOLDER,FOLDER --context=word --output_dir=out/comparison

Writes OUT/comparison.parquet (a row a pair of layers and measure), OUT/figures/, OUT/manifest.json and
OUT/report.html. The same as `brainalign compare`.
"""

from absl import app

from brainalign_jax.commands.command import absl_main
from brainalign_jax.commands.compare import COMPARE as COMMAND

main = absl_main(COMMAND, __name__, "python -m experiments.comparison")

if __name__ == "__main__":
    app.run(main)
