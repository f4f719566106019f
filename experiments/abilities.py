"""What can models do? Bits per word, minimal pairs, fit to reading times, multiple choice.

    python -m experiments.abilities --reading=../shared/data/naturalstories --models=FOLDER \
        --output_dir=out/abilities

Three minutes of processor time with SmolLM2-135M on Natural Stories. Expect a gain of .020 nats a word
(.004 to .033) by its surprisal, r = .73 with GPT-3's, and 3.8 ms more a bit.

Writes OUT/abilities.parquet (a row a model and task), OUT/figures/, OUT/manifest.json and OUT/report.html.
The same as `brainalign abilities`; `brainalign performance` takes the table as --tasks.
"""

from absl import app

from brainalign_jax.commands.abilities import ABILITIES as COMMAND
from brainalign_jax.commands.command import absl_main

main = absl_main(COMMAND, __name__, "python -m experiments.abilities")

if __name__ == "__main__":
    app.run(main)
