"""Does what was fitted on the people of one language hold for the people of another?

    python -m experiments.languages --dataset=little_prince \
        --data_dirs=en=../shared/data/little_prince,fr=../shared/data/little_prince \
        --section=run --models=FOLDER --output_dir=out/languages

Expect, with a multilingual model and regions of one atlas, rank accuracy above chance within each language
and, where the geometry of the words' meanings is shared, across languages. Time goes with sections x
languages x layers; --audited=false leaves the study of each language by itself out.

Writes OUT/languages.parquet (a row a person or group, pair of languages, layer and metric), OUT/report.html,
OUT/manifest.json and OUT/within/LANGUAGE. The same as `brainalign languages`.
"""

from absl import app

from brainalign_jax.commands.command import absl_main
from brainalign_jax.commands.languages import LANGUAGES

COMMAND = LANGUAGES

main = absl_main(COMMAND, __name__, "python -m experiments.languages")

if __name__ == "__main__":
    app.run(main)
